"""What `janela up` shows: its words, its countdown, and a screen that fits."""

import json
from typing import Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition
from rich.console import Console

from processor.cli.tally import OpenWindow, Tally, _reason
from processor.cli.view import Countdown, JsonLines, Lines, Moment, Screen, countdown, in_words, sparkline, summary
from processor.cli.watch import EVENTS, Kind, Seen, in_order
from processor.codec.state import encode_window
from processor.core.window import Window
from processor.traffic import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Timeline

NOW_MS = 1_795_373_239_000  # Sun 22 Nov 2026 18:47:19 UTC

DATA: dict[Kind, dict[str, Any]] = {
    Kind.OPENED: {"cause": {"id": "in-1", "type": "text"}, "expires_at": "2026-11-23T18:47:19.000Z"},
    Kind.EXPIRING: {"remaining_seconds": 7200, "unanswered": True},
    Kind.CLOSED: {"reason": "expired", "unanswered": False},
    Kind.ACCEPTED: {"send": {"id": "out-1", "type": "image"}, "reason": "window-open"},
    Kind.REJECTED: {
        "send": {"id": "out-1", "type": "text"},
        "reason": "window-closed",
        "remedy": "send-template",
        "window": {"closed_for_seconds": 11_520},
    },
}


def seen(kind: Kind, number: int = 1, **changed: Any) -> Seen:
    value = {"data": DATA[kind] | changed}
    return Seen(kind, f"whatsapp:15550001:{5511900000000 + number}", "2026-11-22T18:47:19.000Z", number, value, b"")


def state(number: int, window: Window) -> Seen:
    return Seen(Kind.STATE, f"key-{number}", "2026-11-22T18:47:19.000Z", number, {}, encode_window(window, number))


def new_moment(windows: int = 60, seconds: int | None = 60, elapsed_s: float = 30, events: int = 12) -> Moment:
    """Give a run in its middle, with events and windows to show."""
    tally = Tally()
    for kind in EVENTS:
        for number in range(events):
            tally.see(seen(kind, number))
    for number in range(windows):
        tally.open_windows[f"whatsapp:15550001:{5511900000000 + number}"] = OpenWindow(
            NOW_MS + number * 20 * MINUTE_MS, number % 2 == 0
        )
    for second in range(20):
        tally.records_in += 100 + second
        tally.note_second(float(second))
    tally.dead_letters.update({"not-json": 3, "bad-time": 2})
    return Moment(tally, Timeline(NOW_MS - 2 * DAY_MS, NOW_MS, 60), elapsed_s, seconds, "127.0.0.1:9092")


def drawn(moment: Moment, width: int, height: int) -> list[str]:
    console = Console(width=width, height=height, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(Screen().draw(moment, width, height))
    return capture.get().splitlines()


# ---------------------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("kind", "changed", "words"),
    [
        (Kind.OPENED, {}, "by text, until Mon 18:47"),
        (Kind.EXPIRING, {}, "2h00m left, unanswered"),
        (Kind.CLOSED, {}, "expired, answered"),
        (Kind.ACCEPTED, {}, "image: window-open"),
        (
            Kind.ACCEPTED,
            {"reason": None, "would_reject": {"reason": "no-window"}},
            "image: would be rejected, no-window",
        ),
        (Kind.REJECTED, {}, "text: window-closed 3h12m ago → send-template"),
        (Kind.REJECTED, {"reason": "opt-out", "remedy": "none", "window": None}, "text: opt-out"),
    ],
)
def test_an_event_is_said_in_few_words(kind: Kind, changed: dict[str, Any], words: str) -> None:
    assert in_words(seen(kind, **changed)) == words


def test_a_countdown_has_seconds_in_its_last_hour() -> None:
    spans_ms = (25 * HOUR_MS, HOUR_MS, HOUR_MS - 1, 61 * SECOND_MS, 999)
    assert [countdown(ms) for ms in spans_ms] == ["25h00m", "1h00m", "59m59s", "1m01s", "0m00s"]


