"""What a rebuild makes of rounds and of records, by itself."""

import json
from contextlib import closing

import pytest

from processor.audit.findings import Written
from processor.audit.model import Fold
from processor.audit.policy import ModelPolicy
from processor.audit.records import Record
from processor.audit.rounds import Leave
from processor.audit.witnesses import Witnesses
from processor.codec.rounds import Standing, round_header
from processor.codec.state import encode_consents, encode_window
from processor.core.consent import Consents, Register
from processor.core.partition import Partition
from processor.core.policy import Policy
from processor.core.window import Window
from processor.rebuild.difference import difference, joined_consents, joined_windows
from processor.rebuild.standings import Standings

KEY = b"whatsapp:1:2"
BEGIN, END = (0, 0, 0), (30, 20, 900)


def noted(*rounds: tuple[Standing, Standing]) -> Standings:
    """Give the standings of rounds, in whatever order."""
    standings = Standings()
    for began, ended in rounds:
        standings.note([("traceparent", b"00"), round_header(began, ended, [None] * 3)])
    return standings


def test_rounds_give_the_places_by_which_inputs_are_applied_in_their_order() -> None:
    second, first = ((10, 5, 400), (20, 5, 700)), ((0, 0, 0), (10, 5, 300))
    places = noted(second, first, second).until(END)
    assert places == [BEGIN, (10, 5, 300), (10, 5, 400), (20, 5, 700), END]


def test_a_round_beyond_what_is_committed_or_that_contradicts_another_is_left_out() -> None:
    beyond, backwards = ((20, 5, 700), (31, 5, 800)), ((12, 2, 500), (13, 3, 600))
    places = noted(((10, 5, 300), (12, 5, 500)), beyond, backwards).until(END)
    assert places == [(10, 5, 300), (12, 5, 500), (20, 5, 700), END]


def test_where_no_round_is_known_there_is_the_end_alone() -> None:
    standings = Standings()
    standings.note([("janela-round", b"?"), ("other", b"0+1 0+1 0+1")])
    assert standings.until(END) == [END]
    assert standings.told(END) == ("janela-round", b"30+0 20+0 900+0")


def test_what_is_rebuilt_tells_of_the_round_that_ended_there_or_of_one_that_took_nothing() -> None:
    last = ((20, 20, 800), END)
    assert noted(((0, 0, 0), (20, 20, 800)), last).told(END) == round_header(*last, [None] * 3)
    assert noted(((0, 0, 0), (20, 20, 800))).told(END) == ("janela-round", b"30+0 20+0 900+0")


def test_a_clock_that_idle_time_had_moved_before_a_rebuild_is_not_early_after_it() -> None:
    began_ms = 1_700_000_000_000
    clock_ms = began_ms + 60_000  # idle time, of which no record tells
    body = {"business_id": "1", "contact_id": "2", "time": began_ms, "id": "a", "type": "text"}
    said = Record("inbound", 0, 0, began_ms, KEY, json.dumps(body).encode(), (), began_ms)
    taken = round_header((0, 0, 0), (1, 0, began_ms), [None] * 3)
    standings = Standings()
    standings.note([taken])
    with closing(Witnesses()) as witnesses:
        for offset, header in enumerate((taken, standings.told((1, 0, clock_ms)))):
            witnesses.note("window-state", Written(offset, clock_ms + 5_000, KEY, b"{}", (header,)))
        schedule = witnesses.schedule(Leave(True, 1_000, 1_000), clock_ms=clock_ms, is_whole=True)
        fold = Fold([said], [], ModelPolicy(), 1, schedule=schedule)
        assert [due.output.topic for due in fold] == ["window-opened"]
        assert fold.knowledge.breaches == []


def state(window: Window | None = None, consents: Consents | None = None) -> Partition:
    """Give the state of a partition that knows one contact at most."""
    core = Partition(Policy())
    core.restore(1_000, [(KEY, window)] if window else [], [(KEY, consents)] if consents else [])
    return core


OPEN = Window(10, 110, 30, None)


@pytest.mark.parametrize("found", [b"{", b"", b'{"v":2}', encode_window(Window(10, 110, 31), 1)])
def test_a_record_that_differs_or_cannot_be_read_is_written_and_one_that_says_the_same_is_not(found: bytes) -> None:
    made = difference(state(OPEN), {KEY: found}, {}, 1_000, is_whole=True)
    assert [(it.topic, it.key, it.value) for it in made.changes] == [("window-state", KEY, OPEN)]
    assert made.changes[0].encoded(7) == encode_window(OPEN, 7)
    assert difference(state(OPEN), {KEY: encode_window(OPEN, 3)}, {}, 1_000, is_whole=True).changes == []


def test_a_record_of_which_nothing_came_is_taken_out_unless_its_inputs_are_gone() -> None:
    window, consents = encode_window(Window(990, 1_090, 990), 3), encode_consents(Consents(Register(True, 5)))
    whole = difference(state(), {KEY: window}, {KEY: consents}, 1_000, is_whole=True)
    assert [(it.topic, it.value) for it in whole.changes] == [("window-state", None), ("consent-state", None)]
    assert whole.changes[0].encoded(1) is None
    partial = difference(state(), {KEY: window}, {KEY: consents}, 1_000, is_whole=False)
    assert (partial.changes, partial.kept, partial.windows, partial.consents) == ([], 2, 1, 1)
    bad = difference(state(), {KEY: b"{"}, {KEY: b"{"}, 1_000, is_whole=False)
    assert [it.value for it in bad.changes] == [None, None]
    assert bad.unreadable == 2


CLOSED = Window(10, 110, 30, None, 110, "expired")


@pytest.mark.parametrize(
    ("found", "made", "joined"),
    [
        (Window(10, 130, 30, 20), Window(30, 130, 30, None), Window(10, 130, 30, 20)),  # it knows how it began
        (Window(10, 130, 30, 20), Window(60, 160, 60, None), Window(10, 160, 60, 20)),  # and not how it went on
        (Window(10, 110, 10, 20), Window(120, 220, 120, 125), Window(120, 220, 120, 125)),  # another window
        (Window(10, 130, 30), Window(30, 130, 30, None, 130, "expired"), Window(10, 130, 30, None, 130, "expired")),
        (CLOSED, None, CLOSED),
        (Window(10, 110, 30), None, CLOSED),  # its end was announced, and must not be again
        (Window(10, 116, 30), None, Window(10, 116, 30)),
    ],
)
def test_a_record_is_joined_with_what_inputs_say_whose_beginning_is_gone(
    found: Window, made: Window | None, joined: Window
) -> None:
    assert joined_windows(found, made, clock_ms=115, retention_ms=6) == joined


@pytest.mark.parametrize("found", [CLOSED, Window(10, 110, 30)])
def test_a_window_that_must_have_been_forgotten_is_not_kept(found: Window) -> None:
    assert joined_windows(found, None, clock_ms=116, retention_ms=6) is None


@pytest.mark.parametrize(
    ("found", "made", "newest"),
    [
        (Register(True, 5), Register(False, 6), Register(False, 6)),
        (Register(True, 7), Register(False, 6), Register(True, 7)),
        (Register(True, 6), Register(False, 6), Register(False, 6)),
        (None, Register(True, 0), Register(True, 0)),
        (None, None, None),
    ],
)
def test_of_two_words_of_a_contact_the_newer_one_counts(
    found: Register | None, made: Register | None, newest: Register | None
) -> None:
    joined = joined_consents(Consents(found, made), Consents(made, found))
    assert joined == Consents(newest, newest)
    assert joined_consents(Consents(found), None) == Consents(found)
