"""Consumers that wait for compressed batches to be expanded, in bounded parts, by a thread beside their loop.

aiokafka expands a batch whole, in the loop, and one of 1 MB may hold 32 GB. What here stands in its place does so for
all consumers of this process, whatever they read: a `PatientResult` gives no more than is expanded, and has what comes
next expanded (`processor.kafka.fetched`); a `PatientFetcher` wakes whoever waits for that. Nothing is expanded that
nobody asks for.
"""

# mypy: disable-error-code="misc"
# aiokafka carries no types, and a class of unknown type is a base that mypy's strict mode refuses.

from asyncio import Future, get_running_loop
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from aiokafka import ConsumerRecord
from aiokafka.consumer import consumer as aiokafka_consumer
from aiokafka.consumer import fetcher as aiokafka_fetcher
from aiokafka.errors import ConsumerStoppedError, CorruptRecordException

from processor.kafka.fetched import FetchedRecords
from processor.kafka.stopping import StoppableFetcher
from processor.kafka.unread import UnreadHeaders

_WAIT_S: Final = 60.0

_thread: Final = ThreadPoolExecutor(1, "expander")
"""One for all consumers, so that two bombs take no more memory than one."""


class PatientRecords(aiokafka_fetcher.PartitionRecords):
    """The records of a fetched partition, one after the other, up to what waits to be expanded."""

    def __init__(self, tp: Any, records: FetchedRecords, *rest: Any) -> None:
        """Take what aiokafka's takes; `records` is not asked for patience before."""
        records.is_patient = True
        super().__init__(tp, records, *rest)

    def _consumer_record(self, tp: Any, record: Any) -> Any:
        key, value, headers = record.key, record.value, record.headers  # no consumer here has deserializers
        return ConsumerRecord(
            tp.topic,
            tp.partition,
            record.offset,
            record.timestamp,
            record.timestamp_type,
            key,
            value,
            record.checksum,
            -1 if key is None else len(key),
            -1 if value is None else len(value),
            headers if type(headers) is UnreadHeaders else tuple(headers),
        )


class PatientResult(aiokafka_fetcher.FetchResult):
    """A fetched partition, of which there may be more though nothing can be given now."""

    _partition_records: Any
    expansion: Future[None] | None = None
    """Set once another thread is in `expand` for it, until somebody asks after that has ended."""

    def getall(self, max_records: int | None = None) -> list[Any]:
        """Give what is expanded, and have the next expanded where nothing is.

        Raises:
            CorruptRecordException: What comes next was damaged where it lies; the message says where that is.
        """
        try:
            return self._getall(max_records)
        except CorruptRecordException as error:
            (topic, partition), offset = self._topic_partition, self._partition_records.next_fetch_offset
            raise CorruptRecordException(f"{topic}, partition {partition}, offset {offset}: {error.args[0]}") from None

    def _getall(self, max_records: int | None) -> list[Any]:
        while (parts := self._partition_records) is not None and self.check_assignment(self._topic_partition):
            if not self._is_through(parts):
                return []
            found: list[Any] = super().getall(max_records)
            if self.has_more() or not parts._records.waits:
                return found
            parts._records_iterator = parts._unpack_records()  # the old one has ended where nothing more was expanded
            self._partition_records = parts
            if found:
                return found
        return []

    def _is_through(self, parts: Any) -> bool:
        """Whether it can be read on; if not, what comes next in it is being expanded."""
        if self.expansion is not None:
            if not self.expansion.done():
                return False
            self.expansion.result()  # what was raised there is raised again each time: it must not be passed over
            self.expansion = None
        if not parts._records.waits:
            return True
        self.expansion = get_running_loop().run_in_executor(_thread, parts._records.expand, parts.next_fetch_offset)
        return False


class PatientFetcher(StoppableFetcher):
    """A fetcher that gives what is expanded, and can be stopped at any moment."""

    async def next_record(self, partitions: Any) -> Any:
        """Give one record; aiokafka's own takes a partition that gives none for one that was read to its end."""
        while not self._closed:
            for records in (await self.fetched_records(partitions, _WAIT_S, max_records=1)).values():
                return records[0]
        raise ConsumerStoppedError

    def _create_fetch_waiter(self) -> Future[None]:
        """Make what somebody waits with; it ends with each expansion that is under way, too."""
        waiter: Future[None] = super()._create_fetch_waiter()
        for fetched in self._records.values():
            expansion = fetched.expansion if type(fetched) is PatientResult else None
            if expansion is not None and not expansion.done():
                expansion.add_done_callback(lambda _: self._notify(waiter))
        return waiter


def wake(fetcher: Any) -> None:
    """Let whoever waits for something fetched look again."""
    for waiter in fetcher._fetch_waiters:
        fetcher._notify(waiter)


aiokafka_fetcher.MemoryRecords = FetchedRecords
aiokafka_fetcher.PartitionRecords = PatientRecords
aiokafka_fetcher.FetchResult = PatientResult
aiokafka_consumer.Fetcher = PatientFetcher
