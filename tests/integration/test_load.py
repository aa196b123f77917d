"""`janela load` on a real broker: what its summary says is what lies on the topics."""

import asyncio
import json
import os
import signal
import time
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from processor import topics
from processor.embedded import EmbeddedKafka
from processor.load.scenario import Scenario
from processor.load.shard import Shard
from processor.settings import Settings
from tests.chaos.harness import patience
from tests.kafka import Kafka
from tests.verbs import ended, started

PARTITIONS = 4
INPUTS = ("messages.inbound", "messages.outbound")
START = "2026-11-22T18:47:19.000Z"
START_US = 1_795_373_239_000_000
AMISS = ("--bad", "0.02", "--doubles", "0.05", "--late", "0.02", "--disorder", "0.1")

pytestmark = pytest.mark.timeout(240)


def of_prefix(kafka: Kafka, topic_prefix: str) -> Settings:
    return Settings(bootstrap_servers=kafka.bootstrap_servers, topic_prefix=topic_prefix, partitions=PARTITIONS)


@pytest.fixture
async def settings(kafka: Kafka, topic_prefix: str) -> Settings:
    """Settings of a prefix of one's own, with its topics."""
    settings = of_prefix(kafka, topic_prefix)
    await topics.apply(settings)
    return settings


async def load(settings: Settings, *arguments: str) -> tuple[int | None, str, str]:
    """Run a load to its end."""
    return await ended(await started(settings, "load", *arguments))


async def loaded(settings: Settings, *arguments: str) -> dict[str, Any]:
    """Run one that goes well, for machines; give its summary."""
    code, out, err = await load(settings, "--json", *arguments)
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


async def on_topics(settings: Settings) -> dict[tuple[str, int], list[ConsumerRecord]]:
    """Read the input topics from start to end."""
    names = topics.names(settings)
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap_servers, enable_auto_commit=False)
    await consumer.start()
    try:
        tps = {TopicPartition(names[name], n): (name, n) for name in INPUTS for n in range(PARTITIONS)}
        consumer.assign(list(tps))
        await consumer.seek_to_beginning(*tps)
        ends = await consumer.end_offsets(list(tps))
        found: dict[tuple[str, int], list[ConsumerRecord]] = {place: [] for place in tps.values()}
        while any([await consumer.position(tp) < ends[tp] for tp in tps]):
            for tp, records in (await consumer.getmany(timeout_ms=500)).items():
                found[tps[tp]] += records
        return found
    finally:
        await consumer.stop()


def bytes_of(records: dict[tuple[str, int], list[ConsumerRecord]]) -> dict[tuple[str, int], list[tuple[bytes, bytes]]]:
    return {place: [(record.key, record.value) for record in some] for place, some in records.items()}


def children_of(process: Process) -> list[int]:
    """Give the processes that a load has started."""
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def counts(records: dict[tuple[str, int], list[ConsumerRecord]], settings: Settings) -> dict[str, int]:
    names = topics.names(settings)
    return {names[name]: sum(len(some) for place, some in records.items() if place[0] == name) for name in INPUTS}


