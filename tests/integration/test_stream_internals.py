"""What we lean on inside Faust, aiokafka and the broker, one test for each: their versions are pinned because of these.

When one fails after an upgrade, its sentence says what has changed; the module that leans on it is named beside it.
"""

import asyncio
import inspect
import json
import time
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.consumer import consumer as consumer_module
from aiokafka.consumer import fetcher
from aiokafka.consumer.subscription_state import TopicPartitionState
from aiokafka.errors import CoordinatorLoadInProgressError, NodeNotReadyError, ProducerFenced
from aiokafka.producer import sender
from aiokafka.producer.message_accumulator import BatchBuilder, MessageAccumulator
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.protocol.api import RequestStruct
from aiokafka.record.default_records import DefaultRecordBatch
from faust.app import BootStrategy
from faust.stores import STORES, memory
from faust.tables import TableManager
from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers import aiokafka as driver
from faust.types import ConsumerMessage

from processor.kafka import protocol
from processor.kafka.batch import Batch
from processor.kafka.connection import Connection
from processor.kafka.fetched import FetchedRecords
from processor.kafka.group import is_gone, members_of, why_fenced
from processor.kafka.patience import PatientRecords, PatientResult
from processor.kafka.producer import Committed, TransactionalProducer, TransactionError
from processor.kafka.protocol import ExactRequest, Membership
from processor.settings import Settings
from processor.stream.transport import ConsumerThread
from tests.chaos.harness import Stage
from tests.kafka import Kafka

TIMEOUT_MS = 10_000


# --------------------------------------------------------------------------------------------- versions and signatures


@pytest.mark.parametrize(("package", "pinned"), [("aiokafka", "0.14.0"), ("faust-streaming", "0.15.3")])
def test_the_versions_are_those_whose_inside_was_read(package: str, pinned: str) -> None:
    assert version(package) == pinned


SIGNATURES: list[tuple[Callable[..., Any], str]] = [
    # processor.stream.transport
    (driver.AIOKafkaConsumerThread._create_worker_consumer, "self, transport"),
    (driver.AIOKafkaConsumerThread._ensure_consumer, "self"),
    (driver.AIOKafkaConsumerThread.on_partitions_assigned, "self, assigned, generation_id"),
    (driver.AIOKafkaConsumerThread.call_thread, "self, fun, args, kwargs"),
    (driver.AIOKafkaConsumerThread.on_crash, "self, msg, fmt, kwargs"),
    (driver.Consumer._new_consumer_thread, "self"),
    (driver.Consumer.getmany, "self, timeout"),
    (driver.AIOKafkaConsumerThread.on_thread_stop, "self"),
    (driver.Consumer.highwaters, "self, partitions"),
    (driver.Consumer.earliest_offsets, "self, partitions"),
    (driver.Consumer.perform_seek, "self"),
    (driver.Consumer.commit, "self, topics, start_new_transaction"),
    (driver.Consumer._add_gap, "self, tp, offset_from, offset_to"),
    (driver.Consumer.verify_event_path, "self, now, tp"),
    (driver.Consumer.close, "self"),
    (faust.Schema.compile, "self, app, on_key_decode_error, on_value_decode_error, default_propagate"),
    (fetcher.Fetcher._notify, "self, future"),
    # processor.kafka.patience, which puts classes of ours in place of these
    (PatientResult.__bases__[0].getall, "self, max_records"),
    (PatientResult.__bases__[0].has_more, "self"),
    (PatientResult.__bases__[0].check_assignment, "self, tp"),
    (PatientRecords.__bases__[0]._unpack_records, "self"),
    (PatientRecords.__bases__[0]._consumer_record, "self, tp, record"),
    (fetcher.Fetcher._create_fetch_waiter, "self"),
    (fetcher.Fetcher.next_record, "self, partitions"),
    (fetcher.Fetcher.fetched_records, "self, partitions, timeout, max_records"),
    # processor.kafka.protocol and .producer
    (sender.Sender._do_txn_offset_commit, "self, offsets, group_id"),
    (sender.Sender._do_txn_commit, "self, commit_result"),
    (sender.Sender._find_coordinator, "self, coordinator_type, coordinator_key"),
    (sender.TxnOffsetCommitHandler.__init__, "self, sender, offsets, group_id"),
    (sender.TxnOffsetCommitHandler.create_request, "self"),
    (sender.EndTxnHandler.__init__, "self, sender, commit_result"),
    (sender.EndTxnHandler.handle_response, "self, resp"),
    (MessageAccumulator.flush_for_commit, "self"),
    (TransactionManager.is_empty_transaction, "self"),
    (TransactionManager.maybe_add_partition_to_txn, "self, tp"),
    (TransactionManager.complete_transaction, "self"),
    (AIOKafkaProducer.send_batch, "self, batch, topic, partition"),
    (RequestStruct.parse_response_header, "self, read_buffer"),
    # processor.stream.store
    (memory.Store.__post_init__, "self"),
    (memory.Store.on_recovery_completed, "self, active_tps, standby_tps"),
    (memory.Store.reset_state, "self"),
    (TableManager.on_start, "self"),
    (TableManager._update_channels, "self"),
    # processor.foreground
    (faust.Worker._shutdown_loop, "self"),
    (faust.Worker._gather_futures, "self, timeout"),
    (faust.Worker._crash, "self, reason"),
    (faust.Worker.on_setup_root_logger, "self, logger, level"),
    (faust.Worker._on_sigusr1, "self"),
    (faust.Worker._on_sigusr2, "self"),
    # processor.stream.app
    (BootStrategy._should_enable_web, "self"),
    (faust.App.on_first_start, "self"),
    (faust.App.FlowControlQueue, "self, maxsize, clear_on_resume"),
    (faust.App._create_directories, "self"),
    (faust.App._on_agent_error, "self, agent, exc"),
]


