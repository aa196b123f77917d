"""How long an event takes from when it was due to a read_committed consumer, under open-loop traffic.

The schedule is fixed beforehand and does not wait for anyone: where something falls behind, all that comes after it
bears the delay (no coordinated omission).
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import product
from pathlib import Path

import pytest

from processor.embedded.ports import HOST, PortChooser
from tests.bench.clients import loading, receiving, result
from tests.bench.report import Figures, load, tell
from tests.bench.scene import opened, progress, size
from tests.kafka import Kafka

pytestmark = [pytest.mark.bench, pytest.mark.timeout(0)]

WARM_UP_S = 5
SECONDS = WARM_UP_S + size("SECONDS", 20)
RATES = [int(rate) for rate in os.environ.get("BENCH_RATES", "2000,10000").split(",")]
PARTITIONS = [4, 12]
SLOW_CONNECTIONS = size("SLOW_CONNECTIONS", 1_000)
SLOW_ROUNDS = size("SLOW_ROUNDS", 3)


async def test_every_event_of_open_loop_traffic_comes_out_once_and_in_time_to_be_measured(
    kafka: Kafka, topic_prefix: str, tmp_path: Path
) -> None:
    cases = [
        await _measured(kafka, f"{topic_prefix}{partitions}.{rate}.", tmp_path, rate, partitions)
        for partitions, rate in product(PARTITIONS, RATES)
    ]
    tell(f"Latency, wall clock, one worker, {SECONDS - WARM_UP_S} s after {WARM_UP_S} s to warm up", *cases)


async def test_what_slow_connections_to_a_worker_cost_its_events_is_measured_by_turns(
    kafka: Kafka, topic_prefix: str, tmp_path: Path
) -> None:
    """The bar is that a thousand raise the 99th percentile by 20 % at most."""
    cases = [
        await _measured(kafka, f"{topic_prefix}{n}.{connections}.", tmp_path, RATES[0], PARTITIONS[0], connections)
        for n, connections in product(range(SLOW_ROUNDS), (0, SLOW_CONNECTIONS))
    ]
    tell(f"Latency beside connections that send a byte a second to a worker's address, {SLOW_ROUNDS} rounds", *cases)


@asynccontextmanager
async def _slow(address: str, connections: int) -> AsyncIterator[list[int]]:
    """Hold connections on which a request comes a byte a second, and never to its end.

    Who is cut off comes again a second later. Gives how many were open, by the second.
    """
    host, _, port = address.rpartition(":")
    links: set[asyncio.StreamWriter] = set()
    seen: list[int] = []

    async def trickle() -> None:
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection(host, int(port))
                links.add(writer)
                try:
                    writer.write(b"GET /metrics HTTP/1.1\r\nHost: ")
                    while not reader.at_eof() and not writer.is_closing():
                        writer.write(b"a")
                        await asyncio.sleep(1)
                finally:
                    links.discard(writer)
                    writer.close()
            await asyncio.sleep(1)

    async def count() -> None:
        while True:
            seen.append(len(links))
            await asyncio.sleep(1)

    tasks = [asyncio.create_task(it) for it in (count(), *(trickle() for _ in range(connections)))]
    try:
        yield seen
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _measured(
    kafka: Kafka, prefix: str, folder: Path, rate: int, partitions: int, connections: int = 0
) -> Figures:
    events, address = rate * SECONDS, f"{HOST}:{PortChooser().rather(0)}"
    async with opened(kafka, prefix, folder, partitions=partitions, clock="live") as bench:
        worker = bench.worker("w1", ops_address=address)
        await bench.at_work(worker)
        outputs = ("window-opened", "send-accepted", "send-rejected")
        async with receiving(bench, *outputs, wanted=events, warm_up_s=WARM_UP_S) as receiver:
            load_before, cpu_before_s, began_s = load(), worker.cpu_s(), time.monotonic()
            async with (
                _slow(address, connections) as slow,
                loading(bench, rate, SECONDS) as loader,
                progress(f"{partitions} partitions, {rate:,} events/s", events),
            ):
                loaded, came = await asyncio.gather(result(loader), receiver.received())
            cpu_s, took_s = worker.cpu_s() - cpu_before_s, time.monotonic() - began_s
        counts = await worker.stopped()
    assert counts["records"] == came.received == came.different == events
    assert came.refused == 0
    sent = json.loads(loaded)
    return {
        "partitions": partitions,
        "events/s": rate,
        "slow clients": connections,
        "connections they had": f"{min(slow[WARM_UP_S:])}-{max(slow[WARM_UP_S:])}",
        "p50, ms": came.delays.p50,
        "p90, ms": came.delays.p90,
        "p99, ms": came.delays.p99,
        "max, ms": came.delays.max,
        "events counted": came.delays.count,
        "taken up by the load, p99, ms": sent["behind_ms"]["p99"],
        "acknowledged to the load, p50, ms": sent["acknowledged_ms"]["p50"],
        "acknowledged to the load, p99, ms": sent["acknowledged_ms"]["p99"],
        "decided by the worker, p50, ms": came.decided.p50,
        "decided by the worker, p99, ms": came.decided.p99,
        "worker's share of a core": round(cpu_s / took_s, 2),
        "load's CPU, s": sent["cpu_s"],
        "receiver's CPU, s": came.cpu_s,
        "transactions": counts["transactions"],
        "load average": f"{load_before} to {load()}",
    }
