"""`janela measure replay` on a real broker and a real worker: every output of the replay is timed from its schedule."""

import asyncio
import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from processor.replay.archive import VERSION, ArchiveWriter, Manifest
from processor.settings import Settings
from tests.chaos.backlog import HOUR_MS, backlog
from tests.chaos.harness import INPUTS, Stage, patience
from tests.integration.test_load import children_of
from tests.integration.test_replay import answered, elsewhere, open_transaction
from tests.verbs import ended, janela, started

pytestmark = pytest.mark.timeout(300)

EVENTS = 900
TIMED = ("window-opened", "send-accepted", "send-rejected")


async def at_work(stage: Stage) -> None:
    worker = stage.worker("w")
    await stage.until("it is restored", lambda: worker.says("stream.restored"), 90)


async def filled(stage: Stage) -> int:
    """Put a backlog on the source; give how many records it is."""
    end_ms = time.time_ns() // 1_000_000 - 3 * HOUR_MS
    await stage.preload(backlog(5, EVENTS, 60, stage.settings.partitions, end_ms))
    return sum((await stage.ends(*INPUTS.values())).values())


async def event_ids(stage: Stage) -> set[str]:
    found = await stage.records(*TIMED)
    return {json.loads(record.value)["id"] for records in found.values() for record in records}


@pytest.mark.heavy
async def test_every_output_of_an_archive_and_of_topics_is_timed_from_the_schedule_of_the_replay(
    settings: Settings, tmp_path: Path
) -> None:
    lab, drain = elsewhere(settings), ("--drain", str(60 * patience()))
    archive, kept, page = (tmp_path / name for name in ("day.jsonl.zst", "a.json", "a.html"))
    async with Stage.open(settings, tmp_path) as stage, Stage.open(lab, tmp_path) as measured:
        events = await filled(stage)
        await answered(settings, "archive", str(archive))
        await at_work(measured)
        files = ("--from-archive", str(archive), "--report", str(kept), "--html", str(page))
        found = await answered(lab, "measure", "replay", *files, "--rate", "300", *drain)
        ids = await event_ids(measured)
        _is_accounted_for(found, events, len(ids))
        assert found["seconds"] >= (events - 1) / 300
        assert found["timer_lateness"]["count"] == 0  # it happened hours ago
        assert json.loads(kept.read_text()) == found
        assert "<svg" in page.read_text()

        again = ("--from-prefix", settings.topic_prefix, "--side", "inbound", "--rate", "1000000")
        code, _, err = await janela(lab, "measure", "replay", *again)
        assert code == 2
        assert "found records of another producer" in err
        found = await answered(lab, "measure", "replay", *again, "--append", *drain)
        assert found["sent"] == found["events"] < events
        # all of them are due at the begin, and the last one is taken up later than the first
        assert found["load_behind"]["max"] > found["load_behind"]["p50"] > 0
        assert found["is_whole"]
        assert found["scenario"]["sides"] == ["inbound"]


def _is_accounted_for(found: dict[str, Any], events: int, outputs: int) -> None:
    assert found["is_whole"]
    assert found["events"] == found["sent"] == events
    assert found["received"] == outputs > 0
    assert sum(quantiles["count"] for quantiles in found["latency_by_topic"].values()) == outputs
    assert 0 < found["latency"]["p50"] <= found["latency"]["max"]
    assert found["lag_end"] == 0


async def test_a_replay_that_is_stopped_tells_what_there_was(settings: Settings, tmp_path: Path) -> None:
    lab = elsewhere(settings)
    async with Stage.open(settings, tmp_path) as stage, Stage.open(lab, tmp_path) as measured:
        events = await filled(stage)
        options = ("--from-prefix", settings.topic_prefix, "--rate", str(events / 100), "--json")
        process = await started(lab, "measure", "replay", *options)

        async def has_begun() -> bool:
            return sum((await measured.ends(*INPUTS.values())).values()) > 0

        await measured.until("a part is written", has_begun, 60 * patience())
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), 60 * patience())
    assert process.returncode == 130, err
    found = json.loads(out)
    assert found["events"] == events > found["sent"]
    assert not found["is_whole"]


async def test_a_replay_that_is_stopped_before_it_began_keeps_nothing(settings: Settings, tmp_path: Path) -> None:
    """A stranger's open transaction keeps it from reading the target to its end."""
    lab, kept = elsewhere(settings), tmp_path / "a.json"
    async with Stage.open(settings, tmp_path) as stage, Stage.open(lab, tmp_path), open_transaction(lab):
        await filled(stage)
        options = ("--from-prefix", settings.topic_prefix, "--rate", "100", "--report", str(kept), "--json")
        process = await started(lab, "measure", "replay", *options)

        async def has_child() -> bool:
            return bool(children_of(process))

        await stage.until("the process of the replay is there", has_child, 60 * patience())
        await asyncio.sleep(2)
        process.send_signal(signal.SIGINT)
        code, out, err = await ended(process)
    assert (code, out) == (130, ""), err
    assert "janela measure: stopped before it began" in err
    assert not kept.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--rate", "5"), "--from-archive, --from-prefix"),
        (("--from-prefix", "x.", "--rate", "5", "--speed", "5"), "--speed, --rate"),
        (("--from-archive", "nowhere", "--rate", "5"), "nowhere: No such file"),
        (("--from-archive", "empty", "--rate", "5"), "no record that is asked for"),
    ],
)
async def test_what_can_not_be_measured_is_refused(
    options: tuple[str, ...], words: str, settings: Settings, tmp_path: Path
) -> None:
    with ArchiveWriter(tmp_path / "empty", Manifest(janela_archive=VERSION, partitions=1, written="now")):
        pass
    async with Stage.open(settings, tmp_path):
        chosen = [str(tmp_path / "empty") if option == "empty" else option for option in options]
        code, out, err = await janela(settings, "measure", "replay", *chosen)
    assert (code, out) == (2, "")
    assert words in " ".join(err.split())
