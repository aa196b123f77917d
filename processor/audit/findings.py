"""What was found on a partition's topics, and what can be wrong with it."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from processor.audit.records import Record, whole_number
from processor.audit.rounds import Schedule

INPUTS: Final = ("messages.inbound", "messages.outbound")
OUTPUTS: Final = ("window-opened", "window-expiring", "window-closed", "send-accepted", "send-rejected")
STATES: Final = ("window-state", "consent-state")
DEAD_LETTERS: Final = "dead-letters"

_DECODER: Final = json.JSONDecoder(parse_int=whole_number)
_NUMBER: Final = re.compile("[0-9]{20}")
_SHOWN_MAX: Final = 120  # a value in a fault may be a whole send


class Written(NamedTuple):
    """A record of a topic that the worker writes."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    @property
    def key_text(self) -> str:
        """Its key as a fault names it."""
        return (self.key or b"").decode("utf-8", "replace")


class Committed(NamedTuple):
    """What a group has committed of a partition."""

    inbound: int
    outbound: int
    sequence: int
    """The number of the last output or state."""


class Found(NamedTuple):
    """What was read of one partition: the inputs up to the committed offsets, all else to its end.

    Each topic is gone through more than once.
    """

    partition: int
    inputs: Mapping[str, Iterable[Record]]
    written: Mapping[str, Iterable[Written]]
    """Outputs, states and dead letters by their topic's name in the contract."""
    sequence_max: int | None = None
    """Number of the last output that belongs to these inputs, where the worker goes on meanwhile.

    What was written later is not looked at. None: nothing is written any more, and everything must be as it is due.
    """
    schedule: Schedule | None = None
    """The rounds in which the worker says that it worked; None where no record says so."""
    moved: Mapping[str, AbstractSet[str]] = MappingProxyType({})
    """By state topic, the keys of which more was written than belongs to these inputs: compaction may have taken what
    was known of them then."""
    committed: Committed | None = None
    """What is committed where nothing is written any more; None where it is not known."""

    def is_later(self, sequence: str) -> bool:
        """Whether a number is of what was written after these inputs."""
        return self.sequence_max is not None and int(sequence) > self.sequence_max


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


class Place(NamedTuple):
    """Where a record lies; the topic is named as in the contract."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"


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
    cause: Place | None = None
    """Of an event that is lost, the input that it must come of."""

    def __str__(self) -> str:
        place = f"{self.topic}[{self.partition}]" + ("" if self.offset is None else f"@{self.offset}")
        return f"{self.kind} {place}: {self.subject}" + (f": {self.details}" if self.details else "")


def parsed(value: bytes | None) -> Any:
    """Read JSON; None where there is none, or none that can be read."""
    try:
        return _DECODER.decode((value or b"").decode())
    except (ValueError, RecursionError):
        return None


def sequence_of(event: Any) -> str:
    """Give the number of an output or state, empty where it has none of 20 digits."""
    sequence = event.get("sequence") if isinstance(event, dict) else None
    return sequence if isinstance(sequence, str) and _NUMBER.fullmatch(sequence) else ""


def differences(found: Any, expected: Any, path: str = "") -> Iterator[str]:
    """Say where two values differ, as deep inside as can be."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for name in sorted(found.keys() | expected.keys()):
            yield from differences(found.get(name), expected.get(name), f"{path}.{name}" if path else name)
    elif found != expected:
        yield f"{path}{' ' if path else ''}found {_shown(found)}, expected {_shown(expected)}"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"