def test_a_sparkline_draws_what_came_in_each_second() -> None:
    assert sparkline([0, 0, 1, 8, 8]) == "▁▂█▁"
    assert sparkline([5]) == ""


def test_the_summary_says_what_went_in_and_what_came_out() -> None:
    words = summary(new_moment(elapsed_s=60))
    assert words.splitlines()[1] == "60 s, from Fri 20 Nov 18:47 to Sun 22 Nov 18:48 UTC"
    for line in ("records in         2,190   36 a second", "  rejected            12", "open windows          60"):
        assert line in words.splitlines()
    assert "dead letters           5   not-json 3, bad-time 2" in words


def test_what_comes_before_the_run_proper_is_in_no_rate() -> None:
    tally = Tally()
    tally.records_in = 1000
    tally.begin()
    tally.records_in = 1600
    assert tally.mean_rates(6) == (100, 0)


# ------------------------------------------------------------------------------------------------------- the tally


def test_a_window_is_open_until_its_state_says_otherwise() -> None:
    tally = Tally()
    tally.see(state(1, Window(5, NOW_MS, 5)))
    tally.see(state(2, Window(5, NOW_MS, 5, last_answer_at=5)))
    assert tally.open_windows == {"key-1": OpenWindow(NOW_MS, True), "key-2": OpenWindow(NOW_MS, False)}
    tally.see(state(1, Window(5, NOW_MS, 5, closed_at=NOW_MS, close_reason="expired")))
    tally.see(Seen(Kind.STATE, "key-2", "", 1, {}, None))
    assert tally.open_windows == {}
    assert tally.events_out == 0


@pytest.mark.parametrize(
    "raw", [b"{", b"[]", b'{"status": "open"}', b'{"status": "open", "expires_at": "soon"}', b"\xff"]
)
def test_a_state_that_no_worker_wrote_is_no_open_window(raw: bytes) -> None:
    foreign = ConsumerRecord("window-state", 0, 7, NOW_MS, 0, b"key-1", raw, 0, 0, 0, ())
    tally = Tally()
    for each in in_order({TopicPartition("window-state", 0): [foreign]}, {"window-state": Kind.STATE}):
        tally.see(each)
    assert tally.open_windows == {}


@pytest.mark.parametrize("kind", EVENTS)
@pytest.mark.parametrize("data", [{}, [], "text", DATA[Kind.EXPIRING] | {"remaining_seconds": 1e400}])
def test_an_event_that_no_worker_wrote_is_said_by_its_place(kind: Kind, data: Any) -> None:
    foreign = Seen(kind, "key", "2026-11-22T18:47:19.000Z", 1, {"data": data}, b"{}", place="topic[0], offset 7")
    assert in_words(foreign) == "can't be read as an event: topic[0], offset 7"


@pytest.mark.parametrize(
    ("headers", "reason"),
    [([("__dlq.reason", b"not-json")], "not-json"), ([("__dlq.reason", b"\xff")], "\\xff"), ([], "unknown")],
)
def test_a_dead_letter_counts_whatever_reason_it_bears(headers: list[tuple[str, bytes]], reason: str) -> None:
    assert _reason(headers) == reason


# --------------------------------------------------------------------------------------------------- the countdown


def test_the_windows_followed_end_one_after_the_other() -> None:
    windows = {f"k{n}": OpenWindow(NOW_MS + n * MINUTE_MS, False) for n in range(100)}
    rows = Countdown()
    rows.follow(windows, NOW_MS, 0, apart_ms=10 * MINUTE_MS, size=3)
    assert [row.key for row in rows.rows] == ["k10", "k20", "k30"]


def test_without_distance_they_are_the_next_to_end() -> None:
    windows = {f"k{n}": OpenWindow(NOW_MS + n * MINUTE_MS, False) for n in range(9, 0, -1)}
    rows = Countdown()
    rows.follow(windows, NOW_MS, 0, apart_ms=0, size=3)
    assert [row.key for row in rows.rows] == ["k1", "k2", "k3"]


