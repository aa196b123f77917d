"""`janela verify` on a real broker: what a worker left is clean, and what a hand adds is named."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete

from processor.embedded import EmbeddedKafka
from processor.settings import Settings
from tests.chaos.backlog import HOUR_MS, backlog
from tests.chaos.harness import ROOT, Stage, environment, patience

pytestmark = pytest.mark.timeout(300)

PARTITIONS = 2
READY_S = 90


@pytest.fixture
def settings(kafka: EmbeddedKafka, topic_prefix: str) -> Settings:
    return Settings(
        bootstrap_servers=kafka.bootstrap_servers,
        app_id=f"{topic_prefix}janela",
        topic_prefix=topic_prefix,
        partitions=PARTITIONS,
        clock="event",
    )


async def verify(settings: Settings, *arguments: str, **changed: str) -> tuple[int | None, str, str]:
    """Run the verb to its end; give exit code, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "processor", "verify", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(settings, "v", **changed) | {"PYTHONPATH": str(ROOT)},
    )
    out, err = await asyncio.wait_for(process.communicate(), 60 * patience())
    return process.returncode, out.decode(), err.decode()


async def verified(settings: Settings, *arguments: str) -> tuple[int | None, dict[str, Any]]:
    """Run the verb for machines; give exit code and answer."""
    code, out, err = await verify(settings, "--json", *arguments)
    assert out, err
    answer: dict[str, Any] = json.loads(out)
    return code, answer


async def copied(settings: Settings, tp: TopicPartition, record: Any) -> int:
    """Put a record on its topic once more; gives its offset."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers)
    await producer.start()
    try:
        written = await producer.send_and_wait(
            tp.topic, record.value, key=record.key, partition=tp.partition, headers=list(record.headers)
        )
        offset: int = written.offset
        return offset
    finally:
        await producer.stop()


async def test_what_a_worker_left_is_clean_and_an_event_that_a_hand_adds_is_named(
    settings: Settings, tmp_path: Path
) -> None:
    end_ms = time.time_ns() // 1_000_000 - 3 * HOUR_MS
    async with Stage.open(settings, tmp_path) as stage:
        code, nothing = await verified(settings)
        assert (code, nothing["consumed"]["records"]) == (0, 0)  # no group, no records, no fault

        records = backlog(7, 1000, 80, PARTITIONS, end_ms)
        await stage.preload(records)
        worker = stage.worker("w")
        await stage.until_consumed(READY_S)
        code, answer = await verified(settings)
        assert (code, answer["faults"]) == (0, {})
        consumed = answer["consumed"]
        assert consumed["records"] == len(records) == consumed["applied"] + consumed["dead_letters"]
        assert consumed["dead_letters"] > 0

        worker.kill()
        await stage.preload(backlog(8, 20, 80, PARTITIONS, end_ms + HOUR_MS, days=0.01))
        code, out, _ = await verify(settings, "--sample", "1/2")
        assert code == 0
        assert "positions of the inputs are not consumed yet" in out
        assert "nothing is wrong" in out

        tp = stage.tps("window-closed")[1]
        closed = (await stage.records("window-closed"))[tp][0]
        id_, offset = json.loads(closed.value)["id"], await copied(settings, tp, closed)
        code, out, _ = await verify(settings)
        assert code == 1
        assert f"doubled window-closed[1]@{offset}: {id_}" in out
        code, answer = await verified(settings, "--partition", "1")
        assert (code, answer["partitions"], answer["faults"]["doubled"]) == (1, 1, 1)
        code, answer = await verified(settings, "--partition", "0")
        assert (code, answer["faults"]) == (0, {})

        await lost_beginning(settings, tp)
        code, out, err = await verify(settings)
        assert (code, out) == (2, "")
        assert f"{tp.topic}[1]: begins at offset 1, expected 0" in err


async def lost_beginning(settings: Settings, tp: TopicPartition) -> None:
    """Delete a partition's first record, as retention does."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_records({tp: RecordsToDelete(before_offset=1)})
    finally:
        await admin.close()


async def test_a_live_clock_missing_topics_and_wrong_options_are_refused_in_a_line(settings: Settings) -> None:
    code, out, err = await verify(settings)
    assert (code, out) == (2, "")
    assert "topics: found none, expected 10; create them with `janela topics apply`" in err
    code, out, err = await verify(settings, clock="live")
    assert (code, out) == (2, "")
    assert 'JANELA_CLOCK (clock): found "live", expected "event"' in err
    assert len(err.splitlines()) == 1
    for wrong in (("--sample", "2/1"), ("--sample", "half"), ("--partition", "2")):
        code, out, err = await verify(settings, *wrong)
        assert (code, out) == (2, "")
        assert wrong[0] in err