async def test_one_process_puts_the_scenarios_records_on_the_topics_and_counts_them_right(settings: Settings) -> None:
    arguments = ("--rate", "3000", "--seconds", "2", "--contacts", "300", "--seed", "5", "--start", START, *AMISS)
    summary = await loaded(settings, *arguments)
    found = await on_topics(settings)
    assert summary["by_topic"] == counts(found, settings)
    assert summary["acknowledged"] == summary["events"] == summary["made"] == 6000
    assert summary["failed"] == summary["not_answered_for"] == 0
    assert summary["kinds"]["inbound"] + summary["kinds"]["outbound"] == 6000
    assert (summary["start"], summary["start_us"]) == (START, START_US)

    wanted: dict[tuple[str, int], list[tuple[bytes, bytes]]] = {place: [] for place in found}
    scenario = Scenario(rate=3000, seconds=2, contacts=300, seed=5, bad=0.02, doubles=0.05, late=0.02, disorder=0.1)
    assert summary["scenario"] == scenario.model_dump()
    for lane, _, key, value in Shard(scenario, START_US, PARTITIONS).records():
        wanted[INPUTS[lane // PARTITIONS], lane % PARTITIONS].append((key, value))
    assert bytes_of(found) == wanted


async def test_two_processes_put_the_same_records_in_the_same_order_as_one(settings: Settings, kafka: Kafka) -> None:
    arguments = ("--rate", "3000", "--seconds", "2", "--popularity", "zipf", "--start", START, *AMISS)
    summary = await loaded(settings, *arguments)
    others = of_prefix(kafka, f"{settings.topic_prefix}2.")
    await topics.apply(others)
    summary_of_two = await loaded(others, *arguments, "--processes", "2")
    found, found_of_two = await on_topics(settings), await on_topics(others)
    assert bytes_of(found) == bytes_of(found_of_two)
    assert summary_of_two["by_topic"] == counts(found_of_two, others)
    assert summary_of_two["kinds"] == summary["kinds"]
    assert summary_of_two["processes"] == 2


async def test_records_go_out_at_their_moments_and_each_contacts_in_the_order_of_its_events(settings: Settings) -> None:
    summary = await loaded(settings, "--rate", "1000", "--seconds", "3", "--contacts", "50")
    shift_us = summary["begin_us"] - summary["start_us"]
    assert shift_us == 0
    for records in (await on_topics(settings)).values():
        ids = [json.loads(record.value)["id"] for record in records]
        numbers = [int(id_.rpartition("-")[2].partition(".")[0]) for id_ in ids]
        assert numbers == sorted(numbers)
        for id_, record in zip(ids, records, strict=True):  # the broker's clock is ours
            assert record.timestamp >= int(id_.partition(".")[2]) // 1000


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_it_with_a_summary_of_what_is_on_the_topics(
    settings: Settings, processes: str, number: signal.Signals
) -> None:
    process = await started(settings, "load", "--rate", "2000", "--seconds", "600", "--processes", processes, "--json")
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap_servers)
    await consumer.start()
    try:
        tp = TopicPartition(topics.names(settings)["messages.inbound"], 0)
        while not (await consumer.end_offsets([tp]))[tp]:
            assert process.returncode is None
            await asyncio.sleep(0.1)
    finally:
        await consumer.stop()
    started_here = children_of(process)
    assert len(started_here) == (0 if processes == "1" else 2)
    process.send_signal(number)
    code, out, err = await ended(process)
    assert code == 130, err
    summary = json.loads(out)
    found = await on_topics(settings)
    assert summary["by_topic"] == counts(found, settings)
    assert 0 < summary["acknowledged"] == summary["made"] < summary["events"]
    assert summary["kinds"]["inbound"] + summary["kinds"]["outbound"] == summary["made"]
    assert not any(map(lives, started_here))


async def test_a_process_that_dies_ends_the_load_and_the_others(settings: Settings) -> None:
    process = await started(settings, "load", "--rate", "500", "--seconds", "600", "--processes", "2")
    give_up_s = time.monotonic() + 30 * patience()
    while len(children := children_of(process)) < 2 and time.monotonic() < give_up_s:
        await asyncio.sleep(0.1)
    os.kill(children[1], signal.SIGKILL)
    code, out, err = await ended(process)
    assert (code, out) == (1, "")
    assert "janela load: process 1 of the load" in err
    assert not lives(children[0])


async def test_what_the_brokers_refuse_ends_it_and_is_counted(kafka: Kafka, topic_prefix: str) -> None:
    settings = of_prefix(kafka, topic_prefix)
    names = topics.names(settings)
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    try:
        small = {"max.message.bytes": "200"}
        await admin.create_topics(
            [NewTopic(names[name], PARTITIONS, 1, topic_configs=small if name == INPUTS[0] else {}) for name in INPUTS]
        )
    finally:
        await admin.close()
    code, out, err = await load(settings, "--rate", "100", "--seconds", "600", "--json")
    assert code == 1
    summary = json.loads(out)
    assert summary["failed"] > 0
    assert "MessageSizeTooLarge" in summary["error"]
    assert "janela load: the brokers refuse records: MessageSizeTooLarge" in err


async def test_a_broker_that_stands_still_delays_records_and_leaves_none_out() -> None:
    """The schedule goes on without it: no moment is moved, and what was due meanwhile bears the delay."""
    stand_still_s = 2
    with EmbeddedKafka() as kafka:
        settings = of_prefix(kafka, "still.")
        await topics.apply(settings)
        process = await started(settings, "load", "--rate", "500", "--seconds", "6", "--json")
        consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap_servers)
        await consumer.start()
        tp = TopicPartition(topics.names(settings)["messages.inbound"], 0)
        while not (await consumer.end_offsets([tp]))[tp]:
            await asyncio.sleep(0.05)
        kafka.suspend(0)
        await asyncio.sleep(stand_still_s)
        kafka.resume(0)
        code, out, err = await ended(process)
        assert code == 0, err
        await consumer.stop()
        summary, found = json.loads(out), await on_topics(settings)
    assert summary["acknowledged"] == summary["events"] == 3000
    assert summary["by_topic"] == counts(found, settings)
    ids = [json.loads(record.value)["id"] for records in found.values() for record in records]
    assert len(set(ids)) == 3000
    moments_us = sorted(int(id_.partition(".")[2]) for id_ in ids)
    assert [us - moments_us[0] for us in moments_us] == [int(n / 500 * 1e6) for n in range(3000)]
    assert summary["acknowledged_ms"]["max"] >= stand_still_s * 1000 * 0.9


async def test_wrong_options_and_missing_topics_are_refused_in_a_line(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}nowhere."})
    for arguments, of, words in (
        (("--rate", "0"), settings, "rate (--rate): found 0.0 (argument); allowed: a number above 0"),
        (("--profile", "day", "--seconds", "60", "--start", "-1h"), settings, "would lie in the future"),
        (("--start", "soon"), settings, "expected RFC 3339 with a zone, or how long ago"),
        (("--processes", str(PARTITIONS + 1)), settings, f"at most one for each of {PARTITIONS} partitions"),
        ((), nowhere, "janela topics apply`"),
    ):
        code, out, err = await load(of, *arguments)
        assert (code, out) == (2, ""), arguments
        assert words in " ".join(err.replace("│", " ").split())


async def test_a_dry_run_says_what_a_scenario_comes_to_and_needs_no_broker(settings: Settings) -> None:
    away = settings.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
    code, out, _ = await load(away, "--dry-run", "--json", "--profile", "campaign")
    assert code == 0
    plan = json.loads(out)
    assert (plan["events"], plan["seconds"], plan["scenario"]["popularity"]) == (500_000, 60, "once")
    code, out, _ = await load(away, "--dry-run", "--rate", "50")
    assert code == 0
    assert out.splitlines()[-1] == "3,000 events in 60 s"


async def test_without_a_terminal_progress_is_lines_and_the_summary_is_for_people(settings: Settings) -> None:
    code, out, err = await load(settings, "--rate", "200", "--seconds", "7", "--seed", "3")
    assert code == 0
    assert out.splitlines()[0].startswith("1,400 of 1,400 records in 7.")
    assert "seed 3" in out.splitlines()[-1]
    assert [
        line
        for line in err.splitlines()
        if " of 1,400 records, " in line and "in flight" in line and "errors 0" in line
    ]
