"""The table of guards: made from the table of mutants, and each test and each guard that it names is there."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants.guards import BEGIN, END, PAGE, guards
from tests.mutants.table import MUTANTS, Mutant
from tests.mutants.workshop import ROOT


def by_name(mutant: Mutant) -> str:
    return mutant.without


def test_the_table_of_guards_in_the_documents_is_made_from_the_mutants() -> None:
    text = PAGE.read_text("utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    assert text.split(BEGIN)[1].split(END)[0].strip() == guards(), "run `python -m tests.mutants.guards`"


def test_each_mutant_has_a_name_of_its_own() -> None:
    assert len({mutant.without for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=by_name)
def test_a_test_that_is_named_for_a_guard_is_there(mutant: Mutant) -> None:
    place, _, test = mutant.caught_by.partition("::")
    tree = ast.parse((ROOT / place).read_text("utf-8"))
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert test in names


@pytest.mark.parametrize("mutant", MUTANTS, ids=by_name)
def test_a_guard_that_is_to_be_taken_out_stands_in_its_file_once(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text("utf-8").count(mutant.guard) == 1


def undefined_names(folder: Path) -> str:
    """Give what ruff says of names that are nowhere defined in the modules of a folder."""
    options = ["--isolated", "--no-cache", "--target-version", "py311", "--select", "F82", "--output-format", "concise"]
    command = [sys.executable, "-m", "ruff", "check", "--quiet", *options, "."]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


def test_what_a_guard_becomes_compiles_and_names_nothing_that_is_not_there(tmp_path: Path) -> None:
    for mutant in MUTANTS:
        source = (ROOT / mutant.file).read_text("utf-8").replace(mutant.guard, mutant.instead)
        compile(source, mutant.file, "exec")
        (tmp_path / f"{re.sub(r'[^a-z0-9]+', '-', mutant.without.lower())}.py").write_text(source, "utf-8")
    assert len(list(tmp_path.iterdir())) == len(MUTANTS)
    assert undefined_names(tmp_path) == ""


def test_a_name_that_is_not_there_is_seen(tmp_path: Path) -> None:
    (tmp_path / "worse.py").write_text("print(wall_clock_ms)\n")
    assert "F821" in undefined_names(tmp_path)
