"""Timers, pure: reminders in buckets, asked for their due time when the clock reaches them (E1, W4)."""

import random

import pytest

from processor.core.timers import NEVER_MS, Timers
from tests.scene import DAY, HOUR, KEY, MINUTE, SECOND, T0, Scene, said, tick

BUCKET_MS = 1 << 18


class Calendar:
    """The due times that windows would have, by key, and timers over them."""

    def __init__(self) -> None:
        self.due_ms: dict[bytes, int] = {}
        self.asked: list[bytes] = []
        self.timers = Timers(self._due_of)

    def _due_of(self, key: bytes) -> int | None:
        self.asked.append(key)
        return self.due_ms.get(key)

    def set(self, key: bytes, due_ms: int) -> None:
        """Give the key a due time, and a reminder."""
        self.due_ms[key] = due_ms
        self.timers.arm(due_ms, key)

    def pop_all(self, until_ms: int) -> list[tuple[int, bytes]]:
        """Take all that is due, as the partition does."""
        popped = []
        while (timer := self.timers.pop(until_ms)) is not None:
            popped.append(timer)
        return popped


def test_nothing_is_due_where_nothing_was_armed() -> None:
    timers = Timers(lambda _: None)
    assert timers.pop(NEVER_MS) is None
    assert timers.earliest_ms == NEVER_MS


@pytest.mark.parametrize("due_ms", [1, BUCKET_MS - 1, BUCKET_MS, BUCKET_MS + 1, T0])
def test_a_timer_comes_at_its_due_time_and_not_before(due_ms: int) -> None:
    """E1 W4"""
    calendar = Calendar()
    calendar.set(KEY, due_ms)
    assert calendar.timers.earliest_ms <= due_ms
    assert calendar.pop_all(due_ms - 1) == []
    assert calendar.timers.earliest_ms <= due_ms
    assert calendar.pop_all(due_ms) == [(due_ms, KEY)]
    assert calendar.pop_all(NEVER_MS - 1) == []
    assert calendar.timers.earliest_ms == NEVER_MS


def test_they_come_in_the_order_of_time_and_then_of_key() -> None:
    """W4"""
    calendar, numbers = Calendar(), random.Random(1)
    for number in range(2000):
        calendar.set(f"w:1:{number:04d}".encode(), T0 + numbers.randrange(20 * BUCKET_MS) // SECOND * SECOND)
    due = sorted((due_ms, key) for key, due_ms in calendar.due_ms.items())
    assert len({due_ms for due_ms, _ in due}) < len(due)  # there are ties
    assert calendar.pop_all(T0 + 20 * BUCKET_MS) == due


def test_a_key_that_moved_on_is_found_at_its_new_time_only() -> None:
    """W3: an extension touches no timer."""
    calendar = Calendar()
    calendar.set(KEY, T0)
    calendar.due_ms[KEY] = T0 + DAY
    assert calendar.pop_all(T0 + DAY - 1) == []
    assert calendar.pop_all(T0 + DAY) == [(T0 + DAY, KEY)]


def test_a_key_that_was_forgotten_is_dropped() -> None:
    calendar = Calendar()
    calendar.set(KEY, T0)
    del calendar.due_ms[KEY]
    assert calendar.pop_all(T0 + DAY) == []
    assert calendar.timers.earliest_ms == NEVER_MS


def test_two_reminders_of_one_due_time_are_one_timer() -> None:
    """E1: one event for each threshold and end."""
    calendar = Calendar()
    calendar.set(KEY, T0)
    calendar.set(KEY, T0 + DAY)
    calendar.set(KEY, T0 + DAY)
    assert calendar.pop_all(T0 + 2 * DAY) == [(T0 + DAY, KEY)]


def test_two_near_reminders_of_one_due_time_are_one_timer_also_among_others() -> None:
    """E1"""
    calendar = Calendar()
    calendar.set(b"first", T0)
    calendar.pop_all(T0)  # the bucket is open: what is armed now is near
    for key in (b"a", b"b", b"b", b"c", b"c", b"c"):
        calendar.set(key, T0 + 1)
    assert calendar.pop_all(T0 + 1) == [(T0 + 1, b"a"), (T0 + 1, b"b"), (T0 + 1, b"c")]


def test_what_was_put_back_comes_again_first_and_once() -> None:
    calendar = Calendar()
    for key in (b"a", b"a", b"b"):
        calendar.set(key, T0)
    timer = calendar.timers.pop(T0)
    assert timer == (T0, b"a")
    calendar.timers.put_back(timer)
    assert calendar.timers.earliest_ms == T0
    assert calendar.pop_all(T0) == [(T0, b"a"), (T0, b"b")]


def test_a_far_timer_is_not_looked_at_before_its_bucket() -> None:
    calendar = Calendar()
    for number in range(100):
        calendar.set(str(number).encode(), T0 + DAY + number)
    calendar.pop_all(T0 + DAY - BUCKET_MS)
    assert calendar.asked == []
    calendar.pop_all(T0 + DAY)
    assert len(calendar.asked) == 100


def test_extending_an_open_window_arms_nothing() -> None:
    """W3: on the hot path only the end is overwritten."""
    scene = Scene()
    armed: list[int] = []
    timers = scene.partition.windows.timers
    arm = timers.arm
    timers.arm = lambda due_ms, key: (armed.append(due_ms), arm(due_ms, key))[1]  # type: ignore[method-assign, func-returns-value]
    scene.play(said(0))
    assert armed == [T0 + 22 * HOUR]
    scene.play(*(said(minute * MINUTE) for minute in range(1, 1000)))
    assert armed == [T0 + 22 * HOUR]


def test_reminders_do_not_pile_up_over_a_life_of_closing_and_opening() -> None:
    """W11: each re-opening leaves a stale reminder, which finds the others in the end."""
    scene = Scene()
    timers = scene.partition.windows.timers
    for day in range(200):
        scene.play(said(day * 30 * HOUR), said(day * 30 * HOUR + 5 * HOUR))
        left = len(timers._near) + sum(map(len, timers._buckets.values()))
        assert left <= 6


def test_reminders_of_late_messages_are_gone_within_the_longest_threshold() -> None:
    """E1a: each waits for an end that an extension has moved since."""
    scene = Scene()
    timers = scene.partition.windows.timers
    scene.play(said(0))
    for minute in range(1, 500):
        now = 22 * HOUR + minute * MINUTE
        scene.play(tick(now), said((minute + 1) * MINUTE))  # extends to a minute after the warning that has just come
        left = len(timers._near) + sum(map(len, timers._buckets.values()))
        assert left <= 2 * HOUR // MINUTE + 5
