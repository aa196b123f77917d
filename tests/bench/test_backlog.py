"""How fast one worker goes through a backlog, exactly once, and what CPU an event costs it.

BENCH_YARDSTICK may name a command to compare with. It is run on the same inputs, which BENCH_BOOTSTRAP_SERVERS,
BENCH_INBOUND, BENCH_OUTBOUND, BENCH_PARTITIONS and BENCH_BACKLOG (how many events) tell it, and is to end by itself
when it has committed them all.
"""

import asyncio
import os
import shlex
import time
from pathlib import Path

import pytest

from tests.bench.report import Figures, load, tell
from tests.bench.scene import WITHIN_S, Bench, opened, progress, size
from tests.bench.traffic import Backlog, backlog
from tests.chaos.harness import INPUTS
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
                compared.append(await _yardstick(bench, YARDSTICK))
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


async def _yardstick(bench: Bench, command: str) -> Figures:
    """Run another worker on the same inputs, from its start to its end."""
    inbound, outbound = (bench.names[topic] for topic in INPUTS.values())
    told = {
        "BENCH_BOOTSTRAP_SERVERS": bench.settings.bootstrap_servers,
        "BENCH_INBOUND": inbound,
        "BENCH_OUTBOUND": outbound,
        "BENCH_PARTITIONS": str(PARTITIONS),
        "BENCH_BACKLOG": str(EVENTS),
    }
    load_before, began_s, used_before = load(), time.monotonic(), os.times()
    async with progress("yardstick", EVENTS):
        process = await asyncio.create_subprocess_exec(*shlex.split(command), env={**os.environ, **told})
        assert await asyncio.wait_for(process.wait(), WITHIN_S) == 0
    took_s, used = time.monotonic() - began_s, os.times()
    used_s = used.children_user + used.children_system - used_before.children_user - used_before.children_system
    return {
        "send-accepted": "yardstick",
        "the same with the start": round(used_s / EVENTS * 1e6, 2),
        "seconds": round(took_s, 2),
        "load average": f"{load_before} to {load()}",
    }
