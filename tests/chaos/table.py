"""The record of a chaos run as a page: `python -m tests.chaos.table FOLDER` prints it in Markdown."""

import json
import platform
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

Entry = dict[str, Any]

_HEAD: Final = """\
# Proof: what was done to it, and what came of it

One run of `make proof` ({at}, seed {seed}, {minutes:g} minutes a trial; {machine}). Real
brokers, real worker processes; each trial ends with `janela verify`, which reads inputs and outputs again,
committed records only, and holds them against a model that shares no code with the worker, both ways and to
their ends. Written by `python -m tests.chaos.table`.
"""


def page(run: Entry, simulation: Entry | None) -> str:
    """Write the page of a run, and of the simulation that went with it."""
    trials: list[Entry] = run["trials"]
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    parts = [
        _HEAD.format(**run, machine=machine),
        "## By fault\n",
        _table(("fault", "count", "in trials that came out"), _by_fault(trials)),
        "## By trial\n",
        _table(("trial", "faults", "events", "outputs", "lost", "doubled", "wrong", "s"), map(_row, trials)),
        f"Events in all: {sum(trial['events'] for trial in trials):,}.\n",
    ]
    if simulation is not None:
        parts += ["## Simulation\n", _SIMULATED.format(**simulation)]
    return "\n".join(parts)


_SIMULATED: Final = """\
{histories:,} histories from seed {seed}, {deaths:,} deaths of workers in them, {a_minute:,.0f} histories a minute:
{faults} with a fault (`make test-sim SEED={seed} HISTORIES={histories}`).
"""


def _by_fault(trials: Sequence[Entry]) -> Iterator[tuple[str, ...]]:
    counts: Counter[str] = Counter()
    clean: dict[str, set[bool]] = {}
    for trial in trials:
        for fault, count in trial["faults"].items():
            counts[fault] += count
            clean.setdefault(fault, set()).add(is_clean(trial))
    for fault, count in sorted(counts.items()):
        yield fault, f"{count:,}", "clean" if clean[fault] == {True} else "**not clean**"


def is_clean(trial: Entry) -> bool:
    """Whether a trial came to its verdict, and nothing was wrong."""
    return trial["passed"] and not (trial["lost"] or trial["doubled"] or trial["wrong"])


def _row(trial: Entry) -> tuple[str, ...]:
    name = trial["trial"].removeprefix("test_").replace("_", " ")
    faults = f"{sum(trial['faults'].values()):,}"
    judged = [f"{trial[each]:,}" if trial["is_judged"] else "" for each in ("events", "outputs")]
    wrong = [str(trial[each]) if trial["is_judged"] else "asserted" for each in ("lost", "doubled", "wrong")]
    return name, faults, *judged, *(wrong if trial["passed"] else ["**failed**"] * 3), f"{trial['seconds']:.0f}"


def _table(head: Sequence[str], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main(folder: Path) -> None:
    """Print the page of the record in a folder."""
    run = json.loads((folder / "results.json").read_text("utf-8"))
    simulated = folder / "simulation.json"
    sys.stdout.write(page(run, json.loads(simulated.read_text("utf-8")) if simulated.exists() else None))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
