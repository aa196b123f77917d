"""A collector of spans: a server on a port of its own that takes what OpenTelemetry's exporter posts, and keeps it."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

PATH: Final = "/v1/traces"
POLL_S: Final = 0.02
"""How soon it hears that it is to end."""


class Collector:
    """What came to `address`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.bodies: list[bytes] = []
        """As they were posted, OTLP in protobuf."""

    @property
    def environment(self) -> dict[str, str]:
        """What a worker's environment has to say for its spans to come here, and soon."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.address, "OTEL_BSP_SCHEDULE_DELAY": "100"}

    @property
    def resources(self) -> list[dict[str, Any]]:
        """The attributes of each program that has sent something."""
        return [_values(it.resource.attributes) for it in self._resource_spans()]

    def spans(self, name: str = "") -> list[Span]:
        """Give what came, of one name or of any, in the order in which it came."""
        spans = [it for resource in self._resource_spans() for scope in resource.scope_spans for it in scope.spans]
        return [it for it in spans if name in ("", it.name)]

    def _resource_spans(self) -> Iterator[Any]:
        for body in list(self.bodies):
            yield from ExportTraceServiceRequest.FromString(body).resource_spans


def attributes(span: Span) -> dict[str, Any]:
    """Give a span's attributes as Python's values; lists as lists of texts."""
    return _values(span.attributes)


def _values(pairs: Any) -> dict[str, Any]:
    return {
        it.key: [each.string_value for each in it.value.array_value.values]
        if it.value.HasField("array_value")
        else getattr(it.value, str(it.value.WhichOneof("value")))
        for it in pairs
    }


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run one, on a free port of this machine."""

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == PATH and self.headers["Content-Type"] == "application/x-protobuf":
                collector.bodies.append(body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Taking) as server:
        host, port = server.server_address[:2]
        collector = Collector(f"http://{host!s}:{port}")
        serving = Thread(target=server.serve_forever, args=[POLL_S], name="collector", daemon=True)
        serving.start()
        try:
            yield collector
        finally:
            server.shutdown()
            serving.join()
