"""A worker as its users have it: a process with settings in its environment, against a real Kafka.

What it refuses, how it ends, what it does with records that can't be read, and how it lives through restarts.
"""

import asyncio
import json
import math
import os
import random
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import annotated_types as at
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.structs import OffsetAndMetadata

from processor.audit.findings import OUTPUTS
from processor.audit.partitioner import partition_of
from processor.audit.reading import verify
from processor.audit.records import TopicKind, rfc3339
from processor.codec.state import encode_window
from processor.core.window import Window
from processor.embedded import EmbeddedKafka
from processor.kafka.offsets import Progress, encode_progress
from processor.settings import PREFIX_LENGTH_MAX, Settings
from processor.stream.engine import EXIT_REFUSED
from tests.chaos.backlog import HOUR_MS, Wanted, backlog, hostile
from tests.chaos.harness import INPUTS, Stage, Worker, environment, patience
from tests.kafka import Kafka

pytestmark = pytest.mark.timeout(300)

PARTITIONS = 2
READY_S = 90
"""How long a worker may take to its first commit on a machine that is busy with other things."""
NOBODY = "127.0.0.1:1"
JANELA = ("-m", "processor", "worker")
FAUST = ("-m", "faust", "-A", "processor.worker", "worker")
either_way = pytest.mark.parametrize("command", [JANELA, FAUST], ids=["janela", "faust"])
"""For what is the same however a worker is started."""


@pytest.fixture
def settings(kafka: Kafka, topic_prefix: str) -> Settings:
    return Settings(
        bootstrap_servers=kafka.bootstrap_servers,
        app_id=f"{topic_prefix}janela",
        topic_prefix=topic_prefix,
        partitions=PARTITIONS,
        clock="event",
        session_timeout_ms=6000,
    )


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def contact_on(partition: int, partitions: int = PARTITIONS) -> str:
    """Give a contact whose key belongs on a partition."""
    contacts = (str(5_511_900_000_000 + n) for n in range(10_000))
    return next(it for it in contacts if partition_of(f"whatsapp:15550001:{it}".encode(), partitions) == partition)


def said(kind: TopicKind, contact: str, time_ms: int, id_: str, partition: int) -> Wanted:
    """Give a text of one side."""
    body = {"id": id_, "type": "text", "business_id": "15550001", "contact_id": contact, "time": rfc3339(time_ms)}
    return Wanted(kind, partition, f"whatsapp:15550001:{contact}".encode(), json.dumps(body).encode())


