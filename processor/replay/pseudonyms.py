"""Persons out, shapes in: records in which nobody can be found, and from which the same windows come.

Who and what is named by an id becomes a keyed hash of it, the same one wherever it stands, so that messages, sends and
consents of a contact stay together. What the rules look at stays as it is. All other text becomes as many `x`, all
other numbers 0; field names stay.
"""

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from processor.codec.keys import is_key
from processor.codec.times import parse_time
from processor.replay.records import StoredRecord, is_at_home

KEY_BYTES_MIN: Final = 16

_IDS: Final = {"id", "message_id", "contact_id", "previous_contact_id"}
_WORD: Final = re.compile(r"[A-Za-z_-]{1,40}")
_NUMBER: Final = re.compile(r"\d{1,6}")
_PART: Final = re.compile(r"[A-Za-z0-9._-]{1,160}")


def _matches(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda field: isinstance(field, str | int) and pattern.fullmatch(str(field)) is not None


_KEPT: Final[dict[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("type", "direction", "outcome", "scope", "value", "status"), _matches(_WORD)),
    **dict.fromkeys(("intent", "origin", "category", "response_source"), _matches(_WORD)),
    **dict.fromkeys(("time", "send_time"), lambda field: parse_time(field) is not None),
    **dict.fromkeys(("channel", "business_id"), _matches(_PART)),
    "error_code": _matches(_NUMBER),
}
"""What the rules read, and whether it is of a form in which nobody's number or name can be."""
_ID_LETTERS_MAX: Final = 256
_DIGEST_BYTES: Final = 10  # a million contacts have one pair alike in a million archives


class Pseudonyms:
    """Names persons anew, by a secret key: without it nobody can tell whose a record was, nor try who it might be."""

    def __init__(self, key: bytes) -> None:
        """Take the key.

        Raises:
            ValueError: It is too short to be a secret.
        """
        if len(key) < KEY_BYTES_MIN:
            raise ValueError(f"found {len(key)} bytes, expected at least {KEY_BYTES_MIN}")
        self._key = hashlib.blake2b(key).digest()

    def of(self, name: str) -> str:
        """Give the pseudonym of an id, of characters that any id may have."""
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), key=self._key, digest_size=_DIGEST_BYTES)
        return f"p{digest.hexdigest()}"

    def hide(self, record: StoredRecord, partitions: int) -> StoredRecord:
        """Give the record without the person. What can't be read stays such, and says nothing any more.

        Its new key belongs elsewhere, so whether it lay where the old one did, among so many partitions, is kept.
        """
        headers = tuple((name, None if text is None else b"x" * len(text)) for name, text in record.headers)
        return record._replace(
            key=self._hidden_key(record.key),
            value=self._hidden_value(record.value),
            headers=headers,
            is_at_home=is_at_home(record, partitions),
        )

    def _hidden_key(self, key: bytes | None) -> bytes | None:
        if key is None or not is_key(key):
            return key and self.of(key.hex()).encode()
        place, _, contact = key.rpartition(b":")
        return b"%b:%b" % (place, self.of(contact.decode()).encode())

    def _hidden_value(self, value: bytes | None) -> bytes | None:
        if value is None:
            return None
        try:
            # half of an emoji is no reason not to read it, as it is none for a worker
            fields = json.loads(value.decode(), parse_constant=_refuse)
            if isinstance(fields, dict):
                return msgspec.json.encode({name: self._hidden_field(name, field) for name, field in fields.items()})
        except (ValueError, msgspec.MsgspecError, RecursionError):
            pass
        return b"x" * len(value)

    def _hidden_field(self, name: str, field: Any) -> Any:
        if name in _IDS and isinstance(field, str) and 0 < len(field) <= _ID_LETTERS_MAX:
            is_of_another_form = name.endswith("contact_id") and not _PART.fullmatch(field)
            return f"+{self.of(field)}" if is_of_another_form else self.of(field)
        if name in _KEPT and _KEPT[name](field):
            return field
        return _blank(field)


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
    return {name: _blank(each) for name, each in value.items()}


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
