"""`make bench-growth` at a size that says nothing: it measures, keeps, goes on where it was, and writes its page."""

import asyncio
import json
import shlex
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from tests.bench.growth.__main__ import KEPT, kept, options_of, planned
from tests.bench.growth.cases import SIZES as USUAL
from tests.bench.growth.cases import Case, Ends, Result, Second, Sizes
from tests.bench.growth.story import BYTES_MAX, along, made_by, page, write
from tests.bench.report import machine
from tests.chaos.harness import ROOT

SIZES = Sizes(events=2000, ends=100, rate=100, seconds=4, lead_s=12)
SMALL = ("--windows", "200", "--at-windows", "200", "--partitions", "2", "--at-partitions", "2")


def new_result(case: Case, *, cost_us: float = 10.0, states: float = 0.5, version: str = "abc") -> Result:
    seconds = [Second(at_s, 20.0, 40.0 + 10 * at_s) for at_s in (-2.0, -1.0, 0.0, 1.0)]
    ends = Ends(100.0, 300.0, 400.0, 20.0, 35.0, 50.0, seconds)
    return Result(
        *case, sizes=SIZES, opening_cpu_us=9.0, event_cpu_us=cost_us, events_a_second=50_000.0, states_an_event=states,
        bytes_a_window=400.0, restore_s=case.windows * 4e-6, ends=ends, took_s=70.0, at="2026-11-22T18:47:19+00:00",
        version=version, machine=machine(), load="0.1 to 0.9",
    )  # fmt: skip


async def grown(folder: Path, *options: str) -> str:
    """Run the bench to its end; give what it has said."""
    given = ("--events", "2000", "--ends", "100", "--rate", "100", "--seconds", "4", "--lead", "12")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.growth", str(folder), *SMALL, *given, *options),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, said.decode()
    return said.decode()


@pytest.mark.timeout(600)
@pytest.mark.heavy
async def test_every_case_is_measured_and_kept_and_told(tmp_path: Path) -> None:
    said = await grown(tmp_path, "--workers", "1")
    assert "case 1 of 1: 200 windows, 2 partitions, 1 worker; all that is left:" in said
    results = json.loads((tmp_path / KEPT).read_text())
    assert [(each["windows"], each["partitions"], each["workers"]) for each in results] == [(200, 2, 1)]
    for each in results:
        assert each["event_cpu_us"] > 0
        assert each["restore_s"] > 0
        assert each["bytes_a_window"]  # so few are lost in what a process takes and gives back: either sign
        ends = each["ends"]
        assert 0 < ends["late_p50_ms"] <= ends["late_p99_ms"] <= ends["late_max_ms"]
        assert ends["seconds"][0]["at_s"] < 0 < ends["seconds"][-1]["at_s"]
    assert "| 200 | 2 | 1 |" in (tmp_path / "growth.md").read_text()


def test_what_was_measured_in_the_same_way_is_not_measured_again(tmp_path: Path) -> None:
    results = [new_result(Case(10, 2, 1)), new_result(Case(20, 2, 1), version="another")]
    (tmp_path / KEPT).write_bytes(msgspec.json.encode(results))
    assert [each.case for each in kept(tmp_path, SIZES, "abc")] == [Case(10, 2, 1)]
    assert kept(tmp_path, msgspec.structs.replace(SIZES, rate=7), "abc") == []
    assert kept(tmp_path / "nowhere", SIZES, "abc") == []


def test_each_axis_is_measured_with_the_others_where_they_stand() -> None:
    cases = planned(options_of(["folder"]))
    assert cases == [
        Case(10_000, 12, 1), Case(100_000, 12, 1), Case(1_000_000, 12, 1), Case(100_000, 4, 1), Case(100_000, 64, 1),
        Case(100_000, 12, 2), Case(100_000, 12, 3),
    ]  # fmt: skip
    sizes = Sizes(events=200_000, ends=100_000, rate=1000, seconds=8, lead_s=25)
    assert sum(map(sizes.expected_s, cases)) < 20 * 60
    more = planned(options_of(["folder", "--windows", "10000000"]))
    assert set(more) - set(cases) == {Case(10_000_000, 12, 1)}


def all_axes() -> list[Result]:
    by_windows = ((10_000, 10.0, 0.2), (100_000, 12.0, 0.7), (1_000_000, 16.0, 1.0))
    windows = [new_result(Case(n, 12, 1), cost_us=us, states=states) for n, us, states in by_windows]
    others = (Case(100_000, 4, 1), Case(100_000, 64, 1), Case(100_000, 12, 2), Case(100_000, 12, 3))
    return [*windows, *map(new_result, others)]


def test_an_axis_is_what_differs_in_one_number() -> None:
    results = all_axes()
    assert [each.windows for each in along(results, "windows")] == [10_000, 100_000, 1_000_000]
    assert [each.partitions for each in along(results, "partitions")] == [4, 12, 64]
    assert [each.workers for each in along(results, "workers")] == [1, 2, 3]


def test_the_page_says_whether_the_bars_are_met_and_shows_every_plot(tmp_path: Path) -> None:
    write(tmp_path, all_axes())
    text = (tmp_path / "growth.md").read_text()
    assert "1.60 times as much as with 10,000** (the bar: 1.5; not met)" in text
    assert "0.2 state records an event with 10,000 windows, 1 with 1,000,000." in text
    assert "restored in 4 s, 4.0 s a million** (the bar: 5; met)" in text
    assert "and 50 ms in the worst second after" in text
    plots = sorted(path.name for path in tmp_path.glob("*.svg"))
    assert len(plots) == 6
    for name in plots:
        assert f"]({name})" in text
        assert _points(tmp_path / name)


def test_the_page_names_the_command_that_measures_its_cases() -> None:
    results = [*all_axes(), new_result(Case(10_000_000, 12, 1))]
    command = made_by(results)
    assert command.startswith('make bench-growth ARGS="--windows 10000,100000,1000000,10000000 --events 2000 ')
    assert f"Made by `{command}`" in page(results)
    options = options_of(["folder", *shlex.split(command.partition('"')[2].rstrip('"'))])
    assert set(planned(options)) == {each.case for each in results}
    sizes = (options.events, options.ends, options.rate, options.seconds, options.lead)
    assert sizes == msgspec.structs.astuple(SIZES)
    usual = [msgspec.structs.replace(each, sizes=USUAL) for each in all_axes()]
    assert made_by(usual) == "make bench-growth"


def test_a_windows_memory_is_held_to_its_bar_less_the_key() -> None:
    few, many = (msgspec.structs.replace(new_result(Case(10, 2, 1)), bytes_a_window=n) for n in (BYTES_MAX + 80, 342.0))
    assert f"all included; less its key 250** (the bar: {BYTES_MAX}; met)" in page([few])
    assert f"takes 342 bytes with 10 of them, all included; less its key 262** (the bar: {BYTES_MAX}; not met)" in page(
        [many]
    )


def _points(path: Path) -> Sequence[tuple[float, float]]:
    """Give the points of all lines of a plot, all of which must lie within it."""
    svg = ET.parse(path).getroot()
    _, _, width, height = map(float, svg.attrib["viewBox"].split())
    lines = svg.iter("{http://www.w3.org/2000/svg}polyline")
    pairs = [pair.split(",") for line in lines for pair in line.attrib["points"].split()]
    points = [(float(x), float(y)) for x, y in pairs]
    assert all(0 <= x <= width and 0 <= y <= height for x, y in points)
    return points


def test_a_single_case_makes_a_page_too() -> None:
    assert "| 10 | 2 | 1 |" in page([new_result(Case(10, 2, 1))])
