"""The simulated traffic: reproducible, as much as was asked for, and with everything in it that a worker must bear."""

from collections import Counter
from collections.abc import Iterable

import pytest

from processor.codec.inputs import DeadLetter, InputDecoder
from processor.core.decisions import Closed, Effects, Expiring
from processor.core.events import Event
from processor.core.partition import Partition
from processor.core.policy import Policy
from processor.traffic import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Record, Timeline, Traffic

BEGIN_MS = 1_763_607_600_000  # 2025-11-20 03:00 UTC
WRITTEN_MS = BEGIN_MS + 30 * DAY_MS  # when the records are put on their topics: after all their events


def decoded(records: Iterable[Record], partition: Partition) -> list[tuple[Record, Event | DeadLetter]]:
    """Read records as the worker's only partition would."""
    decoder = InputDecoder(0, 1, partition.windows, 65_536)
    read = {"inbound": decoder.inbound, "outbound": decoder.outbound}
    return [(record, read[record.side](record.key, record.value, WRITTEN_MS)) for record in records]


def new_partition() -> Partition:
    return Partition(Policy())


def apply(records: Iterable[Record], partition: Partition) -> Effects:
    """Apply what can be read, in the order given."""
    effects = Effects()
    events = [event for _, event in decoded(records, partition) if not isinstance(event, DeadLetter)]
    assert partition.apply(events, effects) == len(events)
    return effects


# ------------------------------------------------------------------------------------------------- reproducible


def test_the_same_arguments_give_the_same_records_in_steps_of_any_size() -> None:
    at_once = Traffic(1, BEGIN_MS, 2000).until(BEGIN_MS + 2 * DAY_MS)
    stepwise = Traffic(1, BEGIN_MS, 2000)
    in_steps = [
        record
        for moment_ms in range(BEGIN_MS, BEGIN_MS + 2 * DAY_MS + 1, 7 * MINUTE_MS + 1)
        for record in stepwise.until(moment_ms)
    ]
    assert in_steps + stepwise.until(BEGIN_MS + 2 * DAY_MS) == at_once


def test_another_seed_gives_other_records() -> None:
    first, second = (Traffic(seed, BEGIN_MS, 2000).until(BEGIN_MS + HOUR_MS) for seed in (1, 2))
    assert first != second


def test_records_come_in_the_order_of_their_arrival_and_none_before_it_is_asked_for() -> None:
    traffic = Traffic(3, BEGIN_MS, 5000)
    moment_ms = BEGIN_MS + 8 * HOUR_MS
    arrivals = [record.arrives_ms for record in traffic.until(moment_ms)]
    assert arrivals == sorted(arrivals)
    assert arrivals[-1] < moment_ms
    assert min(record.arrives_ms for record in traffic.until(moment_ms + DAY_MS)) >= moment_ms


def test_no_event_arrives_before_it_has_happened() -> None:
    records = Traffic(4, BEGIN_MS, 5000).until(BEGIN_MS + DAY_MS)
    for record, event in decoded(records, new_partition()):
        assert isinstance(event, DeadLetter) or event.event_time_ms <= record.arrives_ms


def test_of_one_moment_the_customers_side_comes_first() -> None:
    sides: dict[tuple[int, bytes], list[str]] = {}
    for record in Traffic(5, BEGIN_MS, 10_000).until(BEGIN_MS + 8 * HOUR_MS):
        sides.setdefault((record.arrives_ms, record.key), []).append(record.side)
    assert all(moment == sorted(moment) for moment in sides.values())


# -------------------------------------------------------------------------------------------- as much as asked for


@pytest.mark.parametrize("events_per_day", [300, 2000])
def test_a_day_has_as_many_events_as_were_asked_for_on_average(events_per_day: int) -> None:
    traffic, days = Traffic(6, BEGIN_MS, events_per_day), 12
    traffic.until(BEGIN_MS + DAY_MS)  # what a story leaves for the next day is not there yet on the first
    assert len(traffic.until(BEGIN_MS + (1 + days) * DAY_MS)) / days == pytest.approx(events_per_day, rel=0.08)


def test_the_hours_are_a_business_s() -> None:
    midnight_ms = BEGIN_MS - 3 * HOUR_MS
    arrivals = Counter(
        (record.arrives_ms - midnight_ms) // HOUR_MS % 24
        for record in Traffic(7, BEGIN_MS, 3000).until(midnight_ms + 4 * DAY_MS)
    )
    assert min(arrivals[hour] for hour in range(9, 17)) > 3 * arrivals[2]


