"""The merge of a partition's two inputs: by event time, each in its own order, and only as far as can be known."""

import itertools
import random

import pytest
from aiokafka import TopicPartition
from aiokafka.record.default_records import DefaultRecord

from processor.codec.inputs import DeadLetter
from processor.core.events import Event, Noted
from processor.stream.merge import INBOUND, OUTBOUND, InputBuffer, merge

TPS = TopicPartition("messages.inbound", 0), TopicPartition("messages.outbound", 0)
BOTH, NEITHER = (True, True), (False, False)
BAD = DeadLetter("not-json", "not JSON")


def record(offset: int) -> DefaultRecord:
    return DefaultRecord(offset, 0, 0, None, None, [])


def buffer(side: int, *times_ms: int | DeadLetter, start: int = 0) -> InputBuffer:
    """Give a buffer of events at these times, or of dead letters, at offsets from `start` on."""
    filled = InputBuffer(TPS[side], start)
    decoded: list[Event | DeadLetter] = [
        Noted(b"w:1:2", it, "silent") if isinstance(it, int) else it for it in times_ms
    ]
    filled.add(decoded, [record(start + n) for n in range(len(decoded))])
    filled.taken = start + len(decoded)
    return filled


def merged(
    first: InputBuffer, second: InputBuffer, ended: tuple[bool, bool] = BOTH, limit: int = 100
) -> list[tuple[int, int]]:
    """Merge, and give side and time of each event."""
    events, sides = merge(first, second, ended, limit)
    assert len(events) == len(sides)
    return [(side, event.event_time_ms) for side, event in zip(sides, events, strict=True)]


def test_the_earlier_head_goes_first_and_inbound_where_they_are_equal() -> None:
    assert merged(buffer(INBOUND, 1, 3, 3, 9), buffer(OUTBOUND, 2, 3, 8)) == [
        (INBOUND, 1),
        (OUTBOUND, 2),
        (INBOUND, 3),
        (INBOUND, 3),
        (OUTBOUND, 3),
        (OUTBOUND, 8),
        (INBOUND, 9),
    ]


def test_a_topics_own_order_is_kept_where_its_times_go_back() -> None:
    found = merged(buffer(INBOUND, 5, 1, 7), buffer(OUTBOUND, 4, 6))
    assert found == [(OUTBOUND, 4), (INBOUND, 5), (INBOUND, 1), (OUTBOUND, 6), (INBOUND, 7)]


@pytest.mark.parametrize(("ended", "goes_on"), [(NEITHER, False), ((False, True), True), ((True, False), False)])
def test_where_outbound_is_empty_inbound_goes_on_only_if_outbound_was_read_to_its_end(
    ended: tuple[bool, bool], goes_on: bool
) -> None:
    assert merged(buffer(INBOUND, 1, 2), buffer(OUTBOUND), ended) == ([(INBOUND, 1), (INBOUND, 2)] if goes_on else [])


@pytest.mark.parametrize(("ended", "goes_on"), [(NEITHER, False), ((False, True), False), ((True, False), True)])
def test_where_inbound_is_empty_outbound_goes_on_only_if_inbound_was_read_to_its_end(
    ended: tuple[bool, bool], goes_on: bool
) -> None:
    assert merged(buffer(INBOUND), buffer(OUTBOUND, 1), ended) == ([(OUTBOUND, 1)] if goes_on else [])


def test_the_merge_stops_at_the_last_head_of_a_topic_that_may_have_more() -> None:
    assert merged(buffer(INBOUND, 1, 4), buffer(OUTBOUND, 2, 3, 5), NEITHER) == [
        (INBOUND, 1),
        (OUTBOUND, 2),
        (OUTBOUND, 3),
        (INBOUND, 4),
    ]


@pytest.mark.parametrize("limit", range(1, 8))
def test_no_more_than_the_limit_is_taken(limit: int) -> None:
    whole = merged(buffer(INBOUND, 1, 2, 9), buffer(OUTBOUND, 3, 4, 5))
    assert merged(buffer(INBOUND, 1, 2, 9), buffer(OUTBOUND, 3, 4, 5), limit=limit) == whole[:limit]


def test_pieces_give_the_same_order_as_the_whole() -> None:
    chance = random.Random(7)
    for _ in range(200):
        times = [[chance.randrange(12) for _ in range(chance.randrange(12))] for _ in TPS]
        whole = merged(buffer(INBOUND, *times[0]), buffer(OUTBOUND, *times[1]))
        buffers = InputBuffer(TPS[0], 0), InputBuffer(TPS[1], 0)
        found: list[tuple[int, int]] = []
        arrived = [0, 0]
        while len(found) < len(whole):
            side = chance.randrange(2)
            events: list[Event | DeadLetter] = [
                Noted(b"w:1:2", it, "silent") for it in times[side][arrived[side] : arrived[side] + 2]
            ]
            buffers[side].add(events, [record(arrived[side] + n) for n in range(len(events))])
            arrived[side] += len(events)
            ended = arrived[0] == len(times[0]), arrived[1] == len(times[1])
            piece = merged(*buffers, ended, limit=chance.randint(1, 4))
            for of_side, it in enumerate(buffers):
                it.drop_first(sum(side == of_side for side, _ in piece))
            found += piece
        assert found == whole


def test_the_position_is_the_first_that_is_not_applied_and_past_the_gaps_where_all_is() -> None:
    inbound = buffer(INBOUND, 1, 2, start=10)
    inbound.taken = 20  # what came after the two records were markers
    assert inbound.position == 10
    inbound.drop_first(1)
    assert inbound.position == 11
    inbound.drop_first(1)
    assert inbound.position == 20


def test_dead_letters_leave_when_the_position_passes_them_and_not_before() -> None:
    inbound = buffer(INBOUND, BAD, 1, BAD, BAD, 2, BAD)
    left = [[bad.record.offset for bad in inbound.drop_first(count)] for count in (0, 1, 1)]
    assert left == [[0], [2, 3], [5]]
    assert inbound.drop_first(0) == []
    assert inbound.position == 6


def test_dead_letters_alone_do_not_wait_for_anything() -> None:
    inbound = buffer(INBOUND, BAD, BAD)
    assert merged(inbound, buffer(OUTBOUND), NEITHER) == []
    assert [bad.record.offset for bad in inbound.drop_first(0)] == [0, 1]


def test_what_was_bad_is_counted_and_keeps_its_place() -> None:
    for good in itertools.product([True, False], repeat=3):
        decoded: list[Event | DeadLetter] = [Noted(b"w:1:2", 1, "silent") if it else BAD for it in good]
        filled = InputBuffer(TPS[0], 0)
        assert filled.add(decoded, [record(n) for n in range(3)]) == good.count(False)
        assert filled.offsets == [n for n, it in enumerate(good) if it]
        assert [bad.record.offset for bad in filled.bad] == [n for n, it in enumerate(good) if not it]
        assert {bad.tp for bad in filled.bad} <= {TPS[0]}
