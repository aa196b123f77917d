"""Whose event the next one is: contacts by number, drawn from a number between 0 and 1."""

from bisect import bisect_right
from collections import deque
from itertools import accumulate
from math import exp, log
from typing import Final, Protocol

from processor.load.scenario import Scenario

HEAD: Final = 65_536
"""Ranks of a Zipf distribution whose shares are summed one by one. The weight of each further one is that of the area
under the curve around it, which is right to one part in ten thousand million there."""

ANSWER_AFTER_US: Final = 1_000_000


class Popularity(Protocol):
    """Draws contacts. To be asked once for each event, in the order of the events."""

    def writer(self, chance: float, moment_us: int) -> int:
        """Give the contact that writes."""

    def addressee(self, chance: float, moment_us: int) -> int:
        """Give the contact that is written to; negative where there is none yet."""


class Uniform:
    """Any contact, each as likely."""

    def __init__(self, contacts: int) -> None:
        self._contacts = contacts

    def writer(self, chance: float, moment_us: int) -> int:
        """Give any contact."""
        return int(chance * self._contacts)

    addressee = writer


class Zipf:
    """The nth contact, counted from 1, with a weight of n to the power of minus the exponent."""

    def __init__(self, contacts: int, exponent: float) -> None:
        head = min(contacts, HEAD)
        self._contacts, self._rest = contacts, 1 - exponent
        self._sums = list(accumulate(rank**-exponent for rank in range(1, head + 1)))
        self._head_weight, self._begin = self._sums[-1], head + 0.5
        self._weight = self._head_weight
        if contacts > head:
            self._weight += self._area(contacts + 0.5)

    def writer(self, chance: float, moment_us: int) -> int:
        """Give a contact; the smaller its number, the likelier."""
        weight = chance * self._weight
        if weight < self._head_weight:
            return bisect_right(self._sums, weight)
        return min(int(self._where(weight - self._head_weight) - 0.5), self._contacts - 1)

    addressee = writer

    def _area(self, end: float) -> float:
        """Give the area under the curve from the head's end on."""
        if abs(self._rest) < 1e-9:
            return log(end / self._begin)
        return float(end**self._rest - self._begin**self._rest) / self._rest

    def _where(self, area: float) -> float:
        """Give the end that makes an area."""
        if abs(self._rest) < 1e-9:
            return self._begin * exp(area)
        return float((self._begin**self._rest + area * self._rest) ** (1 / self._rest))


class Once:
    """Each contact writes once, in turn, and is written to once, a second later or more."""

    def __init__(self, contacts: int) -> None:
        self._contacts = contacts
        self._written = 0
        self._last = -1
        self._unanswered: deque[tuple[int, int]] = deque(maxlen=contacts)

    def writer(self, chance: float, moment_us: int) -> int:
        """Give the next one; after the last comes the first again."""
        contact = self._written % self._contacts
        self._written += 1
        self._unanswered.append((moment_us + ANSWER_AFTER_US, contact))
        return contact

    def addressee(self, chance: float, moment_us: int) -> int:
        """Give the next one whose time has come, else the one that was written to last, else whoever wrote first."""
        waiting = self._unanswered
        if waiting and waiting[0][0] <= moment_us:
            self._last = waiting.popleft()[1]
        elif self._last < 0 and waiting:
            return waiting[0][1]
        return self._last


def popularity_of(scenario: Scenario) -> Popularity:
    """Make the distribution that a scenario asks for."""
    match scenario.popularity:
        case "zipf":
            return Zipf(scenario.contacts, scenario.zipf_exponent)
        case "once":
            return Once(scenario.contacts)
        case _:
            return Uniform(scenario.contacts)
