"""When each record leaves."""

from typing import NamedTuple


class Pace(NamedTuple):
    """By event time at a `speed` (60: an hour in a minute), or at a fixed `rate` a second, or as fast as can be."""

    speed: float | None = None
    rate: float | None = None

    def due_s(self, number: int, time_ms: int, first_ms: int) -> float:
        """Tell when a record is to leave, in seconds from the begin: the `number`-th (from 0), of this time.

        What is of a time before `first_ms` leaves at once.
        """
        if self.speed is not None:
            return max(time_ms - first_ms, 0) / 1000 / self.speed
        return number / self.rate if self.rate is not None else 0.0

    def distance_ms(self, first_ms: int, last_ms: int, begin_ms: int) -> int:
        """Tell how far times are moved so that none is after its record leaves, and the last is as near as can be.

        `first_ms` is that of `due_s`. At a speed of 1 or less each event from there on happens the moment it leaves, or
        slower; at a higher one, and without a speed, that is true of the last one alone.
        """
        if self.speed is None:
            return begin_ms - last_ms
        if self.speed <= 1:
            return begin_ms - first_ms
        return begin_ms + int((last_ms - first_ms) / self.speed) - last_ms
