"""A consumer of outputs, as a process of its own: ``python -m tests.bench.receive '{…}'``.

Notes of each output when it came and since when it was due: a window's end since that end, anything else since the
moment that the load wrote into its cause's id. Says "ready" when it stands at the topics' ends, and at the end
what it has measured.
"""

import asyncio
import sys
import time
from datetime import datetime

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.bench.scene import quantiles

READY = "ready"
FETCH_WAIT_MS = 20
"""A partition that comes free while a fetch is under way waits for up to this long: the bench's own share of delay."""


class Watch(msgspec.Struct):
    """What to receive, until when, and how many seconds of the beginning not to count."""

    bootstrap_servers: str
    topics: list[str]
    partitions: int
    wanted: int
    warm_up_s: float
    quiet_s: float


class Delays(msgspec.Struct):
    """What came, and how long after it was due (ms)."""

    received: int
    different: int
    refused: int
    counted: int
    p50: float
    p90: float
    p99: float
    most: float
    least: float
    decided_p50: float
    decided_p99: float
    """Until the worker wrote the output's record into a batch, by the record's timestamp."""
    cpu_s: float


class _Cause(msgspec.Struct):
    id: str


class _Fields(msgspec.Struct):
    cause: _Cause | None = None
    send: _Cause | None = None
    closed_at: str | None = None
    expires_at: datetime | None = None


class _Event(msgspec.Struct):
    id: str
    type: str
    data: _Fields


_decode = msgspec.json.Decoder(_Event).decode


class Receiver:
    """Notes what comes."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.came: list[tuple[float, float, float]] = []
        """When it was due, was decided and came (ms since the epoch)."""
        self.refused = 0

    def note(self, value: bytes, decided_ms: float, now_ms: float) -> None:
        """Note one output."""
        event = _decode(value)
        self.ids.add(event.id)
        self.refused += event.type == "janela.send.rejected.v1"
        self.came.append((_due_ms(event.data), decided_ms, now_ms))

    def delays(self, warm_up_s: float) -> Delays:
        """Give what is measured, without what was due in the first seconds."""
        first_ms = min(due_ms for due_ms, _, _ in self.came) + warm_up_s * 1000
        counted = [times for times in self.came if times[0] >= first_ms]
        delays_ms = [came_ms - due_ms for due_ms, _, came_ms in counted]
        p50, p90, p99, most = quantiles(delays_ms, 0.5, 0.9, 0.99)
        decided_p50, decided_p99, _ = quantiles((decided_ms - due_ms for due_ms, decided_ms, _ in counted), 0.5, 0.99)
        return Delays(
            received=len(self.came), different=len(self.ids), refused=self.refused, counted=len(counted),
            p50=p50, p90=p90, p99=p99, most=most, least=round(min(delays_ms), 1),
            decided_p50=decided_p50, decided_p99=decided_p99, cpu_s=round(time.process_time(), 2),
        )  # fmt: skip


def _due_ms(fields: _Fields) -> float:
    if fields.closed_at is not None and fields.expires_at is not None:
        return fields.expires_at.timestamp() * 1000
    cause = fields.cause or fields.send
    assert cause is not None, "an output that nobody was due"
    return int(cause.id.partition(".")[2]) / 1000


async def _main(watch: Watch) -> None:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=watch.bootstrap_servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        fetch_max_wait_ms=FETCH_WAIT_MS,
    )
    await consumer.start()
    receiver = Receiver()
    try:
        tps = [TopicPartition(topic, n) for topic in watch.topics for n in range(watch.partitions)]
        consumer.assign(tps)
        await consumer.seek_to_end(*tps)
        for tp in tps:
            await consumer.position(tp)
        print(READY, flush=True)
        heard_s = time.monotonic()
        while len(receiver.came) < watch.wanted and time.monotonic() - heard_s < watch.quiet_s:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                heard_s, now_ms = time.monotonic(), time.time() * 1e3
                for record in records:
                    receiver.note(record.value, record.timestamp, now_ms)
    finally:
        await consumer.stop()
    print(msgspec.json.encode(receiver.delays(watch.warm_up_s)).decode())


if __name__ == "__main__":
    asyncio.run(_main(msgspec.json.decode(sys.argv[1], type=Watch)))
