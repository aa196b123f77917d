"""`make bench-peers` at a size that says nothing: one engine that fails does not end it, and a cut-off run has told."""

import argparse
import asyncio
import json
import signal
import sys
import time
from pathlib import Path

import pytest

from processor.settings import Settings
from tests.bench.peers.__main__ import Contest
from tests.bench.peers.engines import Engine, ours
from tests.bench.traffic import Contact
from tests.chaos.harness import ROOT, Stage, patience
from tests.kafka import Kafka

pytestmark = pytest.mark.timeout(400)

EVENTS = 3000


async def test_an_engine_that_fails_is_told_of_and_others_are_measured(kafka: Kafka, tmp_path: Path) -> None:
    report, desk = tmp_path / "report", tmp_path / "desk"
    options = argparse.Namespace(
        folder=report, events=EVENTS, slow_events=EVENTS // 10, rounds=1, rates=[], seconds=1, quix=None, yardstick=None
    )
    broken = Engine("broken", "none", lambda _settings, _folder: [sys.executable, "-c", "raise SystemExit(7)"])
    await Contest(options, [broken, ours()], kafka.bootstrap_servers, desk).run()
    first = json.loads((report / "peers.json").read_text())["rounds"][0]
    cases = {case["engine"]: case for case in first["cases"]}
    assert cases["broken"]["outcome"].startswith("failed: AssertionError: it has ended by itself")
    assert not cases["broken"]["is_right"]
    assert cases["janela"]["is_right"]
    assert "failed: AssertionError" in (report / "peers.md").read_text()


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


async def test_a_run_that_is_cut_off_leaves_the_report_of_its_rounds(tmp_path: Path) -> None:
    options = ("--only", "janela", "--events", str(EVENTS), "--slow-events", "100", "--rounds", "9", "--seconds", "1")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.peers", str(tmp_path), *options),
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