async def make(settings: Settings, name: str, partitions: int, configuration: Mapping[str, str]) -> None:
    """Create one of the contract's topics by hand, before the others."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    try:
        topic = NewTopic(settings.topic_prefix + name, partitions, 1, topic_configs=dict(configuration))
        assert [code for _, code, _ in (await admin.create_topics([topic])).topic_errors] == [0]
    finally:
        await admin.close()


async def stopped(worker: Worker) -> None:
    """End a worker as an operator does."""
    worker.signal(signal.SIGTERM)
    assert await worker.ended(10 * patience()) == 0


# ------------------------------------------------------------------------------------------------------- refusals


async def refusal(worker: Worker, lines: int = 1) -> str:
    """Wait for a worker that must refuse to run, and give what it said: a line for each reason, and no traceback."""
    assert await worker.ended(10 * patience()) == EXIT_REFUSED, worker.told()
    said_lines = [line for line in worker.lines() if ">>>" not in line and "[info" not in line]
    assert len(said_lines) == lines, worker.told()
    return "\n".join(said_lines)


@either_way
async def test_all_bad_settings_are_told_at_once(command: Sequence[str], settings: Settings, tmp_path: Path) -> None:
    wrong = environment(settings, "w", partitions="many", clock="sundial") | {"JANELA_CLOK": "live"}
    told = await refusal(Worker("w", wrong, tmp_path / "w.log", command), lines=3)
    assert "JANELA_PARTITIONS" in told
    assert "JANELA_CLOCK" in told
    assert "JANELA_CLOK (environment): no setting has this name; did you mean JANELA_CLOCK?" in told


@either_way
async def test_a_python_without_asserts_is_refused(command: Sequence[str], settings: Settings, tmp_path: Path) -> None:
    told = await refusal(Worker("w", environment(settings, "w"), tmp_path / "w.log", ("-O", *command)))
    assert "python -O: it removes the asserts" in told


@either_way
async def test_a_static_member_without_a_name_that_stays_is_refused(
    command: Sequence[str], settings: Settings, tmp_path: Path
) -> None:
    variables = environment(settings, "w", membership="static")
    del variables["JANELA_INSTANCE_ID"]
    told = await refusal(Worker("w", variables, tmp_path / "w.log", command))
    assert 'JANELA_MEMBERSHIP (membership): found "static"' in told


async def test_a_broker_that_is_away_is_waited_for_and_then_named(settings: Settings, tmp_path: Path) -> None:
    away = environment(settings, "w", bootstrap_servers=NOBODY, broker_wait_seconds=2)
    began_s = time.monotonic()
    told = await refusal(Worker("w", away, tmp_path / "w.log", JANELA))
    assert time.monotonic() - began_s > 2
    assert f"found none at {NOBODY}" in told
    assert "tried for 2 s, JANELA_BROKER_WAIT_SECONDS" in told


async def test_missing_topics_are_refused(settings: Settings, tmp_path: Path) -> None:
    async with Stage.open(settings, tmp_path, apply=False) as stage:
        told = await refusal(stage.worker("w"))
    assert f"{settings.topic_prefix}*: topics: found none, expected 10; create them with `janela topics apply`" in told


async def test_another_number_of_partitions_than_the_settings_say_is_refused(
    settings: Settings, tmp_path: Path
) -> None:
    async with Stage.open(settings, tmp_path) as stage:
        told = await refusal(stage.worker("w", partitions=3))
    assert f"partitions: found {PARTITIONS}, expected 3, as the settings say; set JANELA_PARTITIONS=2" in told


async def test_inputs_that_are_not_co_partitioned_are_refused(settings: Settings, tmp_path: Path) -> None:
    await make(settings, "messages.outbound", PARTITIONS + 1, {"message.timestamp.type": "LogAppendTime"})
    async with Stage.open(settings, tmp_path) as stage:
        told = await refusal(stage.worker("w"), lines=2)
    assert f"{settings.topic_prefix}messages.outbound: partitions: found 3, expected 2" in told
    assert "co-partitioning: found" in told


async def test_a_window_state_that_is_not_compacted_is_refused(settings: Settings, tmp_path: Path) -> None:
    await make(settings, "window-state", PARTITIONS, {"cleanup.policy": "delete"})
    async with Stage.open(settings, tmp_path) as stage:
        told = await refusal(stage.worker("w"))
    assert f"{settings.topic_prefix}window-state: cleanup.policy: found delete, expected compact" in told


# ---------------------------------------------------------------------------------------- refusals by what is committed


async def committed_state(stage: Stage, app_id: str, partitions: int = PARTITIONS, applied: int = 1) -> None:
    """Leave what a worker leaves that had applied a message on each partition: a window, and committed offsets."""
    settings = stage.settings
    at_ms = now_ms() - HOUR_MS
    contacts = [contact_on(partition) for partition in range(PARTITIONS)]
    await stage.preload(said("inbound", contact, at_ms, "m1", n) for n, contact in enumerate(contacts))
    window = Window(at_ms, at_ms + 24 * HOUR_MS, at_ms)
    for partition, contact in enumerate(contacts):
        await produce(stage, partition, f"whatsapp:15550001:{contact}".encode(), encode_window(window, 2))
    progress = encode_progress(Progress(at_ms, 2, partitions, "00.1", f"{app_id}-gone"))
    offsets = {
        tp: OffsetAndMetadata(applied * tp.topic.endswith("inbound"), progress) for tp in stage.tps(*INPUTS.values())
    }
    member = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap_servers, group_id=app_id, enable_auto_commit=False)
    await member.start()
    try:
        member.assign(list(offsets))
        await member.commit(offsets)
    finally:
        await member.stop()


async def produce(stage: Stage, partition: int, key: bytes, value: bytes | None) -> int:
    """Put a record on `window-state` by hand; gives its offset."""
    producer = AIOKafkaProducer(bootstrap_servers=stage.settings.bootstrap_servers)
    await producer.start()
    try:
        written = await producer.send_and_wait(stage.names["window-state"], value, key=key, partition=partition)
        offset: int = written.offset
        return offset
    finally:
        await producer.stop()


async def test_a_number_of_partitions_that_the_committed_state_does_not_have_is_refused(
    settings: Settings, tmp_path: Path
) -> None:
    async with Stage.open(settings, tmp_path) as stage:
        await committed_state(stage, settings.app_id)
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
        await admin.start()
        try:
            await admin.create_partitions({name: NewPartitions(PARTITIONS + 1) for name in stage.names.values()})
        finally:
            await admin.close()
        told = await refusal(stage.worker("w", partitions=PARTITIONS + 1))
    assert "found 2 in the committed state of" in told
    assert "expected 3 (JANELA_PARTITIONS): set it back, or replay the inputs into a new topic_prefix" in told


async def test_lost_offsets_are_refused_and_gone_over_where_that_is_asked_for(
    settings: Settings, tmp_path: Path
) -> None:
    async with Stage.open(settings, tmp_path) as stage:
        await committed_state(stage, f"{settings.app_id}.other")
        told = await refusal(stage.worker("w"))
        assert "window-state is not empty, expected offsets that can be read from" in told
        assert "JANELA_ON_LOST_OFFSETS=restart" in told
        worker = stage.worker("again", on_lost_offsets="restart")
        contact = contact_on(0)
        await stage.preload([said("outbound", contact, now_ms(), "s1", 0)])
        await stage.until_consumed(READY_S)
        (accepted,) = (await stage.records("send-accepted"))[stage.tps("send-accepted")[0]]
        assert json.loads(accepted.value)["data"]["reason"] == "window-open"  # by the state as it was
        await stopped(worker)


async def test_committed_offsets_below_the_begin_of_the_log_are_refused_and_not_passed_over(
    settings: Settings, tmp_path: Path
) -> None:
    async with Stage.open(settings, tmp_path) as stage:
        await committed_state(stage, settings.app_id)
        inbound, contact = stage.tps("messages.inbound")[0], contact_on(0)
        await stage.preload(said("inbound", contact, now_ms(), f"m{n}", 0) for n in (2, 3, 4))
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
        await admin.start()
        try:
            await admin.delete_records({inbound: RecordsToDelete(before_offset=3)})
        finally:
            await admin.close()
        told = await refusal(stage.worker("w"))
        assert f"partition 0: found committed offsets {inbound.topic} 1, " in told
        assert "where the logs reach from 3 to 4 and 0 to 0" in told
        worker = stage.worker("again", on_lost_offsets="restart")
        await stage.until_consumed(READY_S)
        await stopped(worker)


async def test_committed_offsets_beyond_the_end_of_the_log_are_refused_and_not_waited_for(
    settings: Settings, tmp_path: Path
) -> None:
    """A log has lost its tail: what comes on it next must not be passed over until there is as much as there was."""
    async with Stage.open(settings, tmp_path) as stage:
        await committed_state(stage, settings.app_id, applied=1000)
        told = await refusal(stage.worker("w"))
        assert "partition 0: found committed offsets" in told
        assert "where the logs reach from 0 to 1 and 0 to 0" in told
        worker = stage.worker("again", on_lost_offsets="restart")

        async def gone_on() -> bool:
            committed = await stage.committed()
            return all(committed[tp] == 1 for tp in stage.tps("messages.inbound"))

        await stage.until("it has gone on from the log's start", gone_on, READY_S)
        await stopped(worker)


async def test_a_state_record_that_cannot_be_read_is_refused_by_its_place(settings: Settings, tmp_path: Path) -> None:
    key = f"whatsapp:15550001:{contact_on(1)}".encode()
    async with Stage.open(settings, tmp_path) as stage:
        await committed_state(stage, settings.app_id)
        for value, reason in ((b'{"v":1,"status"', "truncated"), (b'{"v":2,"status":"open"}', "")):
            offset = await produce(stage, 1, key, value)
            told = await refusal(stage.worker("w"))
            assert f"{settings.topic_prefix}window-state, partition 1, offset {offset}: " in told
            assert reason in told
        newer = encode_window(Window(1, 2, 1), 3).replace(b'"v":1', b'"v":2')
        offset = await produce(stage, 1, key, newer)
        told = await refusal(stage.worker("w"))
        assert f"partition 1, offset {offset}: found version 2, this worker knows 1" in told


# ---------------------------------------------------------------------------------------------------- running, ending


async def test_faust_users_can_start_it_their_way(settings: Settings, tmp_path: Path) -> None:
    async with Stage.open(settings, tmp_path) as stage:
        worker = stage.worker("w", command=FAUST)
        await stage.preload(backlog(1, 500, 50, PARTITIONS, now_ms() - HOUR_MS))
        await stage.until_consumed(READY_S)
        worker.signal(signal.SIGUSR1)
        await stage.until("stacks", lambda: any("Current thread" in it for it in worker.lines()), READY_S)
        await stopped(worker)
        assert any("worker.stopped" in it for it in worker.lines()), worker.told()  # its levels are the settings'
        verdict = await verify(settings)
        assert verdict.is_clean, verdict


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe")
async def test_a_stop_before_there_is_anything_to_finish_is_heard(settings: Settings, tmp_path: Path) -> None:
    config = tmp_path / "janela.toml"
    os.mkfifo(config)
    worker = Worker("w", environment(settings, "w") | {"JANELA_CONFIG": str(config)}, tmp_path / "w.log", JANELA)
    with await asyncio.to_thread(config.open, "wb"):  # which comes back when the worker reads its settings
        worker.signal(signal.SIGTERM)
        assert await worker.ended(READY_S) == 0, worker.told()


def at_the_end(settings: Settings, end: Literal["least", "most"]) -> Settings:
    """Put each setting at one end of what is allowed, the number of partitions aside."""
    ends: dict[str, dict[type, str]] = {"least": {at.Ge: "ge", at.Gt: "gt"}, "most": {at.Le: "le"}}
    marks = ends[end]
    changed: dict[str, object] = {}
    for name, field in Settings.model_fields.items():
        for mark in field.metadata:
            if type(mark) in marks and name != "partitions":
                bound = getattr(mark, marks[type(mark)])
                changed[name] = math.nextafter(bound, 1) if isinstance(mark, at.Gt) else bound
    if end == "most":
        changed["app_id"] = settings.app_id.ljust(100, "x")
        changed["topic_prefix"] = settings.topic_prefix.ljust(PREFIX_LENGTH_MAX, "x")
    return Settings.model_validate(settings.model_dump(exclude_unset=True) | changed)


@pytest.mark.parametrize(("end", "name"), [("least", "w"), ("most", "w" * 150)], ids=["least", "most"])
async def test_a_worker_works_with_each_setting_at_the_end_of_what_is_allowed(
    end: Literal["least", "most"], name: str, settings: Settings, tmp_path: Path
) -> None:
    at_end = at_the_end(settings, end)
    async with Stage.open(at_end, tmp_path) as stage:
        events = list(backlog(6, 400, 50, PARTITIONS, now_ms() - HOUR_MS))
        await stage.preload(events)
        worker = stage.worker(name)
        await stage.until_consumed(READY_S)
        await stopped(worker)
        verdict = await verify(at_end)
        assert verdict.is_clean, verdict
        assert verdict.counts.records == len(events)


async def test_five_thousand_hostile_records_become_dead_letters_and_the_worker_goes_on(
    settings: Settings, tmp_path: Path
) -> None:
    async with Stage.open(settings, tmp_path) as stage:
        good = backlog(3, 200, 50, PARTITIONS, now_ms() - HOUR_MS)
        bad = hostile(4, 5000, PARTITIONS, now_ms() - HOUR_MS)
        mixed = [*good, *bad]
        random.Random(5).shuffle(mixed)
        await stage.preload(mixed)
        worker = stage.worker("w")
        await stage.until_consumed(READY_S)
        await stopped(worker)
        verdict = await verify(settings)
        assert verdict.is_clean, verdict
        assert verdict.counts.records == len(mixed)
        assert verdict.counts.dead_letters > 4000
        (end,) = (line for line in worker.lines() if "worker.stopped" in line)
        assert f"records={len(mixed)}" in end.split()  # consumed = processed + dead letters


async def test_a_flood_of_dead_letters_stops_its_partition_alone_where_that_is_asked_for(
    settings: Settings, tmp_path: Path
) -> None:
    async with Stage.open(settings, tmp_path) as stage:
        at_ms = now_ms() - HOUR_MS
        ids = range(300)
        await stage.preload(Wanted("inbound", 0, b"k", b"not json") for _ in ids)
        await stage.preload(said("inbound", contact_on(1), at_ms + n, f"m{n}", 1) for n in ids)
        worker = stage.worker("w", dead_letter_flood="stop", dead_letter_flood_window=100)
        await stage.until_moved({1}, READY_S)
        await asyncio.sleep(1)
        await stage.preload(said("inbound", contact_on(n), at_ms, f"late{n}", n) for n in range(PARTITIONS))
        flooded, other = stage.tps("messages.inbound")

        async def other_is_consumed() -> bool:
            return (await stage.committed())[other] == 301

        await stage.until("the other partition is consumed", other_is_consumed, READY_S)
        await asyncio.sleep(1)
        assert (await stage.committed())[flooded] < 301
        assert any("stream.dead-letter-flood" in line and "partition=0" in line for line in worker.lines())
        await stopped(worker)


async def test_gaps_that_transactions_leave_in_the_inputs_are_read_over(settings: Settings, tmp_path: Path) -> None:
    async with Stage.open(settings, tmp_path) as stage:
        worker = stage.worker("w")
        producer = AIOKafkaProducer(
            bootstrap_servers=settings.bootstrap_servers, transactional_id=f"{settings.topic_prefix}platform"
        )
        await producer.start()
        lasts = dict.fromkeys(stage.tps(*INPUTS.values()), -1)
        begin_ms, number = now_ms() - 40 * HOUR_MS, 0
        kinds: Sequence[TopicKind] = ("inbound", "outbound")
        for n in range(40):
            await producer.begin_transaction()
            is_kept = n % 3 != 2 and n < 36  # the last ones leave markers and aborted records at the ends
            for kind in kinds:
                for partition in range(PARTITIONS):
                    number += 1
                    wanted = said(kind, contact_on(partition), begin_ms + n * HOUR_MS, f"{kind}{number}", partition)
                    tp = TopicPartition(stage.names[INPUTS[kind]], partition)
                    written = await producer.send_and_wait(tp.topic, wanted.value, key=wanted.key, partition=partition)
                    lasts[tp] = written.offset if is_kept else lasts[tp]
            await (producer.commit_transaction() if is_kept else producer.abort_transaction())
        await producer.stop()

        async def all_kept_are_consumed() -> bool:
            committed = await stage.committed()
            return all(committed[tp] > last for tp, last in lasts.items())

        await stage.until("all kept records are consumed", all_kept_are_consumed, READY_S)
        await stopped(worker)
        verdict = await verify(settings)
        assert verdict.is_clean, verdict
        assert verdict.counts.records == 24 * 2 * PARTITIONS
        assert not worker.says("position-jumped")


# ------------------------------------------------------------------------------------------------ restarts, rebalances


async def test_timers_fire_once_over_a_restart(settings: Settings, tmp_path: Path) -> None:
    """W4 E1"""
    begin_ms = now_ms() - 60 * HOUR_MS
    async with Stage.open(settings, tmp_path) as stage:

        async def at(hours: Iterable[int]) -> None:
            records = [
                said(kind, contact_on(partition), begin_ms + hour * HOUR_MS, f"{kind}{hour}", partition)
                for hour in hours
                for partition in range(PARTITIONS)
                for kind in INPUTS_IN_ORDER
            ]
            await stage.preload(records)

        await at([0, 21])  # the first warning is silenced by the second message
        first = stage.worker("w")
        await stage.until_consumed(READY_S)
        await stopped(first)
        await at([50])  # the warning was due at 43, the end at 45
        second = stage.worker("w")
        await stage.until_consumed(READY_S)
        await stopped(second)
        verdict = await verify(settings)
        assert verdict.is_clean, verdict
        fired = await stage.records("window-expiring", "window-closed")
        assert [len(records) for records in fired.values()] == [1, 1, 1, 1]


INPUTS_IN_ORDER: Sequence[TopicKind] = ("inbound", "outbound")


async def test_a_window_ends_by_the_wall_clock_when_nobody_writes_and_never_early(
    settings: Settings, tmp_path: Path
) -> None:
    """W4 E1"""
    async with Stage.open(settings, tmp_path) as stage:
        worker = stage.worker("w", clock="live", expiring_before="3s")
        await stage.until("it has its partitions", lambda: worker.says("restored"), READY_S)
        ends_at_ms = now_ms() + 6000
        contact = contact_on(1)
        await stage.preload([said("inbound", contact, ends_at_ms - 24 * HOUR_MS, "m1", 1)])
        tp = stage.tps("window-closed")[1]

        async def closed() -> bool:
            return bool((await stage.records("window-closed"))[tp])

        await stage.until("the window is closed", closed, 30)
        await stopped(worker)
        (end,) = (await stage.records("window-closed"))[tp]
        (warning,) = (await stage.records("window-expiring"))[stage.tps("window-expiring")[1]]
        assert json.loads(end.value)["data"]["closed_at"] == rfc3339(ends_at_ms)
        assert json.loads(warning.value)["sequence"] < json.loads(end.value)["sequence"]
        late_ms = [warning.timestamp - (ends_at_ms - 3000), end.timestamp - ends_at_ms]
        assert min(late_ms) >= settings.timer_grace_ms  # never early
        assert max(late_ms) < settings.timer_grace_ms + 1500 * patience()
        outputs = await stage.records(*OUTPUTS)
        assert sum(map(len, outputs.values())) == 3


async def test_an_idle_worker_ends_in_time_where_its_broker_is_silent(settings: Settings, tmp_path: Path) -> None:
    """It asks all the time where its inputs end, and an answer may take 40 s."""
    with EmbeddedKafka() as kafka:
        of_its_own = settings.model_copy(update={"bootstrap_servers": kafka.bootstrap_servers, "clock": "live"})
        async with Stage.open(of_its_own, tmp_path) as stage:
            worker = stage.worker("w")
            await stage.preload(said("inbound", contact_on(n), now_ms(), f"m{n}", n) for n in range(PARTITIONS))
            await stage.until_consumed(READY_S)
            kafka.suspend(0)
            try:
                await asyncio.sleep(1)  # until it asks: it does so five times a second
                worker.signal(signal.SIGTERM)
                assert await worker.ended(25) == 0, worker.told()
            finally:
                kafka.resume(0)


async def test_a_member_that_stays_keeps_its_state_over_a_rebalance(settings: Settings, tmp_path: Path) -> None:
    async with Stage.open(settings, tmp_path) as stage:
        first = stage.worker("a")
        await stage.preload(backlog(6, 500, 50, PARTITIONS, now_ms() - HOUR_MS))
        await stage.until_consumed(READY_S)
        second = stage.worker("b")
        await stage.until("the second has a place", lambda: any("restored" in it for it in second.lines()), READY_S)
        await stage.until("the first has kept one", lambda: any("kept=1" in it for it in first.lines()), READY_S)
        (assigned,) = (line for line in first.lines() if "stream.assigned" in line and "kept=1" in line)
        assert "restoring=0" in assigned.split()
        await stopped(second)
        await stage.until("the first has both", lambda: "restoring=1" in "".join(first.lines()[-3:]), READY_S)
        at_ms = now_ms() - HOUR_MS // 2
        await stage.preload(said("inbound", contact_on(n), at_ms, f"after{n}", n) for n in range(PARTITIONS))
        await stage.until_consumed(READY_S)
        await stopped(first)
        verdict = await verify(settings)
        assert verdict.is_clean, verdict
