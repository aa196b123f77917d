"""Spans of OpenTelemetry: one for each sampled input, and one for the commit of each transaction that had any.

An input's span (`process messages.inbound`) goes on in the input's trace, from when it arrived until it is committed,
and its context is what the outputs bear. It is sent once its transaction is committed, or, as an error, where that
failed; a worker that is killed sends nothing of what it had under way. The commit's span (`commit`) is in a trace of
its own and linked with the inputs, as the conventions want it of a batch.

No attribute comes from what a record says: topics, offsets, and words of closed lists.
Source: OpenTelemetry, semantic conventions for messaging spans and for Kafka (1.43).
"""

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from aiokafka import TopicPartition
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceState

from processor import __version__
from processor.codec.inputs import DeadLetter
from processor.codec.outputs import TOPICS
from processor.core.decisions import Decision, Rejected
from processor.settings import Settings, SettingsError
from processor.tracing.causes import causes
from processor.tracing.context import Context, read_context
from processor.tracing.tracer import UNTRACED, Header, Traced, Tracer, Traces

SPANS_A_SECOND_MAX: Final = 1_000
"""More inputs than this are not given spans of their own, and their contexts go on as they came: a span costs as much
CPU as ten events, and the SDK's queue holds 2,048."""
FLUSH_S: Final = 2.0
"""How long a worker that stops waits for a collector to take the last spans; one that fails waits for half of it."""
ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Input(NamedTuple):
    """An input that bears a context, and what it was decoded to."""

    tp: TopicPartition
    offset: int
    event: Any
    context: Context
    arrived_ns: int
    """Wall clock, ns since the epoch."""


class SpanTracer(Tracer):
    """Makes spans, and has them sent from a thread of the SDK's."""

    def __init__(self, settings: Settings) -> None:
        """Set the SDK up by its own environment (`OTEL_*`); nothing is sent before there is a span.

        Raises:
            SettingsError: An address in the environment is none, or the SDK does not take a value of it.
        """
        if lines := [_no_address(name) for name in ENDPOINTS if not _is_address(os.environ.get(name, ""))]:
            raise SettingsError(lines)
        ours = {
            "service.name": settings.app_id,
            "service.instance.id": settings.instance_id,
            "service.version": __version__,
        }
        try:
            resource = Resource(ours).merge(OTELResourceDetector().detect())  # the environment stands over ours
            self._provider = TracerProvider(resource=Resource.create(resource.attributes), shutdown_on_exit=False)
            self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        except ValueError as error:
            raise SettingsError([f"OTEL_* in the environment: {error}"]) from None
        self._tracer = self._provider.get_tracer("janela", __version__)
        self._group = settings.app_id
        self._open: dict[int, SpanTraced] = {}
        self._second_began_s = 0.0
        self._spans_of_second = 0

    def of_inputs(self, inputs: Sequence[TopicPartition]) -> Traces:
        """Begin the traces of a partition."""
        return SpanTraces(self, inputs)

    def on_committed(self, rounds: Iterable[Traced], seconds: float) -> None:
        """End the spans of these rounds, and link them with one of the commit."""
        committed = [round_ for round_ in rounds if isinstance(round_, SpanTraced) and round_.spans]
        if not committed:
            return
        ended_ns = time.time_ns()
        began_ns = ended_ns - int(seconds * 1e9)
        commit = self._start_commit([span for round_ in committed for span in round_.inputs], began_ns)
        for round_ in committed:
            del self._open[id(round_)]
            for span in round_.spans:
                span.add_link(commit.get_span_context())
                span.end(ended_ns)
        commit.end(ended_ns)

    def fail(self, error: BaseException) -> None:
        """End all that is not committed as failed, and send it."""
        failed = list(self._open.values())
        self._open.clear()
        for round_ in failed:
            for span in round_.spans:
                span.set_status(Status(StatusCode.ERROR, "not committed"))
                span.set_attribute("error.type", type(error).__name__)
                span.end()
        if failed:
            self._shut_down(FLUSH_S / 2)

    def stop(self) -> None:
        """Send what has not been sent."""
        self._shut_down(FLUSH_S)

    def start_process(self, it: Input) -> Span | None:
        """Begin the span of a sampled input; None where this second has had its share of them."""
        now_s = time.monotonic()
        if now_s - self._second_began_s >= 1:
            self._second_began_s, self._spans_of_second = now_s, 0
        if self._spans_of_second >= SPANS_A_SECOND_MAX:
            return None
        self._spans_of_second += 1
        attributes = self._attributes("process", "process") | {
            "messaging.destination.name": it.tp.topic,
            "messaging.destination.partition.id": str(it.tp.partition),
            "messaging.kafka.offset": it.offset,
        }
        parent = trace.set_span_in_context(NonRecordingSpan(_span_context(it.context)))
        return self._tracer.start_span(
            f"process {it.tp.topic}", parent, SpanKind.CONSUMER, attributes, start_time=it.arrived_ns
        )

    def hold(self, traced: "SpanTraced") -> None:
        """Remember the spans of a round until it is known what became of it."""
        self._open[id(traced)] = traced

    def _start_commit(self, inputs: Sequence[Input], began_ns: int) -> Span:
        links = [Link(_span_context(it.context)) for it in inputs]
        attributes = self._attributes("commit", "settle") | {"messaging.batch.message_count": len(inputs)}
        return self._tracer.start_span(
            "commit", kind=SpanKind.CLIENT, attributes=attributes, links=links, start_time=began_ns
        )

    def _attributes(self, name: str, type_: str) -> dict[str, str | int]:
        return {
            "messaging.system": "kafka",
            "messaging.operation.name": name,
            "messaging.operation.type": type_,
            "messaging.consumer.group.name": self._group,
        }

    def _shut_down(self, within_s: float) -> None:
        """Shut the SDK down, which sends what it has; its own waiting has no bound that could be set."""
        thread = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        thread.start()
        thread.join(within_s)


