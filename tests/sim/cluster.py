"""A cluster in memory: logs, transactions and one consumer group, as far as a worker can tell them from Kafka's.

Requests take their time to arrive, and answers to come back. A request under way belongs to nobody: it arrives though
its sender has died. Where the seed wants it a request or an answer is lost, or a copy of a request arrives much later.

*Transactions.* The end is decided at once and answered; its markers are written one by one, each after a while of its
own, and until then a partition's last stable offset stands and the group's offsets are unstable. Each end raises the
producer's epoch, and a request of an older epoch is refused.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import Context
from random import Random
from typing import NamedTuple, TypeVar

from aiokafka import TopicPartition
from aiokafka.errors import (
    ConcurrentTransactions,
    IllegalGenerationError,
    KafkaConnectionError,
    KafkaError,
    ProducerFenced,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from aiokafka.record.default_records import DefaultRecord

from processor.kafka.producer import Committed
from processor.kafka.protocol import Membership
from tests.sim.loop import SimulatedLoop

T = TypeVar("T")


class Transaction:
    """A transaction; `is_committed` is None while it is open."""

    def __init__(self) -> None:
        self.is_committed: bool | None = None
        self.logs: dict[TopicPartition, Log] = {}
        self.offsets: Committed = {}
        self.holds_offsets = False
        self.copies: set[int] = set()
        """Batches that it has: a producer's second sending of one is no second batch."""


class Entry(NamedTuple):
    """What lies at an offset: a record, or the marker of a transaction's end."""

    record: DefaultRecord | None
    transaction: Transaction | None


class Log:
    """One partition of a topic; an offset is an index."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.open: dict[Transaction, int] = {}
        """Transactions whose marker is not written, with their first offset."""

    @property
    def end(self) -> int:
        """The high watermark."""
        return len(self.entries)

    @property
    def stable_end(self) -> int:
        """The last stable offset: before it no transaction is open."""
        return min(self.open.values(), default=self.end)

    def append(self, timestamp_ms: int, record: DefaultRecord, transaction: Transaction | None) -> None:
        """Write a record at the end."""
        if transaction is not None:
            self.open.setdefault(transaction, self.end)
        copy = DefaultRecord(self.end, timestamp_ms, 0, record.key, record.value, list(record.headers))
        self.entries.append(Entry(copy, transaction))

    def mark(self, transaction: Transaction) -> None:
        """Write the marker of a transaction's end."""
        self.entries.append(Entry(None, transaction))
        self.open.pop(transaction, None)

    def read(self, start: int, is_committed: bool, most: int) -> tuple[list[DefaultRecord], int]:
        """Give up to `most` records and the position after them; markers and aborted records are passed over."""
        records: list[DefaultRecord] = []
        position, end = start, self.stable_end if is_committed else self.end
        while position < end and len(records) < most:
            record, transaction = self.entries[position]
            position += 1
            if record is not None and not (is_committed and transaction and not transaction.is_committed):
                records.append(record)
        return records, position

    def committed(self) -> list[DefaultRecord]:
        """Give all committed records."""
        return self.read(0, True, self.end)[0]


class Producer:
    """What the cluster knows of a transactional id."""

    def __init__(self, producer_id: int) -> None:
        self.id, self.epoch = producer_id, 0
        self.transaction: Transaction | None = None
        self.began_ms = -1
        """When its newest transaction began."""


class Member:
    """A member of the group, as the coordinator sees it."""

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.seen_s = 0.0
        self.joining: asyncio.Future[tuple[int, list[int]]] | None = None


