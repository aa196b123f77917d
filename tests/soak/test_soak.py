"""Mild chaos for hours at 2,000 events a second: nothing is lost or doubled, and a worker takes what it took.

One worker lives through all of it; beside it others are killed, stopped and added, so that it takes partitions over and
hands them back. HOURS in the environment says for how long, RATE how many events a second; `make soak HOURS=0.02` is a
minute, which looks at everything but memory. The record goes to `soak.json` in the folder that RESULTS names, and a
page is made of it. Needs Linux, for /proc.
"""

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from processor.settings import Settings
from tests.bench.report import machine
from tests.chaos.harness import ROOT, SESSION_S, Stage, Worker, commit, patience
from tests.chaos.trial import SEED
from tests.kafka import Kafka
from tests.soak import story
from tests.soak.generate import WINDOW_SHARE, Schedule
from tests.soak.meters import TELL_S, WORKER, Slope, peak_kb_of, samples_of, write
from tests.verbs import started

pytestmark = [pytest.mark.soak, pytest.mark.timeout(0)]

HOURS: Final = float(os.environ.get("HOURS", "1"))
RATE: Final = int(os.environ.get("RATE", "2000"))
RESULTS: Final = Path(os.environ.get("RESULTS", ".janela/soak"))

PARTITIONS: Final = 4
SECONDS: Final = HOURS * 3600
CYCLE_S: Final = min(120.0, max(SECONDS / 8, 5.0))
TROUBLE_S: Final = min(60.0, max(SECONDS / 8, 8.0))
"""How long it is quiet between two troubles, on average."""
START_S: Final = 90
WARM_UP_SHARE: Final = 0.3
"""What is not looked at: until every contact has been seen, and what memory has been freed once is used again."""
RSS_GROWTH_MAX: Final = 0.08
"""How much of its mean the memory may rise by over all that is looked at; what a worker holds goes up and down by half
of itself as partitions come and go, and a line through that is never level."""
BLOCKS_GROWTH_MAX: Final = 0.05
"""The same of the blocks that Python holds, which a leak fills and what the allocator keeps does not."""
RSS_HOURS_MIN: Final = 0.15
"""How long a run must be before its line says anything of memory: a minute is all warming up."""
COUNT_GROWTH_MAX: Final = 3.0
"""By how many the descriptors, threads and tasks may rise: as many as a connection and a request under way take."""


def policy() -> str:
    """Give a policy whose windows end within a cycle."""
    window_s = int(CYCLE_S * WINDOW_SHARE)
    lengths = f'window = {{default = "{window_s}s"}}\nclosed_retention = "{window_s}s"\n'
    return lengths + 'safety_margin = "1s"\nexpiring_before = ["1s"]\n'


