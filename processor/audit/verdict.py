"""What lies on a partition's topics, held against what the model says must lie there: the verdict.

Both directions: what is due and is not there is lost, also at the end of a topic; what is there and is not due is
doubled or unexpected. Nothing here shares code with the worker, and nothing asks a broker. In the order of the file:
what is compared, what is told of it, and one comparison for each sort of topic.
"""

import hashlib
import json
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, NamedTuple

from processor.audit.model import Counts, DeadLetter, Result
from processor.audit.records import Record, unix_ms
from processor.audit.rounds import HEADER, Leave, Round, Schedule, Witness, chained

INPUTS = ("messages.inbound", "messages.outbound")
OUTPUTS = ("window-opened", "window-expiring", "window-closed", "send-accepted", "send-rejected")
STATES = ("window-state", "consent-state")
DEAD_LETTERS = "dead-letters"

_TIMERS = ("window-expiring", "window-closed")
_SHOWN_MAX = 120  # a value in a fault may be a whole send
_NO_CLOCK_MS = -1


class Written(NamedTuple):
    """A record of a topic that the worker writes."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class Found(NamedTuple):
    """What was read of one partition: the inputs up to the committed offsets, all else to its end."""

    partition: int
    inputs: Mapping[str, Sequence[Record]]
    written: Mapping[str, Sequence[Written]]
    """Outputs, states and dead letters by their topic's name in the contract."""
    sequence_max: int | None = None
    """Number of the last output that belongs to these inputs, where the worker goes on meanwhile.

    What was written later is not looked at. None: nothing is written any more, and everything must be as it is due.
    """
    schedule: Schedule | None = None
    """The rounds in which the worker says that it worked; None where it does not say so of each record."""


class Terms(NamedTuple):
    """What every event of a worker bears beside what it says, and how topics are named."""

    source: str
    policy_version: str
    topic_prefix: str
    concerns: Callable[[str], bool] = lambda _: True
    """Which keys are compared."""


class Kind(StrEnum):
    """What can be wrong."""

    LOST = "lost"
    DOUBLED = "doubled"
    UNEXPECTED = "unexpected"
    WRONG = "wrong"
    OUT_OF_ORDER = "out-of-order"
    EARLY = "early"
    WRONG_STATE = "wrong-state"


class Fault(NamedTuple):
    """One thing that is wrong; as text, one line."""

    kind: Kind
    topic: str
    partition: int
    offset: int | None
    """Where it lies; None where it should lie somewhere and does not."""
    subject: str
    """The event's id, the state's key, or the place of the record that could not be read."""
    details: str = ""

    def __str__(self) -> str:
        place = f"{self.topic}[{self.partition}]" + ("" if self.offset is None else f"@{self.offset}")
        return f"{self.kind} {place}: {self.subject}" + (f": {self.details}" if self.details else "")


@dataclass
class Verdict:
    """What was compared, and what is wrong with it."""

    examples_max: int = 5
    """How many faults of each kind are kept; all are counted."""
    partitions: int = 0
    counts: Counts = field(default_factory=Counts)
    """Of the inputs, as the model counts them: consumed = applied + dead letters."""
    not_consumed: int = 0
    """Positions of the inputs that the group has not committed yet; nothing of them is judged."""
    outputs: int = 0
    windows: int = 0
    consents: int = 0
    faults: Counter[Kind] = field(default_factory=Counter)
    examples: list[Fault] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    def add(self, found: Found, expected: Result, terms: Terms) -> None:
        """Take in one partition."""
        self.partitions += 1
        self.outputs += len(expected.outputs)
        self.windows += len(expected.windows)
        self.consents += len(expected.consents)
        for count in fields(Counts):
            total = getattr(self.counts, count.name) + getattr(expected.counts, count.name)
            setattr(self.counts, count.name, total)
        for fault in compare(found, expected, terms):
            self.faults[fault.kind] += 1
            if self.faults[fault.kind] <= self.examples_max:
                self.examples.append(fault)

    def __str__(self) -> str:
        head = (
            f"{self.counts.records} records, {self.outputs} outputs, {self.windows} windows,"
            f" {self.counts.dead_letters} dead letters, {self.faults.total()} faults"
        )
        return "\n  ".join([head, *map(str, self.examples)])


