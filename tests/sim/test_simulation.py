"""Histories from seeds: kills, rebalances, zombies, lost answers and late copies; and guards whose lack is seen.

SEED and HISTORIES in the environment choose which ones, every other one with a live clock; a seed that failed once is
in `regressions` for good.
"""

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from unittest.mock import patch

import pytest

from processor.kafka.log import LogReader
from tests.mutants.crashes import crash_in
from tests.sim.history import LIVE, Story, play, simulation
from tests.sim.live_mutants import LIVE_MUTANTS
from tests.sim.mutants import MUTANTS

SEED = int(os.environ.get("SEED", "1"))
RESULTS = os.environ.get("RESULTS", "")
HISTORIES = int(os.environ.get("HISTORIES", "0"))
SECONDS = float(os.environ.get("TEST_SIM_SECONDS", "10"))
"""How long histories are played where their number is not given."""
HISTORIES_TO_CATCH = 3000
FEW = 10
RARE = {"state is kept whoever wrote last"}
"""What few histories show: left to `make test-mutants`."""
WITH_STOPS = [52, 80, 88, 114, LIVE + 15, LIVE + 49]
"""Stories in which a worker stops as it is asked to, which ends in a thread; they once differed from run to run."""
REGRESSIONS = [int(line.split()[0]) for line in (Path(__file__).parent / "regressions").read_text().splitlines()]


def seed_of(count: int) -> int:
    """Give the seed of the history that is played after `count` others."""
    return SEED + count if SEED >= LIVE else SEED + count // 2 + LIVE * (count % 2)


def told(story: Story) -> str:
    """Give the end of a story, what is wrong, and how to play it again."""
    lines = [*story.told[-60:], *story.faults[:12], f"make test-sim SEED={story.seed} HISTORIES=1"]
    return "\n  ".join([f"seed {story.seed}", *lines])


def is_found_out(seeds: Iterable[int]) -> bool:
    """Play until a story shows a fault, which must not be that the change itself does not run."""
    story = next((story for seed in seeds if (story := play(seed)).faults), None)
    assert story is None or not crash_in("\n".join(story.faults)), told(story)
    return story is not None


@pytest.mark.timeout(0)
def test_whatever_befalls_the_workers_the_model_is_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    began_s, count, deaths = time.monotonic(), 0, 0
    with simulation():
        while count < HISTORIES or (not HISTORIES and time.monotonic() - began_s < SECONDS):
            story = play(seed_of(count))
            assert not story.faults, told(story)
            count, deaths = count + 1, deaths + story.deaths
    a_minute = count / (time.monotonic() - began_s) * 60
    if RESULTS:
        told_of = {"seed": SEED, "histories": count, "deaths": deaths, "a_minute": a_minute, "faults": 0}
        Path(RESULTS).mkdir(parents=True, exist_ok=True)
        (Path(RESULTS) / "simulation.json").write_text(json.dumps(told_of) + "\n", "utf-8")
    with capsys.disabled():
        print(f"\n  {count} histories from seed {SEED}, {deaths} deaths, {a_minute:.0f} histories a minute")  # noqa: T201


@pytest.mark.parametrize("seed", REGRESSIONS)
def test_a_seed_that_failed_once_does_not_again(seed: int) -> None:
    with simulation():
        story = play(seed)
    assert not story.faults, told(story)


@pytest.mark.parametrize("seed", [SEED % LIVE, SEED % LIVE + LIVE, *WITH_STOPS])
def test_a_seed_tells_the_same_story_each_time(seed: int) -> None:
    with simulation():
        first, second = play(seed), play(seed)
    assert (first.told, first.steps, first.virtual_s) == (second.told, second.steps, second.virtual_s)


@pytest.mark.mutants
@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    "mutant", [pytest.param(name, marks=[pytest.mark.long] if name in RARE else []) for name in MUTANTS]
)
def test_a_guard_that_is_missing_is_found_out(mutant: str) -> None:
    with simulation(), MUTANTS[mutant]():
        assert is_found_out(range(HISTORIES_TO_CATCH)), mutant


@pytest.mark.mutants
@pytest.mark.timeout(0)
@pytest.mark.parametrize("mutant", LIVE_MUTANTS)
def test_a_live_clock_that_goes_too_far_is_found_out(mutant: str) -> None:
    with simulation(), LIVE_MUTANTS[mutant]():
        assert is_found_out(range(LIVE, LIVE + HISTORIES_TO_CATCH)), mutant


def test_a_change_that_only_crashes_does_not_pass_for_a_guard_that_is_missing() -> None:
    with simulation(), patch.object(LogReader, "starts", None), pytest.raises(AssertionError, match="TypeError"):
        is_found_out(range(FEW))
