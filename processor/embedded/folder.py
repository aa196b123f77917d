"""A data folder: owned by one run at a time, remembers its cluster.

    DATA/owner            locked by the run that uses the folder; names its process
    DATA/cluster.json     what the folder remembers; written last, so where it is, the rest is whole
    DATA/0/               a node: server.properties, broker.log, and Kafka's own folder `log`

Nothing here leans on process ids that were written down and may be another's by now. Whether a run lives, and
which broker is still at the data, is asked of the system's file locks, which end with their holder.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import struct
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

import msgspec

from processor.embedded.errors import EmbeddedKafkaError
from processor.embedded.ports import PortChooser

LEFT_OVER_SECONDS_MAX = 10
"""How long a broker that was killed may take to be gone: seconds only where the disk is very busy."""


class NodePorts(msgspec.Struct, frozen=True):
    """Where a node listens: for clients, for its fellow controllers, and for whatever a test adds."""

    client: int = 0
    control: int = 0
    extra: int = 0


class Cluster(msgspec.Struct, frozen=True):
    """What a data folder remembers of its cluster. The number of nodes is for life."""

    cluster_id: str
    nodes: list[NodePorts]

    def with_free_ports(self, port: int) -> Cluster:
        """Settle on ports that are free now: clients are served on `port` and those after it.

        Where `port` is 0, and for all other ports, the present ones are kept if they can be: who starts a
        cluster again should find it where it was.

        Raises:
            EmbeddedKafkaError: `port` is taken.
        """
        choose = PortChooser()
        asked = [choose.exactly(port + node) for node in range(len(self.nodes))] if port else None
        settled = [
            NodePorts(
                client=asked[node] if asked else choose.rather(present.client),
                control=choose.rather(present.control),
                extra=choose.rather(present.extra),
            )
            for node, present in enumerate(self.nodes)
        ]
        return Cluster(self.cluster_id, settled)


class DataFolder:
    """A data folder that is this run's until `release`."""

    def __init__(self, path: Path, owner: IO[str], *, is_temporary: bool) -> None:
        self.path = path
        self.is_temporary = is_temporary
        self._owner = owner
        self._memory = path / "cluster.json"

    @classmethod
    def claim(cls, wanted: Path | None) -> Self:
        """Make this run the owner, and end brokers that a killed run left. None: a new, temporary folder.

        Raises:
            EmbeddedKafkaError: another run lives and owns it, or nothing can be written there.
        """
        path = (wanted or Path(tempfile.mkdtemp(prefix="janela-kafka-"))).resolve()
        try:
            path.mkdir(parents=True, exist_ok=True)
            folder = cls(path, (path / "owner").open("a+"), is_temporary=wanted is None)
        except OSError as error:
            reason = f"{path} can't hold Kafka's data ({error.strerror})"
            raise EmbeddedKafkaError(f"{reason}: name a folder that may be made and written.") from None
        try:
            folder._lock()
            for log_lock in path.glob("*/log/.lock"):
                _end_holder(log_lock)
        except BaseException:
            folder._owner.close()
            raise
        return folder

    def _lock(self) -> None:
        try:
            fcntl.flock(self._owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._owner.seek(0)
            raise EmbeddedKafkaError(
                f"process {self._owner.read().strip()} runs a Kafka on {self.path}: stop it, or use another folder."
            ) from None
        self._owner.truncate(0)
        print(os.getpid(), file=self._owner, flush=True)

    def release(self) -> None:
        """Give the folder up for the next run; a temporary one goes."""
        if self.is_temporary:
            shutil.rmtree(self.path, ignore_errors=True)
        self._owner.close()

    def of(self, node: int) -> Path:
        """Say where a node's files are."""
        return self.path / str(node)

    def remember(self, cluster: Cluster) -> None:
        """Write down what `recall` is to find, in one step."""
        draft = self._memory.with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(cluster))
        draft.replace(self._memory)

    def recall(self) -> Cluster | None:
        """Read what the folder remembers; None where it is not formatted yet.

        Raises:
            EmbeddedKafkaError: that is damaged.
        """
        try:
            return msgspec.json.decode(self._memory.read_bytes(), type=Cluster)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise EmbeddedKafkaError(f"{self._memory} is damaged ({error}); remove {self.path}.") from None


def _end_holder(log_lock: Path) -> None:
    """Kill the broker that holds a log folder's lock. Its owner is gone, or we would not own the data."""
    give_up_at = time.monotonic() + LEFT_OVER_SECONDS_MAX
    while holder := _holder(log_lock):
        if time.monotonic() > give_up_at or holder < 0:
            raise EmbeddedKafkaError(
                f"a broker left by another run (process {holder}) holds {log_lock.parent} and can't be ended."
            )
        _kill_if_there(holder)
        time.sleep(0.05)


def _kill_if_there(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def _holder(lock: Path) -> int:
    """Ask the system which process holds a file's (POSIX) lock, as Kafka takes it; 0 where none does."""
    # struct flock: l_type, l_whence, l_start, l_len, l_pid, in each system's order.
    on_mac = sys.platform == "darwin"
    layout = struct.Struct("qqihh" if on_mac else "hhqqi")
    question = (0, 0, 0, fcntl.F_WRLCK, 0) if on_mac else (fcntl.F_WRLCK, 0, 0, 0, 0)
    with lock.open("rb") as file:
        answer = layout.unpack(fcntl.fcntl(file, fcntl.F_GETLK, layout.pack(*question))[: layout.size])
    kind, process = (answer[3], answer[2]) if on_mac else (answer[0], answer[4])
    return 0 if kind == fcntl.F_UNLCK else int(process)
