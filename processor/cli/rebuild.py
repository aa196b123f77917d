"""`janela rebuild`: the state topics made anew from the inputs, in their place."""

import asyncio
import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from processor.cli.config import BootstrapServers, ConfigFile, load_settings
from processor.cli.progress import Progress, progress_shown

if TYPE_CHECKING:
    from processor.rebuild.plan import Gap, Plan
    from processor.rebuild.rebuilder import Outcome
    from processor.settings import Settings


def rebuild(
    partitions: Annotated[
        list[int] | None,
        typer.Option("--partition", min=0, metavar="N", help="Only this partition; may be given again."),
    ] = None,
    incomplete: Annotated[
        bool,
        typer.Option("--incomplete", help="Go on where inputs were deleted; what they said stays as it is recorded."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines: one JSON object.")] = False,
    bootstrap_servers: BootstrapServers = None,
    config_file: ConfigFile = None,
) -> None:
    """Make window-state and consent-state anew from the inputs, in their place, and say nothing of what was said.

    For state that was lost or damaged. Stop all workers, create topics that are missing (janela topics apply), and run
    it with the settings and the policy that the workers have had. The inputs are applied once more, from their begin up
    to the committed offsets and the committed clock; what then differs from what lies on the two topics is written
    there. No offset moves and no event is written; the workers go on where they were.

    While a worker is in the group, it refuses. Until it is done, workers refuse to start. One that broke off, however,
    is started again by the same command, and does what is left.

    Where inputs are not there any more from their first record on, it says since when they are, and ends. With
    --incomplete it goes on: what the state topics still tell of the time before is kept and joined with what is made.
    Where an input is compacted, nobody can tell what is not there any more, and it refuses (docs/operations.md).

    Examples:
        janela rebuild --dry-run
        janela rebuild --yes --json | jq .changed
        janela rebuild --partition 3 --incomplete

    Exit codes: 0 done, 2 a worker runs, inputs are gone, an option, a setting, a topic or the broker is at fault.
    """
    settings = load_settings(config_file, bootstrap_servers)
    if beyond := [n for n in partitions or () if n >= settings.partitions]:
        raise typer.BadParameter(
            f"found {beyond[0]}, expected 0 to {settings.partitions - 1}", param_hint="--partition"
        )
    plan = asyncio.run(_plan(settings, sorted(set(partitions)) if partitions else None))
    typer.echo("\n".join(_plan_words(plan, settings)), err=True)
    if plan.gaps and not incomplete:
        raise typer.BadParameter(
            f"found {len(plan.gaps)} input partitions of which the first records are gone, expected none; say"
            " --incomplete to keep what the state topics tell of the time before",
            param_hint="--incomplete",
        )
    if not dry_run and not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("there is no terminal to ask on; say --yes, or --dry-run", param_hint="--yes")
        typer.confirm("Rebuild?", abort=True, err=True)
    began_s = time.monotonic()
    with progress_shown() as progress:
        outcomes = asyncio.run(_rebuild(settings, plan, progress, writes=not dry_run))
    told = _told(plan, outcomes, time.monotonic() - began_s, dry_run)
    print(json.dumps(told, indent=2) if as_json else _words(told))


async def _plan(settings: "Settings", partitions: list[int] | None) -> "Plan":
    from processor.rebuild.plan import plan
    from processor.topics import refusals_told

    with refusals_told(settings):
        return await plan(settings, partitions)


async def _rebuild(settings: "Settings", plan: "Plan", progress: Progress, *, writes: bool) -> "list[Outcome]":
    from processor.rebuild.rebuilder import Rebuilder
    from processor.topics import refusals_told

    began_s = time.monotonic()

    def note(what: str, done: int, total: int) -> None:
        rate = done / max(time.monotonic() - began_s, 0.001)
        left_s = max(total - done, 0) / max(rate, 1)
        progress.note(what, done, total, f", {rate:,.0f} a second, {left_s:,.0f} s left")

    with refusals_told(settings):
        return [outcome async for outcome in Rebuilder(settings, plan, note, writes=writes).run()]


# ------------------------------------------------------------------------------------------------ what is said of it


def _plan_words(plan: "Plan", settings: "Settings") -> list[str]:
    partitions = [part.partition for part in plan.parts]
    which = (
        f"partitions {', '.join(map(str, partitions))}" if len(partitions) < settings.partitions else "all partitions"
    )
    goes_on = ", where a rebuild broke off" if plan.goes_on else ""
    states = f"{settings.topic_prefix}window-state and {settings.topic_prefix}consent-state"
    return [
        f"{which} of {settings.partitions}{goes_on}: {plan.inputs:,} positions of the inputs are applied again",
        f"what then differs on {states} is written; no event, and no offset moves",
        *(f"{gap.tp.topic}[{gap.tp.partition}]: begins at offset {gap.begins:,}{_since(gap)}" for gap in plan.gaps),
    ]


def _since(gap: "Gap") -> str:
    from processor.codec.times import format_time

    if gap.first_ms is None:
        return "; nothing that was consumed is left"
    return f"; of windows, answers and consents before {format_time(max(gap.first_ms, 0))} it knows nothing"


def _told(plan: "Plan", outcomes: "list[Outcome]", seconds: float, dry_run: bool) -> dict[str, Any]:
    of_each = [asdict(outcome) for outcome in outcomes]
    names = [name for name in of_each[0] if name != "partition"]
    return {
        "dry_run": dry_run,
        **{name: sum(each[name] for each in of_each) for name in names},
        "incomplete": [
            {"topic": gap.tp.topic, "partition": gap.tp.partition, "begins": gap.begins, "first_ms": gap.first_ms}
            for gap in plan.gaps
        ],
        "seconds": round(seconds, 2),
        "partitions": of_each,
    }


def _words(told: dict[str, Any]) -> str:
    records = told["applied"] + told["dead_letters"]
    rate = records / max(told["seconds"], 0.001)
    passed = f"{told['dead_letters']:,} dead letters passed over"
    lines = [
        f"{told['applied']:,} records applied, {passed}, in {told['seconds']} s ({rate:,.0f} a second)",
        f"{told['windows']:,} windows and {told['consents']:,} consents",
    ]
    if told["unreadable"]:
        lines.append(f"{told['unreadable']:,} records could not be read")
    if told["kept"]:
        lines.append(f"{told['kept']:,} records are older than the inputs, and stay as they are")
    done = "would be written (--dry-run)" if told["dry_run"] else "written"
    lines.append(f"{told['changed']:,} records {done}, {told['removed']:,} of them tombstones")
    return "\n".join(lines)
