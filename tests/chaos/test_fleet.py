"""Three workers, as a business has them: killed one by one and in bursts, restarted in turn, and coming and going.

Who dies is replaced at once, under its name, as whatever runs the fleet would do.
"""

import asyncio
import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import pytest

from processor.audit.reading import verify
from processor.settings import Settings
from processor.stream.engine import EXIT_FAILED
from tests.chaos.backlog import HOUR_MS, backlog
from tests.chaos.harness import SESSION_S, Stage, Worker, patience
from tests.chaos.reader import Reader
from tests.chaos.test_exactly_once import QUICK, START_S, TERM_S, drained, filled, stopped, woken
from tests.chaos.trial import MINUTES, SEED, Trial, asked, rounds, size

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(0)]

SIZE: Final = 3
SHORT_STORM: Final = 10
"""How many workers come at least."""
STORM_S: Final = 600
"""By then enough of them must have joined."""
JOINED: Final = "stream.assigned"
USUAL: Final[dict[str, Any]] = {"batch_records_max": 4_000, "buffer_records_max": 32_000}
"""The limits that a worker has where nothing is set."""
LARGE: Final = size(10_000, a_minute=150_000, proof=1_600_000)
PART: Final = 50_000
"""Events that are generated at once."""


class Fleet:
    """Three workers of one group under three names."""

    def __init__(self, stage: Stage, trial: Trial, chance: random.Random, **more: Any) -> None:
        """Start them; `more` are settings that they share."""
        self.stage, self.trial, self.chance, self._more = stage, trial, chance, more
        self.workers = [stage.worker(f"w{n}", **more) for n in range(SIZE)]
        self.ended_s: list[float] = []
        """How long each took that was asked to end."""

    async def kill(self, place: int | None = None) -> None:
        """Kill one, a random one by itself; its successor is there at once, and finds the dead one a member still."""
        place = self.chance.randrange(SIZE) if place is None else place
        self.workers[place].kill()
        self.trial.faults["SIGKILL"] += 1
        self.workers[place] = self._successor(place)

    async def burst(self, kills: int) -> None:
        """Kill one each 0.1 to 1 s: many die before they are ready, some while they take over."""
        for _ in range(kills):
            await self.kill()
            await asyncio.sleep(self.chance.uniform(0.1, 1))
        self.trial.faults["burst"] += 1

    async def restart(self, place: int) -> None:
        """End one as an operator does, and wait until its successor has partitions."""
        self.ended_s.append(await stopped(self.workers[place]))
        self.trial.faults["SIGTERM"] += 1
        self.workers[place] = self._successor(place)
        await self.settled()

    async def hold_still(self, place: int) -> None:
        """Hold one still for two sessions; it ends when it goes on, or joins again."""
        zombie = self.workers[place]
        zombie.signal(signal.SIGSTOP)
        await asyncio.sleep(2 * SESSION_S)
        if await woken(self.stage, zombie) is not None:
            assert zombie.code == EXIT_FAILED, zombie.told()
            self.workers[place] = self._successor(place)
        self.trial.faults["SIGSTOP for two sessions, two others at work"] += 1

    async def settled(self) -> None:
        """Wait until all have partitions."""

        async def shared() -> bool:
            return all([(await self.stage.partitions_of(worker))[1] for worker in self.workers])

        await self.stage.until("all workers have partitions", shared, START_S)

    async def drained(self, *, may_be_done: bool = False) -> str:
        """Replace them by a quick one that does the rest."""
        for worker in self.workers:
            worker.kill()
            await self.stage.evict(worker)
        return await drained(self.stage, self.stage.worker("last", **QUICK), may_be_done=may_be_done)

    def _successor(self, place: int) -> Worker:
        return self.stage.worker(self.workers[place].instance_id, **self._more)


async def test_kills_of_one_of_three_and_bursts_of_kills_lose_nothing_and_double_nothing(
    settings: Settings, tmp_path: Path, trial: Trial
) -> None:
    chance = random.Random(SEED + 3)
    async with Stage.open(settings, tmp_path) as stage:
        await filled(stage)
        fleet = Fleet(stage, trial, chance)
        for _ in rounds(asked(4)):
            for _ in range(2):
                await stage.until_moved(within_s=START_S)
                await asyncio.sleep(chance.uniform(0, 2))
                await fleet.kill()
            await stage.until_moved(within_s=START_S)
            await fleet.burst(chance.randint(3, 8))
        trial.notes.append(await fleet.drained())
        trial.judge(await verify(stage.settings), stage.events_put)


async def test_kills_under_a_large_backlog_and_large_batches_lose_nothing_and_double_nothing(
    settings: Settings, tmp_path: Path, trial: Trial
) -> None:
    chance = random.Random(SEED + 4)
    wide = settings.model_copy(update={"partitions": 12} | USUAL)
    async with Stage.open(wide, tmp_path) as stage:
        began_s = time.monotonic()
        await filled_by_parts(stage, LARGE)
        trial.figures["filled_s"] = round(time.monotonic() - began_s, 1)
        fleet = Fleet(stage, trial, chance)
        while not trial.faults or await stage.lag() > LARGE // 20:
            await stage.until_moved(within_s=START_S)
            await asyncio.sleep(chance.uniform(0, 0.5))
            await fleet.kill()
            await asyncio.sleep(chance.uniform(0, 2))
        trial.notes.append(await fleet.drained(may_be_done=True))  # a round is thousands: the rest may be one
        began_s = time.monotonic()
        verdict = await verify(stage.settings)
        trial.figures["verified_s"] = round(time.monotonic() - began_s, 1)
        trial.judge(verdict, stage.events_put)


