"""A copy of the repository in which single lines are changed, and tests run that should notice."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from tests.mutants.table import Mutant

ROOT: Final = Path(__file__).parents[2]
PARTS: Final = ("processor", "schemas", "tests", "pyproject.toml")


class Outcome(NamedTuple):
    """What became of tests in the copy."""

    code: int
    """pytest's exit code."""
    passed: int
    failed: list[str]
    """What was said of each test that failed by itself."""
    told: str
    """All that was written."""


class Workshop:
    """The copy, and the bench in it."""

    def __init__(self, folder: Path) -> None:
        """Copy the repository into a folder."""
        self._root, self._told = folder / "copy", folder / "told"
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
            self._root.mkdir(exist_ok=True)
            copy(ROOT / part, self._root / part)
        environment = {**os.environ, "PYTHONPATH": str(self._root)}
        self._bench = subprocess.Popen(
            [sys.executable, "-m", "tests.mutants.bench"],
            cwd=self._root,
            env={name: value for name, value in environment.items() if not name.startswith(("JANELA_", "PYTEST_"))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bench.communicate()

    @contextmanager
    def changed(self, mutant: Mutant) -> Iterator[None]:
        """Take a guard out of the copy for a while."""
        original, path = ROOT / mutant.file, self._root / mutant.file
        source = original.read_text("utf-8")
        assert source.count(mutant.guard) == 1, f"{mutant.file} has not, or more than once: {mutant.guard!r}"
        path.write_text(source.replace(mutant.guard, mutant.instead), "utf-8")
        try:
            yield
        finally:
            shutil.copy2(original, path)

    def run(self, tests: Sequence[str], environment: Mapping[str, str]) -> Outcome:
        """Run tests on the copy as it stands, until the first one fails."""
        order = {"tests": tests, "environment": environment, "told": str(self._told)}
        assert self._bench.stdin is not None
        assert self._bench.stdout is not None
        self._bench.stdin.write(json.dumps(order) + "\n")
        self._bench.stdin.flush()
        answer: dict[str, Any] = json.loads(self._bench.stdout.readline())
        told = self._told.read_text("utf-8", "replace") + answer.get("error", "")
        return Outcome(answer["code"], answer["passed"], answer["failed"], told)
