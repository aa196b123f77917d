"""The window's state machine. Nothing else changes a window.

The rules (ids as in ``tests/tidy/rules.txt``): a message of the customer at event time t opens the window of its key
until t + 24 h (W2), or extends it, never back (W3); at the end itself it is closed (W4); nothing that the business
sends moves it (W5). A message as old as a window's length opens nothing (W9), the same message twice changes nothing
(W10), and one that comes after the close was announced opens a new window only if it is newer than the last one known
(W11). Before the end the thresholds of the policy are announced, each once for each end (E1, E1a, E2).

Theory of operation
    *Time.* Every decision is taken by event time; `clock_ms` is the partition's clock, the largest event time applied.
    A due time (of a threshold, of the end, of forgetting) that is not after the clock has either fired or is silenced
    for good. So a window bears no mark of what has fired: the clock says it, also after a restore, since the clock is
    committed together with the outputs.

    *Due times* follow from the window alone: `expires_at` less each threshold, `expires_at`, and once closed
    `closed_at` plus the retention. The next due time is the first of them after the clock.

    *Timers.* A window always has a timer at or before its next due time. An extension overwrites `expires_at` and
    leaves the timer where it is: it will find itself stale, and is armed again. Only in one case would it come too
    late: a threshold has passed (so the timer waits for a later one) and a late message extends by so little that the
    first threshold of the new end comes before the old end. That case arms a timer of its own.

`TRANSITIONS` is the machine: the code below runs it row by row, the diagram in ARCHITECTURE.md is made from it, and a
test walks through every row.
"""

from collections import Counter
from typing import Literal

import msgspec

from processor.core.decisions import Closed, Effects, Expiring, Opened
from processor.core.events import Message
from processor.core.policy import SECOND_MS, Policy
from processor.core.timers import Timers

Status = Literal["absent", "open", "closed"]
"""Where a key's window stands; absent is a key that was never known, or has been forgotten."""

Trigger = Literal["message", "threshold due", "end due", "retention due"]
"""What can happen to a window."""

TRANSITIONS: dict[tuple[Status, Trigger], tuple[Status, str]] = {
    ("absent", "message"): ("open", "open_"),
    ("open", "message"): ("open", "extend"),
    ("closed", "message"): ("open", "reopen"),  # stays closed where the message is not newer (W11)
    ("open", "threshold due"): ("open", "warn"),
    ("open", "end due"): ("closed", "close"),
    ("closed", "retention due"): ("absent", "forget"),
}
"""(status, trigger) -> (status after, method of `Windows` that takes it). A pair that is not here can't happen."""


class Window(msgspec.Struct, gc=False):
    """One window, open while `closed_at` is None. All times are event time, ms since the epoch.

    A million of these stand in memory: six fields, of which four are numbers, and the garbage collector does not
    look at them. A number is stored less 0: in a sum Python leaves room for a carry, 48 bytes where 32 do, and a
    difference has none. That is 64 bytes a window (``tests/bench/test_memory.py``).
    """

    opened_at: int
    expires_at: int
    last_inbound_at: int
    last_answer_at: int | None = None
    closed_at: int | None = None
    close_reason: str | None = None

    @property
    def status(self) -> Literal["open", "closed"]:
        """Where it stands; what is absent has no window."""
        return "open" if self.closed_at is None else "closed"

    def is_open_at(self, event_time_ms: int) -> bool:
        """Whether a send of that time falls before the end, however late it is judged (S8)."""
        return event_time_ms < (self.expires_at if self.closed_at is None else self.closed_at)

    @property
    def is_unanswered(self) -> bool:
        """Whether no answer has a time at or after the customer's last message (E3)."""
        return self.last_answer_at is None or self.last_answer_at < self.last_inbound_at


