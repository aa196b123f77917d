"""What `janela up` has seen so far: a reader outside of the consumer group, and what it counts."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError

from processor import topics
from processor.cli.watch import EVENTS, TOPICS, Kind, Seen, in_order
from processor.codec.state import StateError, decode_window
from processor.core.window import Window
from processor.kafka.offsets import decode_progress
from processor.settings import Settings

NEWEST_MAX: Final = 8
"""How many events of a kind are kept to be shown."""
HISTORY_SECONDS: Final = 120
RATE_SECONDS: Final = 3
"""What a rate is measured over: less jumps, more limps behind."""
DISCONNECT_SECONDS: Final = 3

_INPUTS: Final = ("messages.inbound", "messages.outbound")
_DEAD_LETTERS: Final = "dead-letters"
_NOT_YET: Final = (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError)


class OpenWindow(NamedTuple):
    """A window that is open, by its newest state; `expires_at` is event time, ms since the epoch."""

    expires_at: int
    is_unanswered: bool


class Second(NamedTuple):
    """What had come in and gone out up to a moment (`at_s`, monotonic)."""

    at_s: float
    records_in: int
    events_out: int


class Tally:
    """What the topics have told since the run began. Counts are of this run, open windows are all there are."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        self.counts: dict[Kind, int] = dict.fromkeys(EVENTS, 0)
        self.newest: dict[Kind, deque[Seen]] = {kind: deque(maxlen=NEWEST_MAX) for kind in EVENTS}
        """Newest first."""
        self.dead_letters: Counter[str] = Counter()
        """By reason."""
        self.open_windows: dict[str, OpenWindow] = {}
        """By window key."""
        self.records_in = 0
        self.lag = 0
        """Records on the input topics that are not committed."""
        self.clock_ms = 0
        """How far the worker has come: the largest committed clock of its partitions; 0 before its first commit."""
        self.history: deque[Second] = deque(maxlen=HISTORY_SECONDS)
        self._before = (0, 0)

    def begin(self) -> None:
        """Say that what is there by now came before the run proper."""
        self._before = self.records_in, self.events_out

    @property
    def events_out(self) -> int:
        """Output events of all kinds."""
        return sum(self.counts.values())

    def see(self, seen: Seen) -> None:
        """Count an output event, or take a window's new state."""
        if seen.kind is not Kind.STATE:
            self.counts[seen.kind] += 1
            self.newest[seen.kind].appendleft(seen)
        elif (window := _window(seen.raw)) is not None and window.closed_at is None:
            self.open_windows[seen.key] = OpenWindow(window.expires_at, window.is_unanswered)
        else:
            self.open_windows.pop(seen.key, None)

    def note_second(self, at_s: float) -> None:
        """Remember how much there is, for the rates; to be called once a second."""
        self.history.append(Second(at_s, self.records_in, self.events_out))

    def mean_rates(self, over_s: float) -> tuple[float, float]:
        """Records in and events out, a second, since the run began that many seconds ago."""
        records_before, events_before = self._before
        over_s = max(over_s, 1e-3)
        return (self.records_in - records_before) / over_s, (self.events_out - events_before) / over_s

    def rates(self) -> tuple[float, float]:
        """Records in and events out, a second."""
        recent = list(self.history)[-RATE_SECONDS - 1 :]
        if len(recent) < 2:
            return 0.0, 0.0
        first, last = recent[0], recent[-1]
        span_s = max(last.at_s - first.at_s, 1e-3)
        return (last.records_in - first.records_in) / span_s, (last.events_out - first.events_out) / span_s


def _window(raw: bytes | None) -> Window | None:
    """Read a state; None for a tombstone, and for what no worker wrote."""
    try:
        return decode_window(raw or b"")
    except StateError:
        return None


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator["Reader"]:
    """Give a reader of the topics that a worker with these settings has."""
    connection = settings.connection
    consumer = connection.consumer(client_id="janela-up-reader", isolation_level="read_committed")
    admin = connection.admin(client_id="janela-up-admin")
    try:
        await consumer.start()
        await admin.start()
        reader = Reader(settings, consumer, admin)
        await reader.begin()
        yield reader
    finally:
        await disconnect(consumer.stop(), admin.close())


