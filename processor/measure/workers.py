"""The workers while they are measured: by their process ids on this machine, or by what their ops addresses tell.

Either says what CPU and memory they use. An ops address, of any machine, also says how long restores took, how late
timers were and how far clocks are behind (`processor.ops.metrics`), and that another process has taken its place.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Collection, Sequence
from functools import cache
from math import inf, isfinite
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import aiohttp
import msgspec
from prometheus_client.parser import text_string_to_metric_families

ANSWERS_WITHIN_S: Final = 2.0
CPU: Final = "process_cpu_seconds_total"
RSS: Final = "process_resident_memory_bytes"
STARTED: Final = "process_start_time_seconds"
RESTORE: Final = "janela_restore_seconds"
LATENESS: Final = "janela_timer_lateness_seconds"
WINDOWS: Final = "janela_open_windows"
CLOCK_LAG: Final = "janela_event_time_lag_seconds"

TICKS_APART_S: Final = 0.02
CPU_APART_S: Final = 1.0
"""What a worker may have used between two readings of it."""

_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Told(NamedTuple):
    """What a worker tells on its ops address, since its process began."""

    restores: int
    restore_s: float
    """All of them together."""
    lateness: Counter[float]
    """How many timers were at most so late (s) and not within the bucket before."""
    open_windows: int
    clock_lag_s: float | None
    """None where the clock goes by the events alone."""


class Meter(NamedTuple):
    """What a process has used."""

    cpu_s: float
    """User and system, since it was started."""
    rss_bytes: int
    """Resident now."""
    started_s: float
    """Unix time, by the boot of its machine and to its clock's ticks; another one is another process."""
    told: Told | None = None