class Cluster:
    """The brokers. Its methods but `request` are what happens when a request has arrived."""

    SESSION_S = 6.0
    REBALANCE_S = 8.0

    def __init__(self, loop: SimulatedLoop, chance: Random, partitions: int, fault_share: float, start_ms: int) -> None:
        self.loop, self.chance = loop, chance
        self.partitions = partitions
        self.fault_share = fault_share
        """How many requests of a transaction come to harm."""
        self.start_ms = start_ms
        self.logs: defaultdict[TopicPartition, Log] = defaultdict(Log)
        self.producers: dict[str, Producer] = {}
        self.members: dict[str, Member] = {}
        self.generation = 0
        self.offsets: Committed = {}
        self._unstable: list[Transaction] = []
        self._is_rebalancing = False
        self._assigned: dict[int, str] = {}
        self._names = 0

    @property
    def wall_clock_ms(self) -> int:
        """The cluster's time, ms since the epoch."""
        return self.start_ms + int(self.loop.time() * 1000)

    # ------------------------------------------------------------------------------------------------------ the wire

    def later(self, delay_s: float, act: Callable[[], object]) -> None:
        """Let something happen that is no process's."""
        self.loop.call_later(delay_s, act, context=Context())

    def delay_s(self) -> float:
        """Choose how long something takes: mostly some milliseconds, at times a second."""
        chance = self.chance.random()
        return 0.0005 + chance**3 * (1.5 if chance < 0.97 and self.chance.random() < 0.02 else 0.02)

    async def request(self, act: Callable[[], T], *, is_risky: bool = False) -> T:
        """Send a request and wait for its answer; a risky one may be harmed on the way."""
        answer: asyncio.Future[T] = self.loop.create_future()
        fate = "well"
        if is_risky and self.chance.random() < self.fault_share:
            fate = self.chance.choice(["lost", "unanswered", "refused", "cut off", "copied", "copied"])

        def arrive() -> None:
            value, error = None, None
            try:
                value = act()
            except KafkaError as refused:
                error = refused
            if fate == "cut off":
                error = KafkaConnectionError("the answer was lost")
            if fate != "unanswered":
                self.later(self.delay_s(), lambda: _answer(answer, value, error))

        def arrive_again() -> None:
            with suppress(KafkaError):
                act()

        if fate == "refused":
            self.later(self.delay_s(), lambda: _answer(answer, None, KafkaConnectionError("the request was lost")))
        elif fate != "lost":
            self.later(self.delay_s(), arrive)
        if fate == "copied":
            self.later(self.delay_s() + self.chance.choice([0.05, 0.3, 2.0]), arrive_again)
        return await answer

    # -------------------------------------------------------------------------------------------------- transactions

    def init_producer(self, transactional_id: str) -> tuple[int, int]:
        """Give id and epoch; ends the transaction that is open under this name."""
        producer = self.producers.setdefault(transactional_id, Producer(len(self.producers) + 1))
        if (transaction := producer.transaction) is not None:
            if transaction.is_committed is None:
                self._end(producer, is_committed=False)
            raise ConcurrentTransactions
        producer.epoch += 1
        return producer.id, producer.epoch

    def produce(
        self, name: str, epoch: int, tp: TopicPartition, batch: int, records: list[DefaultRecord], timeout_s: float
    ) -> None:
        """Append a batch; the first one begins the transaction."""
        transaction = self._transaction(name, epoch, timeout_s)
        if batch not in transaction.copies:
            transaction.copies.add(batch)
            transaction.logs[tp] = self.logs[tp]
            for record in records:
                self.logs[tp].append(record.timestamp, record, transaction)

    def add_partition(self, name: str, epoch: int, tp: TopicPartition, timeout_s: float) -> None:
        """Let the transaction write to a partition, which gets its marker."""
        self._transaction(name, epoch, timeout_s).logs[tp] = self.logs[tp]

    def add_group(self, name: str, epoch: int, timeout_s: float) -> None:
        """Let the transaction hold offsets of the group."""
        self._transaction(name, epoch, timeout_s)

    def commit_offsets(
        self, name: str, epoch: int, offsets: Committed, membership: Membership, timeout_s: float
    ) -> None:
        """Keep offsets until the transaction's end, if they come from a member of this generation."""
        transaction = self._transaction(name, epoch, timeout_s)
        if membership.member_id not in self.members:
            raise UnknownMemberIdError
        if membership.generation != self.generation:
            raise IllegalGenerationError
        if not transaction.holds_offsets:
            transaction.holds_offsets = True
            self._unstable.append(transaction)
        transaction.offsets |= offsets

    def end_transaction(self, name: str, epoch: int, *, is_committed: bool = True) -> int:
        """End it, and give the epoch of the next transaction. A second sending of the newest end is answered alike."""
        producer = self.producers[name]
        transaction = producer.transaction
        if producer.epoch == epoch + 1 and transaction is not None and transaction.is_committed is is_committed:
            return producer.epoch
        if producer.epoch != epoch:
            raise ProducerFenced
        if transaction is None or transaction.is_committed is not None:
            raise ConcurrentTransactions
        self._end(producer, is_committed=is_committed)
        return producer.epoch

    def open_transactions(self, tp: TopicPartition) -> list[tuple[str, Producer]]:
        """Give who has a transaction open on a partition."""
        log = self.logs[tp]
        return [(name, each) for name, each in self.producers.items() if each.transaction in log.open]

    def unstable(self, partitions: Iterable[int]) -> bool:
        """Whether offsets of these partitions may still be moved by a transaction."""
        held = {tp.partition for transaction in self._unstable for tp in transaction.offsets}
        return not held.isdisjoint(partitions)

    @property
    def is_quiet(self) -> bool:
        """Whether no transaction is under way."""
        return not any(producer.transaction for producer in self.producers.values())

    def _transaction(self, name: str, epoch: int, timeout_s: float) -> Transaction:
        producer = self.producers[name]
        if producer.epoch != epoch:
            raise ProducerFenced
        transaction = producer.transaction
        if transaction is None:
            transaction = producer.transaction = Transaction()
            producer.began_ms = self.wall_clock_ms
            self.later(timeout_s, lambda: self._time_out(producer, transaction))
        if transaction.is_committed is not None:
            raise ConcurrentTransactions
        return transaction

    def _time_out(self, producer: Producer, transaction: Transaction | None) -> None:
        if producer.transaction is transaction and transaction is not None and transaction.is_committed is None:
            self._end(producer, is_committed=False)

    def _end(self, producer: Producer, *, is_committed: bool) -> None:
        transaction = producer.transaction
        assert transaction is not None
        transaction.is_committed = is_committed
        producer.epoch += 1
        waiting: list[Callable[[], None]] = [lambda log=log: log.mark(transaction) for log in transaction.logs.values()]  # type: ignore[misc]
        if transaction.holds_offsets:
            waiting.append(lambda: self._settle(transaction))
        count = len(waiting)

        def write(marker: Callable[[], None]) -> None:
            nonlocal count
            marker()
            count -= 1
            if not count:
                producer.transaction = None

        if not waiting:
            producer.transaction = None
        for marker in waiting:
            self.later(self.delay_s(), lambda marker=marker: write(marker))  # type: ignore[misc]

    def _settle(self, transaction: Transaction) -> None:
        self._unstable.remove(transaction)
        if transaction.is_committed:
            self.offsets |= transaction.offsets

    # --------------------------------------------------------------------------------------------------------- group

    def join(self, client_id: str, member_id: str) -> asyncio.Future[tuple[int, list[int]]]:
        """Wait for the next generation; the answer is its number and the partitions."""
        member = self.members.setdefault(member_id, Member(client_id))
        member.seen_s = self.loop.time()
        member.joining = joining = self.loop.create_future()
        self._rebalance()
        self._complete_if_all_joined()
        return joining

    def new_member_id(self) -> str:
        """Give a name that no member had."""
        self._names += 1
        return f"member-{self._names}"

    def heartbeat(self, member_id: str, generation: int) -> None:
        """Note that a member is alive."""
        if member_id not in self.members:
            raise UnknownMemberIdError
        if generation != self.generation:
            raise IllegalGenerationError
        self.members[member_id].seen_s = self.loop.time()
        if self._is_rebalancing:
            raise RebalanceInProgressError

    def leave(self, member_id: str) -> None:
        """Take a member out."""
        if (member := self.members.pop(member_id, None)) is not None:
            if member.joining is not None:
                member.joining.set_exception(UnknownMemberIdError())
            self._rebalance()
            self._complete_if_all_joined()

    async def watch_sessions(self) -> None:
        """Take out whoever was not heard of for too long."""
        while True:
            await asyncio.sleep(0.5)
            for member_id, member in list(self.members.items()):
                if member.joining is None and self.loop.time() - member.seen_s > self.SESSION_S:
                    self.leave(member_id)

    def _rebalance(self) -> None:
        if not self._is_rebalancing:
            self._is_rebalancing = True
            generation = self.generation
            self.later(self.REBALANCE_S, lambda: self._complete() if self.generation == generation else None)

    def _complete_if_all_joined(self) -> None:
        if all(member.joining is not None for member in self.members.values()):
            self._complete()

    def _complete(self) -> None:
        if not self._is_rebalancing:
            return
        self._is_rebalancing = False
        self.generation += 1
        self.members = {name: member for name, member in self.members.items() if member.joining is not None}
        names = list(self.members)
        before, self._assigned = self._assigned, {}
        for partition in range(self.partitions) if names else ():
            stays = before.get(partition) in self.members and self.chance.random() < 0.5
            self._assigned[partition] = before[partition] if stays else self.chance.choice(names)
        for name, member in self.members.items():
            member.seen_s = self.loop.time()
            joining, member.joining = member.joining, None
            if joining is not None and not joining.done():
                joining.set_result((self.generation, [p for p, owner in self._assigned.items() if owner == name]))


def _answer(answer: "asyncio.Future[T]", value: T | None, error: BaseException | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(value)  # type: ignore[arg-type]