@pytest.mark.parametrize(("function", "parameters"), SIGNATURES, ids=lambda it: getattr(it, "__qualname__", None))
def test_a_function_that_we_override_or_call_takes_what_it_took(function: Callable[..., Any], parameters: str) -> None:
    found = ", ".join(inspect.signature(function).parameters)
    assert found == parameters, f"{function.__qualname__} has changed: it takes ({found})"


def test_a_consumer_message_of_faust_has_its_fields_in_the_order_that_we_fill_them() -> None:
    found = list(inspect.signature(ConsumerMessage.__init__).parameters)[1:13]
    wanted = "topic partition offset timestamp timestamp_type headers key value checksum serialized_key_size".split()
    assert found == [*wanted, "serialized_value_size", "tp"]


def test_a_fetch_keeps_its_records_unread_under_the_names_that_it_had() -> None:
    """processor.kafka.patience sets them to patience before the first is read, and begins anew where they ended."""
    unread = FetchedRecords(b"")
    parts = fetcher.PartitionRecords(TopicPartition("t", 0), unread, [], 5, None, None, True, fetcher.READ_COMMITTED)
    assert parts._records is unread
    assert parts.next_fetch_offset == 5
    assert unread.is_patient
    assert next(parts, None) is None
    assert parts._records_iterator is None
    parts._records_iterator = parts._unpack_records()
    assert next(parts, None) is None


def test_faust_looks_for_transports_and_stores_where_we_name_ours() -> None:
    import processor.stream.app  # noqa: F401 (its imports name them)

    assert TRANSPORTS.aliases["carrier"] == "processor.stream.transport:Transport"
    assert STORES.aliases["owners"] == "processor.stream.store:Store"


