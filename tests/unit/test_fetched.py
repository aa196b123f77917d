"""Fetched bytes: a compressed batch gives the records that aiokafka would give, in bounded parts where it is large."""

import hashlib
import random
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch

from processor.kafka import expansion, fetched
from processor.kafka.expansion import ExpansionError, pieces
from processor.kafka.fetched import FetchedRecords
from processor.kafka.unread import Unread, UnreadHeaders
from processor.settings import RECORD_BYTES_LIMIT
from tests.batches import CODECS, HEADER_BYTES, Compress, Row, batch, bomb, compressed, sealed

EVERY_CODEC = pytest.mark.parametrize(("number", "compress"), CODECS.values(), ids=CODECS)


def read(data: bytes, position: int = 0) -> Iterator[Any]:
    """Read as the transport does, and as aiokafka's fetcher does: what lies before the position is skipped."""
    records = FetchedRecords(data)
    records.is_patient = True
    while True:
        while records.has_next():
            part = records.next_batch()
            assert part.validate_crc()
            for record in part:
                if record.offset >= position:
                    yield record
                    position = record.offset + 1
            position = part.next_offset
        if not records.waits:
            return
        while records.waits:
            records.expand(position)


def told(record: Any) -> tuple[Any, ...]:
    return record.offset, record.timestamp, record.key, record.value, list(record.headers)


def rows(seed: int, count: int) -> list[Row]:
    chance = random.Random(seed)
    texts = [None, b"", b"k", b"\x00\xff" * 40, b"word " * 200]
    names = ["", "trace", "h\u00e9"]
    return [
        (
            chance.choice(texts),
            chance.choice([*texts, chance.randbytes(chance.randrange(400))]),
            [(chance.choice(names), chance.choice(texts)) for _ in range(chance.choice([0, 0, 1, 3]))],
        )
        for _ in range(count)
    ]


@EVERY_CODEC
@pytest.mark.parametrize("is_large", [False, True], ids=["plain", "careful"])
def test_a_compressed_batch_gives_the_records_that_aiokafka_reads(
    number: int, compress: Compress, is_large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_large:
        monkeypatch.setattr(fetched, "PLAIN_BYTES_MAX", 100)
    plain = batch(rows(number, 2_500), first_offset=70)
    between = batch(rows(9, 3), first_offset=70 + 2_500)
    wanted = [told(record) for part in (plain, between) for record in DefaultRecordBatch(part)]
    data = compressed(plain, number, compress) + between + compressed(plain, number, compress)[:50]
    assert [told(record) for record in read(data)] == wanted
    assert [told(record) for record in read(data, 1_200)] == [row for row in wanted if row[0] >= 1_200]


@EVERY_CODEC
def test_a_value_of_many_megabytes_is_counted_and_digested_but_never_held(number: int, compress: Compress) -> None:
    huge = bytes(60_000_000)
    data = compressed(batch([(b"k", huge, []), (huge[:2_000_000], b"v", [("h", huge[:3_000_000])])]), number, compress)
    digest = hashlib.sha256(huge).hexdigest()
    tracemalloc.start()
    try:
        first, second = read(data)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (first.offset, first.key, first.value, first.headers) == (0, b"k", Unread(60_000_000, digest), [])
    assert (len(second.key), second.value, second.headers) == (2_000_000, b"v", UnreadHeaders(1, 3_000_001))
    assert most < 12_000_000 + len(data) * (24 if number == 2 else 1)  # a block of snappy can only be read whole


@pytest.mark.parametrize("name", ["gzip", "snappy", "lz4", "zstd"])
def test_a_bomb_that_is_made_by_hand_holds_what_it_says(name: str) -> None:
    first, second = read(bomb(name, b"key", 9_000_000, (b"k", b"after", [("h", b"")]), 5_000))
    assert told(first)[:4] == (0, 5_000, b"key", Unread(9_000_000, hashlib.sha256(bytes(9_000_000)).hexdigest()))
    assert told(second) == (1, 5_007, b"k", b"after", [("h", b"")])


def test_a_million_headers_of_one_record_are_counted_and_never_held() -> None:
    data = compressed(batch([(b"k", b"v", [("", b"")] * 1_500_000)]), *CODECS["zstd"])
    (record,) = read(data)
    assert record.headers == UnreadHeaders(1_500_000, 0)


def test_one_step_over_a_bomb_ends_in_time_and_takes_up_where_it_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetched, "EXPAND_S", 0.0)
    data = compressed(batch([(b"k", bytes(20_000_000), []), (b"l", b"v", [])]), *CODECS["zstd"])
    records = FetchedRecords(data)
    records.is_patient = True
    steps = 0
    while records.waits:
        records.expand(0)
        steps += 1
    assert steps > 20
    assert [record.offset for record in read(data)] == [0, 1]


