"""The page about how it grows: tables, plots, and what to read from them; made from results alone."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from processor.measure.plot import Across, Line, drawing
from tests.bench import document
from tests.bench.growth.cases import MIDDLE, PARTITIONS, SIZES, WINDOWS, WORKERS, Case, Result
from tests.bench.traffic import Contact

BYTES_MAX: Final = 250
"""The bar for a window without its key; what is measured here is with all there is."""
KEY_BYTES: Final = -(-sys.getsizeof(Contact(0, 1).key) // 16) * 16
"""Of such a key, as Python allocates it."""
COST_MAX: Final = 1.5
RESTORE_S_A_MILLION: Final = 5.0
USUAL_AXES: Final[dict[str, tuple[int, ...]]] = {"windows": WINDOWS, "partitions": PARTITIONS, "workers": WORKERS}
ENDS_FEW: Final = 10_000
MILLION: Final = 1_000_000

Of = Callable[[Result], float]


def write(folder: Path, results: Sequence[Result]) -> None:
    """Write the page, as Markdown and as HTML, and the plots that it shows."""
    document.write(folder, "growth", page(results), dict(_plots(results)))


# --------------------------------------------------------------------------------------------------------- the axes


def _middle(results: Sequence[Result]) -> Case:
    """Give the case that lies on all axes: the one that shares two of its numbers with the most others."""

    def shared(case: Case) -> int:
        return sum(
            sum(a == b for a, b in zip(case, each.case, strict=True)) >= len(case) - 1 for each in results
        )  # fmt: skip

    return max((each.case for each in results), key=shared)


def along(results: Sequence[Result], axis: str) -> list[Result]:
    """Give the results along an axis (`windows`, `partitions` or `workers`), in its order."""
    middle = _middle(results)._asdict()
    found = [
        each for each in results if all(getattr(each, name) == middle[name] for name in middle if name != axis)
    ]  # fmt: skip
    return sorted(found, key=lambda each: each.case)


def _line(name: str, found: Sequence[Result], axis: str, of: Of) -> Line:
    return Line(name, [(getattr(each, axis), of(each)) for each in found])


def made_by(results: Sequence[Result]) -> str:
    """Give the command that measures these cases, at these sizes."""
    middle, sizes = _middle(results), max(results, key=lambda each: each.at).sizes
    axes = {name: tuple(sorted({getattr(each, name) for each in along(results, name)})) for name in USUAL_AXES}
    options: dict[str, object] = {name: values for name, values in axes.items() if values != USUAL_AXES[name]}
    at = {"at_windows": (middle.windows, MIDDLE.windows), "at_partitions": (middle.partitions, MIDDLE.partitions)}
    said = msgspec.structs.asdict(sizes)
    at |= {name.removesuffix("_s"): (said[name], usual) for name, usual in msgspec.structs.asdict(SIZES).items()}
    options |= {name: found for name, (found, usual) in at.items() if found != usual}
    return document.command("bench-growth", options)


# -------------------------------------------------------------------------------------------------------- the plots


def _plots(results: Sequence[Result]) -> Iterator[tuple[str, str]]:
    windows, partitions, workers = (along(results, axis) for axis in ("windows", "partitions", "workers"))
    by_windows = Across(" windows", is_log=True, ticks=[each.windows for each in windows])
    costs = [
        _line("an event of a backlog", windows, "windows", lambda each: each.event_cpu_us),
        _line("opening a window", windows, "windows", lambda each: each.opening_cpu_us),
    ]
    yield "growth-cost.svg", drawing("CPU, µs", costs, by_windows)
    memory = [_line("a window, all included", windows, "windows", lambda each: each.bytes_a_window)]
    yield "growth-memory.svg", drawing("Memory, bytes", memory, by_windows)
    restores = [_line("from the assignment to work", windows, "windows", lambda each: each.restore_s)]
    yield "growth-restore.svg", drawing("Restore, s", restores, by_windows)
    ends = [
        Line(f"{each.windows:,} windows", [(second.at_s, second.p99_ms) for second in each.ends.seconds])
        for each in windows
    ]
    title = f"p99 of what came within each second, ms; at 0 s {windows[0].sizes.ends:,} windows end"
    yield "growth-ends.svg", drawing(title, ends, Across())
    by_partitions = Across(" partitions", ticks=[each.partitions for each in partitions])
    latency = [
        _line("p99", partitions, "partitions", lambda each: each.ends.quiet_p99_ms),
        _line("p50", partitions, "partitions", lambda each: each.ends.quiet_p50_ms),
    ]
    yield "growth-partitions.svg", drawing("Latency of quiet seconds, ms", latency, by_partitions)
    by_workers = Across(" workers", ticks=[each.workers for each in workers])
    rates = [_line("events a second, all together", workers, "workers", lambda each: each.events_a_second)]
    yield "growth-workers.svg", drawing("A backlog, by the number of workers", rates, by_workers)


# --------------------------------------------------------------------------------------------------------- the page


def page(results: Sequence[Result]) -> str:
    """Write the page."""
    last = max(results, key=lambda each: each.at)
    sizes, middle = last.sizes, _middle(results)
    on = ", ".join(f"{name} {what}" for name, what in last.machine.items())
    loads = ", ".join(dict.fromkeys(each.load for each in results))
    return f"""\
# How it grows

Made by `{made_by(results)}`, at commit {last.version}, {last.at[:10]}, on {on}. Everything ran on that one machine:
Kafka, the workers, the load and the consumer. Load average, before and after each case: {loads}.
All figures are in `growth.json`.

