"""The policy: every number and switch that the rules leave to the business, as one frozen value.

A policy is loaded from TOML (`load_policy`), where durations are text such as ``"24h"`` or ``"90m"`` and the keys
are the names below without their ``_ms``. Two policies with one content have one `version`.
"""

import hashlib
import re
import tomllib
from typing import Any, Literal

import msgspec

SECOND_MS = 1_000
HOUR_MS = 3_600 * SECOND_MS
DAY_MS = 24 * HOUR_MS  # W4: 86,400 s, whatever the time zone does

_UNIT_MS = {"s": SECOND_MS, "m": 60 * SECOND_MS, "h": HOUR_MS, "d": DAY_MS}
_DURATION = re.compile(r"([1-9][0-9]{0,8})([smhd])")


class PolicyError(ValueError):
    """The policy's text can't be used; the message names the key, what was found and what is allowed."""


def parse_duration(text: str) -> int:
    """Turn ``"90m"`` into milliseconds.

    Raises:
        PolicyError: The text is not a whole number above zero followed by ``s``, ``m``, ``h`` or ``d``.
    """
    if (match := _DURATION.fullmatch(text.strip())) is None:
        raise PolicyError(f"{text!r} is not a duration: allowed is a whole number and s, m, h or d, such as 2h")
    return int(match[1]) * _UNIT_MS[match[2]]


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
        """Hold the values to each other.

        Raises:
            PolicyError: A value contradicts another one.
        """
        if "default" not in self.window_ms:
            raise PolicyError(f"window: found {sorted(self.window_ms)}, expected an entry `default`")
        shortest, longest = min(self.window_ms.values()), max(self.window_ms.values())
        thresholds = self.expiring_before_ms
        if list(thresholds) != sorted(set(thresholds), reverse=True):
            raise PolicyError(f"expiring_before: found {thresholds} ms, expected different ones, longest first")
        if any(not 0 < threshold_ms < shortest for threshold_ms in thresholds):
            raise PolicyError(f"expiring_before: found {thresholds} ms, expected more than 0 and less than {shortest}")
        if any(threshold_ms % SECOND_MS for threshold_ms in thresholds):
            raise PolicyError(f"expiring_before: found {thresholds} ms, expected whole seconds")
        if self.closed_retention_ms < longest:
            raise PolicyError(
                f"closed_retention: found {self.closed_retention_ms} ms, expected at least a window's length, {longest}"
            )
        if not 0 <= self.safety_margin_ms < shortest:
            raise PolicyError(f"safety_margin: found {self.safety_margin_ms} ms, expected 0 to less than {shortest}")

    @property
    def version(self) -> str:
        """Name and digest of the content, so that no two different policies sign the same events."""
        content = msgspec.json.encode(msgspec.to_builtins(self), order="deterministic")
        return f"{self.name}-{hashlib.sha256(content).hexdigest()[:8]}"

    def window_ms_of(self, key: bytes) -> int:
        """Length of the window of a key, by its channel."""
        lengths = self.window_ms
        return lengths.get(key.split(b":", 1)[0].decode(), lengths["default"])


def load_policy(text: str, **overrides: Any) -> Policy:
    """Read a policy from TOML; `overrides` are fields of `Policy` that settings decide.

    Raises:
        PolicyError: Not TOML, an unknown key, a value out of its range; one sentence that names it.
    """
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"not TOML: {error}") from None
    fields: dict[str, Any] = {}
    for name, value in found.items():
        fields[f"{name}_ms" if f"{name}_ms" in Policy.__struct_fields__ else name] = _milliseconds(name, value)
    try:
        return msgspec.convert({**fields, **overrides}, Policy)
    except msgspec.ValidationError as error:
        raise PolicyError(str(error)) from error.__cause__


def _milliseconds(name: str, value: Any) -> Any:
    if name in ("closed_retention", "safety_margin"):
        return parse_duration(str(value))
    if name == "window" and isinstance(value, dict):
        return {channel: parse_duration(str(length)) for channel, length in value.items()}
    if name == "expiring_before" and isinstance(value, list):
        return sorted((parse_duration(str(threshold)) for threshold in value), reverse=True)
    return value
