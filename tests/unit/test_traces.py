"""Traces of an owner's rounds: what goes on which output, which spans there are, and what becomes of them."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.record.default_records import DefaultRecord
from aiokafka.record.memory_records import MemoryRecords
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from processor.audit.records import rfc3339
from processor.kafka.log import LogEnds
from processor.settings import Settings, SettingsError
from processor.stream.owner import Owner, Round
from processor.stream.transport import Carrier
from processor.topics import names
from processor.tracing import spans
from processor.tracing.causes import causes
from processor.tracing.spans import SpanTracer
from processor.tracing.tracer import UNTRACED, Tracer, create_tracer
from tests.collector import Collector, attributes
from tests.scene import DAY, HOUR, MINUTE, OTHER_KEY, SECOND, T0, Scene, said, sent

IN, OUT = TopicPartition("messages.inbound", 0), TopicPartition("messages.outbound", 0)
SETTINGS = Settings(partitions=1, clock="event", traces="otlp", instance_id="worker-1", app_id="inbox")
TRACE = "0af7651916cd43dd8448eb211c80319c"
SAMPLED = ("traceparent", f"00-{TRACE}-b7ad6b7169203331-01".encode())
NOT_SAMPLED = ("traceparent", f"00-{TRACE}-b7ad6b7169203331-00".encode())
STATE = ("tracestate", b"vendor=1")

Headers = list[tuple[str, bytes]]
MakeTracer = Callable[[], SpanTracer]


@pytest.fixture
def span_tracer(collector: Collector) -> Iterator[MakeTracer]:  # noqa: ARG001  # the environment names it
    """Make tracers whose threads end with the test.

    One that is still trying draws from `random` whenever it likes; Hypothesis takes that for a strategy's doing.
    """
    made: list[SpanTracer] = []

    def make() -> SpanTracer:
        made.append(SpanTracer(SETTINGS))
        return made[-1]

    yield make
    for tracer in made:
        tracer.stop()


class Bench:
    """An owner whose inputs are read to their ends."""

    def __init__(self, tracer: Tracer, batch_records_max: int = 100) -> None:
        self.tracer = tracer
        settings = SETTINGS.model_copy(update={"batch_records_max": batch_records_max})
        self.owner = Owner(0, settings, settings.policy(), names(settings), tracer)
        self.end = {IN: 0, OUT: 0}

    def put(self, tp: TopicPartition, after: int, headers: Headers, contact: str = "1", value: bytes = b"") -> None:
        """Let a text arrive."""
        at, time_ms = self.end[tp], T0 + after
        body = {"id": f"{tp.topic}{at}", "type": "text", "business_id": "1", "contact_id": contact}
        value = value or json.dumps(body | {"time": rfc3339(time_ms)}).encode()
        record = DefaultRecord(at, time_ms, 0, f"whatsapp:1:{contact}".encode(), value, headers)
        self.end[tp] += 1
        assert self.owner.accept(Carrier(tp, at, at + 1, 0, [record]))

    def decide(self) -> Round:
        round_ = self.owner.decide(LogEnds(T0, self.end), T0)
        assert round_ is not None
        return round_

    def commit(self) -> Round:
        """Decide, and say that it was committed in half a second."""
        round_ = self.decide()
        self.tracer.on_committed([round_.traced], 0.5)
        return round_


def written(round_: Round) -> dict[str, list[DefaultRecord]]:
    """Read a round's records back from its batches, by topic."""
    found: dict[str, list[DefaultRecord]] = {}
    for batch in round_.batches:
        memory = MemoryRecords(bytes(batch._build()))
        while (of_batch := memory.next_batch()) is not None:
            found.setdefault(batch.tp.topic, []).extend(of_batch)
    return found


def context_of(record: DefaultRecord) -> dict[str, bytes]:
    """Give what a record bears of a trace."""
    return {name: value for name, value in record.headers if name.startswith("trace")}


def one(found: list[Span]) -> Span:
    (span,) = found
    return span


# ------------------------------------------------------------------------------------------------- which input it was


