"""What goes on in `janela up` once Kafka is there: topics, the worker's word to begin, traffic, reading, showing."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from aiokafka import AIOKafkaProducer

from processor import topics
from processor.access import Access
from processor.cli.attended import AttendedWorker
from processor.cli.tally import Reader, connected, disconnect
from processor.cli.view import Moment, View
from processor.embedded import EmbeddedKafka
from processor.settings import Settings, variable, without_login
from processor.traffic import DAY_MS, SECOND_MS, Record, Timeline, Traffic

if TYPE_CHECKING:
    from processor.cli.up import Plan

PARTITIONS: Final = 4
CLOCK: Final = "event"
SIMULATED_DAYS: Final = 7
"""How many days a run without --seconds goes through before it reaches the present."""
DAY_SECONDS: Final = 15
"""How long one of them takes: slow enough to follow a window, fast enough to see it end."""

TICK_SECONDS: Final = 0.05
FOR_EVER_S: Final = float("inf")
CHECK_SECONDS: Final = 0.25
FIRST_COMMIT_SECONDS: Final = 60
CATCH_UP_SECONDS: Final = 15


def load_settings() -> Settings:
    """Load the caller's settings with ours on top; where Kafka is comes later.

    Time goes by the events alone: with the wall clock, all windows of past days would end whenever both inputs are read
    to their end.

    Raises:
        SettingsError: The caller's can't be used.
    """
    return Settings.load(partitions=PARTITIONS, clock=CLOCK)


async def run(plan: "Plan", view: View, settings: Settings, broker: EmbeddedKafka, worker: AttendedWorker) -> None:
    """Do all that comes between the start of Kafka and its end.

    Raises:
        ClusterError: The topics can't be created, or kept ones are not as they should be.
        WorkerError: The worker ended, or does nothing.
        EmbeddedKafkaError: Kafka ended.
    """
    view.starting("creating the topics")
    settings = settings.model_copy(update=dict(Access(bootstrap_servers=broker.bootstrap_servers)))
    await _apply_topics(settings)
    view.starting(f"starting the worker; its log is {worker.log}")
    ours = {variable("partitions"): str(PARTITIONS), variable("clock"): CLOCK}
    worker.begin(without_login(broker.bootstrap_servers) | ours)
    async with AsyncExitStack() as stack:
        reader = await stack.enter_async_context(connected(settings))
        producer = await stack.enter_async_context(_producer(settings))
        await Run(plan, view, broker, worker, reader, producer, settings.topic_prefix).go()


async def _apply_topics(settings: Settings) -> None:
    if (await topics.apply(settings)).kept:  # data of another run, or of another verb
        errors = topics.errors(await topics.check(settings))
        if errors:
            raise topics.ClusterError("\n".join(errors))


@asynccontextmanager
async def _producer(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    """Give a producer whose default is Kafka's partition for a key."""
    producer = settings.connection.producer(
        client_id="janela-up",
        acks="all",
        enable_idempotence=True,
    )
    try:
        await producer.start()
        yield producer
    finally:
        await disconnect(producer.stop())


