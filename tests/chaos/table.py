"""The record of a chaos run as a page: `python -m tests.chaos.table FOLDER PAGE` writes it in Markdown.

It exits with 1 where less was done than the proof asks for, where anything came out wrong, and where a test failed or
never ran.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from processor.failpoints import FAILPOINTS
from tests.chaos.harness import SESSION_S

Entry = dict[str, Any]

_HEAD: Final = """\
# Proof: what was done to it, and what came of it

One run of `make proof SEED={seed}`{share}.

It ended at {at}, on commit {commit}, with {machine}.
Real brokers, real worker processes; each trial of ours ends with `janela verify`, which reads inputs and outputs again,
committed records only, and holds them against a model that shares no code with the worker, both ways and to their
ends. Written by `python -m tests.chaos.table`.
"""


class Asked(NamedTuple):
    """What the whole proof must have done at least."""

    what: str
    least: int
    faults: tuple[str, ...]
    """Begins of the names of the faults that count."""


_ENDS_TRIED_AGAIN: Final = "EndTxn request held until tried again", "EndTxn answer held until tried again"
_ASKED: Final = (
    Asked("kills of workers (SIGKILL)", 100, ("SIGKILL",)),
    *(Asked(f"deaths at {place}", 10, (f"death at {place}",)) for place in sorted(FAILPOINTS)),
    Asked("zombies", 10, ("SIGSTOP for two sessions",)),
    Asked("zombies fenced in a transaction of their own", 10, ("zombie fenced",)),
    Asked("restarts of brokers", 12, ("broker killed", "broker shut down", "broker away")),
    Asked("ends of transactions held back until they were tried again", 50, _ENDS_TRIED_AGAIN),
)
_EVENTS: Final = 2_000_000
_HISTORIES: Final = 20_000
_WRONG: Final = ("lost", "doubled", "wrong")


def page(run: Entry, simulation: Entry | None) -> str:
    """Write the page of a run, and of the simulation that went with it."""
    trials: list[Entry] = run["trials"]
    share = "" if run["proof"] == 1 else f" at PROOF={run['proof']:g}, MINUTES={run['minutes']:g}"
    machine = ", ".join(f"{name} {what}" for name, what in run["machine"].items())
    parts = [
        _HEAD.format(**run | {"share": share, "machine": machine}),
        *_left_out(run),
        "## What was asked, and what was reached\n",
        _table(("", "asked", "reached"), _reached(trials, simulation)),
        "## By fault\n",
        "Events, and what was wrong with them, are of all trials with that fault; a trial may be in many rows.\n",
        _table(("fault", "count", "events", "lost", "doubled", "wrong", "in trials that came out"), _by_fault(trials)),
        "## By trial\n",
        _table(("trial", "faults", "events", "outputs", "lost", "doubled", "wrong", "s"), map(_row, trials)),
        "## Measured on the way\n",
        _table(("trial", "what", "at most, s"), _measured(trials)),
        f"Events in all: {sum(trial['events'] for trial in trials):,}.\n",
    ]
    if simulation is not None:
        parts += ["## Simulation\n", _SIMULATED.format(**simulation)]
    return "\n".join(parts)


_MEASURED: Final = {
    "ended_s_max": "from SIGTERM to the worker's end",
    "replaced_s": f"from a worker's last sign to another one's commit on its partitions, sessions of {SESSION_S} s",
    "recovered_s": "from a broker's return to commits on all partitions",
}


def _measured(trials: Iterable[Entry]) -> Iterator[tuple[str, ...]]:
    for trial in filter(is_ours, trials):
        for figure, what in _MEASURED.items():
            if found := trial["figures"].get(figure):
                yield _name(trial), what, f"{max(found) if isinstance(found, list) else found:g}"


def _name(trial: Entry) -> str:
    return str(trial["trial"].removeprefix("test_").replace("_", " "))


def _left_out(run: Entry) -> Iterator[str]:
    if odd := odd_tests(run):
        yield "## What failed, or never ran\n"
        yield _table(("test", "what became of it"), ((name, f"**{outcome}**") for name, outcome in odd.items()))


def odd_tests(run: Entry) -> dict[str, str]:
    """Give what became of the tests that did not pass."""
    return {name: outcome for name, outcome in run["tests"].items() if outcome != "passed"}


_SIMULATED: Final = """\
{histories:,} histories from seed {seed}, {deaths:,} deaths of workers in them, {a_minute:,.0f} histories a minute:
{faults} with a fault (`make test-sim SEED={seed} HISTORIES={histories}`).
"""


def _by_fault(trials: Sequence[Entry]) -> Iterator[tuple[str, ...]]:
    ours = list(filter(is_ours, trials))
    for fault in sorted({fault for trial in ours for fault in trial["faults"]}):
        befallen = [trial for trial in ours if trial["faults"].get(fault)]
        count, events = sum(trial["faults"][fault] for trial in befallen), sum(trial["events"] for trial in befallen)
        wrong = [_wrong(sum(trial[what] for trial in befallen)) for what in _WRONG]
        yield fault, f"{count:,}", f"{events:,}", *wrong, "clean" if all(map(is_clean, befallen)) else "**not clean**"


def _reached(trials: Sequence[Entry], simulation: Entry | None) -> Iterator[tuple[str, ...]]:
    """Say of each thing how much of it there was; trials of which something came out wrong count too, and are told."""
    for what, asked, reached in reached_of(trials, simulation):
        yield what, f"{asked:,}", f"{reached:,}" if reached >= asked else f"**{reached:,}**"
    for what in _WRONG:
        yield f"events {what}", "0", _wrong(sum(trial[what] for trial in trials if trial["is_judged"]))


def _wrong(count: int) -> str:
    return f"**{count:,}**" if count else "0"


def reached_of(trials: Sequence[Entry], simulation: Entry | None) -> Iterator[tuple[str, int, int]]:
    """Give of each thing that the proof asks for its name, how much is asked, and how much there was."""
    judged = list(filter(is_ours, trials))
    all_faults: list[dict[str, int]] = [trial["faults"] for trial in judged]
    for asked in _ASKED:
        found = (faults[fault] for faults in all_faults for fault in faults if fault.startswith(asked.faults))
        yield asked.what, asked.least, sum(found)
    yield "events", _EVENTS, sum(trial["events"] for trial in judged)
    yield "simulated histories", _HISTORIES, simulation["histories"] if simulation else 0


def is_ours(trial: Entry) -> bool:
    """Whether it was our worker that a trial treated badly; idiomatic Faust's deaths prove nothing of ours."""
    return bool(trial["is_judged"])


