"""When each event is due: a schedule that is fixed before the first one is sent.

A profile is a row of legs, over each of which the rate goes straight from one number to another. The nth event is due
when n events are behind it, so the schedule is a function of the scenario and nothing else.
"""

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate, pairwise
from math import sqrt
from typing import NamedTuple

from processor.load.scenario import Scenario
from processor.traffic import HOURS, MEAN_BUSYNESS


class Leg(NamedTuple):
    """So many seconds from one rate to another (events a second)."""

    seconds: float
    from_rate: float
    to_rate: float

    @property
    def events(self) -> float:
        """How many events are due in it."""
        return self.seconds * (self.from_rate + self.to_rate) / 2


class Profile:
    """The moments of all events, in microseconds from the start."""

    def __init__(self, legs: Iterable[Leg]) -> None:
        """Lay the legs end to end; those without events only take time."""
        self._legs = list(legs)
        self._first = [0.0, *accumulate(leg.events for leg in self._legs)]
        self._begin_s = [0.0, *accumulate(leg.seconds for leg in self._legs)]
        self.events = round(self._first[-1])
        self.seconds = self._begin_s[-1]

    def moments_us(self, first: int, count: int) -> list[int]:
        """Give when the events from the `first` on are due, never going back; fewer than `count` at the end."""
        moments: list[int] = []
        end = min(first + count, self.events)
        while first < end:
            number = min(bisect_right(self._first, first), len(self._legs)) - 1
            until = min(end, max(first + 1, int(self._first[number + 1]) + 1))
            moments += self._of_leg(number, first, until)
            first = until
        return moments

    def _of_leg(self, number: int, first: int, until: int) -> list[int]:
        """Solve rate·t + growth·t²/2 = n in the form that neither a rate of 0 nor a growth of 0 makes fail."""
        seconds, rate, to_rate = self._legs[number]
        twice_growth, before, begin_s = 2 * (to_rate - rate) / seconds, self._first[number], self._begin_s[number]
        most_s = begin_s + seconds
        if not twice_growth:
            return [int(min(begin_s + (n - before) / rate, most_s) * 1e6) for n in range(first, until)]
        square = rate * rate
        return [
            int(min(begin_s + 2 * x / (rate + sqrt(max(square + twice_growth * x, 0.0)) or 1.0), most_s) * 1e6)
            for x in (n - before for n in range(first, until))
        ]


def profile_of(scenario: Scenario) -> Profile:
    """Make the schedule that a scenario asks for."""
    rate, seconds = scenario.rate, scenario.seconds
    match scenario.profile:
        case "ramp":
            return Profile([Leg(seconds, scenario.from_rate, rate)])
        case "spike":
            side, peak = Leg((seconds - scenario.peak_seconds) / 2, rate, rate), scenario.peak_rate
            return Profile([side, Leg(scenario.peak_seconds, peak, peak), side])
        case "day":
            rates = [rate * hour / MEAN_BUSYNESS for hour in (*HOURS, HOURS[0])]
            return Profile([Leg(seconds / 24, *pair) for pair in pairwise(rates)])
        case _:
            return Profile([Leg(seconds, rate, rate)])