def played(*events: Any) -> list[tuple[str, int | None]]:
    """Apply events to a partition; give what came of them, and of which each came."""
    scene = Scene()
    told = scene.play(*events)
    found = causes(events, scene.decisions)
    return [(it, found.get(place)) for place, it in enumerate(told)]


def test_a_verdict_comes_of_its_send_and_an_opening_of_its_message() -> None:
    assert played(said(0), said(1, id_="m2"), sent(2), sent(3, key=OTHER_KEY, id_="s2")) == [
        ("opened", 0),
        ("accepted s1: window-open", 2),
        ("rejected s2: no-window", 3),
    ]


def test_what_comes_of_time_comes_of_no_input_also_where_an_input_moved_the_clock() -> None:
    assert played(said(0), said(30 * HOUR, key=OTHER_KEY)) == [
        ("opened", 0),
        ("expiring 7200", None),
        ("closed", None),
        ("opened", 1),
    ]


def test_a_warning_that_is_past_at_the_opening_comes_of_the_message_that_opened() -> None:
    """E1a"""
    ahead = said(23 * HOUR, key=OTHER_KEY)
    assert played(ahead, said(0)) == [("opened", 0), ("opened", 1), ("expiring 7200", 1)]


def test_of_a_message_that_came_twice_the_first_one_opened() -> None:
    assert played(said(0), said(0)) == [("opened", 0)]


def test_a_window_that_opens_anew_comes_of_the_newer_message() -> None:
    found = played(said(0), said(25 * HOUR, id_="m2"))
    assert [it for it in found if it[0] == "opened"] == [("opened", 0), ("opened", 1)]


# --------------------------------------------------------------------------------------------------------------- off


def test_without_the_setting_records_are_the_same_bytes_whatever_inputs_bear() -> None:
    plain, bearing = Bench(create_tracer(Settings())), Bench(create_tracer(Settings()))
    for bench, headers in ((plain, []), (bearing, [SAMPLED, STATE])):
        bench.put(IN, 0, headers)
        bench.put(OUT, SECOND, headers)
    first, second = plain.decide(), bearing.decide()
    assert [bytes(it._build()) for it in first.batches] == [bytes(it._build()) for it in second.batches]
    assert first.traced is second.traced is UNTRACED


def test_with_the_setting_records_are_the_same_bytes_where_no_input_bears_a_context(
    span_tracer: MakeTracer,
) -> None:
    off, on = Bench(Tracer()), Bench(span_tracer())
    for bench in (off, on):
        bench.put(IN, 0, [("other", b"1"), ("traceparent", b"nonsense"), STATE])
        bench.put(OUT, SECOND, [])
    first, second = off.decide(), on.decide()
    assert [bytes(it._build()) for it in first.batches] == [bytes(it._build()) for it in second.batches]


def test_a_worker_that_was_not_asked_for_traces_imports_nothing_of_them() -> None:
    told = (
        "import sys; from processor.cli import worker; from processor.settings import Settings;"
        "from processor.ops.instruments import Instruments; from processor.stream.app import create_app;"
        "create_app(Settings(), Instruments()); print([it for it in sys.modules if it.startswith('opentelemetry')])"
    )
    ran = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_traces_without_the_extra_are_refused_in_one_line() -> None:
    absent = "import sys; sys.modules['opentelemetry'] = None; from processor.cli.main import main; main(['worker'])"
    environment = {"JANELA_TRACES": "otlp", "PATH": ""}
    ran = subprocess.run([sys.executable, "-c", absent], capture_output=True, text=True, check=False, env=environment)
    assert ran.returncode == 2
    assert ran.stderr == (
        'JANELA_TRACES (traces): found "otlp", and OpenTelemetry is not installed:'
        " `pip install 'janela-stream[otel]'` brings it, or set it to \"off\"\n"
    )


