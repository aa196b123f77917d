"""One run: an engine takes a backlog that lies on the inputs, and what it said is compared before its figures count."""

import asyncio
import json
import sys
from collections import Counter
from typing import Any, NamedTuple

from processor.settings import Settings
from tests.bench.peers import meter
from tests.bench.peers.engines import Engine, running
from tests.bench.peers.ground import Ground
from tests.bench.peers.meter import Figures
from tests.bench.peers.outcome import OUTPUTS, Outcome, Said, digest, said
from tests.bench.scene import WITHIN_S, Bench
from tests.chaos.harness import INPUTS, ROOT

FLOOR = "aiokafka getmany"
HAVE_STOPPED_S = 1.0
SETTLED_WITHIN_S = 60


class Case(NamedTuple):
    """What came of one run. No figures where there were too few events for any."""

    engine: str
    guarantee: str
    events: int
    figures: Figures | None
    is_right: bool
    outcome: str


async def run(engine: Engine, ground: Ground, events: int, due: Counter[Said]) -> Case:
    """Let an engine consume what lies on the inputs."""
    await ground.clear()
    settings, folder = ground.next_run(engine.name.lower().replace(" ", "-").replace(",", ""))
    async with Bench.open(settings, folder, apply=False) as bench:
        async with running(engine, settings, folder) as process:
            samples = await meter.watch(process.pid, bench.progress, events, process.is_alive, WITHIN_S)
            await _settled(bench, engine.settles_s)
        found = await bench.records(*OUTPUTS)
    outcome = Outcome.of(due, await asyncio.to_thread(said, bench.names, found))
    try:
        figures = meter.figures(samples)
    except ValueError:
        figures = None
    return Case(engine.name, engine.guarantee, events, figures, outcome.is_right, str(outcome))


def failed(engine: Engine, events: int, words: str) -> Case:
    """Give the case of an engine that did not come to an end."""
    return Case(engine.name, engine.guarantee, events, None, is_right=False, outcome=f"failed: {words}")


async def _settled(bench: Bench, settles_s: float) -> None:
    """Wait until nothing more is said."""
    await asyncio.sleep(settles_s)
    before, now = -1, sum((await bench.ends(*OUTPUTS)).values())
    async with asyncio.timeout(SETTLED_WITHIN_S):
        while now != before:
            await asyncio.sleep(HAVE_STOPPED_S)
            before, now = now, sum((await bench.ends(*OUTPUTS)).values())


async def floor(settings: Settings) -> Case:
    """Measure the floor on the same inputs."""
    names = [settings.topic_prefix + topic for topic in INPUTS.values()]
    told = await _told("floor", settings.bootstrap_servers, str(settings.partitions), *names)
    return _case(FLOOR, "none: reads only", told, is_right=True, outcome="says nothing")


async def in_process(settings: Settings, due: Counter[Said]) -> Case:
    """Measure our core and codec without Kafka, on the same inputs."""
    told = await _told("in_process", settings.bootstrap_servers, str(settings.partitions), settings.topic_prefix)
    is_right = told["digest"] == digest(due)
    outcome = f"all {due.total():,}" if is_right else "not what is due"
    return _case("janela's core and codec, in process", "none: no Kafka", told, is_right=is_right, outcome=outcome)


async def _told(module: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", f"tests.bench.peers.{module}", *arguments]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    written, _ = await process.communicate()
    assert process.returncode == 0, f"{module}: exit code {process.returncode}"
    told: dict[str, Any] = json.loads(written)
    return told


def _case(name: str, guarantee: str, told: dict[str, Any], *, is_right: bool, outcome: str) -> Case:
    events, seconds = told["events"], told["seconds"]
    rate, rate_by_cpu = events / seconds, events / told["cpu_s"]
    figures = Figures(rate, rate_by_cpu, rate, rate_by_cpu, start_s=0, whole_s=round(seconds, 2))
    return Case(name, guarantee, events, figures, is_right, outcome)
