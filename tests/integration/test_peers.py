"""`make bench-peers` at a size that says nothing: nothing that fails ends it, and a run that is cut off has told."""

import argparse
import asyncio
import json
import shlex
import signal
import sys
import time
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from processor.settings import Settings
from tests.bench import yardstick
from tests.bench.peers.__main__ import Contest
from tests.bench.peers.engines import Engine, ours
from tests.bench.traffic import Contact
from tests.chaos.harness import ROOT, Stage, patience
from tests.kafka import Kafka

pytestmark = pytest.mark.timeout(400)

EVENTS = 3000


YARDSTICK = """
import json, os, pathlib, sys
told = {name: value for name, value in os.environ.items() if name.startswith("BENCH_")}
pathlib.Path(sys.argv[1]).write_text(json.dumps(told))
"""


@pytest.mark.heavy
async def test_what_fails_is_told_of_and_others_are_measured(kafka: Kafka, tmp_path: Path) -> None:
    report, desk = tmp_path / "report", tmp_path / "desk"
    options = argparse.Namespace(
        folder=report, events=EVENTS, slow_events=EVENTS // 10, rounds=1, rates=[], seconds=1, quix=None,
        yardstick="/nowhere/yardstick",
    )  # fmt: skip
    broken = Engine("broken", "none", lambda _settings, _folder: [sys.executable, "-c", "raise SystemExit(7)"])
    await Contest(options, [broken, ours()], kafka.bootstrap_servers, desk).run()
    written, page = json.loads((report / "peers.json").read_text()), (report / "peers.md").read_text()
    first = written["rounds"][0]
    cases = {case["engine"]: case for case in first["cases"]}
    assert cases["broken"]["outcome"].startswith("failed: AssertionError: it has ended by itself")
    assert not cases["broken"]["is_right"]
    assert cases["janela"]["is_right"]
    assert "failed: AssertionError" in page
    assert first["yardstick_s"] is None
    assert "* the yardstick: RuntimeError: it can't be started: No such file or directory" in page
    assert "/nowhere" not in page + str(written)
    assert first["replay"] > 0
    assert first["load"] > 0
    assert not [name for name in await topic_names(kafka) if name.startswith(("replay", "load"))]


async def topic_names(kafka: Kafka) -> set[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    try:
        return set(await admin.list_topics())
    finally:
        await admin.close()


async def test_a_yardstick_that_does_not_end_well_or_in_time_gives_no_figure(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def python(program: str) -> str:
        return shlex.join([sys.executable, "-c", program])

    with pytest.raises(RuntimeError, match="exit code 7"):
        await yardstick.run(python("raise SystemExit(7)"), settings, EVENTS)
    monkeypatch.setattr(yardstick, "WITHIN_S", 2)
    lives = tmp_path / "lives"
    sleeps = f"import pathlib, time\nwhile True: pathlib.Path({str(lives)!r}).touch(); time.sleep(0.01)"
    with pytest.raises(TimeoutError):
        await yardstick.run(python(sleeps), settings, EVENTS)
    lives.unlink(missing_ok=True)
    await asyncio.sleep(0.5)
    assert not lives.exists()


async def test_where_clocks_go_by_the_events_no_opening_waits_for_a_record_of_the_other_side(
    settings: Settings, tmp_path: Path
) -> None:
    """What the peers' latency rests on: with clock=event too, an input that is silent holds nobody up."""
    assert settings.clock == "event"
    customers = 40
    async with Stage.open(settings, tmp_path) as stage:
        stage.worker("w")
        now_ms = time.time_ns() // 1_000_000
        contacts = [Contact(number, settings.partitions) for number in range(customers)]
        await stage.preload(each.says("inbound", now_ms, number) for number, each in enumerate(contacts))
        await stage.until_consumed(60 * patience())
        found = await stage.records("window-opened")
    opened = {record.key for records in found.values() for record in records}
    assert opened == {each.key for each in contacts}


@pytest.mark.heavy
async def test_a_run_that_is_cut_off_leaves_the_report_of_its_rounds(tmp_path: Path) -> None:
    heard = tmp_path / "heard.json"
    beside = shlex.join([sys.executable, "-c", YARDSTICK, str(heard)])
    options = ("--only", "janela", "--events", str(EVENTS), "--slow-events", "100", "--rounds", "9", "--seconds", "1")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.peers", str(tmp_path), *options, "--yardstick", beside),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    said = ""
    async with asyncio.timeout(180 * patience()):
        while "round 2" not in said:
            line = await process.stdout.readline()
            assert line, said
            said += line.decode()
        process.send_signal(signal.SIGINT)
        await process.communicate()
    found = json.loads((tmp_path / "peers.json").read_text())
    assert len(found["rounds"]) == 1
    assert {case["engine"] for case in found["rounds"][0]["cases"]} >= {"aiokafka getmany", "janela"}
    assert "| janela |" in (tmp_path / "peers.md").read_text()
    assert found["rounds"][0]["yardstick_s"] > 0
    told = json.loads(heard.read_text())
    assert told.pop("BENCH_BOOTSTRAP_SERVERS")
    assert told == {
        "BENCH_INBOUND": "all.messages.inbound",
        "BENCH_OUTBOUND": "all.messages.outbound",
        "BENCH_PARTITIONS": "4",
        "BENCH_BACKLOG": str(EVENTS),
    }
