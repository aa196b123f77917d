"""Restoring from the state topics: to their ends, past what is open, and not beyond."""

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from processor.codec.state import encode_window
from processor.core.window import Window
from processor.kafka.log import LogReader
from processor.settings import Settings
from processor.stream.restore import RestoredState, Restorer
from tests.chaos.harness import Stage
from tests.kafka import Kafka

HOUR_MS = 3_600_000


@pytest.fixture
def settings(kafka: Kafka, topic_prefix: str) -> Settings:
    return Settings(
        bootstrap_servers=kafka.bootstrap_servers,
        app_id=f"{topic_prefix}janela",
        topic_prefix=topic_prefix,
        partitions=2,
    )


def window(at_ms: int) -> bytes:
    return encode_window(Window(at_ms, at_ms + 24 * HOUR_MS, at_ms), 1)


async def test_a_partition_that_is_ready_is_read_no_further_while_another_waits(
    settings: Settings, tmp_path: Path
) -> None:
    """Its owner is at work by then, and writes."""
    async with Stage.open(settings, tmp_path) as stage:
        topic = stage.names["window-state"]
        owner = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers)
        dead = AIOKafkaProducer(
            bootstrap_servers=settings.bootstrap_servers, transactional_id=f"{settings.app_id}-dead"
        )
        log_reader = LogReader(settings.connection, lambda: 0)
        for client in (owner, dead, log_reader):
            await client.start()
        await owner.send_and_wait(topic, window(1), key=b"w:1:a", partition=0)
        await owner.send_and_wait(topic, window(1), key=b"w:1:b", partition=1)
        await dead.begin_transaction()
        await dead.send_and_wait(topic, window(2), key=b"w:1:b", partition=1)
        freed: list[int] = []

        async def end_open_transaction(partition: int) -> None:
            freed.append(partition)
            await dead.abort_transaction()

        restorer = Restorer(settings.connection, stage.names, log_reader, end_open_transaction)
        restored: dict[int, RestoredState] = {}
        async for partition, state in restorer.restore([0, 1]):
            restored[partition] = state
            if partition == 0:
                for n in range(50):
                    await owner.send_and_wait(topic, window(3), key=b"w:1:%d" % n, partition=0)
                await asyncio.sleep(0.3)
        assert freed == [1]
        assert list(restored) == [0, 1]
        assert [list(state.windows) for state in restored.values()] == [[b"w:1:a"], [b"w:1:b"]]
        assert restored[1].windows[b"w:1:b"].opened_at == 1  # what was never committed is not there
        for client in (owner, dead, log_reader):
            await client.stop()
