"""The page of the proof: it says what is short of what was asked, and the command that writes it fails."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.table import main, reached_of

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
}
SIMULATION = {"seed": 1, "histories": 20_000, "deaths": 5, "a_minute": 900.0, "faults": 0}
ASKED = {what: asked for what, asked, _ in reached_of([], None)}
FAULTS = {
    "kills of workers (SIGKILL)": "SIGKILL",
    "zombies": "SIGSTOP for two sessions",
    "restarts of brokers": "broker killed and restarted",
    "ends of transactions held back": "EndTxn answer held",
}


def record(folder: Path, trial: dict[str, Any], histories: int = 20_000) -> Path:
    run = {"at": "2026-11-26T00:00:00Z", "commit": "1b408fd", "kafka": "4.2.1", "seed": 1, "minutes": 0, "proof": 1}
    (folder / "results.json").write_text(json.dumps(run | {"trials": [trial]}))
    (folder / "simulation.json").write_text(json.dumps(SIMULATION | {"histories": histories}))
    return folder


def trial(**less: int) -> dict[str, Any]:
    """Give a trial that did all that is asked, but of these things."""
    counts = ASKED | less
    events = counts.pop("events")
    del counts["simulated histories"]
    faults = {FAULTS.get(what, what.replace("deaths", "death", 1)): count for what, count in counts.items()}
    return WHOLE | {"events": events, "faults": faults}


def test_the_proof_asks_for_what_was_promised() -> None:
    deaths = {what: count for what, count in ASKED.items() if what.startswith("deaths at ")}
    assert len(deaths) == 19
    assert set(deaths.values()) == {10}
    assert {what: count for what, count in ASKED.items() if what not in deaths} == {
        "kills of workers (SIGKILL)": 100,
        "zombies": 10,
        "restarts of brokers": 12,
        "ends of transactions held back": 50,
        "events": 2_000_000,
        "simulated histories": 20_000,
    }


def test_a_whole_proof_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(record(tmp_path, trial())) == 0
    page = capsys.readouterr().out
    assert "**" not in page
    assert "on commit 1b408fd, with Kafka 4.2.1" in page
    assert "| events | 2,000,000 | 2,000,000 |" in page


@pytest.mark.parametrize("what", ASKED)
def test_what_is_short_is_told_and_fails(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ASKED[what] - 1
    histories = short if what == "simulated histories" else 20_000
    assert main(record(tmp_path, trial(**{what: short}), histories)) == 1
    assert f"| {what} | {ASKED[what]:,} | **{short:,}** |" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", ["lost", "doubled", "wrong"])
def test_what_came_out_wrong_is_told_and_fails(wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(record(tmp_path, trial() | {wrong: 1})) == 1
    page = capsys.readouterr().out
    assert f"| events {wrong} | 0 | **1** |" in page
    assert "**not clean**" in page


def test_a_trial_that_failed_or_was_not_judged_does_not_count(tmp_path: Path) -> None:
    assert main(record(tmp_path, trial() | {"passed": False})) == 1
    assert main(record(tmp_path, trial() | {"is_judged": False})) == 1
