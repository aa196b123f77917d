"""Outputs held against what is due.

Both are gone through side by side, each in its order, and whatever fits is let go of: in memory stays what is wrong.
"""

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, TypeVar

from processor.audit.findings import (
    OUTPUTS,
    Fault,
    Found,
    Kind,
    Place,
    Terms,
    Written,
    differences,
    parsed,
    sequence_of,
)
from processor.audit.model import Due, Fold, Knowledge
from processor.audit.records import unix_ms
from processor.audit.rounds import HEADER, Round, Walk

LOOK_AHEAD: Final = 10_000
"""How many events beyond the last that was found one is looked for that does not come next."""

_CONTENT_TYPE: Final = "content-type"  # the header by which subscribers know a CloudEvent
_TIMERS: Final = ("window-expiring", "window-closed")
_NO_CLOCK_MS: Final = -1

T = TypeVar("T")

_What = tuple[str, str, str]
"""An event's topic, id and key."""


class _Numbered(NamedTuple):
    """A record with a number of the partition: an output or a state."""

    sequence: str
    offset: int
    topic: str
    round: Round | None
    """The round that it tells of; None where that is none of the schedule."""
    id: str = ""
    key: str = ""
    event: dict[str, Any] | None = None
    """None: a state."""

    @property
    def what(self) -> _What:
        return self.topic, self.id, self.key


class _Topic:
    """One topic that a worker writes, gone along, and what is wrong with each record by itself and with their order."""

    def __init__(self, name: str, found: Found, terms: Terms) -> None:
        self._name, self._found, self._terms = name, found, terms
        self.faults: deque[Fault] = deque()

    def __iter__(self) -> Iterator[_Numbered]:
        """Give what has a number and was not written after the cut; look whether the numbers grow."""
        before: str | None = None
        for record, round_ in self.with_rounds():
            value = parsed(record.value)
            sequence = sequence_of(value)
            if sequence and self._found.is_later(sequence):
                continue
            each = _Numbered(sequence, record.offset, self._name, round_)
            numbered = self._output(each, record, value) if self._name in OUTPUTS else each
            if numbered is None or (numbered.event is None and not sequence):
                continue  # no event, which was told, or a tombstone
            if before is not None and sequence <= before:
                self._fault(Kind.OUT_OF_ORDER, record, f"sequence {sequence}", f"comes after {before}")
            before = sequence
            yield numbered

    def with_rounds(self) -> Iterator[tuple[Written, Round | None]]:
        """Give all records, each with its round; look whether each tells of one of the schedule, in their order."""
        records = self._found.written.get(self._name, ())
        if self._found.schedule is None:
            yield from ((record, None) for record in records)
            return
        walk, before = Walk(self._found.schedule), None
        for record in records:
            round_ = Round.read(record.headers)
            if round_ is None:
                self._fault(Kind.WRONG, record, "round", f"no {HEADER}, or none that can be read")
            elif not walk.has(round_):
                self._fault(Kind.OUT_OF_ORDER, record, f"round {round_}", "contradicts the rounds before it")
                round_ = None
            else:
                if before is not None and round_.end < before.end:
                    self._fault(Kind.OUT_OF_ORDER, record, f"round {round_}", f"comes after {before}")
                before = round_
            yield record, round_

    def _output(self, numbered: _Numbered, record: Written, event: Any) -> _Numbered | None:
        """Read an output, and hold what every event bears against what it must be; None where it is no event."""
        try:
            key = (record.key or b"").decode()
            shell = {name: event.pop(name) for name in ("specversion", "source", "datacontenttype", "sequence")}
            shell["policy"] = event["data"].pop("policy")
            shell[_CONTENT_TYPE] = [(text or b"").decode() for name, text in record.headers if name == _CONTENT_TYPE]
            id_ = str(event["id"])
        except (KeyError, AttributeError, TypeError, UnicodeDecodeError) as error:
            details = f"can't be read as an event ({type(error).__name__}: {error})"
            self._fault(Kind.WRONG, record, f"offset {record.offset}", details)
            return None
        due = {
            "specversion": "1.0",
            "source": self._terms.source,
            "datacontenttype": "application/json",
            "sequence": numbered.sequence or "20 digits",
            "policy": self._terms.policy_version,
            _CONTENT_TYPE: ["application/cloudevents+json"],
        }
        if shell != due:
            self._fault(Kind.WRONG, record, id_, "; ".join(differences(shell, due)))
        return numbered._replace(id=id_, key=key, event=event)

    def _fault(self, kind: Kind, record: Written, subject: str, details: str) -> None:
        self.faults.append(Fault(kind, self._name, self._found.partition, record.offset, subject, details))


