"""The catalogue of metrics, and the page that is made from it."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from processor.codec.inputs import InputDecoder
from processor.core.sending import REFUSALS
from processor.ops import instruments, labels
from processor.ops.metrics import PROCESS, Metrics, catalogue
from processor.ops.pages import dashboard, page
from tests.examples import input_examples

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/metrics.md"
DASHBOARD = ROOT / "deploy/grafana/janela.json"
ALLOWED_LABELS = {"topic", "partition", "type", "reason", "cause", "state", "loop", "outcome"}

ALLOWED_UNITS = {
    *("seconds", "records", "outputs", "rejections", "inputs", "transactions", "partitions", "rebalances", "windows"),
    "timers",
}


def test_page_and_dashboard_say_what_the_catalogue_says() -> None:
    assert PAGE.read_text("utf-8") == page(), "make docs"
    assert DASHBOARD.read_text("utf-8") == dashboard(), "make docs"


def test_each_entry_says_what_it_means_and_what_to_do() -> None:
    for entry in catalogue():
        assert re.fullmatch(r"janela_[a-z_]+", entry.name)
        assert (entry.kind == "counter") == entry.name.endswith("_total")
        assert set(entry.labels) <= ALLOWED_LABELS
        assert entry.unit in ALLOWED_UNITS
        for sentence in (entry.meaning, entry.remedy):
            assert sentence[0].isupper() or sentence.split()[0].rstrip(":.") in _WORDS
            assert sentence.endswith(".")


_WORDS = {"late", "restoring"}
"""Values of labels, which begin a sentence as they are."""


def test_what_is_scraped_is_the_catalogue_and_the_process() -> None:
    metrics = Metrics()
    found = {family.name for family in text_string_to_metric_families(generate_latest(metrics.registry).decode())}
    assert {entry.name.removesuffix("_total") for entry in catalogue()} == {
        name for name in found if name.startswith("janela_")
    }
    assert {entry.name for entry in PROCESS} <= found


@pytest.mark.parametrize("there", [True, False], ids=["there", "missing"])
def test_the_folder_in_which_other_programs_gather_their_counts_is_left_alone(there: bool, tmp_path: Path) -> None:
    folder = tmp_path / "counts"
    if there:
        folder.mkdir()
    code = "from processor.ops.metrics import Metrics; Metrics().transactions.inc()"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(folder)})
    assert [*tmp_path.rglob("*.db")] == []


def test_whatever_a_counter_may_count_is_there_at_zero_so_that_its_first_burst_is_a_rate() -> None:
    families = {family.name: family.samples for family in Metrics().registry.collect()}
    for entry in catalogue():
        if entry.kind == "counter":
            samples = families[entry.name.removesuffix("_total")]
            assert samples, entry.name
            assert {sample.value for sample in samples} == {0}
            assert all(sample.labels.keys() == set(entry.labels) for sample in samples)


def test_what_is_there_at_zero_is_what_core_codec_and_traces_count() -> None:
    def words(folder: str, line: str) -> set[str]:
        texts = [path.read_text("utf-8") for path in (ROOT / "processor" / folder).glob("*.py")]
        return {word for text in texts for rest in re.findall(line, text) for word in re.findall('"([a-z-]+)"', rest)}

    causes = words("core", r"counts(\[.*\]) ") | words("codec", r"Noted\(key, event_time_ms, (.*)")
    assert {cause for (cause,) in labels.WITHOUT_EFFECT} == causes
    assert {outcome for (outcome,) in labels.TRACED_INPUTS} == words("tracing", r"counts(\[.*\]) ")
    assert {reason for (reason,) in labels.DEAD_LETTERS} == words("codec", r'DeadLetter\(("[a-z-]+")')
    assert {reason for (reason,) in labels.REJECTIONS} == REFUSALS.keys()


@pytest.mark.parametrize("event", ["inbound", "outbound"])
def test_a_record_is_counted_by_its_type_unless_the_contract_does_not_know_it(event: str) -> None:
    decoder = InputDecoder(0, 1, (), 65_536, check_keys=False)
    counted = labels.TYPES[f"messages.{event}"]
    found = set()
    for example in input_examples(event, "good"):
        read = getattr(decoder, event)(example.key, example.value, example.timestamp_ms, example.headers)
        assert (read.type in counted) != example.name.endswith("/unknown-type"), example.name
        found.add(read.type)
    assert counted - found == {labels.OTHER}


def test_two_workers_in_one_process_do_not_share_their_counts() -> None:
    first, second = Metrics(), Metrics()
    first.transactions.inc()
    assert first.registry.get_sample_value("janela_transactions_total") == 1
    assert second.registry.get_sample_value("janela_transactions_total") == 0


def test_a_restore_that_was_broken_off_is_gone_with_the_next_assignment() -> None:
    watcher = instruments.Instruments()
    watcher._pulses["consumer"] = instruments.Pulse("consumer", watcher.metrics)
    watcher.on_restore_read(3, 4000)
    assert watcher.metrics.registry.get_sample_value("janela_restore_records", {"partition": "3"}) == 4000
    watcher.on_assigned()
    assert watcher.metrics.registry.get_sample_value("janela_restore_records", {"partition": "3"}) is None


def test_the_dashboard_sums_no_gauge_that_is_of_one_machine() -> None:
    queries = [target["expr"] for panel in json.loads(dashboard())["panels"] for target in panel["targets"]]
    assert "janela_clock_ahead_seconds" in queries


def test_the_dashboard_shows_the_memory_of_workers_and_of_nobody_else() -> None:
    (panel,) = [each for each in json.loads(dashboard())["panels"] if "memory" in each["title"]]
    assert panel["fieldConfig"]["defaults"]["unit"] == "bytes"
    assert [it["expr"] for it in panel["targets"]] == ['process_resident_memory_bytes{job="janela"}']


def test_the_page_says_in_what_unit_each_metric_is() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| \w+ \| (\w+) \|", page(), re.MULTILINE))
    assert rows == {entry.name: entry.unit for entry in (*catalogue(), *PROCESS)}
    assert (rows["janela_timers_overdue"], rows["janela_transaction_seconds"]) == ("timers", "seconds")


async def test_a_loop_that_stands_still_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instruments, "PULSE_S", 0.01)
    monkeypatch.setattr(instruments, "DEAD_S", 0.2)
    metrics = Metrics()
    pulse = instruments.Pulse("worker", metrics)
    beating = asyncio.create_task(pulse.beat())
    await asyncio.sleep(0.05)
    alive = [pulse.is_alive]
    time.sleep(0.3)  # noqa: ASYNC251 (that is the fault)
    alive.append(pulse.is_alive)
    await asyncio.sleep(0.05)
    alive.append(pulse.is_alive)
    assert alive == [True, False, True]
    assert (metrics.registry.get_sample_value("janela_loop_stall_seconds_sum", {"loop": "worker"}) or 0) > 0.25
    beating.cancel()