async def test_clients_keep_what_we_reach_for_under_the_names_that_it_had() -> None:
    consumer, producer = AIOKafkaConsumer("t", group_id="g"), AIOKafkaProducer(transactional_id="x")
    kept: list[tuple[Any, str]] = [
        (consumer, "_isolation_level _fetch_max_wait_ms _closed _subscription _enable_auto_commit"),
        (producer, "_sender _txn_manager client"),
        (BatchBuilder(1024, 0), "_builder _relative_offset"),
        (producer._sender, "client _acks _txn_manager _message_accumulator _request_timeout_ms"),
        (producer._txn_manager, "transactional_id producer_id producer_epoch _pid_and_epoch _sequence_numbers"),
        (producer._txn_manager, "_transaction_waiter"),
        (producer.client, "coordinator_lookup send"),
        (consumer._subscription, "fetch_context reassignment_in_progress"),
        (fetcher.FetchResult, "getall has_more"),
        (fetcher.FetchError, "check_raise"),
        (TopicPartitionState, "seek has_valid_position"),
        (fetcher.PartitionRecords, "_consumer_record"),
        (fetcher, "MemoryRecords PartitionRecords FetchResult"),
        (consumer_module, "Fetcher"),
        (
            DefaultRecordBatch,
            "magic compression_type base_offset next_offset producer_id is_control_batch is_transactional validate_crc",
        ),
    ]
    missing = [f"{owner}.{name}" for owner, names in kept for name in names.split() if not hasattr(owner, name)]
    assert missing == []
    await consumer.stop()
    await producer.stop()


@pytest.mark.parametrize("is_assigned", [False, True], ids=["aiokafka's own waits for ever", "or is cancelled"])
async def test_a_consumer_is_stopped_while_a_request_of_its_waits_for_the_next_try(
    is_assigned: bool, kafka: Kafka, topic_prefix: str
) -> None:
    consumer = Connection(kafka.bootstrap_servers).consumer()
    await consumer.start()
    if is_assigned:
        consumer.assign([TopicPartition(f"{topic_prefix}none", 0)])
        await asyncio.sleep(0.2)
    requests = [asyncio.create_task(asyncio.sleep(60)) for _ in range(3)]
    consumer._fetcher._pending_tasks.update(requests)
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await consumer.stop()
    assert all(request.cancelled() for request in requests)
    assert not any(link.connected() for link in consumer._client._conns.values())


# ------------------------------------------------------------------------------------------------------- transactions


