"""What a measured run comes to: figures that can be kept, and compared with those of another run."""

import os
import platform
from typing import Any

import msgspec

from processor import __version__
from processor.load.tally import Delays
from processor.measure.gauges import Sample


class Quantiles(msgspec.Struct):
    """Of delays, in ms; each at most 0.5 % too long; the longest is exact."""

    count: int
    p50: float
    p90: float
    p99: float
    p999: float
    max: float

    @classmethod
    def of(cls, delays: Delays) -> "Quantiles":
        """Sum up delays."""
        p50, p90, p99, p999 = delays.quantiles_ms(0.5, 0.9, 0.99, 0.999)
        return cls(sum(delays.buckets.values()), p50, p90, p99, p999, round(delays.most_us / 1000, 2))


class WorkerFigures(msgspec.Struct):
    """What a local worker has used."""

    pid: int
    cpu_s: float
    cpu_us_an_event: float
    """Of its CPU, for each record that the load put on the topics: with several workers, each one's share."""
    rss_max_mb: float


class Report(msgspec.Struct):
    """A run."""

    at: str
    scenario: dict[str, Any]
    events: int
    sent: int
    send_seconds: float
    sent_a_second: float
    load_behind: Quantiles
    load_acknowledged: Quantiles
    outputs: dict[str, int]
    """That came, by topic."""
    received: int
    """Of them the load's own openings and verdicts, each once."""
    seconds: float
    """From the begin until all was consumed and received, or nobody waited any longer."""
    events_a_second: float
    """Over those seconds."""
    latency: Quantiles
    """From the moment of a record in the schedule until its output came."""
    latency_by_topic: dict[str, Quantiles]
    timer_lateness: Quantiles
    lag_max: int
    lag_end: int
    workers: list[WorkerFigures]
    samples: list[Sample]
    is_whole: bool
    """Whether all of the schedule was sent, and all of it consumed."""
    janela: str = __version__
    python: str = platform.python_version()
    machine: str = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"


def total(delays: dict[str, Delays]) -> Delays:
    """Put the delays of several topics together."""
    found = Delays()
    for each in delays.values():
        found.add(each)
    return found


def figures(report: Report) -> dict[str, float]:
    """Give what is compared between runs, by its name with its unit."""
    found: dict[str, float] = {
        "events sent": report.sent,
        "sent a second": report.sent_a_second,
        "consumed a second": report.events_a_second,
        "outputs received": report.received,
    }
    for name, quantiles in (
        ("latency", report.latency), ("timer lateness", report.timer_lateness), ("load behind", report.load_behind),
    ):  # fmt: skip
        if quantiles.count:
            found |= {
                f"{name} p50, ms": quantiles.p50,
                f"{name} p90, ms": quantiles.p90,
                f"{name} p99, ms": quantiles.p99,
                f"{name} p99.9, ms": quantiles.p999,
                f"{name} max, ms": quantiles.max,
            }
    found |= {"lag max": report.lag_max, "lag end": report.lag_end}
    if report.workers:
        found |= {
            "workers' CPU, s": round(sum(worker.cpu_s for worker in report.workers), 2),
            "workers' CPU an event, us": round(sum(worker.cpu_us_an_event for worker in report.workers), 2),
            "workers' memory max, MB": round(sum(worker.rss_max_mb for worker in report.workers), 1),
        }
    return found
