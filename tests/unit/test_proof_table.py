"""The page of the proof: it says what is short of what was asked, and the command that writes it fails."""

import json
from pathlib import Path
from typing import Any

import pytest

from processor.audit.verdict import Verdict
from tests.chaos.table import main, reached_of
from tests.chaos.trial import Trial

WHOLE: dict[str, Any] = {
    "trial": "test_all_of_it",
    "seed": 1,
    "seconds": 60.0,
    "events": 0,
    "outputs": 10,
    "lost": 0,
    "doubled": 0,
    "wrong": 0,
    "is_judged": True,
    "passed": True,
    "faults": {},
    "figures": {},
}
SIMULATION = {"seed": 1, "histories": 20_000, "deaths": 5, "a_minute": 900.0, "faults": 0}
ASKED = {what: asked for what, asked, _ in reached_of([], None)}
TESTS = {"tests/chaos/test_a.py::test_all_of_it": "passed"}
FAULTS = {
    "kills of workers (SIGKILL)": "SIGKILL",
    "zombies": "SIGSTOP for two sessions",
    "zombies fenced in a transaction of their own": "zombie fenced",
    "restarts of brokers": "broker killed and restarted",
    "ends of transactions held back until they were tried again": "EndTxn answer held until tried again",
}


def proved(
    folder: Path, *trials: dict[str, Any], histories: int = 20_000, tests: dict[str, str] = TESTS
) -> tuple[int, str]:
    """Give what the command says of a run, and the page that it writes."""
    run = {"at": "2026-11-26T00:00:00Z", "commit": "1b408fd", "seed": 1, "minutes": 0, "proof": 1}
    run |= {"machine": {"cores": "2 x some", "Kafka": "4.2.1"}, "tests": tests, "trials": trials}
    (folder / "results.json").write_text(json.dumps(run))
    (folder / "simulation.json").write_text(json.dumps(SIMULATION | {"histories": histories}))
    return main(folder, folder / "proof.md"), (folder / "proof.md").read_text()


def trial(**less: int) -> dict[str, Any]:
    """Give a trial that did all that is asked, but of these things."""
    counts = ASKED | less
    events = counts.pop("events")
    del counts["simulated histories"]
    faults = {FAULTS.get(what, what.replace("deaths", "death", 1)): count for what, count in counts.items()}
    return WHOLE | {"events": events, "faults": faults}


def test_the_proof_asks_for_what_was_promised() -> None:
    deaths = {what: count for what, count in ASKED.items() if what.startswith("deaths at ")}
    assert len(deaths) == 21
    assert set(deaths.values()) == {10}
    assert {what: count for what, count in ASKED.items() if what not in deaths} == {
        "kills of workers (SIGKILL)": 100,
        "zombies": 10,
        "zombies fenced in a transaction of their own": 10,
        "restarts of brokers": 12,
        "ends of transactions held back until they were tried again": 50,
        "events": 2_000_000,
        "simulated histories": 20_000,
    }


def test_a_whole_proof_is_one(tmp_path: Path) -> None:
    code, page = proved(tmp_path, trial())
    assert code == 0
    assert "**" not in page
    assert "on commit 1b408fd, with cores 2 x some, Kafka 4.2.1" in page
    assert "| events | 2,000,000 | 2,000,000 |" in page


@pytest.mark.parametrize("what", ASKED)
def test_what_is_short_is_told_and_fails(what: str, tmp_path: Path) -> None:
    short = ASKED[what] - 1
    histories = short if what == "simulated histories" else 20_000
    code, page = proved(tmp_path, trial(**{what: short}), histories=histories)
    assert code == 1
    assert f"| {what} | {ASKED[what]:,} | **{short:,}** |" in page


@pytest.mark.parametrize("wrong", ["lost", "doubled", "wrong"])
def test_what_came_out_wrong_is_told_and_fails(wrong: str, tmp_path: Path) -> None:
    code, page = proved(tmp_path, trial() | {wrong: 1})
    assert code == 1
    assert f"| events {wrong} | 0 | **1** |" in page
    assert "**not clean**" in page


def test_each_fault_is_told_with_the_events_of_its_trials_and_what_was_wrong_with_them(tmp_path: Path) -> None:
    found = WHOLE | {"events": 1500, "lost": 1, "doubled": 7, "wrong": 2}
    spoilt = found | {"faults": {"SIGKILL": 3, "SIGSTOP": 2, "SIGTERM": 0}}
    sound = WHOLE | {"events": 200, "faults": {"SIGTERM": 4, "SIGKILL": 1}}
    _, page = proved(tmp_path, spoilt, sound)
    assert "| fault | count | events | lost | doubled | wrong | in trials that came out |" in page
    assert "| SIGKILL | 4 | 1,700 | **1** | **7** | **2** | **not clean** |" in page
    assert "| SIGSTOP | 2 | 1,500 | **1** | **7** | **2** | **not clean** |" in page
    assert "| SIGTERM | 4 | 200 | 0 | 0 | 0 | clean |" in page


@pytest.mark.parametrize("outcome", ["did not run", "failed", "failed in its setup", "skipped in its setup"])
def test_a_test_that_failed_or_never_ran_is_told_and_fails(outcome: str, tmp_path: Path) -> None:
    code, page = proved(tmp_path, trial(), tests=TESTS | {"tests/chaos/test_b.py::test_more": outcome})
    assert code == 1
    assert f"| tests/chaos/test_b.py::test_more | **{outcome}** |" in page


def test_a_trial_that_failed_or_was_not_judged_does_not_count(tmp_path: Path) -> None:
    assert proved(tmp_path, trial() | {"passed": False})[0] == 1
    assert proved(tmp_path, trial() | {"is_judged": False, "figures": {}})[0] == 1


def test_what_was_done_to_another_engine_is_no_fault_of_ours(tmp_path: Path) -> None:
    found = {"events": 1500, "outputs": 900, "lost": 1, "doubled": 7, "wrong": 2}
    theirs = WHOLE | {"is_judged": False, "faults": {"SIGKILL": 3}, "figures": found}
    _, page = proved(tmp_path, theirs)
    assert "| all of it | 3 | 1,500 | 900 | 1 | 7 | 2 | 60 |" in page
    assert "| SIGKILL |" not in page


def test_a_clean_verdict_of_less_than_was_put_on_the_inputs_fails_its_trial() -> None:
    Trial().judge(Verdict(), 0)
    with pytest.raises(AssertionError, match="1 records were put on the inputs; 0 records"):
        Trial().judge(Verdict(), 1)


def test_what_was_measured_is_told_by_its_largest(tmp_path: Path) -> None:
    measured = trial() | {"figures": {"ended_s_max": 0.31, "recovered_s": [0.4, 7.1, 3]}}
    _, page = proved(tmp_path, measured)
    assert "| from SIGTERM to the worker's end | 0.31 |" in page
    assert "| from a broker's return to commits on all partitions | 7.1 |" in page