class Member:
    """A real member of a group, and topics of its own."""

    def __init__(self, bootstrap_servers: str, prefix: str) -> None:
        self.bootstrap_servers, self.group = bootstrap_servers, f"{prefix}group"
        self.topic, self.small = f"{prefix}records", f"{prefix}small"
        self.tp = TopicPartition(self.topic, 0)
        self.membership = Membership(-1, "", None)
        self._started: list[TransactionalProducer] = []
        self._consumer = AIOKafkaConsumer(
            self.topic, bootstrap_servers=bootstrap_servers, group_id=self.group, enable_auto_commit=False
        )

    async def join(self) -> None:
        await self._consumer.start()
        while not self._consumer.assignment():
            await self._consumer.getmany(timeout_ms=50)
        self._note()

    async def rejoin(self) -> None:
        self._consumer._coordinator.request_rejoin()
        while self._consumer._coordinator.generation <= self.membership.generation:
            await self._consumer.getmany(timeout_ms=50)
        self._note()

    def _note(self) -> None:
        coordinator = self._consumer._coordinator
        self.membership = Membership(coordinator.generation, coordinator.member_id, None)

    async def producer(self, name: str = "a") -> TransactionalProducer:
        producer = TransactionalProducer(
            Connection(self.bootstrap_servers), self.group, f"{self.group}-{name}", TIMEOUT_MS
        )
        await producer.start()
        self._started.append(producer)
        return producer

    async def commit(self, producer: TransactionalProducer, offset: int, membership: Membership | None = None) -> None:
        await producer.commit([batch(self.tp)], self.offsets(offset), membership or self.membership)

    def offsets(self, offset: int) -> Committed:
        return {self.tp: (offset, f"beside {offset}")}

    async def committed(self, producer: TransactionalProducer) -> Committed:
        async def stalled(_: Committed) -> None:
            raise AssertionError("a transaction is open")

        return await producer.committed([self.topic], [0], stalled)

    async def seen(self) -> int:
        """Count the records that a read_committed consumer sees."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap_servers, isolation_level="read_committed")
        await consumer.start()
        try:
            consumer.assign([self.tp])
            await consumer.seek_to_beginning(self.tp)
            end = (await consumer.end_offsets([self.tp]))[self.tp]
            seen = 0
            while await consumer.position(self.tp) < end:
                seen += sum(map(len, (await consumer.getmany(timeout_ms=200)).values()))
            return seen
        finally:
            await consumer.stop()

    async def stop(self) -> None:
        for producer in self._started:
            try:
                async with asyncio.timeout(5):
                    await producer.stop()
            except (TimeoutError, AssertionError):  # one that failed inside a transaction is left as it is
                producer._kafka._sender._sender_task.cancel()
                await producer._kafka.client.close()
                producer._kafka._closed = True
        await self._consumer.stop()


def batch(tp: TopicPartition, size: int = 10) -> Batch:
    batch = Batch(tp, time.time_ns() // 1_000_000)
    assert batch.add(b"k", b"x" * size, [])
    return batch


@pytest.fixture
async def member(kafka: Kafka, topic_prefix: str) -> AsyncIterator[Member]:
    member = Member(kafka.bootstrap_servers, topic_prefix)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    small = NewTopic(member.small, 1, 1, topic_configs={"max.message.bytes": "500"})
    await admin.create_topics([NewTopic(member.topic, 1, 1), small])
    await admin.close()
    await member.join()
    yield member
    await member.stop()


async def test_offsets_and_what_stands_beside_them_are_read_back_as_committed(member: Member) -> None:
    producer = await member.producer()
    assert await member.committed(producer) == {}
    await member.commit(producer, 7)
    assert await member.committed(producer) == {member.tp: (7, "beside 7")}
    assert await member.seen() == 1


async def test_offsets_are_asked_for_again_where_the_broker_that_was_asked_for_the_coordinator_is_away(
    member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer = await member.producer()
    await member.commit(producer, 7)
    client = producer._kafka.client
    lookup, asked = client.coordinator_lookup, list[Any]()

    async def sometimes(*what: Any) -> Any:
        asked.append(what)
        if len(asked) < 3:
            raise NodeNotReadyError
        return await lookup(*what)

    monkeypatch.setattr(client, "coordinator_lookup", sometimes)
    assert await member.committed(producer) == {member.tp: (7, "beside 7")}
    assert len(asked) == 3


async def test_a_group_that_nobody_can_speak_of_for_the_moment_is_not_taken_for_empty(
    member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = Connection(member.bootstrap_servers)
    assert await is_gone(connection, member.group, "w")

    async def loading(*_: Any) -> list[Any]:
        return [SimpleNamespace(groups=[(CoordinatorLoadInProgressError.errno, "g", "", "", "", [])])]

    monkeypatch.setattr(AIOKafkaAdminClient, "describe_consumer_groups", loading)
    with pytest.raises(CoordinatorLoadInProgressError):
        await members_of(connection, member.group, within_s=0.3)
    assert not await is_gone(connection, member.group, "w")
    assert "by a successor" in await why_fenced(
        connection, member.group, f"{member.group}-w", Membership(1, "w-1", None)
    )


async def test_each_transaction_has_an_epoch_of_its_own(member: Member) -> None:
    producer = await member.producer()
    manager = producer._kafka._txn_manager
    ids = [(manager.producer_id, manager.producer_epoch)]
    for offset in (1, 2, 3):
        await member.commit(producer, offset)
        ids.append((manager.producer_id, manager.producer_epoch))
    assert ids == sorted(set(ids)), "EndTxn v5 does not answer with a new epoch"
    assert await member.seen() == 3


async def test_a_late_copy_of_an_end_is_refused_inside_the_next_transaction(member: Member) -> None:
    producer = await member.producer()
    manager, client = producer._kafka._txn_manager, producer._kafka.client
    old = manager.transactional_id, manager.producer_id, manager.producer_epoch
    await member.commit(producer, 1)
    await producer._kafka.begin_transaction()
    await (await producer._kafka.send_batch(batch(member.tp), member.topic, partition=0))
    node = await client.coordinator_lookup(CoordinationType.TRANSACTION, manager.transactional_id)
    copy = ExactRequest(protocol.EndTxnRequest, *old, True, {})
    response = await client.send(node, copy, group=ConnectionGroup.COORDINATION)
    assert response.error_code != 0, "the copy has ended a transaction that is not its own"
    await producer._kafka.abort_transaction()
    assert await member.seen() == 1


@pytest.mark.parametrize("step", ["send_offsets_to_transaction", "commit_transaction"])
async def test_whoever_another_process_of_its_name_has_fenced_hears_that_at_the_later_steps(
    member: Member, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    producer = await member.producer()
    await member.commit(producer, 1)
    go_on = getattr(producer._kafka, step)

    async def overtaken(*what: Any, **how: Any) -> Any:
        await member.producer()
        return await go_on(*what, **how)

    monkeypatch.setattr(producer._kafka, step, overtaken)
    with pytest.raises(ProducerFenced):
        await member.commit(producer, 2)
    assert isinstance(producer._kafka._txn_manager._transaction_waiter.exception(), ProducerFenced)
    assert await member.seen() == 1


@pytest.mark.parametrize(("given", "left"), [(1, 1), (2, 0)])
def test_whoever_asked_before_a_partition_was_opened_is_given_nothing_of_it(given: int, left: int) -> None:
    """The one who asked may be gone since, by a rebalance; what is taken for him would never arrive."""
    tp = TopicPartition("t", 0)
    fetched = SimpleNamespace(check_raise=lambda: None)
    subscriptions = SimpleNamespace(reassignment_in_progress=False)
    fetcher = SimpleNamespace(
        _records={tp: fetched}, _subscriptions=subscriptions, _notify=lambda _: None, _wait_consume_future=None
    )
    thread: Any = SimpleNamespace(_openings={tp: 2}, _held=frozenset())
    assert ConsumerThread._take(thread, fetcher, given) == []
    assert len(fetcher._records) == left


async def test_offsets_of_an_old_generation_are_refused(member: Member) -> None:
    producer, old = await member.producer(), member.membership
    await member.commit(producer, 1)
    await member.rejoin()
    assert member.membership.generation > old.generation
    with pytest.raises(TransactionError, match="IllegalGeneration"):
        await member.commit(producer, 2, old)
    assert await member.committed(await member.producer()) == {member.tp: (1, "beside 1")}


async def test_offsets_of_a_member_that_the_group_does_not_know_are_refused(member: Member) -> None:
    producer = await member.producer()
    with pytest.raises(TransactionError, match="UnknownMemberId"):
        await member.commit(producer, 2, Membership(member.membership.generation, "nobody", None))
    assert await member.seen() == 0


@pytest.mark.parametrize("none", [Membership(-1, "", None), Membership(3, "", None), Membership(0, "someone", None)])
async def test_offsets_without_a_fence_are_not_even_sent(member: Member, none: Membership) -> None:
    producer = await member.producer()
    with pytest.raises(TransactionError, match="no fence"):
        await member.commit(producer, 2, none)
    await member.commit(producer, 3)  # nothing was begun
    assert await member.committed(producer) == {member.tp: (3, "beside 3")}


async def test_a_batch_that_failed_is_never_committed_over(member: Member) -> None:
    producer = await member.producer()
    small = TopicPartition(member.small, 0)
    with pytest.raises(TransactionError, match="step 5, wait for the deliveries"):
        await producer.commit([batch(member.tp), batch(small, 2000)], member.offsets(1), member.membership)
    successor = await member.producer()  # what a new worker of this name does first
    assert await member.committed(successor) == {}
    assert await member.seen() == 0


async def test_stable_offsets_wait_for_an_open_transaction_and_tell_what_was_there_before(member: Member) -> None:
    dead, successor = await member.producer(), await member.producer("b")
    await member.commit(dead, 1)
    kafka = dead._kafka
    await kafka.begin_transaction()
    await kafka.send_offsets_to_transaction({member.tp: 2}, member.group)
    told: list[Committed] = []

    async def stalled(before: Committed) -> None:
        told.append(before)
        await asyncio.sleep(0.5)
        await kafka.abort_transaction()

    began_s = time.monotonic()
    found = await successor.committed([member.topic], [0], stalled)
    assert time.monotonic() - began_s > 0.9
    assert told == [{member.tp: (1, "beside 1")}]
    assert found == {member.tp: (1, "beside 1")}


# ------------------------------------------------------------------------------------------------- the live consumer

LOOK = """
import asyncio, json, os, time
from processor.settings import Settings
from processor.stream.app import create_app

