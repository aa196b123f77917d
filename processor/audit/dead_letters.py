"""Dead letters held against the records that they are copies of."""

import hashlib
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import NamedTuple

from processor.audit.findings import DEAD_LETTERS, INPUTS, Fault, Found, Kind, Terms, Written
from processor.audit.model import DeadLetter
from processor.audit.records import Digest, NotKept, Record
from processor.audit.rounds import Headers

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
    sources, last_read = _sources(found, due, terms)
    seen: set[_Place] = set()
    for letter in found.written.get(DEAD_LETTERS, ()):
        headers, said = _headers_and_ours(letter)
        topic, offset = said.get("__dlq.topic", ""), said.get("__dlq.offset", "")
        place = topic, int(offset) if offset.isdecimal() else -1
        source = sources.get(place)
        if found.sequence_max is not None and topic in last_read and place[1] > last_read[topic]:
            continue  # of a record after those that were read

        def fault(kind: Kind, details: str = "", letter: Written = letter, place: _Place = place) -> Fault:
            subject = f"{place[0]}[{found.partition}]@{place[1]}"
            return Fault(kind, DEAD_LETTERS, found.partition, letter.offset, subject, details)

        if source is None:
            yield fault(Kind.UNEXPECTED, f"{said.get('__dlq.reason')}")
        elif place in seen:
            yield fault(Kind.DOUBLED)
        elif said["__dlq.reason"] != due[place]:
            yield fault(Kind.WRONG, f"reason {said['__dlq.reason']}, expected {due[place]}")
        elif not _is_true_copy(letter, headers, said, source):
            yield fault(Kind.WRONG, "not the record byte for byte")
        seen.add(place)
    for (topic, number), reason in due.items():
        if (topic, number) not in seen:
            subject = f"{topic}[{found.partition}]@{number}"
            yield Fault(Kind.LOST, DEAD_LETTERS, found.partition, None, subject, reason)


def _sources(found: Found, due: Container[_Place], terms: Terms) -> tuple[dict[_Place, _Source], dict[str, int]]:
    """Give what there must be copies of, and the last offset that was read of each topic."""
    sources: dict[_Place, _Source] = {}
    last_read = {terms.topic_prefix + name: -1 for name in INPUTS}
    for topic, name in zip(last_read, INPUTS, strict=True):
        for record in found.inputs[name]:
            last_read[topic] = record.offset
            if (topic, record.offset) in due:
                sources[topic, record.offset] = _Source.of(record)
    return sources, last_read


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
