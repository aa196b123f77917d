"""`janela verify` on a real broker: what a worker left is clean, and what a hand adds is named."""

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.admin.records_to_delete import RecordsToDelete

from processor import topics
from processor.audit.partitioner import partition_of
from processor.audit.records import rfc3339
from processor.audit.rounds import HEADER, Round
from processor.settings import Settings
from tests.chaos.backlog import HOUR_MS, Wanted, backlog
from tests.chaos.harness import Stage
from tests.integration.conftest import PARTITIONS
from tests.verbs import ended, started

pytestmark = pytest.mark.timeout(300)

READY_S = 90


async def verify(settings: Settings, *arguments: str, **changed: str) -> tuple[int | None, str, str]:
    """Run the verb to its end; give exit code, stdout and stderr."""
    return await ended(await started(settings, "verify", *arguments, **changed))


async def verified(settings: Settings, *arguments: str) -> tuple[int | None, dict[str, Any]]:
    """Run the verb for machines; give exit code and answer."""
    code, out, err = await verify(settings, "--json", *arguments)
    assert out, err
    answer: dict[str, Any] = json.loads(out)
    return code, answer


async def copied(settings: Settings, tp: TopicPartition, record: Any) -> int:
    """Put a record on its topic once more; gives its offset."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers)
    await producer.start()
    try:
        written = await producer.send_and_wait(
            tp.topic, record.value, key=record.key, partition=tp.partition, headers=list(record.headers)
        )
        offset: int = written.offset
        return offset
    finally:
        await producer.stop()


async def test_what_a_worker_left_is_clean_and_an_event_that_a_hand_adds_is_named(
    settings: Settings, tmp_path: Path
) -> None:
    end_ms = time.time_ns() // 1_000_000 - 3 * HOUR_MS
    async with Stage.open(settings, tmp_path) as stage:
        code, nothing = await verified(settings)
        assert (code, nothing["consumed"]["records"]) == (0, 0)  # no group, no records, no fault

        records = backlog(7, 1000, 80, PARTITIONS, end_ms)
        await stage.preload(records)
        worker = stage.worker("w")
        await stage.until_consumed(READY_S)
        code, answer = await verified(settings)
        assert (code, answer["faults"]) == (0, {})
        consumed = answer["consumed"]
        assert consumed["records"] == len(records) == consumed["applied"] + consumed["dead_letters"]
        assert consumed["dead_letters"] > 0

        worker.kill()
        await stage.preload(backlog(8, 20, 80, PARTITIONS, end_ms + HOUR_MS, days=0.01))
        code, out, _ = await verify(settings, "--sample", "1/2")
        assert code == 0
        assert "positions of the inputs are not consumed yet" in out
        assert "nothing is wrong" in out

        tp = stage.tps("window-closed")[1]
        closed = (await stage.records("window-closed"))[tp][0]
        id_, offset = json.loads(closed.value)["id"], await copied(settings, tp, closed)
        code, out, _ = await verify(settings)
        assert code == 1
        assert f"doubled window-closed[1]@{offset}: {id_}" in out
        code, answer = await verified(settings, "--partition", "1")
        assert (code, answer["partitions"], answer["faults"]["doubled"]) == (1, 1, 1)
        code, answer = await verified(settings, "--partition", "0")
        assert (code, answer["faults"]) == (0, {})

        async with topics.asking(settings) as admin:
            await admin.delete_topics([stage.names["send-accepted"]])
        await topics.apply(settings)
        code, answer = await verified(settings, "--partition", "0")
        assert (code, list(answer["faults"])) == (1, ["lost"])
        sends = (await stage.records("messages.outbound"))[stage.tps("messages.outbound")[0]]
        for example in answer["examples"]:
            assert example["offset"] is None
            cause = example["cause"]
            assert (cause["topic"], cause["partition"]) == ("messages.outbound", 0)
            (send,) = (record for record in sends if record.offset == cause["offset"])
            assert f"{send.key.decode()}/{json.loads(send.value)['id']}/accepted" == example["subject"]
            assert f"must come of messages.outbound[0]@{send.offset}" in example["details"]

        await lost_beginning(settings, tp)
        code, out, err = await verify(settings)
        assert (code, out) == (2, "")
        assert f"{tp.topic}[1]: begins at offset 1, expected 0" in err


async def test_positions_behind_which_nothing_is_committed_are_no_lag_and_what_cannot_be_judged_is_refused(
    settings: Settings, tmp_path: Path
) -> None:
    async with Stage.open(settings, tmp_path) as stage:
        now_ms = time.time_ns() // 1_000_000
        await stage.preload(_ending(now_ms, HOUR_MS, 6))
        stage.worker("w")
        await stage.until_consumed(READY_S)
        producer = settings.connection.producer(transactional_id=f"{settings.app_id}-platform")
        await producer.start()
        try:
            tp = stage.tps("messages.inbound")[0]
            await producer.begin_transaction()
            await producer.send_and_wait(tp.topic, b"{}", partition=tp.partition)
            code, answer = await verified(settings)
            assert (code, answer["not_consumed"]) == (0, 1)  # it may yet be committed
            await producer.abort_transaction()
        finally:
            await producer.stop()
        code, answer = await verified(settings)
        assert (code, answer["not_consumed"]) == (0, 0)

        code, out, err = await verify(settings.model_copy(update={"app_id": "another"}))
        assert (code, out) == (2, "")
        assert "group another, partition 0: found no committed offset, expected one" in err

        compacting = ConfigResource(
            ConfigResourceType.TOPIC, stage.names["window-opened"], {"cleanup.policy": "delete,compact"}
        )
        async with topics.asking(settings) as admin:
            (response,) = await admin.alter_configs([compacting])
        assert [code for code, *_ in response.resources] == [0]
        code, out, err = await verify(settings)
        assert (code, out) == (2, "")
        assert f"{stage.names['window-opened']}: cleanup.policy: found delete,compact, expected delete; " in err


async def lost_beginning(settings: Settings, tp: TopicPartition) -> None:
    """Delete a partition's first record, as retention does."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_records({tp: RecordsToDelete(before_offset=1)})
    finally:
        await admin.close()


