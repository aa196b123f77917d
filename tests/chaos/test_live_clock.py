"""Exactly once where the wall clock moves time on: windows that warn and end while workers are killed.

Windows last for seconds. Traffic comes at some hundred events a second and pauses again and again, so that timers fire
by events, by idle time, and after a death by whoever finds what came meanwhile. A lone worker dies at each step of a
timer, and three are treated as a business's may be.
"""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from processor.audit.reading import verify
from processor.audit.rounds import Round
from processor.settings import Settings
from tests.chaos.backlog import AHEAD, DAY_MS, backlog
from tests.chaos.harness import Stage, Worker, patience
from tests.chaos.reader import Reader
from tests.chaos.test_exactly_once import START_S, stopped
from tests.chaos.test_fleet import SIZE, Fleet
from tests.chaos.trial import MINUTES, SEED, Trial, asked, rounds

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(0)]

POLICY = """
name = "seconds"
window = { default = "4s" }
closed_retention = "6s"
safety_margin = "1s"
expiring_before = ["2s", "1s"]
"""
EVENTS_A_SECOND = 300
CONTACTS = 150
TRAFFIC_S, PAUSE_S = 1.5, 2.5
IDLE = ("idle-timers-due", "idle-timers-fired")
DEATHS = asked(10) + int(5 * MINUTES)
"""How often each of these places, and SIGKILL."""


@pytest.fixture
def live(settings: Settings, tmp_path: Path) -> Settings:
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY, "utf-8")
    changes: dict[str, Any] = {"clock": "live", "timer_grace_ms": 500, "policy_file": policy}
    return settings.model_copy(update=changes | {"batch_records_max": 20, "buffer_records_max": 400})


async def test_timers_of_idle_time_are_fired_once_whenever_their_worker_dies(
    live: Settings, tmp_path: Path, trial: Trial
) -> None:
    chance = trial.chance
    deaths = [*IDLE, "SIGKILL"] * DEATHS
    chance.shuffle(deaths)
    async with Stage.open(live, tmp_path) as stage, _traffic(stage) as stop_traffic:
        reader = await Reader.along(stage)
        for n, death in enumerate(deaths):
            is_place = death in IDLE
            failpoint = f"{death}:{chance.randint(1, 4)}" if is_place else ""
            worker = stage.worker(f"w{n % 3}", failpoint=failpoint)
            await _died(stage, worker, is_place, chance)
            trial.faults[f"death at {death}" if is_place else death] += 1
        last = stage.worker("last")
        await stage.until_moved(within_s=START_S)
        meanwhile = await verify(stage.settings)  # with a worker at work, and traffic
        await stop_traffic()
        await stage.until_consumed(START_S)
        ended_s = await stage.until("all windows have ended", lambda: _all_ended(stage), START_S)
        last.signal(signal.SIGTERM)
        assert await last.ended(10 * patience()) == 0
        outputs = await reader.agrees(START_S * patience())
        verdict = await verify(stage.settings)
        by_idle_time = await _ends_of_idle_time(stage)
    trial.notes.append(f"{meanwhile.counts.records} records were judged meanwhile, {outputs} outputs read live")
    trial.notes.append(f"the last window ended in {ended_s:.1f} s, {by_idle_time} windows ended by idle time")
    trial.judge(verdict, stage.events_put)
    assert meanwhile.is_clean, meanwhile
    assert by_idle_time


async def test_three_workers_at_live_traffic_are_killed_held_still_and_restarted_and_lose_nothing(
    live: Settings, tmp_path: Path, trial: Trial
) -> None:
    """As in production: three workers, a live clock, and inputs that come while anything befalls them."""
    async with Stage.open(live, tmp_path) as stage, _traffic(stage) as stop_traffic:
        reader = await Reader.along(stage)
        fleet = Fleet(stage, trial, random.Random(SEED + 10))
        await fleet.settled()
        for _ in rounds(asked(6)):
            for befall in (fleet.kill, fleet.hold_still, fleet.restart):
                await stage.until_moved(within_s=START_S)
                await befall(fleet.chance.randrange(SIZE))
                await fleet.settled()
        await stop_traffic()
        await stage.until_consumed(START_S)
        await stage.until("all windows have ended", lambda: _all_ended(stage), START_S)
        for worker in fleet.workers:
            await stopped(worker)
        outputs = await reader.agrees(START_S * patience())
        verdict = await verify(stage.settings)
        by_idle_time = await _ends_of_idle_time(stage)
    trial.notes.append(f"{outputs} outputs read live, {by_idle_time} windows ended by idle time")
    trial.judge(verdict, stage.events_put)


async def _died(stage: Stage, worker: Worker, is_place: bool, chance: random.Random) -> None:
    """Bring a worker to its end, and take it out of the group."""
    if is_place:
        assert await worker.ended(START_S) == -signal.SIGKILL, worker.told()
    else:
        await stage.until_moved(within_s=START_S)
        await asyncio.sleep(chance.uniform(0, 3))
        worker.kill()
    await stage.evict(worker)


@asynccontextmanager
async def _traffic(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Put events on the inputs about when they happen, with pauses, until it is stopped."""
    enough = asyncio.Event()
    flowing = asyncio.create_task(_flow(stage, enough))

    async def stop() -> None:
        enough.set()
        await flowing

    try:
        yield stop
    finally:
        flowing.cancel()
        with suppress(asyncio.CancelledError):
            await flowing


async def _flow(stage: Stage, enough: asyncio.Event) -> None:
    count, phase = int(EVENTS_A_SECOND * TRAFFIC_S), 0
    while not enough.is_set():
        phase += 1
        begin_s, end_ms = time.monotonic(), time.time_ns() // 1_000_000 + int(TRAFFIC_S * 1000)
        days = TRAFFIC_S * 1000 / DAY_MS
        # without those that are ahead: where they move a clock, no idle time has anything left to end for minutes
        records = backlog(SEED + phase, count, CONTACTS, stage.settings.partitions, end_ms, days)[:-AHEAD]
        for at in range(0, len(records), step := EVENTS_A_SECOND // 10):
            await asyncio.sleep(begin_s + at / EVENTS_A_SECOND - time.monotonic())
            some = [
                each._replace(value=each.value and each.value.replace(b"bound.", f"bound.{phase}.".encode()))
                for each in records[at : at + step]
            ]
            await stage.preload(some)
        await asyncio.sleep(PAUSE_S)


async def _all_ended(stage: Stage) -> bool:
    found = await stage.records("window-opened", "window-closed")
    counts = [sum(len(found[tp]) for tp in stage.tps(name)) for name in ("window-opened", "window-closed")]
    return counts[0] == counts[1] > 0


async def _ends_of_idle_time(stage: Stage) -> int:
    """Count the windows whose end no event has brought about: their round took none."""
    found = await stage.records("window-closed")
    rounds = [Round.read(each.headers) for records in found.values() for each in records]
    return sum(
        each is not None and (each.inbound_from, each.outbound_from) == (each.inbound_to, each.outbound_to)
        for each in rounds
    )
