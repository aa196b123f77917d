"""Kafka Streams: its jars by Maven coordinates and hashes, and the job compiled for it."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from processor.embedded.jars import fetch_jars, locked_jars
from processor.embedded.java import find_java

HERE: Final = Path(__file__).parent
LOCK_FILE: Final = HERE / "kafka_streams.lock"
SOURCE: Final = HERE / "java" / "WindowJob.java"
MEMORY: Final = ("-Xms1g", "-Xmx2g", "-XX:+UseParallelGC")
"""What throughput wants; a peer is measured at its best."""
QUIET: Final = (
    "-Dlog4j2.loggerContextFactory=org.apache.logging.log4j.simple.SimpleLoggerContextFactory",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
)


def compiler() -> str | None:
    """Find `javac`; a Java from a Python package has none."""
    home = os.environ.get("JAVA_HOME")
    beside = str(find_java().executable.resolve().with_name("javac"))
    candidates = [str(Path(home) / "bin" / "javac") if home else "", beside, "javac"]
    return next((found for candidate in candidates if candidate and (found := shutil.which(candidate))), None)


def version() -> str:
    """Give the version of Kafka Streams."""
    return next(jar.version for jar in locked_jars(LOCK_FILE) if jar.name == "kafka-streams")


def command(javac: str, classes: Path) -> list[str]:
    """Compile the job into a folder; give the beginning of the command line that runs it, without its options."""
    jars = [*fetch_jars(lock_file=LOCK_FILE), *fetch_jars()]
    class_path = os.pathsep.join(map(str, jars))
    subprocess.run([javac, "-proc:none", "-d", classes, "-cp", class_path, SOURCE], check=True)
    java = str(Path(javac).with_name("java"))
    return [java, *MEMORY, *QUIET, "-cp", os.pathsep.join([str(classes), class_path])]
