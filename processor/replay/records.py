"""A record of an input topic as it lies on its partition."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, Protocol

import msgspec

from processor.codec.keys import partition_of
from processor.codec.times import parse_time

Side = Literal["inbound", "outbound"]
SIDES: Final[tuple[Side, Side]] = ("inbound", "outbound")
"""In the order in which a worker takes them where their times are equal."""


class StoredRecord(NamedTuple):
    """A record, with the place where it lies; `timestamp_ms` is the record's own, not the event's."""

    side: Side
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    is_at_home: bool | None = None
    """Whether it lies where its key belongs, where the key itself can't tell any more. None: ask the key."""


def is_at_home(record: StoredRecord, partitions: int) -> bool:
    """Tell whether a record lies where its key belongs, among so many partitions; one without a key is anywhere."""
    if record.is_at_home is not None or record.key is None:
        return record.is_at_home is not False
    return partition_of(record.key, partitions) == record.partition


class _Timed(msgspec.Struct, gc=False):
    time: int | str


_decode_timed = msgspec.json.Decoder(_Timed).decode


def event_time_ms(record: StoredRecord) -> int | None:
    """Read when it happened, as a worker takes it: never after the record was written. None: it can't be read."""
    try:
        time_ms = parse_time(_decode_timed(record.value or b"").time)
    except (msgspec.MsgspecError, RecursionError):
        return None
    if time_ms is None or record.timestamp_ms < 0:
        return time_ms
    return min(time_ms, record.timestamp_ms)


class Timed(NamedTuple):
    """A record with the time at which it is its turn: its event's, or that of one before it on its partition.

    0 is not a time: nothing that could be read was before it.
    """

    time_ms: int
    record: StoredRecord


@dataclass
class Span:
    """How many records there are of each side and partition, and between which times they lie."""

    counts: dict[tuple[Side, int], int] = field(default_factory=dict)
    first_ms: int | None = None
    last_ms: int | None = None
    oldest_timestamp_ms: int | None = None
    left_out: int = 0
    """How many more there are that are too large to be carried."""

    @property
    def records(self) -> int:
        """All of them."""
        return sum(self.counts.values())

    @property
    def begin_ms(self) -> int:
        """The time from which on a pace counts: what happened before it leaves at once.

        That is when the first record was written, where it is of something that happened long before: one that is
        late by a day would else keep all others waiting for that day. Where all happened before any of it was written
        (a backfill) it is the first event's time. 0: no time can be read.
        """
        if self.first_ms is None or self.last_ms is None or self.oldest_timestamp_ms is None:
            return 0
        written_ms = max(self.first_ms, self.oldest_timestamp_ms)
        return written_ms if written_ms < self.last_ms else self.first_ms

    def add(self, records: Iterable[Timed]) -> None:
        """Count some more."""
        for time_ms, record in records:
            place = record.side, record.partition
            self.counts[place] = self.counts.get(place, 0) + 1
            if time_ms:
                self.first_ms = time_ms if self.first_ms is None else min(self.first_ms, time_ms)
                self.last_ms = time_ms if self.last_ms is None else max(self.last_ms, time_ms)
            oldest = self.oldest_timestamp_ms
            self.oldest_timestamp_ms = record.timestamp_ms if oldest is None else min(oldest, record.timestamp_ms)


class Source(Protocol):
    """Where records come from; they can be read more than once."""

    partitions: int
    """How many the topics had that the records lay on."""
    left_out: int
    """Records that were too large to be carried, when it was last read."""

    def begin_at(self, since_ms: int) -> None:
        """Leave out what was written before that time, whatever was asked for; before it is read."""
        ...

    def end_at(self, until_ms: int) -> None:
        """Leave out what was written then or later, whatever was asked for; before it is read."""
        ...

    def chunks(self) -> AsyncIterator[list[Timed]]:
        """Give the records, some at a time.

        Those of a partition and side are in the order of their offsets, and what is behind in time is moved up to what
        stood before it; over all, times do not go back.
        """
        ...
