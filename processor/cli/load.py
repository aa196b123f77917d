"""`janela load`: open-loop traffic on the input topics, from a scenario and a seed."""

import asyncio
import json
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from processor.cli.config import BootstrapServers, ConfigFile, load_settings
from processor.cli.written import say

if TYPE_CHECKING:
    from processor.cli.progress import Progress
    from processor.load.crew import Begin, Order
    from processor.load.scenario import Scenario
    from processor.load.tally import Tally
    from processor.settings import Settings

FAILED: Final = 1
STOPPED: Final = 130
READY_S: Final = 0.2
"""From when all processes are ready to the first record."""
BEHIND_MS: Final = 1000
"""A schedule that was kept worse than that, for one record of a hundred, is told."""
LOGGED_EVERY_S: Final = 5

Number = float | None


def load(
    scenario_file: Annotated[
        Path | None,
        typer.Option("--scenario", metavar="FILE", help="A scenario in TOML; options stand over it."),
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="constant, ramp, spike, day (a business's hours) or campaign.")
    ] = None,
    rate: Annotated[
        Number, typer.Option(metavar="N", help="Events a second: a ramp's end, a day's mean. [1000]")
    ] = None,
    seconds: Annotated[Number, typer.Option(metavar="N", help="How long it goes on. [60]")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed, scenario and start give the same bytes. [1]")] = None,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Time of the first event, RFC 3339 or so long ago, such as -24h. In the future, it is waited for."
            " Without it, now.",
        ),
    ] = None,
    speed: Annotated[
        Number, typer.Option(metavar="N", help="How fast the events' time goes by. [1; a day: 24 h]")
    ] = None,
    from_rate: Annotated[Number, typer.Option(metavar="N", help="Where a ramp begins. [0]")] = None,
    peak_rate: Annotated[Number, typer.Option(metavar="N", help="How high a spike goes. [10 times the rate]")] = None,
    peak_seconds: Annotated[Number, typer.Option(metavar="N", help="How long a spike lasts. [a tenth]")] = None,
    contacts: Annotated[int | None, typer.Option(metavar="N", help="Customers. [100000; a campaign: 500000]")] = None,
    popularity: Annotated[str | None, typer.Option(help="uniform, zipf, or once (each writes once).")] = None,
    zipf_exponent: Annotated[Number, typer.Option(metavar="S", help="How steep zipf is. [1]")] = None,
    outbound: Annotated[
        Number, typer.Option(metavar="SHARE", help="The business's side. [0.45; a campaign: 0]")
    ] = None,
    inbound_types: Annotated[str | None, typer.Option(metavar="TYPE=WEIGHT,…", help="Such as text=6,call=1.")] = None,
    outbound_types: Annotated[
        str | None, typer.Option(metavar="TYPE=WEIGHT,…", help="Such as text=6,template=1.")
    ] = None,
    doubles: Annotated[Number, typer.Option(metavar="SHARE", help="Put on the topic a second time. [0]")] = None,
    doubles_within: Annotated[
        int | None, typer.Option(metavar="N", help="At most so many records of its partition ago. [1000]")
    ] = None,
    disorder: Annotated[Number, typer.Option(metavar="SHARE", help="Out of order. [0]")] = None,
    disorder_ms: Annotated[int | None, typer.Option(metavar="MS", help="By at most so much. [2000]")] = None,
    late: Annotated[Number, typer.Option(metavar="SHARE", help="Late. [0]")] = None,
    late_seconds: Annotated[Number, typer.Option(metavar="N", help="By at most so much. [129600, 36 h]")] = None,
    bad: Annotated[Number, typer.Option(metavar="SHARE", help="Can't be read: dead letters. [0]")] = None,
    text_bytes: Annotated[int | None, typer.Option(metavar="N", help="Length of the text of a record. [60]")] = None,
    business_id: Annotated[str | None, typer.Option(metavar="ID", help="The business number.")] = None,
    processes: Annotated[
        int, typer.Option(min=1, max=64, metavar="N", help="Processes, each with its share of the partitions.")
    ] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Send nothing; say what the scenario comes to.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines: one JSON object at the end.")] = False,
    bootstrap_servers: BootstrapServers = None,
    config_file: ConfigFile = None,
) -> None:
    """Put open-loop traffic on the input topics: when each record is due is fixed before the first one is sent.

    Where the brokers or this program fall behind, records go out late and nothing is left out, so that what is
    measured downstream bears the delay. The moment of a record, in µs, stands in its id after the point.

    The same seed, scenario and start give the same records, whatever the number of processes. A process puts some
    100,000 records a second on the topics; all records of a contact come from one of them, in their order.

    Examples:
        janela load --rate 20000 --seconds 120
        janela load --profile ramp --rate 100000 --processes 2 --popularity zipf
        janela load --profile day --rate 2000 --seconds 600 --bad 0.005 --doubles 0.01 --late 0.01
        janela load --profile campaign --start -1435m
        janela load --scenario friday.toml --seed 7 --json

    Exit codes: 0 all of the schedule is on the topics, 1 the brokers refused records, a process failed, or stdout can't
    be written, 2 an option, the scenario, a setting or a topic is wrong, or no broker answers, 130 stopped by Ctrl-C or
    SIGTERM (the summary says what is on the topics).
    """
    from processor.load.crew import CrewError
    from processor.load.scenario import Scenario

    options = locals()
    given = {name: options[name] for name in Scenario.model_fields if options[name] is not None}
    settings, scenario = load_settings(config_file, bootstrap_servers), Scenario.load(scenario_file, given)
    span = Span.of(scenario, start)
    if dry_run:
        _tell_plan(scenario, span, as_json)
        return
    try:
        tally, begin = asyncio.run(_load(settings, scenario, span, processes))
    except CrewError as error:
        print(f"janela load: {error}", file=sys.stderr)
        raise typer.Exit(FAILED) from None
    _tell(scenario, span, tally, begin, processes, as_json)
    raise typer.Exit(FAILED if tally.error else 0 if tally.is_whole else STOPPED)