@pytest.mark.parametrize("number", [0, *dict.fromkeys(number for number, _ in CODECS.values())])
def test_a_header_whose_name_is_not_utf8_costs_no_record(number: int) -> None:
    plain = batch([(b"a", b"1", []), (b"b", b"2", [("name", b"x")]), (b"c", b"3", [])]).replace(b"name", b"n\xff\xfee")
    with pytest.raises(UnicodeDecodeError):
        list(DefaultRecordBatch(plain))  # or what is here is not needed any more
    data = compressed(plain, number, {0: bytes, **dict(CODECS.values())}[number])
    found = [told(record)[2:] for record in read(data)]
    assert found == [(b"a", b"1", []), (b"b", b"2", [("n\\xff\\xfee", b"x")]), (b"c", b"3", [])]
    assert [told(record)[2:] for record in FetchedRecords(data).next_batch()] == found  # who asks for no patience


def test_who_asks_for_no_patience_reads_what_aiokafka_gives() -> None:
    data = compressed(batch(rows(1, 50)), *CODECS["zstd"])
    records = FetchedRecords(data)
    assert records.has_next()
    assert [told(record) for record in records.next_batch()] == [told(record) for record in read(data)]
    assert not records.has_next()


@EVERY_CODEC
def test_damaged_bytes_are_a_corrupt_batch_and_nothing_worse(number: int, compress: Compress) -> None:
    chance = random.Random(number)
    plain = batch(rows(number, 200))
    data = compress(plain[HEADER_BYTES:])
    refused = 0
    for _ in range(300):
        bad = bytearray(data)
        bad[chance.randrange(min(len(bad), 3000))] ^= 1 << chance.randrange(8)
        cut = bytes(data[: chance.randrange(len(data))])
        for damaged in (bytes(bad), cut):
            try:
                list(read(sealed(plain[:HEADER_BYTES], number, damaged)))
            except (CorruptRecordException, ValueError):
                refused += 1
    assert refused > 300
    with pytest.raises(CorruptRecordException, match="checksum"):
        list(read(compressed(plain, number, compress)[:-1] + b"?"))


def test_an_unknown_codec_and_a_snappy_block_that_boasts_are_refused() -> None:
    with pytest.raises(ExpansionError, match="codec 5"):
        list(pieces(5, b""))
    with pytest.raises(ExpansionError, match="more than it can"):
        list(pieces(2, b"\xff\xff\xff\xff\x0f" + bytes(10)))


def test_no_record_that_the_settings_may_allow_goes_unread() -> None:
    assert fetched.KEPT_BYTES_MAX > RECORD_BYTES_LIMIT
    assert expansion.PIECE_BYTES <= fetched.PLAIN_BYTES_MAX


@pytest.mark.parametrize("codec", ["", *CODECS])
def test_no_bit_that_changed_where_a_batch_lies_changes_or_skips_a_record(codec: str) -> None:
    """Its checksum leaves out where it begins and how long it is; that shows in what stands before and after it."""
    plain = [batch(rows(n, 20), first_offset=20 * n) for n in range(3)]
    number, compress = CODECS.get(codec, (0, bytes))
    first, second, third = (compressed(it, number, compress) if codec else it for it in plain)
    wanted = [told(record) for part in plain for record in DefaultRecordBatch(part)]
    seen = Counter[str]()
    for place in [*range(HEADER_BYTES), *range(HEADER_BYTES, len(second), 97)]:
        for bit in range(8):
            bitten = bytearray(second)
            bitten[place] ^= 1 << bit
            found = []
            try:
                found = [told(record) for record in read(first + bitten + third)]
            except (CorruptRecordException, AssertionError):
                seen["refused"] += 1
            else:
                seen["ends before it" if len(found) == 20 else "harmless"] += 1
                assert found in (wanted, wanted[:20]), (place, bit)
    assert set(seen) == {"refused", "ends before it", "harmless"}, seen


def test_where_a_batch_claims_to_lie_elsewhere_nothing_of_what_was_fetched_is_given() -> None:
    """Else a reader that takes some records at a time would stand behind the log's end, and have read it all."""
    first, second, third = (batch(rows(n, 20), first_offset=20 * n) for n in range(3))
    records = FetchedRecords(first + bytes([second[0], second[1], second[2], 2]) + second[4:] + third)
    with pytest.raises(CorruptRecordException, match=r"a batch up to 8589934631 is followed by one that begins at 40"):
        records.next_batch()
