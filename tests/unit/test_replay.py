"""A replay without a broker: what is selected, how times move, when records leave, and what an archive keeps."""

import asyncio
import gc
import os
import random
from collections.abc import AsyncIterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NotLeaderForPartitionError,
    ProducerFenced,
)
from hypothesis import given
from hypothesis import strategies as st

from processor.kafka.connection import Connection
from processor.kafka.unread import Unread, UnreadHeaders
from processor.replay.archive import ArchiveError, ArchiveSource, ArchiveWriter, Manifest
from processor.replay.pace import Pace
from processor.replay.records import Span, StoredRecord, Timed, event_time_ms
from processor.replay.selection import Selection
from processor.replay.target import (
    REPLAY_ID,
    REPLAY_OF,
    REPLAY_SINCE,
    REPLAY_SOURCE,
    REPLAY_UNTIL,
    Before,
    ReplayTarget,
    Room,
)
from processor.replay.times import shifted
from processor.replay.topics import TopicSource
from processor.topics import ClusterError

NOW_MS = 1_795_600_000_000
HOUR_MS = 3_600_000


def record(offset: int = 0, **changed: Any) -> StoredRecord:
    return StoredRecord("inbound", 0, offset, NOW_MS, b"whatsapp:1:2", b"{}", ())._replace(**changed)


def with_time(time: Any, **more: Any) -> StoredRecord:
    return record(value=msgspec.json.encode({"a": [1.50, "é"], "time": time, **more}))


# ------------------------------------------------------------------------------------------------- selection


def test_a_contact_is_meant_by_its_id_or_by_its_whole_key() -> None:
    chosen = Selection(contacts=frozenset({b"5511", b"sms:1:77"}))
    held = [chosen.holds_key(key) for key in (b"whatsapp:1:5511", b"sms:1:77", b"whatsapp:1:77", b"sms:1:511", None)]
    assert held == [True, True, False, False, False]


def test_ranges_hold_their_begin_and_not_their_end() -> None:
    by_time, by_offset = Selection(since_ms=10, until_ms=20), Selection(from_offset=5, to_offset=7)
    assert [by_time.holds_place("inbound", 0, 0, ms) for ms in (9, 10, 19, 20)] == [False, True, True, False]
    assert [by_offset.holds_place("inbound", 0, n, 0) for n in (4, 5, 6, 7)] == [False, True, True, False]


# ----------------------------------------------------------------------------------------------------- times


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("2026-11-22T18:47:19.000Z", "2026-11-22T19:47:19.000Z"),
        ("2026-11-22T18:47:19-03:00", "2026-11-22T22:47:19.000Z"),
        (1795373239, 1795376839),
        ("1795373239", "1795376839"),
        (1795373239123, 1795376839123),
        ("9998-12-31T23:30:00.000Z", "9998-12-31T23:30:00.000Z"),  # nobody could read what comes of it
        ("half past six", "half past six"),
        (None, None),
    ],
)
def test_a_time_is_moved_in_the_form_that_it_has(before: Any, after: Any) -> None:
    moved = shifted(with_time(before, send_time=before), HOUR_MS, NOW_MS + 2 * HOUR_MS)
    assert msgspec.json.decode(moved.value or b"") == {"a": [1.5, "é"], "time": after, "send_time": after}
    assert b"1.5" in (moved.value or b"")
    assert moved.timestamp_ms == NOW_MS + HOUR_MS


def test_a_record_is_never_moved_beyond_now() -> None:
    assert shifted(record(), HOUR_MS, NOW_MS + 5).timestamp_ms == NOW_MS + 5


@pytest.mark.parametrize("value", [None, b"", b"[]", b"{", b"\xff", b"[" * 5000])
def test_what_can_not_be_read_keeps_its_bytes(value: bytes | None) -> None:
    assert shifted(record(value=value), HOUR_MS, NOW_MS).value == value


def test_an_event_from_the_future_is_taken_as_of_its_record() -> None:
    assert event_time_ms(with_time("2099-01-01T00:00:00Z")) == NOW_MS


# ------------------------------------------------------------------------------------------------------ pace


@given(
    times=st.lists(st.integers(0, 10**9), min_size=1),
    speed=st.one_of(st.none(), st.floats(0.01, 10_000)),
)
def test_no_event_is_moved_beyond_the_moment_at_which_it_leaves(times: list[int], speed: float | None) -> None:
    pace, begin_ms, order = Pace(speed=speed), 10**12, sorted(times)
    distance_ms = pace.distance_ms(order[0], order[-1], begin_ms)
    for number, time_ms in enumerate(order):
        leaves_ms = begin_ms + pace.due_s(number, time_ms, order[0]) * 1000
        assert time_ms + distance_ms <= leaves_ms + 1


