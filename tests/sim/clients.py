"""What our code finds where it looks for aiokafka: the same calls, on the cluster in memory.

Everything above them is the code that runs in production: `TransactionalProducer` with its steps, `LogReader`, and the
restore.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import SimpleNamespace
from typing import Any, TypeVar

from aiokafka import TopicPartition
from aiokafka.errors import ConcurrentTransactions, KafkaConnectionError, KafkaError, ProducerFenced
from aiokafka.record.default_records import DefaultRecord
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import OffsetAndMetadata

from processor.kafka import protocol
from processor.kafka.batch import Batch
from processor.kafka.protocol import Membership
from tests.sim.cluster import Cluster

T = TypeVar("T")
_UNSTABLE_OFFSET_COMMIT = 88


def records_of(batch: Batch) -> list[DefaultRecord]:
    """Read a batch back from its bytes, as a broker does."""
    memory, records = MemoryRecords(bytes(batch._build())), []
    while (part := memory.next_batch()) is not None:
        records += list(part)
    return records


class FencedSender:
    """Stands in for the sender: the producer keeps the membership of the round here."""

    membership: Membership

    def __init__(self, client: Any, **_: Any) -> None:
        self.client = client
        self.unknown: list[TopicPartition] = []  # this cluster's topics are all there


class ProducerClient:
    """Stands in for `AIOKafkaProducer`."""

    def __init__(
        self, cluster: Cluster, *, transactional_id: str, transaction_timeout_ms: int = 60_000, **_: Any
    ) -> None:
        self._cluster, self._name = cluster, transactional_id
        self._timeout_s = transaction_timeout_ms / 1000
        self._epoch = -1
        self._is_in_transaction = False
        self._added: list[TopicPartition] = []
        self._txn_manager = SimpleNamespace(maybe_add_partition_to_txn=self._added.append)
        self.client = BrokerClient(cluster)
        transactions = SimpleNamespace(_transaction_waiter=SimpleNamespace(done=lambda: False))
        self._sender: Any = SimpleNamespace(
            client=None, _acks=None, _txn_manager=transactions, _message_accumulator=None, _request_timeout_ms=None
        )

    async def start(self) -> None:
        _, self._epoch = await self._until_done(lambda: self._cluster.init_producer(self._name), is_risky=False)

    async def stop(self) -> None:
        return

    async def partitions_for(self, topic: str) -> None:
        await asyncio.sleep(0)

    async def begin_transaction(self) -> None:
        assert not self._is_in_transaction, "aiokafka's states are asserts: two rounds at once are refused here"
        self._is_in_transaction = True
        await asyncio.sleep(0)

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> Awaitable[None]:
        epoch, records, tp = self._epoch, records_of(batch), TopicPartition(topic, partition)
        await asyncio.sleep(0)
        return asyncio.create_task(
            self._until_done(lambda: self._cluster.produce(self._name, epoch, tp, id(batch), records, self._timeout_s))
        )

    async def send_offsets_to_transaction(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], _: str) -> None:
        epoch, membership = self._epoch, self._sender.membership
        kept = {tp: (each.offset, each.metadata) for tp, each in offsets.items()}
        await self._until_done(lambda: self._cluster.add_group(self._name, epoch, self._timeout_s))
        await self._until_done(
            lambda: self._cluster.commit_offsets(self._name, epoch, kept, membership, self._timeout_s)
        )

    async def commit_transaction(self) -> None:
        epoch = self._epoch
        self._epoch = await self._until_done(lambda: self._cluster.end_transaction(self._name, epoch))
        self._is_in_transaction = False

    async def abort_transaction(self) -> None:
        epoch = self._epoch
        for tp in self._added:
            await self._in_the_end(lambda tp=tp: self._cluster.add_partition(self._name, epoch, tp, self._timeout_s))  # type: ignore[misc]
        self._epoch = await self._in_the_end(
            lambda: self._cluster.end_transaction(self._name, epoch, is_committed=False)
        )
        self._is_in_transaction = False

    async def _in_the_end(self, act: Callable[[], T]) -> T:
        """Send a request again until it is answered, as aiokafka does with these."""
        while True:
            try:
                return await asyncio.wait_for(self._cluster.request(act, is_risky=True), 1)
            except (ConcurrentTransactions, KafkaConnectionError, TimeoutError):
                await asyncio.sleep(0.1)

    async def _until_done(self, act: Callable[[], T], *, is_risky: bool = True) -> T:
        """Send a request, again and again while the transaction before is being completed."""
        while True:
            try:
                return await self._cluster.request(act, is_risky=is_risky)
            except ConcurrentTransactions:
                await asyncio.sleep(0.01)
            except ProducerFenced:
                raise
            except KafkaError as error:
                raise KafkaError("Unexpected error during batch delivery") from error


class BrokerClient:
    """Stands in for aiokafka's client: the four questions that `protocol` adds."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        broker = SimpleNamespace(nodeId=0)
        self.cluster = SimpleNamespace(leader_for_partition=lambda _: 0, brokers=lambda: [broker])

    async def coordinator_lookup(self, *_: Any) -> int:
        return 0

    async def send(self, node: int, request: Any, **_: Any) -> Any:
        answers: dict[Any, Callable[..., Any]] = {
            protocol.OffsetFetchRequest: self._offsets,
            protocol.DescribeProducersRequest: self._producers,
            protocol.ListTransactionsRequest: self._transactions,
            protocol.DescribeTransactionsRequest: self._described,
        }
        return await self._cluster.request(lambda: answers[request._form](*request._fields))

    def _offsets(self, _: str, topics: Any, is_stable: bool, __: Any) -> Any:
        found: list[Any] = []
        for topic, partitions, _tags in topics:
            parts: list[Any] = []
            for partition in partitions:
                offset, metadata = self._cluster.offsets.get(TopicPartition(topic, partition), (-1, ""))
                code = _UNSTABLE_OFFSET_COMMIT if is_stable and self._cluster.unstable([partition]) else 0
                parts.append((partition, offset, -1, metadata, code, {}))
            found.append((topic, parts, {}))
        return SimpleNamespace(topics=found, error_code=0)

    def _producers(self, topics: Any, _: Any) -> Any:
        topic, (partition,), _tags = topics[0]
        known = [
            (each.id, each.epoch, 0, 0, 0, 0)
            for _, each in self._cluster.open_transactions(TopicPartition(topic, partition))
        ]
        return SimpleNamespace(topics=[(topic, [(partition, 0, None, known)], {})])

    def _transactions(self, _: Any, producer_ids: list[int], __: Any) -> Any:
        names = [name for name, producer in self._cluster.producers.items() if producer.id in producer_ids]
        return SimpleNamespace(transactions=[(name, 0, "Ongoing") for name in names])

    def _described(self, names: list[str], _: Any) -> Any:
        return SimpleNamespace(
            transactions=[(0, name, "", 0, self._cluster.producers[name].began_ms) for name in names]
        )


