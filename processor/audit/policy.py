"""The policy as the model understands it: one field for each switch that the rules name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

_HOUR_MS = 3_600_000


@dataclass(frozen=True)
class ModelPolicy:
    """Hold every switch with the default of the rules; lengths are milliseconds."""

    window_ms: int = 24 * _HOUR_MS
    window_ms_by_channel: Mapping[str, int] = field(default_factory=dict)
    thresholds_ms: tuple[int, ...] = (2 * _HOUR_MS,)
    """How long before the end a warning comes; whole seconds, any order."""
    expiring_unanswered_only: bool = False
    """E3's last sentence: warn of windows alone whose last message is unanswered."""
    closed_retention_ms: int = 72 * _HOUR_MS
    safety_margin_ms: int = 60_000

    reactions_open: bool = False
    unknown_types_open: bool = True
    unsupported_opens: Mapping[int, bool] = field(default_factory=lambda: {131051: True, 131060: False})
    call_permission_reply_opens: frozenset[str] = frozenset({"user_action"})

    direct_send: frozenset[str] = frozenset()
    """Business ids that may use Direct Send; `*` stands for all."""
    marketing_needs_opt_in: Literal["off", "outside-window", "always"] = "outside-window"

    emit_accepted: bool = True
    enforcement: Literal["enforce", "observe"] = "enforce"
    effects_from_ms: int | None = None

    key_check: bool = True
    record_bytes_max: int = 65_536

    def window_length_ms(self, channel: str) -> int:
        """Return how long a window of this channel lasts after the customer's message."""
        return self.window_ms_by_channel.get(channel, self.window_ms)

    def retention_ms(self, channel: str) -> int:
        """Return how long a closed window is remembered: never less than the window's own length."""
        return max(self.closed_retention_ms, self.window_length_ms(channel))