async def disconnect(*stops: Awaitable[None]) -> None:
    """Let clients disconnect as far as Kafka lets them: one that is gone would be waited for, by some for ever."""
    await asyncio.wait([asyncio.gather(*stops, return_exceptions=True)], timeout=DISCONNECT_SECONDS)


class Reader:
    """Reads the output topics into a tally, committed records only, and asks how far the worker has come."""

    def __init__(self, settings: Settings, consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient) -> None:
        """Take clients that are connected, of which the consumer reads committed records only."""
        names = topics.names(settings)
        numbers = range(settings.partitions)
        self.tally = Tally()
        self._consumer, self._admin = consumer, admin
        self._group = settings.app_id
        self._kinds = {names[topic]: kind for kind, topic in TOPICS.items()}
        self._inputs = [TopicPartition(names[topic], number) for topic in _INPUTS for number in numbers]
        self._states = [TopicPartition(names[TOPICS[Kind.STATE]], number) for number in numbers]
        self._events = [
            TopicPartition(name, number)
            for name in (*(names[TOPICS[kind]] for kind in EVENTS), names[_DEAD_LETTERS])
            for number in numbers
        ]
        self._at_start = 0

    async def begin(self) -> None:
        """Take what is on the topics by now as seen, but for the states of windows."""
        self._consumer.assign(self._states + self._events)
        await self._consumer.seek_to_beginning(*self._states)
        await self._consumer.seek_to_end(*self._events)
        self._at_start = sum((await self._consumer.end_offsets(self._inputs)).values())
        await self.gauge()

    async def take(self, wait_ms: int = 200) -> int:
        """Take what has come, waiting as long for it; give how many records that was."""
        fetched = await self._consumer.getmany(timeout_ms=wait_ms)
        outputs = {tp: records for tp, records in fetched.items() if tp.topic in self._kinds}
        for seen in in_order(outputs, self._kinds):
            self.tally.see(seen)
        for tp in fetched.keys() - outputs.keys():
            self.tally.dead_letters.update(_reason(record.headers) for record in fetched[tp])
        return sum(map(len, fetched.values()))

    async def gauge(self) -> None:
        """Ask for the ends of the inputs and for what the worker has committed of them."""
        committed = await self._committed()
        ends: Mapping[TopicPartition, int] = await self._consumer.end_offsets(self._inputs)
        tally = self.tally
        tally.records_in = sum(ends.values()) - self._at_start
        tally.lag = sum(max(end - committed.get(tp, (0, 0))[0], 0) for tp, end in ends.items())
        tally.clock_ms = max((clock_ms for _, clock_ms in committed.values()), default=0)

    async def follow(self) -> None:
        """Take and gauge for ever, and note how much there is each second."""
        noted_s = 0.0
        while True:
            await self.take()
            await self.gauge()
            if (now_s := time.monotonic()) - noted_s >= 1:
                noted_s = now_s
                self.tally.note_second(now_s)

    async def catch_up(self, limit_s: float) -> None:
        """Read until the worker has committed all that is there, and all that it said has been seen."""
        give_up_at_s = time.monotonic() + limit_s
        while time.monotonic() < give_up_at_s:
            taken = await self.take()
            await self.gauge()
            if not taken and not self.tally.lag and await self._has_seen_all():
                return

    async def _has_seen_all(self) -> bool:
        ends = await self._consumer.end_offsets(self._states + self._events)
        return all([await self._consumer.position(tp) >= end for tp, end in ends.items()])

    async def _committed(self) -> dict[TopicPartition, tuple[int, int]]:
        """Give the committed offset and clock of each input partition that has one."""
        try:
            found = await self._admin.list_consumer_group_offsets(self._group, partitions=self._inputs)
        except _NOT_YET:  # the group's first member makes the cluster choose a coordinator
            return {}
        return {
            tp: (committed.offset, decode_progress(committed.metadata).clock_ms)
            for tp, committed in found.items()
            if committed.offset >= 0
        }


def _reason(headers: Iterable[tuple[str, bytes | None]]) -> str:
    found = next((text for name, text in headers if name == "__dlq.reason"), None)
    return (found or b"unknown").decode(errors="backslashreplace")
