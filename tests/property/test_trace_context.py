"""The reader of trace contexts against OpenTelemetry's own, over headers as they are and as they must not be."""

from string import hexdigits

from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from processor.tracing.context import PARENT_BYTES_MAX, STATE_BYTES_MAX, Context, read_context

HEX = st.sampled_from("0123456789abcdef")
LOWER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def digits(count: int) -> st.SearchStrategy[str]:
    return st.text(HEX, min_size=count, max_size=count)


parts = st.tuples(
    st.sampled_from(["00", "01", "ff"]) | digits(2),
    st.just("0" * 32) | digits(32),
    st.just("0" * 16) | digits(16),
    digits(2),
)
damages = st.sampled_from(["", "-", "-more", " ", "\t", "0", "x", "-é"])
parents = st.builds(lambda before, it, after: before + "-".join(it) + after, st.just("") | damages, parts, damages)
near = st.builds(
    lambda at, character: LOWER[:at] + character + LOWER[at + 1 :],
    st.integers(0, len(LOWER) - 1),
    st.sampled_from([*hexdigits, "-", "", " ", "g"]),
)
anything = parents | near | st.text(max_size=80)


def by_opentelemetry(parent: str) -> trace.SpanContext | None:
    """Read a `traceparent` as OpenTelemetry does."""
    found = TraceContextTextMapPropagator().extract({"traceparent": parent})
    context = trace.get_current_span(found).get_span_context()
    return context if context.is_valid else None


@given(anything)
@example(LOWER)
@example(LOWER + "-more")
@example(f"cc{LOWER[2:]}-more")
@example(f"ff{LOWER[2:]}")
@example(LOWER + "\n")
@example(f"cc{LOWER[2:]}-" + "m" * PARENT_BYTES_MAX)
def test_a_parent_is_read_where_opentelemetry_reads_it_and_as_it_does(parent: str) -> None:
    ours, theirs = read_context([("traceparent", parent.encode())]), by_opentelemetry(parent)
    if "\n" in parent:  # a line's end passes there, by the way of a regular expression's `$`
        assert ours is None
        return
    if theirs is None:
        assert ours is None
        return
    assert ours is not None
    again = by_opentelemetry(ours.traceparent.decode())
    assert again is not None
    assert (again.trace_id, again.span_id, again.trace_flags) == (theirs.trace_id, theirs.span_id, theirs.trace_flags)
    assert ours.is_sampled == theirs.trace_flags.sampled
    assert len(ours.traceparent) == len(LOWER)


@given(st.lists(st.tuples(st.sampled_from(["traceparent", "tracestate", "other", ""]), st.none() | st.binary())))
def test_any_headers_are_read_without_a_fault_and_what_goes_on_is_bounded(
    headers: list[tuple[str, bytes | None]],
) -> None:
    for before in ([], [("traceparent", LOWER.encode())]):
        context = read_context([*before, *headers])
        if context is not None:
            assert context == read_context(context.headers)  # what goes on is read as what came
            assert len(context.tracestate) <= STATE_BYTES_MAX


@given(st.lists(st.binary(max_size=STATE_BYTES_MAX // 2), max_size=4))
@example([b"a=1", b"b=2"])
@example([b"a" * (STATE_BYTES_MAX - 2), b"b"])
@example([b"a" * (STATE_BYTES_MAX - 1), b"b"])
def test_a_state_in_several_headers_is_one_and_goes_where_it_is_too_large(states: list[bytes]) -> None:
    headers = [("traceparent", LOWER.encode()), *(("tracestate", it) for it in states)]
    joined = b",".join(states)
    fits = len(joined) <= STATE_BYTES_MAX and all(it == 9 or 32 <= it < 127 for it in joined)
    assert read_context(headers) == Context(LOWER.encode(), joined if fits else b"")


def test_two_parents_are_none_since_nobody_can_say_which_it_is() -> None:
    parent = ("traceparent", LOWER.encode())
    assert read_context([parent]) is not None
    assert read_context([parent, parent]) is None
    assert read_context([("Traceparent", LOWER.encode())]) is None
