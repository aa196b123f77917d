"""Kafka's jars: named and hashed in `jars.lock`, fetched once into the machine's Maven repository.

The lock holds what a broker needs and no more: `kafka-tools` and `kafka-streams` are left out. Its order is
the class path's order.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from processor.embedded.errors import EmbeddedKafkaError

if TYPE_CHECKING:
    from jgo.maven import MavenContext

LOCK_FILE = Path(__file__).with_name("jars.lock")

PARALLEL_MAX = 8
"""Most jars are small, so a fetch is made of round trips; more at once than this gain nothing measurable."""
ATTEMPTS_MAX = 3
RETRY_PAUSE_SECONDS = 0.5
SILENCE_SECONDS_MAX = 30
"""How long the other end may take to connect, or fall silent, before an attempt counts as failed."""


@dataclass(frozen=True, slots=True)
class FetchProgress:
    """How far a fetch has come; a jar that has to be fetched twice is twice in `bytes_done`."""

    jars_done: int
    jars_total: int
    bytes_done: int


OnFetch = Callable[[FetchProgress], None]
"""Told how a fetch goes on: one call at a time, from any thread. What it raises ends the fetch."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of `jars.lock`."""

    group: str
    name: str
    version: str
    sha256: str

    def __str__(self) -> str:
        """Name the jar as Maven does."""
        return f"{self.group}:{self.name}:{self.version}"

    def path_in(self, repository: Path) -> Path:
        """Say where Maven's layout has this jar, be it there or not."""
        folder = repository.joinpath(*self.group.split("."), self.name, self.version)
        return folder / f"{self.name}-{self.version}.jar"

    def is_intact_in(self, repository: Path) -> bool:
        """Whether the file is there and is, byte for byte, the one that the lock names."""
        try:
            with self.path_in(repository).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except FileNotFoundError:
            return False


def locked_jars(lock_file: Path | None = None) -> list[Jar]:
    """Read `jars.lock`: a line is `group:name:version sha256`."""
    return [Jar(*line.replace(":", " ").split()) for line in (lock_file or LOCK_FILE).read_text().splitlines()]


def maven_repository() -> Path:
    """Find the repository that all Maven tools of this machine share: `M2_REPO`, else `~/.m2/repository`."""
    return Path(os.environ.get("M2_REPO") or Path.home() / ".m2" / "repository")


def fetch_jars(on_fetch: OnFetch | None = None, lock_file: Path | None = None) -> list[Path]:
    """Return the paths of the locked jars, in order, and fetch those that are missing or damaged first.

    A repository that has them all is only read. `on_fetch` is called only where something is fetched.

    Raises:
        EmbeddedKafkaError: a jar is not to be had, or is not the one that the lock names.
    """
    repository, jars = maven_repository(), locked_jars(lock_file)
    with ThreadPoolExecutor(PARALLEL_MAX) as pool:
        if not all(pool.map(lambda jar: jar.is_intact_in(repository), jars)):
            with _one_run_at_a_time(repository):
                # Looked at again: the run that we waited for may have fetched them all.
                missing = [jar for jar in jars if not jar.is_intact_in(repository)]
                fetch = _Fetch(repository, missing, on_fetch)
                list(pool.map(fetch.bring, missing))
    return [jar.path_in(repository) for jar in jars]


@contextmanager
def _one_run_at_a_time(repository: Path) -> Iterator[None]:
    """Hold the repository's lock: two test runs that start at once fetch once."""
    repository.mkdir(parents=True, exist_ok=True)
    with (repository / ".janela.lock").open("w") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        yield


class _Fetch:
    """One fetch of some jars by several threads."""

    def __init__(self, repository: Path, jars: Sequence[Jar], on_fetch: OnFetch | None) -> None:
        self._repository = repository
        self._jars_total = len(jars)
        self._on_fetch = on_fetch
        self._counting = threading.Lock()
        self._jars_done = 0
        self._bytes_done = 0
        if jars:
            self._maven = self._open_maven()
            self._count()

    def bring(self, jar: Jar) -> None:
        """Fetch one jar, again where it was cut off or damaged, and check it against the lock."""
        path, cause = jar.path_in(self._repository), ""
        for attempt in range(ATTEMPTS_MAX):
            time.sleep(attempt * RETRY_PAUSE_SECONDS)
            # jgo takes a file that is there for a whole one, and leaves a cut-off download in its place.
            path.unlink(missing_ok=True)
            try:
                self._maven.project(jar.group, jar.name).at_version(jar.version).artifact().resolve()
            # The network's and the disk's errors are OSErrors; jgo says "not found" by the other.
            except (OSError, RuntimeError) as error:
                cause = str(_root(error))
                continue
            if jar.is_intact_in(self._repository):
                return self._count(jars=1)
            cause = "what came is not the file that the lock names"
        raise EmbeddedKafkaError(
            f"Kafka's jar {jar} could not be fetched from Maven Central into {self._repository} "
            f"({cause}); check network, proxy (HTTPS_PROXY) and disk, "
            f"or copy in a repository that has it."
        )

    def _open_maven(self) -> MavenContext:
        # Imported here because it takes most of a second, which a start with all jars in place need not pay.
        # Only the resolver is used: jgo.build() would also fetch a JDK of its own.
        try:
            from jgo.maven import MavenContext, PythonResolver
        except ImportError:
            raise EmbeddedKafkaError(
                "jgo, which fetches Kafka's jars, is not installed: `pip install 'janela-stream[embedded]'`."
            ) from None
        resolver = PythonResolver(progress_callback=lambda _name, _bytes: self._counting_bytes())
        return MavenContext(resolver, self._repository, local_repos=[], timeout=SILENCE_SECONDS_MAX)

    @contextmanager
    def _counting_bytes(self) -> Iterator[Callable[[int], None]]:
        yield lambda bytes_more: self._count(bytes_more=bytes_more)

    def _count(self, *, jars: int = 0, bytes_more: int = 0) -> None:
        with self._counting:
            self._jars_done += jars
            self._bytes_done += bytes_more
            if self._on_fetch:
                self._on_fetch(FetchProgress(self._jars_done, self._jars_total, self._bytes_done))


def _root(error: BaseException) -> BaseException:
    """Follow an error to its first cause, which says "connection refused" where the last says "max retries"."""
    while error.__context__:
        error = error.__context__
    return error
