"""What the bench of peers rests on: outputs are compared before a figure counts, and a round can be void."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.bench.document import as_html
from tests.bench.peers import kit
from tests.bench.peers.__main__ import _parser, latency_runs, unusual
from tests.bench.peers.engines import faust, ours
from tests.bench.peers.latency import Delays
from tests.bench.peers.meter import Figures, Sample, figures
from tests.bench.peers.outcome import Outcome, Said, digest
from tests.bench.peers.story import FAUST, IN_MEMORY, P99_AT, ROCKSDB, Round, Story
from tests.bench.peers.throughput import FLOOR, Case

A, B, C = (Said("window-opened", id_, "whatsapp:1:5511900010001", "2026-11-22T12:00:00.000Z") for id_ in "abc")


EVENTS = 1_000_000


def case(rate: float, engine: str = "floor", *, is_right: bool = True) -> Case:
    return Case(engine, "", 100, Figures(rate, rate, rate, rate, 2, whole_s=EVENTS / rate + 2), is_right, "")


def test_an_outcome_tells_lost_doubled_and_unexpected_apart() -> None:
    outcome = Outcome.of(Counter([A, B]), Counter([A, A, A, C, C]))
    assert outcome.lost == Counter([B])
    assert outcome.doubled == Counter([A, A, C])
    assert outcome.unexpected == Counter([C])
    assert not outcome.is_right
    assert str(outcome) == "1 lost, 3 doubled, 1 unexpected of 2"


def test_what_is_due_twice_and_said_twice_is_right() -> None:
    outcome = Outcome.of(Counter([A, A, B]), Counter([B, A, A]))
    assert outcome.is_right
    assert str(outcome) == "all 3"


def test_a_digest_hangs_on_each_count_and_on_no_order() -> None:
    assert digest(Counter([A, B])) == digest(Counter([B, A]))
    assert len({digest(Counter(said)) for said in ([A, B], [A, A, B], [A, C], [])}) == 4


def test_figures_are_for_what_lies_between_two_commits() -> None:
    samples = [Sample(0, 0, 1), Sample(5, 100, 3), Sample(6, 600, 3.5), Sample(7, 1100, 3.75)]
    assert figures(samples) == Figures(500, 1000 / 0.75, 500, 2000, start_s=5, whole_s=7)


def test_one_commit_alone_gives_no_figure() -> None:
    with pytest.raises(ValueError, match="too few"):
        figures([Sample(0, 0, 1), Sample(5, 100, 3)])


def test_a_round_whose_floor_moved_is_void() -> None:
    assert Round([case(100), case(86)], []).is_valid
    assert not Round([case(100), case(84)], []).is_valid
    assert not Round([case(84), case(100)], []).is_valid


def test_the_report_is_a_page_that_needs_no_other_file(tmp_path: Path) -> None:
    rounds = [Round([case(400), case(410)], [case(rate, "janela <1>")]) for rate in (100, 120, 110)]
    delays = [Delays("janela <1>", 4, rate, 5, 9, p99, 40, True) for rate, p99 in ((2000, 20), (10_000, 31.5))]
    Story(1000, 100, 4, with_quix=False, rounds=rounds, delays=delays).write(tmp_path)
    page = (tmp_path / "peers.html").read_text()
    assert "110 (100 to 120)</text>" in page
    assert "janela &lt;1&gt;" in page
    assert "janela <1>" not in page
    assert page.count("<svg") == 3
    assert not re.search(r"src=|href=|url\(", page)
    for image in re.findall(r"!\[.*?\]\((.*?)\)", (tmp_path / "peers.md").read_text()):
        assert (tmp_path / image).read_text().startswith("<svg")


def test_a_report_that_shows_a_drawing_which_is_not_there_is_refused() -> None:
    with pytest.raises(KeyError, match=r"a\.svg"):
        as_html("# Report\n\n![A](a.svg)\n", {})


def test_the_report_sets_janela_beside_each_engine_by_the_medians(tmp_path: Path) -> None:
    rounds = [
        Round(
            [case(400), case(410)],
            [case(rate, "janela"), case(rate / 4, "other"), case(rate / 5, "wrong", is_right=False)],
        )
        for rate in (80, 100, 400)
    ]
    Story(1000, 100, 4, with_quix=False, rounds=rounds).write(tmp_path)
    page = (tmp_path / "peers.md").read_text()
    assert "| other | 4.00 | 4.00 | 4.00 | 4.00 |" in page
    assert "| wrong | *5.00* | *5.00* | *5.00* | *5.00* |" in page
    assert ">wrong: another job</text>" in (tmp_path / "peers-rate.svg").read_text()


def bars(folder: Path) -> dict[str, tuple[str, str, str]]:
    """Read what is wanted, what was found and the verdict of each bar, by what it is for."""
    told = (folder / "peers.md").read_text().partition("| bar |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [line.strip("| ").split(" | ") for line in told]
    return {what: (wanted, found, verdict) for what, wanted, found, verdict in cells}


AT = "p99 at 10,000 events/s"
WITH_START = "events/s with the start, times those of the prototype"
BARS = (
    "events/s",
    f"events per CPU-second, times those of {IN_MEMORY}",
    f"the same, second half, times those of {IN_MEMORY}",
    f"events per CPU-second, times those of {ROCKSDB}",
    f"events/s, times those of {FAUST}",
    f"events/s, times those of {FLOOR}",
    f"{AT} on 4 partitions, ms",
    f"{AT} on 12 partitions, ms",
    f"{AT} on 64 partitions, ms",
    f"{AT}, of that of {IN_MEMORY}",
    "`janela replay`, records/s",
    "`janela load`, events/s",
    WITH_START,
)


@pytest.mark.parametrize(
    ("rate", "p99_ms", "beside", "not_met"),
    [
        (130_000, {4: 50, 12: 100, 64: 400}, (50_000, 50_000, 12), set()),
        (119_999, {4: 60.1, 12: 100.1, 64: 400.5}, (49_999, 60_000, 12), {0, 6, 7, 8, 9, 10}),
        (80_000, {4: 60, 12: 70, 64: 80}, (60_000, 49_999, 12), {0, 1, 3, 4, 5, 11, 12}),
    ],
)
def test_the_report_says_which_bars_are_met(
    rate: float, p99_ms: dict[int, float], beside: tuple[float, float, float], not_met: set[int], tmp_path: Path
) -> None:
    others = {IN_MEMORY: 65_000, ROCKSDB: 40_000, FAUST: 2_000, FLOOR: 390_000}
    cases = [case(rate, "janela"), *(case(of, it) for it, of in others.items())]
    delays = [Delays("janela", partitions, 10_000, 5, 9, ms, 900, True) for partitions, ms in p99_ms.items()]
    delays += [Delays(IN_MEMORY, 4, 10_000, 5, 9, 120, 900, True)]
    Story(EVENTS, 100, 4, with_quix=False, rounds=[Round([case(390_000, FLOOR)], cases, *beside)], delays=delays).write(
        tmp_path
    )
    told = bars(tmp_path)
    assert tuple(told) == BARS
    assert {n for n, what in enumerate(BARS) if told[what][2] == "not met"} == not_met
    assert {n for n, what in enumerate(BARS) if told[what][2] == "met"} == {*range(len(BARS))} - not_met
    assert told["events/s"][:2] == ("at least 120,000", f"{rate:,.0f}")
    wanted = {4: "at most 60", 12: "at most 100", 64: "at most 400"}
    for partitions, most in wanted.items():
        ms = p99_ms[partitions]
        found = f"{ms:,.0f}" if ms >= 100 else f"{ms:.2f}"
        assert told[f"{AT} on {partitions} partitions, ms"][:2] == (most, found)


def test_a_bar_that_was_not_measured_stands_there_as_such(tmp_path: Path) -> None:
    Story(EVENTS, 100, 4, with_quix=False, rounds=[Round([case(400)], [case(100, "janela")])]).write(tmp_path)
    told = bars(tmp_path)
    assert tuple(told) == BARS
    verdicts = [(found, verdict) for _, found, verdict in told.values()]
    assert verdicts[0] == ("100", "not met")
    assert verdicts[1:-1] == [("-", "not measured")] * (len(BARS) - 2)
    assert verdicts[-1] == ("-", "not measured: `--yardstick` does it")


def test_the_prototype_is_held_against_janela_from_start_to_end_by_the_medians(tmp_path: Path) -> None:
    # 100,000 events/s and 2 s to start: a million takes janela 12 s
    took = (11.9, 12.0, 30.0)
    rounds = [Round([case(400_000)], [case(100_000, "janela")], 60_000 + s, 70_000 - s, s) for s in took]
    void = Round([case(400_000), case(100_000)], [case(100_000, "janela")], 1, 1, 1)
    Story(EVENTS, 100, 4, with_quix=False, rounds=[*rounds, void]).write(tmp_path)
    assert bars(tmp_path)[WITH_START] == ("at least 1", "1.00", "met")
    page = (tmp_path / "peers.md").read_text()
    assert "| janela, events/s with its start | 83,333 (83,333 to 83,333) |" in page
    assert "| the prototype, events/s with its start | 83,333 (33,333 to 84,034) |" in page
    assert "| `janela replay`, records/s | 60,012 (60,012 to 60,030) |" in page
    assert "| `janela load`, events/s | 69,988 (69,970 to 69,988) |" in page
    found = json.loads((tmp_path / "peers.json").read_text())["rounds"]
    assert [each["yardstick_s"] for each in found] == [*took, 1]
    assert (found[1]["replay"], found[1]["load"]) == (60_012, 69_988)
    assert found[0]["cases"][-1]["figures"]["whole_s"] == 12


def test_figures_of_more_partitions_stand_in_rows_of_their_own_and_nowhere_else(tmp_path: Path) -> None:
    rounds = [Round([case(400)], [case(100, "janela")])]
    usual = [Delays("janela", 4, rate, 5, 9, 50, 60, True) for rate in (2000, 10_000)]
    more = [Delays("janela", partitions, 10_000, 6, 9, ms, 900, True) for partitions, ms in ((64, 390), (12, 90))]
    drawn: list[str] = []
    for delays in (usual, [*more, *usual]):
        Story(EVENTS, 100, 4, with_quix=False, rounds=rounds, delays=delays).write(tmp_path)
        drawn.append((tmp_path / "peers-latency.svg").read_text())
        assert bars(tmp_path)[f"{AT} on 4 partitions, ms"][1] == "50.00"
    assert drawn[0] == drawn[1]
    page = (tmp_path / "peers.md").read_text()
    assert page.partition("| engine | partitions |")[2].partition("\n\n")[0].splitlines()[2:] == [
        "| janela | 4 | 2,000 | 5 | 9 | 50 | 60 |",
        "| janela | 4 | 10,000 | 5 | 9 | 50 | 60 |",
        "| janela | 12 | 10,000 | 6 | 9 | 90 | 900 |",
        "| janela | 64 | 10,000 | 6 | 9 | 390 | 900 |",
    ]
    assert [each["partitions"] for each in json.loads((tmp_path / "peers.json").read_text())["latency"]] == [
        64, 12, 4, 4,
    ]  # fmt: skip


def test_where_only_more_partitions_were_measured_there_is_nothing_to_draw(tmp_path: Path) -> None:
    rounds = [Round([case(400)], [case(100, "janela")])]
    delays = [Delays("janela", 12, 10_000, 6, 9, 90, 900, True)]
    Story(EVENTS, 100, 4, with_quix=False, rounds=rounds, delays=delays).write(tmp_path)
    assert "| janela | 12 | 10,000 | 6 | 9 | 90 | 900 |" in (tmp_path / "peers.md").read_text()
    assert "peers-latency.svg" not in (tmp_path / "peers.md").read_text()
    assert bars(tmp_path)[f"{AT} on 4 partitions, ms"][1:] == ("-", "not measured")


def test_ours_alone_is_measured_on_more_partitions_at_the_rate_of_the_bars_in_each_round() -> None:
    other, mine = faust("at_least_once"), ours()
    usual = [(mine, 4, 2000), (other, 4, 2000)], [(other, 4, 2000), (mine, 4, 2000)]
    for number in range(3):
        found = latency_runs([mine, other], [2000], number)
        assert found == [*usual[number % 2], (mine, 12, P99_AT), (mine, 64, P99_AT)]
    assert latency_runs([mine], [], 0) == []
    assert latency_runs([other], [2000], 0) == [(other, 4, 2000)]


def test_a_replay_that_has_not_written_all_and_a_load_with_refusals_give_no_figure() -> None:
    assert kit.replayed({"written": 100, "seconds": 0.5}, 100) == 200
    with pytest.raises(AssertionError, match="99 of 100"):
        kit.replayed({"written": 99, "seconds": 0.5}, 100)
    assert kit.loaded({"failed": 0, "rate": 60_000}) == 60_000
    with pytest.raises(AssertionError, match="3 events were refused"):
        kit.loaded({"failed": 3, "rate": 60_000})


def test_the_usual_command_measures_the_bars_of_latency_and_the_page_names_the_one_that_made_it(tmp_path: Path) -> None:
    usual, other, beside = (
        _parser().parse_args(["folder", *more])
        for more in ((), ("--rates", "2000,50", "--rounds", "1"), ("--yardstick", "python /nowhere/app.py"))
    )
    assert P99_AT in usual.rates
    for options, words in (
        (usual, "`make bench-peers`"),
        (other, '`make bench-peers ARGS="--rounds 1 --rates 2000,50"`'),
        (beside, '`make bench-peers ARGS="--yardstick ..."`'),
    ):
        rounds = [Round([case(400)], [case(100, "janela")])]
        Story(1000, 100, 4, with_quix=False, options=unusual(options), rounds=rounds).write(tmp_path)
        assert f" {words} made this page." in (tmp_path / "peers.md").read_text()
        assert "/nowhere" not in "".join(path.read_text() for path in tmp_path.iterdir())
