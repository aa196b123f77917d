"""What the bench of peers rests on: outputs are compared before a figure counts, and a round can be void."""

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.bench.document import as_html
from tests.bench.peers.__main__ import _parser, unusual
from tests.bench.peers.kit import Speeds
from tests.bench.peers.latency import Delays
from tests.bench.peers.meter import Figures, Sample, figures
from tests.bench.peers.outcome import Outcome, Said, digest
from tests.bench.peers.story import FAUST, IN_MEMORY, P99_AT, ROCKSDB, Round, Story
from tests.bench.peers.throughput import FLOOR, Case

A, B, C = (Said("window-opened", id_, "whatsapp:1:5511900010001", "2026-11-22T12:00:00.000Z") for id_ in "abc")


def case(rate: float, engine: str = "floor", *, is_right: bool = True) -> Case:
    return Case(engine, "", 100, Figures(rate, rate, rate, rate, 0, whole_s=1_000_000 / rate), is_right, "")


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


BARS = 13


@pytest.mark.parametrize(
    ("rate", "p99_ms", "speed", "not_met"),
    [
        (130_000, 50, 60_000, set()),
        (119_999, 60.1, 49_999, {0, 6, 9, 10, 11}),
        (80_000, 60, 50_000, {0, 1, 3, 4, 5, 12}),
    ],
)
def test_the_report_says_which_bars_are_met(
    rate: float, p99_ms: float, speed: float, not_met: set[int], tmp_path: Path
) -> None:
    beside = {IN_MEMORY: 65_000, ROCKSDB: 40_000, FAUST: 2_000, FLOOR: 390_000}
    rounds = [Round([case(beside[FLOOR], FLOOR)], [case(rate, "janela"), *(case(of, it) for it, of in beside.items())])]
    delays = [Delays(it, 4, 10_000, 5, 9, p99, 200, True) for it, p99 in (("janela", p99_ms), (IN_MEMORY, 120))]
    delays += [Delays("janela", partitions, 10_000, 5, 9, p99, 500, True) for partitions, p99 in ((12, 99), (64, 399))]
    kit = [Speeds(speed, speed + n) for n in (0, 0, 1)]
    story = Story(1000, 100, 4, with_quix=False, rounds=rounds, delays=delays, kit=kit, yardsticks=[9, 10, 11])
    story.write(tmp_path)
    told = bars(tmp_path)
    assert len(told) == BARS
    assert {n for n, line in enumerate(told) if line.endswith("| not met |")} == not_met
    assert {n for n, line in enumerate(told) if line.endswith("| met |")} == {*range(BARS)} - not_met
    assert told[0].startswith(f"| events/s | at least 120,000 | {rate:,.0f} |")
    assert told[6].startswith(f"| p99 at 10,000 events/s on 4 partitions, ms | at most 60 | {p99_ms:.2f} |")
    assert told[7].startswith("| p99 at 10,000 events/s on 12 partitions, ms | at most 100 | 99.00 |")
    assert told[8].startswith("| p99 at 10,000 events/s on 64 partitions, ms | at most 400 | 399 |")
    assert told[10].startswith(f"| `janela replay`, records/s | at least 50,000 | {speed:,.0f} |")
    assert told[12].startswith("| events/s with the start, times those of the prototype | at least 1 |")
    page = (tmp_path / "peers.md").read_text()
    assert f"| janela | 4 | 10,000 | 5 | 9 | {p99_ms:,.0f} | 200 |" in page
    assert "| janela | 64 | 10,000 | 5 | 9 | 399 | 500 |" in page


def test_a_bar_that_was_not_measured_stands_there_as_such(tmp_path: Path) -> None:
    Story(1000, 100, 4, with_quix=False, rounds=[Round([case(400)], [case(100, "janela")])]).write(tmp_path)
    told = bars(tmp_path)
    assert [line.split(" | ")[3] for line in told] == ["not met |", *["not measured |"] * (BARS - 1)]


def test_runs_on_other_partitions_are_in_no_figure_of_the_engines(tmp_path: Path) -> None:
    usual = [Delays("janela", 4, 10_000, 5, 9, 70, 200, True)]
    others = [Delays("janela", partitions, 10_000, 5, 9, 300, 500, True) for partitions in (12, 64)]
    rounds = [Round([case(400)], [case(100, "janela")])]
    told: list[tuple[str, str]] = []
    for delays in (usual, usual + others):
        Story(1000, 100, 4, with_quix=False, rounds=rounds, delays=delays).write(tmp_path)
        told.append((bars(tmp_path)[6], (tmp_path / "peers-latency.svg").read_text()))
    assert told[0] == told[1]
    assert [line.split(" | ")[3] for line in bars(tmp_path)[7:9]] == ["not met |", "met |"]


def bars(folder: Path) -> list[str]:
    return (folder / "peers.md").read_text().partition("| bar |")[2].partition("\n\n")[0].splitlines()[2:]


def test_the_usual_command_measures_the_bars_of_latency_and_the_page_names_the_one_that_made_it(tmp_path: Path) -> None:
    usual, other = (_parser().parse_args(["folder", *more]) for more in ((), ("--rates", "2000,50", "--rounds", "1")))
    assert P99_AT in usual.rates
    for options, words in (
        (usual, "`make bench-peers`"),
        (other, '`make bench-peers ARGS="--rounds 1 --rates 2000,50"`'),
    ):
        rounds = [Round([case(400)], [case(100, "janela")])]
        Story(1000, 100, 4, with_quix=False, options=unusual(options), rounds=rounds).write(tmp_path)
        assert f" {words} made this page." in (tmp_path / "peers.md").read_text()
