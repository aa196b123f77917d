"""What lies on the two input topics, and how one record is read: an event, or the reason of a dead letter.

Written from the contract's pages "Keys", "Inputs" and "Dead letters" with the standard library's parser.
The checks stand in the contract's order, so that the first that applies is the one that is told.
"""

import re
from datetime import date, timedelta
from functools import lru_cache
from json.decoder import JSONDecoder
from typing import Any, Literal, NamedTuple, NoReturn

from processor.audit.partitioner import partition_of
from processor.audit.policy import ModelPolicy

TopicKind = Literal["inbound", "outbound"]

SKEW_MS = 5 * 60_000
"""A time this far ahead of its record's timestamp is still cut to it; more is refused."""

CONTEXT_BYTES_MAX = 1024

_ALWAYS_REQUIRED = frozenset({"type", "business_id", "contact_id", "time"})

_EPOCH = date(1970, 1, 1)
_DAY_MS = 86_400_000
_KEY = re.compile(r"[a-z0-9-]{1,32}:[A-Za-z0-9._-]{1,160}:[A-Za-z0-9._-]{1,160}")
_UNIX_TIME = re.compile(r"[0-9]{10}|[0-9]{13}")
_DIGITS = re.compile(r"[0-9]{1,18}")
_RFC_3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
)


def _each(sort: str, types: str) -> dict[str, str]:
    return dict.fromkeys(types.split(), sort)


# The contract's tables of types, and its lists of those that are on the wrong topic or that change nothing
# for now. A type that is in none of them is "unknown".
INBOUND_SORTS = {
    **_each("message", "text image video audio voice document sticker location contacts order"),
    **_each("message", "button interactive"),
    **_each("call", "call"),
    **_each("reaction", "reaction"),
    **_each("unsupported", "unsupported"),
    **_each("call_permission_reply", "call_permission_reply"),
    **_each("consent", "consent"),
    **_each("without effect", "edit revoke history system contact_changed"),
    **_each("misplaced", "status echo template user_preferences user_id_update errors account_update"),
    **_each("misplaced", "request_welcome"),
}
OUTBOUND_SORTS = {
    **_each("free-form", "text image video audio document sticker location contacts interactive reaction"),
    **_each("template", "template"),
    **_each("echo", "echo"),
    **_each("without effect", "call status"),
    **_each("misplaced", "button order voice unsupported edit revoke history system consent"),
    **_each("misplaced", "contact_changed call_permission_reply read typing"),
}


class Digest(NamedTuple):
    """What is known of a key or a value that was too large to be kept."""

    size: int
    sha256: str


class NotKept(NamedTuple):
    """What of a record was too large to be kept; it is null, or empty, in the record itself."""

    key: Digest | None = None
    value: Digest | None = None
    headers: tuple[int, int] | None = None
    """How many there were, and the bytes of their names and values."""

    @property
    def size(self) -> int:
        """Bytes of all of it."""
        return sum(part.size for part in (self.key, self.value) if part) + (self.headers[1] if self.headers else 0)


class Record(NamedTuple):
    """One record of an input topic, as a consumer gets it. `timestamp_ms` is Unix time."""

    topic_kind: TopicKind
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    appended_ms: int | None = None
    """When the broker took it, where the topic's timestamps say that (LogAppendTime); else None."""
    not_kept: NotKept | None = None


class Event(NamedTuple):
    """A record that could be read. `time_ms` is event time, already cut to the record's timestamp.

    A consent from too far ahead counts from its record's timestamp (`at_ms`), and is nowhere in time: `time_ms` is 0.
    """

    topic_kind: TopicKind
    sort: str
    key: str
    time_ms: int
    body: dict[str, Any]
    at_ms: int
    offset: int


def read(record: Record, policy: ModelPolicy, partitions: int) -> Event | str:
    """Return the event of a record, or the reason why it is a dead letter."""
    if _size(record) > policy.record_bytes_max:
        return "too-large"
    try:
        text, body = _parse(record.value)
    except _NotJsonError:
        return "not-json"
    if not isinstance(body, dict):
        return "bad-field"
    if _lacks_a_field(record.topic_kind, body):
        return "missing-field"
    sort = _sort(record.topic_kind, body["type"])
    key = _window_key(given(body, "channel", "whatsapp"), body["business_id"], body["contact_id"])
    if key is None or not _fields_are_good(record.topic_kind, sort, body, text):
        return "bad-field"
    time_ms = unix_ms(body["time"])
    if time_ms is None:
        return "bad-time"
    if policy.key_check:
        if record.key is None or record.key != key.encode():
            return "wrong-key"
        if partition_of(record.key, partitions) != record.partition:
            return "wrong-partition"
    at_ms = max(min(time_ms, record.timestamp_ms), 0)
    if time_ms - record.timestamp_ms <= SKEW_MS:
        return Event(record.topic_kind, sort, key, at_ms, body, at_ms, record.offset)
    if sort != "consent":
        return "future-time"
    at_ms = at_ms if record.timestamp_ms >= 0 else time_ms
    return Event(record.topic_kind, sort, key, 0, body, at_ms, record.offset)


