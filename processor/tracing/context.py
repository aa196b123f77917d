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

_PARENT: Final = re.compile(
    rb"(?P<version>(?!ff)[0-9a-f]{2})-(?P<ids>(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
    rb"(?P<more>-[^\n]*)?"
)
_STATE: Final = re.compile(rb"[\t\x20-\x7e]+")
_NAMES: Final = ("traceparent", "tracestate")
_SAMPLED: Final = 0x01


class Context(NamedTuple):
    """Where in which trace a record comes from. `traceparent` is of version 00; `tracestate` may be empty."""

    traceparent: bytes
    tracestate: bytes = b""

    @property
    def is_sampled(self) -> bool:
        """Whether whoever wrote the record has kept its part of the trace, and others are to do so too."""
        return bool(int(self.traceparent[-2:], 16) & _SAMPLED)

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        """What a record bears that goes on in this trace."""
        parent = [("traceparent", self.traceparent)]
        return [*parent, ("tracestate", self.tracestate)] if self.tracestate else parent


def read_context(headers: Iterable[tuple[str, Any]]) -> Context | None:
    """Read it from a record's headers; None where there is none, or none that is valid and the only one."""
    ours = [(name, value) for name, value in headers if name in _NAMES and isinstance(value, bytes)]
    parents = [value for name, value in ours if name == "traceparent"]
    if len(parents) != 1 or len(parents[0]) > PARENT_BYTES_MAX:
        return None
    found = _PARENT.fullmatch(parents[0].strip(b" \t"))
    if found is None or (found["version"] == b"00" and found["more"]):
        return None
    state = b",".join(value for name, value in ours if name == "tracestate")
    if len(state) > STATE_BYTES_MAX or not _STATE.fullmatch(state):
        state = b""
    return Context(b"00-%b-%b" % (found["ids"], found["flags"]), state)
