"""A measured run: the traffic in processes of its own, a consumer of the outputs here, and gauges once a second."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from importlib.metadata import version
from typing import Any, Final

from aiokafka.errors import KafkaError

from processor.codec.times import format_time
from processor.load.delays import Delays
from processor.load.tally import Tally
from processor.measure.gauges import Lag, Sample, cluster_of
from processor.measure.receiver import Delivery, Receiver
from processor.measure.report import Quantiles, Report, total
from processor.measure.traffic import Moments, Traffic
from processor.measure.workers import Probe, Reading, Workers
from processor.settings import Settings

SAMPLE_S: Final = 1.0
LOOK_S: Final = 0.2
"""How often it is looked whether all has been consumed, once all was sent."""


class Run:
    """Some traffic against a set-up that runs."""

    def __init__(
        self, settings: Settings, traffic: Traffic, probes: Sequence[Probe], *, drain_s: float, warm_up_s: float = 0
    ) -> None:
        """Take where it is, what to send, the workers to watch, and how long to wait for them when all was sent.

        Outputs that are due within `warm_up_s` of the first one are not timed.
        """
        self._settings, self._traffic = settings, traffic
        self._drain_s, self._warm_up_s, self._kafka = drain_s, warm_up_s, ""
        self._delivery = Delivery(warm_up_s)
        self._workers = Workers(probes)
        self._first_reading: asyncio.Task[Reading] | None = None
        self._tally = Tally()
        self._sent = asyncio.Event()
        self._begin_us = self._consumed_us = 0
        self._samples: list[Sample] = []
        self._lag = self._lag_before = 0

    async def measured(self, on_sample: Callable[[Sample], None], stopped: asyncio.Event) -> Report | None:
        """Run it to its end, or until it is stopped; None where that was before it began.

        Where the outputs can't be followed any more, the traffic is stopped, and the report says why.

        Raises:
            CrewError: A process of the traffic ended by itself.
            KafkaError: The brokers refuse to answer before it has begun.
        """
        receiver, lag = Receiver(self._settings, self._delivery), Lag(self._settings)
        async with AsyncExitStack() as stack:
            for client in (receiver, lag):
                stack.push_async_callback(client.stop)
                await client.start()
            self._lag = self._lag_before = await lag.read()
            self._kafka = await cluster_of(self._settings)
            watching = [
                asyncio.create_task(receiver.follow()), asyncio.create_task(self._sample(lag, on_sample))
            ]  # fmt: skip
            halted = asyncio.Event()
            halting = asyncio.create_task(_halted_by(stopped, watching, halted))
            draining = asyncio.create_task(self._drained(receiver, lag, halted))
            stack.push_async_callback(_cancelled, *watching, halting, draining)
            self._tally = await self._traffic.follow(self._begun, self._note, halted)
            if not self._begin_us:
                return None
            self._sent.set()
            consumed = await draining
            end_us = self._consumed_us if consumed else time.time_ns() // 1000
            error = next(filter(None, map(_failure, watching)), "")
        self._samples.append(await self._sampled())
        is_whole = self._tally.is_whole and consumed and not (self._tally.error or error)
        return self._report(end_us, is_whole=is_whole, error=error)

    def _begun(self, moments: Moments) -> None:
        self._begin_us = moments.begin_us
        self._delivery.begin(moments)
        self._first_reading = asyncio.create_task(self._workers.read(None))

    def _note(self, tally: Tally) -> None:
        self._tally = tally
        if tally.is_whole:
            self._sent.set()

    async def _sample(self, lag: Lag, on_sample: Callable[[Sample], None]) -> None:
        while True:
            await asyncio.sleep(SAMPLE_S)
            if self._first_reading is None:
                continue
            with suppress(KafkaError):  # it stays what it was until the brokers answer again
                self._lag = await lag.read()
            sample = await self._sampled()
            self._samples.append(sample)
            on_sample(sample)

    async def _sampled(self) -> Sample:
        if self._first_reading is not None:
            await self._first_reading
        lately, self._delivery.lately = self._delivery.lately, Delays()
        p50, p99 = lately.quantiles_ms(0.5, 0.99) if lately.count else (None, None)
        at_s = round(time.time() - self._begin_us / 1e6, 2)
        reading = await self._workers.read(at_s)
        return Sample(
            at_s=at_s, sent=self._tally.acknowledged, received=self._delivery.received, lag=self._lag,
            p50_ms=p50, p99_ms=p99, **reading._asdict(),
        )  # fmt: skip

    async def _drained(self, receiver: Receiver, lag: Lag, halted: asyncio.Event) -> bool:
        """Wait until all was sent, and then until all is consumed and received; note when it was consumed.

        False where that takes too long, or nobody waits any more. Where the brokers don't answer it is not known, so
        not yet.
        """
        await self._sent.wait()
        give_up_s = time.monotonic() + self._drain_s
        while time.monotonic() < give_up_s and not halted.is_set():
            with suppress(KafkaError):
                self._lag = await lag.read()
                if not self._lag:
                    self._consumed_us = self._consumed_us or time.time_ns() // 1000
                    if await receiver.is_at_end():
                        return True
            await asyncio.sleep(LOOK_S)
        return False

    def _report(self, end_us: int, *, is_whole: bool, error: str = "") -> Report:
        """Sum up what ended at `end_us`, or with the last acknowledgement or output after it."""
        tally, delivery, begin_us = self._tally, self._delivery, self._begin_us
        end_us = max(end_us, tally.ended_us, delivery.last_us)
        seconds, send_seconds = (max(us - begin_us, 1) / 1e6 for us in (end_us, tally.ended_us))
        return Report(
            at=format_time(begin_us // 1000),
            scenario=self._traffic.scenario,
            events=self._traffic.events,
            sent=tally.acknowledged,
            send_seconds=round(send_seconds, 3),
            sent_a_second=round(tally.acknowledged / send_seconds, 1),
            load_behind=Quantiles.of(tally.behind),
            load_acknowledged=Quantiles.of(tally.delays),
            outputs=dict(delivery.counts),
            received=delivery.received,
            unreadable=delivery.unreadable,
            seconds=round(seconds, 3),
            events_a_second=round(max(self._lag_before + tally.acknowledged - self._lag, 0) / seconds, 1),
            latency=Quantiles.of(total(delivery.delays.values())),
            decided=Quantiles.of(delivery.decided),
            latency_by_topic={topic: Quantiles.of(delays) for topic, delays in delivery.delays.items()},
            timer_lateness=Quantiles.of(delivery.lateness),
            ends_early=delivery.early,
            lag_max=max((sample.lag for sample in self._samples), default=0),
            lag_end=self._lag,
            workers=self._workers.figures(),
            samples=self._samples,
            is_whole=is_whole,
            error=error,
            partitions=self._settings.partitions,
            processes=self._traffic.processes,
            warm_up_s=self._warm_up_s,
            drain_s=self._drain_s,
            kafka=self._kafka,
            client=f"aiokafka {version('aiokafka')}",
        )


async def _halted_by(stopped: asyncio.Event, watching: "list[asyncio.Task[None]]", halted: asyncio.Event) -> None:
    """Tell when it is stopped from outside, or one of those that watch, for ever, has failed."""
    stopping = asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait((stopping, *watching), return_when=asyncio.FIRST_COMPLETED)
        halted.set()
    finally:
        stopping.cancel()


def _failure(watching: "asyncio.Task[None]") -> str:
    """Say in a line why one of those that watch has failed; empty where it has not."""
    error = watching.exception() if watching.done() else None
    return "" if error is None else f"the watch ended ({type(error).__name__}: {' '.join(str(error).split())})"


async def _cancelled(*tasks: "asyncio.Task[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
