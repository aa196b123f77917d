"""`janela verify`: hold what lies on any cluster's topics against the rules, told a second time by another hand."""

import asyncio
import json
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final

import typer

from processor.cli.config import BootstrapServers, ConfigFile, load_settings
from processor.cli.progress import progress_shown

if TYPE_CHECKING:
    from processor.audit.reading import Sample
    from processor.audit.verdict import Verdict
    from processor.settings import Settings

FAULTS: Final = 1
"""Exit code where anything is wrong."""


def verify(
    partitions: Annotated[
        list[int] | None,
        typer.Option("--partition", min=0, metavar="N", help="Only this partition; may be given again."),
    ] = None,
    sample: Annotated[
        str, typer.Option(metavar="A/B", help="Compare this share of the contacts, such as 1/16; all are read.")
    ] = "1/1",
    skew: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="How far clocks of workers and brokers may differ, such as 5s."),
    ] = None,
    examples: Annotated[int, typer.Option(min=0, metavar="N", help="Faults of each kind that are shown.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="For machines: one JSON object.")] = False,
    bootstrap_servers: BootstrapServers = None,
    config_file: ConfigFile = None,
) -> None:
    """Hold the topics of a cluster against the rules: is all there that must be, once, in order, and nothing else?

    The inputs are read from their beginning up to what the group has committed, and an independent model, which
    shares no code with the worker, says what must have come of them. Events, window-state, consent-state and
    dead letters are compared with it, both ways and to their ends. Nothing is written and no group is joined.

    Run it with the settings and the policy that the workers have had. Everything that was ever written must still
    be on the topics, so it is for what is younger than their retention. Each record tells of the round that it was
    written in (its header janela-round), so the order is known in which inputs were taken and timers fired, also
    where idle time moved the clock (JANELA_CLOCK=live). Whether a worker was free to do so is judged by the
    timestamps of the inputs: --skew is how much the clocks may have differed, by default JANELA_TIMER_GRACE_MS.

    One partition is judged after the other. What was read of it waits in a temporary file without a name, compressed to
    about a tenth (where TMPDIR says: a worker's container has no room for it); memory grows with its contacts, its dead
    letters (the place of each) and what is wrong, not with its records nor with the time that they are of.

    Of an event that is lost the input is named that it must come of: the send, or what opened its window or moved the
    window's end last. With --json that is `cause` of an example (topic, partition, offset); null for other faults.

    Examples:
        janela verify
        janela verify --partition 0 --partition 7 --examples 20
        janela verify --sample 1/16 --json | jq .faults
        janela verify --skew 5s

    Exit codes: 0 nothing is wrong, 1 there are faults, 2 broker away, topics missing or not whole, a setting wrong.
    """
    settings = load_settings(config_file, bootstrap_servers)
    if beyond := [n for n in partitions or () if n >= settings.partitions]:
        raise typer.BadParameter(
            f"found {beyond[0]}, expected 0 to {settings.partitions - 1}", param_hint="--partition"
        )
    chosen = sorted(set(partitions)) if partitions else None
    verdict = asyncio.run(_verify(settings, chosen, _share(sample), examples, _milliseconds(skew)))
    if as_json:
        _print_json(verdict)
    else:
        _print_tables(verdict)
    raise typer.Exit(0 if verdict.is_clean else FAULTS)


def _share(text: str) -> "Sample":
    from processor.audit.reading import Sample

    match = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})", text)
    if match is None or int(match[1]) > int(match[2]):
        raise typer.BadParameter(f"found {text!r}, expected a share such as 1/16", param_hint="--sample")
    return Sample(int(match[1]), int(match[2]))


def _milliseconds(skew: str | None) -> int | None:
    from processor.policy_file import DURATION_WORDS, parse_duration

    try:
        return None if skew is None else parse_duration(skew)
    except ValueError as error:
        raise typer.BadParameter(f"{error}: allowed is {DURATION_WORDS}", param_hint="--skew") from None


async def _verify(
    settings: "Settings", partitions: list[int] | None, sample: "Sample", examples: int, tolerance_ms: int | None
) -> "Verdict":
    from processor.audit.reading import verify
    from processor.topics import refusals_told

    read = 0
    with progress_shown() as progress, refusals_told(settings):

        def on_read(partition: int, records: int) -> None:
            nonlocal read
            read += records
            progress.note(f"reading partition {partition}", read)

        return await verify(
            settings,
            partitions,
            sample=sample,
            examples_max=examples,
            tolerance_ms=tolerance_ms,
            on_read=on_read,
        )


# --------------------------------------------------------------------------------------------- for machines


def _print_json(verdict: "Verdict") -> None:
    answer = {
        "clean": verdict.is_clean,
        "partitions": verdict.partitions,
        "consumed": asdict(verdict.counts),
        "not_consumed": verdict.not_consumed,
        "due": {"outputs": verdict.outputs, "windows": verdict.windows, "consents": verdict.consents},
        "faults": dict(verdict.faults),
        "examples": [{**fault._asdict(), "cause": fault.cause and fault.cause._asdict()} for fault in verdict.examples],
    }
    print(json.dumps(answer, indent=2))


# ----------------------------------------------------------------------------------------------- for people


def _print_tables(verdict: "Verdict") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from processor.cli.watch import printable

    console, counts = Console(highlight=False, soft_wrap=True), verdict.counts
    table = Table(box=box.SIMPLE, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    no_effect = f"{counts.late:,} late, {counts.not_newer:,} not newer, {counts.misplaced:,} misplaced"
    no_effect += f", {counts.without_effect:,} without effect, {counts.unknown:,} of unknown types"
    rows = [
        ("records consumed", counts.records, f"on {verdict.partitions:,} partitions"),
        ("  applied", counts.applied, no_effect),
        ("  dead letters", counts.dead_letters, ""),
        ("events due", verdict.outputs, ""),
        ("windows known", verdict.windows, ""),
        ("consents known", verdict.consents, ""),
    ]
    for name, number, note in rows:
        table.add_row(name, f"{number:,}", note)
    console.print(table)
    if verdict.not_consumed:
        words = f"{verdict.not_consumed:,} positions of the inputs are not consumed yet, and nothing of them is judged"
        console.print(Text(words, "yellow"))
    for fault in verdict.examples:
        console.print(Text(printable(str(fault)), "red"))
    if verdict.is_clean:
        console.print(Text("nothing is wrong", "bold green"))
        return
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in verdict.faults.items())
    console.print(Text(f"{verdict.faults.total():,} faults: {kinds}", "bold red"))
