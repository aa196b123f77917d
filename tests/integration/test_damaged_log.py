"""A bit of the state that changed where it lies, on a broker's disk: a worker refuses to start, and says where that is.

It is one of the middle one of three batches each time, and changes while the broker is down. Which of all bits matter
is held by `tests/unit/test_fetched.py`.
"""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from processor import topics
from processor.codec.state import encode_window
from processor.core.window import Window
from processor.embedded import EmbeddedKafka
from processor.kafka.log import LogReader
from processor.settings import Settings
from processor.stream import restore
from processor.stream.engine import EXIT_REFUSED
from processor.stream.restore import RestoreError, Restorer
from tests.chaos.harness import Stage
from tests.chaos.test_exactly_once import START_S

BATCH: Final = 50
BATCHES: Final = 3
LENGTH_BYTES: Final = slice(8, 12)
LENGTH_ENDS: Final = 12
DAY_MS: Final = 86_400_000


class Bite(NamedTuple):
    """Which bit of which byte of a batch."""

    place: int
    bit: int


class Log:
    """The file in which a partition of `window-state` lies, and where its batches begin in it."""

    def __init__(self, path: Path) -> None:
        self.path, self.good = path, path.read_bytes()
        self.begins = [0]
        while (begin := self.begins[-1]) < len(self.good):
            self.begins.append(begin + LENGTH_ENDS + int.from_bytes(self.good[begin:][LENGTH_BYTES], "big"))

    def put(self, bite: Bite | None) -> None:
        """Write it with one bit of the second batch changed, or none."""
        data = bytearray(self.good)
        if bite is not None:
            data[self.begins[1] + bite.place] ^= 1 << bite.bit
        self.path.write_bytes(data)


@pytest.fixture(scope="module")
def kafka() -> Iterator[EmbeddedKafka]:
    """Give a broker of this file's own, whose disk is damaged."""
    with EmbeddedKafka() as kafka:
        yield kafka


@pytest.fixture(scope="module")
def settings(kafka: EmbeddedKafka) -> Settings:
    return Settings(bootstrap_servers=kafka.bootstrap_servers, partitions=1, clock="event", ops_address="")


@pytest.fixture(scope="module")
def log(kafka: EmbeddedKafka, settings: Settings) -> Log:
    asyncio.run(written(settings))
    assert kafka.shut_down(0)
    (path,) = kafka.data.rglob("window-state-0/*.log")
    log = Log(path)
    assert len(log.begins) == BATCHES + 1
    kafka.start(0)
    return log


async def written(settings: Settings) -> None:
    """Write state in batches."""
    await topics.apply(settings)
    producer = settings.connection.producer()
    await producer.start()
    for batch in range(BATCHES):
        builder = producer.create_batch()
        for n in range(batch * BATCH, (batch + 1) * BATCH):
            value = encode_window(Window(n, n + DAY_MS, n), n + 1)
            assert builder.append(key=b"whatsapp:1:%d" % n, value=value, timestamp=None) is not None
        await (await producer.send_batch(builder, "window-state", partition=0))
    await producer.stop()


async def come_back(kafka: EmbeddedKafka, log: Log, bite: Bite | None) -> None:
    """Let the broker come back to a log of which one bit has changed, or none."""
    assert await asyncio.to_thread(kafka.shut_down, 0)
    log.put(bite)
    await asyncio.to_thread(kafka.start, 0)


async def restored(settings: Settings) -> int:
    """Restore the partition; gives how many windows it has."""

    async def nothing_is_open(_: int) -> None:
        raise AssertionError("no transaction is open")

    log_reader = LogReader(settings.connection, lambda: 0)
    await log_reader.start()
    try:
        restorer = Restorer(settings.connection, topics.names(settings), log_reader, nothing_is_open)
        return sum([len(state.windows) async for _, state in restorer.restore([0])])
    finally:
        await log_reader.stop()


@pytest.mark.parametrize(
    ("bite", "said"),
    [
        pytest.param(Bite(200, 3), r"offset 50: Invalid CRC", id="a digit"),
        pytest.param(Bite(22, 3), r"offset 50: ", id="the attributes"),
        pytest.param(Bite(8, 4), r"offset 50: there is more, and for a minute nothing of it came", id="the length"),
        pytest.param(Bite(7, 6), r"offset 0: .*: a batch up to 163 is followed by .* 100", id="the offset"),
    ],
)
async def test_damage_on_a_brokers_disk_is_refused_by_its_place(
    bite: Bite, said: str, kafka: EmbeddedKafka, settings: Settings, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore, "_UNREADABLE", 4)
    await come_back(kafka, log, bite)
    with pytest.raises(RestoreError) as refused:
        await restored(settings)
    assert re.match(f"window-state, partition 0, {said}", str(refused.value))


async def test_a_worker_refuses_what_its_broker_has_damaged_and_what_is_mended_is_restored(
    kafka: EmbeddedKafka, settings: Settings, log: Log, tmp_path: Path
) -> None:
    await come_back(kafka, log, Bite(300, 0))
    async with Stage.open(settings, tmp_path, apply=False) as stage:
        worker = stage.worker("w")
        assert await worker.ended(START_S) == EXIT_REFUSED, worker.told()
        assert "worker.refused" in worker.lines()[-1]
        assert "window-state, partition 0, offset 50: Invalid CRC" in worker.lines()[-1]
    await come_back(kafka, log, None)
    assert await restored(settings) == BATCH * BATCHES
