"""Exactly once, while workers are killed, held still, stopped and replaced.

Each test runs a backlog through workers that are treated badly on the way, and then holds everything that they wrote
against the model.
"""

import asyncio
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from processor.audit.reading import verify
from processor.settings import Settings
from processor.stream.engine import EXIT_FAILED
from tests.chaos.backlog import HOUR_MS, backlog
from tests.chaos.harness import SESSION_S, Stage, Worker, patience
from tests.chaos.reader import Reader
from tests.chaos.trial import MINUTES, SEED, Trial, asked, rounds, size

pytestmark = [pytest.mark.chaos, pytest.mark.short, pytest.mark.timeout(0)]

EVENTS = size(20_000, a_minute=15_000, proof=20_000)
SHARED = size(20_000, a_minute=15_000, proof=100_000)
"""What two workers have before them while they change places."""
CONTACTS = 2_000
START_S = 90
"""How long a worker may take to its first commit on a machine that is busy with other things."""
TERM_S = 10
"""Within this time a worker has ended that is asked to, however busy the machine is."""
FENCED = "worker.fenced"
QUICK: dict[str, Any] = {"batch_records_max": 2000, "buffer_records_max": 8000}
"""For what is left of the backlog when the trouble is over."""


async def filled(stage: Stage, events: int = EVENTS, *, is_read: bool = True) -> None:
    """Put a backlog of the run's seed on the inputs, and have a reader take in what comes of it, from now on."""
    if is_read:
        await Reader.along(stage)
    end_ms = time.time_ns() // 1_000_000 - HOUR_MS
    records = await asyncio.to_thread(backlog, SEED, events, CONTACTS, stage.settings.partitions, end_ms)
    await stage.preload(records)


async def drained(stage: Stage, worker: Worker, *, may_be_done: bool = False) -> str:
    """Let a quick worker do the rest, and end it as it should be ended; a reader must have seen what is there then.

    There must be a rest unless it `may_be_done`: what befell workers without input has proved nothing.
    """
    rest = await stage.lag()
    assert rest or may_be_done, "the backlog was consumed before the last fault: it was too small"
    took_s = await stage.until_consumed(START_S + 60 * MINUTES)
    # where there was no rest, it may not even have begun
    await stage.until("the last worker has partitions", lambda: has_partitions(stage, worker), START_S)
    await stopped(worker)
    live = "" if stage.reader is None else f", {await stage.reader.agrees(START_S * patience())} outputs read live"
    return f"the last {rest:,} in {took_s:.1f} s{live}"


async def has_partitions(stage: Stage, worker: Worker) -> bool:
    """Whether the group has given a worker any."""
    return bool((await stage.partitions_of(worker))[1])


async def stopped(worker: Worker) -> float:
    """End a worker as it should be ended; gives how long it took."""
    began_s = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert await worker.ended(TERM_S) == 0, worker.told()
    return time.monotonic() - began_s


async def test_ten_kills_on_the_way_lose_nothing_and_double_nothing(
    settings: Settings, tmp_path: Path, trial: Trial
) -> None:
    chance = random.Random(SEED)
    kills = asked(40, short=10) + int(5 * MINUTES)
    in_transaction = 0
    async with Stage.open(settings, tmp_path) as stage:
        await filled(stage)
        worker = stage.worker("w0")
        for n in range(1, kills + 1):
            if chance.random() < 0.8:
                await stage.until_moved(within_s=START_S)
            else:  # while it restores, or before it has joined
                await asyncio.sleep(chance.uniform(0.5, 5))
            # its successor takes seconds to get ready, and sometimes joins before the kill
            successor = stage.worker(f"w{n % 3}") if n < kills else stage.worker("last", **QUICK)
            await asyncio.sleep(chance.uniform(0, 2))
            worker.kill()
            in_transaction += bool(await stage.open_transactions())
            if n % 5:  # a person takes it out of the group; else its session runs out
                await stage.evict(worker)
            worker = successor
        rest = await drained(stage, worker)
        verdict = await verify(stage.settings)
    trial.faults |= {"SIGKILL": kills}
    trial.notes += [f"{in_transaction} inside a transaction", rest]
    trial.judge(verdict, stage.events_put)


