"""Records as they lie on the input topics of a cluster: committed ones, merged by event time over all partitions."""

import heapq
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from processor.kafka.connection import Connection
from processor.kafka.fetched import KEPT_BYTES_MAX
from processor.kafka.log import ends_consumer
from processor.kafka.unread import Unread, too_large
from processor.replay.records import Side, StoredRecord, Timed, event_time_ms
from processor.replay.selection import Selection
from processor.settings import Settings
from processor.topics import ClusterError, asking, input_topics

INPUT: Final = "messages."
BUFFERED_MAX: Final = 5_000
BUFFERED_BYTES_MAX: Final = 4 * 1024 * 1024
"""Of a partition that may wait for the others; beyond either that partition is not fetched."""
FETCH_BYTES_MAX: Final = 1024 * 1024
SILENT_S: Final = 60
"""How long nothing may come before the end is reached; an open transaction is waited for that long."""


async def topic_source(settings: Settings, selection: Selection) -> "TopicSource":
    """Give the input topics under the settings' prefix as a source.

    Raises:
        BrokerAwayError: No broker answers.
        ClusterError: A topic is missing, the two have not the same number of partitions, or not one that is asked for.
    """
    topics = await input_topics(settings)
    partitions = topics[0].partitions
    if beyond := [n for n in selection.partitions or () if n >= partitions]:
        raise ClusterError(f"partition: found {beyond[0]}, expected 0 to {partitions - 1}")
    is_in_order = all(topic.configuration.get("message.timestamp.type") == "LogAppendTime" for topic in topics)
    return TopicSource(settings.connection, settings.topic_prefix, partitions, is_in_order, selection)


async def cluster_id(settings: Settings) -> str:
    """Give what tells a cluster from others, under whatever addresses.

    Raises:
        BrokerAwayError: No broker answers.
        ClusterError: The cluster refuses to answer.
    """
    async with asking(settings) as admin:
        return str((await admin.describe_cluster())["cluster_id"])