async def test_rolling_restarts_of_three_workers_each_end_in_time_and_lose_nothing(
    settings: Settings, tmp_path: Path, trial: Trial
) -> None:
    async with Stage.open(settings, tmp_path) as stage:
        await filled(stage)
        fleet = Fleet(stage, trial, random.Random(SEED + 5))
        await fleet.settled()
        for _ in rounds(asked(4)):
            for place in range(SIZE):
                await fleet.restart(place)
        trial.notes.append(await fleet.drained())
        trial.figures["ended_s_max"] = round(max(fleet.ended_s), 2)
        trial.judge(await verify(stage.settings), stage.events_put)


async def test_static_members_that_are_restarted_in_turn_move_nobody_elses_partitions(
    settings: Settings, tmp_path: Path, trial: Trial
) -> None:
    static = settings.model_copy(update={"membership": "static", "session_timeout_ms": 30_000})
    async with Stage.open(static, tmp_path) as stage:
        await filled(stage)
        fleet = Fleet(stage, trial, random.Random(SEED + 7))
        await fleet.settled()
        await stage.until_moved(set(range(stage.settings.partitions)), START_S)
        for n in rounds(asked(3)):
            for place in range(SIZE):
                others = [worker for worker in fleet.workers if worker is not fleet.workers[place]]
                before = [revocations(worker) for worker in others]
                _, partitions = await stage.partitions_of(fleet.workers[place])
                if (n + place) % 2:
                    await fleet.restart(place)
                else:
                    await fleet.kill(place)
                await stage.until_moved(partitions, START_S)
                assert (await stage.partitions_of(fleet.workers[place]))[1] == partitions
                assert [revocations(worker) for worker in others] == before, fleet.workers[place].told()
        trial.notes.append(await fleet.drained())
        trial.judge(await verify(stage.settings), stage.events_put)


def revocations(worker: Worker) -> int:
    """Count how often the group has taken its partitions from a worker."""
    return sum("stream.revoked" in line for line in worker.lines())


async def test_a_storm_of_workers_that_come_and_go_loses_nothing_and_doubles_nothing(
    settings: Settings, tmp_path: Path, trial: Trial
) -> None:
    """A new worker each second and three alive, so that most go again while they take over."""
    chance = random.Random(SEED + 6)
    async with Stage.open(settings, tmp_path) as stage:
        await filled(stage)
        oldest = stage.worker("first")
        await stage.until_moved(within_s=START_S)
        alive, stopping = [oldest], list[Worker]()
        began_s = time.monotonic()
        while (
            len(stage.workers) <= asked(60, short=SHORT_STORM)
            or joined(stage) < asked(20, short=2)
            or (time.monotonic() < began_s + 60 * MINUTES)
        ):
            assert time.monotonic() < began_s + STORM_S + 60 * MINUTES, f"{joined(stage)} workers have joined"
            alive.append(stage.worker(f"w{len(stage.workers)}"))
            while len(alive) > SIZE:
                oldest = alive.pop(0)
                if oldest.code is not None:
                    continue
                if chance.random() < 0.5:
                    oldest.kill()
                    trial.faults["SIGKILL"] += 1
                else:
                    oldest.signal(signal.SIGTERM)
                    stopping.append(oldest)
                    trial.faults["SIGTERM"] += 1
            await asyncio.sleep(patience())
        for worker in stopping:  # one that had not come to its handlers yet ends by the signal itself
            is_early = not worker.says(JOINED)
            assert await worker.ended(TERM_S) in ({0, -signal.SIGTERM} if is_early else {0}), worker.told()
        for worker in alive:
            worker.kill()
            await stage.evict(worker)
        trial.faults |= {"worker started": len(stage.workers), "worker joined": joined(stage)}
        trial.notes.append(await drained(stage, stage.worker("last", **QUICK)))
        trial.judge(await verify(stage.settings), stage.events_put)


def joined(stage: Stage) -> int:
    """Count the workers that the group has given partitions."""
    return sum(worker.says(JOINED) for worker in stage.workers)


async def filled_by_parts(stage: Stage, events: int) -> None:
    """Put a large backlog on the inputs, part by part in the order of time: another process generates the next one.

    A reader takes in what comes of it.
    """
    await Reader.along(stage)
    partitions, loop = stage.settings.partitions, asyncio.get_running_loop()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        waiting = [loop.run_in_executor(pool, backlog, *part) for part in parts(events, partitions)]
        while waiting:
            await stage.preload(await waiting.pop(0))


def parts(events: int, partitions: int) -> Iterator[tuple[int, int, int, int, int, float, int]]:
    """Cut a backlog of five days into arguments for `backlog`."""
    count = -(-events // PART)
    end_ms, days = time.time_ns() // 1_000_000 - HOUR_MS, 5 / count
    for n in range(count):
        part_end_ms = end_ms - int((count - 1 - n) * days * 24 * HOUR_MS)
        size = min(PART, events - n * PART)
        yield SEED + 100 * n, size, 10_000 + events // 15, partitions, part_end_ms, days, n * PART * 2
