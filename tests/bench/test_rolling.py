"""What a rolling restart of three workers adds to the latency of events, under open-loop traffic.

Each worker in turn is asked to end (SIGTERM) and started again at once, as whatever runs the fleet would do. An event
counts to the restarts if it came between the signal and two seconds after all partitions were at work again; what is
quick at that time is in it, too, so the events of the partitions that moved are a share of it.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from processor.load.delays import Delays
from processor.load.scenario import Scenario
from processor.measure.receiver import Delivery, Receiver
from processor.measure.report import Quantiles
from processor.measure.traffic import LoadMoments
from tests.bench.clients import loading
from tests.bench.report import Figures, load, tell
from tests.bench.scene import WITHIN_S, Bench, MeteredWorker, opened, progress, size
from tests.bench.traffic import Contact
from tests.chaos.backlog import HOUR_MS, Wanted
from tests.chaos.harness import INPUTS
from tests.kafka import Kafka

pytestmark = [pytest.mark.bench, pytest.mark.timeout(0)]

WORKERS: Final = 3
PARTITIONS: Final = 12
RATE: Final = size("RATE", 500)
WINDOWS: Final = size("WINDOWS", 60_000)
"""Open windows that are restored, of all partitions together."""
WARM_UP_S: Final = 5
BASELINE_S: Final = size("SECONDS", 20)
AFTER_S: Final = 2
LONGEST_S: Final = 300
OUTPUTS: Final = ("window-opened", "send-accepted", "send-rejected")
MEMBERSHIPS: Final[dict[str, dict[str, Any]]] = {
    "dynamic": {},
    "static": {"membership": "static", "session_timeout_ms": 30_000, "instance_id": "fleet"},
}


async def test_a_rolling_restart_of_three_workers_loses_nothing_and_its_latency_is_measured(
    kafka: Kafka, topic_prefix: str, tmp_path: Path
) -> None:
    cases = [
        await _measured(kafka, f"{topic_prefix}{membership}.", tmp_path, membership, more)
        for membership, more in MEMBERSHIPS.items()
    ]
    tell(
        f"Rolling restart of {WORKERS} workers, {PARTITIONS} partitions, {RATE:,} events/s, {WINDOWS:,} windows", *cases
    )


async def _measured(kafka: Kafka, prefix: str, folder: Path, membership: str, more: dict[str, Any]) -> Figures:
    async with opened(kafka, prefix, folder, partitions=PARTITIONS, clock="live", **more) as bench:
        await bench.put(_first_messages(), WINDOWS)
        workers = [bench.worker(f"w{n}") for n in range(WORKERS)]
        await _settled(bench, workers)
        await bench.consumed()
        before, load_before = sum((await bench.ends(*INPUTS.values())).values()), load()
        async with _received(bench) as delivery:
            async with loading(bench, RATE, LONGEST_S), progress(membership, RATE):
                await bench.until("the load is at work", lambda: delivery.received > RATE, WITHIN_S)
                await asyncio.sleep(WARM_UP_S)
                _taken(delivery)
                await asyncio.sleep(BASELINE_S)
                baseline = _taken(delivery)
                restarts, stopped_s, away_s = Delays(), list[float](), list[float]()
                for place, worker in enumerate(workers):
                    began_s = time.monotonic()
                    await worker.stopped()
                    stopped_s.append(time.monotonic() - began_s)
                    workers[place] = bench.worker(worker.instance_id)
                    await _settled(bench, workers)
                    await bench.at_work(workers[place])
                    away_s.append(time.monotonic() - began_s)
                    await asyncio.sleep(AFTER_S)
                    restarts.add(_taken(delivery))
            await bench.consumed()
            events = sum((await bench.ends(*INPUTS.values())).values()) - before
            await bench.until("all has come", lambda: delivery.received >= events, WITHIN_S)
            assert delivery.received == events
            assert sum(delivery.counts.values()) == events
    usual, changed = Quantiles.of(baseline), Quantiles.of(restarts)
    return {
        "membership": membership,
        "baseline, p50, ms": usual.p50,
        "baseline, p99, ms": usual.p99,
        "baseline, max, ms": usual.max,
        "restarts, p50, ms": changed.p50,
        "restarts, p99, ms": changed.p99,
        "restarts, max, ms": changed.max,
        "added, p99, ms": round(changed.p99 - usual.p99, 1),
        "events in the baseline": usual.count,
        "events in the restarts": changed.count,
        "SIGTERM to the end, s": _listed(stopped_s),
        "SIGTERM to all at work again, s": _listed(away_s),
        "load average": f"{load_before} to {load()}",
    }


def _first_messages() -> list[Wanted]:
    """Give a message of each customer, from so long ago that none ends or is to be warned of meanwhile."""
    begin_ms = time.time_ns() // 1_000_000 - 20 * HOUR_MS
    return [
        Contact(number, PARTITIONS).says("inbound", begin_ms + 19 * HOUR_MS * number // WINDOWS, number)
        for number in range(WINDOWS)
    ]


async def _settled(bench: Bench, workers: list[MeteredWorker]) -> None:
    """Wait until each has its share of the partitions."""

    async def shared() -> bool:
        given = [(await bench.partitions_of(worker))[1] for worker in workers]
        return all(given) and len(set.union(*given)) == PARTITIONS

    await bench.until("all workers have partitions", shared, WITHIN_S)


@asynccontextmanager
async def _received(bench: Bench) -> AsyncIterator[Delivery]:
    """Have a receiver follow the outputs from their ends on."""
    delivery = Delivery()
    delivery.begin(LoadMoments(begin_us=0, start_us=0, seed=Scenario().seed))
    receiver = Receiver(bench.settings, delivery, OUTPUTS)
    try:
        await receiver.start()
        following = asyncio.create_task(receiver.follow())
        try:
            yield delivery
        finally:
            following.cancel()
            await asyncio.wait([following])
    finally:
        await receiver.stop()


def _taken(delivery: Delivery) -> Delays:
    """Take away the delays of what has come lately."""
    lately, delivery.lately = delivery.lately, Delays()
    return lately


def _listed(seconds: list[float]) -> str:
    return ", ".join(f"{each:.1f}" for each in seconds)
