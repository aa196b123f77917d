"""A worker with traces, against a real Kafka and a collector that the SDK's own exporter speaks to over HTTP."""

import json
import signal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiokafka import ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from processor.audit.findings import OUTPUTS
from processor.audit.reading import verify
from processor.audit.records import TopicKind
from processor.settings import Settings
from processor.stream.engine import EXIT_FAILED
from tests.chaos.backlog import HOUR_MS, Wanted
from tests.chaos.harness import Stage, Worker
from tests.chaos.test_refused_outputs import TRIES, configure, operator
from tests.collector import Collector, attributes
from tests.integration.test_worker import READY_S, contact_on, now_ms, said, stopped

pytestmark = pytest.mark.timeout(300)

PLAIN = {"content-type", "janela-round"}
"""The headers of an output that no trace goes through."""
TRACES = {name: f"{n}" * 32 for n, name in enumerate(("opened", "sent", "not sampled", "silent", "again"), 1)}
PARENT = "b7ad6b7169203331"


class Output(NamedTuple):
    """An output as a consumer reads it; `name` says what it is and, in a word, of what: such as `opened m1`."""

    name: str
    value: dict[str, Any]
    headers: dict[str, bytes]

    @property
    def trace(self) -> tuple[str, str, str]:
        """Which trace it is in, after which span, and its flags; empty where in none."""
        _, trace_id, span_id, flags = self.headers.get("traceparent", b"---").decode().split("-")
        return trace_id, span_id, flags


async def outputs(stage: Stage) -> list[Output]:
    """Read all outputs, committed ones only."""
    found = await stage.records(*OUTPUTS)
    return [_output(record) for records in found.values() for record in records]


def _output(record: ConsumerRecord) -> Output:
    value = json.loads(record.value)
    kind, data = value["type"].split(".")[2], value["data"]
    of = {"opened": "cause", "accepted": "send"}.get(kind)
    return Output(f"{kind} {data[of]['id']}" if of else kind, value, dict(record.headers))


def traced(wanted: Wanted, trace_id: str, flags: str = "01") -> Wanted:
    """Let a record come out of a trace."""
    parent = f"00-{trace_id}-{PARENT}-{flags}".encode()
    return wanted._replace(headers=(("traceparent", parent), ("tracestate", b"vendor=1")))


def story() -> list[Wanted]:
    """Give two contacts' records, each on a partition of its own: a window, a send, and a message after its end."""
    first_ms = now_ms() - 40 * HOUR_MS

    def text(kind: TopicKind, partition: int, after_ms: int, id_: str) -> Wanted:
        return said(kind, contact_on(partition), first_ms + after_ms, id_, partition)

    return [
        traced(text("inbound", 0, 0, "m1"), TRACES["opened"]),
        traced(text("inbound", 0, 1, "m2"), TRACES["silent"]),
        traced(text("inbound", 1, 2, "m3"), TRACES["not sampled"], "00"),
        traced(text("outbound", 0, 3, "s1"), TRACES["sent"]),
        text("outbound", 1, 4, "s2")._replace(headers=(("traceparent", b"00-" + b"0" * 52),)),
        *(traced(text("inbound", partition, 30 * HOUR_MS, "m4"), TRACES["again"]) for partition in (0, 1)),
    ]


async def consumed(stage: Stage, traces: str = "otlp") -> Worker:
    """Let a worker consume all there is, and end as it should."""
    worker = stage.worker("w", traces=traces)
    await stage.until_consumed(READY_S)
    await stopped(worker)
    return worker


def of_trace(collector: Collector, trace_id: str) -> list[Span]:
    return [it for it in collector.spans() if it.trace_id.hex() == trace_id]


async def test_the_trace_of_an_input_goes_on_in_the_outputs_that_it_caused(
    settings: Settings, tmp_path: Path, collector: Collector
) -> None:
    async with Stage.open(settings, tmp_path) as stage:
        await stage.preload(story())
        await consumed(stage)
        found = await outputs(stage)
        verdict = await verify(settings)
    assert verdict.is_clean, verdict
    told = {it.name: it for it in found}
    (opening,), (send,), (silent,) = (of_trace(collector, TRACES[it]) for it in ("opened", "sent", "silent"))
    again = of_trace(collector, TRACES["again"])
    assert told["opened m1"].trace == (TRACES["opened"], opening.span_id.hex(), "01")
    assert told["accepted s1"].trace == (TRACES["sent"], send.span_id.hex(), "01")
    assert told["opened m3"].trace == (TRACES["not sampled"], PARENT, "00")
    assert told["opened m1"].headers["tracestate"] == told["opened m3"].headers["tracestate"] == b"vendor=1"
    assert {it.trace[1] for it in found if it.name == "opened m4"} == {it.span_id.hex() for it in again}
    assert {it.parent_span_id.hex() for it in (opening, send, silent, *again)} == {PARENT}
    assert of_trace(collector, TRACES["not sampled"]) == []
    assert "janela.outputs" not in attributes(silent)
    untraced = [it.name for it in found if it.headers.keys() == PLAIN]
    assert sorted(untraced) == ["accepted s2", "closed", "closed", "expiring", "expiring"]
    linked = {link.span_id.hex() for commit in collector.spans("commit") for link in commit.links}
    assert linked == {PARENT}