@pytest.mark.parametrize("speed", [1.0, 60.0])
def test_what_has_no_time_at_the_begin_leaves_at_once_and_keeps_nobody_waiting(speed: float) -> None:
    span = Span()
    span.add([Timed(0, record(value=b"not JSON")), Timed(NOW_MS, record()), Timed(NOW_MS + HOUR_MS, record())])
    assert (span.first_ms, span.last_ms) == (NOW_MS, NOW_MS + HOUR_MS)
    assert Pace(speed=speed).due_s(0, 0, 0) == Pace(speed=speed).due_s(1, 0, NOW_MS) == 0


def test_what_happened_long_before_the_first_record_was_written_keeps_nobody_waiting() -> None:
    """The first one of a partition is 36 hours late; over 40 s of records, the rest is not 36 hours later."""
    span = Span()
    times_ms = (NOW_MS - 36 * HOUR_MS, NOW_MS, NOW_MS + 40_000)
    span.add(Timed(ms, record(timestamp_ms=max(ms, NOW_MS - 5))) for ms in times_ms)
    assert span.begin_ms == NOW_MS - 5
    pace = Pace(speed=1)
    assert [pace.due_s(n, ms, span.begin_ms) for n, ms in enumerate(times_ms)] == [0, 0.005, 40.005]
    assert pace.distance_ms(span.begin_ms, times_ms[-1], NOW_MS + HOUR_MS) == HOUR_MS + 5


def test_a_backfill_is_paced_by_its_events() -> None:
    """All of it happened before any of it was written, so nothing is told by when it was."""
    span = Span()
    span.add(Timed(NOW_MS - ago * HOUR_MS, record(timestamp_ms=NOW_MS)) for ago in (36, 24, 2))
    assert span.begin_ms == NOW_MS - 36 * HOUR_MS


def test_a_span_in_which_no_time_can_be_read_has_no_begin() -> None:
    span = Span()
    span.add([Timed(0, record())])
    assert (Span().begin_ms, span.begin_ms) == (0, 0)


def test_speed_goes_by_event_time_and_rate_by_number() -> None:
    assert [Pace(speed=60).due_s(n, 1000 + n * 60_000, 1000) for n in range(3)] == [0, 1, 2]
    assert [Pace(rate=4).due_s(n, 0, 0) for n in range(3)] == [0, 0.25, 0.5]
    assert Pace().due_s(99, 10**9, 0) == 0


# --------------------------------------------------------------------------------------------------- archive

MANIFEST = Manifest(janela_archive=1, partitions=4, written="2026-11-22T18:47:19.000Z")
RECORDS = [
    record(0, value=None, key=None),
    record(1, value=b"\xff\x00", headers=(("a", b"\xfe"), ("b", None), ("c", b""))),
    record(2, side="outbound", partition=3, value="é".encode(), timestamp_ms=-1),
]


def written(path: Path, records: list[StoredRecord]) -> Path:
    with ArchiveWriter(path, MANIFEST) as writer:
        writer.write(records)
    return path


async def read(path: Path, selection: Selection | None = None) -> list[StoredRecord]:
    source: AsyncIterator[list[Timed]] = ArchiveSource(path, selection or Selection()).chunks()
    return [timed.record async for chunk in source for timed in chunk]


async def test_an_archive_gives_back_every_byte(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl.zst", RECORDS)
    assert await read(path) == RECORDS
    assert await read(path, Selection(sides=("outbound",))) == RECORDS[2:]


async def test_an_empty_archive_is_whole(tmp_path: Path) -> None:
    assert await read(written(tmp_path / "a", [])) == []


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
async def test_an_archive_that_was_cut_off_is_refused(tmp_path: Path, share: float) -> None:
    many = [record(n, value=f"{n * 7919}".encode()) for n in range(5_000)]
    path = written(tmp_path / "a", many)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ArchiveError):
        await read(path)


async def test_an_archive_with_a_damaged_byte_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a", [record(n, value=f"{n * 7919}".encode()) for n in range(500)])
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 0x40
    path.write_bytes(damaged)
    with pytest.raises(ArchiveError):
        await read(path)


async def test_an_archive_of_which_nothing_is_asked_for_can_be_stopped_while_it_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a", [record(n) for n in range(3_000)])
    reading = asyncio.create_task(read(path, Selection(from_offset=9_999)))
    await asyncio.sleep(0)
    assert reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"PK\x03\x04 nothing of ours")
    with pytest.raises(ArchiveError, match="not an archive"):
        ArchiveSource(tmp_path / "a", Selection())


