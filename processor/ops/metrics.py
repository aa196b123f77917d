"""The metrics of a worker: one catalogue, from which the page in `docs/` and the dashboard are made.

A metric is a field of `Metrics`, so one that is not in the catalogue does not type-check. Labels are bounded: topics,
partitions, and words of closed lists (`processor/ops/labels.py`); never a contact, a message id, or what a record says.
"""

from collections.abc import Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any, Final, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, values
from prometheus_client.process_collector import ProcessCollector

from processor.ops import labels as known

values.ValueClass = values.MutexValue  # in memory, though PROMETHEUS_MULTIPROC_DIR says in files: that is for others
PREFIX: Final = "janela_"

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_RECORDS: Final = (1, 10, 100, 1_000, 4_000, 16_000, 64_000)


class Entry(NamedTuple):
    """What the catalogue says of a metric."""

    name: str
    """As it is scraped."""
    kind: str
    labels: tuple[str, ...]
    meaning: str
    remedy: str
    """What to look at, or to do, where the value is not as it should be."""
    unit: str
    """What is counted or measured."""


def _metric(
    kind: Any,
    name: str,
    labels: Sequence[str],
    meaning: str,
    remedy: str,
    at_zero: Sequence[tuple[str, ...]] = (),
    unit: str = "",
    **more: Any,
) -> Any:
    """Describe a metric; its unit is the last word of its name unless it is given.

    `at_zero` are the values of its labels that are there before anything is counted.
    """
    scraped = f"{PREFIX}{name}{'_total' if kind is Counter else ''}"
    entry = Entry(scraped, kind.__name__.lower(), tuple(labels), meaning, remedy, unit or name.rpartition("_")[2])
    make = {"kind": kind, "name": PREFIX + name, "at_zero": at_zero, "more": more}
    return field(init=False, metadata={"entry": entry, "make": make})


