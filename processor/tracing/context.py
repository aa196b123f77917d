"""The context of a trace as records bear it: W3C's `traceparent` and `tracestate`, as headers of those names.

What is not valid is ignored: it is somebody else's book-keeping, and no reason to doubt the record.
Source: W3C Trace Context, Level 2 (https://www.w3.org/TR/trace-context-2/).
"""

import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

PARENT_BYTES_MAX: Final = 512
"""Largest `traceparent` that is read. Of version 00 it has 55; of those to come nobody knows."""
STATE_BYTES_MAX: Final = 512
"""Largest `tracestate` that goes on, what W3C asks for at least: it stands on each output."""

_PARENT: Final = re.compile(rb"(?!ff)([0-9a-f]{2})-((?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})(-[^\n]*)?")
_STATE: Final = re.compile(rb"[\t\x20-\x7e]+")
_ODD: Final = b"13579bdf"
"""Last digits of flags in which the lowest bit, "sampled", is set."""


class Context(NamedTuple):
    """Where in which trace a record comes from. `traceparent` is of version 00; `tracestate` may be empty."""

    traceparent: bytes
    tracestate: bytes = b""

    @property
    def is_sampled(self) -> bool:
        """Whether whoever wrote the record has kept its part of the trace, and others are to do so too."""
        return self.traceparent[-1] in _ODD

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        """What a record bears that goes on in this trace."""
        parent = [("traceparent", self.traceparent)]
        return [*parent, ("tracestate", self.tracestate)] if self.tracestate else parent


def read_context(headers: Iterable[tuple[str, Any]]) -> Context | None:
    """Read it from a record's headers; None where there is none, or none that is valid and the only one.

    Every record that bears headers comes by here, so what is plain is looked at once.
    """
    parent: bytes | None = None
    states: list[bytes] = []
    for name, value in headers:
        if name == "traceparent":
            if parent is not None or not isinstance(value, bytes):
                return None
            parent = value
        elif name == "tracestate" and isinstance(value, bytes):
            states.append(value)
    if parent is None or len(parent) > PARENT_BYTES_MAX or (found := _PARENT.fullmatch(parent.strip(b" \t"))) is None:
        return None
    version, ids_and_flags, more = found.groups()
    if version == b"00" and more:
        return None
    state = b",".join(states)
    if state and (len(state) > STATE_BYTES_MAX or not _STATE.fullmatch(state)):
        state = b""
    return Context(b"00-" + ids_and_flags, state)
