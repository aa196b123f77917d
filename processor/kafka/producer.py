"""The worker's one transactional producer: a round goes in, and is committed or the worker ends.

The steps of a round (1 and 2 are the owners'; the numbers are the same in `loop` and in ARCHITECTURE.md):

    3 begin the transaction                     5 wait for every delivery, then send the offsets
    4 send outputs and state records            6 commit

A failure in any of them leaves unknown what the broker holds. Nothing is aborted and tried again: the worker ends, and
whoever takes the partitions over reads what is committed.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

from aiokafka import TopicPartition
from aiokafka.errors import IllegalOperation, KafkaError, ProducerFenced
from aiokafka.structs import OffsetAndMetadata

from processor.failpoints import failpoint
from processor.kafka import protocol
from processor.kafka.batch import BATCH_BYTES_MAX, Batch
from processor.kafka.connection import Connection
from processor.kafka.group import offsets_of, why_fenced
from processor.kafka.protocol import OUTSIDER, Membership

_RETRY_S = 0.01  # aiokafka waits 100 ms before it tries again what the broker can't do yet
_STALLED_S = 0.5

Committed = dict[TopicPartition, tuple[int, str]]
"""Committed offsets, with their metadata."""


class TransactionError(Exception):
    """A step of a transaction failed or took too long; what became of it is unknown."""


class TransactionalProducer:
    """Commits rounds, one at a time, each under the membership with which it was decided."""

    def __init__(self, connection: Connection, group: str, transactional_id: str, timeout_ms: int) -> None:
        """Take where to and as whom; `timeout_ms` is the transaction's, and its steps must end before it."""
        self.transactional_id = transactional_id
        self._connection = connection
        self._group = group
        self._limit_s = timeout_ms / 1000 * 0.8
        self._hanging_s = timeout_ms / 1000 * 2  # by then its coordinator has ended any transaction that it knows of
        self._kafka = connection.producer(
            transactional_id=transactional_id,
            transaction_timeout_ms=timeout_ms,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=BATCH_BYTES_MAX,
            max_request_size=8 * 1024 * 1024,
            retry_backoff_ms=int(_RETRY_S * 1000),
            request_timeout_ms=int(self._limit_s * 1000),
        )
        given = self._kafka._sender
        self._transactions = given._txn_manager
        self._sender = protocol.FencedSender(
            given.client,
            acks=given._acks,
            txn_manager=given._txn_manager,
            message_accumulator=given._message_accumulator,
            retry_backoff_ms=int(_RETRY_S * 1000),
            request_timeout_ms=given._request_timeout_ms,
        )
        self._kafka._sender = self._sender

    async def start(self) -> None:
        """Connect; ends a transaction that an earlier process of this instance left open."""
        await self._kafka.start()

    async def stop(self) -> None:
        """Disconnect. No transaction may be under way."""
        await self._kafka.stop()

    async def commit(
        self,
        batches: Sequence[Batch],
        offsets: Mapping[TopicPartition, tuple[int, str]],
        membership: Membership,
    ) -> None:
        """Write the batches and the offsets, with their metadata, in one transaction.

        Raises:
            TransactionError: Not known to be committed; the producer must not be used again.
            ProducerFenced: The same, because another one ended it; says who, where that is known.
        """
        if membership != OUTSIDER and (membership.generation <= 0 or not membership.member_id):
            raise TransactionError(f"no fence: generation {membership.generation}, member {membership.member_id!r}")
        self._sender.membership = membership
        self._deadline_s = asyncio.get_running_loop().time() + self._limit_s
        async with self._step(3, "begin the transaction"):
            await self._kafka.begin_transaction()
            failpoint("transaction-begun")
        deliveries: list[asyncio.Future[object]] = []
        undelivered = partial(_undelivered, batches, deliveries, self._sender.unknown)
        async with self._step(4, "send the records", undelivered):
            for batch in batches:
                delivery = await self._kafka.send_batch(batch, batch.tp.topic, partition=batch.tp.partition)
                deliveries.append(delivery)
            failpoint("records-sent")
            for first in deliveries[:1]:
                first.add_done_callback(lambda _: failpoint("records-half-delivered"))
        async with self._step(5, "wait for the deliveries", undelivered):
            await asyncio.gather(*deliveries)
            failpoint("records-delivered")
        async with self._step(5, "send the offsets"):
            kept = {tp: OffsetAndMetadata(offset, metadata) for tp, (offset, metadata) in offsets.items()}
            await self._kafka.send_offsets_to_transaction(kept, self._group)
            failpoint("offsets-sent")
        async with self._step(6, "commit"):
            await self._kafka.commit_transaction()
            failpoint("transaction-ended")

    async def committed(
        self,
        topics: list[str],
        partitions: list[int],
        on_stalled: Callable[[Committed], Awaitable[None]],
    ) -> Committed:
        """Fetch the stable offsets of the group, with their metadata; partitions without one are left out.

        Waits while a transaction that holds offsets of these partitions is being completed. Where that takes more than
        half a second, its writer may be dead: `on_stalled` is told, once, what was committed before.

        Raises:
            TransactionError: They can't be had for twice the time-out of a transaction: there is one that hangs.
        """
        began_s, is_told = time.monotonic(), False
        while (found := await self._fetch(protocol.offset_fetch(self._group, topics, partitions))) is None:
            if (waited_s := time.monotonic() - began_s) > self._hanging_s:
                raise TransactionError(
                    f"no stable offsets of {self._group}, partitions {partitions}, after {waited_s:.0f} s: where the"
                    " brokers are well, a transaction hangs on __consumer_offsets (kafka-transactions.sh find-hanging)"
                )
            if not is_told and waited_s > _STALLED_S:
                before = await self._fetch(protocol.offset_fetch(self._group, topics, partitions, stable=False))
                is_told = before is not None
                await on_stalled(before or {})
            await asyncio.sleep(10 * _RETRY_S)
        return found

    async def writers(self, tps: Iterable[TopicPartition]) -> set[str]:
        """Tell whose transactions are open on these partitions, by transactional id.

        Only what answers is told: a broker that is away, or a right that is missing, leaves its part out.
        """
        client = self._kafka.client
        producer_ids: set[int] = set()
        for tp in tps:
            await self._kafka.partitions_for(tp.topic)
            leader = client.cluster.leader_for_partition(tp)
            request = protocol.ExactRequest(protocol.DescribeProducersRequest, [(tp.topic, [tp.partition], {})], {})
            with suppress(KafkaError):
                for _, partitions, _ in (await client.send(leader, request)).topics:
                    producer_ids |= {known[0] for known in partitions[0][3] if known[5] >= 0}
        if not producer_ids:
            return set()
        found: set[str] = set()
        for broker in client.cluster.brokers():
            request = protocol.ExactRequest(protocol.ListTransactionsRequest, [], sorted(producer_ids), {})
            with suppress(KafkaError):
                found |= {transaction[0] for transaction in (await client.send(broker.nodeId, request)).transactions}
        return found

    async def _fetch(self, request: protocol.ExactRequest) -> Committed | None:
        return await offsets_of(self._kafka.client, self._group, request)

    @asynccontextmanager
    async def _step(
        self, number: int, what: str, where: Callable[[BaseException], str] = lambda _: ""
    ) -> AsyncIterator[None]:
        """Bound a step: aiokafka tries some requests again for ever. `where` is asked only if it fails."""
        try:
            async with asyncio.timeout_at(self._deadline_s):
                yield
        except TimeoutError as error:
            late = f"no answer {self._limit_s:.0f} s after its begin"
            raise TransactionError(f"step {number}, {what}{where(error)}: {late}") from None
        except ProducerFenced as error:
            name, membership = self.transactional_id, self._sender.membership
            raise ProducerFenced(await why_fenced(self._connection, self._group, name, membership)) from error
        except (KafkaError, IllegalOperation, AssertionError) as error:  # aiokafka's states are asserts
            # once one topic is refused, aiokafka fails the others for reasons that follow from it
            refused = self._refused()
            cause, place = (refused, "") if refused else (error, where(error))
            cause = cause.__cause__ or cause  # aiokafka tells what it did not expect in a KafkaError of its own
            raise TransactionError(f"step {number}, {what}{place}: {type(cause).__name__}: {cause}") from error

    def _refused(self) -> BaseException | None:
        """Tell why the transaction can't be committed, where the coordinator has refused a part of it."""
        waiter = self._transactions._transaction_waiter
        return waiter.exception() if waiter.done() and not waiter.cancelled() else None


