"""How it grows: `make bench-growth`, or ``python -m tests.bench.growth FOLDER``.

Cases along three axes: windows, partitions of a worker, workers; each of them alone, the others at 100,000, 12 and 1.
What came of a case is in the folder at once (`growth.json`, and the page and plots made from it), so a run that was cut
off goes on with what is missing, and another axis, or a larger case, can be added later. What was measured with other
code or sizes, or on another machine, is measured anew.
"""

import argparse
import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from processor.embedded import EmbeddedKafka
from tests.bench.growth.cases import MIDDLE, PARTITIONS, SIZES, WINDOWS, WORKERS, Case, Result, Sizes
from tests.bench.growth.measuring import measured
from tests.bench.growth.story import write
from tests.bench.report import machine
from tests.chaos.harness import ROOT
from tests.kafka import Kafka

KEPT = "growth.json"
MEASURED = ("processor", "schemas", "requirements.lock", "tests/bench/growth")


def planned(options: argparse.Namespace) -> list[Case]:
    """Give the cases, without any twice: along each axis, with the others where they stand."""
    middle = Case(options.at_windows, options.at_partitions, 1)
    cases = [middle._replace(windows=each) for each in options.windows]
    cases += [middle._replace(partitions=each) for each in options.partitions]
    cases += [middle._replace(workers=each) for each in options.workers if each <= middle.partitions]
    return list(dict.fromkeys(cases))


def kept(folder: Path, sizes: Sizes, version: str) -> list[Result]:
    """Give what an earlier run has measured in the same way."""
    try:
        found = msgspec.json.decode((folder / KEPT).read_bytes(), type=list[Result])
    except (FileNotFoundError, msgspec.MsgspecError):
        return []
    return [each for each in found if (each.sizes, each.version, each.machine) == (sizes, version, machine())]


def keep(folder: Path, results: Sequence[Result]) -> None:
    """Write what there is, and the page about it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / KEPT).write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    write(folder, results)


async def run(kafka: Kafka, options: argparse.Namespace, desk: Path) -> None:
    """Measure all cases that are not there yet."""
    sizes = Sizes(options.events, options.ends, options.rate, options.seconds, options.lead)
    version = _version()
    results = [] if options.again else kept(options.folder, sizes, version)
    cases, have = planned(options), {result.case for result in results}
    missing = [case for case in cases if case not in have]
    if have:
        print(f"{len(have)} of {len(cases)} cases are there already (--again measures all)", flush=True)
    slower = 1.0
    for number, case in enumerate(missing):
        left_s = slower * sum(sizes.expected_s(each) for each in missing[number:])
        print(f"case {number + 1} of {len(missing)}: {case}; all that is left: {left_s / 60:.0f} min", flush=True)
        result = await measured(kafka, case, sizes, desk, version)
        slower = result.took_s / sizes.expected_s(case)
        results = sorted([*results, result], key=lambda each: each.case)
        keep(options.folder, results)
        print(
            f"  {result.event_cpu_us} µs of CPU an event, {result.bytes_a_window} bytes a window,"
            f" restored in {result.restore_s} s, p99 {result.ends.quiet_p99_ms} ms,"
            f" with the ends at most {result.ends.worst_p99_ms} ms",
            flush=True,
        )
    print(f"the report: {options.folder / 'growth.md'}, {options.folder / KEPT}", flush=True)


def _version() -> str:
    """Give the commit that last changed what is measured, with a sign where files differ from it."""
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run(
        [*git, "log", "-1", "--format=%h", "--", *MEASURED], capture_output=True, text=True, check=False
    ).stdout.strip()
    changed = subprocess.run(
        [*git, "status", "--porcelain", "--", *MEASURED], capture_output=True, text=True, check=False
    ).stdout.strip()
    return f"{commit or 'unknown'}{'-changed' if changed else ''}"


def _several(text: str) -> list[int]:
    found = sorted({int(each) for each in text.split(",")})
    if not found or found[0] < 1:
        raise argparse.ArgumentTypeError(f"found {text}, expected numbers such as 1,2,3")
    return found


def options_of(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.growth", description="Measure how it grows.")
    parser.add_argument("folder", type=Path, help="where growth.md, growth.json and the plots go")
    parser.add_argument("--windows", type=_several, default=[*WINDOWS])
    parser.add_argument("--partitions", type=_several, default=[*PARTITIONS])
    parser.add_argument("--workers", type=_several, default=[*WORKERS])
    parser.add_argument("--at-windows", type=int, default=MIDDLE.windows, help="where the other axes are measured")
    parser.add_argument("--at-partitions", type=int, default=MIDDLE.partitions)
    parser.add_argument("--events", type=int, default=SIZES.events, help="of the backlog that costs are measured with")
    parser.add_argument("--ends", type=int, default=SIZES.ends, help="windows that end within one second")
    parser.add_argument("--rate", type=int, default=SIZES.rate, help="events a second that are timed meanwhile")
    parser.add_argument("--seconds", type=int, default=SIZES.seconds, help="timed before the ends, and as long after")
    parser.add_argument(
        "--lead", type=int, default=SIZES.lead_s, help="seconds to make and consume the windows that end"
    )
    parser.add_argument("--again", action="store_true", help="measure also what is there already")
    return parser.parse_args(arguments)


def main() -> None:
    """Run it all."""
    options = options_of()
    desk = Path(tempfile.mkdtemp(prefix="janela-growth-"))
    try:
        with EmbeddedKafka() as kafka:
            asyncio.run(run(kafka, options, desk))
    finally:
        shutil.rmtree(desk, ignore_errors=True)


if __name__ == "__main__":
    main()