class Windows(dict[bytes, Window]):
    """The windows of one partition by key, and the machine that changes them.

    Steps append to `effects` what they emit and name the keys whose records changed. `clock_ms` is moved by the
    partition, before a step.
    """

    def __init__(self, policy: Policy, counts: Counter[str]) -> None:
        """Start empty; messages that come too late, or are no newer than what is known, go to `counts` (W9, W10)."""
        self._counts = counts
        self.clock_ms = 0
        self.open_count = 0
        """How many of them are open."""
        self.timers = Timers(self.next_due_ms)
        self._policy = policy
        self._emit_from_ms = policy.effects_from_ms
        self._retention_ms = policy.closed_retention_ms
        self._thresholds_ms = policy.expiring_before_ms
        self._longest_threshold_ms = max(policy.expiring_before_ms, default=0)
        lengths = set(policy.window_ms.values())
        self._only_length_ms = lengths.pop() if len(lengths) == 1 else 0
        self._steps = {pair: getattr(self, step) for pair, (_, step) in TRANSITIONS.items()}

    def restore(self, key: bytes, window: Window) -> None:
        """Take a window back from its record; `clock_ms` must be the committed one by now."""
        self[key] = window
        self.open_count += window.closed_at is None
        self.timers.arm(self._next_due_ms(window, self.clock_ms), key)

    # The two triggers: a message, and time.

    def on_message(self, message: Message, effects: Effects) -> None:
        """Apply a message that opens or extends, with the clock at or after its time, unless it is too late (W9)."""
        event_time_ms, key = message.event_time_ms, message.key
        length_ms = self._only_length_ms or self._policy.window_ms_of(key)
        if event_time_ms + length_ms <= self.clock_ms:
            self._counts["late"] += 1
            return
        window = self.get(key)
        if window is not None and window.closed_at is None:  # the hot path: its row of the table, spelled out
            self.extend(window, message, length_ms, effects)
        else:
            status: Status = "absent" if window is None else "closed"
            self._steps[status, "message"](window, message, length_ms, effects)

    def on_due(self, key: bytes, due_ms: int, effects: Effects) -> None:
        """Look at a key whose timer came up: take the step that is due now, and arm the next timer."""
        window, steps = self.get(key), self._steps
        if window is None:
            return
        if window.closed_at is not None:
            if window.closed_at + self._retention_ms <= due_ms:
                steps["closed", "retention due"](key, window, due_ms, effects)
                return
        elif window.expires_at <= due_ms:
            steps["open", "end due"](key, window, due_ms, effects)
        elif window.expires_at - due_ms in self._thresholds_ms:
            steps["open", "threshold due"](key, window, due_ms, effects)
        self.timers.arm(self._next_due_ms(window, due_ms), key)

    # The steps of the table.

    def open_(self, window: Window | None, message: Message, length_ms: int, effects: Effects) -> None:
        """Open a window at the message's time; what is past of its thresholds fires once, with what remains (E1a)."""
        key, opened_at = message.key, message.event_time_ms - 0
        expires_at = opened_at + length_ms - 0
        last_answer_at = window.last_answer_at if window is not None else None
        window = self[key] = Window(opened_at, expires_at, opened_at, last_answer_at)
        effects.windows[key] = None
        self.open_count += 1
        self.timers.arm(self._next_due_ms(window, self.clock_ms), key)
        if opened_at >= self._emit_from_ms:
            effects.outputs.append(Opened(key, opened_at, expires_at, message.id, message.type))
        if expires_at - self._longest_threshold_ms <= self.clock_ms:
            past_ms = [
                threshold_ms for threshold_ms in self._thresholds_ms if expires_at - threshold_ms <= self.clock_ms
            ]
            if past_ms:
                self._expiring(key, window, min(past_ms), expires_at - self.clock_ms, effects)

    def extend(self, window: Window, message: Message, length_ms: int, effects: Effects) -> None:
        """Move the end forward, never back (W3); its timer stays where it is."""
        event_time_ms, old_end_ms = message.event_time_ms, window.expires_at
        end_ms = event_time_ms + length_ms
        if event_time_ms > window.last_inbound_at:
            window.last_inbound_at = event_time_ms - 0
        elif end_ms <= old_end_ms:
            self._counts["not-newer"] += 1
            return  # W10: a message that was known already, or an older one
        if end_ms > old_end_ms:
            window.expires_at = end_ms - 0
        effects.windows[message.key] = None
        if self.clock_ms >= old_end_ms - self._longest_threshold_ms:  # a threshold has passed: see the theory above
            due_ms = self._next_due_ms(window, self.clock_ms)
            if due_ms < old_end_ms:
                self.timers.arm(due_ms, message.key)

    def reopen(self, window: Window, message: Message, length_ms: int, effects: Effects) -> None:
        """Open a new window where the message is newer than the last one known; else it was counted before (W11)."""
        if message.event_time_ms > window.last_inbound_at:
            self.open_(window, message, length_ms, effects)
        else:
            self._counts["not-newer"] += 1

    def warn(self, key: bytes, window: Window, due_ms: int, effects: Effects) -> None:
        """Announce the threshold that is due (E1)."""
        threshold_ms = window.expires_at - due_ms
        self._expiring(key, window, threshold_ms, threshold_ms, effects)

    def close(self, key: bytes, window: Window, due_ms: int, effects: Effects) -> None:
        """End the window at its own end (W4)."""
        window.closed_at = due_ms
        window.close_reason = "expired"
        self.open_count -= 1
        effects.windows[key] = None
        if due_ms >= self._emit_from_ms:
            closed = Closed(key, due_ms, window.opened_at, window.expires_at, "expired", window.is_unanswered)
            effects.outputs.append(closed)

    def forget(self, key: bytes, window: Window, due_ms: int, effects: Effects) -> None:
        """Drop a closed window whose retention is over; its record becomes a tombstone."""
        del self[key]
        effects.windows[key] = None

    def answer(self, key: bytes, event_time_ms: int, effects: Effects) -> None:
        """Note that the business answered (E3): it moves no end and opens nothing; with no window known, no trace."""
        window = self.get(key)
        if window is not None and (window.last_answer_at is None or window.last_answer_at < event_time_ms):
            window.last_answer_at = event_time_ms - 0
            effects.windows[key] = None

    # Due times.

    def next_due_ms(self, key: bytes) -> int | None:
        """Tell when the key's window must be looked at next, after the clock; None where there is none."""
        window = self.get(key)
        return None if window is None else self._next_due_ms(window, self.clock_ms)

    def _next_due_ms(self, window: Window, after_ms: int) -> int:
        if window.closed_at is not None:
            due_ms = window.closed_at + self._retention_ms
        else:
            due_ms = window.expires_at
            for threshold_ms in self._thresholds_ms:
                if due_ms - threshold_ms > after_ms:
                    return due_ms - threshold_ms
        return due_ms if due_ms > after_ms else after_ms + 1  # a policy's retention may have been shortened

    def _expiring(self, key: bytes, window: Window, threshold_ms: int, remaining_ms: int, effects: Effects) -> None:
        due_ms = window.expires_at - threshold_ms
        if due_ms >= self._emit_from_ms:
            remaining_ms -= remaining_ms % SECOND_MS
            effects.outputs.append(
                Expiring(
                    key,
                    due_ms,
                    window.opened_at,
                    window.expires_at,
                    threshold_ms,
                    remaining_ms,
                    window.is_unanswered,
                    window.last_inbound_at,
                )
            )
