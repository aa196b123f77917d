"""Guards of the stream layer, made to fire in a live worker: a hang, a doubled name, a jump, a topic that runs ahead.

Where the fault can't be made from outside, the worker is started by a few lines that make it inside.
"""

import asyncio
import json
import signal
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from processor.audit.reading import verify
from processor.kafka.group import members_of
from processor.settings import Settings
from processor.stream.engine import EXIT_FAILED, Engine
from processor.stream.watchdog import EXIT_STUCK
from tests.chaos.backlog import HOUR_MS, Wanted, backlog
from tests.chaos.harness import INPUTS, Stage, Worker, patience
from tests.kafka import Kafka

pytestmark = pytest.mark.timeout(240)

PARTITIONS = 2
READY_S = 90
STOP_S = 10  # promised
WATCHDOG_S = 10
BATCH_RECORDS = 500
BUFFER_RECORDS = 2000

WORKER = """
import asyncio, json
from processor.settings import Settings
from processor.stream.app import create_app
from processor.stream.loop import TransactionLoop
from processor.stream.transport import Carrier

app = create_app(Settings.load())
engine = app.engine
{fault}
worker = app.Worker(loglevel="WARN", quiet=True)
worker.execute_from_commandline()
"""

OWNERS = """
import weakref
from processor.stream.owner import Owner

owners, begin = weakref.WeakSet(), Owner.__init__

def noted(owner, *arguments):
    begin(owner, *arguments)
    owners.add(owner)

Owner.__init__ = noted

@app.task
async def tell():
    while True:
        await asyncio.sleep(0.2)
        print(f"OWNERS {len(owners)}", flush=True)
"""

HANG = """
async def hang(loop, ends):
    await asyncio.sleep(3600)

TransactionLoop._decide = hang
"""

JUMP = """
accept, jumped = engine.accept, set()

def jumping(carrier):
    if carrier.tp not in jumped and carrier.records:  # as if what lies before its last record had been lost on the way
        jumped.add(carrier.tp)
        carrier = Carrier(carrier.tp, carrier.stop - 1, carrier.stop, carrier.opening, carrier.records[-1:])
    accept(carrier)

engine.accept = jumping
"""

AHEAD = """
accept, most = engine.accept, {}

def noting(carrier):
    accept(carrier)
    for owner in engine.owners.values():
        for buffer in owner.buffers:
            if len(buffer.events) > most.get(buffer.tp.topic, 0):
                most[buffer.tp.topic] = len(buffer.events)
                print("BUFFERED " + json.dumps(most), flush=True)

engine.accept = noting
"""

DEAF = """
from processor.stream.transport import ConsumerThread

async def nothing(thread, timeout, given):
    await asyncio.sleep(timeout)
    return []

ConsumerThread.fetch = nothing
"""

ENDLESS = """
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread

async def unanswered(thread, *tps):
    await asyncio.sleep(3600)

AIOKafkaConsumerThread.highwaters = AIOKafkaConsumerThread.earliest_offsets = unanswered
"""

SLOW = """
from pathlib import Path
from processor.stream.restore import Restorer

read = Restorer._read

async def slowly(restorer, consumer, partitions, on_read):
    while not Path("{gate}").exists():
        await asyncio.sleep(0.1)
    async for found in read(restorer, consumer, partitions, on_read):
        yield found

Restorer._read = slowly
"""

PAUSE = """
import os, signal
from processor.kafka import producer

def pause(place):
    if place == "records-delivered":
        producer.failpoint = lambda _: None
        print("STANDS STILL", flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)

producer.failpoint = pause
"""


def command(fault: str) -> tuple[str, str]:
    return "-c", WORKER.replace("{fault}", fault)


@pytest.fixture
def settings(kafka: Kafka, topic_prefix: str) -> Settings:
    return Settings(
        bootstrap_servers=kafka.bootstrap_servers,
        app_id=f"{topic_prefix}janela",
        topic_prefix=topic_prefix,
        partitions=PARTITIONS,
        clock="event",
        session_timeout_ms=6000,
        transaction_timeout_ms=6000,
        watchdog_seconds=WATCHDOG_S,
        batch_records_max=BATCH_RECORDS,
        buffer_records_max=BUFFER_RECORDS,
    )


def times(worker: Worker, event: str) -> int:
    return sum(event in line for line in worker.lines())