class SpanTraces(Traces):
    """The contexts of one partition's inputs. They are bounded as the buffers of these inputs are."""

    def __init__(self, tracer: SpanTracer, inputs: Sequence[TopicPartition]) -> None:
        """Begin with none."""
        self._tracer, self._inputs = tracer, inputs
        self._waiting: tuple[deque[Input], ...] = (deque(), deque())

    def note(self, side: int, decoded: Sequence[Any], records: Sequence[Any]) -> None:
        """Keep the contexts of records that have arrived."""
        arrived_ns, tp, waiting = time.time_ns(), self._inputs[side], self._waiting[side]
        for event, record in zip(decoded, records, strict=True):
            if record.headers and (context := read_context(record.headers)) is not None:
                waiting.append(Input(tp, record.offset, event, context, arrived_ns))

    def forget(self) -> None:
        """Forget what has arrived."""
        for waiting in self._waiting:
            waiting.clear()

    def take(self, positions: Sequence[int], outputs: Sequence[Decision]) -> Traced:
        """Give up what a round has passed, and begin its spans."""
        passed: list[Input] = []
        for waiting, position in zip(self._waiting, positions, strict=True):
            while waiting and waiting[0].offset < position:
                passed.append(waiting.popleft())
        return SpanTraced(self._tracer, passed, outputs) if passed else UNTRACED


class SpanTraced(Traced):
    """The spans of a round, and the contexts that its outputs bear."""

    def __init__(self, tracer: SpanTracer, passed: Sequence[Input], outputs: Sequence[Decision]) -> None:
        """Begin the spans of the inputs that the round has passed."""
        counts = Counter[str]()
        self.counts = counts
        self.inputs: list[Input] = []
        """Those that have spans, in the order of these."""
        self.spans: list[Span] = []
        self._outputs = len(outputs)
        self._contexts: dict[int, Context] = {}
        caused: dict[int, list[int]] = {}
        for place, cause in causes((it.event for it in passed), outputs).items():
            caused.setdefault(cause, []).append(place)
        for n, it in enumerate(passed):
            context, places = it.context, caused.get(n, [])
            span = tracer.start_process(it) if context.is_sampled else None
            counts["span" if span else "beyond-limit" if context.is_sampled else "not-sampled"] += 1
            if span is not None:
                self.inputs.append(it)
                self.spans.append(span)
                context = _context_of(span)
                _describe(span, it.event, [outputs[place] for place in places])
            self._contexts |= dict.fromkeys(places, context)
        if self.spans:
            tracer.hold(self)

    def headers(self, plain: list[Header]) -> Iterable[list[Header]]:
        """Give the headers of each output."""
        of_outputs = [plain] * self._outputs
        for place, context in self._contexts.items():
            of_outputs[place] = plain + context.headers
        return of_outputs


def _describe(span: Span, event: Any, outputs: Sequence[Decision]) -> None:
    """Say what came of an input."""
    if isinstance(event, DeadLetter):
        span.set_status(Status(StatusCode.ERROR, "dead letter"))
        span.set_attribute("error.type", event.reason)
    if outputs:
        span.set_attribute("janela.outputs", [TOPICS[type(output)] for output in outputs])
    if reasons := [output.reason for output in outputs if isinstance(output, Rejected)]:
        span.set_attribute("janela.rejection", reasons[0])


def _span_context(context: Context) -> SpanContext:
    _, trace_id, span_id, flags = context.traceparent.decode().split("-")
    state = TraceState.from_header([context.tracestate.decode()]) if context.tracestate else None
    return SpanContext(int(trace_id, 16), int(span_id, 16), True, trace.TraceFlags(int(flags, 16)), state)


def _context_of(span: Span) -> Context:
    it = span.get_span_context()
    parent = f"00-{trace.format_trace_id(it.trace_id)}-{trace.format_span_id(it.span_id)}-{it.trace_flags:02x}"
    return Context(parent.encode(), it.trace_state.to_header().encode())


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return not text or (parts.scheme in ("http", "https") and bool(parts.hostname))


def _no_address(name: str) -> str:
    found = os.environ[name]
    return f'{name}: found "{found}"; allowed: the URL of a collector, such as "http://127.0.0.1:4318"'
