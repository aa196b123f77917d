"""Timers against a list that is sorted anew each time: nothing lost, nothing twice, all in order (E1, W4).

The keys behave as windows do: each has a few due times, the next of them after the clock is the one that counts; an
extension moves all of them and touches no timer unless the next one now comes earlier.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from processor.core.timers import NEVER_MS, Timers

BUCKET_MS = 1 << 18
KEYS = [b"a", b"b", b"c", b"d", b"ba"]
GAPS_MS = [1, 2, 3, 1000, BUCKET_MS - 1, BUCKET_MS, BUCKET_MS + 1, 3 * BUCKET_MS, 100 * BUCKET_MS]

keys = st.sampled_from(KEYS)
gaps = st.sampled_from(GAPS_MS)


class TimersMachine(RuleBasedStateMachine):
    """Fires timers as a partition does, and knows what must come."""

    def __init__(self) -> None:
        super().__init__()
        self.dues: dict[bytes, list[int]] = {}
        self.clock_ms = 0
        self.timers = Timers(self.next_due_ms)

    @initialize(start=st.sampled_from([0, 5, BUCKET_MS, 1_795_348_800_000]))
    def start(self, start: int) -> None:
        """Stand anywhere."""
        self.clock_ms = start

    def next_due_ms(self, key: bytes) -> int | None:
        return min((due for due in self.dues.get(key, ()) if due > self.clock_ms), default=None)

    @rule(key=keys, ahead=st.lists(gaps, min_size=1, max_size=3))
    def open(self, key: bytes, ahead: list[int]) -> None:
        """Give the key new due times, whatever it had; its old reminder stays."""
        due, self.dues[key] = self.clock_ms, []
        for gap in ahead:
            due += gap
            self.dues[key].append(due)
        self.timers.arm(self.dues[key][0], key)

    @rule(key=keys, by=gaps)
    def extend(self, key: bytes, by: int) -> None:
        """Move the key's due times on; what was past may be due again, earlier than what it waits for."""
        before = self.next_due_ms(key)
        self.dues[key] = [due + by for due in self.dues.get(key, ())]
        after = self.next_due_ms(key)
        if after is not None and (before is None or after < before):
            self.timers.arm(after, key)

    @rule(key=keys)
    def forget(self, key: bytes) -> None:
        """Leave a reminder of nothing."""
        self.dues.pop(key, None)

    @rule()
    def restore(self) -> None:
        """Begin anew from what is known, as after a restart."""
        self.timers = Timers(self.next_due_ms)
        for key in self.dues:
            if (due := self.next_due_ms(key)) is not None:
                self.timers.arm(due, key)

    @rule(gap=st.one_of(gaps, st.integers(0, 3 * BUCKET_MS)), fired_max=st.sampled_from([1, 2, 1000]))
    def advance(self, gap: int, fired_max: int) -> None:
        """Let time pass; the round may be full before all have fired."""
        until_ms = self.clock_ms + gap
        due = sorted(
            (due, key) for key, dues in self.dues.items() for due in set(dues) if self.clock_ms < due <= until_ms
        )
        fired, is_full = self._fire(until_ms, fired_max)
        assert fired == due[: len(fired)]
        if is_full:
            assert fired_max <= len(fired) <= len(due)
            assert all(due_ms > self.clock_ms for due_ms, _ in due[len(fired) :])  # it stops between two due times
        else:
            assert len(fired) == len(due)
            self.clock_ms = until_ms

    def _fire(self, until_ms: int, fired_max: int) -> tuple[list[tuple[int, bytes]], bool]:
        fired: list[tuple[int, bytes]] = []
        while (timer := self.timers.pop(until_ms)) is not None:
            due_ms, key = timer
            is_due = due_ms in self.dues.get(key, ())
            if len(fired) >= fired_max and due_ms > self.clock_ms:
                self.timers.put_back(timer)
                return fired, True
            self.clock_ms = max(self.clock_ms, due_ms)
            if is_due:
                fired.append(timer)
            if (next_ms := self.next_due_ms(key)) is not None:
                self.timers.arm(next_ms, key)
        return fired, False

    @precondition(lambda self: self.dues)
    @invariant()
    def what_comes_first_is_not_overlooked(self) -> None:
        first = min((due for key in self.dues if (due := self.next_due_ms(key)) is not None), default=NEVER_MS)
        assert self.timers.earliest_ms <= first


TimersMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=30)
test_timers_are_those_of_a_sorted_list = TimersMachine.TestCase
