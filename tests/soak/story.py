"""The page about a soak, made from its record alone: what was done, what memory did meanwhile, and the verdict."""

from pathlib import Path
from typing import Any, Final

from processor.measure.plot import Across, Line, drawing
from tests.bench import document

_LOOKED_AT: Final = ("descriptors", "threads", "tasks")


def write(folder: Path, record: dict[str, Any]) -> None:
    """Write `soak.md`, `soak.html` and the plot that they show."""
    document.write(folder, "soak", page(record), {"soak-memory.svg": _memory(record)})


def page(record: dict[str, Any]) -> str:
    """Give the page in Markdown."""
    done = ", ".join(f"{fault} {count} times" for fault, count in record["faults"].items())
    rss = record["slopes"]["rss_kb"]
    verdict = record["verdict"]
    faults = ", ".join(f"{count} {kind}" for kind, count in verdict["faults"].items())
    machine = ", ".join(f"{name} {what}" for name, what in record["machine"].items())
    count = record["count_growth_max"]
    rows = [
        _memory_row("memory, MB", rss, 1024, record["rss_growth_max"]),
        _memory_row("blocks of Python, thousands", record["slopes"]["blocks"], 1000, record["blocks_growth_max"]),
        *(_row(name, record["slopes"][name], 1, f"{count:g}", count) for name in _LOOKED_AT),
    ]
    table = "\n".join(rows)
    return f"""\
# A soak

Made by `make soak HOURS={record["hours"]:g} SEED={record["seed"]}`, at commit {record["commit"]}, {record["at"]}, on
{machine}.
Kafka, the workers and the load shared that machine.

{record["events"]:,} events at {record["rate"]:,} a second. One worker lived through all of it; beside it there were
others, and partitions went to and fro: {done}. At most {record["lag_max"]:,} records waited.

`janela verify` afterwards, of {verdict["consumed"]["records"]:,} records and {verdict["due"]["outputs"]:,} events that
were due: {faults or "nothing lost, doubled or wrong"}. It took {verdict["peak_kb"] / 1024:,.0f} MB at most.

The worker that lived, by a straight line through all samples after the first {record["warm_up_share"]:.0%} of the time:

| | mean | rise from the line's begin to its end | less than | |
| --- | ---: | ---: | --- | --- |
{table}

![Memory](soak-memory.svg)

Memory rises as contacts are seen for the first time and partitions come and go, and then what was freed once is used
again. A restart of a neighbour is a bump: its partitions are restored here, and given back.
"""


def _memory_row(name: str, slope: dict[str, float], unit: int, share: float) -> str:
    return _row(name, slope, unit, f"{share:.0%} of the mean", share * slope["mean"])


def _row(name: str, slope: dict[str, float], unit: int, most: str, growth_max: float) -> str:
    met = "met" if slope["growth"] < growth_max else "not met"
    return f"| {name} | {slope['mean'] / unit:,.1f} | {slope['growth'] / unit:+,.1f} | {most} | {met} |"


def _memory(record: dict[str, Any]) -> str:
    samples = record["samples"]
    apart = record["hours"] * 60 / max(len(samples) - 1, 1)
    points = [(apart * n, sample["rss_kb"] / 1024) for n, sample in enumerate(samples)]
    return drawing("Resident memory of the worker that lives through it, MB", [Line("MB", points)], Across(" min"))
