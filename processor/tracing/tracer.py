"""Whom the stream layer tells what it takes and decides: nobody, unless the settings ask for traces.

In the order of a round: `Traces.note` takes the contexts of inputs as they arrive, `Traces.take` makes a `Traced` of
those that a round has passed, whose `headers` go on its outputs, and `Tracer.on_committed` or `Tracer.fail` say what
became of it. Each of the three classes does nothing here; those that do something are in `processor.tracing.spans`.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from processor.core.decisions import Decision
from processor.settings import Settings, SettingsError

if TYPE_CHECKING:
    from aiokafka import TopicPartition

Header = tuple[str, bytes]


class Traced:
    """What a round has to do with traces."""

    counts: Mapping[str, int] = MappingProxyType({})
    """Inputs that had a context, by what came of it: span, not-sampled, beyond-limit."""

    def headers(self, plain: list[Header]) -> Iterable[list[Header]]:
        """Give the headers of each output, in their order; `plain` are those that all of them bear."""
        return repeat(plain)


class Traces:
    """The contexts of one partition's inputs, from when these arrive until a round passes them."""

    def note(self, side: int, decoded: Sequence[Any], records: Sequence[Any]) -> None:
        """Keep the contexts of records that have arrived on a side, as they were decoded."""

    def forget(self) -> None:
        """Forget what has arrived."""

    def take(self, positions: Sequence[int], outputs: Sequence[Decision]) -> Traced:
        """Give up what a round has passed, with its positions (offsets) on both sides, and what it decided."""
        return UNTRACED


class Tracer:
    """The traces of one worker."""

    def of_inputs(self, inputs: "Sequence[TopicPartition]") -> Traces:
        """Begin the traces of a partition, that is of its two inputs."""
        return Traces()

    def on_committed(self, rounds: Iterable[Traced], seconds: float) -> None:
        """Say of rounds that they were committed in one transaction, which took so long and is just over."""

    def fail(self, error: BaseException) -> None:
        """Say that nothing will come of what is not committed; the process is about to end."""

    def stop(self) -> None:
        """Send what has not been sent; waits for it, not for long."""


UNTRACED = Traced()


def create_tracer(settings: Settings) -> Tracer:
    """Give the tracer that settings ask for.

    Raises:
        SettingsError: They ask for traces, and the extra is not there, or the SDK can't work with its environment.
    """
    if settings.traces == "off":
        return Tracer()
    try:
        from processor.tracing.spans import SpanTracer
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        found = f'JANELA_TRACES (traces): found "{settings.traces}", and OpenTelemetry is not installed'
        raise SettingsError([f"{found}: `pip install 'janela-stream[otel]'` brings it, or set it to \"off\""]) from None
    return SpanTracer(settings)
