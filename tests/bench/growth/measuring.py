"""One case: workers that have nothing, then very many windows, then a backlog on top, then very many ends at once.

1 workers with nothing: their memory is where counting begins
2 they open the windows, from a backlog: CPU for each
3 they start again: the restore, and memory for each window
4 they go through a backlog of messages and answers: CPU for each event
5 other windows are opened that will end within one second, and `janela measure` times other traffic around it

A backlog is written in a transaction that is committed when all workers are at work: so none of them begins before the
others, and no time passes between its first record and its last.
"""

import asyncio
import json
import random
import statistics
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaProducer

from processor.codec.times import format_time
from processor.core.policy import DAY_MS, HOUR_MS
from tests.bench.growth.cases import Case, Ends, Result, Second, Sizes
from tests.bench.report import load, machine
from tests.bench.scene import WITHIN_S, Bench, MeteredWorker, opened, progress
from tests.bench.traffic import Contact
from tests.chaos.backlog import Wanted
from tests.chaos.harness import ROOT, environment
from tests.kafka import Kafka

SPAN_MS: Final = 20 * HOUR_MS
"""All windows begin within this, so that none ends, or is warned of, by itself."""
SETTLED_S: Final = 1.0
"""After the last window is restored, memory is what it will be."""
WARM_UP_S: Final = 2
"""Of the timed seconds, those that are not counted as quiet."""
TRANSACTION_TIMEOUT_MS: Final = 900_000
"""The brokers' most: ten million windows are written in one."""
ATTEMPTS: Final = 3
"""Each with twice the lead of the one before: what was put for that one ends before the next one is timed."""
READY_S: Final = 6.0
"""What `janela measure` may take until it is ready to send."""
SCENARIO: Final = """\
popularity = "once"
outbound = 0.5
text_bytes = 12
[inbound_types]
text = 1
[outbound_types]
text = 1
"""
"""Every event makes one output: a new customer's first message, or a send to one who wrote a second ago."""


class Used(NamedTuple):
    """What a backlog took."""

    cpu_us: float
    """For each event."""
    events_a_second: float
    states_an_event: float
    """With the few marks of transactions, which take a position too."""


async def measured(kafka: Kafka, case: Case, sizes: Sizes, folder: Path, version: str) -> Result:
    """Do all of it, on topics of the case's own."""
    began_s, load_before = time.monotonic(), load()
    prefix = f"growth.{time.time_ns() // 1_000_000}."
    async with opened(kafka, prefix, folder, partitions=case.partitions, clock="live") as bench:
        now_ms = time.time_ns() // 1_000_000
        workers = await _started(bench, case)
        empty = sum(worker.resident_bytes() for worker in workers)
        opening = await _gone_through(bench, workers, _first_messages(case, now_ms), case.windows)
        await _stopped(workers)

        workers = await _started(bench, case)
        await asyncio.sleep(SETTLED_S)
        restore_s = _restore_s(workers)
        resident = sum(worker.resident_bytes() for worker in workers)
        talking = await _gone_through(bench, workers, _conversation(case, sizes.events, now_ms), sizes.events)

        ends = await _ends(bench, case, sizes, folder / prefix)
        await _stopped(workers)
        assert await bench.dead_letters() == 0
    return Result(
        windows=case.windows,
        partitions=case.partitions,
        workers=case.workers,
        sizes=sizes,
        opening_cpu_us=opening.cpu_us,
        event_cpu_us=talking.cpu_us,
        events_a_second=talking.events_a_second,
        states_an_event=talking.states_an_event,
        bytes_a_window=round((resident - empty) / case.windows, 1),
        restore_s=round(restore_s, 2),
        ends=ends,
        took_s=round(time.monotonic() - began_s, 1),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        version=version,
        machine=machine(),
        load=f"{load_before} to {load()}",
    )


# ------------------------------------------------------------------------------------------------------- the records


def _first_messages(case: Case, now_ms: int) -> Iterator[Wanted]:
    """Give a first message of each customer."""
    for number in range(case.windows):
        time_ms = now_ms - SPAN_MS + SPAN_MS * number // case.windows
        yield Contact(number, case.partitions).says("inbound", time_ms, number)


def _conversation(case: Case, events: int, now_ms: int) -> Iterator[Wanted]:
    """Give messages and answers in turns, each to or from one of all customers, whose windows stay open."""
    chance = random.Random(events)
    for number in range(events):
        contact = Contact(chance.randrange(case.windows), case.partitions)
        yield contact.says("outbound" if number % 2 else "inbound", now_ms + number % 1000, case.windows + number)


