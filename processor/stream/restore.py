"""Restoring the state of partitions from their state topics, under read_committed.

A partition is read up to its high watermark, not to its last stable offset: a commit whose markers are still being
written must be waited for. A transaction that a worker left open when it died would hold this up until it times out,
so after half a second it is ended in that worker's name, unless the worker is still a member of the group.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import islice
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from processor.codec.state import StateError, decode_consents, decode_window
from processor.core.consent import Consents
from processor.core.window import Window
from processor.failpoints import failpoint, restore_moved
from processor.kafka.connection import Connection
from processor.kafka.log import LogReader

log = structlog.get_logger(__name__)

_AT_ONCE = 4  # partitions read side by side: the first ones are ready while the last ones wait
_RECORDS_AT_ONCE = 4000  # some 10 ms of work between two waits, so that owners at work and heartbeats go on
_STALLED_S = 0.5
_FETCH_WAIT_MS = 20  # a fetch under way must come back before the next partitions are fetched: by default half a second


class RestoreError(Exception):
    """The state can't be restored; the message names the topic, the partition and the offset."""


class RestoredState:
    """The newest record of each key of one partition's state topics."""

    def __init__(self) -> None:
        self.windows: dict[bytes, Window] = {}
        self.consents: dict[bytes, Consents] = {}
        self.records = 0


class Restorer:
    """Reads state topics; `end_open_transaction` frees a partition that a dead worker's transaction holds."""

    def __init__(
        self,
        connection: Connection,
        names: dict[str, str],
        log_reader: LogReader,
        end_open_transaction: Callable[[int], Awaitable[None]],
    ) -> None:
        """Take where to read, and how to free a partition."""
        self._connection = connection
        self._window_state, self._consent_state = names["window-state"], names["consent-state"]
        self._log_reader = log_reader
        self._end_open_transaction = end_open_transaction

    async def restore(
        self, partitions: list[int], on_read: Callable[[int, int], None] = lambda _partition, _records: None
    ) -> AsyncIterator[tuple[int, RestoredState]]:
        """Yield each partition's state when it is complete; `on_read` is told how many of its records were read.

        Raises:
            RestoreError: A record can't be read.
        """
        consumer = self._connection.consumer(
            isolation_level="read_committed", max_partition_fetch_bytes=4 * 1024 * 1024, enable_auto_commit=False,
            fetch_max_wait_ms=_FETCH_WAIT_MS, auto_offset_reset="none",
        )  # fmt: skip
        await consumer.start()
        try:
            waiting = iter(partitions)
            while at_once := list(islice(waiting, _AT_ONCE)):
                async for partition, state in self._read(consumer, at_once, on_read):
                    yield partition, state
        finally:
            await consumer.stop()

    async def _read(
        self, consumer: AIOKafkaConsumer, partitions: list[int], on_read: Callable[[int, int], None]
    ) -> AsyncIterator[tuple[int, RestoredState]]:
        topics = (self._window_state, self._consent_state)
        tps = {partition: [TopicPartition(topic, partition) for topic in topics] for partition in partitions}
        every = [tp for pair in tps.values() for tp in pair]
        ends = (await self._log_reader.ends(every)).offsets
        starts = await self._log_reader.starts(every)
        consumer.assign(every)
        for tp, start in starts.items():
            consumer.seek(tp, start)
        failpoint("restore-begun")
        raw: dict[TopicPartition, dict[bytes, tuple[int, bytes]]] = {tp: {} for tp in every}
        states = {partition: RestoredState() for partition in partitions}
        moved_at_s, freed = dict.fromkeys(partitions, time.monotonic()), set[int]()
        stood_at = dict.fromkeys(partitions, 0)
        while True:
            for partition in list(states):
                positions = {tp: await consumer.position(tp) for tp in tps[partition]}
                behind = [tp for tp, position in positions.items() if position < ends[tp]]
                stands_at = sum(positions.values())
                restore_moved(stood_at[partition], stands_at, sum(ends[tp] for tp in positions))
                stood_at[partition] = stands_at
                if not behind:
                    state = states.pop(partition)
                    failpoint("restore-read")
                    await _decode(raw, tps[partition], state)
                    failpoint("restore-decoded")
                    yield partition, state
                elif time.monotonic() - moved_at_s[partition] > _STALLED_S and partition not in freed:
                    moved_at_s[partition] = time.monotonic()
                    stable = await self._log_reader.stable_ends(behind)
                    if all(stable[tp] <= positions[tp] for tp in behind):
                        freed.add(partition)  # it stands at the end of what is stable: a transaction is open
                        await self._end_open_transaction(partition)
            if not states:
                return
            # not of those that are complete: their owners are at work by now, and write
            unread = [tp for partition in states for tp in tps[partition]]
            fetched = await consumer.getmany(*unread, timeout_ms=100, max_records=_RECORDS_AT_ONCE)
            for tp, records in fetched.items():
                _keep_newest(raw[tp], records)
                moved_at_s[tp.partition] = time.monotonic()
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
    window_tp, consent_tp = tps
    kinds: tuple[tuple[TopicPartition, Callable[[bytes], Any], dict[bytes, Any]], ...] = (
        (window_tp, decode_window, state.windows),
        (consent_tp, decode_consents, state.consents),
    )
    for tp, decode, target in kinds:
        found = raw.pop(tp)
        while found:
            for _ in range(min(len(found), _RECORDS_AT_ONCE)):
                key, (offset, value) = found.popitem()
                try:
                    target[key] = decode(value)
                except StateError as error:
                    raise RestoreError(f"{tp.topic}, partition {tp.partition}, offset {offset}: {error}") from None
            await asyncio.sleep(0)
