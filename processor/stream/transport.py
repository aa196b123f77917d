"""Faust's aiokafka transport, changed in three places: carriers, no commits, and who says where to read.

*Carriers.* The agent gets one message for a fetched chunk of one partition, not one for each record: Faust's cost for
a message (four tasks) is paid once in a thousand records. A `Carrier` bears the positions ``[start, stop)`` that the
chunk covers, so its owner sees a gap, whatever made it; positions that hold no records (transaction markers, aborted
records) come as an empty carrier.

*Commits.* Offsets travel in our transactions, so Faust commits nothing and keeps no book of acknowledgements.

*Positions.* An owner opens its partitions at the offsets that it is about to read (`Consumer.open`), under a number
that grows with each opening. Carriers fetched under an older number are dropped where they arrive, so a late fetch, a
late seek or a reset by the client can't slip records in. Nothing is fetched from a partition that no owner has opened.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, cast

import faust
import mode
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import ConsumerStoppedError, KafkaError
from aiokafka.record.default_records import DefaultRecord
from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from msgspec import Struct

from processor.kafka.fetched import cost_of
from processor.kafka.group import error_of_group, leave_in_time
from processor.kafka.patience import PatientResult, wake
from processor.kafka.protocol import Membership

if TYPE_CHECKING:
    from processor.stream.app import App

SCHEME = "carrier"
CARRIER_RECORDS_MAX = 1000  # decoding one takes some 3 ms; nothing else runs meanwhile
_FETCH_WAIT_MS = 100  # Faust asks for 1,500: a partition opened while a fetch is under way waits that long


class Carrier(Struct, frozen=True, gc=False):
    """The records of one partition between two positions, `start` and `stop`, in order; there may be none.

    A record of a batch that was too large to be expanded whole is a `Record` of ours.
    """

    tp: TopicPartition
    start: int
    stop: int
    opening: int
    records: list[DefaultRecord]

    def size(self) -> int:
        """Give the bytes that its records take, more or less."""
        return cost_of(self.records)


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread in which aiokafka's consumer lives. Its methods run there unless they say otherwise."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._openings: dict[TopicPartition, int] = {}
        self._held: frozenset[TopicPartition] = frozenset()

    def on_crash(self, *_: Any, **__: Any) -> None:
        """Leave it to the worker, which hears of it next, to tell what happened: mode would write it to stderr."""

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # Faust sets it only under its own guarantee
        consumer._fetch_max_wait_ms = _FETCH_WAIT_MS
        return consumer

    @mode.Service.task
    async def _hear_the_group(self) -> None:
        cast("App", self.consumer.app).engine.fail(await error_of_group(self._ensure_consumer()))

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        # The coordinator waits for this call: what it says of the membership now is of this generation.
        consumer = self._ensure_consumer()
        coordinator = consumer._coordinator
        cast(Consumer, self.consumer).membership = Membership(
            coordinator.generation, coordinator.member_id, coordinator._group_instance_id
        )
        self._openings.clear()
        consumer.pause(*(TopicPartition(*tp) for tp in assigned))
        await super().on_partitions_assigned(assigned, generation_id)

    async def on_thread_stop(self) -> None:
        await leave_in_time(super().on_thread_stop(), self._consumer)

    def open(self, tp: TopicPartition, offset: int, opening: int) -> None:
        consumer = self._ensure_consumer()
        if tp in consumer.assignment():  # else it was revoked meanwhile, and whoever opened it learns that by itself
            self._openings[tp] = opening
            consumer.seek(tp, offset)
            consumer.resume(tp)

    def hold(self, held: frozenset[TopicPartition]) -> None:
        self._held = held
        wake(self._ensure_consumer()._fetcher)

    async def fetch(self, timeout: float, given: int) -> list[Carrier]:
        """Take what has been fetched, at most one carrier a partition; wait for up to `timeout` seconds.

        `given` is the last opening that was given before this was asked for. What is of a later one is left: a
        rebalance may have come in between, and then nobody waits for the answer any more.
        """
        consumer = self._ensure_consumer()
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        with fetcher._subscriptions.fetch_context():
            if not (carriers := self._take(fetcher, given)):
                waiter = fetcher._create_fetch_waiter()
                await asyncio.wait([waiter], timeout=timeout)
                waiter.cancel()  # the fetcher would keep it until something comes, and in quiet hours many of them
                carriers = self._take(fetcher, given)
        return carriers

    def _take(self, fetcher: Any, given: int) -> list[Carrier]:
        """Do what aiokafka's `fetched_records` does, and note the positions on both sides."""
        carriers: list[Carrier] = []
        if fetcher._subscriptions.reassignment_in_progress:
            return carriers
        opened = {tp for tp, opening in self._openings.items() if opening <= given} - self._held
        for tp in [tp for tp in fetcher._records if tp in opened]:
            fetched = fetcher._records[tp]
            if type(fetched) is not PatientResult:
                del fetcher._records[tp]
                fetcher._notify(fetcher._wait_consume_future)
                fetched.check_raise()
                continue
            state = fetched._assignment.state_value(tp)
            start = state._position if state is not None else None
            records = []
            if fetched.has_more():
                # as it was parsed: no second object for each
                fetched._partition_records._consumer_record = lambda _, record: record
                records = fetched.getall(CARRIER_RECORDS_MAX)
            if not fetched.has_more():
                del fetcher._records[tp]
                fetcher._notify(fetcher._wait_consume_future)
            if start is not None and state._position is not None and state._position > start:
                carriers.append(Carrier(tp, start, state._position, self._openings[tp], records))
        return carriers