def _size(record: Record) -> int:
    size = len(record.value or b"") + len(record.key or b"") + (record.not_kept.size if record.not_kept else 0)
    for name, content in record.headers:
        size += len(name.encode()) + len(content or b"")
    return size


# --- JSON -------------------------------------------------------------------------------------------------


class _NotJsonError(Exception):
    pass


def _refuse_constant(word: str) -> NoReturn:
    # NaN, Infinity and -Infinity: words that Python's parser knows and JSON does not.
    raise ValueError(word)


class LongNumber(NamedTuple):
    """An integer of more digits than Python reads (4,300); it is JSON all the same, and carried as it is."""

    digits: str


def whole_number(digits: str) -> int | LongNumber:
    """Read an integer of JSON, however long it is."""
    return int(digits) if len(digits) <= 4000 else LongNumber(digits)


_DECODER = JSONDecoder(parse_constant=_refuse_constant, parse_int=whole_number)


def _parse(value: bytes | None) -> tuple[str, Any]:
    if value is None:
        raise _NotJsonError
    try:
        text = value.decode("utf-8")
        if "\\u" in text:
            text = _with_whole_characters(text)
        return text, _DECODER.decode(text)
    except (ValueError, RecursionError) as cause:
        raise _NotJsonError from cause


def _with_whole_characters(text: str) -> str:
    # Half a character can be escaped, but it is none: it is read as the sign for what can't be read.
    whole, at = "", 0
    while at < len(text):
        if text[at] != "\\":
            step, part = 1, text[at]
        elif text[at + 1 : at + 2] != "u":
            step, part = 2, text[at : at + 2]
        else:
            first, second = text[at + 2 : at + 6].lower(), text[at + 6 : at + 12].lower()
            step, part = 6, text[at : at + 6]
            if first[:2] in ("d8", "d9", "da", "db") and second[:4] in ("\\udc", "\\udd", "\\ude", "\\udf"):
                step, part = 12, text[at : at + 12]
            elif first[:1] == "d" and first[1:2] in tuple("89abcdef"):
                part = "\\ufffd"
        whole, at = whole + part, at + step
    return whole


def written_bytes(text: str, field: str) -> int:
    """Return how many bytes the value of a top-level field has as written; the last where it is repeated.

    `text` must be a JSON object that was parsed before, with the field in it.
    """
    size = 0
    at = _past_spaces(text, text.index("{") + 1)
    while text[at] != "}":
        name, at = _DECODER.raw_decode(text, at)
        start = _past_spaces(text, _past_spaces(text, at) + 1)
        _, end = _DECODER.raw_decode(text, start)
        if name == field:
            size = len(text[start:end].encode())
        at = _past_spaces(text, end)
        if text[at] == ",":
            at = _past_spaces(text, at + 1)
    return size


def _past_spaces(text: str, at: int) -> int:
    while text[at] in " \t\r\n":
        at += 1
    return at


# --- Fields -----------------------------------------------------------------------------------------------


def _lacks_a_field(topic_kind: TopicKind, body: dict[str, Any]) -> bool:
    type_ = body.get("type")
    if not body.keys() >= _ALWAYS_REQUIRED:
        return True
    if type_ != "status" and "id" not in body:
        return True
    if topic_kind == "inbound" and type_ == "consent":
        return not ("scope" in body and "value" in body)
    return topic_kind == "outbound" and type_ == "template" and "category" not in body


def _window_key(channel: object, business_id: object, contact_id: object) -> str | None:
    """Return `{channel}:{business_id}:{contact_id}`, or None where a part is not as it must be."""
    if isinstance(channel, str) and isinstance(business_id, str) and isinstance(contact_id, str):
        key = f"{channel}:{business_id}:{contact_id}"
        # No part may hold a colon, so the whole can be looked at in one go.
        return key if _KEY.fullmatch(key) else None
    return None