@asynccontextmanager
async def generating(schedule: Schedule) -> AsyncIterator[asyncio.Task[bytes]]:
    """Run the generator; gives what becomes of it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.soak.generate",
        msgspec.json.encode(schedule).decode(),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )

    async def result() -> bytes:
        written, _ = await process.communicate()
        assert process.returncode == 0, f"the generator ended with {process.returncode}"
        return written

    task = asyncio.create_task(result())
    try:
        yield task
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
            task.cancel()
        await asyncio.wait([task])


class Trouble:
    """What befalls the workers beside the one that is measured."""

    def __init__(self, stage: Stage, measured: Worker, chance: random.Random) -> None:
        self._stage, self._measured, self._chance = stage, measured, chance
        self._other = stage.worker("other")
        self._count = 0
        self.faults: Counter[str] = Counter()
        self.lag_max = 0

    async def befall(self, generator: asyncio.Task[bytes]) -> None:
        """Go on as long as there is traffic."""
        while not generator.done():
            quiet_until_s = time.monotonic() + TROUBLE_S * self._chance.uniform(0.5, 1.5)
            while not generator.done() and time.monotonic() < quiet_until_s:
                await asyncio.wait([generator], timeout=2)
                assert self._measured.code is None, self._measured.told()
                self.lag_max = max(self.lag_max, await self._stage.lag())
            if not generator.done():
                trouble = self._chance.choice([self._kill, self._stop, self._add])
                await trouble()

    async def end(self) -> None:
        """Stop the other worker as it should be stopped."""
        await self._stopped(self._other)

    async def _kill(self) -> None:
        self._other.kill()
        await asyncio.sleep(self._chance.uniform(0, SESSION_S))
        self._other = self._stage.worker("other")
        self.faults["SIGKILL"] += 1

    async def _stop(self) -> None:
        await self._stopped(self._other)
        self._other = self._stage.worker("other")

    async def _add(self) -> None:
        self._count += 1
        third = self._stage.worker(f"third-{self._count}")
        await asyncio.sleep(self._chance.uniform(3, 8))
        await self._stopped(third)
        self.faults["worker added"] += 1

    async def _stopped(self, worker: Worker) -> None:
        """Stop a worker that is at work: one that starts knows of no signals yet."""

        async def has_partitions() -> bool:
            return bool((await self._stage.partitions_of(worker))[1])

        await self._stage.until("it has partitions", has_partitions, START_S * patience())
        worker.signal(signal.SIGTERM)
        assert await worker.ended(20 * patience()) == 0, worker.told()
        self.faults["SIGTERM"] += 1


async def judged(settings: Settings) -> dict[str, Any]:
    """Hold all that was written against the rules; gives the verdict, and what memory it took."""
    process = await started(settings, "verify", "--json")
    result = asyncio.create_task(process.communicate())
    peak_kb = 0
    while not result.done():
        peak_kb = max(peak_kb, peak_kb_of(process.pid))
        await asyncio.wait([result], timeout=0.2)
    out, err = await result
    assert process.returncode in (0, 1), err.decode()
    return {**json.loads(out), "peak_kb": peak_kb}


async def test_hours_of_mild_chaos_lose_nothing_and_a_worker_takes_no_more_than_before(
    kafka: Kafka, topic_prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy_file = tmp_path / "policy.toml"
    policy_file.write_text(policy())
    settings = Settings(
        bootstrap_servers=kafka.bootstrap_servers,
        app_id=f"{topic_prefix}janela",
        topic_prefix=topic_prefix,
        partitions=PARTITIONS,
        clock="event",
        session_timeout_ms=SESSION_S * 1000,
        policy_file=policy_file,
    )
    async with Stage.open(settings, tmp_path) as stage:
        inbound, outbound = (stage.names[topic] for topic in ("messages.inbound", "messages.outbound"))
        schedule = Schedule(settings.bootstrap_servers, inbound, outbound, PARTITIONS, RATE, SECONDS, CYCLE_S)
        measured = stage.worker("measured", command=("-c", WORKER))
        trouble = Trouble(stage, measured, random.Random(SEED))
        async with generating(schedule) as generator:
            await trouble.befall(generator)
            generated = json.loads(await generator)
        samples = samples_of(measured)
        rest_s = await stage.until_consumed(START_S * patience() + SECONDS / 10)
        await trouble.end()
        measured.signal(signal.SIGTERM)
        assert await measured.ended(20 * patience()) == 0, measured.told()
        looked_at = samples[int(len(samples) * WARM_UP_SHARE) :]
        slopes = {
            name: Slope.through([sample[name] for sample in looked_at], TELL_S)
            for name in ("rss_kb", "blocks", "descriptors", "threads", "tasks")
        }
        record: dict[str, Any] = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "machine": machine(),
            "hours": HOURS,
            "rate": RATE,
            "seed": SEED,
            "events": generated["sent"],
            "behind_s_max": generated["behind_s_max"],
            "lag_max": trouble.lag_max,
            "rest_s": round(rest_s, 1),
            "faults": dict(trouble.faults),
            "load_average": os.getloadavg()[2],
            "warm_up_share": WARM_UP_SHARE,
            "rss_growth_max": RSS_GROWTH_MAX,
            "blocks_growth_max": BLOCKS_GROWTH_MAX,
            "count_growth_max": COUNT_GROWTH_MAX,
            "slopes": {name: slope._asdict() for name, slope in slopes.items()},
            "samples": samples[:: max(len(samples) // 500, 1)],
        }
        write(RESULTS, "soak.json", record)  # whatever becomes of the verdict
        verdict = await judged(settings)
    record["verdict"] = verdict
    write(RESULTS, "soak.json", record)
    story.write(RESULTS, record)
    rss = slopes["rss_kb"]
    done = ", ".join(f"{count} {fault}" for fault, count in trouble.faults.items())
    grown = ", ".join(f"{name} {slopes[name].growth:+.2f}" for name in ("descriptors", "threads", "tasks"))
    memory = f"memory {rss.mean / 1024:.0f} MB, {rss.growth / 1024:+.1f} by its line ({rss.per_hour / 1024:+.1f} MB/h)"
    with capsys.disabled():
        sys.stdout.write(
            f"\n  soak of {HOURS:g} h, seed {SEED}: {generated['sent']:,} events, {done}; {memory};"
            f" {grown}; faults: {verdict['faults']}; verify took {verdict['peak_kb'] / 1024:.0f} MB\n"
        )
    assert verdict["clean"], verdict
    assert (verdict["consumed"]["records"], verdict["not_consumed"]) == (generated["sent"], 0)
    if HOURS >= RSS_HOURS_MIN:
        assert rss.growth < rss.mean * RSS_GROWTH_MAX, f"memory grows: {rss}"
        blocks = slopes["blocks"]
        assert blocks.growth < blocks.mean * BLOCKS_GROWTH_MAX, f"Python's blocks grow: {blocks}"
    for name in ("descriptors", "threads", "tasks"):
        assert slopes[name].growth < COUNT_GROWTH_MAX, f"{name} grow: {slopes[name]}"
