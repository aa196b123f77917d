"""The brokers' time on a real broker, asked by machines whose own clock is an hour off or is set meanwhile."""

import asyncio
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, ProducerFenced

from processor.kafka import clock as clock_module
from processor.kafka.clock import BrokerClock
from processor.kafka.connection import Connection
from tests.chaos.harness import patience
from tests.kafka import Kafka

HOUR_MS = 3_600_000


class Machine:
    """The clock of a machine that is off."""

    def __init__(self, off_ms: int) -> None:
        self.off_ms = off_ms

    def time_ns(self) -> int:
        return time.time_ns() + self.off_ms * 1_000_000


@pytest.fixture(params=[HOUR_MS, -HOUR_MS])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Let the clock that is tested run on a machine whose time is off."""
    machine = Machine(request.param)
    stands_in = SimpleNamespace(time_ns=machine.time_ns, monotonic=time.monotonic)
    monkeypatch.setattr(clock_module, "time", stands_in)
    return machine


@pytest.fixture
async def clock(machine: Machine, kafka: Kafka, topic_prefix: str) -> AsyncIterator[BrokerClock]:
    assert machine.off_ms
    tp = await stamped(kafka, topic_prefix)
    clock = BrokerClock(Connection(kafka.bootstrap_servers), f"{topic_prefix}w-clock", tp)
    await clock.start()
    yield clock
    await clock.stop()


async def stamped(kafka: Kafka, topic_prefix: str) -> TopicPartition:
    """Make a topic whose records bear the broker's time."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    name = f"{topic_prefix}stamped"
    await admin.create_topics([NewTopic(name, 1, 1, topic_configs={"message.timestamp.type": "LogAppendTime"})])
    await admin.close()
    return TopicPartition(name, 0)


async def told(kafka: Kafka, tp: TopicPartition) -> int:
    """Let the broker say what time it is, by a record."""
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        stamp: int = (await producer.send_and_wait(tp.topic, b"?", partition=tp.partition)).timestamp
        return stamp


async def test_the_time_is_the_brokers_and_never_ahead_of_it(
    kafka: Kafka, clock: BrokerClock, machine: Machine
) -> None:
    for _ in range(3):
        before_ms = clock.now_ms()
        broker_ms = await told(kafka, clock._tp)
        after_ms = clock.now_ms()
        assert before_ms <= broker_ms < after_ms + 5_000 * patience()
    assert abs(clock.ahead_ms() - machine.off_ms) < 5_000 * patience()


async def test_a_machine_whose_clock_was_set_asks_again(kafka: Kafka, clock: BrokerClock, machine: Machine) -> None:
    asked_s, machine.off_ms = clock._asked_s, 0
    give_up_s = time.monotonic() + 30 * patience()
    while clock._asked_s == asked_s:
        assert time.monotonic() < give_up_s, "it has not asked again"
        await asyncio.sleep(0.1)
    assert clock.now_ms() <= await told(kafka, clock._tp)
    assert abs(clock.ahead_ms()) < 5_000 * patience()


async def test_without_an_answer_it_goes_on_by_the_last_one(
    kafka: Kafka, clock: BrokerClock, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    clock._connection, machine.off_ms = Connection("127.0.0.1:1"), 0
    give_up_s = time.monotonic() + 30 * patience()
    while "clock.unanswered" not in capsys.readouterr().out:
        assert time.monotonic() < give_up_s, "nothing is said"
        await asyncio.sleep(0.1)
    before_ms = clock.now_ms()
    assert before_ms <= await told(kafka, clock._tp) < clock.now_ms() + 5_000 * patience()


async def test_brokers_that_do_not_tell_are_an_error_at_the_start(topic_prefix: str) -> None:
    clock = BrokerClock(Connection("127.0.0.1:1"), f"{topic_prefix}w-clock", TopicPartition(f"{topic_prefix}none", 0))
    with pytest.raises(KafkaError):
        await clock.start()


async def test_a_question_that_another_one_of_the_same_name_fences_says_so(
    kafka: Kafka, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{topic_prefix}w/clock"
    tp = await stamped(kafka, topic_prefix)
    begin = AIOKafkaProducer.begin_transaction

    async def overtaken(asking: AIOKafkaProducer) -> None:
        await begin(asking)
        async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, transactional_id=name):
            pass

    monkeypatch.setattr(AIOKafkaProducer, "begin_transaction", overtaken)
    with pytest.raises(ProducerFenced, match="another process with the same instance id"):
        await BrokerClock(Connection(kafka.bootstrap_servers), name, tp).start()
