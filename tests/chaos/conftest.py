"""What each chaos test is given: settings that keep a worker inside transactions, and a trial that is put on record.

The record of a run is `results.json`, in the folder that RESULTS in the environment names: one entry a trial, faults by
name and count, and what the verdict says; and what became of each test that was to run, or that it never did. It is
written after each trial, should the run be cut off. The summary at the end of the run is the same, for eyes.
"""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

import pytest
from rich.console import Console
from rich.table import Table

from processor.access import Access
from processor.embedded.jars import locked_jars
from processor.settings import Settings
from tests.bench.report import machine
from tests.chaos.harness import SESSION_S, commit
from tests.chaos.trial import CLUSTER, MINUTES, PROOF, SEED, Trial
from tests.kafka import Kafka

RESULTS: Final = os.environ.get("RESULTS", "")

_PASSED: Final = pytest.StashKey[bool]()
_TRIAL: Final = "trial"
_trials: Final[list[dict[str, Any]]] = []
_tests: Final[dict[str, str]] = {}
"""What became of each test, by its node id."""


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note what is to run, where no other processes run it."""
    _planned(item.nodeid for item in session.items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(ids: Sequence[str]) -> None:
    """Note what is to run, where other processes do."""
    _planned(ids)


def _planned(ids: Iterable[str]) -> None:
    for nodeid in ids:
        if "tests/chaos/" in nodeid:
            _tests.setdefault(nodeid, "did not run")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep whether a test's own part has passed, for the entry that its trial makes after it."""
    report = yield
    if report.when == "call":
        item.stash[_PASSED] = report.passed
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Take a trial's entry from its last report, which comes here from whatever process has run it."""
    if report.nodeid in _tests and (report.when == "call" or not report.passed):
        _tests[report.nodeid] = report.outcome if report.when == "call" else f"{report.outcome} in its {report.when}"
    entries = [cast(dict[str, Any], entry) for name, entry in report.user_properties if name == _TRIAL]
    if report.when == "teardown":
        _trials.extend(entries)
        if RESULTS and "PYTEST_XDIST_WORKER" not in os.environ:
            _put_on_record(Path(RESULTS))


@pytest.fixture
def trial(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Iterator[Trial]:
    """Give the test its trial; one line tells it, and an entry keeps it, also where the test fails."""
    began_s, trial = time.monotonic(), Trial()
    sys.stdout.write(f"SEED={trial.seed}\n")  # told where the test fails, whatever process runs it
    yield trial
    entry = trial.entry(request.node.name, time.monotonic() - began_s)
    entry["passed"] = request.node.stash.get(_PASSED, False)
    request.node.user_properties.append((_TRIAL, entry))
    words = [f"seed {trial.seed}", _done(entry["faults"]), *trial.notes, str(trial.verdict or "not judged")]
    with capsys.disabled():
        sys.stdout.write(f"\n  {'; '.join(filter(None, words))}\n")


@pytest.fixture
def access(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Say how to reach a trial's cluster: the user's, else the run's; a file with brokers of its own says it anew."""
    if CLUSTER:
        return Settings.load(CLUSTER).model_dump(include=set(Access.model_fields), exclude_unset=True)
    kafka: Kafka = request.getfixturevalue("kafka")
    return {"bootstrap_servers": kafka.bootstrap_servers}


@pytest.fixture
def settings(access: dict[str, Any], topic_prefix: str) -> Settings:
    """Small batches: a worker needs seconds for the backlog, and is hardly ever outside of a transaction."""
    return Settings(
        **access,
        app_id=f"{topic_prefix}janela",
        topic_prefix=topic_prefix,
        partitions=4,
        clock="event",
        session_timeout_ms=SESSION_S * 1000,
        commit_interval_ms=30,
        batch_records_max=2,
        buffer_records_max=40,
    )


def _done(faults: Mapping[str, int]) -> str:
    """Say what was done in few words: the names of failpoints are for the record."""
    brief: Counter[str] = Counter()
    for fault, count in faults.items():
        brief[fault.partition(" at ")[0]] += count
    return ", ".join(f"{count} {fault}" for fault, count in brief.items())


def _put_on_record(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    run = {
        "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "commit": commit(),
        "kafka": next(jar.version for jar in locked_jars() if jar.name == "kafka-clients"),
        "seed": SEED,
        "minutes": MINUTES,
        "proof": PROOF,
        "machine": machine(),
        "tests": _tests,
        "trials": _trials,
    }
    (folder / "results.json").write_text(json.dumps(run, indent=1) + "\n", "utf-8")


def pytest_terminal_summary() -> None:
    """Print the table of all trials."""
    if not _trials:
        return
    table = Table("trial", "faults", "events", "lost", "doubled", "wrong", "s", title=f"chaos, seed {SEED}")
    for entry in _trials:
        verdict = [str(entry[name]) if entry["is_judged"] else "?" for name in ("lost", "doubled", "wrong")]
        table.add_row(entry["trial"], _done(entry["faults"]), str(entry["events"]), *verdict, f"{entry['seconds']:.0f}")
    Console(file=sys.stdout).print(table)
