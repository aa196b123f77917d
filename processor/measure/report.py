"""What a measured run comes to: figures that can be kept, and compared with those of another run."""

import os
import platform
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from processor import __version__
from processor.load.delays import Delays
from processor.measure.gauges import Sample
from processor.measure.workers import WorkerFigures


class Quantiles(msgspec.Struct):
    """Of delays, in ms; each at most 0.1 % too long."""

    count: int
    p50: float
    p90: float
    p99: float
    p999: float
    max: float
    histogram: str
    """All of them, in µs, as HdrHistogram encodes them (V2, base64)."""

    @classmethod
    def of(cls, delays: Delays) -> "Quantiles":
        """Sum up delays."""
        p50, p90, p99, p999, longest = delays.quantiles_ms(0.5, 0.9, 0.99, 0.999, 1.0)
        return cls(delays.count, p50, p90, p99, p999, longest, delays.encoded())

    def percentiles_ms(self, percentiles: Sequence[float]) -> list[float]:
        """Give others than those that stand here.

        Raises:
            ValueError: The histogram is none.
        """
        return Delays.decoded(self.histogram).quantiles_ms(*(each / 100 for each in percentiles))


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
    """Of them the traffic's own openings and verdicts, each once."""
    seconds: float
    """From the begin to the last output, the last acknowledgement, or when all was seen to be consumed, whichever was
    last; or until nobody waited any longer."""
    events_a_second: float
    """Over those seconds."""
    latency: Quantiles
    """From the moment of a record in the schedule until its output came."""
    decided: Quantiles
    """From the same moment until the worker wrote the output into a batch, to a millisecond."""
    latency_by_topic: dict[str, Quantiles]
    timer_lateness: Quantiles
    ends_early: int
    """Ends that came before they were due."""
    lag_max: int
    lag_end: int
    workers: list[WorkerFigures]
    samples: list[Sample]
    is_whole: bool
    """Whether all of the schedule was sent, and all of it consumed."""
    unreadable: int = 0
    """Records on the output topics that no worker has written."""
    error: str = ""
    """Why it was broken off."""
    partitions: int | None = None
    processes: int | None = None
    """That the traffic came from. It and the others are not there in reports of before they were kept."""
    warm_up_s: float | None = None
    drain_s: float | None = None
    kafka: str | None = None
    """What the cluster goes by; its brokers don't tell their release."""
    client: str | None = None
    janela: str = __version__
    python: str = platform.python_version()
    machine: str = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"

    def faults(self) -> list[str]:
        """Say what keeps its figures from being those of the whole traffic, and which there are none of, and why."""
        found = [] if self.is_whole else ["Not all of the schedule was sent, or not all of it consumed."]
        found += [f"It was broken off: {self.error}."] if self.error else []
        if self.warm_up_s and self.received and not self.latency.count:
            found.append(f"There are no latencies: all that came was due in the warm-up, {self.warm_up_s:g} s.")
        return found


_BESIDE: Final = ("partitions", "processes", "warm_up_s", "drain_s", "janela", "python", "client", "kafka", "machine")
"""What figures hang on, beside the scenario."""


def differences(one: Report, other: Report) -> dict[str, tuple[Any, Any]]:
    """Give what two runs differ in, beside their figures; None where a report does not tell."""
    keys = dict.fromkeys([*one.scenario, *other.scenario])
    pairs = {f"scenario {key}": (one.scenario.get(key), other.scenario.get(key)) for key in keys}
    pairs |= {name: (getattr(one, name), getattr(other, name)) for name in _BESIDE}
    return {name: values for name, values in pairs.items() if values[0] != values[1]}


PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9)


def total(delays: Iterable[Delays]) -> Delays:
    """Put several together."""
    found = Delays()
    for each in delays:
        found.add(each)
    return found


def figures(report: Report, percentiles: Sequence[float] = PERCENTILES) -> dict[str, float]:
    """Give what is compared between runs, by its name with its unit.

    Raises:
        ValueError: A histogram is none.
    """
    found: dict[str, float] = {
        "events sent": report.sent,
        "sent a second": report.sent_a_second,
        "consumed a second": report.events_a_second,
        "outputs received": report.received,
    }
    if report.unreadable:
        found["unreadable on the outputs"] = report.unreadable
    for name, quantiles in (
        ("latency", report.latency), ("decided", report.decided), ("timer lateness", report.timer_lateness),
        ("load behind", report.load_behind),
    ):  # fmt: skip
        if quantiles.count:
            values = zip(percentiles, quantiles.percentiles_ms(percentiles), strict=True)
            found |= {f"{name} p{percentile:.10g}, ms": value for percentile, value in values}
            found[f"{name} max, ms"] = quantiles.max
    found |= {"lag max": report.lag_max, "lag end": report.lag_end}
    if report.workers:
        found |= {
            "workers' CPU, s": round(sum(worker.cpu_s for worker in report.workers), 2),
            "workers' CPU an event, us": round(
                sum(worker.cpu_s for worker in report.workers) / max(report.sent, 1) * 1e6, 2
            ),
            "workers' memory max, MB": round(sum(worker.rss_max_mb for worker in report.workers), 1),
        }
    if restores_s := [restore.seconds for worker in report.workers for restore in worker.restores]:
        found |= {"restores": len(restores_s), "restore max, s": max(restores_s)}
    if late_s := [worker.timers_late_p99_s for worker in report.workers if worker.timers_late_p99_s is not None]:
        found["workers' timers late p99, s"] = max(late_s)
    if over := sum(worker.timers_are_later for worker in report.workers):
        found["workers beyond that bound"] = over
    return found