def some(events: int, seed: int = 11) -> list[Wanted]:
    return backlog(seed, events, 100, PARTITIONS, time.time_ns() // 1_000_000 - HOUR_MS)


async def test_a_worker_whose_offsets_a_strange_transaction_holds_ends_and_says_so(
    settings: Settings, tmp_path: Path
) -> None:
    """A transaction that no worker began, and that no time-out ends soon, stands for one that hangs."""
    stranger = AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap_servers,
        transactional_id=f"{settings.topic_prefix}stranger",
        transaction_timeout_ms=600_000,
    )
    async with Stage.open(settings, tmp_path) as stage:
        await stranger.start()
        try:
            async with stranger.transaction():
                offsets = {TopicPartition(stage.names["messages.inbound"], 0): 0}
                await stranger.send_offsets_to_transaction(offsets, settings.app_id)
                worker = stage.worker("w")
                assert await worker.ended(READY_S) == EXIT_FAILED
        finally:
            await stranger.stop()
        assert "no stable offsets" in worker.told()
        assert "find-hanging" in worker.told()


async def test_a_worker_that_has_input_and_commits_nothing_ends_itself_and_shows_all_stacks(
    settings: Settings, tmp_path: Path
) -> None:
    async with Stage.open(settings, tmp_path) as stage:
        await stage.preload(some(200))
        worker = stage.worker("w", command=command(HANG))
        assert await worker.ended(READY_S) == EXIT_STUCK, worker.told()
        told = "\n".join(worker.lines())
    assert "worker.stuck" in told
    assert told.count("most recent call first") > 1, "not the stacks of all threads"


async def test_a_worker_waits_for_nothing_that_fausts_own_recovery_would_ask(
    settings: Settings, tmp_path: Path
) -> None:
    """It would end for good after the first 40 s without an answer, and no worker of it would get a record again."""
    async with Stage.open(settings, tmp_path) as stage:
        await stage.preload(some(200))
        stage.worker("w", command=command(ENDLESS))
        await stage.until_consumed(READY_S)


@pytest.mark.parametrize("clock", ["event", "live"])
async def test_a_worker_to_which_nothing_comes_of_what_is_there_ends_itself_too(
    clock: str, settings: Settings, tmp_path: Path
) -> None:
    async with Stage.open(settings.model_copy(update={"clock": clock}), tmp_path) as stage:
        await stage.preload(some(200))
        worker = stage.worker("w", command=command(DEAF))
        assert await worker.ended(READY_S) == EXIT_STUCK, worker.told()
    assert worker.says("worker.stuck"), worker.told()


@pytest.mark.parametrize("clock", ["event", "live"])
async def test_a_worker_waits_for_as_long_as_a_producer_keeps_its_transaction_open(
    clock: str, settings: Settings, tmp_path: Path
) -> None:
    async with Stage.open(settings.model_copy(update={"clock": clock}), tmp_path) as stage:
        await stage.preload(some(200))
        worker = stage.worker("w")
        await stage.until_consumed(READY_S)
        platform = AIOKafkaProducer(
            bootstrap_servers=settings.bootstrap_servers, transactional_id=f"{settings.topic_prefix}platform"
        )
        await platform.start()
        try:
            async with platform.transaction():
                await stage.write(platform, some(20, seed=12))
                await asyncio.sleep(1.5 * WATCHDOG_S)
                assert worker.code is None, worker.told()
        finally:
            await platform.stop()
        await stage.until_consumed(READY_S)
    assert worker.says("stream.input-transaction-open"), worker.told()


@pytest.mark.parametrize("membership", ["dynamic", "static"])
async def test_of_two_workers_with_one_name_the_first_ends_and_says_so(
    membership: str, settings: Settings, tmp_path: Path
) -> None:
    named = settings.model_copy(update={"membership": membership})
    async with Stage.open(named, tmp_path) as stage:
        await stage.preload(some(200))
        first = stage.worker("same")
        await stage.until_consumed(READY_S)
        stage.worker("same")
        give_up_s = time.monotonic() + READY_S
        while first.code is None:  # it learns of the other one when it next has something to commit
            assert time.monotonic() < give_up_s, first.told()
            await stage.preload(some(20, seed=12))
            await asyncio.sleep(0.2)
        assert first.code == EXIT_FAILED, first.told()
        assert first.says("instance id same is in use elsewhere"), first.told()


@pytest.mark.parametrize("membership", ["dynamic", "static"])
async def test_a_worker_that_stood_still_while_a_successor_took_over_does_not_blame_its_name(
    membership: str, settings: Settings, tmp_path: Path
) -> None:
    longer = {"membership": membership, "transaction_timeout_ms": 30_000, "watchdog_seconds": 60}
    patient = settings.model_copy(update=longer)
    async with Stage.open(patient, tmp_path) as stage:
        await stage.preload(some(200))
        paused = stage.worker("paused", command=command(PAUSE))
        await stage.until("it stands still", lambda: "STANDS STILL" in paused.lines(), READY_S)
        stage.worker("successor")
        await stage.until_consumed(READY_S)
        paused.signal(signal.SIGCONT)
        assert await paused.ended(READY_S) == EXIT_FAILED, paused.told()
    (told,) = [line for line in paused.lines() if "worker.fenced" in line]
    assert "by a successor" in told
    assert "in use elsewhere" not in told


