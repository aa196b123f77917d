"""A consumer of the outputs that reads along during a whole trial, as a user's would.

What it is given live must be what stands on the topics in the end: no output twice, none that is taken back, none out
of the order of offsets. `janela verify` looks at what is there at the end, and can't see any of that.
"""

import asyncio
import itertools
import time
from array import array
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Self

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from processor.audit.findings import OUTPUTS
from tests.chaos.harness import POLL_S, Stage

SHOWN_MAX: Final = 5


class _Event(msgspec.Struct):
    id: str
    sequence: str


_decode = msgspec.json.Decoder(_Event).decode


class Seen:
    """Outputs of one topic and partition as they came, in 24 bytes each: a trial may have millions."""

    def __init__(self) -> None:
        """Begin with none."""
        self.offsets, self.numbers, self._ids = array("q"), array("q"), array("q")

    def __len__(self) -> int:
        """How many there are."""
        return len(self.offsets)

    def add(self, record: ConsumerRecord) -> None:
        """Note an output: where it stands, its number in the partition, and its id (by its hash)."""
        event = _decode(record.value)
        self.offsets.append(record.offset)
        self.numbers.append(int(event.sequence))
        self._ids.append(hash(event.id))

    def differs(self, other: "Seen") -> str:
        """Say where others first differ from these; empty where they are the same."""
        both = zip(self._each(), other._each(), strict=False)
        at = next((n for n, (ours, theirs) in enumerate(both) if ours != theirs), min(len(self), len(other)))
        if at == len(self) == len(other):
            return ""
        return f"first difference (offset, number, hash of its id) {self._at(at)} and {other._at(at)}"

    def is_in_order(self) -> bool:
        """Whether both offsets and numbers only grow."""
        return all(a < b for each in (self.offsets, self.numbers) for a, b in itertools.pairwise(each))

    def _each(self) -> "zip[tuple[int, int, int]]":
        return zip(self.offsets, self.numbers, self._ids, strict=True)

    def _at(self, n: int) -> list[tuple[int, int, int]]:
        return list(itertools.islice(self._each(), n, n + 1))


class Reader:
    """Reads all outputs from their begin, committed ones only, and remembers what it was given and in which order."""

    def __init__(self, stage: Stage) -> None:
        """Take whose outputs to read."""
        self._stage, self._tps = stage, stage.tps(*OUTPUTS)
        self.seen: dict[TopicPartition, Seen] = {tp: Seen() for tp in self._tps}
        self._consumer: AIOKafkaConsumer = stage.settings.connection.consumer(
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",  # a log that ends before what was read from it has lost something
        )

    @classmethod
    @asynccontextmanager
    async def open(cls, stage: Stage) -> AsyncIterator[Self]:
        """Read until the end of the block; what the consumer can't go on from is raised there."""
        reader = cls(stage)
        await reader._consumer.start()
        try:
            reader._consumer.assign(reader._tps)
            await reader._consumer.seek_to_beginning(*reader._tps)
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(reader._read())
                yield reader
                reading.cancel()
        finally:
            await reader._consumer.stop()

    @classmethod
    async def along(cls, stage: Stage) -> Self:
        """Read until the stage is left."""
        stage.reader = reader = await stage.beside.enter_async_context(cls.open(stage))
        return reader

    @property
    def outputs(self) -> int:
        """How many outputs it has been given."""
        return sum(map(len, self.seen.values()))

    async def agrees(self, within_s: float) -> int:
        """Read on to the end, and hold it against a read of the topics anew; gives the number of outputs.

        The workers must have ended. `within_s` is for how long nothing may come.
        """
        async with Reader.open(self._stage) as again:
            await again.come_to_end(within_s)
        await self.come_to_end(within_s)
        assert self.outputs, "there was nothing to read"
        assert not (faults := self._faults(again)), "\n".join(faults)
        return self.outputs

    async def come_to_end(self, within_s: float) -> None:
        """Wait until nothing is left to read, or nothing has come for so long."""
        ends = await self._stage.ends(*OUTPUTS)
        stood, until_s = -1, 0.0
        while any([await self._consumer.position(tp) < ends[tp] for tp in self._tps]):
            if self.outputs > stood:
                stood, until_s = self.outputs, time.monotonic() + within_s
            assert time.monotonic() < until_s, f"only {stood} outputs were read"
            await asyncio.sleep(POLL_S)

    def _faults(self, again: "Reader") -> list[str]:
        """Say where what was read live differs from what is read now, and which outputs came more than once."""
        faults: list[str] = []
        for tp, seen in self.seen.items():
            now = again.seen[tp]
            if difference := seen.differs(now):
                faults.append(f"{tp.topic}[{tp.partition}]: {len(seen)} outputs live, {len(now)} now; {difference}")
            if not seen.is_in_order():
                faults.append(f"{tp.topic}[{tp.partition}]: offsets or numbers not in order")
        for partition in sorted({tp.partition for tp in self._tps}):
            numbers = Counter(itertools.chain.from_iterable(self.seen[tp].numbers for tp in self._of(partition)))
            if twice := [number for number, count in numbers.items() if count > 1]:
                faults.append(f"{len(twice)} outputs of {partition} more than once, such as {twice[:SHOWN_MAX]}")
        return faults

    def _of(self, partition: int) -> list[TopicPartition]:
        return [tp for tp in self._tps if tp.partition == partition]

    async def _read(self) -> None:
        while True:
            for tp, records in (await self._consumer.getmany(timeout_ms=200)).items():
                for record in records:
                    self.seen[tp].add(record)