class Witnesses:
    """Gathers the rounds that the records of a partition tell of, and makes a schedule of them."""

    def __init__(self) -> None:
        """Begin with none."""
        self._of: dict[Round, Witness] = {}
        self._is_complete = True

    def note(self, topic: str, record: Written) -> None:
        """Take note of a record of `OUTPUTS` or `STATES`, of whatever contact."""
        round_ = Round.read(record.headers)
        if round_ is None:
            self._is_complete = False
        elif round_ not in self._of:
            self._of[round_] = Witness(round_, topic, record.offset, record.timestamp_ms)

    def schedule(
        self, leave: Leave, *, until: tuple[int, int, int] | None = None, clock_ms: int | None = None, is_whole: bool
    ) -> Schedule | None:
        """Give the rounds up to `until` (a worker goes on meanwhile; None: all).

        None where event time alone moves the clock and not every record tells of its round: they may have been
        written before workers did so.
        """
        if not (self._is_complete or leave.moves_idle_clock):
            return None
        witnesses = [each for each in self._of.values() if until is None or not _is_beyond(each.round, until)]
        return Schedule(chained(witnesses), leave, clock_ms, is_whole)


def _is_beyond(round_: Round, end: tuple[int, int, int]) -> bool:
    return any(to > most for to, most in zip(round_.end, end, strict=True))


def until_cut(found: Found, end: tuple[int, int, int]) -> Found:
    """Leave out what was written by rounds beyond a cut."""
    written = dict(found.written)
    for topic in (*OUTPUTS, *STATES):
        written[topic] = [
            record
            for record in found.written.get(topic, ())
            if (round_ := Round.read(record.headers)) is None or not _is_beyond(round_, end)
        ]
    return found._replace(written=written)


def compare(found: Found, expected: Result, terms: Terms) -> Iterator[Fault]:
    """Give all that is wrong with a partition."""
    outputs = _Outputs(found, terms)
    yield from outputs.faults
    yield from _output_faults(found.partition, outputs, expected)
    if found.schedule is not None:
        yield from _round_faults(found, found.schedule, outputs, expected)
    yield from _sequence_faults(found.partition, outputs.sequences)
    for topic, states in zip(STATES, (expected.windows, expected.consents), strict=True):
        yield from _state_faults(topic, found, states, terms)
    yield from _dead_letter_faults(found, expected.dead_letters, terms)


# --- Outputs ----------------------------------------------------------------------------------------------

_What = tuple[str, str, str]
"""An event's topic, id and key."""


class _Output(NamedTuple):
    sequence: str
    topic: str
    offset: int
    id: str
    key: str
    event: dict[str, Any]

    @property
    def what(self) -> _What:
        return self.topic, self.id, self.key


class _Outputs:
    """The events of a partition in the order of `sequence`, and what is wrong with each by itself."""

    def __init__(self, found: Found, terms: Terms) -> None:
        self.faults: list[Fault] = []
        self.read: list[_Output] = []
        self.sequences: list[tuple[str, int, str]] = []
        """Topic, offset and sequence of each record that has one, topic by topic."""
        self.matched: list[tuple[_Output, int]] = []
        """Outputs that are due, with their place among all that are."""
        for topic in (*OUTPUTS, "window-state"):
            for record in found.written.get(topic, ()):
                if topic in OUTPUTS:
                    self._take(topic, record, found, terms)
                elif (sequence := _sequence(_parsed(record.value))) and not _is_later(sequence, found):
                    self.sequences.append((topic, record.offset, sequence))
        self.read.sort(key=lambda output: (output.sequence, output.offset))

    def _take(self, topic: str, record: Written, found: Found, terms: Terms) -> None:
        event = _parsed(record.value)
        sequence = _sequence(event)
        if sequence and _is_later(sequence, found):
            return

        def wrong(subject: str, details: str) -> None:
            self.faults.append(Fault(Kind.WRONG, topic, found.partition, record.offset, subject, details))

        try:
            key = (record.key or b"").decode()
            shell = {name: event.pop(name) for name in ("specversion", "source", "datacontenttype", "sequence")}
            shell["policy"] = event["data"].pop("policy")
            id_ = str(event["id"])
        except (KeyError, AttributeError, TypeError, UnicodeDecodeError) as error:
            wrong(f"offset {record.offset}", f"can't be read as an event ({type(error).__name__}: {error})")
            return
        due = {
            "specversion": "1.0",
            "source": terms.source,
            "datacontenttype": "application/json",
            "sequence": sequence,
            "policy": terms.policy_version,
        }
        if shell != due:
            wrong(id_, "; ".join(_differences(shell, due)))
        self.sequences.append((topic, record.offset, sequence))
        self.read.append(_Output(sequence, topic, record.offset, id_, key, event))


