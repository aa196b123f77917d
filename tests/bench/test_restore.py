"""How long a worker with very many open windows needs from its start to its first commit."""

import asyncio
import time
from pathlib import Path

import pytest

from processor.core.policy import HOUR_MS
from tests.bench.report import load, tell
from tests.bench.scene import WITHIN_S, opened, progress, size
from tests.bench.traffic import Contact
from tests.chaos.backlog import Wanted
from tests.kafka import Kafka

pytestmark = [pytest.mark.bench, pytest.mark.timeout(0)]

WINDOWS = size("WINDOWS", 1_000_000)
PARTITIONS = 4
SPAN_MS = 20 * HOUR_MS
"""All windows begin within this, and so all of them are open at its end, and none has to be warned of."""


async def test_a_restart_knows_every_open_window_at_its_first_commit(
    kafka: Kafka, topic_prefix: str, tmp_path: Path
) -> None:
    now_ms = time.time_ns() // 1_000_000
    async with progress("made", WINDOWS):
        first, again = await asyncio.to_thread(_messages, now_ms)
    async with opened(kafka, topic_prefix, tmp_path, partitions=PARTITIONS, clock="event") as bench:
        await bench.put(first, WINDOWS)
        before = bench.worker("before")
        await bench.at_work(before, "stream.assigned")
        await bench.consumed()
        stopped = await before.stopped()
        assert stopped["outputs"] == stopped["records"] == WINDOWS
        await bench.put(again, len(again))
        committed = await bench.committed()
        load_before, began_s = load(), time.time()
        worker = bench.worker("after")

        async def committed_on() -> int:
            after = await bench.committed()
            return len({tp.partition for tp in after if after[tp] > committed[tp]})

        first_s = await bench.until("a first commit", committed_on, WITHIN_S)

        async def is_everywhere() -> bool:
            return await committed_on() == PARTITIONS

        await bench.until("a commit on every partition", is_everywhere, WITHIN_S)
        all_s, cpu_s, memory_mb = time.time() - began_s, worker.cpu_s(), worker.memory_mb()
        assigned_s, restored_s = (worker.logged_at_s(event) for event in ("stream.assigned", "stream.restored"))
        counts = await worker.stopped()
        assert counts["records"] == len(again)
        assert counts.get("outputs", 0) == 0  # where a window was forgotten, its customer's message would open one
        state = sum((await bench.ends("window-state")).values())
    tell(
        f"Restart with {WINDOWS:,} open windows, {PARTITIONS} partitions, one worker",
        {
            "start to the first commit, s": round(first_s, 2),
            "start to a commit on every partition, s": round(all_s, 2),
            "start to the assignment, s": round(assigned_s - began_s, 2),
            "restoring, s": round(restored_s - assigned_s, 2),
            "CPU, s": round(cpu_s, 2),
            "positions in window-state": state,
            "memory, MB": memory_mb,
            "load average": f"{load_before} to {load()}",
        },
    )


def _messages(now_ms: int) -> tuple[list[Wanted], list[Wanted]]:
    """Give a first message of each customer, and then one of one customer of each partition."""
    begin_ms = now_ms - SPAN_MS
    first: list[Wanted] = []
    again: dict[int, Wanted] = {}
    for number in range(WINDOWS):
        contact = Contact(number, PARTITIONS)
        first.append(contact.says("inbound", begin_ms + SPAN_MS * number // WINDOWS, number))
        if contact.partition not in again:
            again[contact.partition] = contact.says("inbound", now_ms, WINDOWS + number)
    assert len(again) == PARTITIONS
    return first, list(again.values())
