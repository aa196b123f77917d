"""The input topics that are written to: each record of a replay once, whatever happened to an earlier try.

Every record bears where it comes from (`REPLAY_ID`, `REPLAY_SOURCE`), and is written in a transaction under an id that
is the replay's own. A second try ends what the first one left open, reads what is there, and goes on behind it: what
comes of one source partition lies in order on each target partition, so the last one seen says which are there.
"""

import asyncio
import re
import time
from asyncio import Future
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced

from processor.codec.keys import partition_of
from processor.kafka.batch import BATCH_BYTES_MAX
from processor.kafka.connection import Connection
from processor.kafka.log import ends_consumer
from processor.replay.records import SIDES, StoredRecord, is_at_home
from processor.replay.topics import INPUT, SILENT_S, nothing_to_read
from processor.settings import Settings
from processor.topics import ClusterError, input_topics

REPLAY_ID: Final = "replay-id"
REPLAY_SOURCE: Final = "replay-source"
"""`{partition}@{offset}` of the record on its own topic."""
REPLAY_DISTANCE: Final = "replay-distance-ms"
"""How far its times were moved; not there where they were not."""
REPLAY_SINCE: Final = "replay-since-ms"
"""From which time on records were taken, where that was said as how long ago; a later try takes the same ones."""
REPLAY_UNTIL: Final = "replay-until-ms"
"""The same of the time before which they were."""
REPLAY_OF: Final = "replay-of"
"""A digest of what was asked for, and of where; not there where the replay-id is one."""
OURS: Final = frozenset((REPLAY_ID, REPLAY_SOURCE, REPLAY_DISTANCE, REPLAY_SINCE, REPLAY_UNTIL, REPLAY_OF))
"""What an earlier replay has said in these of a record is left out."""

_SOURCE: Final = re.compile(rb"(\d{1,10})@(\d{1,20})")

TRANSACTION_TIMEOUT_MS: Final = 60_000


@dataclass
class Before:
    """What an earlier try has written."""

    records: int = 0
    distance_ms: int | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    of: bytes = b""
    """What it was asked for."""
    foreign: TopicPartition | None = None
    """A partition on which another producer's records are."""
    last_offsets: dict[tuple[TopicPartition, int], int] = field(default_factory=dict)
    """By target and by source partition, the offset of the last record that is there."""

    def note(self, tp: TopicPartition, headers: dict[str, bytes], replay_id: bytes) -> None:
        """Take in a record that lies on the target."""
        source = _SOURCE.fullmatch(headers.get(REPLAY_SOURCE, b""))
        if headers.get(REPLAY_ID) != replay_id or source is None:
            self.foreign = self.foreign or tp
            return
        self.records += 1
        self.of = headers.get(REPLAY_OF, replay_id)
        self.last_offsets[tp, int(source[1])] = int(source[2])
        if distance := headers.get(REPLAY_DISTANCE):
            self.distance_ms = int(distance)
        if since := headers.get(REPLAY_SINCE):
            self.since_ms = int(since)
        if until := headers.get(REPLAY_UNTIL):
            self.until_ms = int(until)


class Room(NamedTuple):
    """What the target's topics take."""

    partitions: int
    age_max_ms: int | None
    """How old a record's time may be; what is older is refused, or deleted at once. None: of any age."""
    keeps_times: bool = True
    """Whether a record keeps the time that it comes with; else it gets that of its arrival."""


async def room(settings: Settings) -> Room:
    """Ask what the input topics take. On topics that set the time themselves no record is old.

    Raises:
        BrokerAwayError: No broker answers.
        ClusterError: A topic is missing, or the two have not the same number of partitions.
    """
    topics = await input_topics(settings)
    limits = [
        int(topic.configuration[name])
        for topic in topics
        if topic.configuration.get("message.timestamp.type") == "CreateTime"
        for name in ("retention.ms", "message.timestamp.before.max.ms")
        if int(topic.configuration.get(name, -1)) >= 0
    ]
    keeps_times = all(topic.configuration.get("message.timestamp.type") != "LogAppendTime" for topic in topics)
    return Room(topics[0].partitions, min(limits, default=None), keeps_times)