def _output_faults(partition: int, outputs: _Outputs, expected: Result) -> Iterator[Fault]:
    """Match what was said with what is due, one by one in order of `sequence`."""
    due: defaultdict[_What, deque[int]] = defaultdict(deque)
    for place, wanted in enumerate(expected.outputs):
        due[wanted.topic, wanted.id, wanted.key].append(place)
    before = -1
    for output in outputs.read:
        places = due.get(output.what)
        if not places:
            kind = Kind.UNEXPECTED if places is None else Kind.DOUBLED
            if places is None and _is_early(output, expected):
                kind = Kind.EARLY
            yield Fault(kind, output.topic, partition, output.offset, output.id)
            continue
        place = places.popleft()
        outputs.matched.append((output, place))
        wanted = expected.outputs[place]
        if output.event != wanted.event:
            details = "; ".join(_differences(output.event, wanted.event))
            yield Fault(Kind.WRONG, output.topic, partition, output.offset, output.id, details)
        if place < before:  # told where the order breaks, not of each that follows
            details = f"comes after {expected.outputs[before].id}, and is due before it"
            yield Fault(Kind.OUT_OF_ORDER, output.topic, partition, output.offset, output.id, details)
        before = place
    for (topic, id_, _), places in due.items():
        for _ in places:
            yield Fault(Kind.LOST, topic, partition, None, id_)


def _is_early(output: _Output, expected: Result) -> bool:
    """Whether a timer fired whose time the partition's clock has not reached."""
    time_ms = unix_ms(output.event.get("time"))
    clock_ms = _NO_CLOCK_MS if expected.clock_ms is None else expected.clock_ms
    return output.topic in _TIMERS and time_ms is not None and time_ms > clock_ms


def _sequence_faults(partition: int, sequences: Iterable[tuple[str, int, str]]) -> Iterator[Fault]:
    """Look whether `sequence` grows on each topic, and no number of the partition comes twice."""
    seen: set[str] = set()
    topic_before, before = "", ""
    for topic, offset, sequence in sequences:
        if topic == topic_before and sequence <= before:
            yield Fault(Kind.OUT_OF_ORDER, topic, partition, offset, f"sequence {sequence}", f"comes after {before}")
        elif sequence in seen:
            yield Fault(Kind.DOUBLED, topic, partition, offset, f"sequence {sequence}")
        seen.add(sequence)
        topic_before, before = topic, sequence


# --- Rounds -----------------------------------------------------------------------------------------------


