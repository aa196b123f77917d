"""What the growth bench measures, and what came of it: a case is a number of windows, partitions and workers."""

from typing import Final, NamedTuple

import msgspec

STARTS_S: Final = 30.0
"""Of a case, what does not hang on its size: topics, two starts of the workers and what lies between."""
S_A_MILLION: Final = {"windows": 90.0, "events": 45.0}
"""Seconds for each million, from the making of a record to its commit; a machine of two cores, shared with Kafka."""


class Case(NamedTuple):
    """One of them."""

    windows: int
    partitions: int
    workers: int

    def __str__(self) -> str:
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        return f"{self.windows:,} windows, {self.partitions} partitions, {workers}"


class Sizes(msgspec.Struct, frozen=True):
    """What all cases of a run share."""

    events: int
    """Of the backlog that a worker with all these windows goes through."""
    ends: int
    """Windows that end within one second."""
    rate: int
    """Events a second that are timed meanwhile."""
    seconds: int
    """Timed before the ends come, and again from then on."""
    lead_s: int
    """From the making of these windows to the first timed event: all of them must have been consumed by then."""

    def expected_s(self, case: Case) -> float:
        """Tell how long a case may take."""
        records = S_A_MILLION["windows"] * case.windows + S_A_MILLION["events"] * (self.events + self.ends)
        return STARTS_S + 5 * case.workers + records / 1e6 + self.lead_s + 2 * self.seconds


WINDOWS: Final = (10_000, 100_000, 1_000_000)
PARTITIONS: Final = (4, 12, 64)
WORKERS: Final = (1, 2, 3)
MIDDLE: Final = Case(100_000, 12, 1)
SIZES: Final = Sizes(events=200_000, ends=100_000, rate=1000, seconds=8, lead_s=25)
"""What is measured where nothing else is asked for."""


class Second(msgspec.Struct):
    """What came within a second of the time around the ends."""

    at_s: float
    """Since the ends were due; negative: before."""
    p50_ms: float
    p99_ms: float


class Ends(msgspec.Struct):
    """Very many windows end at once, and other traffic goes on."""

    late_p50_ms: float
    """Of the ends, by the wall clock."""
    late_p99_ms: float
    late_max_ms: float
    quiet_p50_ms: float
    """Of the other traffic, in the seconds before: the median of each second's."""
    quiet_p99_ms: float
    worst_p99_ms: float
    """Of the seconds after, the worst one's."""
    seconds: list[Second]


class Result(msgspec.Struct):
    """What came of a case."""

    windows: int
    partitions: int
    workers: int
    sizes: Sizes
    opening_cpu_us: float
    """CPU of all workers, for each window that was opened from a backlog."""
    event_cpu_us: float
    """For each event of a backlog when all windows were there."""
    events_a_second: float
    """Of that backlog."""
    states_an_event: float
    """State records that were written for each of its events: one for each window that a round has changed."""
    bytes_a_window: float
    """Resident memory of all workers after a restore, less that of workers with nothing, for each window."""
    restore_s: float
    """From the first assignment to all partitions at work; with more than one worker, partitions change hands in it."""
    ends: Ends
    took_s: float
    at: str
    version: str
    """Of the code: its commit."""
    machine: dict[str, str]
    load: str
    """Average of the machine, before and after."""

    @property
    def case(self) -> Case:
        """What it is of."""
        return Case(self.windows, self.partitions, self.workers)
