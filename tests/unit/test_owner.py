"""The owner of a partition: what it takes, when its clock moves by itself, and under which token its state stands."""

import json
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.record.default_records import DefaultRecord
from aiokafka.record.memory_records import MemoryRecords

from processor.audit.records import rfc3339
from processor.kafka.log import NO_ENDS, LogEnds
from processor.settings import Settings
from processor.stream.owner import FloodGauge, Owner, Round
from processor.stream.transport import Carrier
from processor.topics import names
from processor.tracing.tracer import Tracer
from tests.scene import DAY, HOUR, SECOND, T0

IN, OUT = TopicPartition("messages.inbound", 0), TopicPartition("messages.outbound", 0)
LIVE = Settings(partitions=1, clock="live")
REPLAY = Settings(partitions=1, clock="event")
KEY = b"whatsapp:15550001:5511900000001"


class Bench:
    """An owner, and what lies on its two topics."""

    def __init__(self, settings: Settings = LIVE) -> None:
        self.owner = Owner(0, settings, settings.policy(), names(settings), Tracer())
        self.end = {IN: 0, OUT: 0}

    def put(
        self, tp: TopicPartition, *times_ms: int, value: bytes | None = None, written_ms: int | None = None
    ) -> None:
        """Let texts of these times arrive, as the next carrier."""
        start = self.end[tp]
        records = [
            DefaultRecord(start + n, written_ms or time_ms, 0, KEY, value or text(time_ms, f"{tp.topic}{n}"), [])
            for n, time_ms in enumerate(times_ms)
        ]
        self.end[tp] += len(records)
        assert self.owner.accept(Carrier(tp, start, self.end[tp], 0, records))

    def decide(self, noted_ms: int = 0, ends: dict[TopicPartition, int] | None = None) -> Round | None:
        """Decide with both topics read to what was put, or to `ends`."""
        return self.owner.decide(LogEnds(noted_ms, self.end if ends is None else ends), noted_ms)

    def said(self, noted_ms: int = 0, ends: dict[TopicPartition, int] | None = None) -> list[str]:
        """Decide, and give the ends of the ids of what was said."""
        return [event["id"].split("/", 1)[1] for event in events(self.decide(noted_ms, ends))]


def text(time_ms: int, id_: str) -> bytes:
    body = {"id": id_, "type": "text", "business_id": "15550001", "contact_id": "5511900000001"}
    return json.dumps(body | {"time": rfc3339(time_ms)}).encode()


def events(round_: Round | None) -> list[dict[str, Any]]:
    """Read the events of a round back from its batches, in the order of their sequence."""
    found = []
    for batch in round_.batches if round_ else []:
        memory = MemoryRecords(bytes(batch._build()))
        while (of_batch := memory.next_batch()) is not None:
            found += [json.loads(record.value) for record in of_batch if b'"subject"' in (record.value or b"")]
    return sorted(found, key=lambda event: str(event["sequence"]))


# ------------------------------------------------------------------------------------------------------------- taking


def test_a_carrier_that_begins_where_the_last_one_stopped_is_taken_and_no_other() -> None:
    owner = Bench().owner
    records = [DefaultRecord(n, T0, 0, KEY, text(T0, f"m{n}"), []) for n in range(3)]
    assert owner.accept(Carrier(IN, 0, 3, 0, records))
    assert not owner.accept(Carrier(IN, 0, 3, 0, records))  # stale: what is there already
    assert not owner.accept(Carrier(IN, 4, 7, 0, records))  # a jump: something lies between
    assert owner.accept(Carrier(IN, 3, 9, 0, []))  # empty: markers and aborted records
    assert owner.buffers[0].taken == 9
    assert owner.buffers[0].offsets == [0, 1, 2]


def test_after_standing_elsewhere_nothing_that_had_arrived_is_left() -> None:
    bench = Bench()
    bench.put(IN, T0)
    bench.owner.stand_at((40, 50))
    assert not bench.owner.has_input()
    assert [buffer.taken for buffer in bench.owner.buffers] == [40, 50]