class Run:
    """What goes on between the start and the end: traffic, reading, showing, and a look at whether all live."""

    def __init__(
        self,
        plan: "Plan",
        view: View,
        broker: EmbeddedKafka,
        worker: AttendedWorker,
        reader: Reader,
        producer: AIOKafkaProducer,
        topic_prefix: str,
    ) -> None:
        """Lay out the days: those before the present, or those since kept data were left."""
        self._plan, self._view = plan, view
        self._broker, self._worker, self._reader, self._producer = broker, worker, reader, producer
        self._topic_prefix = topic_prefix
        self._is_new = not reader.tally.clock_ms
        now_ms = _wall_clock_ms()
        days: float = SIMULATED_DAYS if plan.seconds is None else max(round(plan.seconds / DAY_SECONDS), 1)
        if not self._is_new:
            days = min(days, (now_ms - reader.tally.clock_ms) / DAY_MS)
        simulated_s = plan.seconds or days * DAY_SECONDS
        self._timeline = Timeline(now_ms - int(days * DAY_MS), now_ms, simulated_s)
        self._traffic = Traffic(
            plan.seed,
            self._timeline.begin_ms - (DAY_MS if self._is_new else 0),
            plan.rate * simulated_s / max(self._timeline.days, 1e-3),
            plan.contacts,
        )
        self._began_s: float | None = None

    async def go(self) -> None:
        """Run until the time is over, something fails, or this is cancelled; sum up, but for a failure.

        Raises:
            WorkerError: The worker ended, or does nothing.
            EmbeddedKafkaError: Kafka ended.
        """
        try:
            await self._go_together()
        except asyncio.CancelledError:
            self._sum_up()
            raise
        except BaseException:
            self._view.close()
            raise
        self._sum_up()

    async def _go_together(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                guard = group.create_task(self._guard())
                follow = group.create_task(self._reader.follow())
                await self._begin()
                show = group.create_task(self._show())
                await self._flow()
                follow.cancel()  # two can't read by one consumer
                await self._reader.catch_up(CATCH_UP_SECONDS)
                show.cancel()
                guard.cancel()
        except BaseExceptionGroup as failed:
            await asyncio.sleep(CHECK_SECONDS)
            self._check()  # of what failed, this says most; a client may only have noticed first
            raise failed.exceptions[0] from None

    async def _begin(self) -> None:
        """Send the day before at once, so that there are windows to end, and wait until the worker takes it."""
        if self._is_new:
            await self._send(self._traffic.until(self._timeline.begin_ms))
            try:
                async with asyncio.timeout(FIRST_COMMIT_SECONDS):
                    while not self._reader.tally.clock_ms:
                        await asyncio.sleep(TICK_SECONDS)
            except TimeoutError:
                raise self._worker.failure(f"the worker has committed nothing for {FIRST_COMMIT_SECONDS} s") from None
        self._timeline = replace(self._timeline, began_ms=_wall_clock_ms())
        self._began_s = time.monotonic()
        self._reader.tally.begin()

    async def _flow(self) -> None:
        """Send what the stories bring, as the timeline has it; from the present on at the rate of real time."""
        timeline, is_real_time = self._timeline, False
        while (elapsed_s := self._elapsed_s()) < (self._plan.seconds or FOR_EVER_S):
            await self._send(self._traffic.until(timeline.event_time_ms(elapsed_s)))
            if not (is_real_time or timeline.is_simulated(elapsed_s)):
                is_real_time = True
                self._traffic.events_per_day = self._plan.rate * DAY_MS / SECOND_MS
            await asyncio.sleep(TICK_SECONDS)

    async def _send(self, records: list[Record]) -> None:
        """Put records on their topics: the customers' side first, and the business's only when all of it is there."""
        for side in ("inbound", "outbound"):
            topic = f"{self._topic_prefix}messages.{side}"
            sent = [
                await self._producer.send(topic, record.value, record.key) for record in records if record.side == side
            ]
            await asyncio.gather(*sent)

    async def _show(self) -> None:
        while True:
            self._view.show(self._moment())
            await asyncio.sleep(self._view.every_s)

    async def _guard(self) -> None:
        while True:
            self._check()
            await asyncio.sleep(CHECK_SECONDS)

    def _check(self) -> None:
        self._broker.check()
        self._worker.check()

    def _sum_up(self) -> None:
        self._view.close()
        if self._began_s is not None:
            self._view.sum_up(self._moment())

    def _elapsed_s(self) -> float:
        began_s = time.monotonic() if self._began_s is None else self._began_s
        return min(time.monotonic() - began_s, self._plan.seconds or FOR_EVER_S)

    def _moment(self) -> Moment:
        tally, servers = self._reader.tally, self._broker.bootstrap_servers
        return Moment(tally, self._timeline, self._elapsed_s(), self._plan.seconds, servers)


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000
