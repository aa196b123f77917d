"""Open-loop traffic without an end, as a process of its own: ``python -m tests.soak.generate '{…}'``.

The same contacts live the same cycle over and over: they write twice, are answered, and are written to again when the
window has ended. So windows open and close for as long as one likes, and what a worker has to remember stays the same.

Event n is due at the begin plus n / rate. What is due on a partition goes out in the order of event times, over both
topics: a batch only when the one before it has been acknowledged, since a verdict hangs on that order.
"""

import asyncio
import json
import sys
import time
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaProducer, TopicPartition

from processor.codec.keys import partition_of

BUSINESS_ID: Final = "106540352242922"
TICK_S: Final = 0.02
SHARES: Final = (("inbound", 0.0), ("inbound", 0.02), ("outbound", 0.05), ("outbound", 0.9))
"""What a contact lives through in a cycle: on which topic, and when. A window ends before the last."""
WINDOW_SHARE: Final = 0.6
BAD_EVERY: Final = 1000
DOUBLE_EVERY: Final = 101

_VALUE: Final = b'{"id":"s%d","business_id":"%b","contact_id":"%b","time":%d,"type":"text","text":"Good morning"}'


class Schedule(msgspec.Struct):
    """How many events a second, for how long, and where to."""

    bootstrap_servers: str
    inbound: str
    outbound: str
    partitions: int
    rate: int
    seconds: float
    cycle_s: float


def contacts_of(schedule: Schedule) -> int:
    """Give how many contacts there are: each makes the events of one cycle in one cycle."""
    return max(int(schedule.rate * schedule.cycle_s / len(SHARES)), 1)


class Partition:
    """What is due on one partition of both topics, in the order of event times."""

    def __init__(self, producer: AIOKafkaProducer, tps: dict[str, TopicPartition]) -> None:
        """Take where to put it."""
        self._producer, self._tps = producer, tps
        self.due: list[tuple[str, bytes, bytes]] = []

    async def send(self) -> None:
        """Put all that is due now on the topics, run by run."""
        due, self.due = self.due, []
        batch, kind = None, ""
        for side, key, value in due:
            if batch is None or side != kind or batch.append(timestamp=None, key=key, value=value) is None:
                if batch is not None:
                    await self._put(batch, kind)
                batch, kind = self._producer.create_batch(), side
                batch.append(timestamp=None, key=key, value=value)
        if batch is not None:
            await self._put(batch, kind)

    async def _put(self, batch: Any, kind: str) -> None:
        tp = self._tps[kind]
        await (await self._producer.send_batch(batch, tp.topic, partition=tp.partition))


class Generator:
    """Follows the schedule."""

    def __init__(self, schedule: Schedule, producer: AIOKafkaProducer) -> None:
        """Work out the keys and the order in which contacts come by within a cycle."""
        self._schedule = schedule
        topics = {"inbound": schedule.inbound, "outbound": schedule.outbound}
        self._partitions = [
            Partition(producer, {kind: TopicPartition(topic, n) for kind, topic in topics.items()})
            for n in range(schedule.partitions)
        ]
        contacts = [f"55219{n:08d}".encode() for n in range(contacts_of(schedule))]
        keys = [b"whatsapp:%b:%b" % (BUSINESS_ID.encode(), contact) for contact in contacts]
        places = [partition_of(key, schedule.partitions) for key in keys]
        steps = [
            ((n / len(contacts) + share) % 1, kind, n) for n in range(len(contacts)) for kind, share in SHARES
        ]  # at each moment of a cycle somebody is at each step
        self._steps = [(kind, contacts[n], keys[n], places[n]) for _, kind, n in sorted(steps)]
        self.sent = 0
        self.behind_s_max = 0.0

    async def run(self) -> None:
        """Go on until the schedule ends."""
        schedule, events = self._schedule, int(self._schedule.rate * self._schedule.seconds)
        begin_s = time.time()
        sending: dict[int, asyncio.Task[None]] = {}
        n = 0
        while n < events or any(partition.due for partition in self._partitions):
            now_s = time.time()
            while n < events and (due_s := begin_s + n / schedule.rate) <= now_s:
                self._take(n, int(due_s * 1000))
                n += 1
            for place, partition in enumerate(self._partitions):
                if partition.due and (place not in sending or sending[place].done()):
                    if place in sending:
                        sending[place].result()
                    sending[place] = asyncio.create_task(partition.send())
            await asyncio.sleep(TICK_S)
            self.behind_s_max = max(self.behind_s_max, time.time() - now_s - TICK_S)
        await asyncio.gather(*sending.values())

    def _take(self, n: int, due_ms: int) -> None:
        kind, contact, key, place = self._steps[n % len(self._steps)]
        value = _VALUE % (n, BUSINESS_ID.encode(), contact, due_ms)
        if n % BAD_EVERY == 0:
            value = value[: n // BAD_EVERY % len(value)]
        copies = 2 if n % DOUBLE_EVERY == 0 else 1
        self._partitions[place].due += [(kind, key, value)] * copies
        self.sent += copies


async def _main(schedule: Schedule) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=schedule.bootstrap_servers,
        acks="all",
        enable_idempotence=True,
        linger_ms=0,
        max_batch_size=256 * 1024,
        compression_type="lz4",
    )
    await producer.start()
    try:
        generator = Generator(schedule, producer)
        await generator.run()
    finally:
        await producer.stop()
    sys.stdout.write(json.dumps({"sent": generator.sent, "behind_s_max": round(generator.behind_s_max, 2)}) + "\n")


if __name__ == "__main__":
    asyncio.run(_main(msgspec.json.decode(sys.argv[1], type=Schedule)))