async def test_a_group_that_another_application_is_in_is_told_at_the_first_join(
    settings: Settings, tmp_path: Path
) -> None:
    """Aiokafka waits until its error is taken, for ever, and joins no group meanwhile."""
    async with Stage.open(settings, tmp_path) as stage:
        stranger = AIOKafkaConsumer(
            stage.names["messages.inbound"], bootstrap_servers=settings.bootstrap_servers, group_id=settings.app_id
        )
        await stranger.start()
        try:
            worker = stage.worker("w")
            assert await worker.ended(READY_S) == EXIT_FAILED, worker.told()
        finally:
            await stranger.stop()
    assert any("worker.failed" in line and "InconsistentGroupProtocol" in line for line in worker.lines()), (
        worker.told()
    )


@pytest.mark.parametrize("membership", ["dynamic", "static"])
async def test_a_worker_that_is_stopped_while_others_are_waited_for_leaves_in_time(
    membership: str, settings: Settings, tmp_path: Path
) -> None:
    """A rebalance waits for a member that stands still until its session ends; aiokafka's stop would wait with it."""
    patient = settings.model_copy(
        update={"membership": membership, "session_timeout_ms": 60_000, "watchdog_seconds": 90}
    )
    async with Stage.open(patient, tmp_path) as stage:
        await stage.preload(some(200))
        stays, still = stage.worker("stays"), stage.worker("still")
        for worker in stays, still:
            await stage.until("it has partitions", partial(times, worker, "stream.restored"), READY_S)
        still.signal(signal.SIGSTOP)
        revoked = times(stays, "stream.revoked")
        new = stage.worker("new")
        await stage.until("a rebalance has begun", lambda: times(stays, "stream.revoked") > revoked, READY_S)
        await asyncio.sleep(1)
        for worker in stays, new:
            worker.signal(signal.SIGTERM)
        for worker in stays, new:
            assert await worker.ended(STOP_S * patience()) == 0, worker.told()
        there = {"still"} if membership == "dynamic" else {"stays", "still", "new"}
        members = await members_of(patient.connection, patient.app_id, READY_S)
        assert {name.removeprefix(f"{patient.app_id}-") for name in members.values()} == there


async def test_the_open_transaction_of_a_live_member_is_spared_and_that_of_a_dead_one_is_ended(
    settings: Settings, tmp_path: Path
) -> None:
    """Only a writer that is gone may be ended in its name: one that lives would be fenced by it."""
    async with Stage.open(settings, tmp_path) as stage, AsyncExitStack() as stack:
        tps = dict(zip(("alive", "dead"), stage.tps("window-state"), strict=True))
        for name, tp in tps.items():
            writer = AIOKafkaProducer(
                bootstrap_servers=settings.bootstrap_servers, transactional_id=f"{settings.app_id}-{name}"
            )
            await writer.start()
            stack.push_async_callback(writer.stop)
            await writer.begin_transaction()
            await writer.send_and_wait(tp.topic, b"{}", key=b"key", partition=tp.partition)
        member = AIOKafkaConsumer(
            stage.names["messages.inbound"],
            bootstrap_servers=settings.bootstrap_servers,
            client_id=f"{settings.app_id}-alive",
            group_id=settings.app_id,
        )
        await member.start()
        stack.push_async_callback(member.stop)
        engine = Engine(settings)
        for name in tps:
            await engine.end_transaction_of(f"{settings.app_id}-{name}")

        async def ended() -> bool:
            return tps["dead"].partition not in await stage.open_transactions()

        await stage.until("the dead one's transaction is over", ended, READY_S)
        assert await stage.open_transactions() == {tps["alive"].partition}


async def test_a_jump_of_positions_is_seen_and_what_it_left_out_is_read(settings: Settings, tmp_path: Path) -> None:
    async with Stage.open(settings, tmp_path) as stage:
        await stage.preload(some(4000))
        worker = stage.worker("w", command=command(JUMP))
        await stage.until_consumed(READY_S)
        verdict = await verify(settings)
        jumps = [line for line in worker.lines() if "stream.position-jumped" in line]
    assert len(jumps) == 2 * PARTITIONS
    assert verdict.is_clean, verdict