def test_the_offsets_of_both_topics_go_with_each_round_over_the_gaps() -> None:
    bench = Bench()
    bench.put(IN, T0, T0 + 1)
    assert bench.owner.accept(Carrier(IN, 2, 8, 0, []))
    assert bench.owner.accept(Carrier(OUT, 0, 5, 0, []))
    round_ = bench.decide(ends={IN: 8, OUT: 5})
    assert round_ is not None
    assert round_.positions == {IN: 8, OUT: 5}
    assert round_.records == 2


def test_an_owner_is_behind_as_long_as_anything_lies_before_the_ends_that_were_asked_for() -> None:
    owner = Bench().owner
    assert not owner.is_behind()
    owner.waiting_since_s = 0.0
    owner.note_ends(LogEnds(0, {IN: 2, OUT: 0}))
    assert owner.is_behind()
    assert owner.waiting_since_s > 0  # from now on, not from when it had its last input
    owner.waiting_since_s = since_s = 1.0
    owner.note_ends(LogEnds(0, {IN: 3}))
    assert (owner.is_behind(), owner.waiting_since_s) == (True, since_s)
    assert owner.accept(Carrier(IN, 0, 3, 0, []))
    assert not owner.is_behind()
    owner.stand_at((5, 0))
    assert not owner.is_behind()


def test_a_send_waits_for_the_message_that_may_still_come_before_it() -> None:
    bench = Bench(REPLAY)
    bench.put(OUT, T0 + SECOND)
    assert bench.owner.waits_for_end()
    assert bench.decide(ends={}) is None  # nothing is known of the end of inbound
    assert bench.decide(ends={IN: 1, OUT: 1}) is None  # a message is there and has not arrived
    bench.put(IN, T0)
    assert bench.said() == ["opened", "messages.outbound0/accepted"]


def test_records_of_a_round_are_limited_and_the_rest_stays() -> None:
    bench = Bench(Settings(partitions=1, clock="event", batch_records_max=2))
    bench.put(IN, T0, T0 + 1, T0 + 2)
    first, second = bench.decide(), bench.decide()
    assert first is not None
    assert second is not None
    assert (first.positions[IN], second.positions[IN]) == (2, 3)


# -------------------------------------------------------------------------------------------------------------- flood


def test_a_flood_is_more_than_the_share_of_a_full_window() -> None:
    gauge = FloodGauge(10, 0.5)
    assert not gauge.add(9, 9)  # not yet a full window
    assert gauge.add(1, 0)  # 9 of 10
    assert gauge.add(4, 0)
    assert not gauge.add(9, 0)


def test_exactly_the_share_is_no_flood() -> None:
    assert not FloodGauge(10, 0.5).add(10, 5)
    assert FloodGauge(10, 0.5).add(10, 6)


def test_old_records_leave_the_window() -> None:
    gauge = FloodGauge(10, 0.5)
    assert [gauge.add(5, 5), gauge.add(5, 5)] == [False, True]
    assert [gauge.add(5, 0) for _ in range(3)] == [False, False, False]


@pytest.mark.parametrize(("wish", "stops"), [("alert", False), ("stop", True)])
def test_a_flood_stops_the_partition_only_where_that_is_asked_for(wish: Any, stops: bool) -> None:
    bench = Bench(Settings(partitions=1, dead_letter_flood=wish, dead_letter_flood_window=10))
    bench.put(IN, *[T0] * 20, value=b"noise")
    assert bench.owner.is_stopped is stops


# --------------------------------------------------------------------------------------------------------- idle clock


def opened(settings: Settings = LIVE) -> Bench:
    """Give a bench with one window, opened at T0."""
    bench = Bench(settings)
    bench.put(IN, T0)
    assert bench.said(T0) == ["opened"]
    return bench


def test_idle_time_moves_the_clock_to_the_noted_time_less_the_grace() -> None:
    """W4 E1"""
    bench = opened()
    assert bench.said(T0 + DAY - 2 * HOUR) == []  # due now, and the grace is not over
    assert bench.said(T0 + DAY - 2 * HOUR + SECOND) == [f"expiring/{T0 + DAY}/7200"]
    assert bench.said(T0 + DAY + SECOND - 1) == []
    assert bench.said(T0 + DAY + SECOND) == ["closed"]


