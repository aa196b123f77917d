"""Persons out, shapes in: records in which nobody can be found, and from which the same windows come.

Who and what is named by an id becomes a keyed hash of it, the same one wherever it stands, so that messages, sends and
consents of a contact stay together. What the rules look at stays where it is one of the contract's words, or of a form
in which nobody's number or name can be. All else is replaced: texts by as many `x`, numbers by 0, names by `x1`, `x2`.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from processor import contract
from processor.codec.keys import is_key
from processor.codec.times import format_time, parse_time
from processor.core.policy import DAY_MS, Policy
from processor.replay.records import StoredRecord, is_at_home
from processor.replay.target import OURS

KEY_BYTES_MIN: Final = 16
YEAR_MS: Final = 366 * DAY_MS

_IDS: Final = {"id", "message_id", "contact_id", "previous_contact_id"}
_TIMES: Final = {"time", "send_time"}
_CODE: Final = re.compile(r"\d{1,6}", re.ASCII)
_FORMS: Final = {
    "channel": re.compile(r"[a-z0-9-]{1,32}"),
    **dict.fromkeys(("business_id", "contact_id", "previous_contact_id"), re.compile(r"[A-Za-z0-9._-]{1,160}")),
}
"""Of the fields that have one; what is not of it stays so."""
_SETS: Final = contract.closed_sets()
_WORDS: Final[Mapping[str, frozenset[str]]] = {
    "type": frozenset(word for name, words in _SETS.items() if name.endswith("_type") for word in words),
    "direction": frozenset(_SETS["call_direction"]),
    "scope": frozenset(_SETS["consent_scope"]),
    "value": frozenset(_SETS["consent_value"]),
    "intent": frozenset(_SETS["intent"]),
    "origin": frozenset(_SETS["origin"]),
    "category": frozenset(_SETS["category"]),
    "outcome": frozenset(("missed", "rejected", "accepted")),
    "response_source": frozenset(("user_action", "automatic")),
    "status": frozenset(("sent", "delivered", "read", "played", "failed")),
}
"""What may stand in these fields and stay; of the last three the schemas have examples only."""
_NAMES: Final = frozenset((*_WORDS, *_IDS, *_TIMES, *_FORMS, *_WORDS["type"], "error_code", "context", "name"))
"""Of fields, at the top of a record: the contract's, and those of what a provider adds by the name of the type."""
_HEADERS: Final = OURS | {"traceparent", "tracestate"}
_ID_LETTERS_MAX: Final = 256
_DIGEST_BYTES: Final = 10  # a million contacts have one pair alike in a million archives


class Pseudonyms:
    """Names persons anew, by a secret key: without it nobody can tell whose a record was, nor try who it might be."""

    def __init__(self, key: bytes, policy: Policy | None = None) -> None:
        """Take the key, and the policy: the channels, businesses and sources that it names keep their names.

        Raises:
            ValueError: The key is too short to be a secret.
        """
        if len(key) < KEY_BYTES_MIN:
            raise ValueError(f"found {len(key)} bytes, expected at least {KEY_BYTES_MIN}")
        self._key = hashlib.blake2b(key).digest()
        policy = policy or Policy()
        channels, businesses = frozenset(("whatsapp", *policy.window_ms)), frozenset(policy.direct_send)
        self._kept = {"channel": channels, "business_id": businesses}
        self._words = {**_WORDS, "response_source": _WORDS["response_source"].union(policy.call_permission_reply_opens)}

    def of(self, name: str) -> str:
        """Give the pseudonym of an id, of characters that any id may have."""
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), key=self._key, digest_size=_DIGEST_BYTES)
        return f"p{digest.hexdigest()}"

    def hide(self, record: StoredRecord, partitions: int) -> StoredRecord:
        """Give the record without the person. What can't be read stays such, and says nothing any more.

        Its new key belongs elsewhere, so whether it lay where the old one did, among so many partitions, is kept.
        """
        names = _renamed((name for name, _ in record.headers), _HEADERS)
        values = (None if text is None else b"x" * len(text) for _, text in record.headers)
        return record._replace(
            key=self._hidden_key(record.key),
            value=self._hidden_value(record.value, record.timestamp_ms),
            headers=tuple(zip(names, values, strict=True)),
            is_at_home=is_at_home(record, partitions),
        )

    def _hidden_key(self, key: bytes | None) -> bytes | None:
        if key is None or not is_key(key):
            return key and self.of(key.hex()).encode()
        parts = zip(("channel", "business_id", "contact_id"), key.decode().split(":"), strict=True)
        return ":".join(self._named(name, part) for name, part in parts).encode()

    def _hidden_value(self, value: bytes | None, timestamp_ms: int) -> bytes | None:
        if value is None:
            return None
        try:
            # half of an emoji is no reason not to read it, as it is none for a worker
            fields = json.loads(value.decode(), parse_constant=_refuse)
            if isinstance(fields, dict):
                hidden = (self._hidden_field(name, field, timestamp_ms) for name, field in fields.items())
                return msgspec.json.encode(dict(zip(_renamed(fields, _NAMES), hidden, strict=True)))
        except (ValueError, msgspec.MsgspecError, RecursionError):
            pass
        return b"x" * len(value)

    def _hidden_field(self, name: str, field: Any, timestamp_ms: int) -> Any:
        if (name in _IDS or name in _FORMS) and isinstance(field, str) and 0 < len(field) <= _ID_LETTERS_MAX:
            return self._named(name, field)
        if name in _TIMES and (time_ms := parse_time(field)) is not None:
            return _hidden_time(field, time_ms, timestamp_ms)
        if name in self._words and isinstance(field, str):
            word = field.lower() if name == "category" else field
            return field if word in self._words[name] else _blank(field)
        if name == "error_code" and isinstance(field, str | int) and _CODE.fullmatch(str(field)):
            return field
        return _blank(field)

    def _named(self, name: str, text: str) -> str:
        if text in self._kept.get(name, ()):
            return text
        is_of_its_form = name not in _FORMS or _FORMS[name].fullmatch(text)
        return self.of(text) if is_of_its_form else f"+{self.of(text)}"


def _hidden_time(field: Any, time_ms: int, timestamp_ms: int) -> Any:
    """Keep a time, and no more digits than it takes; digits that are none of about the record's may be a number.

    Those become a time of their own kind that is as much too early, or too far ahead.
    """
    digits = str(field)
    if not digits.isdecimal():
        return format_time(time_ms)
    if timestamp_ms - YEAR_MS <= time_ms <= timestamp_ms + DAY_MS:
        return field
    first = "9" if time_ms > timestamp_ms else "11"
    return type(field)(first.ljust(len(digits), "0"))


def _renamed(names: Iterable[str], kept: frozenset[str]) -> Iterator[str]:
    """Give names of which none says anything but those that are known; each stays one by itself."""
    for number, name in enumerate(names, 1):
        yield name if name in kept else f"x{number}"


def _blank(value: Any) -> Any:
    match value:
        case str():
            return "x" * len(value)
        case bool() | None:
            return value
        case int() | float():
            return 0
        case list():
            return [_blank(each) for each in value]
    return {f"x{number}": _blank(each) for number, each in enumerate(value.values(), 1)}


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