@dataclass(frozen=True)
class Span:
    """How many events over how many seconds, and the time of the first one."""

    events: int
    seconds: float
    start_us: int | None
    """None: when all is ready, or so that the last event's time is the time when it is sent."""
    ahead_us: int
    """How much more time passes in the events than by the clock."""

    @classmethod
    def of(cls, scenario: "Scenario", start: str | None) -> "Span":
        """Work out the span of a scenario that begins at `start`."""
        from processor.load.profile import profile_of

        profile = profile_of(scenario)
        ahead_us = max(int((scenario.speed - 1) * profile.seconds * 1e6), 0)
        start_us = None if start is None else _moment_us(start)
        if start_us is not None and start_us < 0:
            raise typer.BadParameter(f"found {start!r}, expected 1970 or later", param_hint="--start")
        if start_us is not None and start_us + ahead_us > max(start_us, time.time_ns() // 1000):
            raise typer.BadParameter(
                f"at speed {scenario.speed:g} the last events' times would lie in the future;"
                f" begin {ahead_us / 1e6:.0f} s ago or before",
                param_hint="--start",
            )
        return cls(profile.events, profile.seconds, start_us, ahead_us)

    def begin(self) -> "Begin":
        """Set the begin: now, but for a start that is still to come."""
        from processor.load.crew import Begin

        ready_us = time.time_ns() // 1000 + int(READY_S * 1e6)
        if self.start_us is None:
            return Begin(ready_us, ready_us - self.ahead_us)
        return Begin(max(ready_us, self.start_us), self.start_us)


def _moment_us(text: str) -> int:
    from processor.codec.times import parse_time
    from processor.policy_file import parse_duration

    if text.startswith("-"):
        try:
            return (time.time_ns() // 1_000_000 - parse_duration(text[1:])) * 1000
        except ValueError:
            pass
    elif (time_ms := parse_time(text)) is not None:
        return time_ms * 1000
    raise typer.BadParameter(
        f"found {text!r}, expected RFC 3339 with a zone, or how long ago, such as -24h", param_hint="--start"
    )


async def ordered(settings: "Settings", scenario: "Scenario", processes: int) -> "Order":
    """Look at the topics, and make the order for so many processes.

    Raises:
        ClusterError: No broker answers, or a topic is missing or not as it must be.
    """
    from processor.load.crew import Order
    from processor.topics import input_topics

    inbound, outbound = await input_topics(settings)
    if processes > inbound.partitions:
        raise typer.BadParameter(
            f"found {processes}, at most one for each of {inbound.partitions} partitions", param_hint="--processes"
        )
    topics = inbound.name, outbound.name
    return Order(settings.connection, topics, inbound.partitions, scenario.model_dump(), shards=processes)


async def _load(settings: "Settings", scenario: "Scenario", span: Span, processes: int) -> "tuple[Tally, Begin]":
    from processor.cli.progress import progress_shown
    from processor.load.crew import Begin, follow
    from processor.topics import refusals_told

    order = await ordered(settings, scenario, processes)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    begun = Begin(0, 0)

    def begin() -> Begin:
        nonlocal begun
        begun = span.begin()
        return begun

    with progress_shown(LOGGED_EVERY_S) as progress, refusals_told(settings):
        return await follow(order, begin, Told(progress, span.events).note, stopped), begun


# --------------------------------------------------------------------------------------------------- on stderr


class Told:
    """Tells on stderr how a load goes, with the rate since it last did."""

    def __init__(self, progress: "Progress", events: int) -> None:
        """Take how many records there will be."""
        self._progress, self._events = progress, events
        self._before_s, self._before = time.monotonic(), 0

    def note(self, tally: "Tally") -> None:
        """Take note of how far it is."""
        now_s = time.monotonic()
        rate = (tally.acknowledged - self._before) / (now_s - self._before_s)
        self._before_s, self._before = now_s, tally.acknowledged
        self._progress.note(
            "sending",
            tally.acknowledged,
            self._events,
            f", {rate:,.0f} a second, in flight {tally.in_flight:,}, behind {tally.behind_us / 1000:,.0f} ms,"
            f" errors {tally.failed:,}",
        )


# --------------------------------------------------------------------------------------------------- on stdout


def _tell_plan(scenario: "Scenario", span: Span, as_json: bool) -> None:
    plan = {"scenario": scenario.model_dump(), "events": span.events, "seconds": span.seconds}
    if as_json:
        say("load", json.dumps(plan, indent=2))
        return
    lines = [
        f"{name:<16}{value if isinstance(value, (str, int, float)) else json.dumps(value)}"
        for name, value in scenario.model_dump().items()
    ]
    say("load", "\n".join([*lines, f"{span.events:,} events in {span.seconds:,g} s"]))


def _summary(scenario: "Scenario", span: Span, tally: "Tally", begin: "Begin", processes: int) -> dict[str, Any]:
    from processor.codec.times import format_time

    took_s = max(tally.ended_us - begin.begin_us, 0) / 1e6
    behind, acked = (
        dict(zip(("p50", "p99", "p999", "max"), delays.quantiles_ms(0.5, 0.99, 0.999, 1.0), strict=True))
        for delays in (tally.behind, tally.delays)
    )
    return {
        "events": span.events,
        "acknowledged": tally.acknowledged,
        "failed": tally.failed,
        "not_answered_for": tally.in_flight,
        "error": tally.error or None,
        "by_topic": tally.by_topic,
        "made": tally.made,
        "kinds": tally.kinds,
        "bytes": tally.bytes,
        "start": format_time(begin.start_us // 1000),
        "start_us": begin.start_us,
        "begin_us": begin.begin_us,
        "seconds": round(took_s, 3),
        "rate": round(tally.acknowledged / took_s) if took_s else 0,
        "behind_ms": behind,
        "acknowledged_ms": acked,
        "processes": processes,
        "cpu_s": round(tally.cpu_s, 2),
        "cpu_us_an_event": round(tally.cpu_s / tally.made * 1e6, 2) if tally.made else None,
        "scenario": scenario.model_dump(),
    }


def _tell(scenario: "Scenario", span: Span, tally: "Tally", begin: "Begin", processes: int, as_json: bool) -> None:
    found = _summary(scenario, span, tally, begin, processes)
    if tally.error:
        print(f"janela load: the brokers refuse records: {tally.error}", file=sys.stderr)
    if (behind := found["behind_ms"])["p99"] > BEHIND_MS:
        print(
            f"janela load: the schedule was not kept: one record of a hundred was taken up {behind['p99'] / 1000:.1f} s"
            " late or more; --processes takes more cores",
            file=sys.stderr,
        )
    if as_json:
        say("load", json.dumps(found, indent=2))
        return
    acked, kinds = found["acknowledged_ms"], ", ".join(f"{count:,} {kind}" for kind, count in found["kinds"].items())
    where = f"{processes} process{'es' * (processes > 1)}"
    came = f"{found['acknowledged']:,} of {span.events:,} records in {found['seconds']:,.1f} s"
    lines = (
        f"{came}, {found['rate']:,} a second",
        f"  {kinds or 'none'}",
        f"  refused {found['failed']:,}, not answered for {found['not_answered_for']:,}",
        f"  taken up after their moment, ms: p50 {behind['p50']:g}, p99 {behind['p99']:g}, max {behind['max']:g}",
        f"  acknowledged after it, ms:       p50 {acked['p50']:g}, p99 {acked['p99']:g}, max {acked['max']:g}",
        f"  CPU {found['cpu_s']:g} s in {where}, {found['cpu_us_an_event'] or 0:g} µs a record",
        f"  start {found['start']}, seed {scenario.seed}",
    )
    say("load", "\n".join(lines))
