"""What the bench of peers rests on: outputs are compared before a figure counts, and a round can be void."""

from collections import Counter

import pytest

from tests.bench.peers.meter import Figures, Sample, figures
from tests.bench.peers.outcome import Outcome, Said, digest
from tests.bench.peers.story import Round
from tests.bench.peers.throughput import Case

A, B, C = (Said("window-opened", id_, "whatsapp:1:5511900010001", "2026-11-22T12:00:00.000Z") for id_ in "abc")


def case(rate: float) -> Case:
    return Case("floor", "", 100, Figures(rate, rate, rate, rate, 0), True, "")


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
    assert figures(samples) == Figures(500, 1000 / 0.75, 500, 2000, start_s=5)


def test_one_commit_alone_gives_no_figure() -> None:
    with pytest.raises(ValueError, match="too few"):
        figures([Sample(0, 0, 1), Sample(5, 100, 3)])


def test_a_round_whose_floor_moved_is_void() -> None:
    assert Round([case(100), case(86)], []).is_valid
    assert not Round([case(100), case(84)], []).is_valid
    assert not Round([case(84), case(100)], []).is_valid