def test_a_rate_that_is_set_holds_from_there() -> None:
    traffic = Traffic(8, BEGIN_MS, 500)
    now_ms = BEGIN_MS + DAY_MS + 7 * HOUR_MS
    traffic.until(now_ms)
    traffic.events_per_day = 100 * DAY_MS / SECOND_MS
    assert len(traffic.until(now_ms + MINUTE_MS)) > 500


def test_at_any_rate_customers_who_come_back_do_so_about_once_a_day() -> None:
    records = Traffic(9, BEGIN_MS, 20_000, regulars=50).until(BEGIN_MS + DAY_MS)
    assert len({record.key for record in records}) > 2_000


# ------------------------------------------------------------------------------------------- with everything in it


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_from_the_second_day_on_every_six_hours_bring_about_all_kinds_of_events(seed: int) -> None:
    traffic, partition = Traffic(seed, BEGIN_MS, 1800), new_partition()
    apply(traffic.until(BEGIN_MS + DAY_MS), partition)
    for quarter in range(1, 13):
        effects = apply(traffic.until(BEGIN_MS + DAY_MS + quarter * 6 * HOUR_MS), partition)
        kinds = {type(output).__name__ for output in effects.outputs}
        assert kinds == {"Opened", "Expiring", "Closed", "Accepted", "Rejected"}


def test_sends_are_refused_for_every_reason() -> None:
    effects = apply(Traffic(10, BEGIN_MS, 2000).until(BEGIN_MS + 3 * DAY_MS), new_partition())
    reasons = {getattr(output, "reason", "") for output in effects.outputs if type(output).__name__ == "Rejected"}
    assert reasons == {"opt-out", "marketing-opt-out", "window-closed", "no-window", "no-consent"}


def test_after_whole_days_windows_are_about_to_end_and_to_warn() -> None:
    traffic, partition = Traffic(11, BEGIN_MS, 1800), new_partition()
    apply(traffic.until(BEGIN_MS + 7 * DAY_MS), partition)
    effects = Effects()
    assert partition.advance(BEGIN_MS + 7 * DAY_MS + 20 * MINUTE_MS, effects)
    kinds = Counter(type(output) for output in effects.outputs)
    assert kinds[Closed] >= 12
    assert kinds[Expiring] >= 12


def test_some_records_come_late_some_twice_and_some_so_late_that_they_open_nothing() -> None:
    records = Traffic(12, BEGIN_MS, 3000).until(BEGIN_MS + 4 * DAY_MS)
    late_ms = [
        record.arrives_ms - event.event_time_ms
        for record, event in decoded(records, new_partition())
        if not isinstance(event, DeadLetter) and event.event_time_ms < record.arrives_ms
    ]
    assert len(records) * 0.01 < len(late_ms) < len(records) * 0.04
    assert max(late_ms) > DAY_MS
    twice = [count for count in Counter(record.value for record in records).values() if count > 1]
    assert len(twice) > len(records) * 0.005


def test_few_records_can_t_be_read_and_for_all_sorts_of_reasons() -> None:
    read = decoded(Traffic(13, BEGIN_MS, 4000).until(BEGIN_MS + 2 * DAY_MS), new_partition())
    reasons = Counter(event.reason for _, event in read if isinstance(event, DeadLetter))
    assert set(reasons) == {"not-json", "missing-field", "bad-field", "bad-time", "wrong-key", "future-time"}
    assert reasons.total() < len(read) * 0.01


# ----------------------------------------------------------------------------------------------------- the timeline


def test_days_go_by_fast_until_the_present_and_as_the_clock_goes_from_there() -> None:
    began_ms = BEGIN_MS + 2 * DAY_MS - 30 * SECOND_MS
    timeline = Timeline(BEGIN_MS, began_ms, simulated_s=30)
    assert timeline.days == 2
    assert [timeline.event_time_ms(s) for s in (0, 15, 30, 31.5)] == [
        BEGIN_MS,
        BEGIN_MS + DAY_MS,
        BEGIN_MS + 2 * DAY_MS,
        BEGIN_MS + 2 * DAY_MS + 1500,
    ]
    assert [timeline.is_simulated(s) for s in (0, 29.9, 30)] == [True, True, False]
    assert [timeline.speed(s) for s in (29.9, 30)] == [2 * DAY_MS / (30 * SECOND_MS), 1]


def test_an_event_is_never_ahead_of_the_wall_clock() -> None:
    timeline = Timeline(BEGIN_MS, BEGIN_MS + DAY_MS, simulated_s=10)
    assert all(timeline.event_time_ms(s / 10) <= timeline.began_ms + s * 100 for s in range(200))
