"""The harness can fail: idiomatic Faust is killed as our worker is, and what it doubles is counted.

The same stage, the same topics, the same model as the one that judges our worker. What is asserted is that doubles are
seen: were there none, "0 doubled" of our own trials would prove nothing. Without a kill the same run has none: it is
the kills that double. What is lost and unexpected is there without a kill too: idiomatic Faust has no order between the
two inputs.

The traffic is that of the benches. The backlog of the other trials has what this job can't read: no key, no `text`,
times in seconds. Its late messages would have the job warn a second time without a kill.
"""

import asyncio
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from processor.settings import Settings
from tests.bench.peers.outcome import OUTPUTS, Outcome, due, said
from tests.bench.traffic import backlog
from tests.chaos.harness import Stage, Worker, patience
from tests.chaos.trial import MINUTES, SEED, Trial, asked, size

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(0)]

EVENTS = size(4_000, a_minute=6_000, proof=1_500)
KILLS = asked(2) + int(3 * MINUTES)
KILLS_MAX = KILLS + 5
"""On a busy machine a commit may fall just before each of the first kills, and nothing is doubled by these."""
AT_WORK = 50
"""So many outputs after a start it is killed: they take a tenth of a second, and Faust commits every 2.8 s."""
START_S = 60


@pytest.fixture(params=["at_least_once", "exactly_once"])
def guarantee(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give what Faust is to promise, which its processes are told."""
    monkeypatch.setenv("FAUST_GUARANTEE", request.param)
    return str(request.param)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """As all trials have them, without the outputs that it does not make."""
    return settings.model_copy(update={"emit_accepted": False})


async def test_kills_on_the_way_double_what_idiomatic_faust_has_said(
    guarantee: str, settings: Settings, tmp_path: Path, trial: Trial
) -> None:
    outcome = await befallen(settings, tmp_path, trial, KILLS)
    trial.notes += [f"idiomatic Faust, {guarantee}: {outcome}"]
    assert outcome.doubled, "no double of idiomatic Faust after kills: this harness sees nothing"


async def test_without_a_kill_idiomatic_faust_doubles_nothing(
    guarantee: str, settings: Settings, tmp_path: Path, trial: Trial
) -> None:
    outcome = await befallen(settings, tmp_path, trial, kills=0)
    trial.notes += [f"idiomatic Faust, {guarantee}, no kill: {outcome}"]
    assert not outcome.doubled, f"doubles that are of no kill: {outcome.examples()}"


async def befallen(settings: Settings, tmp_path: Path, trial: Trial, kills: int) -> Outcome:
    """Have it read a backlog under so many kills, and more until something is doubled; judge what it has said."""
    now_ms = time.time_ns() // 1_000_000
    records = (await asyncio.to_thread(backlog, SEED, EVENTS, EVENTS // 10, settings.partitions, now_ms)).records
    async with Stage.open(settings, tmp_path) as stage:
        await stage.preload(records)
        folder = str(tmp_path / "faust")
        command = ("-m", "tests.bench.peers.faust_idiomatic", "--datadir", folder, "worker", "--without-web")
        worker, chance = stage.worker("f0", command=command), random.Random(SEED)
        done = 0
        while kills:
            await said_more(stage, AT_WORK)
            so_far = said(stage.names, await stage.records(*OUTPUTS))
            if done == KILLS_MAX or (done >= kills and max(so_far.values()) > 1):
                break
            await asyncio.sleep(chance.uniform(0, 0.1))
            worker.kill()
            await stage.evict(worker)
            done += 1
            worker = stage.worker(f"f{done}", command=command)
        await drained(stage, worker)
        found = said(stage.names, await stage.records(*OUTPUTS))
    outcome = Outcome.of(due(settings, records, now_ms), found)
    trial.faults |= Counter({"SIGKILL": done} if done else {})
    wrong = {"lost": outcome.lost, "doubled": outcome.doubled, "wrong": outcome.unexpected}
    trial.figures |= {"events": len(records), "outputs": outcome.due}
    trial.figures |= {name: found.total() for name, found in wrong.items()}
    return outcome


async def said_more(stage: Stage, outputs: int) -> None:
    """Wait until a worker has said so much more than is on the topics now."""

    async def count() -> int:
        return sum((await stage.ends(*OUTPUTS)).values())

    before = await count()

    async def enough() -> bool:
        return await count() >= before + outputs

    await stage.until(f"{outputs} more outputs", enough, START_S * patience())


async def drained(stage: Stage, worker: Worker) -> None:
    """Let it consume the rest, and end it at once: it has no state to be saved, and takes seconds to stop."""
    await stage.until_consumed((START_S + 60 * MINUTES) * patience())
    worker.kill()
