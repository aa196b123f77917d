"""An input that loses its end on a broker's disk while a worker is at work."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from processor.embedded import EmbeddedKafka
from processor.settings import Settings
from processor.stream.engine import EXIT_REFUSED
from tests.chaos.backlog import HOUR_MS, backlog
from tests.chaos.harness import Stage

pytestmark = pytest.mark.timeout(300)

READY_S = 90


@pytest.fixture(scope="module")
def kafka() -> Iterator[EmbeddedKafka]:
    """Give a broker of this file's own, whose disk is damaged."""
    with EmbeddedKafka() as kafka:
        yield kafka


@pytest.mark.parametrize("clock", ["live", "event"])
async def test_a_worker_whose_input_loses_its_end_refuses_to_go_on(
    kafka: EmbeddedKafka, tmp_path: Path, clock: Literal["live", "event"]
) -> None:
    """What comes on it next must not be passed over, and no window may end meanwhile as if all had been read."""
    settings = Settings(
        bootstrap_servers=kafka.bootstrap_servers, topic_prefix=f"{clock}.", partitions=1, clock=clock, ops_address=""
    )
    async with Stage.open(settings, tmp_path) as stage:
        await stage.preload(backlog(7, 500, 50, 1, time.time_ns() // 1_000_000 - HOUR_MS))
        worker = stage.worker("w")
        await stage.until_consumed(READY_S)
        (end,) = (await stage.ends("messages.inbound")).values()
        assert await asyncio.to_thread(kafka.shut_down, 0)
        (log,) = kafka.data.rglob(f"{clock}.messages.inbound-0/*.log")
        log.write_bytes(b"")
        await asyncio.to_thread(kafka.start, 0)
        assert await worker.ended(READY_S) == EXIT_REFUSED, worker.told()
        told = worker.told()
    assert (
        f"{clock}.messages.inbound, partition 0: found the log to reach from 0 to 0, expected {end} to be in it" in told
    )
    assert "it has lost its end" in told
