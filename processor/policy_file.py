"""The policy's file: TOML in the words of docs/policy.md, read into a `Policy` and written in the same words.

Durations are text such as ``"24h"`` or ``"90m"``, a moment is a time with a zone. A value that could never take effect
is refused as much as one that contradicts another: whoever wrote it believes that it does.
"""

import difflib
import re
import tomllib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from processor.codec.times import format_time, parse_time
from processor.core.policy import (
    DAY_MS,
    DURATION_MAX_MS,
    HOUR_MS,
    SECOND_MS,
    THRESHOLDS_MAX,
    Fault,
    Policy,
    PolicyError,
    in_words,
)
from processor.shown import quoted, shortened

_UNIT_MS: Final = {"s": SECOND_MS, "m": 60 * SECOND_MS, "h": HOUR_MS, "d": DAY_MS}
_DURATION: Final = re.compile(r"([1-9][0-9]{0,8})([smhd])")
DURATION_WORDS: Final = "a whole number and s, m, h or d, such as 2h"

_ID_CHARACTERS: Final = "letters, digits, '.', '_' and '-'"
ALLOWED: Final = {
    "name": f"1 to 64 of {_ID_CHARACTERS}",
    "window": "a table of channels (1 to 32 of a-z, 0-9 and '-') with `default` among them, and for each a duration up"
    f' to {in_words(DURATION_MAX_MS)}, such as "24h"',
    "expiring_before": f"a list of up to {THRESHOLDS_MAX} different durations, each shorter than every window, such as"
    ' ["4h", "1h"]',
    "closed_retention": f'a duration from the longest window to {in_words(DURATION_MAX_MS)}, such as "3d"',
    "safety_margin": 'a duration shorter than every window, such as "1m"',
    "reactions_open": "true or false",
    "unknown_types_open": "true or false",
    "unsupported_opens": "a table of error codes (digits), and for each true or false",
    "call_permission_reply_opens": 'a list of "user_action" and "automatic", or of one or none of them',
    "direct_send": f'a list of business ids (1 to 160 of {_ID_CHARACTERS}), or ["*"]',
    "marketing_needs_opt_in": '"off", "outside-window" or "always"',
    "enforcement": '"enforce" or "observe"',
    "effects_from": "a time with a zone, such as 2026-11-22T18:00:00Z",
    "emit_accepted": "true or false",
}
"""The words of a policy's text, and what each takes."""

_FIELDS: Final = {
    key: next(field for field in msgspec.structs.fields(Policy) if field.name in (key, f"{key}_ms")) for key in ALLOWED
}
_PATTERNS: Final = {
    "name": re.compile(r"[A-Za-z0-9._-]{1,64}"),  # it stands in each event, before the digest
    "window": re.compile(r"[a-z0-9-]{1,32}"),  # this one and the next as the contract has them
    "direct_send": re.compile(r"\*|[A-Za-z0-9._-]{1,160}"),
    "call_permission_reply_opens": re.compile(r"user_action|automatic"),
    "unsupported_opens": re.compile(r"0|[1-9][0-9]{0,18}"),
}
"""Of the words that a value consists of; for a table, of its keys."""


def parse_duration(text: str) -> int:
    """Turn ``"90m"`` into milliseconds.

    Raises:
        ValueError: The text is not a whole number above zero followed by ``s``, ``m``, ``h`` or ``d``.
    """
    if (match := _DURATION.fullmatch(text.strip())) is None:
        raise ValueError(f"{shortened(repr(text))} is not a duration")
    return int(match[1]) * _UNIT_MS[match[2]]


def moment(value: Any) -> str | None:
    """Take a time with a zone, as text or as TOML has it; an empty text is no time at all.

    Raises:
        ValueError: It is something else.
    """
    if isinstance(value, datetime):
        value = value.isoformat()
    if value is None or value == "":
        return None
    if not isinstance(value, str) or value.isdigit() or parse_time(value) is None:
        raise ValueError("not a time with a zone")
    return value


def load_policy(text: str, **overrides: Any) -> Policy:
    """Read a policy from TOML; `overrides` are fields of `Policy` that settings decide.

    Raises:
        PolicyError: Not TOML, or all that is wrong: unknown keys, values that are not allowed, and contradictions
            between those that are. A fault of an override has the reason alone.
    """
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyError([Fault("", f"not TOML: {error}")]) from None
    fields: dict[str, Any] = {}
    faults: list[Fault] = []
    for key, value in found.items():
        if key not in ALLOWED:
            faults.append(Fault(key, f"no policy has this key{_near(key)}"))
            continue
        try:
            fields[_FIELDS[key].name] = _read(key, value)
        except ValueError as error:
            reason = "" if isinstance(error, msgspec.ValidationError) else str(error)
            faults.append(_told(Fault(key, reason), found))
    # of a key with a fault no more is known, and of lengths that can't be read not what contradicts them
    known = set() if "window" in (wrong := {fault.key for fault in faults}) else ALLOWED.keys() - wrong
    policy: Policy | None = None
    try:
        policy = Policy(**fields | overrides)
    except PolicyError as error:
        faults += [
            fault if _FIELDS[fault.key].name in overrides else _told(fault, found)
            for fault in error.faults
            if fault.key in known
        ]
    if faults or policy is None:
        raise PolicyError(faults)
    return policy


def in_text(policy: Policy) -> dict[str, Any]:
    """Give a policy in the words of its text; where no time is set, an empty text."""
    return {key: _written(key, getattr(policy, field.name)) for key, field in _FIELDS.items()}


def _read(key: str, value: Any) -> Any:
    """Turn a value of the text into the field's.

    Raises:
        msgspec.ValidationError: It is of another kind.
        ValueError: It is not allowed; the message says what of it.
    """
    if key == "effects_from":
        return ((text := moment(value)) and parse_time(text)) or 0
    if key == "window" and isinstance(value, dict):
        value = {channel: _duration(length) for channel, length in value.items()}
    elif key == "expiring_before" and isinstance(value, list):
        value = sorted(map(_duration, value), reverse=True)
    elif key in ("closed_retention", "safety_margin"):
        value = _duration(value)
    value = msgspec.convert(value, _FIELDS[key].type)
    if pattern := _PATTERNS.get(key):
        for word in [value] if isinstance(value, str) else value:
            if not pattern.fullmatch(word):
                raise ValueError(f"{quoted(word)} can't be one")
    return value


def _duration(value: Any) -> int:
    if not isinstance(value, str):
        raise ValueError(f"{quoted(value)} is not a duration")
    return parse_duration(value)


def _written(key: str, value: Any) -> Any:
    match key:
        case "effects_from":
            return format_time(value) if value else ""
        case "window":
            return {channel: in_words(length_ms) for channel, length_ms in value.items()}
        case "expiring_before":
            return [in_words(threshold_ms) for threshold_ms in value]
        case "closed_retention" | "safety_margin":
            return in_words(value)
    return list(value) if isinstance(value, tuple) else value


def _told(fault: Fault, found: Mapping[str, Any]) -> Fault:
    """Say what was found, and what is allowed."""
    default = in_text(Policy())[fault.key]
    shown = quoted(found[fault.key]) if fault.key in found else f"{quoted(default)} (default)"
    because = f", {fault.reason}" if fault.reason else ""
    return Fault(fault.key, f"found {shown}{because}; allowed: {ALLOWED[fault.key]}")


def _near(key: str) -> str:
    nearest = difflib.get_close_matches(key.lower().removesuffix("_ms"), ALLOWED, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""
