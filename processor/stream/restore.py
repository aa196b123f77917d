"""Restoring the state of partitions from their state topics, under read_committed.

A partition is read up to its high watermark, not to its last stable offset: a commit whose markers are still being
written must be waited for. A transaction that a worker left open when it died would hold this up until it times out,
so after half a second it is ended in that worker's name, unless the worker is still a member of the group.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CorruptRecordException, RecordTooLargeError

from processor.codec.state import StateError, decode_consents, decode_window
from processor.core.consent import Consents
from processor.core.partition import Partition
from processor.core.window import Window
from processor.failpoints import failpoint, restore_moved
from processor.kafka.connection import Connection
from processor.kafka.log import LogReader

log = structlog.get_logger(__name__)

_AT_ONCE = 4  # partitions read side by side: the first ones are ready while the last ones wait
_RECORDS_AT_ONCE = 4000  # some 10 ms of work between two waits, so that owners at work and heartbeats go on
_STALLED_S = 0.5
_UNREADABLE = 120  # times stalled where more is to be read: a minute, longer than a request may take
_FETCH_WAIT_MS = 20  # a fetch under way must come back before the next partitions are fetched: by default half a second


class RestoreError(Exception):
    """The state can't be restored; the message names the topic, the partition and the offset."""


class RestoredState:
    """The newest record of each key of one partition's state topics."""

    def __init__(self) -> None:
        self.windows: dict[bytes, Window] = {}
        self.consents: dict[bytes, Consents] = {}
        self.records = 0


@dataclass(frozen=True)
class Restorer:
    """Reads state topics; `end_open_transaction` frees a partition that a dead worker's transaction holds."""

    connection: Connection
    names: dict[str, str]
    log_reader: LogReader
    end_open_transaction: Callable[[int], Awaitable[None]]

    async def restore(
        self, partitions: list[int], on_read: Callable[[int, int], None] = lambda _partition, _records: None
    ) -> AsyncGenerator[tuple[int, RestoredState]]:
        """Yield each partition's state when it is complete; `on_read` is told how many of its records were read.

        Raises:
            RestoreError: A record can't be read.
        """
        consumer = self.connection.consumer(
            isolation_level="read_committed", max_partition_fetch_bytes=4 * 1024 * 1024, enable_auto_commit=False,
            fetch_max_wait_ms=_FETCH_WAIT_MS, auto_offset_reset="none",
        )  # fmt: skip
        try:
            await consumer.start()
            waiting = iter(partitions)
            while at_once := list(islice(waiting, _AT_ONCE)):
                async for partition, state in self._read(consumer, at_once, on_read):
                    yield partition, state
        except CorruptRecordException as error:
            raise RestoreError(error.args[0]) from None
        except RecordTooLargeError as error:
            raise RestoreError(f"{_place(*error.args[1:3])}: a batch says that it is larger than any is") from None
        finally:
            await consumer.stop()

    async def _read(
        self, consumer: AIOKafkaConsumer, partitions: list[int], on_read: Callable[[int, int], None]
    ) -> AsyncGenerator[tuple[int, RestoredState]]:
        topics = (self.names["window-state"], self.names["consent-state"])
        tps = {partition: [TopicPartition(topic, partition) for topic in topics] for partition in partitions}
        every = [tp for pair in tps.values() for tp in pair]
        ends = (await self.log_reader.ends(every)).offsets
        starts = await self.log_reader.starts(every)
        consumer.assign(every)
        for tp, start in starts.items():
            consumer.seek(tp, start)
        failpoint("restore-begun")
        raw: dict[TopicPartition, dict[bytes, tuple[int, bytes]]] = {tp: {} for tp in every}
        states = {partition: RestoredState() for partition in partitions}
        moved_at_s, freed = dict.fromkeys(partitions, time.monotonic()), set[int]()
        stood_at, stalled = dict.fromkeys(partitions, 0), Counter[int]()
        while True:
            for partition in list(states):
                positions = {tp: await consumer.position(tp) for tp in tps[partition]}
                behind = [tp for tp, position in positions.items() if position < ends[tp]]
                stands_at = sum(positions.values())
                restore_moved(stood_at[partition], stands_at, sum(ends[tp] for tp in positions))
                if stands_at > stood_at[partition]:
                    stood_at[partition], moved_at_s[partition] = stands_at, time.monotonic()
                    stalled.clear()  # partitions share what comes, and none may get any for a while
                if beyond := [tp for tp in positions if positions[tp] > (consumer.highwater(tp) or ends[tp])]:
                    raise RestoreError(f"{_place(beyond[0], positions[beyond[0]])}: the log ends before")
                if not behind:
                    state = states.pop(partition)
                    failpoint("restore-read")
                    await _decode(raw, tps[partition], state)
                    failpoint("restore-decoded")
                    yield partition, state
                elif time.monotonic() - moved_at_s[partition] > _STALLED_S:
                    moved_at_s[partition] = time.monotonic()
                    stable = await self.log_reader.stable_ends(behind)
                    unread = [_place(tp, positions[tp]) for tp in behind if positions[tp] < stable[tp]]
                    stalled[partition] += bool(unread)
                    if stalled[partition] > _UNREADABLE:
                        raise RestoreError(f"{unread[0]}: there is more, and for a minute nothing of it came")
                    if not unread and partition not in freed:
                        freed.add(partition)  # it stands at the end of what is stable: a transaction is open
                        await self.end_open_transaction(partition)
            if not states:
                return
            # not of those that are complete: their owners are at work by now, and write
            incomplete = [tp for partition in states for tp in tps[partition]]
            fetched = await consumer.getmany(*incomplete, timeout_ms=100, max_records=_RECORDS_AT_ONCE)
            for tp, records in fetched.items():
                _keep_newest(raw[tp], records)
                states[tp.partition].records += len(records)
                on_read(tp.partition, states[tp.partition].records)


def _keep_newest(newest: dict[bytes, tuple[int, bytes]], records: list[Any]) -> None:
    for record in records:
        if record.value is None:
            newest.pop(record.key, None)
        else:
            newest[record.key] = (record.offset, record.value)


async def _decode(
    raw: dict[TopicPartition, dict[bytes, tuple[int, bytes]]], tps: list[TopicPartition], state: RestoredState
) -> None:
    decodes: tuple[Callable[[bytes], Any], ...] = decode_window, decode_consents
    targets: tuple[dict[bytes, Any], ...] = state.windows, state.consents
    for tp, decode, target in zip(tps, decodes, targets, strict=True):
        found = raw.pop(tp)
        while found:
            for _ in range(min(len(found), _RECORDS_AT_ONCE)):
                key, (offset, value) = found.popitem()
                try:
                    target[key] = decode(value)
                except StateError as error:
                    raise RestoreError(f"{_place(tp, offset)}: {error}") from None
            await asyncio.sleep(0)


async def fill(partition: Partition, clock_ms: int, state: RestoredState) -> None:
    """Put a state into a partition whose clock stands at `clock_ms`, in parts between which others have their turn."""
    windows = iter(state.windows.items())
    while part := list(islice(windows, _RECORDS_AT_ONCE)):
        partition.restore(clock_ms, part, ())
        await asyncio.sleep(0)
    partition.restore(clock_ms, (), state.consents.items())


def _place(tp: TopicPartition, offset: int) -> str:
    return f"{tp.topic}, partition {tp.partition}, offset {offset}"
