"""The repository against its own rules. What a check looks for is in `checks`; here is where it must hold."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from processor.cli.main import VERBS
from processor.embedded.jars import locked_jars
from processor.ops.events import EVENTS
from tests.bench.peers import kafka_streams
from tests.tidy import checks

ROOT = Path(__file__).parents[2]
RULES = ROOT / "tests/tidy/rules.txt"

ENTRY_POINTS = {"processor.ops.pages", "processor.__main__", "processor.cli.main", "processor.worker"} | {
    f"processor.cli.{verb}" for verb in VERBS
}
"""Modules that are started or looked up by name."""

CODE_LINES_MAX = {("core", "codec"): 1200, ("stream",): 1200}
"""How much there may be to read, in lines that hold code."""


@pytest.fixture(scope="module")
def kept() -> list[Path]:
    """Give what git keeps or would keep, as long as it is there."""
    listed = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split("\0")
    return [path for name in sorted(set(names)) if name and (path := ROOT / name).is_file()]


def modules(*folders: str) -> list[Path]:
    """Give all Python files below folders of the repository."""
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert found, f"no module in {folders}"
    return found


def faults(paths: Iterable[Path], check: Callable[[str], Iterable[str]]) -> list[str]:
    """Give `file: fault` for all that a check finds in files."""
    return [f"{path.relative_to(ROOT)}: {fault}" for path in paths for fault in check(path.read_text("utf-8"))]


def test_core_and_codec_know_nothing_of_the_world_outside() -> None:
    assert faults(modules("processor/core", "processor/codec"), checks.impurities) == []


def test_only_the_command_line_prints() -> None:
    silent = [path for path in modules("processor") if path.parent.name != "cli"]
    assert faults(silent, checks.prints) == []


def test_every_client_of_kafka_is_made_in_one_place_so_that_all_come_the_same_way() -> None:
    made = faults(modules("processor"), checks.clients)
    assert {line.partition(":")[0] for line in made} == {"processor/kafka/connection.py"}
    assert len(made) == 5


def test_every_line_that_is_logged_is_in_the_catalogue_and_no_other_is_there() -> None:
    found = {line for path in modules("processor") for line in checks.logged(path.read_text("utf-8"))}
    assert found == {(name, event.level) for name, event in EVENTS.items()}


def test_every_module_says_what_it_is_for() -> None:
    assert faults(modules("processor", "tests"), checks.missing_docstring) == []


def test_every_test_has_a_sentence_for_a_name() -> None:
    assert faults(modules("tests"), checks.short_names) == []


def test_every_rule_in_scope_is_named_by_a_test() -> None:
    scope = checks.rules_in_scope(RULES.read_text("utf-8"))
    tests = [path.read_text("utf-8") for path in modules("tests") if path.name.startswith("test_")]
    # the model proves nothing by itself
    of_processor = [test for test in tests if checks.imports(test, "processor", besides="processor.audit")]
    named = set().union(*map(checks.rules_named, of_processor))
    unproven = {identifier: scope[identifier] for identifier in scope.keys() - named}
    assert unproven == {}


def test_every_module_is_imported_or_started_by_name() -> None:
    sources = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path.read_text() for path in modules("processor")
    }
    named = {name.removesuffix(".__init__"): source for name, source in sources.items()}
    assert list(checks.orphans(named, ENTRY_POINTS)) == []


@pytest.mark.parametrize(("layers", "lines_max"), CODE_LINES_MAX.items(), ids=str)
def test_a_layer_is_short_enough_to_be_read(layers: tuple[str, ...], lines_max: int) -> None:
    paths = modules(*(f"processor/{layer}" for layer in layers))
    assert sum(checks.code_lines(path.read_text("utf-8")) for path in paths) < lines_max


def test_no_kept_file_names_a_place_that_others_do_not_have(kept: list[Path]) -> None:
    def named(path: Path) -> list[str]:
        content = path.read_bytes()
        return [] if b"\0" in content else list(checks.places(content.decode("utf-8")))

    assert [f"{path.relative_to(ROOT)}: {fault}" for path in kept for fault in named(path)] == []


def test_every_package_that_we_import_is_a_dependency_of_ours() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    declared = {canonical(re.split(r"[^\w.-]", line)[0]) for line in lines}
    standard = {*sys.stdlib_module_names, "__future__"}
    imported = {
        name for path in modules("processor") for name in checks.third_party(path.read_text(), ["processor"], standard)
    }
    distributions = packages_distributions()
    assert {name for name in imported if not declared & {canonical(each) for each in distributions[name]}} == set()


def test_every_locked_package_is_held_by_a_hash() -> None:
    apart = [ROOT / "tests/bench/peers/quix.lock", ROOT / "tests/deploy/tools.lock", ROOT / "tests/site/site.lock"]
    locks = [ROOT / "requirements.lock", *(ROOT / "deploy").rglob("*.lock"), *apart]
    assert len(locks) == 7
    assert faults(locks, checks.unhashed) == []


def test_what_is_deployed_is_what_was_tested() -> None:
    tested = checks.pins((ROOT / "requirements.lock").read_text("utf-8"))
    for lock in (ROOT / "deploy").rglob("*.lock"):
        deployed = checks.pins(lock.read_text("utf-8"))
        assert deployed
        assert deployed.items() <= tested.items(), lock.name


def canonical(name: str) -> str:
    """Write the name of a distribution as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_kafka_streams_is_of_the_brokers_version_whose_clients_it_runs_on() -> None:
    assert kafka_streams.version() == next(jar.version for jar in locked_jars() if jar.name == "kafka-clients")