@dataclass
class Metrics:
    """All metrics of one worker. The comments of the fields are what the catalogue says."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    records: Counter = _metric(
        Counter,
        "records",
        ("topic", "type"),
        "Records read and decoded, by input topic and type: noted are those that change nothing whatever they say,"
        " such as statuses; other are types that the contract does not know.",
        "Nothing for minutes on both topics: are the producers alive? See offset_lag for a worker that stands still.",
        at_zero=known.RECORDS,
    )
    outputs: Counter = _metric(
        Counter,
        "outputs",
        ("topic",),
        "Events committed, by output topic.",
        "Compare with yesterday: a campaign shows as window-expiring and window-closed a day later.",
        at_zero=known.OUTPUTS,
    )
    rejections: Counter = _metric(
        Counter,
        "rejections",
        ("reason",),
        "Sends judged not to be allowed, by the contract's reason.",
        "A jump in window-closed: a dispatcher that sends late. no-consent, opt-out: a campaign's list.",
        at_zero=known.REJECTIONS,
    )
    dead_letters: Counter = _metric(
        Counter,
        "dead_letters",
        ("reason",),
        "Records that could not be read, by the contract's reason.",
        "Read the topic dead-letters: its headers say where each came from. wrong-partition: a producer's partitioner.",
        at_zero=known.DEAD_LETTERS,
        unit="records",
    )
    without_effect: Counter = _metric(
        Counter,
        "without_effect",
        ("cause",),
        "Records that changed no window: late (behind the clock by a window's length), not-newer (a double, or"
        " older than what is known), silent, misplaced; and unknown-type, which is taken as a message or a send.",
        "late or not-newer in numbers: the platform delivers late or twice. misplaced: types on the wrong topic.",
        at_zero=known.WITHOUT_EFFECT,
        unit="records",
    )
    traced_inputs: Counter = _metric(
        Counter,
        "traced_inputs",
        ("outcome",),
        "Inputs with a valid trace context, by what came of it: span, not-sampled (it went on as it came), beyond-limit"
        " (so did this, though it was sampled); 0 without traces=otlp.",
        "Where beyond-limit grows, producers sample more than a worker makes spans of: see docs/tracing.md.",
        at_zero=known.TRACED_INPUTS,
    )
    clock_ahead: Gauge = _metric(
        Gauge,
        "clock_ahead_seconds",
        (),
        "How far this machine's clock is ahead of the brokers' time (negative: behind), by which timers fire; only with"
        " clock=live.",
        "Beyond seconds: set the machine's clock (NTP). Its logs are off by as much; no window is.",
    )

    event_time_lag: Gauge = _metric(
        Gauge,
        "event_time_lag_seconds",
        ("partition",),
        "How far a partition's clock is behind the brokers' time, while records wait for it; only with clock=live.",
        "Grows with offset_lag: too few workers. Grows without: one side of the inputs is silent and not at its end.",
    )
    offset_lag: Gauge = _metric(
        Gauge,
        "offset_lag_records",
        ("topic", "partition"),
        "Records of an input up to its end, as the last fetch saw it, that are not yet applied.",
        "Grows: add workers, up to the number of partitions. One partition alone: a contact or business that floods.",
    )
    transactions: Counter = _metric(
        Counter,
        "transactions",
        (),
        "Transactions committed. None is aborted, and no producer initialised again: one that fails ends the worker.",
        "Stands still while records wait: look at the brokers. The watchdog will end the worker, unless an input's open"
        " transaction or a flood of dead letters is what holds a partition up: log lines tell of both.",
    )
    transaction_seconds: Histogram = _metric(
        Histogram,
        "transaction_seconds",
        (),
        "From a transaction's begin to its commit.",
        "Above 0.5 s: a slow broker or network, or too many records in one transaction (batch_records_max).",
        buckets=_SECONDS,
    )
    transaction_records: Histogram = _metric(
        Histogram,
        "transaction_records",
        (),
        "Records taken and written in a transaction.",
        "Near the largest bucket all the time: the worker is behind.",
        buckets=_RECORDS,
    )
    foreign_transactions_ended: Counter = _metric(
        Counter,
        "foreign_transactions_ended",
        (),
        "Open transactions of dead workers that this one ended to take their partitions over.",
        "One for each worker that died; more: workers die all the time, read their last lines.",
        unit="transactions",
    )

    partitions: Gauge = _metric(
        Gauge,
        "partitions",
        ("state",),
        "Partitions of this worker: restoring, at-work, or stopped (by a flood of dead letters).",
        "restoring for minutes: see restore_records. stopped: mend the producer, then restart the worker.",
    )
    rebalances: Counter = _metric(
        Counter,
        "rebalances",
        (),
        "Assignments that the group gave to this worker.",
        "Many in an hour: workers come and go, or are too busy to heartbeat (session_timeout_ms).",
    )
    restore_records: Gauge = _metric(
        Gauge,
        "restore_records",
        ("partition",),
        "State records read so far by the restore under way; gone when it is complete.",
        "Does not move: a transaction is open on window-state, or a broker is slow.",
    )
    restore_seconds: Histogram = _metric(
        Histogram,
        "restore_seconds",
        (),
        "From an assignment to the last of its partitions at work, where any had to be restored.",
        "Grows with window-state: is it compacted (janela topics check)? Some 5 s a million windows.",
        buckets=_SECONDS,
    )

    open_windows: Gauge = _metric(
        Gauge,
        "open_windows",
        ("partition",),
        "Windows that are open.",
        "Some 250 bytes each, beside the key; memory follows.",
    )
    known_windows: Gauge = _metric(
        Gauge,
        "known_windows",
        ("partition",),
        "Windows in memory: those that are open, and closed ones until their retention is over.",
        "See open_windows; closed_retention in the policy says how long a closed one stays.",
    )
    timers_soon: Gauge = _metric(
        Gauge,
        "timers_soon",
        ("partition",),
        "Reminders within the next minute of the clock; some will turn out stale.",
        "A hundred thousand: a campaign's windows are about to end; consumers should be ready.",
        unit="timers",
    )
    timers_overdue: Gauge = _metric(
        Gauge,
        "timers_overdue",
        ("partition",),
        "Reminders that are due by the brokers' time, less the grace, and have not fired; some will turn out stale.",
        "For more than seconds: the partition is behind (offset_lag), or the brokers do not tell the time (the log line"
        " clock.unanswered).",
        unit="timers",
    )
    timer_lateness_seconds: Histogram = _metric(
        Histogram,
        "timer_lateness_seconds",
        (),
        "How long after its due time the earliest timer of an idle round fired, by the brokers' time.",
        "The grace (timer_grace_ms) and a tick of 0.2 s are in it; above 2 s the worker is too busy.",
        buckets=(0.5, 1, 1.1, 1.2, 1.3, 1.5, 2, 3, 5, 10, 60, 600),
    )

    buffered_records: Gauge = _metric(
        Gauge,
        "buffered_records",
        ("topic", "partition"),
        "Records that are decoded and wait to be applied.",
        "At buffer_records_max on one topic: the other one is behind in event time, or not at its end.",
    )
    held_partitions: Gauge = _metric(
        Gauge,
        "held_partitions",
        ("topic",),
        "Partitions of which nothing is fetched for now, since they have run ahead of their other side.",
        "For minutes: the other side has an open transaction of its producer, or no records and an end unknown.",
    )
    loop_stall_seconds: Histogram = _metric(
        Histogram,
        "loop_stall_seconds",
        ("loop",),
        "How late a timer of an event loop fired: worker (rounds, commits) or consumer (fetches, heartbeats).",
        "Above 0.25 s: the machine has too little CPU for the worker, or a round is too large.",
        buckets=_SECONDS,
    )

    def __post_init__(self) -> None:
        """Make the metrics; the process's own (memory, CPU, file descriptors) come with them."""
        for each in _of_catalogue():
            make, entry = each.metadata["make"], each.metadata["entry"]
            made = make["kind"](make["name"], entry.meaning, entry.labels, registry=self.registry, **make["more"])
            for values_of_labels in make["at_zero"]:
                made.labels(*values_of_labels)
            setattr(self, each.name, made)
        disable_created_metrics()  # type: ignore[no-untyped-call]  # or each would be two series
        ProcessCollector(registry=self.registry)


PROCESS: Final = (
    Entry(
        "process_resident_memory_bytes",
        "gauge",
        (),
        "Memory of the machine that the process has.",
        "Follows known_windows and buffered_records. Near its limit, or where it is swapped: more memory or workers.",
        "bytes",
    ),
)
"""What page and dashboard tell of the process's own, which prometheus_client makes."""


def _of_catalogue() -> list[Field[Any]]:
    return [each for each in fields(Metrics) if "entry" in each.metadata]


def catalogue() -> list[Entry]:
    """Give what there is to know of each metric, in the order of the fields."""
    return [each.metadata["entry"] for each in _of_catalogue()]
