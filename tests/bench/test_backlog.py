"""How fast one worker goes through a backlog, exactly once, and what CPU an event costs it.

BENCH_YARDSTICK may name a command to compare with, which is run on the same inputs (`tests.bench.yardstick`).
"""

import asyncio
import os
import time
from pathlib import Path

import pytest

from processor.settings import Settings
from tests.bench import yardstick
from tests.bench.report import Figures, load, tell
from tests.bench.scene import Bench, opened, progress, size
from tests.bench.traffic import Backlog, backlog
from tests.kafka import Kafka

pytestmark = [pytest.mark.bench, pytest.mark.timeout(0)]

EVENTS = size("EVENTS", 1_000_000)
CONTACTS = max(EVENTS // 10, 1)
PARTITIONS = size("PARTITIONS", 4)
YARDSTICK = os.environ.get("BENCH_YARDSTICK")


async def test_a_backlog_is_consumed_exactly_once_with_and_without_accepted_sends(
    kafka: Kafka, topic_prefix: str, tmp_path: Path
) -> None:
    async with progress("made", EVENTS):
        made = await asyncio.to_thread(backlog, 7, EVENTS, CONTACTS, PARTITIONS, time.time_ns() // 1_000_000)
    cases: list[Figures] = []
    compared: list[Figures] = []
    outputs: list[int] = []
    for emit_accepted in (False, True):
        prefix = f"{topic_prefix}{'on' if emit_accepted else 'off'}."
        async with opened(
            kafka, prefix, tmp_path, partitions=PARTITIONS, clock="event", emit_accepted=emit_accepted
        ) as bench:
            await bench.put(made.records, EVENTS)
            figures, said = await _consumed(bench, made)
            outputs.append(said)
            cases.append({"send-accepted": "on" if emit_accepted else "off", **figures})
            if YARDSTICK and not emit_accepted:
                compared.append(await _yardstick(bench.settings, YARDSTICK))
    tell(f"Backlog of {EVENTS:,} events, {CONTACTS:,} contacts, {PARTITIONS} partitions, one worker", *cases, *compared)
    assert outputs[1] - outputs[0] == made.accepted


async def _consumed(bench: Bench, made: Backlog) -> tuple[Figures, int]:
    """Let a worker consume what was put; give the figures, and how many outputs there were."""
    load_before = load()
    worker = bench.worker("w1")
    await bench.at_work(worker, "stream.assigned")
    cpu_before_s = worker.cpu_s()
    await bench.consumed()
    took_s, cpu_s = time.time() - worker.logged_at_s("stream.assigned"), worker.cpu_s()
    memory_mb = worker.memory_mb()
    counts = await worker.stopped()
    assert counts["records"] == len(made.records), worker.told()
    assert await bench.dead_letters() == 0
    used_s = cpu_s - cpu_before_s
    return {
        "events/s": round(EVENTS / took_s),
        "events per CPU-second": round(EVENTS / used_s),
        "CPU, µs an event": round(used_s / EVENTS * 1e6, 2),
        "the same with the start": round(cpu_s / EVENTS * 1e6, 2),
        "seconds": round(took_s, 2),
        "transactions": counts["transactions"],
        "outputs": counts["outputs"],
        "memory, MB": memory_mb,
        "load average": f"{load_before} to {load()}",
    }, counts["outputs"]


async def _yardstick(settings: Settings, command: str) -> Figures:
    load_before, taken = load(), await yardstick.run(command, settings, EVENTS)
    return {
        "send-accepted": "yardstick",
        "the same with the start": round(taken.cpu_s / EVENTS * 1e6, 2),
        "seconds": round(taken.seconds, 2),
        "load average": f"{load_before} to {load()}",
    }