def _round_faults(found: Found, schedule: Schedule, outputs: _Outputs, expected: Result) -> Iterator[Fault]:
    """Look whether each record tells of a round, in their order, and of the one in which it was due."""
    told: dict[tuple[str, int], int] = {}
    """Topic and offset of a record, and the place of its round."""
    for topic in (*OUTPUTS, *STATES):
        yield from _topic_round_faults(topic, found, schedule, told)

    def fault(place: tuple[str, int], at: int, details: str) -> Fault:
        subject = f"round {schedule.witnesses[at].round}"
        return Fault(Kind.OUT_OF_ORDER, place[0], found.partition, place[1], subject, details)

    before = 0
    for topic, offset, _ in sorted(outputs.sequences, key=lambda numbered: numbered[2]):
        at = told.get((topic, offset), before)
        if at < before:
            details = f"its sequence is larger than one of round {schedule.witnesses[before].round}"
            yield fault((topic, offset), at, details)
        before = at
    for output, due in outputs.matched:
        place = (output.topic, output.offset)
        if place in told and due not in expected.outputs_of[told[place]]:
            of = next((at for at, places in enumerate(expected.outputs_of) if due in places), None)
            due_in = "none that is told of" if of is None else str(schedule.witnesses[of].round)
            yield fault(place, told[place], f"{output.id} is due in {due_in}")
    for breach in expected.breaches:
        if (witness := breach.witness) is None:
            yield Fault(Kind(breach.kind), INPUTS[0], found.partition, None, "the committed clock", breach.details)
        else:
            subject = f"round {witness.round}"
            yield Fault(Kind(breach.kind), witness.topic, found.partition, witness.offset, subject, breach.details)


def _topic_round_faults(
    topic: str, found: Found, schedule: Schedule, told: dict[tuple[str, int], int]
) -> Iterator[Fault]:
    """Look along a topic; `told` is filled with what its records tell of."""
    before = 0
    for record in found.written.get(topic, ()):
        round_ = Round.read(record.headers)
        at = None if round_ is None else schedule.place_of.get(round_)
        if round_ is None:
            details = f"no {HEADER}, or none that can be read"
            yield Fault(Kind.WRONG, topic, found.partition, record.offset, "round", details)
        elif at is None:
            details = "contradicts the rounds before it"
            yield Fault(Kind.OUT_OF_ORDER, topic, found.partition, record.offset, f"round {round_}", details)
        else:
            if at < before:
                details = f"comes after {schedule.witnesses[before].round}"
                yield Fault(Kind.OUT_OF_ORDER, topic, found.partition, record.offset, f"round {round_}", details)
            told[topic, record.offset] = before = at


# --- States -----------------------------------------------------------------------------------------------


def _state_faults(topic: str, found: Found, expected: Mapping[str, Any], terms: Terms) -> Iterator[Fault]:
    """Hold the newest record of each key against what must be known of it, and of no other key."""
    newest: dict[str, Written] = {}
    moved: set[str] = set()
    is_later = False
    for record in found.written.get(topic, ()):
        key = (record.key or b"").decode("utf-8", "replace")
        sequence = _sequence(_parsed(record.value)) if found.sequence_max is not None else ""
        is_later = is_later or bool(sequence and _is_later(sequence, found))
        newest[key] = record
        if is_later:  # a tombstone after it bears no number and may be later too
            moved.add(key)
    if found.sequence_max is not None and topic == "consent-state":
        return  # its records bear no number, so what was known then can't be told from what is known now
    for key in sorted(key for key in newest.keys() | expected.keys() if terms.concerns(key)):
        record_or_none = newest.get(key)
        state = _state(record_or_none)
        if key in moved or state == expected.get(key):
            continue
        if state is None and found.sequence_max is not None:
            continue  # forgotten since, perhaps: a tombstone bears no number
        offset = None if record_or_none is None else record_or_none.offset
        details = "; ".join(_differences(state, expected.get(key)))
        yield Fault(Kind.WRONG_STATE, topic, found.partition, offset, key, details)


def _state(record: Written | None) -> Any:
    """Give what a record says is known, None for a tombstone or none; one that can't be read is given as it is."""
    if record is None or record.value is None:
        return None
    state = _parsed(record.value)
    if not isinstance(state, dict) or state.pop("v", None) != 1:
        return record.value.decode("utf-8", "replace")
    state.pop("sequence", None)
    return state


# --- Dead letters -----------------------------------------------------------------------------------------


