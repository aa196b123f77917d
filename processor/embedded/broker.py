"""A cluster of Apache Kafka brokers (KRaft) on this machine."""

from __future__ import annotations

import signal
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from processor.embedded.errors import EmbeddedKafkaError
from processor.embedded.folder import Cluster, DataFolder, NodePorts
from processor.embedded.jars import FetchProgress, OnFetch, fetch_jars
from processor.embedded.java import find_java
from processor.embedded.ports import HOST
from processor.embedded.probe import count_brokers
from processor.embedded.process import BrokerProcess
from processor.embedded.properties import server_properties
from processor.embedded.runtime import Runtime
from processor.embedded.storage import format_storage, kafka_uuid

READY_SECONDS_MAX = 60
POLL_SECONDS = 0.05

NOTE_LETTERS_MAX = 5_000

CRASHES = {signal.SIGABRT, signal.SIGBUS, signal.SIGSEGV}
"""How a JVM ends that mapped a damaged class archive: Java 17 looks at its first page only."""


@dataclass(frozen=True, slots=True)
class _Home:
    """What a cluster has while it is started."""

    runtime: Runtime
    folder: DataFolder
    cluster: Cluster


class EmbeddedKafka:
    """A real Kafka, for as long as this object has it started.

    It listens on the loopback address alone. Nodes are counted from 0. When the process that started it is
    gone, so is the Kafka, also after a SIGKILL; were one ever left, the next start on the same data ends it.

    `start` takes seconds, minutes where jars must be fetched first, so call it from a coroutine by
    `asyncio.to_thread`. `stop` may be called from another thread meanwhile, and makes it give up.

    A trap for tests: when a broker starts, retention deletes records whose timestamps are older than a
    topic's `retention.ms` (7 days by default). A topic for replays needs `retention.ms=-1`.
    """

    def __init__(
        self,
        data: Path | None = None,
        *,
        nodes: int = 1,
        port: int = 0,
        heap: str = "256m",
        props: Mapping[str, object] | None = None,
        tls: ssl.SSLContext | None = None,
        scram: Sequence[tuple[str, str]] = (),
        release: str | None = None,
        class_archive: bool = True,
        on_fetch: OnFetch | None = None,
    ) -> None:
        """Describe the cluster; nothing happens until `start`.

        Args:
            data: the folder for its data, made if need be and kept. None: a temporary one, which goes with
                `stop`.
            nodes: how many brokers, each a controller too. With three, replication is 3 and
                `min.insync.replicas` 2.
            port: the first node's; the others have those after it. 0: the ones used before with this data, if
                free.
            heap: the most memory for a JVM's objects, as in `-Xmx`; the process takes little more.
            props: go last into `server.properties`. {port}, {control} and {extra} in them become the node's
                ports.
            tls: how the readiness check speaks to {port}, where `props` put TLS on it.
            scram: users and passwords (SCRAM) that a new cluster knows; for data that exists they do
                nothing.
            release: of Kafka, whose features a new cluster has, as one that was upgraded from it ("3.9"); for data
                that exist it does nothing. None: those of the brokers' own.
            class_archive: whether to use and make the cached class archive.
            on_fetch: is told how the fetch of Kafka's jars goes on, from other threads.
        """
        self._wanted_data, self._nodes, self._port, self._heap = data, nodes, port, heap
        self._props, self._tls, self._scram, self._release = dict(props or {}), tls, tuple(scram), release
        self._class_archive, self._on_fetch = class_archive, on_fetch
        self._home: _Home | None = None
        self._running: dict[int, BrokerProcess] = {}
        self._archive_in_making: Path | None = None
        self._starting = threading.Lock()
        self._stop_wanted = threading.Event()

    @property
    def data(self) -> Path:
        """The folder that holds the data."""
        return self._open_home.folder.path

    @property
    def bootstrap_servers(self) -> str:
        """Where clients begin: every node's address, also of those that are down."""
        return ",".join(f"{HOST}:{ports.client}" for ports in self._open_home.cluster.nodes)

    @property
    def extra_servers(self) -> str:
        """The addresses on every node's {extra} port, where `props` make a listener on it."""
        return ",".join(f"{HOST}:{ports.extra}" for ports in self._open_home.cluster.nodes)

    @property
    def pids(self) -> dict[int, int]:
        """The process id of each node that runs."""
        return {node: process.pid for node, process in self._running.items()}

    def start(self, *nodes: int, wait_seconds: float = READY_SECONDS_MAX) -> Self:
        """Start these nodes (none named: all) and return when the cluster counts in all that should run.

        A node that runs already is left alone. A start that fails ends the whole cluster.

        Raises:
            EmbeddedKafkaError: no Java, no jars, a port that is taken, no disk, a broker that ended or did
                not answer.
        """
        with self._starting:
            try:
                home = self._home = self._home or self._open()
                for node in nodes or range(self._nodes):
                    if node not in self._running or self._running[node].exit_code() is not None:
                        self._running[node] = self._launch(home, node)
                self._await_ready(wait_seconds)
            except OSError as error:
                self._end(archive_is_whole=False)
                where = f" ({error.filename})" if error.filename else ""
                raise EmbeddedKafkaError(f"Kafka could not be started: {error.strerror}{where}.") from error
            except BaseException:
                self._end(archive_is_whole=False)
                raise
        return self

    def stop(self) -> None:
        """End all nodes, cleanly where their data stay, and let the data go."""
        self._stop_wanted.set()
        with self._starting:
            self._end(archive_is_whole=True)
            self._stop_wanted.clear()

    def kill(self, node: int) -> None:
        """End a node by SIGKILL; `start(node)` has it back."""
        self._running.pop(node).kill()

    def shut_down(self, node: int) -> bool:
        """End a node as its operator would, and tell whether it ended cleanly; `start(node)` has it back.

        Takes seconds. One that takes too long, because too few of the others run to let it go, is killed.
        """
        process = self._running.pop(node)
        process.ask_to_end()
        process.wait()
        return process.ended_cleanly()

    def suspend(self, node: int) -> None:
        """Make a node hold still (SIGSTOP), connections open."""
        self._running[node].suspend()

    def resume(self, node: int) -> None:
        """Let a suspended node go on."""
        self._running[node].resume()

    def alive(self) -> int:
        """Count the brokers that the cluster counts in, as the least informed of those that run sees it.

        0 where one does not answer that should. A suspended one is not asked.
        """
        asked = [node for node, process in list(self._running.items()) if not process.is_suspended]
        ports = self._open_home.cluster.nodes
        return min((count_brokers(ports[node].client, self._tls) for node in asked), default=0)

    def check(self) -> None:
        """Raise if a node ended by itself. Where its JVM crashed, the next start goes without a class archive.

        Raises:
            EmbeddedKafkaError: quotes its log, at length in a note.
        """
        for node, process in list(self._running.items()):
            if (code := process.exit_code()) is not None:
                ended = f"exit code {code}" if code >= 0 else f"signal {-code}"
                if -code in CRASHES:
                    self._open_home.runtime.forget_archive()
                raise self._failure(f"broker {node} ended by itself ({ended})", process)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def _open_home(self) -> _Home:
        if self._home is None:
            raise RuntimeError("this Kafka is not started, so its folder and ports are not settled")
        return self._home

    def _open(self) -> _Home:
        runtime = Runtime(find_java(), fetch_jars(self._report_fetch), self._heap)
        folder = DataFolder.claim(self._wanted_data)
        try:
            return _Home(runtime, folder, self._prepare(runtime, folder))
        except BaseException:
            folder.release()
            raise

    def _prepare(self, runtime: Runtime, folder: DataFolder) -> Cluster:
        known = folder.recall()
        if known and len(known.nodes) != self._nodes:
            raise EmbeddedKafkaError(
                f"{folder.path} was made for {len(known.nodes)} node(s), not for {self._nodes}: "
                f"ask for {len(known.nodes)}, or use another folder."
            )
        cluster = (known or Cluster(kafka_uuid(), [NodePorts()] * self._nodes)).with_free_ports(self._port)
        node_folders = [folder.of(node) for node in range(self._nodes)]
        for node, node_folder in enumerate(node_folders):
            node_folder.mkdir(exist_ok=True)
            properties = server_properties(cluster, node, self._props)
            (node_folder / "server.properties").write_text(properties)
        if known is None:
            format_storage(runtime, cluster, node_folders, self._scram, self._release)
        folder.remember(cluster)
        return cluster

    def _launch(self, home: _Home, node: int) -> BrokerProcess:
        options = self._archive_options(home, node)
        return BrokerProcess(
            home.runtime.command("kafka.Kafka", "server.properties", options=options),
            folder=home.folder.of(node),
            perishable=home.folder.path if home.folder.is_temporary else None,
        )

    def _archive_options(self, home: _Home, node: int) -> list[str]:
        if self._class_archive and home.runtime.class_archive.exists():
            return home.runtime.reading_archive()
        if self._class_archive and node == 0:
            self._archive_in_making = home.folder.of(node) / "classes.jsa"
            return home.runtime.writing_archive(self._archive_in_making)
        return []

    def _await_ready(self, wait_seconds: float) -> None:
        give_up_at = time.monotonic() + wait_seconds
        while self.alive() < len(self._running):
            self._give_up_if_stopped()
            self.check()
            if time.monotonic() > give_up_at:
                process = next(iter(self._running.values()))
                raise self._failure(f"Kafka did not answer within {wait_seconds:g} s", process)
            self._stop_wanted.wait(POLL_SECONDS)

    def _failure(self, what: str, process: BrokerProcess) -> EmbeddedKafkaError:
        # Temporary data take their log with them, so its end goes into a note.
        log = "its log" if self._open_home.folder.is_temporary else f"its log ({process.log})"
        error = EmbeddedKafkaError(f"{what}; {log} says: {process.complaint()}")
        error.add_note(process.log_text()[-NOTE_LETTERS_MAX:])
        return error

    def _end(self, *, archive_is_whole: bool) -> None:
        making, self._archive_in_making = self._archive_in_making, None
        running, self._running = self._running, {}
        home, self._home = self._home, None
        if home is None:
            return
        # Data that go anyway need no clean end, but a class archive is written by one.
        in_a_hurry = home.folder.is_temporary and not (making and archive_is_whole)
        for process in running.values():
            if in_a_hurry:
                process.kill()
            else:
                process.ask_to_end()
        for process in running.values():
            process.wait()
        if making and archive_is_whole and 0 in running and running[0].ended_cleanly():
            # A cache that can't be written costs the next start a second, and no more.
            with suppress(OSError):
                home.runtime.keep_archive(making)
        if making:
            making.unlink(missing_ok=True)
        home.folder.release()

    def _report_fetch(self, progress: FetchProgress) -> None:
        self._give_up_if_stopped()
        if self._on_fetch:
            self._on_fetch(progress)

    def _give_up_if_stopped(self) -> None:
        if self._stop_wanted.is_set():
            raise EmbeddedKafkaError("Kafka's start was given up, because it was stopped meanwhile.")