def test_a_window_is_followed_to_its_fate_which_is_shown_for_a_moment() -> None:
    windows = {f"k{n}": OpenWindow(NOW_MS + n * MINUTE_MS, False) for n in range(1, 5)}
    rows = Countdown()
    rows.follow(windows, NOW_MS, 0, 0, 3)
    del windows["k1"]
    windows["k2"] = OpenWindow(NOW_MS + DAY_MS, False)
    windows["k3"] = OpenWindow(NOW_MS + 3 * MINUTE_MS, True)
    rows.follow(windows, NOW_MS, 1, 0, 3)
    assert [(row.key, row.fate, row.is_unanswered) for row in rows.rows] == [
        ("k1", "ended", False),
        ("k2", "extended", False),
        ("k3", "", True),
    ]
    rows.follow(windows, NOW_MS, 5, 0, 3)
    assert [row.key for row in rows.rows] == ["k3", "k4", "k2"]


# ------------------------------------------------------------------------------------------------------ the screen


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 50), (60, 16), (40, 10), (200, 24)])
def test_a_screen_fits_and_says_how_to_end_it(width: int, height: int) -> None:
    lines = drawn(new_moment(), width, height)
    assert len(lines) == height
    assert max(map(len, lines)) <= width
    assert "Ctrl-C" in lines[-1]


def test_a_usual_terminal_shows_every_kind_with_events_and_windows_that_count_down() -> None:
    lines = drawn(new_moment(), 80, 24)
    for kind in EVENTS:
        assert any(line.startswith(f" {kind}") and "5511900000011" in line for line in lines)
    assert sum("━" in line for line in lines) >= 4
    assert lines[0].startswith(" janela  Sat 21 Nov 18:47 UTC   a day in 30 s, the present in 30 s")


def test_from_the_present_on_it_is_real_time() -> None:
    lines = drawn(new_moment(seconds=None, elapsed_s=90), 80, 24)
    assert lines[0].rstrip() == " janela  Sun 22 Nov 18:48:49 UTC   in real time"


def test_the_newest_events_stand_still_for_a_second() -> None:
    screen, moment = Screen(), new_moment()

    def shown(elapsed_s: float) -> str:
        console = Console(width=80, height=24, color_system=None)
        with console.capture() as capture:
            console.print(screen.draw(moment._replace(elapsed_s=elapsed_s), 80, 24))
        return capture.get()

    assert "5511900000011" in shown(10.0)
    for kind in EVENTS:
        moment.tally.see(seen(kind, 77))
        moment.tally.see(seen(kind, 78))
    assert "5511900000078  by" not in shown(10.5)
    assert "5511900000078  by" in shown(11.0)


def test_an_empty_run_can_be_shown() -> None:
    moment = Moment(Tally(), Timeline(NOW_MS, NOW_MS, 0), 0, None, "127.0.0.1:9092")
    assert len(drawn(moment, 80, 24)) == 24


# ------------------------------------------------------------------------------------------------- lines and JSON


def test_lines_tell_of_one_kind_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    view, moment = Lines(), new_moment()
    for _ in EVENTS:
        view.show(moment)
    lines = capsys.readouterr().out.splitlines()
    assert "in 118/s  out 0/s  lag 0  open windows 60  |  opened 12" in lines[0]
    assert [line.split()[0] for line in lines[1::2]] == [kind.value for kind in EVENTS]


def test_json_is_an_object_a_second_and_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    view, moment = JsonLines(), new_moment()
    view.starting("starting Kafka")
    view.show(moment)
    view.sum_up(moment)
    printed = capsys.readouterr()
    progress, total = map(json.loads, printed.out.splitlines())
    assert printed.err == "starting Kafka\n"
    assert (progress["kind"], total["kind"]) == ("progress", "summary")
    assert progress["events"] == {kind.value: 12 for kind in EVENTS}
    assert progress["records_in_per_second"] == 118
    assert (total["dead_letters"], total["dead_letters_by_reason"]) == (5, {"not-json": 3, "bad-time": 2})
