"""`janela send` and `janela watch` on a real broker."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from processor import topics
from processor.codec.keys import partition_of
from processor.settings import Settings
from tests.chaos.harness import ROOT, environment
from tests.kafka import Kafka
from tests.verbs import janela

PARTITIONS = 3
KEY = "whatsapp:15550001:5511999998888"
WHO = ("--business", "15550001", "--contact", "5511999998888")


@pytest.fixture
async def settings(kafka: Kafka, topic_prefix: str) -> Settings:
    """Settings of a prefix of one's own, with its topics."""
    settings = Settings(bootstrap_servers=kafka.bootstrap_servers, topic_prefix=topic_prefix, partitions=PARTITIONS)
    await topics.apply(settings)
    return settings


async def record_at(settings: Settings, topic: str, partition: int, offset: int) -> Any:
    """Read one record."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap_servers)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(settings.topic_prefix + topic, partition)])
        consumer.seek(TopicPartition(settings.topic_prefix + topic, partition), offset)
        return await asyncio.wait_for(consumer.getone(), 10)
    finally:
        await consumer.stop()


def event(kind: str, sequence: int, contact: str = "5511999998888", **data: Any) -> dict[str, Any]:
    """Make an output event, as far as `watch` looks at it."""
    return {
        "type": f"janela.window.{kind}.v1",
        "subject": f"whatsapp:15550001:{contact}",
        "time": f"2026-11-22T18:00:{sequence:02d}.000Z",
        "sequence": f"{sequence:020d}",
        "data": data,
    }


def opened(sequence: int, contact: str = "5511999998888") -> dict[str, Any]:
    return event(
        "opened",
        sequence,
        contact,
        expires_at="2026-11-23T18:00:00.000Z",
        cause={"id": "in-1", "type": "text"},
    )


def closed(sequence: int, contact: str = "5511999998888") -> dict[str, Any]:
    return event("closed", sequence, contact, reason="expired", unanswered=True)


async def emit(
    settings: Settings, *outputs: tuple[str, dict[str, Any] | None], commit: bool = True, key: str = KEY
) -> None:
    """Write outputs as a worker does: in a transaction, which may come to nothing."""
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap_servers, transactional_id=f"{settings.topic_prefix}emit"
    )
    await producer.start()
    try:
        await producer.begin_transaction()
        for topic, value in outputs:
            raw = None if value is None else json.dumps(value).encode()
            wire_key = value["subject"] if value and "subject" in value else key
            await producer.send_and_wait(settings.topic_prefix + topic, raw, wire_key.encode(), partition=0)
        await (producer.commit_transaction() if commit else producer.abort_transaction())
    finally:
        await producer.stop()


# ------------------------------------------------------------------------------------------------------ send


async def test_a_message_lies_under_its_key_on_the_partition_of_its_key(settings: Settings) -> None:
    code, out, err = await janela(settings, "send", "inbound", "--type", "text", *WHO, "--field", "body=olá", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["topic"] == f"{settings.topic_prefix}messages.inbound"
    assert found["partition"] == partition_of(KEY.encode(), PARTITIONS)
    record = await record_at(settings, "messages.inbound", found["partition"], found["offset"])
    assert record.key.decode() == found["key"] == KEY
    value = json.loads(record.value)
    assert value["id"] == found["id"]
    assert (value["type"], value["business_id"], value["contact_id"]) == ("text", "15550001", "5511999998888")
    assert value["body"] == "olá"


async def test_a_send_is_written_as_it_was_said(settings: Settings) -> None:
    value = {"type": "template", "category": "utility", "id": "out-1", "time": "2026-11-22T18:47:19Z"}
    code, out, _ = await janela(settings, "send", "outbound", "--value", "-", *WHO, stdin=json.dumps(value).encode())
    assert code == 0
    partition = partition_of(KEY.encode(), PARTITIONS)
    assert out == f"{settings.topic_prefix}messages.outbound partition {partition} offset 0 key {KEY}\n"
    record = await record_at(settings, "messages.outbound", partition, 0)
    assert json.loads(record.value) == value | {"business_id": "15550001", "contact_id": "5511999998888"}


async def test_unchecked_bytes_go_where_they_are_told(settings: Settings) -> None:
    where = ("--key", "none", "--partition", "2")
    code, out, _ = await janela(
        settings, "send", "inbound", "--unchecked", "--value", "-", *where, "--json", stdin=b"\xff{"
    )
    assert code == 0
    assert json.loads(out)["id"] is None
    record = await record_at(settings, "messages.inbound", 2, json.loads(out)["offset"])
    assert (record.key, record.value) == (b"none", b"\xff{")


async def test_what_the_cluster_refuses_is_one_line(settings: Settings) -> None:
    inbound, configs = topics.names(settings)["messages.inbound"], {"max.message.bytes": "1000"}
    async with topics.asking(settings) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, inbound, configs=configs)])
    code, out, err = await janela(
        settings, "send", "inbound", "--unchecked", "--value", "-", "--key", "none", stdin=b"x" * 2_000
    )
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith(f"the cluster at {settings.bootstrap_servers} refuses: ")


@pytest.mark.parametrize("verb", [("watch",), ("send", "inbound", "--type", "text", *WHO)])
async def test_without_topics_one_line_names_the_remedy(settings: Settings, verb: tuple[str, ...]) -> None:
    code, out, err = await janela(settings, *verb, topic_prefix=f"{settings.topic_prefix}no.")
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert "janela topics apply" in line


# ----------------------------------------------------------------------------------------------------- watch


async def test_what_is_there_comes_in_order_of_sequence_and_the_aborted_does_not(settings: Settings) -> None:
    await emit(settings, ("window-closed", closed(2)), ("window-opened", opened(1)), ("window-opened", opened(3)))
    await emit(settings, ("window-opened", opened(4)), commit=False)
    await emit(settings, ("window-closed", closed(5)))
    code, out, err = await janela(settings, "watch", "--from-beginning", "--limit", "4", "--json")
    assert (code, err) == (0, "")
    assert [json.loads(line)["sequence"][-1] for line in out.splitlines()] == ["1", "2", "3", "5"]
    assert json.loads(out.splitlines()[0]) == opened(1)


async def test_kinds_and_contacts_are_chosen(settings: Settings) -> None:
    await emit(
        settings,
        ("window-opened", opened(1, "5511999990001")),
        ("window-closed", closed(2, "5511999990001")),
        ("window-closed", closed(3, "5511999990002")),
    )
    chosen = ("--kind", "closed", "--contact", "0002")
    code, out, err = await janela(settings, "watch", "--from-beginning", "--limit", "1", *chosen)
    assert code == 0
    assert err == f"watching {settings.topic_prefix}window-closed from their beginning on; Ctrl-C ends it\n"
    assert out == "2026-11-22 18:00:03  closed    whatsapp:15550001:5511999990002  expired, unanswered\n"


async def test_states_come_when_asked_for_with_their_key(settings: Settings) -> None:
    state = {"v": 1, "status": "open", "sequence": f"{1:020d}"}
    await emit(settings, ("window-state", state), ("window-state", None), ("window-opened", opened(2)))
    code, out, _ = await janela(settings, "watch", "--from-beginning", "--limit", "2", "--kind", "state", "--json")
    assert code == 0
    assert [json.loads(line) for line in out.splitlines()] == [
        {"key": KEY, "value": state},
        {"key": KEY, "value": None},
    ]


@pytest.fixture
def watching(settings: Settings) -> Iterator[subprocess.Popen[str]]:
    """A `janela watch` that runs until it is told to end."""
    process = subprocess.Popen(
        (sys.executable, "-m", "processor", "watch", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(settings, "watch") | {"PYTHONPATH": str(ROOT)},
    )
    with process:
        yield process
        process.kill()


async def test_from_now_on_only_what_is_new_comes_and_ctrl_c_is_no_failure(
    settings: Settings, watching: subprocess.Popen[str]
) -> None:
    assert watching.stdout is not None
    first = asyncio.create_task(asyncio.to_thread(watching.stdout.readline))
    sequence = 0
    while not first.done():  # it says nothing when it is ready, so go on until it is
        sequence += 1
        await emit(settings, ("window-opened", opened(sequence)))
        await asyncio.sleep(0.2)
    seen = int(json.loads(await first)["sequence"])
    assert 1 <= seen <= sequence
    await emit(settings, ("window-closed", closed(50)))
    watching.send_signal(signal.SIGINT)
    out, err = await asyncio.to_thread(watching.communicate, timeout=15)
    assert (watching.returncode, err) == (0, "")
    following = [int(json.loads(line)["sequence"]) for line in out.splitlines()]
    assert following == sorted(following)
