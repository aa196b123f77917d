"""Open-loop traffic, as a process of its own: ``python -m tests.bench.generate '{…}'``.

Event n is due at the begin plus n / rate, whatever the worker, the broker or this process are doing by then. Its id
bears that moment, so whoever sees an output knows how long it took since the event was due.

Every second event is a new customer's first message, the others are sends to customers who wrote about a second ago.
"""

import asyncio
import json
import sys
import time
from asyncio import Future
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer, TopicPartition

from processor.codec.keys import partition_of
from tests.bench.scene import BUSINESS_ID, quantiles

TICK_S = 0.004
READY_S = 0.5

_VALUE = (
    b'{"id":"b%d.%d","business_id":"'
    + BUSINESS_ID.encode()
    + b'","contact_id":"%b","time":%d,"type":"text","text":"Good morning"}'
)


class Schedule(msgspec.Struct):
    """How many events a second, for how long, and where to."""

    bootstrap_servers: str
    inbound: str
    outbound: str
    partitions: int
    rate: int
    seconds: float


class Generator:
    """Puts what is due on the topics; one batch a partition is under way, what comes due meanwhile is the next one."""

    def __init__(self, schedule: Schedule, producer: AIOKafkaProducer) -> None:
        """Work out the keys and their partitions, which take longer than all else."""
        self._schedule, self._producer = schedule, producer
        contacts = [f"55219{n:08d}" for n in range(int(schedule.rate * schedule.seconds) // 2 + 1)]
        keys = [f"whatsapp:{BUSINESS_ID}:{contact}".encode() for contact in contacts]
        self._people = [
            (contact.encode(), key, partition_of(key, schedule.partitions))
            for contact, key in zip(contacts, keys, strict=True)
        ]
        self._due: dict[TopicPartition, list[tuple[bytes, bytes]]] = {}
        self._first_us: dict[TopicPartition, int] = {}
        self._under_way: dict[TopicPartition, Future[Any]] = {}
        self.behind_ms: list[float] = []
        """How long after its moment each event was taken up."""
        self.acked_ms: list[float] = []
        """How long after its first event's moment each batch was acknowledged."""

    async def run(self) -> None:
        """Follow the schedule from its begin to its end."""
        rate, events = self._schedule.rate, int(self._schedule.rate * self._schedule.seconds)
        begin_s = time.time() + READY_S
        n = 0
        while n < events or self._due:
            while n < events and (due_s := begin_s + n / rate) <= time.time():
                self._take(n, int(due_s * 1e6))
                n += 1
            await self._send()
            await asyncio.sleep(TICK_S)
        await asyncio.gather(*self._under_way.values())

    def _take(self, n: int, due_us: int) -> None:
        schedule, is_outbound = self._schedule, n % 2
        who = max(n - schedule.rate, 0) // 2 if is_outbound else n // 2
        contact, key, partition = self._people[who]
        value = _VALUE % (n, due_us, contact, due_us // 1000)
        tp = TopicPartition(schedule.outbound if is_outbound else schedule.inbound, partition)
        self._due.setdefault(tp, []).append((key, value))
        self._first_us.setdefault(tp, due_us)
        self.behind_ms.append(_ms_since(due_us))

    async def _send(self) -> None:
        for tp in list(self._due):
            if (last := self._under_way.get(tp)) is None or last.done():
                if last is not None:
                    last.result()
                batch = self._producer.create_batch()
                records, first_us = self._due.pop(tp), self._first_us.pop(tp)
                for i, (key, value) in enumerate(records):
                    if batch.append(timestamp=None, key=key, value=value) is None:
                        self._due[tp], self._first_us[tp] = records[i:], first_us
                        break
                sent = self._under_way[tp] = await self._producer.send_batch(batch, tp.topic, partition=tp.partition)
                sent.add_done_callback(lambda _, first_us=first_us: self.acked_ms.append(_ms_since(first_us)))


def _ms_since(moment_us: int) -> float:
    return time.time() * 1e3 - moment_us / 1e3


async def _main(schedule: Schedule) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=schedule.bootstrap_servers, acks="all", linger_ms=0, max_batch_size=256 * 1024
    )
    await producer.start()
    try:
        generator = Generator(schedule, producer)
        for topic in (schedule.inbound, schedule.outbound):
            await producer.partitions_for(topic)
        await generator.run()
    finally:
        await producer.stop()
    behind_p99, _ = quantiles(generator.behind_ms, 0.99)
    acked_p50, acked_p99, _ = quantiles(generator.acked_ms, 0.5, 0.99)
    told = {"behind_p99": behind_p99, "acked_p50": acked_p50, "acked_p99": acked_p99}
    print(json.dumps({**told, "cpu_s": round(time.process_time(), 2)}))


if __name__ == "__main__":
    asyncio.run(_main(msgspec.json.decode(sys.argv[1], type=Schedule)))
