"""`janela measure`: a load against a set-up that runs, and what came of it; and two such runs side by side."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from processor.cli.config import BootstrapServers, ConfigFile, load_settings
from processor.cli.load import Span

if TYPE_CHECKING:
    from processor.load.scenario import Scenario
    from processor.measure.gauges import Sample
    from processor.measure.report import Report
    from processor.settings import Settings

NOT_WHOLE: Final = 1
STOPPED: Final = 130
LOGGED_EVERY_S: Final = 5

Number = float | None

measure_app = typer.Typer(add_completion=False)


@measure_app.callback(invoke_without_command=True)
def measure(
    context: typer.Context,
    scenario_file: Annotated[
        Path | None, typer.Option("--scenario", metavar="FILE", help="A scenario in TOML, as of janela load.")
    ] = None,
    profile: Annotated[str | None, typer.Option(help="constant, ramp, spike, day or campaign.")] = None,
    rate: Annotated[Number, typer.Option(metavar="N", help="Events a second. [1000]")] = None,
    seconds: Annotated[Number, typer.Option(metavar="N", help="How long the load goes on. [60]")] = None,
    contacts: Annotated[int | None, typer.Option(metavar="N", help="Customers. [100000]")] = None,
    popularity: Annotated[str | None, typer.Option(help="uniform, zipf, or once.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same contacts and types. [1]")] = None,
    start: Annotated[str | None, typer.Option(metavar="TIME", help="As of janela load.")] = None,
    processes: Annotated[int, typer.Option(min=1, max=64, metavar="N", help="Processes of the load.")] = 1,
    workers: Annotated[
        list[int] | None,
        typer.Option("--worker", metavar="PID", help="A worker on this machine, to meter; may be given again."),
    ] = None,
    drain: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for the workers when all was sent.")
    ] = 60,
    warm_up: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Don't time what is due in the first so many seconds.")
    ] = 0,
    report_file: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Keep the figures here, as JSON, for compare.")
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page with plots; it needs no network.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines: one JSON object at the end.")] = False,
    bootstrap_servers: BootstrapServers = None,
    config_file: ConfigFile = None,
) -> None:
    """Put a load on a set-up that runs, and measure what comes of it: throughput, latency, lag, CPU and memory.

    The load is that of `janela load`, in processes of its own; what its options say beside these, a scenario says.
    Latency counts from a record's moment in the schedule until its output reaches a read_committed consumer here, so
    a load or a broker that falls behind is in it. Timer lateness counts from a window's end by the wall clock. The
    workers must run by now; restores are not waited for.

    Examples:
        janela measure --rate 10000 --seconds 60 --worker "$(pgrep -f 'janela worker')"
        janela measure --scenario friday.toml --report a.json --html a.html
        janela measure compare a.json b.json

    Exit codes: 0 all was sent and consumed, 1 it was not, or a process of the load failed, 2 an option, the scenario,
    a setting or a topic is wrong, or no broker answers, 130 stopped by Ctrl-C or SIGTERM (figures of what there was).
    """
    if context.invoked_subcommand is not None:
        return
    from processor.load.crew import CrewError
    from processor.load.scenario import Scenario
    from processor.measure.gauges import read_meter

    options = locals()
    given = {name: options[name] for name in Scenario.model_fields if options.get(name) is not None}
    settings, scenario = load_settings(config_file, bootstrap_servers), Scenario.load(scenario_file, given)
    if gone := [pid for pid in workers or () if read_meter(pid) is None]:
        raise typer.BadParameter(f"no process here has the id {gone[0]}", param_hint="--worker")
    stopped = asyncio.Event()
    try:
        report = asyncio.run(
            _measured(settings, scenario, Span.of(scenario, start), processes, workers or [], drain, warm_up, stopped)
        )
    except CrewError as error:
        print(f"janela measure: {error}", file=sys.stderr)
        raise typer.Exit(NOT_WHOLE) from None
    _keep(report, report_file, html_file, as_json)
    raise typer.Exit(0 if report.is_whole else STOPPED if stopped.is_set() else NOT_WHOLE)


@measure_app.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="A report of janela measure --report.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    percentiles: Annotated[
        list[float] | None,
        typer.Option(
            "--percentile", min=0, max=100, metavar="P", help="Of delays, such as 99.99. Repeatable. [50 90 99 99.9]"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines: one JSON object.")] = False,
) -> None:
    """Show the figures of two runs side by side, and what the second one's are of the first one's.

    A report holds the histograms of its delays, so any percentile can be asked for.

    Examples:
        janela measure compare before.json after.json
        janela measure compare before.json after.json --percentile 75 --percentile 99.99

    Exit codes: 0 shown, 2 a file is no report.
    """
    import json

    from rich import box
    from rich.console import Console
    from rich.table import Table

    (one, a), (other, b) = (_read(path, percentiles) for path in (first, second))
    names = [*a, *(name for name in b if name not in a)]
    if as_json:
        print(json.dumps({name: {"a": a.get(name), "b": b.get(name)} for name in names}, indent=2))
        return
    table = Table("", first.name, second.name, "B / A", box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    for name in names:
        values = a.get(name), b.get(name)
        ratio = f"{values[1] / values[0]:.2f}" if values[0] and values[1] is not None else "-"
        table.add_row(name, *("-" if value is None else f"{value:,.10g}" for value in values), ratio)
    console = Console()
    console.print(table)
    keys = dict.fromkeys([*one.scenario, *other.scenario])
    changed = [key for key in keys if one.scenario.get(key) != other.scenario.get(key)]
    if changed:
        console.print(f"The scenarios differ: {', '.join(changed)}")
    if one.machine != other.machine:
        console.print(f"The machines differ: {one.machine}; {other.machine}")


def _read(path: Path, percentiles: list[float] | None) -> "tuple[Report, dict[str, float]]":
    import msgspec

    from processor.measure.report import PERCENTILES, Report, figures

    try:
        report = msgspec.json.decode(path.read_bytes(), type=Report)
        return report, figures(report, percentiles or PERCENTILES)
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}") from None
    except ValueError as error:  # of the bytes, the JSON, its fields, or a histogram
        raise typer.BadParameter(f"{path} is no report: {error}") from None


async def _measured(
    settings: "Settings",
    scenario: "Scenario",
    span: Span,
    processes: int,
    workers: list[int],
    drain_s: float,
    warm_up_s: float,
    stopped: asyncio.Event,
) -> "Report":
    from processor.cli.cluster import refusals_told
    from processor.cli.load import ordered
    from processor.cli.progress import progress_shown
    from processor.measure.run import Run
    from processor.measure.traffic import LoadTraffic

    order = await ordered(settings, scenario, processes)
    settings = settings.model_copy(update={"partitions": order.partitions})
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    with progress_shown(LOGGED_EVERY_S) as progress, refusals_told(settings):

        def tell(sample: "Sample") -> None:
            p99 = "-" if sample.p99_ms is None else f"{sample.p99_ms:,.0f}"
            more = f", received {sample.received:,}, lag {sample.lag:,}, p99 {p99} ms"
            progress.note("sent", sample.sent, span.events, more)

        traffic = LoadTraffic(order, span.events, span.begin)
        return await Run(settings, traffic, workers, drain_s=drain_s, warm_up_s=warm_up_s).measured(tell, stopped)


def _keep(report: "Report", report_file: Path | None, html_file: Path | None, as_json: bool) -> None:
    import msgspec

    from processor.measure.page import page
    from processor.measure.report import figures

    text = msgspec.json.format(msgspec.json.encode(report), indent=1)
    if report_file is not None:
        report_file.write_bytes(text + b"\n")
    if html_file is not None:
        html_file.write_text(page(report), "utf-8")
    if as_json:
        print(text.decode())
        return
    for name, value in figures(report).items():
        print(f"{name:<28}{value:>16,.10g}")
    if not report.is_whole:
        print("not all of the schedule was sent, or not all of it consumed")