app, carriers = create_app(Settings.load()), []
accept = app.engine.accept

def noting(carrier):
    carriers.append((carrier.tp.topic, carrier.start, carrier.stop, [record.offset for record in carrier.records]))
    accept(carrier)

app.engine.accept = noting

@app.task
async def look():
    while not app.engine.owners or sum(map(bool, carriers)) < 2:
        await asyncio.sleep(0.1)
    await asyncio.sleep(2)
    consumer = app.consumer._thread._consumer
    seen = {
        "isolation": consumer._isolation_level,
        "fetcher_isolation": consumer._fetcher._isolation_level,
        "generation": app.consumer.membership.generation,
        "member": app.consumer.membership.member_id,
        "member_now": consumer._coordinator.member_id,
        "carriers": carriers,
        "auto_commit": consumer._enable_auto_commit,
        "web": app.boot_strategy._should_enable_web(),
        "processing_guarantee": app.conf.processing_guarantee.value,
    }
    print("SEEN " + json.dumps(seen), flush=True)
    os._exit(0)

worker = app.Worker(loglevel="WARN", quiet=True)
worker.execute_from_commandline()
"""


@pytest.mark.timeout(180)
async def test_the_live_consumer_reads_committed_records_and_its_carriers_cover_every_gap(
    kafka: Kafka, topic_prefix: str, tmp_path: Path
) -> None:
    settings = Settings(
        bootstrap_servers=kafka.bootstrap_servers,
        app_id=f"{topic_prefix}janela",
        topic_prefix=topic_prefix,
        partitions=1,
        clock="event",
    )
    async with Stage.open(settings, tmp_path) as stage:
        platform = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, transactional_id=f"{topic_prefix}p")
        await platform.start()
        inbound = stage.names["messages.inbound"]
        kept: list[int] = []
        for n in range(12):
            await platform.begin_transaction()
            written = [await platform.send_and_wait(inbound, b"%d" % n, partition=0) for _ in range(3)]
            if n % 2:
                await platform.commit_transaction()
                kept += [record.offset for record in written]
            else:
                await platform.abort_transaction()
        await platform.begin_transaction()  # and a topic of nothing but what was aborted
        await platform.send_and_wait(stage.names["messages.outbound"], b"never", partition=0)
        await platform.abort_transaction()
        await platform.stop()
        ends = await stage.ends("messages.inbound", "messages.outbound")
        worker = stage.worker("look", command=("-c", LOOK))
        assert await worker.ended(120) == 0
        (line,) = (line for line in worker.lines() if line.startswith("SEEN "))
        seen = json.loads(line.removeprefix("SEEN "))
    assert (seen["isolation"], seen["fetcher_isolation"]) == ("read_committed", fetcher.READ_COMMITTED)
    assert (seen["auto_commit"], seen["web"], seen["processing_guarantee"]) == (False, False, "at_least_once")
    assert seen["generation"] > 0
    assert seen["member"] == seen["member_now"] != ""
    for tp, end in ends.items():
        of_topic = [carrier for carrier in seen["carriers"] if carrier[0] == tp.topic]
        assert [start for _, start, _, _ in of_topic] == [0, *(stop for _, _, stop, _ in of_topic[:-1])]
        assert of_topic[-1][2] == end, "a carrier does not reach over the gap at the end"
        offsets = [offset for *_, records in of_topic for offset in records]
        assert offsets == (kept if tp.topic == inbound else [])
