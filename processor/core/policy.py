"""The policy: every number and switch that the rules leave to the business, as one frozen value.

Its text is TOML, which `processor.policy_file` reads. Two policies with one content have one `version`.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import msgspec

SECOND_MS = 1_000
HOUR_MS = 3_600 * SECOND_MS
DAY_MS = 24 * HOUR_MS  # W4: 86,400 s, whatever the time zone does
DURATION_MAX_MS = 3_650 * DAY_MS  # ten years: an end has to be a time that can be written, and more is a slip
THRESHOLDS_MAX = 8  # each is an event for each window; more than a handful is a mistake in a template


class Fault(NamedTuple):
    """What is wrong with one word of a policy."""

    key: str
    """As a policy's text spells it; empty where it is the text as a whole."""
    reason: str


class PolicyError(ValueError):
    """A policy can't be used. `faults` has all that is wrong with it."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        """Take all that is wrong at once."""
        super().__init__("\n".join(map(": ".join, faults)))
        self.faults = faults


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the business decides. Durations are milliseconds, lists are closed, defaults are Meta's rules."""

    name: str = "default"
    window_ms: dict[str, int] = msgspec.field(default_factory=lambda: {"default": DAY_MS})
    """Length of the window for each channel; ``default`` serves every channel that is not named (W2)."""
    expiring_before_ms: tuple[int, ...] = (2 * HOUR_MS,)
    """Thresholds before the end, longest first, each shorter than every window (E1)."""
    closed_retention_ms: int = 3 * DAY_MS
    """How long a closed window is remembered after its end, in the partition's clock; at least a window."""
    safety_margin_ms: int = 60 * SECOND_MS
    """How long before the end a verdict that rests on the window stops being valid."""
    reactions_open: bool = False
    unknown_types_open: bool = True
    unsupported_opens: dict[str, bool] = msgspec.field(default_factory=lambda: {"131051": True, "131060": False})
    """By `error_code` (W7); a code that is not listed counts as an unknown type does (W13a)."""
    call_permission_reply_opens: tuple[str, ...] = ("user_action",)
    direct_send: tuple[str, ...] = ()
    """Business ids that may send utility and authentication outside the window; ``*`` names all (S3)."""
    marketing_needs_opt_in: Literal["off", "outside-window", "always"] = "outside-window"
    enforcement: Literal["enforce", "observe"] = "enforce"
    effects_from_ms: int = 0
    """Event time; what became true before it changes state and emits nothing."""
    emit_accepted: bool = True

    def __post_init__(self) -> None:
        """Hold the durations to their bounds and to each other.

        Raises:
            PolicyError: One is out of bounds, or contradicts another one.
        """
        if faults := list(self._faults()):
            raise PolicyError(faults)

    def _faults(self) -> Iterator[Fault]:
        if "default" not in self.window_ms:
            yield Fault("window", "there is no entry `default`")
            return
        shortest, longest = min(self.window_ms.values()), max(self.window_ms.values())
        thresholds = self.expiring_before_ms
        if shortest <= 0 or longest > DURATION_MAX_MS:
            yield Fault("window", f"a length is not above 0 and at most {in_words(DURATION_MAX_MS)}")
        if len(thresholds) > THRESHOLDS_MAX:
            yield Fault("expiring_before", f"{len(thresholds)} thresholds")
        if list(thresholds) != sorted(set(thresholds), reverse=True):
            yield Fault("expiring_before", "they are not different, longest first")
        if any(threshold_ms <= 0 or threshold_ms % SECOND_MS for threshold_ms in thresholds):
            yield Fault("expiring_before", "not whole seconds above 0")
        if thresholds and max(thresholds) >= shortest:
            yield Fault("expiring_before", f"not shorter than the shortest window, {in_words(shortest)}")
        if self.closed_retention_ms < longest:
            yield Fault("closed_retention", f"shorter than the longest window, {in_words(longest)}")
        if self.closed_retention_ms > DURATION_MAX_MS:
            yield Fault("closed_retention", f"longer than {in_words(DURATION_MAX_MS)}")
        if not 0 <= self.safety_margin_ms < shortest:
            yield Fault("safety_margin", f"not from 0 to less than the shortest window, {in_words(shortest)}")

    @property
    def version(self) -> str:
        """Name and digest of the content, so that no two different policies sign the same events."""
        content = msgspec.json.encode(msgspec.to_builtins(self), order="deterministic")
        return f"{self.name}-{hashlib.sha256(content).hexdigest()[:8]}"

    def window_ms_of(self, key: bytes) -> int:
        """Length of the window of a key, by its channel."""
        lengths = self.window_ms
        return lengths.get(key.split(b":", 1)[0].decode(), lengths["default"])


def in_words(duration_ms: int) -> str:
    """Write a duration as a policy's text has it: ``90m``, ``24h``, ``3d``."""
    for unit, unit_ms, least in (("d", DAY_MS, 2), ("h", HOUR_MS, 1), ("m", 60 * SECOND_MS, 1), ("s", SECOND_MS, 0)):
        if duration_ms % unit_ms == 0 and duration_ms >= least * unit_ms:
            return f"{duration_ms // unit_ms}{unit}"
    return f"{duration_ms}ms"
