"""The receiver of `janela measure` as a process of its own: ``python -m tests.bench.receive '{…}'``.

Says "ready" when it stands at the topics' ends, and at the end what it has measured.
"""

import asyncio
import sys
import time

import msgspec

from processor.load.scenario import Scenario
from processor.measure.receiver import Delivery, Receiver
from processor.measure.report import Quantiles, total
from processor.measure.traffic import LoadMoments
from processor.settings import Settings

READY = "ready"


class Watch(msgspec.Struct):
    """What to receive, until when, and how many seconds of the beginning not to count."""

    bootstrap_servers: str
    topic_prefix: str
    topics: list[str]
    partitions: int
    wanted: int
    warm_up_s: float
    quiet_s: float


class Received(msgspec.Struct):
    """What came, and how long after it was due (ms)."""

    received: int
    different: int
    refused: int
    delays: Quantiles
    """Of openings and verdicts."""
    lateness: Quantiles
    """Of ends, by the wall clock."""
    least_late_ms: float
    early: int
    """Ends that came before they were due."""
    decided: Quantiles
    """Until the worker wrote the output's record into a batch, by the record's timestamp."""
    cpu_s: float


async def _main(watch: Watch) -> None:
    settings = Settings(
        bootstrap_servers=watch.bootstrap_servers, topic_prefix=watch.topic_prefix, partitions=watch.partitions
    )
    delivery = Delivery(watch.warm_up_s)
    receiver = Receiver(settings, delivery, watch.topics)
    # the load's schedule is the wall clock, and the topics are nobody else's
    delivery.begin(LoadMoments(begin_us=0, start_us=0, seed=Scenario().seed))
    try:
        await receiver.start()
        print(READY, flush=True)
        heard_s, received = time.monotonic(), 0
        while received < watch.wanted and time.monotonic() - heard_s < watch.quiet_s:
            if came := await receiver.take():
                heard_s, received = time.monotonic(), received + came
    finally:
        await receiver.stop()
    print(msgspec.json.encode(_told(delivery)).decode())


def _told(delivery: Delivery) -> Received:
    return Received(
        received=sum(delivery.counts.values()),
        different=delivery.received + delivery.ended,
        refused=delivery.counts["send-rejected"],
        delays=Quantiles.of(total(delivery.delays.values())),
        lateness=Quantiles.of(delivery.lateness),
        least_late_ms=delivery.lateness.quantiles_ms(0.0)[0],
        early=delivery.early,
        decided=Quantiles.of(delivery.decided),
        cpu_s=round(time.process_time(), 2),
    )


if __name__ == "__main__":
    asyncio.run(_main(msgspec.json.decode(sys.argv[1], type=Watch)))
