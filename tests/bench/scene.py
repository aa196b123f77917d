"""What the benches share: topics and workers as in the chaos tests, and the meters that are read beside them.

The embedded Kafka, the bench and the worker share one machine, so each figure stands beside the load average. Sizes can
be set in the environment: BENCH_EVENTS and BENCH_PARTITIONS (backlog), BENCH_WINDOWS (restore), BENCH_ENDS (timers),
BENCH_SECONDS and BENCH_RATES (latency). Needs Linux, for /proc.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaProducer

from processor.measure.workers import Meter, read_meter
from processor.settings import Settings
from tests.chaos.backlog import Wanted
from tests.chaos.harness import INPUTS, Stage, Worker, environment
from tests.kafka import Kafka

BUSINESS_ID: Final = "106540352242922"
TOLD_EVERY_S: Final = 2.0
WITHIN_S: Final = 600.0


def size(name: str, default: int) -> int:
    """Give a size, as the environment has it."""
    return int(os.environ.get(f"BENCH_{name}", default))


@asynccontextmanager
async def progress(what: str, total: int, so_far: Callable[[], int] | None = None) -> AsyncIterator[None]:
    """Print how far something is, or for how long it has been going on, every two seconds until it is done."""

    async def tell() -> None:
        while True:
            await asyncio.sleep(TOLD_EVERY_S)
            done = f"{so_far():,} of {total:,}" if so_far else f"{total:,}, {time.monotonic() - began_s:.0f} s so far"
            print(f"  {what}: {done}", flush=True)

    began_s = time.monotonic()
    telling = asyncio.create_task(tell())
    try:
        yield
    finally:
        telling.cancel()
        with suppress(asyncio.CancelledError):
            await telling
    print(f"  {what}: {total:,} in {time.monotonic() - began_s:.1f} s", flush=True)


class MeteredWorker(Worker):
    """A worker whose meters can be read while it runs, and whose log is JSON."""

    def cpu_s(self) -> float:
        """Give the seconds of CPU, user and system, that it has used since it was started."""
        return self._meter().cpu_s

    def resident_bytes(self) -> int:
        """Give the memory (resident) that it has now."""
        return self._meter().rss_bytes

    def _meter(self) -> Meter:
        meter = read_meter(self.pid)
        assert meter is not None, self.told()
        return meter

    def memory_mb(self) -> int:
        """Give the most memory (resident) that it has had."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) // 1024

    def logged(self, event: str) -> dict[str, Any] | None:
        """Give the newest line of that name, None where it has logged none."""
        for line in reversed(self.lines()):
            if f'"{event}"' in line and (found := json.loads(line))["event"] == event:
                return dict(found)
        return None

    def logged_at_s(self, event: str) -> float:
        """Give when it logged the newest line of that name (Unix time)."""
        line = self.logged(event)
        assert line is not None, f"no {event}\n{self.told()}"
        return datetime.fromisoformat(line["timestamp"]).timestamp()

    def first_logged_at_s(self, event: str) -> float:
        """Give when it logged the first line of that name (Unix time)."""
        line = next(line for line in self.lines() if f'"{event}"' in line)
        return datetime.fromisoformat(json.loads(line)["timestamp"]).timestamp()

    async def stopped(self) -> dict[str, Any]:
        """Stop it as it should be stopped; give what it has counted."""
        self.stop()
        assert await self.ended(20) == 0, self.told()
        return self.logged("worker.stopped") or {}

    def stop(self) -> None:
        """Ask it to end."""
        self._note("SIGTERM")
        self._process.terminate()


class Bench(Stage):
    """Topics under one prefix, and workers with meters."""

    def worker(
        self, instance_id: str, *, command: Sequence[str] = ("-m", "processor", "worker"), **more: object
    ) -> MeteredWorker:
        log = self.folder / f"{len(self.workers)}-{instance_id}.log"
        worker = MeteredWorker(instance_id, environment(self.settings, instance_id, **more), log, command)
        self.workers.append(worker)
        return worker

    async def put(self, records: Iterable[Wanted], total: int, producer: AIOKafkaProducer | None = None) -> None:
        """Put records, so many of them, on the input topics, by a producer where one is given."""
        sent = 0

        def counted() -> Iterator[Wanted]:
            nonlocal sent
            for record in records:
                yield record
                sent += 1

        async with progress("put on the topics", total, lambda: sent):
            await (self.write(producer, counted()) if producer else self.preload(counted()))

    async def at_work(self, worker: MeteredWorker, event: str = "stream.restored") -> None:
        """Wait until the worker has its partitions."""
        await self.until(f"{worker.instance_id} logs {event}", lambda: worker.logged(event) is not None, WITHIN_S)

    async def consumed(self) -> None:
        """Wait until all that lies on the inputs is committed."""
        ends, committed = sum((await self.ends(*INPUTS.values())).values()), 0

        async def is_all() -> bool:
            nonlocal committed
            committed = await self.progress()
            return committed >= ends

        async with progress("consumed", ends, lambda: committed):
            await self.until("all input is consumed", is_all, WITHIN_S)

    async def dead_letters(self) -> int:
        """Count the dead letters; positions say more, as a live clock asks for the brokers' time there."""
        return sum(map(len, (await self.records("dead-letters")).values()))


@asynccontextmanager
async def opened(
    kafka: Kafka, topic_prefix: str, folder: Path, *, partitions: int = 4, **more: Any
) -> AsyncIterator[Bench]:
    """Give topics of their own and nothing on them."""
    settings = Settings(
        bootstrap_servers=kafka.bootstrap_servers,
        app_id=f"{topic_prefix}bench",
        topic_prefix=topic_prefix,
        partitions=partitions,
        log_format="json",
        **more,
    )
    logs = folder / topic_prefix
    logs.mkdir()
    async with Bench.open(settings, logs) as bench:
        yield bench


def quantiles(values: Iterable[float], *shares: float) -> list[float]:
    """Give the values below which these shares of all lie, and the largest, to a tenth."""
    ordered = sorted(values)
    return [round(ordered[min(int(len(ordered) * share), len(ordered) - 1)], 1) for share in (*shares, 1.0)]
