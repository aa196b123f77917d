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


class PartitionBatches:
    """Batches for one partition of one topic, a new one begun where one is full."""

    def __init__(self, tp: TopicPartition, timestamp_ms: int) -> None:
        """Begin an empty one."""
        self._tp, self._timestamp_ms = tp, timestamp_ms
        self._full: list[Batch] = []
        self._batch = Batch(tp, timestamp_ms)

    def add(self, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
        """Append a record."""
        if not self._batch.add(key, value, headers):
            self._full.append(self._batch)
            self._batch = Batch(self._tp, self._timestamp_ms)
            self._batch.add(key, value, headers)

    def close(self) -> list[Batch]:
        """Give what was filled, in order."""
        return [*self._full, self._batch]


class Batches(dict[TopicPartition, PartitionBatches]):
    """Batches by partition, all of one timestamp (ms since the epoch), each begun when it is first asked for."""

    def __init__(self, timestamp_ms: int) -> None:
        """Begin with none."""
        self._timestamp_ms = timestamp_ms

    def __missing__(self, tp: TopicPartition) -> PartitionBatches:
        batches = self[tp] = PartitionBatches(tp, self._timestamp_ms)
        return batches
