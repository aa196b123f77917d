"""The contract's examples, good and bad, from ``schemas/examples/``.

An input's example is a whole record, since key, partition and timestamp decide about it as much as the value
does. An output's example is the value of a record; a bad one says where and why its schema refuses it.
"""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).parent.parent / "schemas" / "examples"
INPUTS = ("inbound", "outbound")
PARTITIONS = 12
"""How many partitions the topics of the examples have."""
RECORD_BYTES_MAX = 65_536
"""The limit that the examples of ``too-large`` are made for."""

Verdict = Literal["good", "bad"]


@dataclass(frozen=True)
class InputExample:
    """A record of an input topic. `reason` is that of its dead letter, None for a good one.

    `event_time_ms` is the time that a good record's event gets, after cutting. `beyond_schema` says why the
    JSON Schema lets a bad value pass that the codec must refuse.
    """

    name: str
    event: str
    topic: str
    partition: int
    key: bytes | None
    timestamp_ms: int
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    why: str
    reason: str | None
    event_time_ms: int | None
    beyond_schema: str | None


@dataclass(frozen=True)
class OutputExample:
    """The value of an output or state record, or a dead letter's headers.

    A bad one fails at `path` (a JSON pointer) for `keyword`, and for nothing else.
    """

    name: str
    event: str
    value: Any
    why: str
    path: str | None
    keyword: str | None


def input_examples(event: str, verdict: Verdict) -> list[InputExample]:
    """Read the examples of one input, ``inbound`` or ``outbound``, in alphabetical order."""
    return [_input(event, verdict, file) for file in _files(event, verdict)]


def output_examples(event: str, verdict: Verdict) -> list[OutputExample]:
    """Read the examples of one other event, in alphabetical order."""
    return [_output(event, verdict, file) for file in _files(event, verdict)]


def _files(event: str, verdict: Verdict) -> list[Path]:
    return sorted((ROOT / event / verdict).glob("*.json"))


def _input(event: str, verdict: Verdict, file: Path) -> InputExample:
    record = json.loads(file.read_text("utf-8"))
    example = InputExample(
        name=f"{event}/{verdict}/{file.stem}",
        event=event,
        topic=record.pop("topic"),
        partition=record.pop("partition"),
        key=_key(record),
        timestamp_ms=record.pop("timestamp_ms"),
        value=_value(record),
        headers=tuple((name, text.encode()) for name, text in record.pop("headers", [])),
        why=record.pop("why", ""),
        reason=record.pop("reason") if verdict == "bad" else None,
        event_time_ms=record.pop("event_time_ms") if verdict == "good" else None,
        beyond_schema=record.pop("beyond_schema", None),
    )
    if record:
        raise ValueError(f"{file.name} has fields that no one reads: {', '.join(record)}")
    return example


def _key(record: dict[str, Any]) -> bytes | None:
    if "key_base64" in record:
        return base64.b64decode(record.pop("key_base64"), validate=True)
    key = record.pop("key")
    return None if key is None else key.encode()


def _value(record: dict[str, Any]) -> bytes | None:
    """Take the value in whichever of its four forms it is written."""
    if record.pop("value_is_null", False):
        return None
    if "value_base64" in record:
        return base64.b64decode(record.pop("value_base64"), validate=True)
    if "value_parts" in record:  # [text, times] pairs: what is large or deep stays short in the file
        return "".join(text * times for text, times in record.pop("value_parts")).encode()
    value: str = record.pop("value")
    return value.encode()


def _output(event: str, verdict: Verdict, file: Path) -> OutputExample:
    name = f"{event}/{verdict}/{file.stem}"
    content = json.loads(file.read_text("utf-8"))
    if verdict == "good":
        return OutputExample(name, event, content, "", None, None)
    return OutputExample(name, event, content["value"], content["why"], content["path"], content["keyword"])
