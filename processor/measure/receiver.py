"""A read_committed consumer of the output topics, that notes how long after its moment each output came.

The moment is that of the schedule by which the record that brought the output about was sent. So whatever held a record
up is in the delay: the load, the brokers, the worker, its transaction, this consumer.
"""

import time
from collections.abc import Iterable
from typing import Final

import msgspec
from aiokafka import TopicPartition

from processor.codec.times import parse_time
from processor.kafka.log import ends_consumer
from processor.kafka.unread import Unread
from processor.load.delays import Delays
from processor.measure.traffic import Moments
from processor.settings import Settings
from processor.topics import names

OUTPUTS: Final = ("window-opened", "window-expiring", "window-closed", "send-accepted", "send-rejected")
FETCH_WAIT_MS: Final = 20
"""A partition that comes free while a fetch is under way waits for up to this long: our own share of the delay."""


class _Cause(msgspec.Struct):
    id: str


class _Fields(msgspec.Struct):
    cause: _Cause | None = None
    send: _Cause | None = None
    reason: str | None = None


class _Event(msgspec.Struct):
    id: str
    time: str
    data: _Fields


_decode = msgspec.json.Decoder(_Event).decode


def _read(value: bytes | Unread | None) -> _Event | None:
    """Read an output; None for what is none: a tombstone, another shape, or too large to be kept."""
    try:
        return None if value is None or isinstance(value, Unread) else _decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


class Delivery:
    """What has come of some traffic so far."""

    def __init__(self, warm_up_s: float = 0) -> None:
        """Expect outputs; those due within so many seconds of the first one are not timed."""
        self._warm_up_us = int(warm_up_s * 1e6)
        self._timed_from_us = None if warm_up_s else 0
        """None until the first one came; topics are read in any order, so without a warm-up it is not asked for."""
        self._moments: Moments | None = None
        self._seen: set[str] = set()
        self._ended: set[str] = set()
        self.counts = dict.fromkeys(OUTPUTS, 0)
        """All outputs that came, by topic; others than this traffic's included."""
        self.delays = {topic: Delays() for topic in ("window-opened", "send-accepted", "send-rejected")}
        """Of the traffic's outputs, each once, by topic."""
        self.decided = Delays()
        """From the same moments until the worker wrote the output into a batch, by its record's timestamp (ms)."""
        self.lateness = Delays()
        """How long after its end, by the wall clock, each window's end came."""
        self.unreadable = 0
        """Records on the output topics that no worker has written: they can't be read, and count for nothing else."""
        self.last_us = 0
        """When the last of the traffic's openings and verdicts came."""
        self.early = 0
        """Ends that came before they were due: by their records' times, or since clocks differ."""
        self.lately = Delays()
        """The delays of all topics since somebody last took them away."""

    def begin(self, moments: Moments) -> None:
        """Set when records are due."""
        self._moments = moments

    def note(self, topic: str, value: bytes | Unread | None, decided_ms: int, now_us: int) -> None:
        """Note an output of a topic of the contract: its record's timestamp, and when it came."""
        self.counts[topic] += 1
        if (moments := self._moments) is None:
            return
        if (event := _read(value)) is None:
            self.unreadable += 1
            return
        if topic == "window-closed":
            self._note_end(event, moments.ends_from_us, now_us)
            return
        cause = event.data.cause or event.data.send
        if topic not in self.delays or cause is None or event.id in self._seen:
            return
        if (due_us := moments.due_us(cause.id)) is None:
            return
        self.last_us = now_us
        self._seen.add(event.id)  # a send that is put on the topic twice is judged twice, and the first one counts
        if self._timed_from_us is None:
            self._timed_from_us = due_us + self._warm_up_us
        if due_us >= self._timed_from_us:
            self.delays[topic].note(now_us - due_us)
            self.lately.note(now_us - due_us)
            self.decided.note(decided_ms * 1000 - due_us)

    def _note_end(self, event: _Event, from_us: int | None, now_us: int) -> None:
        due_ms = parse_time(event.time)
        if due_ms is None or from_us is None or event.data.reason != "expired" or event.id in self._ended:
            return
        if due_ms * 1000 >= from_us:
            self._ended.add(event.id)
            self.lateness.note(now_us - due_ms * 1000)
            self.early += now_us < due_ms * 1000

    @property
    def received(self) -> int:
        """The traffic's openings and verdicts that came, each once."""
        return len(self._seen)

    @property
    def ended(self) -> int:
        """The ends that were timed, each once."""
        return len(self._ended)


class Receiver:
    """Follows output topics from their ends on."""

    def __init__(self, settings: Settings, delivery: Delivery, topics: Iterable[str] = OUTPUTS) -> None:
        """Take where they are, and which of them; needs a running loop."""
        wanted = frozenset(topics)
        self._topics = {name: topic for topic, name in names(settings).items() if topic in wanted}
        self._partitions = settings.partitions
        self._delivery = delivery
        self._consumer = settings.connection.consumer(
            client_id="janela-measure",
            isolation_level="read_committed",
            enable_auto_commit=False,
            fetch_max_wait_ms=FETCH_WAIT_MS,
        )
        self._ends = ends_consumer(settings.connection)

    async def start(self) -> None:
        """Connect, and stand at the ends."""
        await self._consumer.start()
        await self._ends.start()
        self._tps = [TopicPartition(name, n) for name in self._topics for n in range(self._partitions)]
        self._consumer.assign(self._tps)
        await self._consumer.seek_to_end(*self._tps)
        for tp in self._tps:
            await self._consumer.position(tp)

    async def stop(self) -> None:
        """Disconnect."""
        await self._consumer.stop()
        await self._ends.stop()

    async def follow(self) -> None:
        """Take what comes, for ever."""
        while True:
            await self.take()

    async def take(self) -> int:
        """Take what has come, waiting half a second for it; give how many that was."""
        fetched = await self._consumer.getmany(timeout_ms=500)
        now_us = time.time_ns() // 1000
        for tp, records in fetched.items():
            topic = self._topics[tp.topic]
            for record in records:
                self._delivery.note(topic, record.value, record.timestamp, now_us)
        return sum(map(len, fetched.values()))

    async def is_at_end(self) -> bool:
        """Whether all that is written by now has been taken; what is not committed yet is waited for."""
        ends = await self._ends.end_offsets(self._tps)
        return all([await self._consumer.position(tp) >= end for tp, end in ends.items()])