def _undelivered(
    batches: Sequence[Batch],
    deliveries: Sequence["asyncio.Future[object]"],
    unknown: Sequence[TopicPartition],
    error: BaseException,
) -> str:
    """Say on which topic and partition a round failed: a person must know which one to mend."""
    if len(deliveries) < len(batches):
        tps = [batches[len(deliveries)].tp]
    else:
        failures = [(batch.tp, _failure(delivery)) for batch, delivery in zip(batches, deliveries, strict=True)]
        failed = [tp for tp, failure in failures if failure is error]
        # one that is not there holds up those that are
        tps = failed or list(unknown) or [tp for tp, failure in failures if failure]
    more = f" and {len(tps) - 1} more" if len(tps) > 1 else ""
    return f" to {tps[0].topic}, partition {tps[0].partition}{more}" if tps else ""


def _failure(delivery: "asyncio.Future[object]") -> BaseException | None:
    """Give why a batch is not delivered: it failed, is under way, or was waited for until the time was up."""
    is_known = delivery.done() and not delivery.cancelled()
    return delivery.exception() if is_known else asyncio.CancelledError()


async def end_transaction_of(connection: Connection, transactional_id: str, timeout_ms: int) -> None:
    """End the transaction that a worker which is gone left open, by starting a producer in its name.

    Raises:
        TransactionError: Its coordinator did not get it done in twice the time-out of a transaction.
        KafkaError: The cluster does not answer, or refuses to.
    """
    successor = connection.producer(transactional_id=transactional_id, transaction_timeout_ms=timeout_ms)
    try:
        async with asyncio.timeout(timeout_ms / 1000 * 2):
            await successor.start()
    except TimeoutError:
        raise TransactionError(f"the transaction that {transactional_id} left open can't be ended") from None
    finally:
        await successor.stop()