def test_an_archive_takes_the_place_of_what_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"the one before")
    (link := tmp_path / "link").symlink_to("real")
    written(link, RECORDS)
    assert link.is_symlink()
    assert ArchiveSource(tmp_path / "real", Selection()).partitions == 4


@pytest.mark.parametrize("size", [10, 9_000, 500_000])
def test_an_archive_on_a_full_disk_leaves_nothing_behind(size: int, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"), ArchiveWriter(tmp_path / "a", MANIFEST) as writer:  # noqa: PT012
        os.dup2(os.open("/dev/full", os.O_WRONLY), writer._file.fileno())
        writer.write([record(value=random.Random(1).randbytes(size))])
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_breaks_off_leaves_what_was_there(tmp_path: Path) -> None:
    path = written(tmp_path / "a", RECORDS)
    before = path.read_bytes()
    with suppress(RuntimeError), ArchiveWriter(path, MANIFEST) as again:
        again.write(RECORDS)
        raise RuntimeError
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("source", [None, b"", b"x@y", b"0@"])
def test_what_bears_our_id_and_not_where_it_comes_from_is_another_producer_s(source: bytes | None) -> None:
    before, tp = Before(), TopicPartition("t", 0)
    before.note(tp, {REPLAY_ID: b"one"} | ({} if source is None else {REPLAY_SOURCE: source}), b"one")
    assert (before.foreign, before.records) == (tp, 0)


async def test_an_archive_begins_at_another_time_than_was_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "a", [record(n, timestamp_ms=NOW_MS + n) for n in range(4)])
    source = ArchiveSource(path, Selection(since_ms=NOW_MS + 3, to_offset=3))
    source.begin_at(NOW_MS + 1)
    chunks: AsyncIterator[list[Timed]] = source.chunks()
    assert [timed.record.offset async for chunk in chunks for timed in chunk] == [1, 2]


def test_a_later_try_hears_from_which_time_on_records_were_taken() -> None:
    before, ours = Before(), {REPLAY_ID: b"one", REPLAY_SOURCE: b"0@7"}
    before.note(TopicPartition("t", 0), ours, b"one")
    assert before.since_ms is None
    before.note(TopicPartition("t", 0), ours | {REPLAY_SINCE: b"%d" % NOW_MS}, b"one")
    assert before.since_ms == NOW_MS


def test_a_later_try_hears_what_the_first_one_was_asked_for_and_until_when() -> None:
    before, ours = Before(), {REPLAY_ID: b"one", REPLAY_SOURCE: b"0@7"}
    before.note(TopicPartition("t", 0), ours, b"one")
    assert (before.of, before.until_ms) == (b"one", None)  # such an id says it by itself
    before.note(TopicPartition("t", 0), ours | {REPLAY_OF: b"digest", REPLAY_UNTIL: b"%d" % NOW_MS}, b"one")
    assert (before.of, before.until_ms) == (b"digest", NOW_MS)


async def test_an_archive_ends_at_another_time_than_was_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "a", [record(n, timestamp_ms=NOW_MS + n) for n in range(4)])
    source = ArchiveSource(path, Selection(until_ms=NOW_MS + 4, from_offset=1))
    source.end_at(NOW_MS + 3)
    chunks: AsyncIterator[list[Timed]] = source.chunks()
    assert [timed.record.offset async for chunk in chunks for timed in chunk] == [1, 2]


def test_a_span_counts_by_side_and_partition() -> None:
    span = Span()
    span.add([Timed(5, record(partition=1)), Timed(9, record(side="outbound", timestamp_ms=3)), Timed(7, record())])
    assert span.counts == {("inbound", 1): 1, ("outbound", 0): 1, ("inbound", 0): 1}
    assert (span.records, span.first_ms, span.last_ms, span.oldest_timestamp_ms) == (3, 5, 9, 3)


# ---------------------------------------------------------------------------------------------------- target


async def broken_off(*failures: KafkaError | None, sends: int = 99) -> str:
    """Give what a flush says whose deliveries fail, a partition each; None is not answered for. More can't be sent."""
    target = ReplayTarget(Connection("nowhere:1"), "lab.", Room(len(failures), None), len(failures), "one")
    for partition in range(len(failures)):
        target.add(record(partition=partition), record(partition=partition, key=None), None)

    async def send_batch(*_: Any, partition: int) -> asyncio.Future[None]:
        if partition >= sends:
            raise KafkaTimeoutError
        delivery: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if error := failures[partition]:
            asyncio.get_running_loop().call_soon(delivery.set_exception, error)
        return delivery

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target._producer, "send_batch", send_batch)
        patch.setattr(target._producer, "transaction", nullcontext)
        with pytest.raises(ClusterError) as raised:
            await asyncio.wait_for(target.flush(), 5)
    await asyncio.sleep(0)  # those that were sent before it could not be sent on fail now
    await target._producer.stop()
    return str(raised.value)