async def test_without_the_setting_outputs_are_what_they_are_where_nobody_traces(
    settings: Settings, tmp_path: Path, collector: Collector
) -> None:
    records = story()
    read: list[list[Output]] = []
    for name in ("bare", "off", "on"):
        there = settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}{name}."})
        (tmp_path / name).mkdir()
        async with Stage.open(
            there.model_copy(update={"app_id": f"{settings.app_id}.{name}"}), tmp_path / name
        ) as stage:
            await stage.preload(it._replace(headers=()) if name == "bare" else it for it in records)
            await consumed(stage, traces="otlp" if name == "on" else "off")
            read.append(await outputs(stage))
        assert bool(collector.bodies) is (name == "on")
    hangs_on_the_run = {"source": "", "sequence": ""}  # the group's name, and where rounds begin
    bare, off, on = ([it.value | hangs_on_the_run for it in found] for found in read)
    assert bare == off == on
    assert [it.headers.keys() for it in read[1]] == [PLAIN] * len(off)
    assert [it.headers["content-type"] for it in read[1]] == [it.headers["content-type"] for it in read[0]]


async def test_a_round_that_is_done_again_after_a_kill_is_seen_once_and_in_the_same_trace(
    settings: Settings, tmp_path: Path, collector: Collector
) -> None:
    async with Stage.open(settings, tmp_path) as stage:
        await stage.preload(story())
        first = stage.worker("first", failpoint="records-delivered:1", traces="otlp")
        assert await first.ended(READY_S) == -signal.SIGKILL
        await stage.evict(first)
        assert await stage.open_transactions()
        assert collector.bodies == []  # nothing that is not committed has been told
        await consumed(stage)
        found = [it for it in await outputs(stage) if it.trace[0] == TRACES["opened"]]
        verdict = await verify(settings)
    assert verdict.is_clean, verdict
    (output,), (span,) = found, of_trace(collector, TRACES["opened"])
    assert output.trace[1] == span.span_id.hex()
    assert {it["service.instance.id"] for it in collector.resources} == {"w"}


async def test_a_transaction_that_fails_is_told_as_an_error_and_its_successors_as_done(
    settings: Settings, tmp_path: Path, collector: Collector
) -> None:
    async with Stage.open(settings, tmp_path) as stage, operator(settings) as admin:
        await limited(admin, stage, {"max.message.bytes": "300"})
        await stage.preload(story())
        failing = stage.worker("failing", traces="otlp", **TRIES)
        assert await failing.ended(READY_S) == EXIT_FAILED, failing.told()
        await stage.evict(failing)
        (failed,) = of_trace(collector, TRACES["opened"])
        assert (failed.status.code, failed.status.message) == (Status.STATUS_CODE_ERROR, "not committed")
        assert collector.spans("commit") == []
        await limited(admin, stage, {})
        await consumed(stage)
        (output,) = [it for it in await outputs(stage) if it.trace[0] == TRACES["opened"]]
        verdict = await verify(settings)
    assert verdict.is_clean, verdict
    _, done = of_trace(collector, TRACES["opened"])
    assert done.status.code == Status.STATUS_CODE_UNSET
    assert output.trace[1] == done.span_id.hex()


async def limited(admin: AIOKafkaAdminClient, stage: Stage, more: dict[str, str]) -> None:
    """Give `window-opened` a limit that no event fits in, or take it away."""
    await configure(admin, stage.names["window-opened"], more)


async def test_a_collector_that_is_away_is_no_concern_of_the_outputs(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    async with Stage.open(settings, tmp_path) as stage:
        await stage.preload(story())
        worker = await consumed(stage)
        found = await outputs(stage)
        verdict = await verify(settings)
    assert verdict.is_clean, verdict
    assert TRACES["opened"] in {it.trace[0] for it in found}
    assert not any("Traceback" in it for it in worker.lines())
