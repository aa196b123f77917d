"""Death at each step: a worker ends itself, as SIGKILL would, at every place that has a name in `processor.failpoints`.

What kills at random times rarely hits, the moment between two requests, is hit here each time.
"""

import random
import signal
from pathlib import Path

import pytest

from processor.audit.reading import verify
from processor.failpoints import FAILPOINTS
from processor.settings import Settings
from tests.chaos.harness import Stage, Worker
from tests.chaos.test_exactly_once import QUICK, START_S, drained, filled
from tests.chaos.trial import MINUTES, SEED, Trial, asked, rounds, size

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(0)]

IDLE = {"idle-timers-due", "idle-timers-fired"}
MIDWAY = {"restore-half-read", "restore-nearly-read"}
"""Places that there are in a long restore alone."""
RESTORING = ("restore-begun", "restore-half-read", "restore-nearly-read", "restore-read", "restore-decoded")
ONCE = {"assigned", *RESTORING, "revoking", "revoked", "shut-down"}
"""Places that a worker comes to once, or a few times, in its life."""
AT_STEPS = size(20_000, a_minute=15_000, proof=100_000)
"""What those that die at any step have before them: each takes some 250 records, more where rebalances are slow."""
STATE_RECORDS = 2_000
"""Positions of each partition's state where a restore counts as long."""
IN_SMALL_STEPS = """
from processor.cli.main import main
from processor.stream import restore

restore._RECORDS_AT_ONCE = 10  # of thousands, so that half of them is not all
main()
"""


async def test_a_worker_that_dies_at_any_step_loses_nothing_and_doubles_nothing(
    settings: Settings, tmp_path: Path, trial: Trial
) -> None:
    chance = random.Random(SEED + 2)
    places = sorted(set(FAILPOINTS) - IDLE - MIDWAY)
    deaths = 0
    async with Stage.open(settings, tmp_path) as stage:
        await filled(stage, AT_STEPS)
        for _ in rounds(asked(10)):
            chance.shuffle(places)
            for place in places:
                times = 1 if place in ONCE else chance.randint(1, 12)
                await died(stage, stage.worker(f"w{deaths % 3}", failpoint=f"{place}:{times}"), place)
                trial.faults[f"death at {place}"] += 1
                deaths += 1
        rest = await drained(stage, stage.worker("last", **QUICK))
        verdict = await verify(stage.settings)
    trial.notes.append(rest)
    trial.judge(verdict, stage.events_put)


async def test_a_worker_that_dies_anywhere_in_a_long_restore_loses_nothing_and_doubles_nothing(
    settings: Settings, tmp_path: Path, trial: Trial
) -> None:
    async with Stage.open(settings, tmp_path) as stage:
        await filled(stage)
        writing = stage.worker("writing", batch_records_max=20, buffer_records_max=400)

        async def long() -> bool:
            return min((await stage.ends("window-state")).values()) > STATE_RECORDS

        await stage.until("the state is long", long, START_S + 60 * MINUTES)
        writing.kill()
        await stage.evict(writing)
        deaths, chance = 0, random.Random(SEED + 11)
        for _ in rounds(asked(10)):
            for place in RESTORING:
                times = chance.randint(1, stage.settings.partitions) if place != "restore-begun" else 1
                armed = stage.worker(
                    f"w{deaths % 3}", command=("-c", IN_SMALL_STEPS, "worker"), failpoint=f"{place}:{times}"
                )
                await died(stage, armed, place)
                trial.faults[f"death at {place}"] += 1
                deaths += 1
        rest = await drained(stage, stage.worker("last", **QUICK))
        verdict = await verify(stage.settings)
    trial.notes.append(rest)
    trial.judge(verdict, stage.events_put)


async def died(stage: Stage, worker: Worker, place: str) -> None:
    """Bring a worker to the place where it ends itself, and take it out of the group."""
    if place == "shut-down":
        await stage.until_moved(within_s=START_S)
        worker.signal(signal.SIGTERM)
    if place in {"revoking", "revoked"}:
        await stage.until_moved(within_s=START_S)
        joining = stage.worker("joining")
        assert await worker.ended(START_S) == -signal.SIGKILL
        joining.kill()
        await stage.evict(joining)
    assert await worker.ended(START_S) == -signal.SIGKILL, f"{place}: {worker.told()}"
    await stage.evict(worker)
