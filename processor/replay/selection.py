"""Which records are taken: by side, partition, range and contact."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from processor.replay.records import SIDES, Side


@dataclass(frozen=True)
class Selection:
    """What is asked for; nothing said is everything. Ranges are half open, [since, until) and [from, to)."""

    sides: tuple[Side, ...] = SIDES
    partitions: tuple[int, ...] | None = None
    since_ms: int | None = None
    """By the record's own timestamp, ms since the epoch: what Kafka can look up."""
    until_ms: int | None = None
    from_offset: int | None = None
    """On each of the partitions."""
    to_offset: int | None = None
    contacts: AbstractSet[bytes] = frozenset()
    """Window keys, or contact ids of any channel and business."""
    leaves_out_too_large: bool = False
    """Whether a record is left out that no consumer keeps whole (`processor.kafka.unread`); else it is refused."""

    def holds_key(self, key: bytes | None) -> bool:
        """Whether a record of this key is asked for; one without a key is nobody's."""
        if not self.contacts:
            return True
        return key is not None and (key in self.contacts or key.rpartition(b":")[2] in self.contacts)

    def holds_place(self, side: Side, partition: int, offset: int, timestamp_ms: int) -> bool:
        """Whether a record that lies here is asked for."""
        return (
            side in self.sides
            and (self.partitions is None or partition in self.partitions)
            and (self.since_ms is None or timestamp_ms >= self.since_ms)
            and (self.until_ms is None or timestamp_ms < self.until_ms)
            and (self.from_offset is None or offset >= self.from_offset)
            and (self.to_offset is None or offset < self.to_offset)
        )