Each axis is measured alone; the other two stay at {middle.partitions} partitions, {middle.windows:,} windows,
{_counted(middle.workers, "worker")}. The clock is live. A case has five parts: workers with nothing (memory counts from
there); the windows, opened from a backlog; a restart; a backlog of {sizes.events:,} messages and answers when all
windows are there; and {sizes.ends:,} other windows that end within one second, while {sizes.rate:,} events a second are
timed before and after.

{_table(results)}

## Windows

{_verdict_on_cost(results)}
A window costs nothing while nobody writes: its timer is a reminder in a bucket, and a message overwrites the end and
leaves the reminder where it is. What grows with their number: {_states(results)}
What else does was not taken apart; the dictionary that they lie in, for one, no longer fits the processor's caches.

![CPU](growth-cost.svg)

{_verdict_on_memory(results)}
Counted is the resident memory of the worker after a restore, less that of a worker with nothing: keys ({KEY_BYTES}
bytes each), the dictionary, what the allocator rounds up and what the restore left behind. With few windows the rest of
the process is larger than they are, so the first figure says little. `tests/bench/test_memory.py` counts the window
alone.

![Memory](growth-memory.svg)

{_verdict_on_restore(results)}
It reads `window-state` from its start, so a topic that is not compacted yet takes longer: here each window's state was
written once.

![Restore](growth-restore.svg)

## {sizes.ends:,} ends in one second

{_verdict_on_ends(results)}
A round takes at most 20,000 outputs of a partition and is cut between two due times, so that other partitions get their
turn. What other traffic has to wait for is the ends of its own partition that were due before it, for everything goes
in the order of its time, and what the worker decides for other partitions before.

![Ends](growth-ends.svg)

## Partitions of a worker

One transaction commits the rounds of all partitions of a worker, so its cost is shared. With more partitions each
fetch and each commit touches more of them, and a round has fewer records of each.

![Partitions](growth-partitions.svg)

## Workers

Partitions share nothing, so workers grow with the cores that they find. Where workers, Kafka and the load share
{last.machine.get("cores", "a few cores").partition(" x ")[0]} cores, as here, more workers than cores show what a
worker costs by itself and not what it adds.

![Workers](growth-workers.svg)
"""


def _table(results: Sequence[Result]) -> str:
    head = (
        "windows", "partitions", "workers", "CPU an event, µs", "CPU an opening, µs", "events/s", "states an event",
        "bytes a window", "restore, s", "quiet p50, ms", "quiet p99, ms", "worst p99, ms", "ends late p50, ms",
        "ends late p99, ms",
    )  # fmt: skip
    rows = [
        (
            *each.case, each.event_cpu_us, each.opening_cpu_us, each.events_a_second, each.states_an_event,
            each.bytes_a_window, each.restore_s, each.ends.quiet_p50_ms, each.ends.quiet_p99_ms, each.ends.worst_p99_ms,
            each.ends.late_p50_ms, each.ends.late_p99_ms,
        )
        for each in results
    ]  # fmt: skip
    lines = [head, ["---:"] * len(head), *([f"{cell:,.10g}" for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _verdict_on_cost(results: Sequence[Result]) -> str:
    few, many = _ends_of(results)
    ratio = many.event_cpu_us / few.event_cpu_us
    return (
        f"**An event costs {many.event_cpu_us:g} µs of CPU with {many.windows:,} windows, {ratio:.2f} times as much as"
        f" with {few.windows:,}** (the bar: {COST_MAX}; {_met(ratio <= COST_MAX)})."
    )


def _states(results: Sequence[Result]) -> str:
    few, many = _ends_of(results)
    return (
        "a round writes a state record for each window that it has changed, and the more windows there are, the fewer"
        f" of its events fall on the same one: {few.states_an_event:g} state records an event with"
        f" {few.windows:,} windows, {many.states_an_event:g} with {many.windows:,}."
    )


def _verdict_on_memory(results: Sequence[Result]) -> str:
    _, many = _ends_of(results)
    less = many.bytes_a_window - KEY_BYTES
    return (
        f"**A window takes {many.bytes_a_window:,.0f} bytes with {many.windows:,} of them, all included; less its key"
        f" {less:,.0f}** (the bar: {BYTES_MAX}; {_met(less <= BYTES_MAX)})."
    )


def _verdict_on_restore(results: Sequence[Result]) -> str:
    _, many = _ends_of(results)
    a_million_s = many.restore_s * MILLION / many.windows
    return (
        f"**{many.windows:,} windows are restored in {many.restore_s:g} s, {a_million_s:.1f} s a million** (the bar:"
        f" {RESTORE_S_A_MILLION:g}; {_met(a_million_s <= RESTORE_S_A_MILLION)}). An assignment takes a part of a second"
        " by itself, so few windows are not restored in a few milliseconds."
    )


def _verdict_on_ends(results: Sequence[Result]) -> str:
    _, many = _ends_of(results)
    ends = many.ends
    return (
        f"**With {many.windows:,} windows open, p99 of other traffic was {ends.quiet_p99_ms:,.0f} ms in the seconds"
        f" before (the median of each second's), and {ends.worst_p99_ms:,.0f} ms in the worst second after.** The ends"
        f" themselves came {ends.late_p50_ms:,.0f} ms (p50) to {ends.late_p99_ms:,.0f} ms (p99) late by the wall clock."
    )


def _ends_of(results: Sequence[Result]) -> tuple[Result, Result]:
    """Give the results with the fewest and the most windows."""
    found = along(results, "windows")
    return found[0], found[-1]


def _met(is_met: bool) -> str:
    return "met" if is_met else "not met"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"
