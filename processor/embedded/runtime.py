"""How Kafka's programs are called, and the two caches that make a start quick.

Both caches are named after a fingerprint of the Java, its options and the jars, so a change of any makes new
ones:

- the class archive (45 MB): the JVM's loaded classes, ready to be mapped. It halves a start. The first broker
  that stops cleanly on a machine writes it, later ones map it.
- the bootstrap checkpoint (411 bytes): what `kafka-storage format` writes into each log folder, the same for
  every node and cluster. Kept, it saves the second that the formatting JVM takes. It can't be left out:
  without it `transaction.version` and the other features stay at 0.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from processor.embedded.java import Java

AOT_CACHE_SINCE = 25
"""JEP 514. Before it, the same is called class data sharing and has other options."""

CLASS_ARCHIVES_MAX = 4
"""Each is 45 MB; a machine with two Javas and two versions of Kafka's jars has use for four."""

JVM_OPTIONS = (
    # One small broker: what starts soonest and takes least memory wins over throughput.
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xss512k",
    "-Djava.awt.headless=true",
    # log4j's API has no implementation among the jars, slf4j has its simple one: warnings go to stderr,
    # dated.
    "-Dlog4j2.loggerContextFactory=org.apache.logging.log4j.simple.SimpleLoggerContextFactory",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
)


_QUIET = ("-Xlog:disable", "-Xlog:all=error:stderr")
"""The JVM has much to say about class archives, on stdout."""


def cache_folder() -> Path:
    """Find janela's folder for what can be made again: under `XDG_CACHE_HOME`, else `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "janela"


@dataclass(frozen=True)
class Runtime:
    """A Java, Kafka's jars, and the most memory that a JVM may take for objects (`heap`, as in `-Xmx`)."""

    java: Java
    jars: Sequence[Path]
    heap: str

    def command(self, main_class: str, *arguments: str, options: Sequence[str] = ()) -> list[str]:
        """Compose the command line that runs one of Kafka's programs."""
        class_path = os.pathsep.join(map(str, self.jars))
        java = str(self.java.executable)
        return [java, f"-Xmx{self.heap}", *JVM_OPTIONS, *options, "-cp", class_path, main_class, *arguments]

    @property
    def class_archive(self) -> Path:
        """Where the class archive is, once there is one."""
        return cache_folder() / f"{self._fingerprint}.jsa"

    @property
    def bootstrap_checkpoint(self) -> Path:
        """Where the bootstrap checkpoint is, once there is one."""
        return cache_folder() / f"{self._fingerprint}.checkpoint"

    def reading_archive(self) -> list[str]:
        """Options of a JVM that maps the class archive, or passes over in silence one that does not fit."""
        return [
            *_QUIET,
            f"-XX:{'AOTCache' if self._has_aot_cache else 'SharedArchiveFile'}={self.class_archive}",
        ]

    def writing_archive(self, into: Path) -> list[str]:
        """Options of a JVM that writes a class archive when it ends cleanly, which takes it some seconds."""
        return [*_QUIET, f"-XX:{'AOTCacheOutput' if self._has_aot_cache else 'ArchiveClassesAtExit'}={into}"]

    def keep_archive(self, made: Path) -> None:
        """Take a class archive into the cache, and let go of the oldest."""
        _keep(made, self.class_archive)
        archives = sorted(cache_folder().glob("*.jsa"), key=lambda path: path.stat().st_mtime)
        for old in archives[:-CLASS_ARCHIVES_MAX]:
            old.unlink(missing_ok=True)

    def forget_archive(self) -> None:
        """Remove the class archive from the cache; the next clean stop writes it anew."""
        self.class_archive.unlink(missing_ok=True)

    def keep_checkpoint(self, made: Path) -> None:
        """Take a bootstrap checkpoint into the cache."""
        _keep(made, self.bootstrap_checkpoint)

    @property
    def _has_aot_cache(self) -> bool:
        return self.java.major >= AOT_CACHE_SINCE

    @cached_property
    def _fingerprint(self) -> str:
        # Sizes and times are in it because the JVM compares them: an archive of jars that were fetched anew
        # since would be passed over for ever, and never be written again.
        stamps = [(str(jar), (stat := jar.stat()).st_size, stat.st_mtime_ns) for jar in self.jars]
        return hashlib.sha256(repr((self.java.banner, JVM_OPTIONS, stamps)).encode()).hexdigest()[:16]


def _keep(made: Path, kept: Path) -> None:
    """Copy a file into the cache in one step, so that no run ever sees half of it."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as desk:
        Path(shutil.copy(made, desk)).replace(kept)
