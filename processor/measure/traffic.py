"""What is put on the inputs while it is measured, and when each of its records was due."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from processor.load.crew import Begin, Order, follow
from processor.load.tally import Tally

DIGITS_MAX: Final = 18
"""Of a moment in µs; it is that of a year after 30,000 then."""


class Moments(Protocol):
    """When records are due, by the wall clock, µs since the epoch."""

    @property
    def begin_us(self) -> int:
        """Of the first one."""
        ...

    @property
    def ends_from_us(self) -> int | None:
        """Windows that end then or later are to end by the wall clock. None: none is, times are of another day."""
        ...

    def due_us(self, record_id: str) -> int | None:
        """Tell when the record of this id is due; None where it is none of this traffic."""
        ...


class Traffic(Protocol):
    """A load or a replay, in processes of its own."""

    scenario: dict[str, Any]
    """What it is, to be written down."""
    events: int
    """How many records there will be."""
    processes: int
    """How many write them."""

    async def follow(
        self, begun: Callable[[Moments], None], on_tally: Callable[[Tally], None], stopped: asyncio.Event
    ) -> Tally:
        """Send all of it, or until it is stopped; `begun` is told the moments before the first record is due.

        Raises:
            CrewError: A process of it ended by itself.
        """
        ...


class LoadMoments(NamedTuple):
    """A schedule of `janela load`: the moment stands in the record's id."""

    begin_us: int
    start_us: int
    """The moment of the schedule that is at `begin_us`; what belongs to earlier ones is another load's."""
    seed: int

    @property
    def ends_from_us(self) -> int | None:
        """Ends count from the begin."""
        return self.begin_us

    def due_us(self, record_id: str) -> int | None:
        """See `Moments`."""
        if not record_id.startswith(f"load-{self.seed}-"):
            return None
        digits = record_id.partition(".")[2]
        if not (digits.isascii() and digits.isdigit() and len(digits) <= DIGITS_MAX):  # somebody else's
            return None
        moment_us = int(digits)
        return moment_us + self.begin_us - self.start_us if moment_us >= self.start_us else None


class LoadTraffic:
    """A load."""

    def __init__(self, order: Order, events: int, begin: Callable[[], Begin]) -> None:
        """Take what to send; `begin` is asked when all processes are ready."""
        self.scenario, self.events, self.processes = order.scenario, events, order.shards
        self._order, self._begin = order, begin

    async def follow(
        self, begun: Callable[[Moments], None], on_tally: Callable[[Tally], None], stopped: asyncio.Event
    ) -> Tally:
        """See `Traffic`."""

        def begin() -> Begin:
            moments = self._begin()
            begun(LoadMoments(moments.begin_us, moments.start_us, self.scenario["seed"]))
            return moments

        return await follow(self._order, begin, on_tally, stopped, apart=True)