def test_the_clock_stands_while_one_topic_is_not_known_to_be_read_to_its_end() -> None:
    bench = opened()
    late_ms = T0 + 2 * DAY
    assert bench.said(late_ms, {IN: 1}) == []
    assert bench.said(late_ms, {OUT: 0}) == []
    assert bench.said(late_ms, {IN: 2, OUT: 0}) == []  # one record has not arrived
    assert bench.decide(ends=NO_ENDS.offsets) is None


def test_what_was_unread_extends_the_window_before_idle_time_ends_it() -> None:
    """W3"""
    bench = opened()
    bench.put(IN, T0 + DAY - SECOND, written_ms=T0 + DAY + HOUR)
    assert bench.said(T0 + DAY + HOUR) == [f"expiring/{T0 + DAY}/7200"]  # its own due time, then the message


def test_a_process_that_was_held_still_moves_its_clock_to_the_noted_time_and_not_to_now() -> None:
    """W3 W4"""
    bench = opened()
    noted_ms, now_ms = T0 + HOUR, T0 + 2 * DAY  # in between it stood still: what was written meanwhile is not read
    assert bench.owner.decide(LogEnds(noted_ms, bench.end), now_ms) is None
    assert bench.said(T0 + DAY + SECOND)[-1] == "closed"


def test_the_clock_stands_while_anything_waits_to_be_applied() -> None:
    """W3"""
    bench = Bench(Settings(partitions=1, clock="live", batch_records_max=1))
    bench.put(IN, T0, T0 + HOUR)
    assert bench.said(T0 + DAY + HOUR - SECOND) == ["opened"]  # the second message has arrived, and is not applied
    assert bench.said(T0 + DAY + HOUR - SECOND) == [f"expiring/{T0 + DAY + HOUR}/7200"]


def test_a_replay_does_not_look_at_the_wall_clock() -> None:
    bench = opened(REPLAY)
    assert bench.decide(T0 + 10 * DAY) is None


def test_a_tick_that_fires_nothing_commits_nothing() -> None:
    bench = opened()
    assert bench.decide(T0 + HOUR) is None


# -------------------------------------------------------------------------------------------------------------- token


def test_deciding_clears_the_token_and_only_the_newest_rounds_commit_sets_it() -> None:
    bench = Bench(REPLAY)
    bench.owner.token = "before.1"
    bench.put(IN, T0)
    first = bench.decide()
    tokens = [bench.owner.token]
    bench.put(IN, T0 + 1)
    second = bench.decide()
    assert first is not None
    assert second is not None
    for round_, token in (first, "here.1"), (second, "here.2"):
        bench.owner.on_committed(round_, token)
        tokens.append(bench.owner.token)
    assert tokens == [None, None, "here.2"]  # None too while the second is decided and not known to be committed


def test_where_nothing_is_decided_the_token_stays() -> None:
    bench = Bench(REPLAY)
    bench.owner.token = "here.1"
    assert bench.decide() is None
    assert bench.owner.token == "here.1"


def test_progress_is_of_the_round_and_not_of_what_was_decided_since() -> None:
    bench = Bench(REPLAY)
    bench.put(IN, T0)
    first = bench.decide()
    bench.put(IN, T0 + DAY + HOUR)
    assert bench.decide() is not None
    assert first is not None
    progress = bench.owner.progress(first, "here.1", "janela-w")
    assert (progress.clock_ms, progress.sequence, progress.partitions) == (T0, 2, 1)
    assert bench.owner.sequence > progress.sequence


def test_outputs_and_window_states_are_numbered_without_a_gap_over_rounds() -> None:
    bench = Bench(REPLAY)
    bench.put(IN, T0)
    first = bench.decide()
    bench.put(IN, T0 + DAY + HOUR)
    second = bench.decide()
    numbers = [int(event["sequence"]) for round_ in (first, second) for event in events(round_)]
    assert numbers == [1, 3, 4, 5]  # 2 and 6 are the window's own records
