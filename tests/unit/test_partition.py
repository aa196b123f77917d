"""A partition, pure: the clock, the order of timers and events, rounds of a limited size, restoring (W4, W9, E1)."""

from itertools import pairwise

import pytest

from processor.core import partition as partition_module
from processor.core.decisions import Decision, Effects
from processor.core.events import Event, Message
from processor.core.partition import Partition
from processor.core.policy import Policy
from processor.core.window import Window
from tests.scene import DAY, HOUR, KEY, MINUTE, OTHER_KEY, T0, Scene, consent, echoed, said, sent, tick, told

QUIET = Policy(expiring_before_ms=())


def keys(count: int) -> list[bytes]:
    return [f"w:1:{number:03d}".encode() for number in range(count)]


def in_rounds(partition: Partition, events: list[Event]) -> list[list[Decision]]:
    """Apply the events as the owner does: again with the rest, until all are applied."""
    rounds = []
    while events:
        effects = Effects()
        events = events[partition.apply(events, effects) :]
        rounds.append(effects.outputs)
    return rounds


def test_the_clock_is_the_largest_event_time_and_never_goes_back() -> None:
    """W9"""
    scene = Scene()
    assert scene.partition.clock_ms == 0
    for after, clock in ((5, 5), (3, 5), (7, 7), (-DAY, 7)):
        scene.play(tick(after))
        assert scene.partition.clock_ms == T0 + clock
    scene.pass_until(6)
    assert scene.partition.clock_ms == T0 + 7


@pytest.mark.parametrize(
    "event",
    [said(5), sent(5), echoed(5), tick(5), consent(5, "all", granted=True)],
    ids=lambda event: type(event).__name__,
)
def test_every_event_moves_the_clock(event: Event) -> None:
    """W9"""
    scene = Scene()
    scene.play(event)
    assert scene.partition.clock_ms == T0 + 5


def test_what_is_due_at_or_before_an_event_comes_before_it() -> None:
    """W4 E1 S8"""
    scene = Scene()
    scene.play(said(0), said(1, key=OTHER_KEY))
    assert scene.play(sent(DAY, key=OTHER_KEY)) == ["expiring 7200"] * 2 + ["closed", "accepted s1: window-open"]
    assert scene.play(sent(DAY + 1, key=OTHER_KEY)) == ["closed", "rejected s1: window-closed"]


def test_an_event_behind_the_clock_fires_nothing() -> None:
    scene = Scene()
    scene.play(said(0), tick(21 * HOUR))
    assert scene.play(tick(0), sent(HOUR)) == ["accepted s1: window-open"]


def test_an_answer_between_two_dues_is_seen_by_the_second() -> None:
    """E3"""
    scene = Scene()
    scene.play(said(0), tick(22 * HOUR), echoed(23 * HOUR))
    scene.pass_until(DAY)
    unanswered = [getattr(decision, "is_unanswered", None) for decision in scene.decisions]
    assert unanswered == [None, True, False]


def test_the_next_due_time_is_never_after_the_first_thing_that_is_due() -> None:
    """E1"""
    scene = Scene()
    assert scene.partition.next_due_ms > T0 + 1000 * DAY
    for after in (0, 5 * HOUR, 20 * HOUR):
        scene.play(said(after))
        assert scene.partition.next_due_ms <= T0 + after + 22 * HOUR
    scene.pass_until(42 * HOUR)
    assert T0 + 42 * HOUR < scene.partition.next_due_ms <= T0 + 44 * HOUR


def test_effects_are_something_where_anything_is_to_be_written() -> None:
    assert not Effects()
    assert Effects(windows={KEY: None})
    assert Effects(consents={KEY: None})


def test_a_key_that_changes_many_times_in_a_round_is_written_once() -> None:
    """W3"""
    effects = Effects()
    Partition(QUIET).apply([said(0), said(1), echoed(2), said(DAY + 2)], effects)
    assert list(effects.windows) == [KEY]


def test_a_window_that_opens_and_is_forgotten_in_one_round_leaves_a_tombstone() -> None:
    scene, effects = Scene(QUIET), Effects()
    scene.partition.apply([said(0), tick(4 * DAY)], effects)
    assert list(effects.windows) == [KEY]
    assert not scene.knows()


# ---------------------------------------------------------------------------------------------------- rounds of a limit


