"""`janela measure`: a load or a replay on a set-up that runs, and what came of it; and two such runs side by side."""

import io
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from processor.cli.config import BootstrapServers, ConfigFile, load_settings
from processor.cli.load import Span
from processor.cli.measure_replay import replay
from processor.cli.measured import (
    AsJson,
    Drain,
    HtmlFile,
    Kept,
    Ops,
    ReportFile,
    WarmUp,
    Watched,
    Workers,
    run_measured,
)
from processor.cli.written import say

if TYPE_CHECKING:
    from processor.cli.progress import Progress
    from processor.measure.report import Report
    from processor.measure.traffic import Traffic

Number = float | None
WIDE: Final = 1000

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
    workers: Workers = None,
    ops: Ops = None,
    drain: Drain = 60,
    warm_up: WarmUp = 0,
    report_file: ReportFile = None,
    html_file: HtmlFile = None,
    as_json: AsJson = False,
    bootstrap_servers: BootstrapServers = None,
    config_file: ConfigFile = None,
) -> None:
    """Put a load on a set-up that runs, and measure what comes of it: throughput, latency, lag, CPU and memory.

    The load is that of `janela load`, in processes of its own; what its options say beside these, a scenario says.
    Latency counts from a record's moment in the schedule until its output reaches a read_committed consumer here, so
    a load or a broker that falls behind is in it. Timer lateness counts from a window's end by the wall clock. The
    workers must run by now; a restore is in the report where the worker tells of it (--ops), be it from before the
    begin, or since one was started again meanwhile.

    Examples:
        janela measure --rate 10000 --seconds 60 --worker "$(pgrep -f 'janela worker')"
        janela measure --rate 2000 --ops 10.0.0.7:9464 --ops 10.0.0.8:9464
        janela measure --scenario friday.toml --report a.json --html a.html
        janela measure replay --from-archive day.jsonl.zst --times shifted --speed 60
        janela measure compare a.json b.json

    Exit codes: 0 all was sent and consumed, 1 it was not, a process of the load failed, or the report or stdout can't
    be written, 2 an option, the scenario, a setting or a topic is wrong, or no broker answers, 130 stopped by Ctrl-C or
    SIGTERM (figures of what there was).
    """
    if context.invoked_subcommand is not None:
        _refuse_options_before(context)
        return
    from processor.load.scenario import Scenario

    options = locals()
    given = {name: options[name] for name in Scenario.model_fields if options.get(name) is not None}
    settings, scenario = load_settings(config_file, bootstrap_servers), Scenario.load(scenario_file, given)
    span = Span.of(scenario, start)

    async def load(_: "Progress") -> "tuple[Traffic, int]":
        from processor.cli.load import ordered
        from processor.measure.traffic import LoadTraffic

        order = await ordered(settings, scenario, processes)
        return LoadTraffic(order, span.events, span.begin), order.partitions

    run_measured(
        settings, load, Watched(workers or [], ops or [], drain, warm_up), Kept(report_file, html_file, as_json)
    )


def _refuse_options_before(context: typer.Context) -> None:
    """Refuse options before a verb of ours: nothing would come of them."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE":
            words = f"it stands before {context.invoked_subcommand}, which takes its options behind it"
            raise typer.BadParameter(words, context, param_hint=parameter.opts[0])


measure_app.command("replay")(replay)


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

    A report holds the histograms of its delays, so any percentile can be asked for. What else differs is named: of the
    scenario, partitions, processes of the load, warm-up, drain, machine, and the versions of janela, Python, client and
    cluster (--json: under "differences").

    Examples:
        janela measure compare before.json after.json
        janela measure compare before.json after.json --percentile 75 --percentile 99.99

    Exit codes: 0 shown, 1 stdout can't be written, 2 a file is no report.
    """
    import json

    from processor.measure.report import differences

    (one, a), (other, b) = (_read(path, percentiles) for path in (first, second))
    names = [*a, *(name for name in b if name not in a)]
    differ = differences(one, other)
    if as_json:
        told: dict[str, Any] = {name: {"a": a.get(name), "b": b.get(name)} for name in names}
        told["differences"] = {name: {"a": values[0], "b": values[1]} for name, values in differ.items()}
        say("measure", json.dumps(told, indent=2))
        return
    lines = [f"{name}: {_in_words(values[0])}; {_in_words(values[1])}" for name, values in differ.items()]
    shown = _side_by_side((first.name, a), (second.name, b), names)
    say("measure", "\n".join([shown, *(["What else differs:", *lines] if lines else [])]))


def _in_words(value: object) -> str:
    return "not kept" if value is None else str(value)


def _side_by_side(one: tuple[str, dict[str, float]], other: tuple[str, dict[str, float]], names: list[str]) -> str:
    """Draw the table; off a terminal it is as wide as it wants to be."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    (first, a), (second, b) = one, other
    table = Table("", box=box.SIMPLE_HEAD)
    for title in (first, second, "B / A"):
        table.add_column(Text(title), justify="right", overflow="fold")
    for name in names:
        values = a.get(name), b.get(name)
        ratio = f"{values[1] / values[0]:.2f}" if values[0] and values[1] is not None else "-"
        table.add_row(name, *("-" if value is None else f"{value:,.10g}" for value in values), ratio)
    is_terminal, shown = sys.stdout.isatty(), io.StringIO()
    width = shutil.get_terminal_size().columns if is_terminal else WIDE
    Console(file=shown, width=width, force_terminal=is_terminal, markup=False, emoji=False).print(table)
    return shown.getvalue().rstrip("\n")


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
