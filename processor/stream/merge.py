"""The two inputs of one partition, merged by event time.

The head with the earlier event time is taken while both topics have one, the inbound one where they are equal; a
topic's own order is never changed, even where its times go back. Where one topic has no head, the other may go on only
if that topic was read to its end: else a send could be judged before the message that opened its window.

Dead letters take no part in the merge; each leaves with the round whose offsets pass it.
"""

from collections import deque
from typing import Final, cast

from aiokafka import TopicPartition
from aiokafka.record.default_records import DefaultRecord
from msgspec import Struct

from processor.codec.inputs import DeadLetter
from processor.core.events import Event

INBOUND: Final = 0
OUTBOUND: Final = 1


class BadRecord(Struct, frozen=True):
    """A record that could not be read, where it stood, and why."""

    tp: TopicPartition
    record: DefaultRecord
    letter: DeadLetter


class InputBuffer:
    """What has arrived on one topic of a partition and is not yet applied. Positions are offsets."""

    def __init__(self, tp: TopicPartition, position: int) -> None:
        """Start where the topic is read from."""
        self.tp = tp
        self.taken = position
        """Everything before this has arrived here."""
        self.end = 0
        """Where the topic was last found to end."""
        self.events: list[Event] = []
        self.offsets: list[int] = []
        self.bad: list[BadRecord] = []
        self.size = 0
        """Bytes of the carriers of which anything is still here: what it takes at most."""
        self._sizes: deque[tuple[int, int]] = deque()

    def take(self, stop: int, size: int) -> None:
        """Note that all before an offset has arrived, and how many bytes came with that."""
        self.taken = stop
        if size:
            self._sizes.append((stop, size))
            self.size += size

    def add(self, decoded: list[Event | DeadLetter], records: list[DefaultRecord]) -> int:
        """Take records as they were decoded; returns how many of them were bad."""
        if DeadLetter not in set(map(type, decoded)):
            self.events += cast(list[Event], decoded)
            self.offsets += [record.offset for record in records]
            return 0
        before = len(self.bad)
        for event, record in zip(decoded, records, strict=True):
            if isinstance(event, DeadLetter):
                self.bad.append(BadRecord(self.tp, record, event))
            else:
                self.events.append(event)
                self.offsets.append(record.offset)
        return len(self.bad) - before

    @property
    def position(self) -> int:
        """Everything before this has been applied, or leaves as a dead letter: the offset to commit."""
        return self.offsets[0] if self.offsets else self.taken

    def drop_first(self, count: int) -> list[BadRecord]:
        """Remove the first events; returns the dead letters that the position has passed."""
        del self.events[:count], self.offsets[:count]
        position = self.position
        while self._sizes and self._sizes[0][0] <= position:
            self.size -= self._sizes.popleft()[1]
        if not self.bad:
            return []
        passed = [bad for bad in self.bad if bad.record.offset < position]
        self.bad = self.bad[len(passed) :]
        return passed


def merge(
    inbound: InputBuffer, outbound: InputBuffer, ended: tuple[bool, bool], limit: int
) -> tuple[list[Event], bytearray]:
    """Give up to `limit` events in the order in which they may be applied now, and the side that each came from.

    `ended` says of each side whether its topic was read to its end. Nothing is removed: see `InputBuffer.drop_first`.
    """
    first, second = inbound.events, outbound.events
    if not second:
        events = first[:limit] if ended[OUTBOUND] else []
        return events, bytearray(len(events))
    if not first:
        events = second[:limit] if ended[INBOUND] else []
        return events, bytearray(b"\x01") * len(events)
    events, sides = [], bytearray()
    take, note = events.append, sides.append
    i = j = 0
    first_head, second_head = first[0], second[0]
    first_time_ms, second_time_ms = first_head.event_time_ms, second_head.event_time_ms
    n, m = len(first), len(second)
    for _ in range(min(limit, n + m)):
        if first_time_ms <= second_time_ms:
            take(first_head)
            note(INBOUND)
            i += 1
            if i == n:
                if ended[INBOUND]:
                    rest = second[j : j + limit - len(events)]
                    events += rest
                    sides += b"\x01" * len(rest)
                break
            first_head = first[i]
            first_time_ms = first_head.event_time_ms
        else:
            take(second_head)
            note(OUTBOUND)
            j += 1
            if j == m:
                if ended[OUTBOUND]:
                    rest = first[i : i + limit - len(events)]
                    events += rest
                    sides += bytes(len(rest))
                break
            second_head = second[j]
            second_time_ms = second_head.event_time_ms
    return events, sides
