"""What `janela measure` counts, and how it shows it: whose outputs are whose, quantiles, plots that can be parsed."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
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
    TopicAuthorizationFailedError,
)
from prometheus_client import generate_latest
from typer import BadParameter, Exit
from typer.testing import CliRunner

from processor.cli import measured
from processor.cli.measure import measure_app
from processor.cli.measured import Kept
from processor.codec.times import format_time
from processor.kafka.unread import Unread
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
    Remote,
    Restore,
    WorkerFigures,
    Workers,
    _Account,
    is_same,
    read_meter,
    read_metrics,
    scrape,
)  # fmt: skip
from processor.ops.metrics import Metrics, catalogue
from processor.settings import Settings
from tests.documents import ROOT

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


@pytest.mark.parametrize(
    ("topic", "value"),
    [
        ("window-opened", b"{}"),
        ("window-opened", b"\xff"),
        ("window-opened", b"[" * 5000),
        ("window-closed", None),
        ("window-closed", Unread(2_000_000, "ab" * 32)),
    ],
)
def test_what_no_worker_has_written_is_counted_and_costs_nothing(topic: str, value: Any) -> None:
    delivery = begun()
    note(delivery, topic, value, BEGIN.begin_us)
    note(delivery, "window-opened", output(), BEGIN.begin_us + 1000)
    assert (sum(delivery.counts.values()), delivery.unreadable, delivery.received) == (2, 1, 1)


@pytest.mark.parametrize("id_", ["load-1-x", "load-1-x.", "load-1-7.²", "load-1-7.-5", f"load-1-7.{'9' * 5000}"])
def test_an_id_that_is_like_one_of_the_loads_and_is_none_is_nobodys(id_: str) -> None:
    delivery = begun()
    note(delivery, "window-opened", output(data={"cause": {"id": id_}}), BEGIN.begin_us)
    assert (delivery.counts["window-opened"], delivery.unreadable, delivery.received) == (1, 0, 0)


def test_an_output_that_names_its_cause_on_a_topic_where_none_does_is_not_timed() -> None:
    delivery = begun()
    note(delivery, "window-expiring", output(), BEGIN.begin_us)
    assert (delivery.counts["window-expiring"], delivery.received) == (1, 0)


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


async def test_a_process_that_an_address_tells_of_too_is_counted_once(capsys: pytest.CaptureFixture[str]) -> None:
    mine, parents = read_meter(os.getpid()), read_meter(os.getppid())
    assert mine is not None
    assert parents is not None
    told = read_metrics(generate_latest(Metrics().registry).decode())
    assert is_same(mine, told)
    assert not is_same(parents, told)
    remotes = {Remote("10.0.0.7:9464"): told}
    found = [each.name for each in measured._others([os.getpid(), os.getppid(), os.getppid()], remotes)]
    assert found == [f"pid {os.getppid()}"]
    assert capsys.readouterr().err == (
        f"janela measure: process {os.getpid()} is the worker at 10.0.0.7:9464, and is counted once\n"
    )


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


async def test_timers_that_are_later_than_the_largest_bound_stay_in_report_and_comparison() -> None:
    worker = Scripted()
    workers = Workers([worker])
    await workers.read(None)
    for _ in range(50):
        worker.metrics.timer_lateness_seconds.observe(0.01)
        worker.metrics.timer_lateness_seconds.observe(1e9)
    await workers.read(1.0)
    bounds = [bound for bound in (await worker.read()).told.lateness if bound != float("inf")]  # type: ignore[union-attr]
    (found,) = workers.figures()
    assert (found.timers_late_p99_s, found.timers_are_later) == (max(bounds), True)
    again = msgspec.json.decode(msgspec.json.encode(new_report(workers=[found])), type=Report)
    told = figures(again)
    assert (told["workers' timers late p99, s"], told["workers beyond that bound"]) == (max(bounds), 1)


def test_what_a_worker_counted_of_a_million_timers_is_summed_up_without_a_list_of_them() -> None:
    account = _Account("w")
    account.lateness.update({0.1: 10**9, 0.5: 10**9})
    assert account.figures().timers_late_p99_s == 0.5


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
        self.events, self.processes = 5, 1

    async def follow(self, *_: Any) -> Tally:
        return Tally()


class TakesItsLeave(Nothing):
    """A hundred records that are all on the topics after a tenth of a second; to take leave it needs a whole one."""

    async def follow(self, begun: Any, on_tally: Any, _: asyncio.Event) -> Tally:
        begin_us = time.time_ns() // 1000
        begun(LoadMoments(begin_us, begin_us, 1))
        await asyncio.sleep(0.1)
        tally = Tally(made=100, acknowledged=100, ended_us=time.time_ns() // 1000, is_whole=True)
        on_tally(tally)
        await asyncio.sleep(1)
        return tally


class GoesOn(Nothing):
    """Traffic for an hour, unless it is stopped."""

    async def follow(self, begun: Any, _: Any, stopped: asyncio.Event) -> Tally:
        begin_us = time.time_ns() // 1000
        begun(LoadMoments(begin_us, begin_us, 1))
        await asyncio.wait_for(stopped.wait(), 3600)
        return Tally(made=7, acknowledged=7, ended_us=time.time_ns() // 1000)


class AtEnd(Receiver):
    """Has taken all there was, and has no clients."""

    def __init__(self, *_: Any) -> None:
        pass

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def take(self) -> int:
        await asyncio.sleep(0.01)
        return 0

    async def is_at_end(self) -> bool:
        return True


class Denied(AtEnd):
    """Is not let in any more, after a while."""

    async def take(self) -> int:
        await asyncio.sleep(0.05)
        raise TopicAuthorizationFailedError("acme.window-opened")


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
    running._sent.set()
    draining = asyncio.create_task(running._drained(AtEnd(), lag, asyncio.Event()))
    await asyncio.sleep(0.05)
    assert not draining.done()
    brokers.error = None
    assert await draining


async def without_brokers(monkeypatch: pytest.MonkeyPatch, traffic: Nothing, receiver: type[Receiver]) -> Report:
    """Measure traffic whose group has committed everything."""
    lag = await lag_at(brokers := Brokers(100))

    async def nothing(*_: Any) -> str:
        return ""

    for name in ("start", "stop", "close"):
        monkeypatch.setattr(brokers, name, nothing, raising=False)
    monkeypatch.setattr(run, "Receiver", receiver)
    monkeypatch.setattr(run, "Lag", lambda _: lag)
    monkeypatch.setattr(run, "cluster_of", nothing)
    settings = Settings(bootstrap_servers="nowhere:1", partitions=1)
    report = await Run(settings, traffic, [], drain_s=5).measured(lambda _: None, asyncio.Event())
    assert report is not None
    return report


async def test_events_a_second_are_over_the_time_until_they_were_consumed_and_not_until_the_load_has_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    report = await without_brokers(monkeypatch, TakesItsLeave(), AtEnd)
    assert report.is_whole
    assert 0.1 <= report.send_seconds <= report.seconds < 0.6
    assert report.events_a_second == pytest.approx(100 / report.seconds, rel=0.01)


async def test_where_the_outputs_can_not_be_followed_any_more_the_load_is_ended_and_the_report_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with asyncio.timeout(20):
        report = await without_brokers(monkeypatch, GoesOn(), Denied)
    assert (report.is_whole, report.sent) == (False, 7)
    assert re.fullmatch(r"the watch ended \(TopicAuthorizationFailedError: .* acme.window-opened\)", report.error)
    assert report.error in page(report)
    assert any(report.error in fault for fault in report.faults())


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


def test_on_a_full_disk_the_figures_are_printed_all_the_same_and_a_line_says_what_is_not_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    is_kept = measured._keep(new_report(), Kept(Path("/dev/full"), tmp_path / "a.html", as_json=False))
    out, err = capsys.readouterr()
    assert not is_kept
    assert re.search(r"events sent +800\n", out)
    assert err == "janela measure: /dev/full can't be written: No space left on device\n"
    assert "<svg" in (tmp_path / "a.html").read_text()


def test_a_report_takes_the_place_of_another_at_once_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file := tmp_path / "a.json").write_text("the one before")
    (link := tmp_path / "link.json").symlink_to(file)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        assert not measured._keep(new_report(), Kept(link, None, as_json=False))
    assert file.read_text() == "the one before"
    assert measured._keep(new_report(), Kept(link, None, as_json=False))
    assert (json.loads(file.read_text())["sent"], link.is_symlink()) == (800, True)
    assert sorted(tmp_path.iterdir()) == [file, link]


def test_one_file_for_report_and_page_is_refused(tmp_path: Path) -> None:
    places = Kept(tmp_path / "a", tmp_path / "." / "b" / ".." / "a", as_json=False)
    with pytest.raises(BadParameter, match="for both"):
        measured._refuse_what_cannot_be_kept(places)


@pytest.mark.parametrize("arguments", [("measure", "compare", "a.json", "a.json"), ("load", "--dry-run")])
def test_a_stdout_that_can_not_be_written_costs_a_line_and_exit_code_1(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    kept(tmp_path / "a.json", new_report())
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "processor", *arguments]
        ran = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    words = f"janela {arguments[0]}: stdout can't be written: No space left on device\n"
    assert (ran.returncode, ran.stderr) == (1, words)


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
    assert "\nscenario rate: 1000.0; 5.0\n" in shown.output
    assert shown.output.endswith("; another\n")
    found = json.loads(CliRunner().invoke(measure_app, ["compare", a, b, "--json"]).output)
    assert found["events sent"] == {"a": 800, "b": 1200}
    assert found["differences"]["scenario rate"] == {"a": 1000.0, "b": 5.0}
    assert found["differences"]["machine"]["b"] == "another"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("partitions", 64), ("processes", 2), ("warm_up_s", 5.0), ("drain_s", 1.0), ("janela", "9.9"),
        ("python", "3.99"), ("client", "aiokafka 9"), ("kafka", "metadata.version 99"),
    ],
)  # fmt: skip
def test_whatever_else_two_runs_differ_in_is_named(name: str, value: Any, tmp_path: Path) -> None:
    """A report of before it was kept tells nothing."""
    a, b = kept(tmp_path / "a.json", new_report()), kept(tmp_path / "b.json", new_report(**{name: value}))
    shown = CliRunner().invoke(measure_app, ["compare", a, b])
    assert [line for line in shown.output.splitlines() if line.startswith(f"{name}: ") and line.endswith(f"; {value}")]
    found = json.loads(CliRunner().invoke(measure_app, ["compare", a, b, "--json"]).output)
    assert list(found["differences"]) == [name]
    assert "differs" not in CliRunner().invoke(measure_app, ["compare", a, a]).output


def test_names_of_files_are_shown_as_they_are_and_whole_where_there_is_no_terminal(tmp_path: Path) -> None:
    names = f"[bold]{'a' * 90}.json", f":cat: {'b' * 90}[/].json".replace("/", "")
    shown = CliRunner().invoke(measure_app, ["compare", *(kept(tmp_path / name, new_report()) for name in names)])
    assert re.search(rf"{re.escape(names[0])} +{re.escape(names[1])}", shown.output)


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