def _sort(topic_kind: TopicKind, type_: object) -> str:
    sorts = INBOUND_SORTS if topic_kind == "inbound" else OUTBOUND_SORTS
    return sorts.get(type_, "unknown") if isinstance(type_, str) else "unknown"


def _fields_are_good(topic_kind: TopicKind, sort: str, body: dict[str, Any], text: str) -> bool:
    """Look at the fields that the contract's table gives this type, and at no others: those are carried."""
    type_ = body["type"]
    id_ = given(body, "id", "a status may go without") if type_ == "status" else body["id"]
    if not (_is_text(type_) and type_ and _is_id(id_)):
        return False
    if topic_kind == "outbound":
        return sort not in ("free-form", "template", "unknown") or _send_fields_are_good(body, text)
    if sort == "call":
        return given(body, "direction", "user") in ("user", "business") and _is_text(given(body, "outcome", ""))
    if sort == "unsupported":
        code = given(body, "error_code", 0)
        return _is_text(code) or (isinstance(code, int) and not isinstance(code, bool))
    if sort == "call_permission_reply":
        return _is_text(given(body, "response_source", ""))
    if sort == "consent":
        return body["scope"] in ("marketing", "all") and body["value"] in ("granted", "revoked")
    return True


def _send_fields_are_good(body: dict[str, Any], text: str) -> bool:
    if given(body, "intent", "request") not in ("request", "done"):
        return False
    if given(body, "origin", "agent") not in ("agent", "automation"):
        return False
    # A template's category is required: null is not one.
    if not _is_text(body["category"] if body["type"] == "template" else given(body, "category", "service")):
        return False
    if given(body, "context", None) is None:
        return True
    # A text that is short enough has no part that is too long; a character has at most four bytes.
    is_small = len(text) * 4 <= CONTEXT_BYTES_MAX or written_bytes(text, "context") <= CONTEXT_BYTES_MAX
    return isinstance(body["context"], dict) and is_small


def given(body: dict[str, Any], field: str, default: Any) -> Any:
    """Return an optional field, or the default where it is absent; null is absent."""
    found = body.get(field)
    return default if found is None else found


def _is_text(found: object) -> bool:
    return isinstance(found, str)


def _is_id(found: object) -> bool:
    return isinstance(found, str) and 1 <= len(found) <= 256


def error_code(body: dict[str, Any]) -> int | None:
    """Return the code of an `unsupported` message, written as number or digits; None if there is none."""
    code = body.get("error_code")
    if isinstance(code, str):
        return int(code) if _DIGITS.fullmatch(code) else None
    return code


# --- Times ------------------------------------------------------------------------------------------------


def unix_ms(written: object) -> int | None:
    """Read a time as the contract allows it to be written; None where it is none of these.

    RFC 3339 with a zone, or Unix time of exactly 10 digits (seconds) or 13 (milliseconds), as text or as
    integer. What is finer than a millisecond is cut off.
    """
    if isinstance(written, int) and not isinstance(written, bool):
        written = str(written)
    if not isinstance(written, str):
        return None
    if _UNIX_TIME.fullmatch(written):
        return int(written) * (1000 if len(written) == 10 else 1)
    parts = _RFC_3339.fullmatch(written)
    if parts is None:
        return None
    day, hour, minute, second, fraction, sign, offset_hour, offset_minute = parts.groups()
    midnight = _midnight_ms(day)
    if midnight is None:
        return None
    ms = midnight + ((int(hour) * 60 + int(minute)) * 60 + int(second)) * 1000
    if fraction:
        ms += int((fraction + "00")[:3])
    if sign:
        offset_ms = (int(offset_hour) * 60 + int(offset_minute)) * 60_000
        ms += -offset_ms if sign == "+" else offset_ms
    return ms if ms >= 0 else None


@lru_cache(maxsize=10_000)
def _midnight_ms(written: str) -> int | None:
    try:
        return (date.fromisoformat(written) - _EPOCH).days * _DAY_MS
    except ValueError:  # a 30th of February, a year 0
        return None


@lru_cache(maxsize=100_000)
def rfc3339(ms: int) -> str:
    """Write Unix milliseconds as every output does: RFC 3339, UTC, three digits of a second."""
    day, rest = divmod(ms, _DAY_MS)
    minutes, rest = divmod(rest, 60_000)
    return f"{_date(day)}T{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}.{rest % 1000:03}Z"


@lru_cache(maxsize=10_000)
def _date(day: int) -> str:
    return (_EPOCH + timedelta(days=day)).isoformat()
