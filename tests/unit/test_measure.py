"""What `janela measure` counts, and how it shows it: whose outputs are whose, quantiles, plots that can be parsed."""

import asyncio
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from aiokafka import TopicPartition
from aiokafka.errors import (
    CoordinatorLoadInProgressError,
    GroupCoordinatorNotAvailableError,
    KafkaConnectionError,
    KafkaError,
    NotCoordinatorForGroupError,
)
from prometheus_client import generate_latest
from typer import Exit
from typer.testing import CliRunner

from processor.cli import measured
from processor.cli.measure import measure_app
from processor.cli.measured import Kept
from processor.codec.times import format_time
from processor.load.delays import Delays
from processor.load.scenario import Scenario
from processor.load.tally import Tally
from processor.measure import run
from processor.measure.gauges import Lag, Sample
from processor.measure.page import page
from processor.measure.receiver import Delivery, Receiver
from processor.measure.report import Quantiles, Report, figures, total
from processor.measure.run import Run
from processor.measure.traffic import LoadMoments
from processor.measure.workers import (
    CLOCK_LAG,
    LATENESS,
    RESTORE,
    WINDOWS,
    Local,
    Meter,
    Restore,
    WorkerFigures,
    Workers,
    read_meter,
    read_metrics,
    scrape,
)  # fmt: skip
from processor.ops.metrics import Metrics, catalogue
from processor.settings import Settings

START_US = 1_795_373_239_000_000  # Sun 22 Nov 2026 18:47:19 UTC
BEGIN = LoadMoments(
    begin_us=START_US + 3_600_000_000, start_us=START_US, seed=1
)  # the schedule's times lie an hour back