class ConsumerClient:
    """Stands in for an `AIOKafkaConsumer` without a group."""

    def __init__(self, cluster: Cluster, *, isolation_level: str = "read_uncommitted", **_: Any) -> None:
        self._cluster, self._is_committed = cluster, isolation_level == "read_committed"
        self._positions: dict[TopicPartition, int] = {}

    async def start(self) -> None:
        await asyncio.sleep(0)

    async def stop(self) -> None:
        return

    async def end_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        logs = self._cluster.logs
        if self._is_committed:
            return await self._cluster.request(lambda: {tp: logs[tp].stable_end for tp in tps})
        return await self._cluster.request(lambda: {tp: logs[tp].end for tp in tps})

    async def beginning_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return await self._cluster.request(lambda: dict.fromkeys(tps, 0))

    def assign(self, tps: list[TopicPartition]) -> None:
        self._positions = dict.fromkeys(tps, 0)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._positions[tp] = offset

    async def position(self, tp: TopicPartition) -> int:
        return self._positions[tp]

    def highwater(self, tp: TopicPartition) -> int:
        return self._cluster.logs[tp].end

    async def getmany(self, *tps: TopicPartition, timeout_ms: int, max_records: int) -> dict[TopicPartition, Any]:
        most = self._cluster.chance.choice([1, 5, max_records])
        found = await self._cluster.request(
            lambda: {tp: self._cluster.logs[tp].read(self._positions[tp], self._is_committed, most) for tp in tps}
        )
        if all(position == self._positions[tp] for tp, (_, position) in found.items()):
            await asyncio.sleep(timeout_ms / 1000)
        self._positions |= {tp: position for tp, (_, position) in found.items()}
        return {tp: records for tp, (records, _) in found.items() if records}


class AdminClient:
    """Stands in for `AIOKafkaAdminClient`."""

    def __init__(self, cluster: Cluster, **_: Any) -> None:
        self._cluster = cluster

    async def start(self) -> None:
        await asyncio.sleep(0)

    async def close(self) -> None:
        return

    async def describe_consumer_groups(self, _: list[str]) -> list[Any]:
        members = await self._cluster.request(
            lambda: [(name, member.client_id) for name, member in self._cluster.members.items()]
        )
        return [SimpleNamespace(groups=[(0, "", "", "", "", members)])]