class Consumer(driver.Consumer):
    """Faust's consumer; what it yields are carriers. Its methods run in the worker's own loop."""

    membership: Membership | None = None
    _thread: ConsumerThread
    _openings_given = 0

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def open(self, tp: TopicPartition, offset: int) -> int:
        """Read a partition from `offset` on; returns the number that its carriers will bear."""
        self._openings_given += 1
        self._thread.thread_loop.call_soon_threadsafe(self._thread.open, tp, offset, self._openings_given)
        return self._openings_given

    def hold(self, held: Iterable[TopicPartition]) -> None:
        """Fetch nothing more from these partitions until the next call; what was fetched of them is kept."""
        self._thread.thread_loop.call_soon_threadsafe(self._thread.hold, frozenset(held))

    def end_seen(self, tp: TopicPartition) -> int | None:
        """Tell where a partition ended when it was last fetched from; may be asked in any thread."""
        state = self._thread._ensure_consumer()._subscription.subscription.assignment
        return state.state_value(tp).highwater if state is not None and tp in state.tps else None

    def in_thread(self, work: Coroutine[Any, Any, None]) -> None:
        """Run work in the loop of the thread in which aiokafka's consumer lives."""
        asyncio.run_coroutine_threadsafe(work, self._thread.thread_loop)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        try:
            while not (self.flow_active or self.should_stop):
                await self.wait_first(self.can_resume_flow, timeout=1.0)  # type: ignore[arg-type]
            given = self._openings_given
            carriers = [] if self.should_stop else await self._thread.call_thread(self._thread.fetch, 0.2, given)
        except KafkaError as error:  # a right that was taken away, as a rule
            cast("App", self.app).engine.fail(error)
        for carrier in carriers:
            if self.should_stop or not self.flow_active:
                return  # its owner will open the partition again where it stands
            tp = TP(*carrier.tp)
            self._read_offset[tp] = None  # Faust would drop what lies before an offset that it has seen
            yield tp, ConsumerMessage(
                tp.topic, tp.partition, carrier.stop - 1, 0.0, 0, None, None, carrier, None, 0, 0, tp,
                generation_id=self.app.consumer_generation_id,
            )  # fmt: skip

    async def highwaters(self, *_: TP) -> dict[TP, int]:
        """Say of no changelog where it ends, so that Faust recovers nothing; if brokers took 40 s to, it would end."""
        return {}

    earliest_offsets = highwaters

    async def perform_seek(self) -> None:
        """Do nothing: partitions are opened by their owners."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Say nothing: Faust takes a worker that commits by transactions for one that commits nothing."""

    def close(self) -> None:
        """Do nothing: the thread closes it, and leaves the group, when it ends; Faust would do so in another loop."""

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        return True  # the offsets are in the transactions

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        return


class Transport(driver.Transport):
    """The transport behind ``carrier://host:port`` addresses."""

    Consumer = Consumer


class CarrierSchema(faust.Schema[bytes, Carrier]):
    """Passes a carrier through as it is, where Faust would decode a value."""

    def compile(
        self, app: Any, *, on_key_decode_error: Any = None, on_value_decode_error: Any = None,
        default_propagate: bool = False,
    ) -> Any:  # fmt: skip
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return create_event(message.key, message.value, None, message)

        return decode


TRANSPORTS.aliases[SCHEME] = f"{__name__}:Transport"
