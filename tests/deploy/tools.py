"""The tools that `deploy/` is checked with: where they are, and how they are run.

`make check-deploy` gets those that registries have, into a folder of their own; others may be on the PATH. Where one is
missing a test is left out; with TEST_TOOLS=required in the environment, as `make check-deploy` has it, it fails.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest
import yaml

from processor.settings import Settings

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"
FOLDER: Final = ROOT / ".janela/tools/bin"

_FROM: Final = {
    "promtool": "Debian's package prometheus has it",
    "prometheus": "Debian's package of that name has it",
    "strace": "Debian's package of that name has it",
    "systemd-analyze": "it comes with systemd",
}

DRAIN_SECONDS_MAX: Final = Settings().transaction_timeout_ms / 1000 * 4 / 5
"""How long a worker that is told to stop may take until it has ended: so long where the brokers do not answer."""


def path_of(tool: str) -> str | None:
    """Say where a tool is; None where this machine has none."""
    return shutil.which(tool, path=f"{FOLDER}{os.pathsep}{os.environ.get('PATH', '')}")


def needs(*tools: str, unchecked: str) -> pytest.MarkDecorator:
    """Leave a test out where a tool is missing, or fail it, and say what is then not checked."""
    missing = [f"{tool} ({_FROM.get(tool, '`make check-deploy` gets it')})" for tool in tools if path_of(tool) is None]
    return _needs(", ".join(missing), unchecked)


def _needs(lacking: str, unchecked: str) -> pytest.MarkDecorator:
    return pytest.mark.needs(f"no {lacking}; not checked: {unchecked}" if lacking else "")


def hold(test: pytest.Item) -> None:
    """Let a test go on if it has what it needs; called before each, and before its fixtures."""
    lacking = "; ".join(mark.args[0] for mark in test.iter_markers("needs") if mark.args[0])
    if lacking and os.environ.get("TEST_TOOLS") == "required":
        pytest.fail(lacking, pytrace=False)
    if lacking:
        pytest.skip(lacking)


def ran(tool: str, *arguments: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a tool in the root of the repository, for at most a minute; `text` goes to its standard input."""
    command = [path_of(tool) or tool, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, input=text, capture_output=True, text=True, check=False, timeout=60)


def passed(tool: str, *arguments: str | Path, text: str | None = None) -> str:
    """Run a tool that must find nothing wrong, and give what it wrote to standard output."""
    done = ran(tool, *arguments, text=text)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


needs_types = _needs(
    "" if (FOLDER / "python").exists() else "types made from CRDs (`make check-deploy` gets them)",
    "the fields of custom resources",
)


def unknown_fields(*documents: dict[str, object]) -> list[str]:
    """Give what the types that were made from the CRDs refuse of resources, or do not know."""
    text = yaml.safe_dump_all(documents)
    script = ROOT / "tests/deploy/custom_resources.py"
    done = subprocess.run([FOLDER / "python", script], input=text, capture_output=True, text=True, check=False)
    return done.stderr.splitlines()


STRIMZI: Final = FOLDER.parent / "strimzi.classpath"
"""Where Strimzi's types lie, as `make check-deploy` has found them with Maven."""

needs_strimzi = _needs(
    ""
    if STRIMZI.exists() and path_of("javac")
    else "Strimzi types (`make check-deploy` gets them where there are mvn and a JDK)",
    "their fields",
)


def unknown_to_strimzi(resources: str) -> list[str]:
    """Give the fields and words of resources, as YAML, that Strimzi's own types do not know."""
    done = ran("java", "-cp", STRIMZI.read_text("utf-8"), "tests/deploy/strimzi/Unknown.java", text=resources)
    assert done.returncode in (0, 1), done.stderr
    assert bool(done.returncode) == bool(done.stdout), done.stderr
    return done.stdout.splitlines()
