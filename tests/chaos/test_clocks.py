"""Workers whose wall clock is wrong: an hour ahead, an hour behind, and stepping while they run.

The clock of a worker is what `time.time` and `time.time_ns` say in its process. Here they are off by as much as a file
says, so that a test can set it like an operator with a hand on the machine's clock.
"""

import asyncio
import json
import random
import time
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from processor.audit.findings import OUTPUTS
from processor.audit.partitioner import partition_of
from processor.audit.reading import verify
from processor.audit.records import TopicKind, rfc3339
from processor.settings import Settings
from tests.chaos.backlog import HOUR_MS, Wanted
from tests.chaos.harness import Stage, Worker
from tests.chaos.reader import Reader
from tests.chaos.test_exactly_once import QUICK, START_S, drained, filled, stopped
from tests.chaos.trial import SEED, Trial, asked, rounds

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(0)]

DAY_MS: Final = 24 * HOUR_MS
PARTITIONS: Final = 4
HOUR_S: Final = 3600
OFFSETS_S: Final = (HOUR_S, -HOUR_S, 0, HOUR_S - 1, -10 * HOUR_S)
WORKER: Final = """
import runpy, time

right, right_ns = time.time, time.time_ns

def off_s():
    with open({path!r}) as file:
        return int(file.read())

time.time = lambda: right() + off_s()
time.time_ns = lambda: right_ns() + off_s() * 10**9
runpy.run_module("processor", run_name="__main__", alter_sys=True)
"""


class Clock:
    """A wall clock of one or more workers, which a test may set while they run."""

    def __init__(self, path: Path, off_s: int = 0) -> None:
        """Begin so many seconds ahead of this machine's clock (negative: behind)."""
        self._path = path
        self.set(off_s)

    def set(self, off_s: int) -> None:
        """Step to so many seconds ahead; a worker sees the old or the new, nothing between."""
        new = self._path.with_suffix(".new")
        new.write_text(str(off_s))
        new.replace(self._path)

    @property
    def command(self) -> tuple[str, str, str]:
        """How a worker is started that has this clock."""
        return "-c", WORKER.format(path=str(self._path)), "worker"


async def test_by_the_time_of_events_no_wall_clock_changes_what_comes_out(
    settings: Settings, tmp_path: Path, trial: Trial
) -> None:
    chance = random.Random(SEED + 9)
    clock = Clock(tmp_path / "clock")
    async with Stage.open(settings, tmp_path) as stage:
        await filled(stage)
        worker = stage.worker("first", command=clock.command)
        for n in rounds(asked(50, short=len(OFFSETS_S))):
            clock.set(OFFSETS_S[n % len(OFFSETS_S)])
            trial.faults["wall clock stepped"] += 1
            await stage.until_moved(within_s=START_S)
            await asyncio.sleep(chance.uniform(0, 0.5))
            if (n + 1) % len(OFFSETS_S) == 0:
                worker.kill()
                await stage.evict(worker)
                trial.faults["SIGKILL"] += 1
                worker = stage.worker(f"w{n}", command=clock.command)
        worker.kill()
        await stage.evict(worker)
        trial.notes.append(await drained(stage, stage.worker("last", **QUICK, command=clock.command)))
        trial.judge(await verify(stage.settings), stage.events_put)


async def test_timers_go_by_the_brokers_time_whatever_the_clock_of_the_workers_machine_says(
    settings: Settings, tmp_path: Path, trial: Trial
) -> None:
    """Off from the start, with nothing to read; and stepping while a timer runs."""
    live = settings.model_copy(update={"clock": "live", "expiring_before": "2s"})
    async with Stage.open(Settings(**live.model_dump(exclude_unset=True)), tmp_path) as stage:
        reader = await Reader.along(stage)
        right = stage.worker("right")
        patient = "5511922000000"  # whose window ends in 40 minutes: an hour ahead it would be over
        await stage.preload([said("inbound", patient, now_ms() - DAY_MS + 40 * 60_000, "patient")])
        await stage.until("it is opened", partial(has, stage, patient, 1), START_S)
        await stopped(right)
        for n, off_s in enumerate((HOUR_S, -HOUR_S) * asked(2)):
            clock = Clock(tmp_path / f"clock{n}", off_s)
            worker = stage.worker(f"w{n}", command=clock.command)
            await stage.until("it is at work", partial(at_work, worker), START_S)
            await asyncio.sleep(1)  # it looks for the ends of its inputs five times a second
            contact, due_ms = f"5511911{n:06}", now_ms() + 5_000
            await stage.preload([said("inbound", contact, due_ms - DAY_MS, f"first.{n}")])
            await stage.until("it is opened", partial(has, stage, contact, 1), START_S)
            for step_s in (-off_s, 0, 2 * off_s):
                clock.set(step_s)
                await asyncio.sleep(0.3)
            found, asked_ms = await kinds(stage, contact), now_ms()
            assert found == ["window-opened"] or asked_ms >= due_ms - 2_000, worker.told()
            await stage.until("its timers have fired", partial(has, stage, contact, 3), START_S)
            assert now_ms() >= due_ms
            clock.set(off_s)
            await asyncio.sleep(1)
            assert await kinds(stage, contact) == ["window-opened", "window-expiring", "window-closed"], worker.told()
            assert await kinds(stage, patient) == ["window-opened"], worker.told()
            assert worker.says("clock.off"), worker.told()
            await stopped(worker)
            trial.faults[f"wall clock an hour {'ahead' if off_s > 0 else 'behind'}"] += 1
            trial.faults["wall clock stepped"] += 4
        trial.notes.append(f"{await reader.agrees(START_S)} outputs read live")
        trial.judge(await verify(stage.settings), stage.events_put)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def said(kind: TopicKind, contact: str, time_ms: int, id_: str) -> Wanted:
    """Give a text of one side."""
    body = {"id": id_, "type": "text", "business_id": "15550001", "contact_id": contact, "time": rfc3339(time_ms)}
    key = f"whatsapp:15550001:{contact}".encode()
    return Wanted(kind, partition_of(key, PARTITIONS), key, json.dumps(body).encode())


def at_work(worker: Worker) -> bool:
    return worker.says("stream.restored")


async def kinds(stage: Stage, contact: str) -> list[str]:
    """Give the topics of a contact's outputs, in the order of their sequence."""
    found: list[tuple[str, str]] = []
    for tp, records in (await stage.records(*OUTPUTS)).items():
        topic = tp.topic.removeprefix(stage.settings.topic_prefix)
        found += [(json.loads(it.value)["sequence"], topic) for it in records if it.key.endswith(contact.encode())]
    return [topic for _, topic in sorted(found)]


async def has(stage: Stage, contact: str, least: int) -> bool:
    """Tell whether a contact has so many outputs."""
    return len(await kinds(stage, contact)) >= least
