"""What `janela measure` and `janela measure replay` share: the options of the one who watches, and the run itself."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer

from processor.cli.signals import unless
from processor.cli.written import say, write_file

if TYPE_CHECKING:
    from processor.cli.progress import Progress
    from processor.measure.gauges import Sample
    from processor.measure.report import Report
    from processor.measure.traffic import Traffic
    from processor.measure.workers import Local, Meter, Remote
    from processor.settings import Settings

NOT_WHOLE: Final = 1
STOPPED: Final = 130
LOGGED_EVERY_S: Final = 5

Workers = Annotated[
    list[int] | None,
    typer.Option("--worker", metavar="PID", help="A worker on this machine, to meter; may be given again."),
]
Ops = Annotated[
    list[str] | None,
    typer.Option(
        "--ops", metavar="HOST:PORT", help="A worker's JANELA_OPS_ADDRESS: its meters, restores, clocks. Repeatable."
    ),
]
Drain = Annotated[
    float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for the workers when all was sent.")
]
WarmUp = Annotated[
    float, typer.Option(min=0, metavar="SECONDS", help="Don't time what is due in the first so many seconds.")
]
ReportFile = Annotated[
    Path | None, typer.Option("--report", metavar="FILE", help="Keep the figures here, as JSON, for compare.")
]
HtmlFile = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write a page with plots; it needs no network.")
]
AsJson = Annotated[bool, typer.Option("--json", help="For machines: one JSON object at the end.")]


class Watched(NamedTuple):
    """What is watched beside the outputs, and for how long."""

    pids: list[int]
    ops: list[str]
    drain_s: float
    warm_up_s: float


class Kept(NamedTuple):
    """Where the report goes."""

    report_file: Path | None
    html_file: Path | None
    as_json: bool


MakeTraffic = Callable[["Progress"], Awaitable["tuple[Traffic, int]"]]
"""Makes the traffic once the topics are known; gives their number of partitions too."""


def run_measured(settings: "Settings", make: MakeTraffic, watched: Watched, kept: Kept) -> None:
    """Measure, keep and tell the report, and exit with the code that says how it went."""
    from processor.load.crew import CrewError
    from processor.measure.workers import read_meter

    if gone := [pid for pid in watched.pids if read_meter(pid) is None]:
        raise typer.BadParameter(f"no process here has the id {gone[0]}", param_hint="--worker")
    _refuse_what_cannot_be_kept(kept)
    stopped = asyncio.Event()
    try:
        report = asyncio.run(_measured(settings, make, watched, stopped))
    except CrewError as error:
        print(f"janela measure: {error}", file=sys.stderr)
        raise typer.Exit(NOT_WHOLE) from None
    if report is None:
        print(f"janela measure: {'stopped' if stopped.is_set() else 'ended'} before it began", file=sys.stderr)
        raise typer.Exit(STOPPED if stopped.is_set() else NOT_WHOLE)
    is_kept = _keep(report, kept)
    raise typer.Exit(0 if report.is_whole and is_kept else STOPPED if stopped.is_set() else NOT_WHOLE)


async def _measured(
    settings: "Settings", make: MakeTraffic, watched: Watched, stopped: asyncio.Event
) -> "Report | None":
    from processor import topics
    from processor.cli.cluster import partitions_of
    from processor.cli.progress import progress_shown
    from processor.measure.receiver import OUTPUTS
    from processor.measure.run import Run
    from processor.measure.workers import Meter, Probe, Remote
    from processor.topics import refusals_told

    remotes: dict[Remote, Meter] = {}
    for address in dict.fromkeys(watched.ops):
        if (meter := await (remote := Remote(address)).read()) is None:
            raise typer.BadParameter(f"found no worker that answers at {address}", param_hint="--ops")
        remotes[remote] = meter
    probes: list[Probe] = [*_others(watched.pids, remotes), *remotes]
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    with progress_shown(LOGGED_EVERY_S) as progress, refusals_told(settings):
        names = topics.names(settings)
        await partitions_of(settings, [names[topic] for topic in OUTPUTS])
        if (made := await unless(stopped, make(progress))) is None:
            return None
        traffic, partitions = made
        if not traffic.events:
            raise typer.BadParameter("found no record that is asked for, so there is nothing to measure with")
        settings = settings.model_copy(update={"partitions": partitions})

        def tell(sample: "Sample") -> None:
            p99 = "-" if sample.p99_ms is None else f"{sample.p99_ms:,.0f}"
            more = f", received {sample.received:,}, lag {sample.lag:,}, p99 {p99} ms"
            progress.note("sent", sample.sent, traffic.events, more)

        run = Run(settings, traffic, probes, drain_s=watched.drain_s, warm_up_s=watched.warm_up_s)
        return await run.measured(tell, stopped)


def _others(pids: Iterable[int], remotes: "Mapping[Remote, Meter]") -> "Iterator[Local]":
    """Give the workers of this machine that no address tells of already: each is to be counted once."""
    from processor.measure.workers import Local, is_same, read_meter

    for pid in dict.fromkeys(pids):
        meter = read_meter(pid)
        told = [remote.name for remote, its in remotes.items() if meter is not None and is_same(meter, its)]
        if told:
            print(f"janela measure: process {pid} is the worker at {told[0]}, and is counted once", file=sys.stderr)
        else:
            yield Local(pid)


def _keep(report: "Report", kept: Kept) -> bool:
    """Write and print the report; what can't be written is told, and False then: the figures are not lost with it."""
    import msgspec

    from processor.measure.page import page
    from processor.measure.report import figures

    text = msgspec.json.format(msgspec.json.encode(report), indent=1).decode()
    is_kept = True
    # first the files: nobody may be left to read what is printed
    for path, content in ((kept.report_file, f"{text}\n"), (kept.html_file, page(report))):
        try:
            if path is not None:
                write_file(path, content)
        except OSError as error:
            print(f"janela measure: {path} can't be written: {error.strerror}", file=sys.stderr)
            is_kept = False
    lines = [f"{name:<28}{value:>16,.10g}" for name, value in figures(report).items()]
    say("measure", text if kept.as_json else "\n".join(lines + report.faults()))
    return is_kept


def _refuse_what_cannot_be_kept(kept: Kept) -> None:
    """Look before hours of traffic whether the files can be written when it is over."""
    for path, option in ((kept.report_file, "--report"), (kept.html_file, "--html")):
        if path is not None and (path.is_dir() or not os.access(_written_to(path), os.W_OK)):
            raise typer.BadParameter(f"{path} can't be written", param_hint=option)
    if kept.report_file and kept.html_file and kept.report_file.resolve() == kept.html_file.resolve():
        raise typer.BadParameter(f"found {kept.report_file} for both", param_hint="--report, --html")


def _written_to(path: Path) -> Path:
    """Give what must be writable: the folder of a file, or a device itself."""
    found = path.resolve()
    return found if found.exists() and not found.is_file() else found.parent