def output(moment_us: int = START_US, seed: int = 1, number: int = 0, **changed: Any) -> bytes:
    """Give an output as a worker writes it, of a record that was due at that moment of the schedule."""
    cause = {"id": f"load-{seed}-{number}.{moment_us}", "type": "text"}
    event = {"id": f"e{seed}.{number}", "time": format_time(moment_us // 1000), "data": {"cause": cause}} | changed
    return json.dumps(event).encode()


def begun(warm_up_s: float = 0) -> Delivery:
    delivery = Delivery(warm_up_s)
    delivery.begin(BEGIN)
    return delivery


def note(delivery: Delivery, topic: str, value: bytes, now_us: int) -> None:
    """Note an output that the worker had decided a millisecond before."""
    delivery.note(topic, value, now_us // 1000 - 1, now_us)


def longest_ms(delays: Delays) -> float:
    return delays.quantiles_ms(1.0)[0]


def new_report(**changed: Any) -> Report:
    delays = Delays()
    for ms in range(1, 1001):
        delays.note(ms * 1000)
    samples = [
        Sample(float(n), n * 100, n * 90, n % 7, 1.5 * n, None if n == 3 else 4.0 * n, [0.5], [80.0])
        for n in range(1, 9)
    ]
    fields: dict[str, Any] = {
        "at": "2026-11-22T19:47:19.000Z", "scenario": Scenario().model_dump(), "events": 800, "sent": 800,
        "send_seconds": 8.0, "sent_a_second": 100.0, "load_behind": Quantiles.of(Delays()),
        "load_acknowledged": Quantiles.of(delays), "outputs": {"window-opened": 700}, "received": 700, "seconds": 8.5,
        "events_a_second": 94.1, "latency": Quantiles.of(delays), "decided": Quantiles.of(Delays()),
        "latency_by_topic": {}, "timer_lateness": Quantiles.of(Delays()), "ends_early": 0, "lag_max": 6, "lag_end": 0,
        "samples": samples, "is_whole": True,
        "workers": [WorkerFigures("pid 17", 4.0, 80.0, [Restore(2.5, None), Restore(1.5, 3.0)], 1.2)],
    }  # fmt: skip
    return Report(**fields | changed)


# ---------------------------------------------------------------------------------------------- what has come, and when


def test_latency_counts_from_the_moment_in_the_schedule_wherever_its_times_lie() -> None:
    delivery = begun()
    note(delivery, "window-opened", output(START_US + 500_000), BEGIN.begin_us + 750_000)
    assert delivery.received == 1
    for delays in (total(delivery.delays.values()), delivery.lately, delivery.delays["window-opened"]):
        assert longest_ms(delays) == pytest.approx(250, rel=0.001)
    assert longest_ms(delivery.decided) == pytest.approx(249, rel=0.001)


def test_without_a_warm_up_all_are_timed_in_whatever_order_they_come() -> None:
    delivery = begun()
    for number, after_us in enumerate((5_000, 0, 3_000)):
        note(delivery, "window-opened", output(START_US + after_us, number=number), BEGIN.begin_us + 9_000)
    assert delivery.delays["window-opened"].count == delivery.received == 3


def test_what_is_due_in_the_warm_up_is_counted_and_not_timed() -> None:
    delivery = begun(warm_up_s=2)
    for number, after_us in enumerate((0, 1_999_999, 2_000_000, 5_000_000)):
        value = output(START_US + 10_000_000 + after_us, number=number)
        note(delivery, "window-opened", value, BEGIN.begin_us + 20_000_000)
    assert (delivery.received, delivery.delays["window-opened"].count, delivery.decided.count) == (4, 2, 2)


def test_a_verdict_bears_its_send_and_is_the_loads_too() -> None:
    delivery = begun()
    data = {"send": {"id": f"load-1-7.{START_US}", "type": "text"}, "reason": "window-open"}
    note(delivery, "send-accepted", output(data=data), BEGIN.begin_us + 10_000)
    assert longest_ms(delivery.delays["send-accepted"]) == pytest.approx(10, rel=0.001)


def test_what_another_load_or_nobodys_load_brought_about_is_counted_but_not_timed() -> None:
    delivery = begun()
    note(delivery, "window-opened", output(seed=2), BEGIN.begin_us)
    note(delivery, "window-opened", output(START_US - 1, number=1), BEGIN.begin_us)  # the same seed, some time ago
    note(delivery, "window-opened", output(data={"cause": {"id": "in-1"}}), BEGIN.begin_us)
    assert (delivery.counts["window-opened"], delivery.received, total(delivery.delays.values()).count) == (3, 0, 0)


def test_the_second_verdict_on_a_send_is_not_timed() -> None:
    delivery = begun()
    for came_us in (1000, 900_000):
        note(delivery, "send-rejected", output(), BEGIN.begin_us + came_us)
    assert (delivery.counts["send-rejected"], delivery.received) == (2, 1)
    assert longest_ms(delivery.delays["send-rejected"]) == pytest.approx(1, rel=0.001)


def test_a_windows_end_is_late_by_the_wall_clock_if_it_was_due_since_the_begin() -> None:
    delivery, expired = begun(), {"reason": "expired"}
    due_us = BEGIN.begin_us + 2_000_000
    note(delivery, "window-closed", output(time=format_time(due_us // 1000), data=expired), due_us + 70_000)
    note(delivery, "window-closed", output(time=format_time(BEGIN.begin_us // 1000 - 1), data=expired), due_us)
    refused = {"reason": "provider-refused"}
    note(delivery, "window-closed", output(time=format_time(due_us // 1000), data=refused), due_us + 500_000)
    assert longest_ms(delivery.lateness) == pytest.approx(70, rel=0.001)
    assert (delivery.lateness.count, delivery.ended, delivery.early, delivery.received) == (1, 1, 0, 0)


def test_an_end_that_comes_before_it_is_due_or_a_second_time_is_noticed() -> None:
    delivery, expired, due_us = begun(), {"reason": "expired"}, BEGIN.begin_us + 2_000_000
    for came_us in (due_us - 1, due_us + 5_000_000):
        note(delivery, "window-closed", output(time=format_time(due_us // 1000), data=expired), came_us)
    assert (delivery.counts["window-closed"], delivery.ended, delivery.lateness.count, delivery.early) == (2, 1, 1, 1)


def test_what_comes_before_the_begin_is_only_counted() -> None:
    delivery = Delivery()
    note(delivery, "window-opened", output(), BEGIN.begin_us)
    assert (delivery.counts["window-opened"], delivery.received) == (1, 0)


# -------------------------------------------------------------------------------------------------------------- meters


async def test_a_process_that_works_is_seen_to_use_a_core_and_one_that_is_gone_to_use_none() -> None:
    busy = await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: pass")
    try:
        workers, rss_mb = Workers([Local(busy.pid)]), [0.0]
        await workers.read(None)
        while workers.figures()[0].cpu_s <= 0.2 or rss_mb[0] <= 1:  # it may use its first time without memory
            reading = await workers.read(1.0)
            rss_mb = reading.rss_mb
            assert reading.cpu[0] >= 0
        assert rss_mb[0] < 1000
    finally:
        busy.kill()
        await busy.wait()
    assert read_meter(busy.pid) is None
    assert (await workers.read(2.0))[:2] == ([0.0], [0.0])
    (found,) = workers.figures()
    assert (found.name, found.restores, found.timers_late_p99_s) == (f"pid {busy.pid}", [], None)
    assert found.cpu_s > 0.2
    assert found.rss_max_mb > 1
    assert read_meter(os.getpid()) is not None


class Scripted:
    """A worker whose metrics are those of the catalogue, set by the test; another start is another process."""

    name = "10.0.0.7:9464"

    def __init__(self) -> None:
        self.metrics, self.more = Metrics(), {"cpu": 0.0, "started": 1.0}

    async def read(self) -> Meter | None:
        own = re.sub(r"(?m)^(# .*)?process_.*\n", "", generate_latest(self.metrics.registry).decode())
        cpu, started = self.more["cpu"], self.more["started"]
        return read_metrics(
            f"{own}process_cpu_seconds_total {cpu}\nprocess_resident_memory_bytes 5e7\n"
            f"process_start_time_seconds {started}\n"
        )


async def test_a_worker_tells_of_restores_of_late_timers_and_of_its_clocks() -> None:
    worker = Scripted()
    workers = Workers([worker])
    worker.more["cpu"] = 100.0
    worker.metrics.restore_seconds.observe(4.5)
    worker.metrics.timer_lateness_seconds.observe(70.0)  # before the begin
    await workers.read(None)
    worker.more["cpu"] = 101.5
    for _ in range(99):
        worker.metrics.timer_lateness_seconds.observe(1.05)
    worker.metrics.timer_lateness_seconds.observe(8.0)
    for partition, (windows, lag_s) in {"0": (3, 0.5), "1": (4, 2.0)}.items():
        worker.metrics.open_windows.labels(partition).set(windows)
        worker.metrics.event_time_lag.labels(partition).set(lag_s)
    reading = await workers.read(1.0)
    assert (reading.open_windows, reading.clock_lag_s, reading.rss_mb) == (7, 2.0, [50.0])
    worker.metrics = Metrics()  # it was started again
    worker.more = {"cpu": 2.0, "started": 9.0}
    worker.metrics.restore_seconds.observe(1.5)
    assert (await workers.read(7.0)).clock_lag_s is None
    (found,) = workers.figures()
    assert found.restores == [Restore(4.5, None), Restore(1.5, 7.0)]
    assert found.cpu_s == 3.5
    assert found.timers_late_p99_s == 1.1  # the bound of the bucket that 1.05 is in


def test_each_metric_that_is_asked_for_is_in_the_catalogue() -> None:
    assert {RESTORE, LATENESS, WINDOWS, CLOCK_LAG} <= {entry.name for entry in catalogue()}


@pytest.mark.parametrize("text", ["", "up 1\n", "{", "process_cpu_seconds_total 1\n"])
def test_what_is_no_workers_metrics_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the parser's own words, or ours
        read_metrics(text)


async def test_where_nobody_answers_there_is_no_meter() -> None:
    assert await scrape("127.0.0.1:1") is None


# ------------------------------------------------------------------------------------------------------------- reports


def test_quantiles_are_those_of_the_delays() -> None:
    found = new_report().latency
    assert found.count == 1000
    assert [found.p50, found.p90, found.p99, found.p999, found.max] == pytest.approx(
        [500, 900, 990, 999, 1000], rel=0.001
    )


def test_a_report_that_was_kept_is_the_same_again() -> None:
    report = new_report()
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report


def test_figures_leave_out_what_was_not_measured() -> None:
    found, without = figures(new_report()), figures(new_report(workers=[], latency=Quantiles.of(Delays())))
    assert found["latency p50, ms"] == pytest.approx(500, rel=0.001)
    assert found["workers' CPU an event, us"] == 5000
    assert (found["restores"], found["restore max, s"], found["workers' timers late p99, s"]) == (2, 2.5, 1.2)
    assert not any(name.startswith(("latency", "workers", "timer", "restore")) for name in without)


def test_the_page_holds_all_figures_and_a_plot_of_each_meter_and_asks_nothing_of_a_network() -> None:
    text = page(new_report(scenario={"business_id": "<script>"}))
    plots = re.findall(r"<svg.*?</svg>", text)
    assert [len(ET.fromstring(plot).findall("polyline")) for plot in plots] == [2, 2, 1, 1, 1]
    for name in figures(new_report()):
        assert name.replace("'", "&#x27;") in text
    assert "<script>" not in text
    assert not re.search(r"https?:|src=|@import|url\(", text)


@pytest.mark.parametrize("most", [0.0, 0.004, 0.7, 3, 99, 100, 101, 123_456])
def test_every_point_lies_within_its_plot_and_what_is_highest_near_the_top(most: float) -> None:
    samples = [Sample(float(n), 0, 0, 0, most * n / 4, None, [], []) for n in range(5)]
    text = page(new_report(samples=samples, workers=[]))
    svg = ET.fromstring(re.findall(r"<svg.*?</svg>", text)[1])
    points = [pair.split(",") for pair in svg.findall("polyline")[0].attrib["points"].split()]
    assert len(points) == 5
    assert all(0 <= float(x) <= 860 and 0 <= float(y) <= 220 for x, y in points)
    if most >= 0.1:
        assert min(float(y) for _, y in points) < 220 * 0.7


def test_a_run_without_a_sample_makes_a_page_too() -> None:
    assert page(new_report(samples=[], workers=[])).count("<svg") == 3


# ------------------------------------------------------------------------------------------------------------- the lag


class Brokers:
    """Answers for aiokafka's clients: logs from 40 to 100 on each partition, and what a group has committed."""

    def __init__(self, committed: int = -1) -> None:
        self.committed = committed
        self.error: KafkaError | None = None
        self._client = self

    async def beginning_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, 40)

    async def end_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, 100)

    async def coordinator_lookup(self, *_: Any) -> int:
        return 1

    async def send(self, *_: Any, **__: Any) -> Any:
        if isinstance(self.error, KafkaConnectionError):
            raise self.error
        parts: list[Any] = [(0, self.committed, -1, "", 0, {})]
        topics: list[Any] = [(f"messages.{side}", parts, {}) for side in ("inbound", "outbound")]
        return SimpleNamespace(error_code=self.error.errno if self.error else 0, topics=[] if self.error else topics)


async def lag_at(brokers: Brokers) -> Lag:
    """Give the lag of one partition of each input."""
    lag = Lag(Settings(bootstrap_servers="nowhere:1", partitions=1))
    await lag.stop()
    lag._consumer = lag._admin = brokers
    return lag


@pytest.mark.parametrize(("committed", "found"), [(-1, 120), (0, 120), (70, 60), (100, 0), (200, 0)])
async def test_what_was_deleted_before_anybody_committed_is_no_lag(committed: int, found: int) -> None:
    assert await (await lag_at(Brokers(committed))).read() == found


@pytest.mark.parametrize("error", [CoordinatorLoadInProgressError, NotCoordinatorForGroupError])
async def test_a_coordinator_that_moves_or_loads_does_not_make_a_lag_of_all_there_is(error: type[KafkaError]) -> None:
    lag = await lag_at(brokers := Brokers(90))
    brokers.error = error()
    assert await lag.read() == 120  # a new cluster has none before somebody asks
    brokers.error = None
    assert await lag.read() == 20
    brokers.error = error()
    with pytest.raises(GroupCoordinatorNotAvailableError):
        await lag.read()


class Nothing:
    """No traffic; it is stopped before it begins."""

    def __init__(self) -> None:
        self.scenario: dict[str, Any] = {}
        self.events = 5

    async def follow(self, *_: Any) -> Tally:
        return Tally()


class AtEnd(Receiver):
    """Has taken all there was, and has no clients."""

    def __init__(self) -> None:
        pass

    async def is_at_end(self) -> bool:
        return True


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Give a run that looks all the time."""
    for name in ("SAMPLE_S", "LOOK_S"):
        monkeypatch.setattr(run, name, 0.001)
    return Run(Settings(bootstrap_servers="nowhere:1", partitions=1), Nothing(), [], drain_s=5)


async def test_while_the_brokers_do_not_answer_the_lag_stays_and_samples_go_on(running: Run) -> None:
    running._begun(BEGIN)
    lag, samples = await lag_at(brokers := Brokers(90)), list[Sample]()

    def take(sample: Sample) -> None:
        samples.append(sample)
        brokers.error = NotCoordinatorForGroupError() if len(samples) < 3 else None
        brokers.committed = 95

    sampling = asyncio.create_task(running._sample(lag, take))
    async with asyncio.timeout(5):
        while len(samples) < 4 and not sampling.done():
            await asyncio.sleep(0.001)
    sampling.cancel()
    assert [sample.lag for sample in samples[:4]] == [20, 20, 20, 10]


async def test_a_lag_that_can_not_be_asked_for_is_not_an_end_and_costs_no_report(running: Run) -> None:
    lag = await lag_at(brokers := Brokers(100))
    await lag.read()
    brokers.error = KafkaConnectionError("away")
    following = asyncio.create_task(asyncio.sleep(60))
    draining = asyncio.create_task(running._drained(AtEnd(), lag, asyncio.Event(), following))
    await asyncio.sleep(0.05)
    assert not draining.done()
    brokers.error = None
    assert await draining
    following.cancel()


# ---------------------------------------------------------------------------------------------------------- the report


def test_a_report_is_kept_also_where_nobody_reads_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    places = Kept(tmp_path / "a.json", tmp_path / "a.html", as_json=True)
    closed = os.fdopen(writes, "w", buffering=1)
    monkeypatch.setattr(sys, "stdout", closed)
    with pytest.raises(BrokenPipeError):
        measured._keep(new_report(), places)
    monkeypatch.undo()
    with suppress(BrokenPipeError):
        closed.close()
    assert json.loads((tmp_path / "a.json").read_text())["sent"] == 800
    assert "<svg" in (tmp_path / "a.html").read_text()


@pytest.mark.parametrize(("is_stopped", "code", "word"), [(True, 130, "stopped"), (False, 1, "ended")])
def test_of_a_run_that_never_began_nothing_is_kept(
    is_stopped: bool,
    code: int,
    word: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def stopped_early(_: Any, __: Any, ___: Any, stopped: asyncio.Event) -> None:
        if is_stopped:
            stopped.set()

    monkeypatch.setattr(measured, "_measured", stopped_early)
    places = Kept(tmp_path / "a.json", None, as_json=True)
    with pytest.raises(Exit) as ended:
        measured.run_measured(Settings(), None, measured.Watched([], [], 0, 0), places)  # type: ignore[arg-type]
    assert (ended.value.exit_code, capsys.readouterr()) == (code, ("", f"janela measure: {word} before it began\n"))
    assert not (tmp_path / "a.json").exists()


# ------------------------------------------------------------------------------------------------------------- compare


def kept(path: Path, report: Report) -> str:
    path.write_bytes(msgspec.json.encode(report))
    return str(path)


def test_two_runs_are_shown_side_by_side_with_what_differs(tmp_path: Path) -> None:
    a = kept(tmp_path / "a.json", new_report())
    b = kept(tmp_path / "b.json", new_report(sent=1200, scenario=Scenario(rate=5).model_dump(), machine="another"))
    shown = CliRunner().invoke(measure_app, ["compare", a, b])
    assert shown.exit_code == 0
    assert re.search(r"events sent +800 +1,200 +1\.50", shown.output)
    assert "The scenarios differ: rate" in shown.output
    assert "The machines differ: " in shown.output
    found = json.loads(CliRunner().invoke(measure_app, ["compare", a, b, "--json"]).output)
    assert found["events sent"] == {"a": 800, "b": 1200}


def test_any_percentile_of_two_runs_can_be_compared_from_the_histograms_that_they_kept(tmp_path: Path) -> None:
    slower = Delays()
    for ms in range(1, 1001):
        slower.note(ms * 2000)
    a = kept(tmp_path / "a.json", new_report())
    b = kept(tmp_path / "b.json", new_report(latency=Quantiles.of(slower)))
    options = ["compare", a, b, "--percentile", "25", "--percentile", "99.5", "--json"]
    found = json.loads(CliRunner().invoke(measure_app, options).output)
    assert [name for name in found if name.startswith("latency")] == [
        "latency p25, ms", "latency p99.5, ms", "latency max, ms",
    ]  # fmt: skip
    assert found["latency p25, ms"] == pytest.approx({"a": 250, "b": 500}, rel=0.002)
    assert found["latency p99.5, ms"] == pytest.approx({"a": 995, "b": 1990}, rel=0.002)


def test_a_report_whose_histogram_is_none_is_refused_by_name(tmp_path: Path) -> None:
    damaged = msgspec.structs.replace(new_report().latency, histogram="HISTFAAA")
    a, b = kept(tmp_path / "a.json", new_report()), kept(tmp_path / "b.json", new_report(latency=damaged))
    refused = CliRunner().invoke(measure_app, ["compare", a, b])
    assert refused.exit_code == 2
    assert "b.jsonisnoreportnohistogram" in re.sub(r"[^\w.]", "", refused.output)


@pytest.mark.parametrize("text", ["", "{}", "[1, 2]", None])
def test_a_file_that_is_no_report_is_refused_by_name(text: str | None, tmp_path: Path) -> None:
    a, b = kept(tmp_path / "a.json", new_report()), tmp_path / "b.json"
    if text is not None:
        b.write_text(text)
    refused = CliRunner().invoke(measure_app, ["compare", a, str(b)])
    assert refused.exit_code == 2
    assert "b.json" in re.sub(r"[^\w.]", "", refused.output)


@pytest.mark.parametrize("verb", ["load", "measure"])
def test_without_the_library_that_counts_delays_one_line_says_which_extra_brings_it(verb: str) -> None:
    absent = "import sys; sys.modules['hdrh.histogram'] = None; from processor.cli.main import main; main([%r])"
    ran = subprocess.run([sys.executable, "-c", absent % verb], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "hdrhistogram is not installed: `pip install 'janela-stream[load]'` brings it\n"