def _dead_letter_faults(found: Found, expected: Iterable[DeadLetter], terms: Terms) -> Iterator[Fault]:
    sources = {(terms.topic_prefix + name, record.offset): record for name in INPUTS for record in found.inputs[name]}
    due = {(terms.topic_prefix + letter.topic, letter.offset): letter.reason for letter in expected}
    seen: set[tuple[str, int]] = set()
    for letter in found.written.get(DEAD_LETTERS, ()):
        # Headers of the record come first, and may have the same names; ours begin where the last reason stands.
        names = [name for name, _ in letter.headers]
        begin = len(names) - 1 - names[::-1].index("__dlq.reason") if "__dlq.reason" in names else len(names)
        said = {name: (content or b"").decode("utf-8", "replace") for name, content in letter.headers[begin:]}
        topic, offset = said.get("__dlq.topic", ""), said.get("__dlq.offset", "")
        place = topic, int(offset) if offset.isdecimal() else -1
        source = sources.get(place)
        if source is None and found.sequence_max is not None and topic:
            continue  # of a record after those that were read

        def fault(kind: Kind, details: str = "", letter: Written = letter, place: tuple[str, int] = place) -> Fault:
            subject = f"{place[0]}[{found.partition}]@{place[1]}"
            return Fault(kind, DEAD_LETTERS, found.partition, letter.offset, subject, details)

        if source is None or place not in due:
            yield fault(Kind.UNEXPECTED, f"{said.get('__dlq.reason')}")
        elif place in seen:
            yield fault(Kind.DOUBLED)
        elif said["__dlq.reason"] != due[place]:
            yield fault(Kind.WRONG, f"reason {said['__dlq.reason']}, expected {due[place]}")
        elif not _is_true_copy(letter, letter.headers[:begin], said, source):
            yield fault(Kind.WRONG, "not the record byte for byte")
        seen.add(place)
    for (topic, number), reason in due.items():
        if (topic, number) not in seen:
            subject = f"{topic}[{found.partition}]@{number}"
            yield Fault(Kind.LOST, DEAD_LETTERS, found.partition, None, subject, reason)


def _is_true_copy(
    letter: Written, headers: tuple[tuple[str, bytes | None], ...], said: Mapping[str, str], source: Record
) -> bool:
    """Whether a dead letter is its record; what would not fit may be told by size, digest and number instead."""

    def is_told(part: bytes | None, size: str, sha256: str) -> bool:
        expected = str(len(part or b"")), hashlib.sha256(part or b"").hexdigest()
        return (said.get(size), said.get(sha256)) == expected

    key_left_out = letter.key is None and is_told(source.key, "__dlq.key_size", "__dlq.key_sha256")
    value_left_out = letter.value is None and is_told(source.value, "__dlq.size", "__dlq.sha256")
    headers_left_out = not headers and said.get("__dlq.headers") == str(len(source.headers))
    place = said.get("__dlq.partition"), said.get("__dlq.timestamp")
    return (
        (letter.key == source.key or key_left_out)
        and (letter.value == source.value or value_left_out)
        and (headers == source.headers or headers_left_out)
        and place == (str(source.partition), str(source.timestamp_ms))
    )


# --- What is read, and how a difference is told -----------------------------------------------------------


def _parsed(value: bytes | None) -> Any:
    try:
        return json.loads(value or b"")
    except ValueError:
        return None


def _sequence(event: Any) -> str:
    """Give the number of an output or state, empty where it has none of 20 digits."""
    sequence = event.get("sequence") if isinstance(event, dict) else None
    return sequence if isinstance(sequence, str) and len(sequence) == 20 and sequence.isdecimal() else ""


def _is_later(sequence: str, found: Found) -> bool:
    return found.sequence_max is not None and int(sequence) > found.sequence_max


def _differences(found: Any, expected: Any, path: str = "") -> Iterator[str]:
    """Say where two values differ, as deep inside as can be."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for name in sorted(found.keys() | expected.keys()):
            yield from _differences(found.get(name), expected.get(name), f"{path}.{name}" if path else name)
    elif found != expected:
        yield f"{path}{' ' if path else ''}found {_shown(found)}, expected {_shown(expected)}"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"
