"""Times moved to the present: by one distance for all, so that what lay an hour apart still does."""

from typing import Any, Final

import msgspec

from processor.codec.times import LIMIT_MS, format_time, parse_time
from processor.replay.records import StoredRecord

_MOVED: Final = ("time", "send_time")
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def shifted(record: StoredRecord, distance_ms: int, now_ms: int) -> StoredRecord:
    """Move the times of a record and of its body; every other byte of a field stays.

    The record's own time is never moved beyond `now_ms` (wall clock): no broker takes what is far in the future.
    What can't be read keeps its value.
    """
    timestamp_ms = min(record.timestamp_ms + distance_ms, now_ms) if record.timestamp_ms >= 0 else now_ms
    return record._replace(timestamp_ms=timestamp_ms, value=_shifted_value(record.value, distance_ms))


def _shifted_value(value: bytes | None, distance_ms: int) -> bytes | None:
    try:
        fields: dict[str, Any] = dict(_decode_fields(value or b""))
        for name in _MOVED:
            if name in fields:
                fields[name] = _moved(msgspec.json.decode(fields[name]), distance_ms)
        return msgspec.json.encode(fields)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return value


def _moved(time: Any, distance_ms: int) -> Any:
    """Move a time in its form, where it can still be read then: Unix times keep their kind and their digits."""
    if (time_ms := parse_time(time)) is None or not 0 <= (moved_ms := time_ms + distance_ms) < LIMIT_MS:
        return time
    digits = str(time)
    if not digits.isdecimal():
        return format_time(moved_ms)
    moved = moved_ms if len(digits) == 13 else moved_ms // 1000
    return type(time)(moved)
