"""A consumer of the outputs that reads along during a whole trial, as a user's would.

What it is given live must be what stands on the topics in the end: no output twice, none that is taken back, none out
of the order of offsets. `janela verify` looks at what is there at the end, and can't see any of that.
"""

import asyncio
import itertools
import time
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

Seen = tuple[int, str, str]
"""An output's offset, its number in the partition, and its id (which comes again where a send was put in again)."""


class Reader:
    """Reads all outputs from their begin, committed ones only, and remembers what it was given and in which order."""

    def __init__(self, stage: Stage) -> None:
        """Take whose outputs to read."""
        self._stage, self._tps = stage, stage.tps(*OUTPUTS)
        self._seen: dict[TopicPartition, list[Seen]] = {tp: [] for tp in self._tps}
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
            for tp in reader._tps:
                reader._consumer.seek(tp, 0)
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
        return sum(map(len, self._seen.values()))

    async def agrees(self, within_s: float) -> int:
        """Read on to the end, and hold it against a read of the topics anew; gives the number of outputs.

        The workers must have ended.
        """
        again = {tp: list(map(_seen, records)) for tp, records in (await self._stage.records(*OUTPUTS)).items()}
        give_up_s = time.monotonic() + within_s
        while any(len(self._seen[tp]) < len(again[tp]) for tp in self._tps) and time.monotonic() < give_up_s:
            await asyncio.sleep(POLL_S)
        assert self.outputs, "there was nothing to read"
        assert not (faults := self._faults(again)), "\n".join(faults)
        return self.outputs

    def _faults(self, again: dict[TopicPartition, list[Seen]]) -> list[str]:
        """Say where what was read live differs from what is read now, and which outputs came more than once."""
        faults: list[str] = []
        for tp, seen in self._seen.items():
            if seen != again[tp]:
                at = next((n for n, (a, b) in enumerate(zip(seen, again[tp], strict=False)) if a != b), -1)
                faults.append(
                    f"{tp.topic}[{tp.partition}]: {len(seen)} outputs live, {len(again[tp])} now; first difference"
                    f" {seen[at:][:1]} and {again[tp][at:][:1]}"
                )
            if any(a[0] >= b[0] or a[1] >= b[1] for a, b in itertools.pairwise(seen)):
                faults.append(f"{tp.topic}[{tp.partition}]: offsets or numbers not in order")
        numbers = Counter((tp.partition, number) for tp, seen in self._seen.items() for _, number, _ in seen)
        if twice := [number for number, count in numbers.items() if count > 1]:
            faults.append(f"{len(twice)} outputs more than once, such as {twice[:SHOWN_MAX]}")
        return faults

    async def _read(self) -> None:
        while True:
            for tp, records in (await self._consumer.getmany(timeout_ms=200)).items():
                self._seen[tp] += map(_seen, records)


def _seen(record: ConsumerRecord) -> Seen:
    event = _decode(record.value)
    return record.offset, event.sequence, event.id
