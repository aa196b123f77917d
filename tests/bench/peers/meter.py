"""Meters that every engine is read by from outside: what its group has committed, and the CPU of its processes.

An engine takes its time to start, and a JVM longer than others; so a figure is for what lies between the first commit
that is seen and the last. Needs Linux, for /proc.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NamedTuple

_EVERY_S: Final = 0.1
_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")


class Sample(NamedTuple):
    """What the meters said at a moment (monotonic)."""

    at_s: float
    committed: int
    cpu_s: float


class Figures(NamedTuple):
    """What is measured in one run."""

    events_a_second: float
    events_a_cpu_second: float
    warm_events_a_second: float
    """Of the second half."""
    warm_events_a_cpu_second: float
    start_s: float
    """From the process's start to the first commit that is seen."""
    whole_s: float
    """From the process's start to the last commit."""


def cpu_s(pid: int) -> float:
    """Give the seconds of CPU, user and system, of a process and all that it has started."""
    total, waiting = 0.0, [pid]
    while waiting:
        each = waiting.pop()
        try:
            # the command's name stands in brackets, and may hold blanks
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            children = Path(f"/proc/{each}/task/{each}/children").read_text().split()
        except FileNotFoundError:
            continue  # it ended just now; what it used is its parent's to tell
        total += sum(map(int, fields[11:15])) / _TICKS_A_SECOND
        waiting += map(int, children)
    return total


async def watch(
    pid: int, progress: Callable[[], Awaitable[int]], events: int, is_alive: Callable[[], bool], within_s: float
) -> list[Sample]:
    """Read the meters until all is committed."""
    samples = [Sample(time.monotonic(), 0, cpu_s(pid))]
    while samples[-1].committed < events:
        await asyncio.sleep(_EVERY_S)
        assert is_alive(), "it has ended by itself"
        waited_s = time.monotonic() - samples[0].at_s
        assert waited_s < within_s, f"not within {within_s:g} s: {samples[-1].committed:,} of {events:,}"
        committed = await progress()
        samples.append(Sample(time.monotonic(), committed, cpu_s(pid)))
    return samples


def figures(samples: list[Sample]) -> Figures:
    """Work out what was measured.

    Raises:
        ValueError: All was committed before two commits were seen: there were too few events.
    """
    last = samples[-1]
    first = next(sample for sample in samples if sample.committed)
    half = next(sample for sample in samples if sample.committed >= last.committed / 2)
    if first is last or half is last:
        raise ValueError(f"{last.committed:,} events are too few to be measured")
    start_s, whole_s = (sample.at_s - samples[0].at_s for sample in (first, last))
    return Figures(*_between(first, last), *_between(half, last), round(start_s, 1), round(whole_s, 2))


def _between(first: Sample, last: Sample) -> tuple[float, float]:
    events = last.committed - first.committed
    return events / (last.at_s - first.at_s), events / max(last.cpu_s - first.cpu_s, 1 / _TICKS_A_SECOND)
