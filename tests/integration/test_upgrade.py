"""Upgrade to a version that writes its state otherwise (`tests.newer`), and back, as docs/operations.md says."""

import json
import time
from pathlib import Path

import pytest

from processor.audit.findings import Kind
from processor.audit.reading import verify
from processor.settings import Settings
from processor.stream.engine import EXIT_REFUSED
from tests.chaos.backlog import HOUR_MS, backlog
from tests.chaos.harness import Stage, Worker
from tests.integration.test_rebuild import READY_S, STATES
from tests.integration.test_replay import answered

pytestmark = pytest.mark.timeout(300)

EVENTS = 1_500
NEWER = ("-m", "tests.newer", "worker")


async def more(stage: Stage, part: int) -> None:
    """Put the next part of a business's days on the inputs; it ends later than the one before."""
    end_ms = time.time_ns() // 1_000_000 - (3 - part) * HOUR_MS
    await stage.preload(backlog(part, EVENTS, 150, stage.settings.partitions, end_ms, 0.5, first=part * EVENTS))


async def worked(stage: Stage, worker: Worker) -> None:
    """Let a worker take all there is, and stop it."""
    await stage.until_consumed(READY_S)
    worker.kill()
    await stage.evict(worker)


async def versions(stage: Stage) -> set[int]:
    """Tell which versions the newest records of the state are of."""
    newest = {
        (tp, record.key): record.value for tp, found in (await stage.records(*STATES)).items() for record in found
    }
    return {json.loads(value)["v"] for value in newest.values() if value is not None}


async def test_a_later_version_goes_on_from_an_older_state_and_the_older_one_is_back_after_a_rebuild(
    settings: Settings, tmp_path: Path
) -> None:
    async with Stage.open(settings, tmp_path) as stage:
        await more(stage, 0)
        await worked(stage, stage.worker("old"))
        assert await versions(stage) == {1}

        await more(stage, 1)
        await worked(stage, stage.worker("new", command=NEWER))
        assert await versions(stage) == {1, 2}
        verdict = await verify(settings)
        assert set(verdict.faults) == {Kind.WRONG_STATE}, verdict  # by their version: all outputs are as they should be

        refused = stage.worker("old-again")
        assert await refused.ended(READY_S) == EXIT_REFUSED, refused.told()
        lines = [line for line in refused.lines() if "found version 2, this worker knows 1" in line]
        assert lines == refused.lines()[-1:]
        await stage.evict(refused)

        await answered(settings, "rebuild", "--yes")
        assert await versions(stage) == {1}
        await more(stage, 2)
        await worked(stage, stage.worker("old-for-good"))
        verdict = await verify(settings)
    assert verdict.is_clean, verdict