def read_meter(pid: int) -> Meter | None:
    """Read a local process's meters, of Linux's /proc; None where there is none of that id."""
    try:
        # the command's name stands in brackets, and may hold blanks
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    cpu_s, started_s = (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND, int(fields[19]) / _TICKS_A_SECOND
    return Meter(cpu_s, int(fields[21]) * _PAGE_BYTES, _booted_s() + started_s)


@cache
def _booted_s() -> int:
    lines = Path("/proc/stat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("btime "))


def is_same(one: Meter, other: Meter) -> bool:
    """Whether two meters that were read one after the other are of the same process: by its start and its CPU."""
    return abs(one.started_s - other.started_s) < TICKS_APART_S and abs(one.cpu_s - other.cpu_s) < CPU_APART_S


async def scrape(address: str) -> Meter | None:
    """Ask a worker's ops address, `host:port`; None where nobody answers there as a worker does."""
    timeout = aiohttp.ClientTimeout(total=ANSWERS_WITHIN_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"http://{address}/metrics") as answer,
        ):
            return read_metrics(await answer.text()) if answer.status == 200 else None
    except (aiohttp.ClientError, TimeoutError, UnicodeDecodeError, ValueError):
        return None


def read_metrics(text: str) -> Meter:
    """Read what `/metrics` tells.

    Raises:
        ValueError: It is no such text, or not a worker's.
    """
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    if missing := [name for name in (CPU, RSS, STARTED, f"{RESTORE}_sum") if name not in found]:
        raise ValueError(f"no worker's metrics: {missing[0]} is missing")

    def total(name: str) -> float:
        return sum(value for _, value in found.get(name, []))

    lags_s = [value for _, value in found.get(CLOCK_LAG, [])]
    lateness, below = Counter[float](), 0.0
    for labels, upto in found.get(f"{LATENESS}_bucket", []):  # each counts those before it too
        lateness[float(labels["le"])] = int(upto - below)
        below = upto
    told = Told(
        int(total(f"{RESTORE}_count")),
        total(f"{RESTORE}_sum"),
        lateness,
        int(total(WINDOWS)),
        max(lags_s, default=None),
    )
    return Meter(total(CPU), int(total(RSS)), total(STARTED), told)


class Restore(msgspec.Struct):
    """A restore that a worker has told of."""

    seconds: float
    """From the assignment to the last of its partitions at work; the mean of those that came within a second."""
    at_s: float | None
    """When it was seen, since the begin. None: before."""


class WorkerFigures(msgspec.Struct):
    """What a worker has used and told."""

    name: str
    cpu_s: float
    rss_max_mb: float
    restores: list[Restore]
    timers_late_p99_s: float | None
    """At most so late were 99 of 100 timers by its own count, a bucket's bound (s). None where it told of none."""
    timers_are_later: bool = False
    """Whether that is the largest bound it counts by, and more than one of 100 were later yet."""


class Probe(Protocol):
    """One way to a worker's meters."""

    name: str

    async def read(self) -> Meter | None:
        """Read them; None where it is gone."""
        ...


class Local:
    """A process of this machine."""

    def __init__(self, pid: int) -> None:
        self.name, self._pid = f"pid {pid}", pid

    async def read(self) -> Meter | None:
        """See `Probe`."""
        return read_meter(self._pid)


class Remote:
    """An ops address."""

    def __init__(self, address: str) -> None:
        self.name = address

    async def read(self) -> Meter | None:
        """See `Probe`."""
        return await scrape(self.name)


class _Account:
    """What is known of one worker: it adds up over processes that follow each other on one address."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cpu_s = self.rss_max_mb = 0.0
        self.restores: list[Restore] = []
        self.lateness = Counter[float]()
        self._bounds: Collection[float] = ()
        self._last: Meter | None = None

    def note(self, meter: Meter | None, at_s: float | None) -> float:
        """Take the next reading (`at_s` None: from before the begin); give the CPU used since the last one."""
        if meter is None:
            return 0.0
        last, self._last = self._last, meter
        before = last if last is not None and last.started_s == meter.started_s else None
        used_s = 0.0
        if last is not None:  # what was used before the first reading is nobody's
            used_s = meter.cpu_s - (before.cpu_s if before else 0.0)
        self.cpu_s += used_s
        self.rss_max_mb = max(self.rss_max_mb, meter.rss_bytes / 1e6)
        if meter.told is not None:
            self._note_told(meter.told, before.told if before else None, at_s)
        return used_s

    def _note_told(self, told: Told, before: Told | None, at_s: float | None) -> None:
        count = told.restores - (before.restores if before else 0)
        if count > 0:
            seconds = (told.restore_s - (before.restore_s if before else 0.0)) / count
            self.restores += [Restore(round(seconds, 3), at_s) for _ in range(count)]
        self._bounds = told.lateness.keys()
        if at_s is not None:
            self.lateness += told.lateness - (before.lateness if before else Counter[float]())

    def figures(self) -> WorkerFigures:
        p99_s = _p99(self.lateness)
        if is_over := p99_s == inf:  # no JSON has it
            p99_s = max(filter(isfinite, self._bounds), default=0.0)
        cpu_s, rss_max_mb = round(self.cpu_s, 2), round(self.rss_max_mb, 1)
        return WorkerFigures(self.name, cpu_s, rss_max_mb, self.restores, p99_s, is_over)


def _p99(counts: Counter[float]) -> float | None:
    """Give the bound of the bucket in which 99 of 100 are reached; None where there are none."""
    rank, upto = int((counts.total() - 1) * 0.99), 0
    for bound in sorted(counts):
        upto += counts[bound]
        if upto > rank:
            return bound
    return None


class Reading(NamedTuple):
    """All workers at one moment."""

    cpu: list[float]
    """Shares of a core since the last one."""
    rss_mb: list[float]
    """0 where it is gone."""
    open_windows: int | None
    clock_lag_s: float | None


class Workers:
    """The workers of a run."""

    def __init__(self, probes: Sequence[Probe]) -> None:
        """Take how to reach them."""
        self._probes = probes
        self._accounts = [_Account(probe.name) for probe in probes]
        self._last_s = time.monotonic()

    async def read(self, at_s: float | None) -> Reading:
        """Read them all, so long after the begin (None: before it)."""
        meters = await asyncio.gather(*(probe.read() for probe in self._probes))
        now_s = time.monotonic()
        passed_s, self._last_s = max(now_s - self._last_s, 1e-3), now_s
        cpu = [
            round(account.note(meter, at_s) / passed_s, 3)
            for account, meter in zip(self._accounts, meters, strict=True)
        ]
        told = [meter.told for meter in meters if meter is not None and meter.told is not None]
        lags_s = [each.clock_lag_s for each in told if each.clock_lag_s is not None]
        return Reading(
            cpu,
            [round(meter.rss_bytes / 1e6, 1) if meter else 0.0 for meter in meters],
            sum(each.open_windows for each in told) if told else None,
            max(lags_s, default=None),
        )

    def figures(self) -> list[WorkerFigures]:
        """Sum each of them up."""
        return [account.figures() for account in self._accounts]
