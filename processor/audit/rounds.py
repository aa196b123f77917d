"""What each record of a worker tells of the round that it was written in: the witness by which any clock can be judged.

Within a round the order is given: the records that it took of both topics by event time, then, where it was idle, the
clock. So whoever knows where rounds begin and end knows the order of everything. A round that wrote nothing leaves a
gap: nothing came of its records, in whatever order they were taken (one that found a message too late always writes).

The header `janela-round`: `FROM+COUNT/LEFT FROM+COUNT/LEFT CLOCK+GAIN/BEHIND`. Of inbound, then of outbound, the
offset where the round began, how many offsets it passed, and how many were then left to the end that the topic was
found to have; the partition's clock before the round (Unix ms), how far it went, and how far it was then behind the
moment when the worker, by the brokers' time, asked for these ends. Where it did not ask, LEFT and BEHIND are not there.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

HEADER = "janela-round"

_SPAN = r"([0-9]{1,19})\+([0-9]{1,19})(?:/(-?[0-9]{1,19}))?"
_FORM = re.compile(f"{_SPAN} {_SPAN} {_SPAN}".encode())
_NUMBER_MAX = 2**63 - 1

Headers = Sequence[tuple[str, bytes | None]]


class Round(NamedTuple):
    """One round, in the header's order. Times are Unix ms: of the clock event time, of the ends the worker's own."""

    inbound_from: int
    inbound_to: int
    inbound_end: int | None
    outbound_from: int
    outbound_to: int
    outbound_end: int | None
    clock_from_ms: int
    clock_ms: int
    noted_ms: int | None

    @classmethod
    def read(cls, headers: Headers) -> "Round | None":
        """Read it from a record's headers; None where there is none, or none that can be read."""
        texts = [text for name, text in headers if name == HEADER]
        match = _FORM.fullmatch(texts[0] or b"") if len(texts) == 1 else None
        if match is None:
            return None
        groups = match.groups()
        inbound, outbound, clock = (_absolute(*groups[at : at + 3]) for at in (0, 3, 6))
        round_ = cls(*inbound, *outbound, *clock)
        return round_ if all(number is None or abs(number) <= _NUMBER_MAX for number in round_) else None

    @property
    def end(self) -> tuple[int, int, int]:
        """Where it ends: inbound, outbound and clock. No two rounds end alike."""
        return self.inbound_to, self.outbound_to, self.clock_ms

    @property
    def rank(self) -> tuple[int, ...]:
        """By this they are in order: by their ends, and by the rest only where these are the same."""
        return *self.end, *(-1 if number is None else number for number in self)

    @property
    def is_inbound_ended(self) -> bool:
        """Whether inbound was known to be read to its end."""
        return self.inbound_end is not None and self.inbound_to >= self.inbound_end

    @property
    def is_outbound_ended(self) -> bool:
        """Whether outbound was known to be read to its end."""
        return self.outbound_end is not None and self.outbound_to >= self.outbound_end

    def follows(self, end: tuple[int, int, int]) -> bool:
        """Whether it begins where another one ended, or later, and goes on from there."""
        begin = (self.inbound_from, self.outbound_from, self.clock_from_ms)
        goes_on = all(to >= start for start, to in zip(begin, self.end, strict=True)) and self.end != end
        return goes_on and all(start >= before for before, start in zip(end, begin, strict=True))

    def __str__(self) -> str:
        spans = (self[0:3], self[3:6], self[6:9])
        return " ".join(f"{start}+{to - start}" + ("" if end is None else f"/{end - to}") for start, to, end in spans)


def _absolute(start: bytes, count: bytes, left: bytes | None) -> tuple[int, int, int | None]:
    to = int(start) + int(count)
    return int(start), to, None if left is None else to + int(left)


class Witness(NamedTuple):
    """A round, and the first record that was found to tell of it."""

    round: Round
    topic: str
    offset: int
    written_ms: int
    """The worker's time when it built the records."""


class Leave(NamedTuple):
    """What a worker may do beside following event time."""

    moves_idle_clock: bool
    """Whether idle time may move the clock (`clock = "live"`)."""
    grace_ms: int
    """How far idle time stays behind the brokers' time."""
    tolerance_ms: int
    """How far the clocks of workers and brokers may differ."""


@dataclass(frozen=True)
class Schedule:
    """The rounds of a partition, one after the other, and what is to be known to judge them."""

    witnesses: Iterable[Witness]
    """Gone along more than once; each ends further on than the one before it."""
    leave: Leave
    clock_ms: int | None = None
    """The committed clock; None where it is not known."""
    is_whole: bool = True
    """Whether these are all inputs, so that what is not there does not exist."""


def chained(witnesses: Iterable[Witness]) -> Iterator[Witness]:
    """Leave out whichever contradicts those before it, of rounds in the order of their ranks."""
    end = (0, 0, 0)
    for witness in witnesses:
        if witness.round.follows(end):
            yield witness
            end = witness.round.end


class Walk:
    """Goes along a schedule, and tells of a topic's rounds, as they come, whether they are in it.

    Rounds that end at or before one that was passed are believed: where a topic goes back, that is told by itself.
    """

    def __init__(self, schedule: Schedule) -> None:
        """Begin before the first."""
        self._rounds = (witness.round for witness in schedule.witnesses)
        self._next = next(self._rounds, None)
        self._passed_end = (-1, -1, -1)

    def has(self, round_: Round) -> bool:
        """Whether a round is in the schedule, as far as can be told without going back."""
        while self._next is not None and self._next.end < round_.end:
            self._passed_end = self._next.end
            self._next = next(self._rounds, None)
        return round_ == self._next or round_.end <= self._passed_end
