"""What every consumer reads of compressed batches: the same records, in bounded parts, while its loop goes on."""

import asyncio
import hashlib
import tracemalloc
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher as aiokafka_fetcher
from aiokafka.errors import ConsumerStoppedError, CorruptRecordException

from processor.kafka import fetched, patience
from processor.kafka.fetched import FetchedRecords
from processor.kafka.unread import Unread, UnreadHeaders
from tests.batches import CODECS, Row, batch, bomb, compressed

MB = 1024 * 1024
TP, OTHER = TopicPartition("t", 0), TopicPartition("t", 1)


class Position:
    """What aiokafka knows of an assigned partition."""

    def __init__(self) -> None:
        self.position, self.paused = 0, False

    def consumed_to(self, position: int) -> None:
        self.position = position


class Consumer:
    """A consumer as `getmany` sees one, whose fetches are put in by hand."""

    def __init__(self) -> None:
        self.fetcher: Any = patience.PatientFetcher.__new__(patience.PatientFetcher)
        self.positions = {TP: Position(), OTHER: Position()}
        self._assignment = SimpleNamespace(active=True, state_value=self.positions.get)
        self.fetcher._loop, self.fetcher._closed = asyncio.get_running_loop(), False
        self.fetcher._records, self.fetcher._fetch_waiters, self.fetcher._wait_consume_future = {}, set(), None
        self.fetcher._subscriptions = SimpleNamespace(
            reassignment_in_progress=False, is_assigned=self.positions.__contains__
        )

    def put(self, data: bytes, tp: TopicPartition = TP, aborted: list[tuple[int, int]] | None = None) -> None:
        """Do what aiokafka does with an answer of the broker."""
        records = aiokafka_fetcher.MemoryRecords(data)
        assert records.has_next()  # or aiokafka says that no record fits in a fetch
        parts = aiokafka_fetcher.PartitionRecords(
            tp, records, aborted, self.positions[tp].position, None, None, True, aiokafka_fetcher.READ_COMMITTED
        )
        self.fetcher._records[tp] = aiokafka_fetcher.FetchResult(
            tp, partition_records=parts, assignment=self._assignment, backoff=0.1
        )

    async def getmany(self, *tps: TopicPartition, timeout: float = 10, max_records: int | None = None) -> list[Any]:
        """Give what comes next."""
        found = await self.fetcher.fetched_records(tps, timeout, max_records)
        return [record for records in found.values() for record in records]

    async def read(self) -> AsyncIterator[list[Any]]:
        """Read all that was put in."""
        while self.fetcher._records:
            yield await self.getmany()

    async def all(self) -> list[Any]:
        return [record async for records in self.read() for record in records]


def rows(count: int) -> list[Row]:
    return [(b"key %d" % n, b"value %d" % n, [("h", b"%d" % n)]) for n in range(count)]


def told(records: list[Any]) -> list[tuple[Any, ...]]:
    return [(record.offset, record.timestamp, record.key, record.value, record.headers) for record in records]


@pytest.mark.parametrize("name", CODECS)
async def test_compressed_batches_between_plain_ones_are_read_in_order(name: str) -> None:
    batches = [batch(rows(100), first_offset=100 * n) for n in range(9)]
    plain, mixed = Consumer(), Consumer()
    plain.put(b"".join(batches))
    mixed.put(b"".join(it if n % 4 == 3 else compressed(it, *CODECS[name]) for n, it in enumerate(batches)))
    wanted = told(await plain.all())
    assert len(wanted) == 900
    assert told(await mixed.all()) == wanted
    assert mixed.positions[TP].position == 900


async def test_a_bomb_is_counted_and_digested_while_the_loop_and_other_partitions_go_on() -> None:
    consumer, size = Consumer(), 300 * MB
    consumer.put(bomb("zstd", b"key", size, (b"k", b"after", []), 5_000))
    consumer.put(batch(rows(3)), OTHER)
    tracemalloc.start()
    try:
        first = await consumer.getmany()
        assert [record.value for record in first] == [b"value 0", b"value 1", b"value 2"]  # nobody waits for the bomb
        found = await consumer.all()
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    digest = hashlib.sha256()
    for _ in range(300):
        digest.update(bytes(MB))
    assert told(found) == [
        (0, 5_000, b"key", Unread(size, digest.hexdigest()), ()),
        (1, 5_007, b"k", b"after", ()),
    ]
    assert found[0].serialized_value_size == size
    assert most < 20 * MB


