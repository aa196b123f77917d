"""One partition's state, and how events and time are applied to it.

A stateful step with few methods: `apply` events, `advance` the clock, `next_due_ms`, `restore`. What they bring about
is collected in `Effects`; the layer above writes it and commits.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from processor.core import sending
from processor.core.consent import Consents
from processor.core.decisions import Effects
from processor.core.events import (
    FREE_FORM_TYPES,
    Call,
    CallPermissionReply,
    Consent,
    DoubtfulMessage,
    Echo,
    Event,
    Message,
    Noted,
    Send,
    Unsupported,
)
from processor.core.policy import Policy
from processor.core.window import Window, Windows

OUTPUTS_MAX = 20_000
"""A round stops when it has this many outputs, so that a campaign's hundred thousand ends at one moment do not make a
transaction of any size. It stops between two due times only: what is due together is committed together."""


class Partition:
    """State of one partition: windows, consents and the clock. Deterministic: the same calls give the same effects."""

    def __init__(self, policy: Policy) -> None:
        """Start with no contact known and the clock at zero."""
        self.counts: Counter[str] = Counter()
        """Events that changed no window, by cause: late, not-newer, misplaced, silent, unknown-type."""
        self.windows = Windows(policy, self.counts)
        self.consents: dict[bytes, Consents] = {}
        self._policy = policy
        self._on: dict[type[Event], Callable[..., None]] = {
            Message: self.windows.on_message,
            DoubtfulMessage: self._on_doubtful_message,
            Call: self._on_doubtful_message,
            Unsupported: self._on_doubtful_message,
            CallPermissionReply: self._on_doubtful_message,
            Send: self._on_send,
            Echo: self._on_echo,
            Consent: self._on_consent,
            Noted: self._on_noted,
        }

    @property
    def clock_ms(self) -> int:
        """Event time, ms: the largest one applied. It never goes back."""
        return self.windows.clock_ms

    @property
    def next_due_ms(self) -> int:
        """No timer is due before this (event time, ms; a lower bound)."""
        return self.windows.timers.earliest_ms

    def restore(
        self,
        clock_ms: int,
        windows: Iterable[tuple[bytes, Window]],
        consents: Iterable[tuple[bytes, Consents]],
    ) -> None:
        """Take over the state as it was committed with the clock at `clock_ms`: what was due by then has fired."""
        self.windows.clock_ms = clock_ms
        for key, window in windows:
            self.windows.restore(key, window)
        self.consents.update(consents)

    def apply(self, events: Sequence[Event], effects: Effects) -> int:
        """Apply events in the order given, each after the timers that are due at or before its time.

        Returns how many were applied; fewer than given where the round is full (`OUTPUTS_MAX`): call again with the
        rest after committing.
        """
        windows, timers, on = self.windows, self.windows.timers, self._on
        for applied, event in enumerate(events):
            event_time_ms = event.event_time_ms
            if event_time_ms > windows.clock_ms:
                if event_time_ms >= timers.earliest_ms and not self.advance(event_time_ms, effects):
                    return applied
                windows.clock_ms = event_time_ms
            on[type(event)](event, effects)
        return len(events)

    def advance(self, clock_ms: int, effects: Effects) -> bool:
        """Fire every timer due at or before `clock_ms`, by due time and then key, and move the clock there.

        Returns False where the round is full; the clock then stands at the last due time that has fired in full.
        """
        windows, timers = self.windows, self.windows.timers
        while (timer := timers.pop(clock_ms)) is not None:
            due_ms, key = timer
            if due_ms > windows.clock_ms:
                if len(effects.outputs) >= OUTPUTS_MAX:
                    timers.put_back(timer)
                    return False
                windows.clock_ms = due_ms
            windows.on_due(key, due_ms, effects)
        windows.clock_ms = max(windows.clock_ms, clock_ms)
        return True

    def _on_doubtful_message(self, message: DoubtfulMessage, effects: Effects) -> None:
        if self._opens(message):
            self.windows.on_message(message, effects)

    def _opens(self, message: DoubtfulMessage) -> bool:
        """W6, W7, W13a: the types whose effect hangs on the policy or on one of their fields."""
        match message:
            case Call():
                return message.direction == "user" or message.outcome == "accepted"
            case Unsupported():
                by_code = self._policy.unsupported_opens
                return by_code.get(message.error_code, self._policy.unknown_types_open)
            case CallPermissionReply():
                return message.response_source in self._policy.call_permission_reply_opens
            case DoubtfulMessage(type="reaction"):
                return self._policy.reactions_open
        self.counts["unknown-type"] += 1
        return self._policy.unknown_types_open

    def _on_send(self, send: Send, effects: Effects) -> None:
        key, event_time_ms, policy = send.key, send.event_time_ms, self._policy
        if send.type not in FREE_FORM_TYPES and send.type != "template":
            self.counts["unknown-type"] += 1
        window, consents = self.windows.get(key), self.consents.get(key)
        is_open = window is not None and window.is_open_at(event_time_ms)
        reason = sending.refusal(send, window, is_open, consents, policy)
        is_refused = reason is not None and policy.enforcement == "enforce"
        emits = event_time_ms >= policy.effects_from_ms
        if is_refused:
            if emits:
                effects.outputs.append(sending.rejected(send, window, reason or ""))
        elif emits and policy.emit_accepted and not send.is_done:
            effects.outputs.append(sending.accepted(send, window, consents, policy, reason))
        if send.by_agent and (send.is_done or not is_refused):
            self.windows.answer(key, event_time_ms, effects)

    def _on_echo(self, echo: Echo, effects: Effects) -> None:
        self.windows.answer(echo.key, echo.event_time_ms, effects)

    def _on_consent(self, consent: Consent, effects: Effects) -> None:
        consents = self.consents.setdefault(consent.key, Consents())
        if consents.apply(consent):
            effects.consents[consent.key] = None

    def _on_noted(self, noted: Noted, effects: Effects) -> None:
        self.counts[noted.count] += 1