async def test_a_live_worker_whose_timers_fire_meanwhile_is_clean_and_a_hand_in_its_rounds_is_named(
    settings: Settings, tmp_path: Path
) -> None:
    """W4 E1"""
    live = settings.model_copy(update={"clock": "live", "expiring_before": "2h"})
    async with Stage.open(live, tmp_path) as stage:
        began_ms = time.time_ns() // 1_000_000
        await stage.preload(_ending(began_ms, 24 * HOUR_MS, 12))  # windows that end while the worker is at work
        await stage.preload(_ending(began_ms, 22 * HOUR_MS, 12, who=100))  # ... and such that warn
        stage.worker("w")
        await stage.until_consumed(READY_S)

        for number, topic in enumerate(("window-closed", "window-expiring")):
            await stage.until(f"{topic} has fired", partial(_reached, stage, topic, 12), READY_S)
            await stage.preload(_ending(began_ms, HOUR_MS * number, 3, who=200 + 10 * number))
        await stage.until_consumed(READY_S)
        assert {where.clock_ms >= began_ms for where in await _rounds(stage, "window-closed")} == {True}
        for arguments in ((), ("--sample", "1/3"), ("--skew", "5s")):
            code, answer = await verified(live, *arguments)
            assert (code, answer["faults"]) == (0, {}), answer["examples"]

        code, answer = await verified(live.model_copy(update={"timer_grace_ms": 60_000}))
        assert (code, set(answer["faults"])) == (1, {"early"})
        code, answer = await verified(settings)  # told that event time alone moves the clock
        assert (code, set(answer["faults"])) == (1, {"early"})
        for text in (b"0+999/0 0+0/0 0+1/0", b"?"):
            closed = (await stage.records("window-closed"))[stage.tps("window-closed")[0]][0]
            spoilt = closed.__class__(**{**vars_of(closed), "headers": ((HEADER, text),)})
            await copied(live, stage.tps("window-closed")[0], spoilt)
        code, answer = await verified(live)
        assert code == 1
        assert {"doubled", "wrong", "out-of-order"} <= set(answer["faults"])


def vars_of(record: Any) -> dict[str, Any]:
    """Give the fields of a record as a consumer gets it."""
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


async def _reached(stage: Stage, topic: str, least: int) -> bool:
    return sum(len(records) for records in (await stage.records(topic)).values()) >= least


async def _rounds(stage: Stage, topic: str) -> list[Round]:
    found = [Round.read(each.headers) for records in (await stage.records(topic)).values() for each in records]
    assert found
    assert None not in found
    return [each for each in found if each is not None]


def _ending(now_ms: int, ago_ms: int, count: int, who: int = 0) -> list[Wanted]:
    """Give messages from so long ago, and each some more of a second later than the one before."""
    found = []
    for n in range(count):
        contact = str(5_511_900_000_000 + who + n)
        key = f"whatsapp:15550001:{contact}".encode()
        body = {"id": f"m{who + n}", "type": "text", "business_id": "15550001", "contact_id": contact}
        value = json.dumps(body | {"time": rfc3339(now_ms - ago_ms + 1000 * n)}).encode()
        found.append(Wanted("inbound", partition_of(key, PARTITIONS), key, value))
    return found


async def test_missing_topics_and_wrong_options_are_refused_in_a_line(settings: Settings) -> None:
    code, out, err = await verify(settings)
    assert (code, out) == (2, "")
    assert "topics: found none, expected 10; create them with `janela topics apply`" in err
    for wrong in (("--sample", "2/1"), ("--sample", "half"), ("--partition", "2"), ("--skew", "5")):
        code, out, err = await verify(settings, *wrong)
        assert (code, out) == (2, "")
        assert wrong[0] in err
