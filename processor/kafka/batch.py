"""A batch of records for the producer, filled by whoever has the records."""

# mypy: disable-error-code="misc"
# aiokafka carries no types, and a class of unknown type is a base that mypy's strict mode refuses.

from typing import Final

from aiokafka import TopicPartition
from aiokafka.producer.message_accumulator import BatchBuilder

BATCH_BYTES_MAX: Final = 512 * 1024  # half of what a broker takes by default (message.max.bytes)

_UNCOMPRESSED: Final = 0


class Batch(BatchBuilder):
    """Records for one partition, of one transaction or of none, all of one timestamp (ms since the epoch)."""

    def __init__(self, tp: TopicPartition, timestamp_ms: int, *, is_transactional: bool = True) -> None:
        """Begin an empty one."""
        super().__init__(BATCH_BYTES_MAX, _UNCOMPRESSED, is_transactional=is_transactional)
        self.tp = tp
        self._timestamp_ms = timestamp_ms

    def add(self, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> bool:
        """Append a record; False where the batch is full. An empty one takes a record of any size.

        It does what aiokafka's `append` does after looking for serializers, which takes as long as the rest.
        """
        if self._builder.append(self._relative_offset, self._timestamp_ms, key, value, headers) is None:
            return False
        self._relative_offset += 1
        return True