class TopicSource:
    """The input topics under a prefix. Its ends are those of the moment when it is first read."""

    def __init__(
        self, connection: Connection, topic_prefix: str, partitions: int, is_in_order: bool, selection: Selection
    ) -> None:
        """Take where they are, whether records' own times never go back there, and which records are asked for."""
        self.partitions, self._is_in_order = partitions, is_in_order
        self._connection, self._prefix, self._selection = connection, topic_prefix, selection
        self._ends: dict[TopicPartition, int] = {}
        self.left_out = 0
        """Records that were too large, when it was last read."""

    def begin_at(self, since_ms: int) -> None:
        """See `Source`."""
        self._selection = replace(self._selection, since_ms=since_ms)

    def end_at(self, until_ms: int) -> None:
        """See `Source`."""
        self._selection = replace(self._selection, until_ms=until_ms)

    async def chunks(self) -> AsyncIterator[list[Timed]]:
        """Give the records; see `Source`.

        Raises:
            ClusterError: Nothing comes, and the end is not reached; or a record is too large to be carried.
            KafkaError: The cluster does not answer, or refuses to.
        """
        self.left_out = 0
        consumer = self._connection.consumer(
            client_id="janela-replay",
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",  # what goes meanwhile must not pass for read
            max_partition_fetch_bytes=FETCH_BYTES_MAX,
        )
        await consumer.start()
        try:
            queues = [_Queue(tp, side, order) for order, (side, tp) in enumerate(self._tps())]
            tps = [queue.tp for queue in queues]
            async with ends_consumer(self._connection) as logs:
                positions = await self._starts(logs, tps)
            consumer.assign(tps)
            for tp, start in positions.items():
                consumer.seek(tp, start)
            merge = _Merge([queue for queue in queues if positions[queue.tp] < self._ends[queue.tp]])
            async for _ in _fetched(consumer, merge, self._ends, self._kept):
                if chunk := list(merge.ready()):
                    yield chunk
        finally:
            await consumer.stop()

    def _tps(self) -> Iterator[tuple[Side, TopicPartition]]:
        for side in self._selection.sides:
            for partition in range(self.partitions):
                if self._selection.partitions is None or partition in self._selection.partitions:
                    yield side, TopicPartition(f"{self._prefix}{INPUT}{side}", partition)

    async def _starts(self, consumer: AIOKafkaConsumer, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Look up where the range begins, and the first time where it ends."""
        chosen = self._selection
        starts = await consumer.beginning_offsets(tps)
        if not self._ends:
            self._ends = await consumer.end_offsets(tps)
            if chosen.until_ms is not None and self._is_in_order:
                found = await consumer.offsets_for_times(dict.fromkeys(tps, chosen.until_ms))
                self._ends |= {tp: min(it.offset, self._ends[tp]) for tp, it in found.items() if it is not None}
            if chosen.to_offset is not None:
                self._ends = {tp: min(end, chosen.to_offset) for tp, end in self._ends.items()}
        if chosen.since_ms is not None:
            found = await consumer.offsets_for_times(dict.fromkeys(tps, chosen.since_ms))
            starts = {tp: self._ends[tp] if it is None else it.offset for tp, it in found.items()}
        if chosen.from_offset is not None:
            starts = {tp: max(start, chosen.from_offset) for tp, start in starts.items()}
        return dict(starts)

    def _kept(self, tp: TopicPartition, records: Iterable[ConsumerRecord]) -> Iterator[ConsumerRecord]:
        """Give what is asked for of the range; times on a topic that keeps record times are in any order."""
        chosen, end = self._selection, self._ends[tp]
        since_ms = -math.inf if chosen.since_ms is None else chosen.since_ms
        until_ms = math.inf if chosen.until_ms is None else chosen.until_ms
        for record in records:
            if (
                record.offset < end
                and since_ms <= record.timestamp < until_ms
                and chosen.holds_key(None if isinstance(record.key, Unread) else record.key)
                and not self._is_left_out(record)
            ):
                yield record

    def _is_left_out(self, record: ConsumerRecord) -> bool:
        """Whether a record that is asked for is too large, and counted as such; where that is not wanted it raises."""
        if not (words := too_large(record.key, record.value, record.headers)):
            return False
        if not self._selection.leaves_out_too_large:
            raise ClusterError(
                f"{record.topic}[{record.partition}]@{record.offset}: found {words}, expected at most"
                f" {KEPT_BYTES_MAX:,} bytes of each; no worker takes it, and it can't be carried"
                " (archive and replay do without it if they are told --leave-out-too-large)"
            )
        self.left_out += 1
        return True


class _Queue:
    """What has come of one partition and waits for its turn."""

    def __init__(self, tp: TopicPartition, side: Side, order: int) -> None:
        self.tp, self.order = tp, order
        self.is_ended = False
        self.waiting: deque[Timed] = deque()
        self._bytes = 0
        self._side = side
        self._time_ms = 0

    def add(self, records: Iterable[ConsumerRecord]) -> None:
        side, partition, time_ms = self._side, self.tp.partition, self._time_ms
        for record in records:
            value = record.value
            stored = StoredRecord(
                side, partition, record.offset, record.timestamp, record.key, value, tuple(record.headers)
            )
            happened_ms = event_time_ms(stored)
            if happened_ms is not None and happened_ms > time_ms:
                time_ms = happened_ms
            self.waiting.append(Timed(time_ms, stored))
            self._bytes += len(value or b"")
        self._time_ms = time_ms

    def take(self) -> Timed:
        taken = self.waiting.popleft()
        self._bytes -= len(taken.record.value or b"")
        return taken

    @property
    def is_full(self) -> bool:
        return len(self.waiting) >= BUFFERED_MAX or self._bytes >= BUFFERED_BYTES_MAX


class _Merge:
    """The partitions' queues, the earliest head first; nothing is given while one that goes on has no head."""

    def __init__(self, queues: list[_Queue]) -> None:
        self.by_tp = {queue.tp: queue for queue in queues}
        self._heap: list[tuple[int, int, _Queue]] = []
        self._without_head = set(queues)

    def ready(self) -> Iterator[Timed]:
        """Take out what can have nothing before it any more."""
        for queue in list(self._without_head):
            if queue.waiting or queue.is_ended:
                self._without_head.discard(queue)
                if queue.waiting:
                    heapq.heappush(self._heap, (queue.waiting[0].time_ms, queue.order, queue))
        while self._heap and not self._without_head:
            _, order, queue = self._heap[0]
            yield queue.take()
            if queue.waiting:
                heapq.heapreplace(self._heap, (queue.waiting[0].time_ms, order, queue))
            else:
                heapq.heappop(self._heap)
                if not queue.is_ended:
                    self._without_head.add(queue)


async def _fetched(
    consumer: AIOKafkaConsumer,
    merge: _Merge,
    ends: dict[TopicPartition, int],
    kept: Callable[[TopicPartition, Iterable[ConsumerRecord]], Iterator[ConsumerRecord]],
) -> AsyncIterator[None]:
    """Fill the queues, step by step, until each has ended; those that are full, or have ended, are held back."""
    queues = merge.by_tp
    give_up_s = time.monotonic() + SILENT_S
    while going_on := [tp for tp, queue in queues.items() if not queue.is_ended]:
        wanted = [tp for tp in going_on if not queues[tp].is_full]
        consumer.pause(*(tp for tp in consumer.assignment() if tp not in wanted))
        consumer.resume(*wanted)
        for tp, records in (await consumer.getmany(*wanted, timeout_ms=200)).items():
            queues[tp].add(kept(tp, records))
            give_up_s = time.monotonic() + SILENT_S
        for tp in wanted:
            queues[tp].is_ended = await consumer.position(tp) >= ends[tp]
        if time.monotonic() > give_up_s and (behind := [tp for tp in wanted if not queues[tp].is_ended]):
            raise nothing_to_read(behind[0])
        handed_over_s = time.monotonic()
        yield
        give_up_s += time.monotonic() - handed_over_s  # whoever takes them may take its time


def nothing_to_read(tp: TopicPartition) -> ClusterError:
    """Make the error that says where nothing came for `SILENT_S`, before the end was reached."""
    return ClusterError(f"{tp.topic}[{tp.partition}]: nothing to read for {SILENT_S} s; is a transaction open?")