async def test_a_topic_that_runs_ahead_is_held_back_and_the_other_one_is_not(
    settings: Settings, tmp_path: Path
) -> None:
    """A producer's open transaction keeps the one from its end, so the other has to wait for it."""
    async with Stage.open(settings, tmp_path) as stage:
        records = some(40_000)
        platform = AIOKafkaProducer(
            bootstrap_servers=settings.bootstrap_servers, transactional_id=f"{settings.topic_prefix}platform"
        )
        await platform.start()
        await platform.begin_transaction()
        for partition in range(PARTITIONS):
            first = next(it for it in records if it.kind == "outbound" and it.partition == partition)
            await platform.send_and_wait(
                stage.names["messages.outbound"], first.value, key=first.key, partition=partition
            )
        await stage.preload(records)
        worker = stage.worker("w", command=command(AHEAD))
        inbound = stage.names["messages.inbound"]

        def most() -> dict[str, int]:
            said = [line for line in worker.lines() if line.startswith("BUFFERED ")]
            return dict(json.loads(said[-1].removeprefix("BUFFERED "))) if said else {}

        await stage.until("the inbound buffer is full", lambda: most().get(inbound, 0) > BUFFER_RECORDS, READY_S)
        await asyncio.sleep(2)  # what was on its way has come
        assert await stage.progress() == 0
        await platform.commit_transaction()
        await platform.stop()
        await stage.until_consumed(READY_S)
        assert most()[inbound] < 3 * BUFFER_RECORDS
        verdict = await verify(settings)
    assert verdict.is_clean, verdict


async def test_an_assignment_that_is_revoked_while_it_restores_leaves_nothing_behind(
    settings: Settings, tmp_path: Path
) -> None:
    async with Stage.open(settings, tmp_path) as stage:
        await stage.preload(some(4000))
        gate = tmp_path / "restore may go on"
        slow = stage.worker("slow", command=command(SLOW.replace("{gate}", str(gate))))

        def told() -> list[str]:
            wanted = ("stream.assigned", "stream.revoked", "stream.restored")
            return [event for line in slow.lines() for event in wanted if event in line]

        await stage.until("the first assignment", told, READY_S)
        stage.worker("other")
        await stage.until("it is revoked", lambda: "stream.revoked" in told(), READY_S)
        gate.touch()
        await stage.until_consumed(READY_S)
        verdict = await verify(settings)
    assert told()[:3] == ["stream.assigned", "stream.revoked", "stream.assigned"]
    assert verdict.is_clean, verdict


async def test_the_state_of_partitions_that_went_elsewhere_is_dropped(settings: Settings, tmp_path: Path) -> None:
    """At once, not when the next partition comes: the collector does not look at old objects by itself."""

    def held() -> int:
        return int([line for line in stays.lines() if line.startswith("OWNERS")][-1].split()[1])

    async def has_one() -> bool:
        return len((await stage.partitions_of(stays))[1]) == 1

    async with Stage.open(settings, tmp_path) as stage:
        stays = stage.worker("stays", command=command(OWNERS))
        await stage.preload(some(2000))
        await stage.until_consumed(READY_S)
        assert held() == PARTITIONS
        stage.worker("other")
        await stage.until("each has a partition", has_one, READY_S)
        await stage.until("the one that went is dropped", lambda: held() == 1, READY_S)


async def test_a_partition_that_stays_goes_on_while_another_one_is_restored(settings: Settings, tmp_path: Path) -> None:
    async with Stage.open(settings, tmp_path) as stage:
        (gate := tmp_path / "restore may go on").touch()
        stays = stage.worker("stays", command=command(SLOW.replace("{gate}", str(gate))))
        other = stage.worker("other")

        async def places() -> list[set[int]]:
            return [(await stage.partitions_of(worker))[1] for worker in (stays, other)]

        async def lag() -> dict[int, int]:
            ends, committed = await stage.ends(*INPUTS.values()), await stage.committed()
            return {n: sum(ends[tp] - committed[tp] for tp in ends if tp.partition == n) for n in range(PARTITIONS)}

        async def are_shared() -> bool:
            return [len(found) for found in await places()] == [1, 1]

        async def is_alone() -> bool:
            return (await places())[0] == set(range(PARTITIONS))

        async def is_at_its_end() -> bool:
            return not (await lag())[kept]

        await stage.preload(some(2000))
        await stage.until("each has a partition", are_shared, READY_S)
        await stage.until_consumed(READY_S)
        ((kept,), (moved,)) = await places()
        gate.unlink()
        other.kill()
        await stage.evict(other)
        await stage.until("one has both", is_alone, READY_S)
        end_ms = time.time_ns() // 1_000_000 - HOUR_MS // 2
        await stage.preload(backlog(12, 2000, 100, PARTITIONS, end_ms, 0.01, first=2000))
        lay = await lag()
        assert min(lay.values()) > 500
        await stage.until("the one that stayed is read to its end", is_at_its_end, READY_S)
        assert (await lag())[moved] == lay[moved]
        gate.touch()
        await stage.until_consumed(READY_S)
        verdict = await verify(settings)
    assert verdict.is_clean, verdict
