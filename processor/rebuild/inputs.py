"""The inputs of one partition once more, stretch by stretch, up to offsets that are given."""

import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from processor.codec.inputs import DeadLetter, InputDecoder
from processor.codec.rounds import Standing
from processor.core.decisions import Effects
from processor.core.events import Event
from processor.core.partition import Partition
from processor.rebuild.plan import Part, input_tps
from processor.settings import Settings
from processor.stream.merge import InputBuffer, merge
from processor.topics import ClusterError

_AT_ONCE: Final = 4000
SILENT_S: Final = 60
"""How long nothing may come before the end is reached."""


class Inputs:
    """Both inputs of a partition, merged by event time within each stretch."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        part: Part,
        tps: list[TopicPartition],
        decoder: InputDecoder,
        on_read: Callable[[int], None],
    ) -> None:
        """Take a consumer of committed records; `on_read` is told how many positions more were read."""
        self.records = self.dead_letters = 0
        self._consumer, self._tps, self._ends, self._on_read = consumer, tps, part.ends, on_read
        self._positions = list(part.begins)
        self._decoders = decoder.inbound, decoder.outbound
        self._waiting: tuple[deque[tuple[int, Event]], ...] = (deque(), deque())

    async def start(self) -> None:
        """Stand at the begin."""
        self._consumer.assign(self._tps)
        for tp, position in zip(self._tps, self._positions, strict=True):
            self._consumer.seek(tp, position)

    async def until(self, inbound: int, outbound: int) -> AsyncIterator[list[Event]]:
        """Give what lies before these offsets, in the order in which it is applied.

        Raises:
            ClusterError: Nothing comes, and the end is not reached.
            KafkaError: The cluster does not answer, or refuses to.
        """
        bounds = min(inbound, self._ends[0]), min(outbound, self._ends[1])
        buffers = InputBuffer(self._tps[0], 0), InputBuffer(self._tps[1], 0)
        while True:
            for buffer, waiting, bound in zip(buffers, self._waiting, bounds, strict=True):
                while waiting and waiting[0][0] < bound:
                    offset, event = waiting.popleft()
                    buffer.offsets.append(offset)
                    buffer.events.append(event)
            first, second = (
                bool(waiting) or position >= bound
                for waiting, position, bound in zip(self._waiting, self._positions, bounds, strict=True)
            )
            events, sides = merge(*buffers, (first, second), _AT_ONCE)
            if events:
                for side, buffer in enumerate(buffers):
                    buffer.drop_first(sides.count(side))
                yield events
            elif first and second:
                return
            else:
                ended = first, second
                await self._fetch([side for side in (0, 1) if not ended[side] and not buffers[side].events])

    async def _fetch(self, sides: list[int]) -> None:
        """Wait until one of the sides has got further."""
        tps, give_up_s = [self._tps[side] for side in sides], time.monotonic() + SILENT_S
        before = [self._positions[side] for side in sides]
        while before == [self._positions[side] for side in sides]:
            for tp, records in (await self._consumer.getmany(*tps, timeout_ms=200, max_records=_AT_ONCE)).items():
                self._take(self._tps.index(tp), records)
            for side in sides:
                position = min(await self._consumer.position(self._tps[side]), self._ends[side])
                self._on_read(position - self._positions[side])
                self._positions[side] = position
            if time.monotonic() > give_up_s:
                raise ClusterError(f"{tps[0].topic}[{tps[0].partition}]: nothing to read for {SILENT_S} s")

    def _take(self, side: int, records: Iterable[Any]) -> None:
        decode, end, waiting = self._decoders[side], self._ends[side], self._waiting[side]
        for record in records:
            if record.offset >= end:
                return
            self.records += 1
            event = decode(record.key, record.value, record.timestamp, record.headers)
            if isinstance(event, DeadLetter):
                self.dead_letters += 1
            else:
                waiting.append((record.offset, event))


async def replayed(
    settings: Settings,
    part: Part,
    standings: list[Standing],
    consumer: AIOKafkaConsumer,
    on_read: Callable[[int], None],
) -> tuple[Partition, Inputs]:
    """Apply a partition's inputs once more, by way of these standings; gives its state at the last of them.

    What it would say is dropped.

    Raises:
        ClusterError: Nothing comes, and the end is not reached.
        KafkaError: The cluster does not answer, or refuses to.
    """
    core = Partition(settings.policy())
    decoder = InputDecoder(
        part.partition, settings.partitions, core.windows, settings.record_bytes_max, settings.key_check == "on"
    )
    inputs = Inputs(consumer, part, input_tps(settings, part.partition), decoder, on_read)
    await inputs.start()
    for inbound, outbound, clock_ms in standings:
        async for events in inputs.until(inbound, outbound):
            applied = 0
            while applied < len(events):
                applied += core.apply(events[applied:], Effects())
        while clock_ms > core.clock_ms and not core.advance(clock_ms, Effects()):
            pass  # it stops where a round would be full
    return core, inputs