@pytest.mark.parametrize("sends", [3, 2])
async def test_of_deliveries_that_fail_one_is_told_and_none_is_complained_of(
    sends: int, caplog: pytest.LogCaptureFixture
) -> None:
    words = await broken_off(*(MessageSizeTooLargeError() for _ in range(3)), sends=sends)
    gc.collect()
    if sends == 3:
        assert words == "the replay broke off at lab.messages.inbound[0] ([Error 10] MessageSizeTooLargeError)"
    assert not caplog.records


async def test_a_delivery_that_fails_is_told_though_another_is_still_out() -> None:
    words = await broken_off(None, MessageSizeTooLargeError())
    assert words == "the replay broke off at lab.messages.inbound[1] ([Error 10] MessageSizeTooLargeError)"


@pytest.mark.parametrize("error", [ProducerFenced(), NotLeaderForPartitionError()])
async def test_only_what_may_pass_is_to_be_started_again(error: KafkaError) -> None:
    assert (await broken_off(error)).endswith("; start it again")


async def test_what_was_handed_over_is_written_meanwhile_and_its_failure_is_told_before_more_is() -> None:
    target = ReplayTarget(Connection("nowhere:1"), "lab.", Room(1, None), 1, "one")
    deliveries: list[asyncio.Future[None]] = []

    async def send_batch(*_: Any, **__: Any) -> asyncio.Future[None]:
        deliveries.append(asyncio.get_running_loop().create_future())
        return deliveries[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target._producer, "send_batch", send_batch)
        patch.setattr(target._producer, "transaction", nullcontext)
        target.add(record(), record(), None)
        await target.hand_over()
        await asyncio.sleep(0)
        assert (target.pending, target.written, len(deliveries)) == (0, 0, 1)
        target.add(record(), record(), None)
        asyncio.get_running_loop().call_soon(deliveries[0].set_result, None)
        await target.hand_over()
        await asyncio.sleep(0)
        assert (target.pending, target.written, len(deliveries)) == (0, 1, 2)
        deliveries[1].set_exception(MessageSizeTooLargeError())
        target.add(record(), record(), None)
        with pytest.raises(ClusterError, match="MessageSizeTooLarge"):
            await target.flush()
        assert (target.pending, target.written, len(deliveries)) == (1, 1, 2)
        await target.stop()


# ---------------------------------------------------------------------------------------------------- topics


class LyingThere(TopicSource):
    """Topics on which a record of each of these keys and values lies."""

    def __init__(self, selection: Selection, *rows: tuple[Any, Any, Any]) -> None:
        super().__init__(Connection("nowhere:1"), "acme.", 1, False, selection)
        self._tp = TopicPartition("acme.messages.inbound", 0)
        self._ends = {self._tp: 100}
        self._rows = rows

    def kept(self) -> list[int]:
        """Give the offsets of those that are taken."""
        records = [
            ConsumerRecord("acme.messages.inbound", 0, n, 1, 0, key, value, None, 0, 0, headers)
            for n, (key, value, headers) in enumerate(self._rows)
        ]
        return [record.offset for record in self._kept(self._tp, records)]


HUGE = Unread(1_500_000_000, "ab" * 32)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ((b"k", HUGE, ()), "found a value of 1,500,000,000 bytes, expected at most 1,048,576 bytes of each"),
        ((HUGE, HUGE, ()), "found a key of 1,500,000,000 bytes and a value of"),
        ((b"k", b"v", UnreadHeaders(14_000, 20)), "found 14,000 headers"),
    ],
)
def test_a_record_that_was_too_large_to_be_kept_is_named_or_left_out_and_counted(row: Any, words: str) -> None:
    rows = (b"k", b"v", ()), row, (b"l", b"v", ())
    with pytest.raises(ClusterError, match=words) as raised:
        LyingThere(Selection(), *rows).kept()
    assert str(raised.value).startswith("acme.messages.inbound[0]@1: ")
    assert "--leave-out-too-large" in str(raised.value)
    source = LyingThere(Selection(leaves_out_too_large=True), *rows)
    assert source.kept() == [0, 2]
    assert source.left_out == 1


def test_a_record_that_was_too_large_to_be_kept_and_that_nobody_asked_for_refuses_nothing() -> None:
    rows = (b"k", HUGE, ()), (HUGE, b"v", ()), (b"sms:1:77", b"v", ())
    source = LyingThere(Selection(contacts=frozenset({b"77"})), *rows)
    assert source.kept() == [2]
    assert source.left_out == 0