async def test_two_workers_change_places_under_rebalances_stops_and_kills(
    settings: Settings, tmp_path: Path, trial: Trial
) -> None:
    chance = random.Random(SEED + 1)
    zombies: list[str] = []
    replaced_s: list[float] = []
    async with Stage.open(settings, tmp_path) as stage:
        await filled(stage, SHARED)
        workers = [stage.worker("a")]
        for n in rounds(3 * asked(10)):  # whose transaction ends at that very moment is not fenced, and joins again
            if zombies.count(FENCED) >= asked(10) and (not MINUTES or await stage.lag() <= SHARED // 4):
                break
            workers.append(stage.worker(f"b{n}"))
            await both_at_work(stage, workers)
            zombie, other = chance.sample(workers, 2)
            replaced_s.append(await taken_over(stage, zombie, chance))
            await asyncio.sleep(max(0.0, 2 * SESSION_S - replaced_s[-1]))
            code = await woken(stage, zombie)
            assert code in (None, EXIT_FAILED), zombie.told()
            zombies.append("rejoined" if code is None else FENCED if zombie.says(FENCED) else "worker.failed")
            workers = [other, zombie if zombie.code is None else stage.worker(zombie.instance_id)]
            await both_at_work(stage, workers)
            killed, other = chance.sample(workers, 2)
            replaced_s.append(await taken_over(stage, killed, chance))
            killed.kill()
            workers = [other, stage.worker(killed.instance_id)]
            await both_at_work(stage, workers)
            await stopped(other)
            del workers[0]
        await stopped(workers[0])
        rest = await drained(stage, stage.worker("last", **QUICK))
        verdict = await verify(stage.settings)
    times = len(zombies)
    fenced = zombies.count(FENCED)
    trial.faults |= {"SIGSTOP for two sessions": times, "zombie fenced": fenced, "SIGSTOP until replaced": times}
    trial.faults |= {"SIGKILL": times, "SIGTERM": times + 1}
    trial.figures["replaced_s"] = [round(seconds, 1) for seconds in replaced_s]
    trial.notes += [f"zombies: {dict(Counter(zombies))}", rest]
    trial.judge(verdict, stage.events_put)
    assert fenced >= asked(10), "what a zombie had open was not refused"
    assert max(replaced_s) < SESSION_S + 3 * patience()


async def both_at_work(stage: Stage, workers: list[Worker]) -> None:
    """Wait until each has partitions of its own, and all partitions move."""

    async def shared() -> bool:
        given = [(await stage.partitions_of(worker))[1] for worker in workers]
        return all(given) and set().union(*given) == set(range(stage.settings.partitions))

    await stage.until("both workers have partitions", shared, START_S)
    await stage.until_moved(set(range(stage.settings.partitions)), START_S)


async def taken_over(stage: Stage, worker: Worker, chance: random.Random) -> float:
    """Hold a worker still inside a transaction until another commits on its partitions; gives how long that took."""
    _, partitions = await stage.partitions_of(worker)
    assert partitions
    assert await stage.stop_in_transaction(worker, chance), "no transaction was open at any time"
    return await stage.until_moved(partitions, START_S, ends_ok=True)


async def woken(stage: Stage, zombie: Worker) -> int | None:
    """Let a worker go on that has lost its partitions meanwhile; gives its exit code, None where it joined again."""
    zombie.signal(signal.SIGCONT)

    async def settled() -> bool:
        return zombie.code is not None or bool((await stage.partitions_of(zombie))[1])

    await stage.until("the zombie has ended or joined again", settled, START_S, ends_ok=True)
    await asyncio.sleep(1)  # where it has rejoined, it might still fall over what it had decided
    return zombie.code
