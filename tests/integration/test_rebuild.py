"""A state that was lost comes back from the inputs, by the way that docs/operations.md gives."""

import asyncio
import itertools
import json
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from processor import topics
from processor.audit.findings import OUTPUTS
from processor.audit.partitioner import partition_of
from processor.audit.reading import verify
from processor.audit.records import rfc3339
from processor.settings import Settings
from tests.chaos.backlog import HOUR_MS, Wanted, backlog
from tests.chaos.harness import Stage, patience
from tests.integration.conftest import PARTITIONS
from tests.integration.test_replay import answered, elsewhere

pytestmark = pytest.mark.timeout(300)

READY_S = 90
STATES = ("window-state", "consent-state")


async def test_a_state_that_is_rebuilt_from_the_inputs_is_the_one_that_was(settings: Settings, tmp_path: Path) -> None:
    by_event = settings.model_copy(update={"clock": "event"})
    rebuilt = elsewhere(by_event).model_copy(update={"app_id": f"{settings.app_id}.rebuilt"})
    async with Stage.open(by_event, tmp_path) as stage:
        await stage.preload(backlog(9, 6_000, 300, PARTITIONS, time.time_ns() // 1_000_000 - 3 * HOUR_MS))
        stage.worker("w")
        await stage.until_consumed(READY_S)
        before = await states(stage)
    await topics.apply(rebuilt)
    await answered(by_event, "replay", "--to-prefix", rebuilt.topic_prefix)
    (folder := tmp_path / "rebuilt").mkdir()
    async with Stage.open(rebuilt, folder) as stage:
        stage.worker("w")
        await stage.until_consumed(READY_S)
        after = await states(stage)
        verdict = await verify(rebuilt)
    assert verdict.is_clean, verdict
    assert len(before["window-state"]) > 200
    assert before["consent-state"]
    assert after == before


async def test_a_state_that_is_lost_is_rebuilt_in_its_place_and_says_nothing_of_what_was_said(
    settings: Settings, tmp_path: Path
) -> None:
    by_event = settings.model_copy(update={"clock": "event"})
    async with Stage.open(by_event, tmp_path) as stage:
        await stage.preload(backlog(10, 6_000, 300, PARTITIONS, time.time_ns() // 1_000_000 - 3 * HOUR_MS))
        first = stage.worker("w")
        await stage.until_consumed(READY_S)
        before, said = await states(stage), await stage.ends(*OUTPUTS)
        first.kill()
        await made_anew(stage, *STATES)
    (folder := tmp_path / "rebuilt").mkdir()
    since = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    anew = by_event.model_copy(update={"app_id": f"{settings.app_id}.rebuilt", "effects_from": since})
    async with Stage.open(anew, folder) as stage:
        stage.worker("w")
        await stage.until_consumed(READY_S)
        assert await states(stage) == before
        assert all(not records for records in (await told_since(stage, said)).values())
        # and whoever orders by sequence finds what comes next behind what came before
        await stage.preload(message(n, time.time_ns() // 1_000_000, f"new{n}", contact=500) for n in range(PARTITIONS))
        await stage.until_consumed(READY_S)
        assert [len(records) for records in (await told_since(stage, said)).values() if records] == [1] * PARTITIONS
        await numbered_on(stage)


async def test_a_move_tells_what_fell_due_on_the_way_and_numbers_it_behind_what_was_told(
    settings: Settings, tmp_path: Path
) -> None:
    """The inputs are read from their begin over the state as it is, as on another cluster to which both were copied."""
    here = settings.model_copy(update={"clock": "event"})
    moved_ms = time.time_ns() // 1_000_000 - HOUR_MS
    day_ms = 24 * HOUR_MS
    async with Stage.open(here, tmp_path) as stage:
        ends_on_the_way = [message(n, moved_ms - day_ms + 5_000, f"old{n}") for n in range(PARTITIONS)]
        last_here = [message(n, moved_ms, f"last{n}", contact=1) for n in range(PARTITIONS)]
        await stage.preload([*ends_on_the_way, *last_here])
        worker = stage.worker("w")
        await stage.until_consumed(READY_S)
        worker.signal(signal.SIGTERM)
        assert await worker.ended(10 * patience()) == 0
        said = await stage.ends(*OUTPUTS)
    (folder := tmp_path / "there").mkdir()
    before = datetime.fromtimestamp(moved_ms / 1000 - 60, UTC)
    there = here.model_copy(
        update={"app_id": f"{settings.app_id}.there", "on_lost_offsets": "restart", "effects_from": before.isoformat()}
    )
    async with Stage.open(there, folder) as stage:
        stage.worker("w")
        await stage.preload(message(n, moved_ms + 60_000, f"next{n}", contact=2) for n in range(PARTITIONS))
        await stage.until_consumed(READY_S)
        again = await told_since(stage, said)
        closed = {json.loads(record.value)["id"] for tp in stage.tps("window-closed") for record in again[tp]}
        opened = {
            json.loads(record.value)["data"]["cause"]["id"] for tp in stage.tps("window-opened") for record in again[tp]
        }
        await numbered_on(stage)
    assert len(closed) == PARTITIONS
    assert opened == {f"next{n}" for n in range(PARTITIONS)}


def message(partition: int, time_ms: int, id_: str, contact: int = 0) -> Wanted:
    """Make a text of a contact that lives on the partition."""
    contacts = (f"55119{n:08}" for n in itertools.count())
    keys = (f"whatsapp:15550001:{name}" for name in contacts)
    key = next(
        itertools.islice((it for it in keys if partition_of(it.encode(), PARTITIONS) == partition), contact, None)
    )
    body = {
        "id": id_,
        "type": "text",
        "business_id": "15550001",
        "contact_id": key.split(":")[2],
        "time": rfc3339(time_ms),
    }
    return Wanted("inbound", partition, key.encode(), json.dumps(body).encode())


async def told_since(stage: Stage, ends: dict[TopicPartition, int]) -> dict[TopicPartition, list[ConsumerRecord]]:
    """Give what lies on the outputs behind these offsets."""
    found = await stage.records(*OUTPUTS)
    return {tp: [record for record in found[tp] if record.offset >= end] for tp, end in ends.items()}


async def numbered_on(stage: Stage) -> None:
    """Look that sequences grow along each partition, all of its outputs together by their time on the topic."""
    found = await stage.records(*OUTPUTS)
    for tp, records in found.items():
        sequences = [json.loads(record.value)["sequence"] for record in records]
        assert sequences == sorted(sequences), tp


async def made_anew(stage: Stage, *names: str) -> None:
    """Delete topics, and create them again: what was just deleted may be there for a moment more."""
    gone = {stage.names[name] for name in names}
    give_up_s = time.monotonic() + 60
    async with topics.asking(stage.settings) as admin:
        await admin.delete_topics(list(gone))
        while gone & set(await admin.list_topics()):
            assert time.monotonic() < give_up_s, gone
            await asyncio.sleep(0.1)
    while problems := await topics.check(stage.settings):
        assert time.monotonic() < give_up_s, problems
        with suppress(KafkaError):
            await topics.apply(stage.settings)


async def states(stage: Stage) -> dict[str, dict[bytes, Any]]:
    """Fold the state topics: the newest value of each key, but for the numbers that a round gives."""
    found = await stage.records(*STATES)
    return {name: folded(record for tp in stage.tps(name) for record in found[tp]) for name in STATES}


def folded(records: Iterable[Any]) -> dict[bytes, Any]:
    newest = {record.key: record.value for record in records}
    read = {key: json.loads(value) for key, value in newest.items() if value is not None}
    return {key: {name: field for name, field in value.items() if name != "sequence"} for key, value in read.items()}