def _that_end(case: Case, sizes: Sizes, attempt: int, end_ms: int) -> Iterator[Wanted]:
    """Give first messages of other customers, whose windows end within the second that begins then."""
    for number in range(sizes.ends):
        contact = Contact(case.windows + attempt * sizes.ends + number, case.partitions)
        yield contact.says("inbound", end_ms - DAY_MS + 1000 * number // sizes.ends, 2 * case.windows + number)


# ------------------------------------------------------------------------------------------------------- the workers


async def _started(bench: Bench, case: Case) -> list[MeteredWorker]:
    """Start all workers, and wait until every partition is at work, in one generation."""
    workers = [bench.worker(f"w{number}") for number in range(case.workers)]

    def are_at_work() -> bool:
        assigned = [line for worker in workers if (line := worker.logged("stream.assigned"))]
        restored = [(worker.logged("stream.restored") or {}).get("generation") for worker in workers]
        if len(assigned) < case.workers or len({line["generation"] for line in assigned}) > 1:
            return False
        # one that keeps all of its partitions has nothing to restore, and does not say so
        waits = [line["restoring"] and line["generation"] != of for line, of in zip(assigned, restored, strict=True)]
        given: int = sum(line["partitions"] for line in assigned)
        return given == case.partitions and not any(waits)

    await bench.until("all partitions are at work", are_at_work, WITHIN_S)
    return workers


async def _stopped(workers: list[MeteredWorker]) -> None:
    for worker in workers:
        worker.stop()
    for worker in workers:
        assert await worker.ended(30) == 0, worker.told()


def _restore_s(workers: list[MeteredWorker]) -> float:
    """Give how long it took from the first assignment to the last partition at work."""
    first_s = min(worker.first_logged_at_s("stream.assigned") for worker in workers)
    return max(worker.logged_at_s("stream.restored") for worker in workers) - first_s


async def _gone_through(bench: Bench, workers: Sequence[MeteredWorker], records: Iterable[Wanted], total: int) -> Used:
    """Let workers go through a backlog that is there all at once."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bench.settings.bootstrap_servers,
        transactional_id=f"{bench.settings.topic_prefix}backlog",
        transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
        max_batch_size=512 * 1024,
        linger_ms=0,
    )
    await producer.start()
    try:
        async with producer.transaction():
            await bench.put(records, total, producer)
            states_before = await _states(bench)
            cpu_before_s, began_s = sum(worker.cpu_s() for worker in workers), time.monotonic()
        await bench.consumed()
    finally:
        await producer.stop()
    took_s, cpu_s = time.monotonic() - began_s, sum(worker.cpu_s() for worker in workers) - cpu_before_s
    states = await _states(bench) - states_before
    return Used(round(cpu_s / total * 1e6, 2), round(total / took_s), round(states / total, 2))


async def _states(bench: Bench) -> int:
    return sum((await bench.ends("window-state")).values())


# ---------------------------------------------------------------------------------------------------------- the ends


async def _ends(bench: Bench, case: Case, sizes: Sizes, folder: Path) -> Ends:
    """Let windows end, all within a second, and time other traffic before and after."""
    for attempt in range(ATTEMPTS):
        begin_ms = time.time_ns() // 1_000_000 + (sizes.lead_s * 1000 << attempt)
        await bench.put(_that_end(case, sizes, attempt, begin_ms + sizes.seconds * 1000), sizes.ends)
        await bench.consumed()
        if (spare_s := begin_ms / 1000 - time.time()) >= READY_S:
            break
        print(f"  not consumed in time ({READY_S - spare_s:.0f} s too late), so with others once more", flush=True)
    else:
        raise AssertionError(f"not consumed in time: more than --lead {sizes.lead_s} is needed")
    async with progress(f"{sizes.ends:,} ends in {spare_s + sizes.seconds:.0f} s; timed around them", sizes.rate):
        report = await _report(bench, sizes, begin_ms, folder)
    lateness, latency = report["timer_lateness"], [_second(each, sizes.seconds) for each in report["samples"]]
    assert report["is_whole"], "not all was sent and consumed"
    assert lateness["count"] == sizes.ends, f"{lateness['count']:,} of {sizes.ends:,} ends came"
    seconds = [second for second in latency if second is not None]
    quiet = [each for each in seconds if WARM_UP_S - sizes.seconds <= each.at_s < 0]
    after = [each for each in seconds if each.at_s >= 0]
    return Ends(
        late_p50_ms=lateness["p50"],
        late_p99_ms=lateness["p99"],
        late_max_ms=lateness["max"],
        quiet_p50_ms=statistics.median(each.p50_ms for each in quiet),
        quiet_p99_ms=statistics.median(each.p99_ms for each in quiet),
        worst_p99_ms=max(each.p99_ms for each in after),
        seconds=seconds,
    )


def _second(sample: dict[str, Any], ends_at_s: int) -> Second | None:
    if sample["p50_ms"] is None:
        return None
    return Second(round(sample["at_s"] - ends_at_s, 2), sample["p50_ms"], sample["p99_ms"])


async def _report(bench: Bench, sizes: Sizes, begin_ms: int, folder: Path) -> dict[str, Any]:
    scenario = folder / "scenario.toml"
    seconds = 2 * sizes.seconds
    scenario.write_text(SCENARIO, "utf-8")
    options = ["--rate", str(sizes.rate), "--seconds", str(seconds), "--contacts", str(sizes.rate * seconds)]
    options += ["--scenario", str(scenario), "--start", format_time(begin_ms), "--drain", "120", "--json"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "processor", "measure", *options),
        cwd=ROOT,
        env=environment(bench.settings, "measure"),
        stdout=PIPE,
    )
    written, _ = await asyncio.wait_for(process.communicate(), WITHIN_S)
    assert process.returncode == 0, f"janela measure: exit code {process.returncode}"
    report: dict[str, Any] = json.loads(written)
    return report