def test_an_address_that_is_none_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")
    with pytest.raises(SettingsError) as refused:
        create_tracer(SETTINGS)
    (line,) = refused.value.lines
    assert line.startswith('OTEL_EXPORTER_OTLP_ENDPOINT: found "collector:4318"; allowed: the URL of a collector')


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::1"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "5000"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many"),
    ],
)
def test_what_the_sdk_does_not_take_is_refused_in_one_line(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        create_tracer(SETTINGS)
    (line,) = refused.value.lines
    assert line.startswith("OTEL_")


# ------------------------------------------------------------------------------------------------------------- spans


def test_an_output_bears_the_context_of_the_span_of_its_input(collector: Collector, span_tracer: MakeTracer) -> None:
    bench = Bench(span_tracer())
    bench.put(IN, 0, [SAMPLED, STATE])
    (opened,) = written(bench.commit())["window-opened"]
    bench.tracer.stop()
    span, commit = one(collector.spans("process messages.inbound")), one(collector.spans("commit"))
    assert span.trace_id.hex() == TRACE
    assert span.parent_span_id.hex() == "b7ad6b7169203331"
    assert context_of(opened) == {
        "traceparent": f"00-{TRACE}-{span.span_id.hex()}-01".encode(),
        "tracestate": b"vendor=1",
    }
    assert span.kind == Span.SPAN_KIND_CONSUMER
    assert attributes(span) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.consumer.group.name": "inbox",
        "messaging.destination.name": "messages.inbound",
        "messaging.destination.partition.id": "0",
        "messaging.kafka.offset": 0,
        "janela.outputs": ["window-opened"],
    }
    assert [it.span_id for it in commit.links] == [bytes.fromhex("b7ad6b7169203331")]
    assert [it.span_id for it in span.links] == [commit.span_id]
    assert commit.trace_id != span.trace_id
    assert commit.end_time_unix_nano - commit.start_time_unix_nano == 500_000_000
    assert {it["service.name"] for it in collector.resources} == {"inbox"}


def test_an_input_that_is_not_sampled_gets_no_span_and_its_context_goes_on_as_it_came(
    collector: Collector, span_tracer: MakeTracer
) -> None:
    bench = Bench(span_tracer())
    bench.put(IN, 0, [NOT_SAMPLED, STATE])
    round_ = bench.commit()
    (opened,) = written(round_)["window-opened"]
    bench.tracer.stop()
    assert context_of(opened) == dict([NOT_SAMPLED, STATE])
    assert round_.traced.counts == {"not-sampled": 1}
    assert collector.bodies == []


def test_a_verdict_bears_its_sends_context_and_the_span_says_why_it_was_refused(
    collector: Collector, span_tracer: MakeTracer
) -> None:
    bench = Bench(span_tracer())
    bench.put(IN, 0, [])
    bench.put(OUT, SECOND, [SAMPLED])
    bench.put(OUT, SECOND, [SAMPLED], contact="2")
    records = written(bench.commit())
    bench.tracer.stop()
    first, second = collector.spans("process messages.outbound")
    assert context_of(records["window-opened"][0]) == {}
    assert context_of(records["send-accepted"][0])["traceparent"].split(b"-")[2] == first.span_id.hex().encode()
    assert context_of(records["send-rejected"][0])["traceparent"].split(b"-")[2] == second.span_id.hex().encode()
    assert attributes(second)["janela.outputs"] == ["send-rejected"]
    assert attributes(second)["janela.rejection"] == "no-window"
    assert context_of(records["window-state"][0]) == {}


def test_a_record_that_can_not_be_read_has_a_span_that_says_so_and_its_dead_letter_bears_what_it_bore(
    collector: Collector, span_tracer: MakeTracer
) -> None:
    bench = Bench(span_tracer())
    bench.put(IN, 0, [SAMPLED], value=b"noise")
    (letter,) = written(bench.commit())["dead-letters"]
    bench.tracer.stop()
    span = one(collector.spans("process messages.inbound"))
    assert context_of(letter) == dict([SAMPLED])
    assert (span.status.code, span.status.message) == (Status.STATUS_CODE_ERROR, "dead letter")
    assert attributes(span)["error.type"] == "not-json"


