"""Dead letters held against the records that they are copies of."""

import hashlib
from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import NamedTuple

from processor.audit.findings import DEAD_LETTERS, INPUTS, Fault, Found, Kind, Terms, Written
from processor.audit.model import DeadLetter
from processor.audit.records import Digest, NotKept, Record
from processor.audit.rounds import Headers

_DIGITS_MAX = 19  # of an offset

_Place = tuple[str, int]
"""A topic's name on the cluster, and an offset."""


class _Part(NamedTuple):
    """A key or a value, by what a dead letter may tell in its place."""

    is_there: bool
    size: str
    sha256: str

    @classmethod
    def of(cls, part: bytes | None, digest: Digest | None = None) -> "_Part":
        if digest is not None:
            return cls(True, str(digest.size), digest.sha256)
        return cls(part is not None, str(len(part or b"")), hashlib.sha256(part or b"").hexdigest())


class _Source(NamedTuple):
    """What a copy of an input record is held against; not the record, which may be large."""

    key: _Part
    value: _Part
    headers: _Part
    header_count: str
    place: tuple[str, str]
    """Its partition and its timestamp."""

    @classmethod
    def of(cls, record: Record) -> "_Source":
        place = str(record.partition), str(record.timestamp_ms)
        not_kept = record.not_kept or NotKept()
        key, value = _Part.of(record.key, not_kept.key), _Part.of(record.value, not_kept.value)
        if not_kept.headers is not None:
            count, size = not_kept.headers
            return cls(key, value, _Part(True, str(size), ""), str(count), place)
        return cls(key, value, _Part.of(repr(record.headers).encode()), str(len(record.headers)), place)


def dead_letter_faults(found: Found, expected: Iterable[DeadLetter], terms: Terms) -> Iterator[Fault]:
    """Give what is lost, doubled, unexpected, or no true copy."""
    due = {(terms.topic_prefix + letter.topic, letter.offset): letter.reason for letter in expected}
    inputs = {terms.topic_prefix + name: found.inputs[name] for name in INPUTS}
    sources = {topic: _Sources(topic, read, due) for topic, read in inputs.items()}
    last_read = {} if found.sequence_max is None else {topic: _last_offset(read) for topic, read in inputs.items()}
    seen: set[_Place] = set()
    for letter in found.written.get(DEAD_LETTERS, ()):
        headers, said = _headers_and_ours(letter)
        topic, offset = said.get("__dlq.topic", ""), said.get("__dlq.offset", "")
        place = topic, int(offset) if offset.isdecimal() and len(offset) <= _DIGITS_MAX else -1
        if topic in last_read and place[1] > last_read[topic]:
            continue  # of a record after those that were read

        def fault(kind: Kind, details: str = "", letter: Written = letter, place: _Place = place) -> Fault:
            subject = f"{place[0]}[{found.partition}]@{place[1]}"
            return Fault(kind, DEAD_LETTERS, found.partition, letter.offset, subject, details)

        if place not in due:
            yield fault(Kind.UNEXPECTED, f"{said.get('__dlq.reason')}")
        elif place in seen:
            yield fault(Kind.DOUBLED)
        elif said["__dlq.reason"] != due[place]:
            yield fault(Kind.WRONG, f"reason {said['__dlq.reason']}, expected {due[place]}")
        elif not _is_true_copy(letter, headers, said, sources[topic].at(place[1])):
            yield fault(Kind.WRONG, "not the record byte for byte")
        seen.add(place)
    for (topic, number), reason in due.items():
        if (topic, number) not in seen:
            subject = f"{topic}[{found.partition}]@{number}"
            yield Fault(Kind.LOST, DEAD_LETTERS, found.partition, None, subject, reason)


class _Sources:
    """What there must be copies of on one topic, by offset.

    Copies lie in the order of their records, so these are gone along once; where they do not, all are kept.
    """

    def __init__(self, topic: str, records: Iterable[Record], due: Container[_Place]) -> None:
        self._topic, self._records, self._due = topic, records, due
        self._rest = iter(records)
        self._passed = -1
        self._kept: dict[int, _Source] = {}

    def at(self, offset: int) -> _Source:
        """Give the one that lies there; one that is due does."""
        if offset > self._passed:
            self._passed = offset
            return _Source.of(next(record for record in self._rest if record.offset == offset))
        if not self._kept:
            self._kept = {it.offset: _Source.of(it) for it in self._records if (self._topic, it.offset) in self._due}
        return self._kept[offset]


def _last_offset(records: Iterable[Record]) -> int:
    last = deque(records, maxlen=1)
    return last[0].offset if last else -1


def _headers_and_ours(letter: Written) -> tuple[Headers, dict[str, str]]:
    """Tell the record's own headers, which come first, from those that were added; names may be the same."""
    names = [name for name, _ in letter.headers]
    begin = len(names) - 1 - names[::-1].index("__dlq.reason") if "__dlq.reason" in names else len(names)
    ours = {name: (content or b"").decode("utf-8", "replace") for name, content in letter.headers[begin:]}
    return letter.headers[:begin], ours


def _is_true_copy(letter: Written, headers: Headers, said: Mapping[str, str], source: _Source) -> bool:
    """Whether a dead letter is its record; what would not fit may be told by size, digest and number instead."""

    def is_told(part: _Part, size: str, sha256: str) -> bool:
        return (said.get(size), said.get(sha256)) == (part.size, part.sha256)

    key_left_out = letter.key is None and is_told(source.key, "__dlq.key_size", "__dlq.key_sha256")
    value_left_out = letter.value is None and is_told(source.value, "__dlq.size", "__dlq.sha256")
    headers_left_out = not headers and said.get("__dlq.headers") == source.header_count
    return (
        (_Part.of(letter.key) == source.key or key_left_out)
        and (_Part.of(letter.value) == source.value or value_left_out)
        and (_Part.of(repr(headers).encode()) == source.headers or headers_left_out)
        and (said.get("__dlq.partition"), said.get("__dlq.timestamp")) == source.place
    )