async def test_headers_that_were_too_many_are_told_by_their_number() -> None:
    consumer = Consumer()
    consumer.put(compressed(batch([(b"k", b"v", [("", b"")] * 1_500_000)]), *CODECS["zstd"]))
    (record,) = await consumer.all()
    assert record.headers == UnreadHeaders(1_500_000, 0)


async def test_who_set_the_time_is_told_of_a_record_of_a_large_batch_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetched, "PLAIN_BYTES_MAX", 10)
    for attribute in (0, 8):
        plain = bytearray(batch(rows(3)))
        plain[22] |= attribute
        consumer = Consumer()
        consumer.put(compressed(bytes(plain), *CODECS["gzip"]))
        assert [record.timestamp_type for record in await consumer.all()] == [attribute >> 3] * 3


async def test_one_record_at_a_time_is_read_past_what_must_be_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetched, "SMALL_BYTES", 1)
    consumer = Consumer()
    consumer.put(b"".join(compressed(batch(rows(2), first_offset=2 * n), *CODECS["gzip"]) for n in range(3)))
    assert [(await consumer.fetcher.next_record(())).offset for _ in range(6)] == [0, 1, 2, 3, 4, 5]
    consumer.fetcher._closed = True
    with pytest.raises(ConsumerStoppedError):
        await consumer.fetcher.next_record(())


async def test_a_batch_of_which_nothing_is_given_does_not_hold_up_what_is_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetched, "SMALL_BYTES", 1)
    consumer = Consumer()
    aborted = [compressed(_transactional(batch(rows(2), first_offset=2 * n)), *CODECS["gzip"]) for n in range(3)]
    consumer.put(b"".join(aborted) + compressed(batch(rows(2), first_offset=6), *CODECS["gzip"]), aborted=[(77, 0)])
    async with asyncio.timeout(5):
        assert [record.offset for record in await consumer.getmany(timeout=60)] == [6, 7]


def _transactional(plain: bytes) -> bytes:
    """Give a batch as one that a producer (77) wrote in a transaction."""
    whole = bytearray(plain)
    whole[22] |= 0x10
    whole[43:51] = (77).to_bytes(8, "big")
    return bytes(whole)


async def test_what_was_sought_meanwhile_is_not_answered_by_what_was_fetched_before() -> None:
    consumer = Consumer()
    consumer.put(compressed(batch(rows(5)), *CODECS["gzip"]))
    assert await consumer.getmany(timeout=0) == []
    consumer.positions[TP].position = 3
    assert await consumer.getmany(timeout=1) == []
    assert not consumer.fetcher._records


async def test_who_asks_for_other_partitions_is_not_kept_busy_by_what_is_expanded() -> None:
    consumer = Consumer()
    consumer.put(compressed(batch(rows(5)), *CODECS["gzip"]))
    assert await consumer.getmany(TP, timeout=0) == []
    await asyncio.sleep(0.2)
    waiters, make = 0, consumer.fetcher._create_fetch_waiter

    def counted() -> Any:
        nonlocal waiters
        waiters += 1
        return make()

    consumer.fetcher._create_fetch_waiter = counted
    assert await consumer.getmany(OTHER, timeout=0.2) == []
    assert waiters == 1
    assert len(await consumer.getmany(TP)) == 5


async def test_damaged_bytes_are_told_of_each_time_and_never_skipped() -> None:
    consumer = Consumer()
    good = compressed(batch(rows(5), first_offset=5), *CODECS["gzip"])
    consumer.put(compressed(batch(rows(5)), *CODECS["gzip"])[:-1] + b"?" + good)
    for _ in range(2):
        with pytest.raises(CorruptRecordException):
            await consumer.getmany()


def test_a_fetch_is_first_asked_whether_there_is_anything_in_it() -> None:
    assert aiokafka_fetcher.MemoryRecords is FetchedRecords
    assert FetchedRecords(compressed(batch(rows(5)), *CODECS["gzip"])).has_next()