def test_a_message_that_waits_for_the_other_topic_is_taken_by_the_round_that_applies_it(
    span_tracer: MakeTracer,
) -> None:
    bench = Bench(span_tracer())
    bench.put(OUT, 0, [SAMPLED])
    assert bench.owner.decide(LogEnds(T0, {IN: 1, OUT: 1}), T0) is None
    bench.put(IN, MINUTE, [], contact="2")
    assert bench.commit().traced.counts == {"span": 1}
    bench.put(IN, 2 * MINUTE, [], contact="2")
    assert bench.commit().traced is UNTRACED  # it was taken once


def test_what_a_round_does_not_come_to_is_left_to_the_next_one(span_tracer: MakeTracer) -> None:
    bench = Bench(span_tracer(), batch_records_max=1)
    for n in range(2):
        bench.put(IN, n, [SAMPLED], contact=str(n))
    for _ in range(2):
        round_ = bench.commit()
        assert round_.traced.counts == {"span": 1}
        assert "traceparent" in context_of(written(round_)["window-opened"][0])


def test_contexts_of_what_was_forgotten_go_with_it(span_tracer: MakeTracer) -> None:
    bench = Bench(span_tracer())
    bench.put(IN, 0, [SAMPLED])
    bench.owner.stand_at((1, 0))
    bench.put(IN, DAY, [])
    assert bench.commit().traced is UNTRACED


def test_a_round_that_failed_is_sent_as_failed_and_one_that_was_committed_is_not(
    collector: Collector, span_tracer: MakeTracer
) -> None:
    bench = Bench(span_tracer())
    bench.put(IN, 0, [SAMPLED])
    bench.commit()
    bench.put(IN, SECOND, [SAMPLED])
    bench.decide()
    bench.tracer.fail(OSError("the broker is away"))
    committed, failed = collector.spans("process messages.inbound")
    assert committed.status.code == Status.STATUS_CODE_UNSET
    assert (failed.status.code, failed.status.message) == (Status.STATUS_CODE_ERROR, "not committed")
    assert attributes(failed)["error.type"] == "OSError"
    assert len(collector.spans("commit")) == 1


def test_a_round_that_is_not_over_sends_nothing_when_the_worker_stops(
    collector: Collector, span_tracer: MakeTracer
) -> None:
    bench = Bench(span_tracer())
    bench.put(IN, 0, [SAMPLED])
    bench.decide()
    bench.tracer.stop()
    assert collector.bodies == []


def test_beyond_the_limit_of_a_second_contexts_go_on_as_they_came(
    span_tracer: MakeTracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spans, "SPANS_A_SECOND_MAX", 2)
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    bench = Bench(span_tracer())
    for n in range(4):
        bench.put(IN, n, [SAMPLED], contact=str(n))
    round_ = bench.decide()
    contexts = [context_of(it)["traceparent"] for it in written(round_)["window-opened"]]
    assert round_.traced.counts == {"span": 2, "beyond-limit": 2}
    assert contexts[2:] == [SAMPLED[1], SAMPLED[1]]
    assert SAMPLED[1] not in contexts[:2]
    monkeypatch.setattr(time, "monotonic", lambda: 101.0)
    bench.put(IN, SECOND, [SAMPLED], contact="9")
    assert bench.decide().traced.counts == {"span": 1}


def test_the_environment_of_the_sdk_stands_over_our_names_and_its_sampler_is_obeyed(
    collector: Collector, span_tracer: MakeTracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "windows")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")  # of commits, which have no parent
    bench = Bench(span_tracer())
    bench.put(IN, 0, [SAMPLED])
    bench.commit()
    bench.tracer.stop()
    assert [it.name for it in collector.spans()] == ["process messages.inbound"]
    assert {it["service.name"] for it in collector.resources} == {"windows"}


def test_a_collector_that_does_not_answer_is_not_waited_for_at_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
        monkeypatch.setattr(spans, "FLUSH_S", 0.2)
        bench = Bench(SpanTracer(SETTINGS))
        bench.put(IN, 0, [SAMPLED])
        bench.commit()
        bench.tracer.stop()
        (at_it,) = (it for it in threading.enumerate() if it.name == "last spans")  # it is, and we are not
        at_it.join()
