"""The open loop: puts on the topics what is due, whatever the brokers or this process are doing by then.

A record's moment is fixed by the schedule and stands in its id. Where the loop or the brokers fall behind, records go
out late and bear the delay: nothing is left out, and no moment is moved (no coordinated omission).
"""

import asyncio
import time
from asyncio import Future
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from processor.kafka.batch import BATCH_BYTES_MAX, Batch
from processor.kafka.connection import Connection
from processor.load.shard import Made, Shard
from processor.load.tally import Tally

TICK_S: Final = 0.004
"""How long what comes due is gathered, unless there is more to do at once."""
TURN_RECORDS: Final = 1_000
"""Records made before the brokers' answers get their turn: some 5 ms."""
IN_FLIGHT_MAX: Final = 200_000
"""Records in memory that are not answered for, some 60 MB. Beyond, the loop waits, and falls behind."""
STOP_S: Final = 10
"""How long the last answers are waited for when the load is stopped before its end."""
GONE_S: Final = 1
"""How long to take leave of brokers that have not answered until then."""


class Lane:
    """A partition of a topic: one batch under way, and behind it those that wait, of which the last is being filled.

    What comes due while a batch is under way makes the next one, so batches grow with the rate and with the delay.
    """

    def __init__(self, tp: TopicPartition) -> None:
        self.tp = tp
        self.under_way: Future[Any] | None = None
        self._waiting: deque[tuple[Batch, int]] = deque()
        """Batches, each with the moment of its first record."""

    @property
    def is_free(self) -> bool:
        """Whether there is something to send, and nothing under way."""
        return bool(self._waiting) and self.under_way is None

    @property
    def is_empty(self) -> bool:
        """Whether all that there was has been answered for."""
        return not self._waiting and self.under_way is None

    def add(self, key: bytes, value: bytes, moment_us: int) -> None:
        """Append a record to the last batch, or begin another."""
        if not self._waiting or not self._waiting[-1][0].add(key, value, []):
            batch = Batch(self.tp, time.time_ns() // 1_000_000, is_transactional=False)
            batch.add(key, value, [])
            self._waiting.append((batch, moment_us))

    def next_batch(self) -> tuple[Batch, int]:
        """Give the first batch that waits."""
        return self._waiting.popleft()


class Loop:
    """Follows a shard's schedule."""

    def __init__(self, connection: Connection, topics: tuple[str, str], partitions: int) -> None:
        """Take where to: the names of the two topics, inbound first, and how many partitions each has."""
        self.tally = Tally(by_topic=dict.fromkeys(topics, 0))
        self._topics = topics
        self._lanes = [Lane(TopicPartition(topic, partition)) for topic in topics for partition in range(partitions)]
        self._with_records: set[int] = set()
        self._stopped = asyncio.Event()
        self._shift_us = 0
        self._producer = connection.producer(
            client_id="janela-load",
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=BATCH_BYTES_MAX,
            max_request_size=8 * 1024 * 1024,
        )

    async def connect(self) -> None:
        """Connect, and learn who leads the partitions."""
        await self._producer.start()
        for topic in self._topics:
            await self._producer.partitions_for(topic)

    async def disconnect(self) -> None:
        """Let go of the brokers; one that is gone is not waited for for long."""
        with suppress(TimeoutError, KafkaError):
            async with asyncio.timeout(GONE_S if self.tally.in_flight else STOP_S):
                await self._producer.stop()

    def stop(self) -> None:
        """Take up no more; what was taken up is brought to its end."""
        self._stopped.set()

    async def run(self, shard: Shard, begin_us: int, start_us: int) -> None:
        """Put the shard's records on the topics, those of moment `start_us` at `begin_us` by the wall clock."""
        shard.begin(start_us)
        self._shift_us = begin_us - start_us
        cpu_s = time.process_time()
        records = shard.records()
        next_record = next(records, None)
        while next_record is not None and not self._stopped.is_set():
            next_record = self._take(next_record, records)
            self.tally.cpu_s = time.process_time() - cpu_s
            self.tally.kinds = dict(shard.counts)
            await self._send()
            await self._pause(next_record)
        self.tally.behind_us = 0
        await self._finish()
        self.tally.is_whole = next_record is None and not self.tally.in_flight
        self.tally.kinds = dict(shard.counts)
        self.tally.cpu_s = time.process_time() - cpu_s

    def _take(self, record: Made | None, records: Iterator[Made]) -> Made | None:
        """Take up what is due, at most a turn of it and what there is room for; give the first that is left."""
        tally, lanes, with_records = self.tally, self._lanes, self._with_records
        schedule_us = time.time_ns() // 1000 - self._shift_us
        first_us, made = record[1] if record else 0, 0
        room = min(TURN_RECORDS, IN_FLIGHT_MAX - tally.in_flight)
        while record is not None and record[1] <= schedule_us and made < room:
            number, moment_us, key, value = record
            lanes[number].add(key, value, moment_us)
            with_records.add(number)
            made += 1
            record = next(records, None)
        tally.made += made
        if made:
            tally.behind.note(schedule_us - first_us, made)
        tally.behind_us = max(schedule_us - record[1], 0) if record else 0
        return record

    async def _send(self) -> None:
        """Let each lane that is free send its next batch."""
        for number in list(self._with_records):
            lane = self._lanes[number]
            if lane.is_free:
                batch, first_us = lane.next_batch()
                count, size = batch.record_count(), batch.size()
                try:
                    lane.under_way = await self._producer.send_batch(batch, lane.tp.topic, partition=lane.tp.partition)
                except KafkaError as error:
                    self._fail(count, error)
                    continue
                lane.under_way.add_done_callback(partial(self._answered, lane, count, size, first_us))
            elif lane.is_empty:
                self._with_records.discard(number)

    def _answered(self, lane: Lane, count: int, size: int, first_us: int, sent: "Future[Any]") -> None:
        lane.under_way = None
        if sent.cancelled():
            return
        if error := sent.exception():
            self._fail(count, error)
            return
        tally, now_us = self.tally, time.time_ns() // 1000
        tally.acknowledged += count
        tally.bytes += size
        tally.by_topic[lane.tp.topic] += count
        tally.delays.note(now_us - self._shift_us - first_us, count)
        tally.ended_us = now_us

    def _fail(self, count: int, error: BaseException) -> None:
        """Count what was refused, and stop: the client tries again by itself what may yet succeed."""
        self.tally.failed += count
        self.tally.error = self.tally.error or f"{type(error).__name__}: {' '.join(str(error).split())}"
        self.stop()

    async def _pause(self, record: Made | None) -> None:
        """Wait for a tick, or until the next record is due, or only for a turn where one is due already."""
        if self.tally.in_flight >= IN_FLIGHT_MAX:
            await asyncio.sleep(TICK_S)
        elif record is not None:
            due_in_s = (record[1] + self._shift_us) / 1e6 - time.time()
            if due_in_s <= 0:
                await asyncio.sleep(0)
            else:
                await self._sleep(max(due_in_s, TICK_S))

    async def _sleep(self, seconds: float) -> None:
        """Sleep, or wake when it is stopped; what waits behind a batch is sent on the way."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0 and not self._stopped.is_set():
            await asyncio.sleep(min(left_s, TICK_S if self._with_records else 0.1))
            await self._send()

    async def _finish(self) -> None:
        """Send what is left and wait for the answers, as long as it takes unless the load was stopped."""
        stopped_s: float | None = None
        while self._with_records and not self.tally.error:
            await self._send()
            await asyncio.sleep(TICK_S)
            if self._stopped.is_set():
                stopped_s = stopped_s or time.monotonic()
                if time.monotonic() - stopped_s > STOP_S:
                    return