class Outputs:
    """The outputs of a partition in the order of their numbers, matched one by one with what is due."""

    def __init__(self, found: Found, fold: Fold, terms: Terms) -> None:
        """Begin with nothing folded."""
        self._found, self._fold, self._terms = found, fold, terms
        self._due = enumerate(fold)
        self._due_from = 0
        """The place of what is due next, of all that was not looked at."""
        self._missing: defaultdict[_What, deque[tuple[int, Due]]] = defaultdict(deque)
        """What is due and was not found so far, with its place."""
        self._strange: defaultdict[_What, deque[_Numbered]] = defaultdict(deque)
        """What was found and is not due so far, nor soon."""
        self._before = (-1, _Numbered("", -1, "", None))
        """The last that was matched, and its place."""

    def faults(self) -> Iterator[Fault]:
        """Give what is wrong with each by itself, with their numbers and rounds, and with them all together.

        After the last the fold has come to its end.
        """
        topics = self._numbered_topics()
        before, told = _Numbered("", -1, "", None), None
        for each in _in_order(topics):
            yield from _told_along(topics)
            if each.sequence == before.sequence and each.topic != before.topic and before.topic:
                yield self._fault(Kind.DOUBLED, each, f"sequence {each.sequence}")
            before = each
            if each.round is not None:
                if told is not None and each.round.end < told.end:
                    details = f"its sequence is larger than one of round {told}"
                    yield self._fault(Kind.OUT_OF_ORDER, each, f"round {each.round}", details)
                told = each.round
            if each.event is not None:
                yield from self._match(each)
        yield from self._beyond_committed(before)
        consents = _Topic("consent-state", self._found, self._terms)
        for _ in consents.with_rounds():  # they bear no number
            yield from _told_along([consents])
        yield from _told_along([*topics, consents])
        yield from self._faults_of_the_rest()

    def _beyond_committed(self, last: _Numbered) -> Iterator[Fault]:
        """Look whether the largest number is committed: what is not would be given once more."""
        committed = self._found.committed
        if committed is not None and last.sequence and int(last.sequence) > committed.sequence:
            details = f"committed is {committed.sequence:020}"
            yield self._fault(Kind.UNEXPECTED, last, f"sequence {last.sequence}", details)

    def _numbered_topics(self) -> list[_Topic]:
        return [_Topic(name, self._found, self._terms) for name in (*OUTPUTS, "window-state")]

    def _match(self, output: _Numbered) -> Iterator[Fault]:
        """Look for an output among what is due, some way ahead if need be."""
        ahead = max(self._due_from + 1, self._before[0] + LOOK_AHEAD)
        while output.what not in self._missing and self._due_from < ahead and (due := next(self._due, None)):
            yield from self._fall_due(*due)
        if output.what not in self._missing:
            self._strange[output.what].append(output)
            return
        place, due_then = _first(self._missing, output.what)
        place_before, before = self._before
        if place < place_before:  # told where the order breaks, not of each that follows
            details = f"comes after {before.id}, and is due before it"
            yield self._fault(Kind.OUT_OF_ORDER, output, output.id, details)
        self._before = place, output
        yield from self._compare(output, due_then)

    def _fall_due(self, place: int, due: Due) -> Iterator[Fault]:
        """Take what is due next; where it was found long before, it is no longer strange."""
        self._due_from = place + 1
        what = due.output.topic, due.output.id, due.output.key
        if what not in self._strange:
            self._missing[what].append((place, due))
            return
        output, before = _first(self._strange, what), self._before[1]
        if (output.sequence, output.offset) < (before.sequence, before.offset):
            details = f"comes before {before.id}, and is due after it"
            yield self._fault(Kind.OUT_OF_ORDER, output, output.id, details)
        else:
            self._before = place, output
        yield from self._compare(output, due)

    def _compare(self, output: _Numbered, due: Due) -> Iterator[Fault]:
        if output.event != due.output.event:
            yield self._fault(Kind.WRONG, output, output.id, "; ".join(differences(output.event, due.output.event)))
        if output.round is not None and output.round != due.round:
            due_in = "no round that is told of" if due.round is None else f"round {due.round}"
            yield self._fault(Kind.OUT_OF_ORDER, output, f"round {output.round}", f"{output.id} is due in {due_in}")

    def _faults_of_the_rest(self) -> Iterator[Fault]:
        """Tell what was not found, to the very end, and what was and is not due."""
        yield from self._lost()
        for place, due in self._due:
            yield from self._fall_due(place, due)
            yield from self._lost()
        if not self._strange:
            return
        times = Counter(each.what for topic in self._numbered_topics() for each in topic if each.what in self._strange)
        for what, outputs in self._strange.items():
            for output in outputs:
                kind = Kind.DOUBLED if times[what] > len(outputs) else Kind.UNEXPECTED
                if kind is Kind.UNEXPECTED and _is_early(output, self._fold.knowledge):
                    kind = Kind.EARLY
                yield self._fault(kind, output, output.id)

    def _lost(self) -> Iterator[Fault]:
        """Tell of all that is missing so far, and let go of it."""
        partition = self._found.partition
        for (topic, id_, _), waiting in self._missing.items():
            for _, due in waiting:
                cause = Place(due.cause.topic, partition, due.cause.offset)
                yield Fault(Kind.LOST, topic, partition, None, id_, f"must come of {cause}", cause)
        self._missing.clear()

    def _fault(self, kind: Kind, output: _Numbered, subject: str, details: str = "") -> Fault:
        return Fault(kind, output.topic, self._found.partition, output.offset, subject, details)


def _in_order(topics: Iterable[_Topic]) -> Iterator[_Numbered]:
    return heapq.merge(*topics, key=lambda each: (each.sequence, each.offset))


def _told_along(topics: Iterable[_Topic]) -> Iterator[Fault]:
    """Give what was found to be wrong on the way."""
    for topic in topics:
        while topic.faults:
            yield topic.faults.popleft()


def _first(waiting: dict[_What, deque[T]], what: _What) -> T:
    """Take the first of those that wait under a name."""
    first = waiting[what].popleft()
    if not waiting[what]:
        del waiting[what]
    return first


def _is_early(output: _Numbered, known: Knowledge) -> bool:
    """Whether a timer fired whose time the partition's clock has not reached."""
    time_ms = unix_ms((output.event or {}).get("time"))
    clock_ms = _NO_CLOCK_MS if known.clock_ms is None else known.clock_ms
    return output.topic in _TIMERS and time_ms is not None and time_ms > clock_ms
