"""A read_committed consumer of the output topics, that notes how long after its moment each output came.

The moment is that of the schedule, which stands in the id of the record that brought the output about. So whatever held
a record up is in the delay: the load, the brokers, the worker, its transaction, this consumer.
"""

import time
from typing import Final

import msgspec
from aiokafka import TopicPartition

from processor.codec.times import parse_time
from processor.load.crew import Begin
from processor.load.tally import Delays
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


class Delivery:
    """What has come of a load so far."""

    def __init__(self, seed: int) -> None:
        """Expect the outputs of records of this seed."""
        self._ids = f"load-{seed}-"
        self._begin: Begin | None = None
        self._seen: set[str] = set()
        self.counts = dict.fromkeys(OUTPUTS, 0)
        """All outputs that came, by topic; others than the load's included."""
        self.delays = {topic: Delays() for topic in ("window-opened", "send-accepted", "send-rejected")}
        """Of the load's outputs, each once, by topic."""
        self.lateness = Delays()
        """How long after its end, by the wall clock, each window's end came that was due since the begin."""
        self.lately = Delays()
        """The delays of all topics since somebody last took them away."""

    def begin(self, begin: Begin) -> None:
        """Set the moments of the schedule; what belongs to earlier ones is another load's."""
        self._begin = begin

    def note(self, topic: str, value: bytes, now_us: int) -> None:
        """Note an output of a topic of the contract."""
        self.counts[topic] += 1
        event, begin = _decode(value), self._begin
        if begin is None:
            return
        if topic == "window-closed":
            due_ms = parse_time(event.time)
            if due_ms is not None and event.data.reason == "expired" and due_ms * 1000 >= begin.begin_us:
                self.lateness.note(now_us - due_ms * 1000)
        elif (cause := event.data.cause or event.data.send) and cause.id.startswith(self._ids):
            moment_us = int(cause.id.partition(".")[2])
            if moment_us < begin.start_us or event.id in self._seen:
                return
            self._seen.add(event.id)  # a send that is put on the topic twice is judged twice, and the first one counts
            delay_us = now_us - (moment_us + begin.begin_us - begin.start_us)
            self.delays[topic].note(delay_us)
            self.lately.note(delay_us)

    @property
    def received(self) -> int:
        """The load's outputs that came, each once."""
        return len(self._seen)


class Receiver:
    """Follows the output topics from their ends on."""

    def __init__(self, settings: Settings, delivery: Delivery) -> None:
        """Take where they are; needs a running loop."""
        self._topics = {name: topic for topic, name in names(settings).items() if topic in OUTPUTS}
        self._partitions = settings.partitions
        self._delivery = delivery
        self._consumer = settings.connection.consumer(
            client_id="janela-measure",
            isolation_level="read_committed",
            enable_auto_commit=False,
            fetch_max_wait_ms=FETCH_WAIT_MS,
        )

    async def start(self) -> None:
        """Connect, and stand at the ends."""
        await self._consumer.start()
        self._tps = [TopicPartition(name, n) for name in self._topics for n in range(self._partitions)]
        self._consumer.assign(self._tps)
        await self._consumer.seek_to_end(*self._tps)
        for tp in self._tps:
            await self._consumer.position(tp)

    async def stop(self) -> None:
        """Disconnect."""
        await self._consumer.stop()

    async def follow(self) -> None:
        """Take what comes, for ever."""
        while True:
            fetched = await self._consumer.getmany(timeout_ms=500)
            now_us = time.time_ns() // 1000
            for tp, records in fetched.items():
                topic = self._topics[tp.topic]
                for record in records:
                    self._delivery.note(topic, record.value, now_us)

    async def is_at_end(self) -> bool:
        """Whether all that is committed by now has been taken."""
        ends = await self._consumer.end_offsets(self._tps)
        return all([await self._consumer.position(tp) >= end for tp, end in ends.items()])
