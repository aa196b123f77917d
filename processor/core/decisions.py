"""What the core decided: the outputs, before they have bytes. All times are event time, ms since the epoch."""

import msgspec

from processor.core.events import Send


class Decision(msgspec.Struct, gc=False, frozen=True):
    """One output. `time_ms` is when it became true."""

    key: bytes
    time_ms: int


class Opened(Decision, gc=False, frozen=True):
    """A window went from closed, or from nothing, to open; `time_ms` is its `opened_at`."""

    expires_at: int
    cause_id: str
    cause_type: str


class Expiring(Decision, gc=False, frozen=True):
    """An open window reached `threshold_ms` before its end; `remaining_ms` is less only for an immediate one (E1a)."""

    opened_at: int
    expires_at: int
    threshold_ms: int
    remaining_ms: int
    is_unanswered: bool
    last_inbound_at: int


class Closed(Decision, gc=False, frozen=True):
    """A window ended; `time_ms` is its `closed_at`."""

    opened_at: int
    expires_at: int
    reason: str
    is_unanswered: bool


class Accepted(Decision, gc=False, frozen=True):
    """The verdict "may be sent". `opened_at` and `expires_at` are those of the window that was open, or both None.

    `reason` is None where only observation let it pass; then `would_reject` is the reason of the refusal.
    """

    send: Send
    reason: str | None
    opened_at: int | None
    expires_at: int | None
    valid_until: int | None
    would_reject: str | None


class Rejected(Decision, gc=False, frozen=True):
    """The verdict "may not be sent". The three times are the last known window's, all None where none is known."""

    send: Send
    reason: str
    opened_at: int | None
    expires_at: int | None
    closed_at: int | None


class Effects(msgspec.Struct):
    """What one round of a partition brings about: outputs in order, and the keys whose records must be written."""

    outputs: list[Decision] = []
    windows: dict[bytes, None] = {}
    """Keys of the windows that changed; one that is no longer known has been forgotten (a tombstone)."""
    consents: dict[bytes, None] = {}

    def __bool__(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.outputs or self.windows or self.consents)