def is_clean(trial: Entry) -> bool:
    """Whether a trial came to its verdict, and nothing was wrong."""
    return trial["passed"] and not (trial["lost"] or trial["doubled"] or trial["wrong"])


def _row(trial: Entry) -> tuple[str, ...]:
    faults = f"{sum(trial['faults'].values()):,}"
    found = trial if is_ours(trial) else trial["figures"]
    judged = [f"{found[each]:,}" if each in found else "" for each in ("events", "outputs")]
    wrong = [f"{found[each]:,}" if each in found else "" for each in _WRONG]
    return _name(trial), faults, *judged, *(wrong if trial["passed"] else ["**failed**"] * 3), f"{trial['seconds']:.0f}"


def _table(head: Sequence[str], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main(folder: Path, into: Path) -> int:
    """Write the page of the record in a folder; gives 1 where the proof is not whole."""
    run = json.loads((folder / "results.json").read_text("utf-8"))
    simulated = folder / "simulation.json"
    simulation = json.loads(simulated.read_text("utf-8")) if simulated.exists() else None
    into.write_text(page(run, simulation), "utf-8")
    is_whole = all(reached >= asked for _, asked, reached in reached_of(run["trials"], simulation))
    return 0 if is_whole and all(map(is_clean, run["trials"])) and not odd_tests(run) else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
