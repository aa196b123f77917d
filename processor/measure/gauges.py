"""What is read once a second beside the outputs: the group's lag, and the meters of local workers."""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError

from processor.settings import Settings
from processor.topics import INPUTS, names

_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_NOT_YET: Final = (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError)


class Meter(NamedTuple):
    """What a process has used."""

    cpu_s: float
    """User and system, since it was started."""
    rss_bytes: int
    """Resident now."""


def read_meter(pid: int) -> Meter | None:
    """Read a local process's meters, of Linux's /proc; None where there is none of that id."""
    try:
        # the command's name stands in brackets, and may hold blanks
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Meter((int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND, int(fields[21]) * _PAGE_BYTES)


class Sample(msgspec.Struct):
    """One second of a run."""

    at_s: float
    """Since the begin."""
    sent: int
    """Records acknowledged to the load until then."""
    received: int
    """The load's outputs that had come."""
    lag: int
    """Positions of the inputs that were not committed."""
    p50_ms: float | None
    """Of the outputs that came since the sample before; None where none did."""
    p99_ms: float | None
    cpu: list[float]
    """Of each worker, the share of a core since the sample before."""
    rss_mb: list[float]


class Lag:
    """Asks how far the group is behind its inputs."""

    def __init__(self, settings: Settings) -> None:
        """Take the group and its topics; needs a running loop."""
        ours, connection = names(settings), settings.connection
        self._group = settings.app_id
        self._tps = [TopicPartition(ours[name], n) for name in INPUTS for n in range(settings.partitions)]
        self._consumer = connection.consumer(client_id="janela-measure-lag")
        self._admin = connection.admin(client_id="janela-measure-lag")

    async def start(self) -> None:
        """Connect."""
        await self._consumer.start()
        await self._admin.start()

    async def stop(self) -> None:
        """Disconnect."""
        await self._consumer.stop()
        await self._admin.close()

    async def read(self) -> int:
        """Give how many positions are not committed."""
        ends = await self._consumer.end_offsets(self._tps)
        try:
            found = await self._admin.list_consumer_group_offsets(self._group, partitions=self._tps)
        except _NOT_YET:  # the group's first member makes the cluster choose a coordinator
            found = {}
        return sum(max(end - (max(found[tp].offset, 0) if tp in found else 0), 0) for tp, end in ends.items())


class Workers:
    """Local workers by their process ids, from when this is made on."""

    def __init__(self, pids: Iterable[int]) -> None:
        """Read their meters a first time."""
        self.pids = list(pids)
        self._first = {pid: read_meter(pid) for pid in self.pids}
        self._last = dict(self._first)
        self._last_s = time.monotonic()
        self.rss_max_mb = dict.fromkeys(self.pids, 0.0)

    def read(self) -> tuple[list[float], list[float]]:
        """Give each one's share of a core since the last time, and its memory (MB); 0 where it is gone."""
        now_s = time.monotonic()
        shares, memories = [], []
        for pid in self.pids:
            before, meter = self._last[pid], read_meter(pid)
            used_s = meter.cpu_s - before.cpu_s if meter and before else 0.0
            shares.append(round(used_s / max(now_s - self._last_s, 1e-3), 3))
            memories.append(round(meter.rss_bytes / 1e6, 1) if meter else 0.0)
            self.rss_max_mb[pid] = max(self.rss_max_mb[pid], memories[-1])
            self._last[pid] = meter or before
        self._last_s = now_s
        return shares, memories

    def cpu_s(self, pid: int) -> float:
        """Give what a worker has used between the first time and the last."""
        first, last = self._first[pid], self._last[pid]
        return round(last.cpu_s - first.cpu_s, 2) if first and last else 0.0
