"""A state that was lost comes back from the inputs, by the way that docs/operations.md gives."""

import asyncio
import json
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaError

from processor import topics
from processor.audit.findings import OUTPUTS
from processor.audit.reading import verify
from processor.settings import Settings
from tests.chaos.backlog import HOUR_MS, backlog
from tests.chaos.harness import Stage
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
        again = await stage.records(*OUTPUTS)
    assert all(not [record for record in again[tp] if record.offset >= said[tp]] for tp in said)


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