@pytest.mark.parametrize("outputs_max", [1, 2, 3, 7, 100])
def test_a_full_round_stops_between_two_due_times_and_goes_on_where_it_was(
    outputs_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W4"""
    opened: list[Event] = [said(i // 3 * MINUTE, key=key) for i, key in enumerate(keys(30))]
    events: list[Event] = [*opened, tick(2 * DAY), said(2 * DAY)]
    whole = [decision for round_ in in_rounds(Partition(Policy()), events) for decision in round_]

    monkeypatch.setattr(partition_module, "OUTPUTS_MAX", outputs_max)
    partition = Partition(Policy())
    partition.apply(opened, Effects())
    rounds = in_rounds(partition, events[30:])
    assert [decision for round_ in rounds for decision in round_] == whole[30:]
    for round_, next_ in pairwise(rounds):
        assert outputs_max <= len(round_) < outputs_max + 3
        assert round_[-1].time_ms < next_[0].time_ms  # what is due together is committed together
    assert len(rounds) > 60 // (outputs_max + 3)


def test_a_full_rounds_clock_stands_at_the_last_due_time_that_fired(monkeypatch: pytest.MonkeyPatch) -> None:
    """W4"""
    monkeypatch.setattr(partition_module, "OUTPUTS_MAX", 1)
    scene = Scene(QUIET)
    scene.partition.apply([said(i, key=key) for i, key in enumerate(keys(3))], Effects())
    effects = Effects()
    assert scene.partition.apply([tick(2 * DAY)], effects) == 0
    assert (told(effects.outputs), scene.partition.clock_ms) == (["closed"], T0 + DAY)

    # Committed, and the worker dies here: its successor does the rest.
    scene = scene.restarted()
    effects = Effects()
    assert not scene.partition.advance(T0 + 2 * DAY, effects)
    assert not scene.partition.advance(T0 + 2 * DAY, effects)  # still full: nothing more
    assert [decision.key for decision in effects.outputs] == [b"w:1:001"]
    assert scene.play(tick(2 * DAY)) == ["closed"]


def test_no_event_is_applied_before_the_timers_that_did_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """S8"""
    monkeypatch.setattr(partition_module, "OUTPUTS_MAX", 2)
    partition = Partition(QUIET)
    partition.apply([said(i, key=key) for i, key in enumerate(keys(5))], Effects())
    rounds = in_rounds(partition, [sent(DAY + 4, key=keys(5)[4], id_="s1"), sent(DAY + 4, key=keys(5)[4], id_="s2")])
    assert [told(round_) for round_ in rounds] == [
        ["closed", "closed"],
        ["closed", "closed"],
        ["closed", "rejected s1: window-closed", "rejected s2: window-closed"],
    ]


# ------------------------------------------------------------------------------------------------------------ restoring


def test_a_restored_partition_goes_on_as_if_nothing_had_happened() -> None:
    """W3 W4 E1 E3 S4"""
    before: list[Event] = [said(0), echoed(1), said(2, key=OTHER_KEY), consent(3, "all", granted=False, key=OTHER_KEY)]
    after: list[Event] = [said(10 * HOUR), sent(11 * HOUR, key=OTHER_KEY), tick(3 * DAY), said(3 * DAY), tick(9 * DAY)]
    straight, broken = Scene(), Scene()
    straight.play(*before, *after)
    broken.play(*before)
    resumed = broken.restarted()
    resumed.play(*after)
    assert broken.decisions + resumed.decisions == straight.decisions
    assert dict(resumed.partition.windows) == dict(straight.partition.windows)
    assert resumed.partition.consents == straight.partition.consents
    assert resumed.partition.clock_ms == straight.partition.clock_ms


@pytest.mark.parametrize("stop", [21 * HOUR, 22 * HOUR, 23 * HOUR, DAY, DAY + 1, 95 * HOUR, 4 * DAY])
def test_what_had_fired_by_the_committed_clock_does_not_fire_again(stop: int) -> None:
    """E1 W4"""
    scene = Scene()
    scene.play(said(0))
    scene.pass_until(stop)
    resumed = scene.restarted()
    resumed.pass_until(5 * DAY)
    assert told(scene.decisions) + told(resumed.decisions) == ["opened", "expiring 7200", "closed"]
    assert not resumed.knows()


def test_a_policy_with_other_thresholds_warns_by_them_after_the_restart() -> None:
    """E1"""
    scene = Scene()
    scene.play(said(0))
    scene.pass_until(21 * HOUR)
    other = scene.restarted(Policy(expiring_before_ms=(4 * HOUR, HOUR)))
    assert other.pass_until(DAY) == ["expiring 3600", "closed"]  # the one at 20 h is past for good


def test_a_restored_window_may_have_been_closed_by_the_provider() -> None:
    """W11: rules of a later day leave records that are read today."""
    partition, effects = Partition(QUIET), Effects()
    window = Window(T0, T0 + DAY, T0, None, T0 + HOUR, "provider-refused")
    partition.restore(T0 + 2 * HOUR, [(KEY, window)], [])
    partition.apply([sent(HOUR - 1), sent(HOUR), said(0), said(1)], effects)
    assert told(effects.outputs) == ["accepted s1: window-open", "rejected s1: window-closed", "opened"]


# --------------------------------------------------------------------------------------------------------------- counts


def test_what_changed_no_window_is_counted_by_its_cause() -> None:
    """W8 W9 W13a"""
    scene = Scene()
    scene.play(tick(2 * DAY), said(0), said(2 * DAY, "hologram"), sent(2 * DAY, "hologram"))
    assert dict(scene.partition.counts) == {"silent": 1, "late": 1, "unknown-type": 2}


def test_the_same_calls_give_the_same_effects() -> None:
    """W10"""
    events: list[Event] = [
        Message(key, T0 + i * 37 * MINUTE, "m", "text") for i, key in enumerate(keys(40) + keys(20) + keys(40))
    ]
    first, second = Scene(), Scene()
    first.play(*events, tick(5 * DAY))
    second.play(*events, tick(5 * DAY))
    assert first.decisions == second.decisions
    assert list(first.partition.windows) == list(second.partition.windows)