class ReplayTarget:
    """Writes records in transactions, a `flush` or `hand_over` each; what was written before is left out."""

    def __init__(
        self,
        connection: Connection,
        topic_prefix: str,
        room: Room,
        source_partitions: int,
        replay_id: str,
        of: str = "",
    ) -> None:
        """Take where to; `source_partitions` tells whether a record lay where its key belongs.

        `of` is a digest of what is asked for, where the id is not one.
        """
        self.written = self.before = self.pending = self.pending_bytes = 0
        self.written_us = 0
        """When the last of them were committed, by the wall clock."""
        self._connection, self._prefix = connection, topic_prefix
        self.room = room
        self._partitions, self._source_partitions = room.partitions, source_partitions
        self._id, self.of = replay_id.encode(), (of or replay_id).encode()
        self._producer = connection.producer(
            client_id="janela-replay",
            # one target has one writer of a replay: whoever starts it again takes over
            transactional_id=f"janela-replay-{topic_prefix}{replay_id}",
            transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=BATCH_BYTES_MAX,
            max_request_size=8 * 1024 * 1024,
        )
        self._tps = {
            (side, n): TopicPartition(f"{topic_prefix}{INPUT}{side}", n)
            for side in SIDES
            for n in range(room.partitions)
        }
        self._last_offsets: dict[tuple[TopicPartition, int], int] = {}
        self._filling: dict[TopicPartition, Any] = {}
        self._full: list[tuple[TopicPartition, Any]] = []
        self._writing: asyncio.Task[None] | None = None

    async def start(self, on_read: Callable[[int], None]) -> Before:
        """Connect, end what an earlier try left open, and read what lies on the target; `on_read` is told how much.

        Raises:
            ClusterError: What is there can't be read to its end.
            KafkaError: The cluster does not answer, or refuses to.
        """
        await self._producer.start()
        return await self.look(on_read)

    async def look(self, on_read: Callable[[int], None]) -> Before:
        """Read what lies on the target, and change nothing there; see `start`.

        Raises:
            ClusterError: What is there can't be read to its end.
            KafkaError: The cluster does not answer, or refuses to.
        """
        before = Before()
        consumer = self._connection.consumer(isolation_level="read_committed", enable_auto_commit=False)
        await consumer.start()
        try:
            tps = list(self._tps.values())
            consumer.assign(tps)
            await consumer.seek_to_beginning(*tps)
            async with ends_consumer(self._connection) as logs:
                ends = await logs.end_offsets(tps)
            give_up_s = time.monotonic() + SILENT_S
            while behind := [tp for tp in tps if await consumer.position(tp) < ends[tp]]:
                for tp, records in (await consumer.getmany(*behind, timeout_ms=200)).items():
                    for record in records:
                        before.note(tp, _headers(record), self._id)
                    on_read(len(records))
                    give_up_s = time.monotonic() + SILENT_S
                if time.monotonic() > give_up_s:
                    raise nothing_to_read(behind[0])
        finally:
            await consumer.stop()
        self._last_offsets = before.last_offsets
        return before

    async def stop(self) -> None:
        """Disconnect; what was not flushed is not written."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
        await self._producer.stop()

    def has(self, original: StoredRecord, record: StoredRecord) -> bool:
        """Whether an earlier try has written this record; it is counted, then."""
        if not self._last_offsets:
            return False
        last = self._last_offsets.get((self._tp(original, record), original.partition), -1)
        self.before += original.offset <= last
        return original.offset <= last

    def add(
        self,
        original: StoredRecord,
        record: StoredRecord,
        distance_ms: int | None,
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> None:
        """Take a record for the next `flush`: `original` says where it comes from, `record` what is written.

        What else a later try must know goes with it: how far times were moved, and from when to when records are taken.
        """
        tp = self._tp(original, record)
        headers = [
            *[header for header in record.headers if header[0] not in OURS],
            (REPLAY_ID, self._id),
            (REPLAY_SOURCE, b"%d@%d" % (original.partition, original.offset)),
        ]
        told = ((REPLAY_DISTANCE, distance_ms), (REPLAY_SINCE, since_ms), (REPLAY_UNTIL, until_ms))
        headers += [(name, b"%d" % ms) for name, ms in told if ms is not None]
        if self.of != self._id:
            headers.append((REPLAY_OF, self.of))
        batch = self._filling.get(tp) or self._new_batch(tp)
        written = {"timestamp": max(record.timestamp_ms, 0), "key": record.key, "value": record.value}
        if batch.append(**written, headers=headers) is None:
            self._full.append((tp, batch))
            self._new_batch(tp).append(**written, headers=headers)
        self.pending += 1
        self.pending_bytes += len(record.key or b"") + len(record.value or b"")

    async def flush(self) -> None:
        """Write what was taken, all of it or nothing, and wait until it is there.

        Raises:
            ClusterError: Not known to be written. The same replay started again finds out, and goes on; where that is
                of no use before something is mended, the message does not tell to.
        """
        await self.hand_over()
        await self._written()

    async def hand_over(self) -> None:
        """Begin to write what was taken, as `flush` does, so that more can be taken meanwhile.

        Raises:
            ClusterError: What was handed over before is not known to be written.
        """
        await self._written()
        if not self.pending:
            return
        batches, records = [*self._full, *self._filling.items()], self.pending
        self.pending = self.pending_bytes = 0
        self._full, self._filling = [], {}
        self._writing = asyncio.create_task(self._write(batches, records))

    async def _written(self) -> None:
        if self._writing is not None:
            await self._writing

    async def _write(self, batches: list[tuple[TopicPartition, Any]], records: int) -> None:
        sent: list[Future[Any]] = []
        try:
            async with self._producer.transaction():
                for tp, batch in batches:
                    sent.append(await self._producer.send_batch(batch, tp.topic, partition=tp.partition))
                    sent[-1].add_done_callback(_failure)  # or asyncio complains of each that failed beside the first
                await asyncio.gather(*sent)
        except KafkaError as error:
            asyncio.get_running_loop().set_exception_handler(partial(_other_than, error))
            failed = (tp for (tp, _), delivery in zip(batches, sent, strict=False) if _failure(delivery) is error)
            raise _broken_off(error, next(failed, None)) from error
        self.written += records
        self.written_us = time.time_ns() // 1000

    def _new_batch(self, tp: TopicPartition) -> Any:
        batch = self._filling[tp] = self._producer.create_batch()
        return batch

    def _tp(self, original: StoredRecord, record: StoredRecord) -> TopicPartition:
        return self._tps[record.side, self._home(original, record)]

    def _home(self, original: StoredRecord, record: StoredRecord) -> int:
        """Give the partition: the same where there are as many, else the key's; what lay wrong does so again."""
        if record.key is None:
            return original.partition % self._partitions
        if record.key == original.key and original.is_at_home is None and self._source_partitions == self._partitions:
            return original.partition
        away = not is_at_home(original, self._source_partitions)
        return (partition_of(record.key, self._partitions) + away) % self._partitions


def _failure(delivery: "Future[Any]") -> BaseException | None:
    return delivery.exception() if delivery.done() and not delivery.cancelled() else None


def _other_than(error: KafkaError, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Pass on what asyncio complains of, unless it is that error: futures of aiokafka's bear it that nobody awaits."""
    if context.get("exception") is not error:
        loop.default_exception_handler(context)


def _broken_off(error: KafkaError, tp: TopicPartition | None) -> ClusterError:
    """Say why, and where that is known; to start again is of use where it may pass, or another one has ended it."""
    cause = error.__cause__ or error  # aiokafka tells what it did not expect in a KafkaError of its own
    where = f" at {tp.topic}[{tp.partition}]" if tp else ""
    why = str(cause) if isinstance(cause, KafkaError) else f"{type(cause).__name__}: {cause}"
    words = f"the replay broke off{where} ({' '.join(why.split())})"
    may_pass = isinstance(cause, ProducerFenced) or (isinstance(cause, KafkaError) and cause.retriable)
    return ClusterError(f"{words}; start it again" if may_pass else words)


def _headers(record: ConsumerRecord) -> dict[str, bytes]:
    return {name: value or b"" for name, value in record.headers}
