"""The window's rules, pure: W1-W11, W13a, E1-E3, each with its boundary to the millisecond."""

from datetime import UTC, datetime
from itertools import pairwise
from typing import get_args

import pytest

from processor.core.decisions import Closed, Effects, Expiring, Opened
from processor.core.events import Event, Message
from processor.core.partition import Partition
from processor.core.policy import Policy
from processor.core.window import TRANSITIONS, Status, Trigger, Window, Windows
from tests.scene import (
    DAY,
    HOUR,
    KEY,
    MINUTE,
    OTHER_KEY,
    SECOND,
    T0,
    Scene,
    called,
    consent,
    echoed,
    permission_reply,
    said,
    sent,
    template,
    tick,
    told,
    unsupported,
)
from tests.tidy.diagram import ARCHITECTURE, BEGIN, END, diagram

NO_WARNING = Policy(expiring_before_ms=())
THREE_WARNINGS = Policy(expiring_before_ms=(4 * HOUR, HOUR, 15 * MINUTE))

# --------------------------------------------------------------------------------------------- the table of the machine

PREPARED: dict[tuple[Status, Trigger], tuple[tuple[Event, ...], Event, list[str]]] = {
    ("absent", "message"): ((), said(0), ["opened"]),
    ("open", "message"): ((said(0),), said(HOUR), []),
    ("closed", "message"): ((said(0), tick(DAY)), said(DAY + HOUR), ["opened"]),
    ("open", "threshold due"): ((said(0),), tick(22 * HOUR), ["expiring 7200"]),
    ("open", "end due"): ((said(0), tick(23 * HOUR)), tick(DAY), ["closed"]),
    ("closed", "retention due"): ((said(0), tick(DAY)), tick(4 * DAY), []),
}
"""For each row of the table: what comes before, the event that takes the step, and what is said."""


def status(scene: Scene) -> Status:
    return scene.window().status if scene.knows() else "absent"


@pytest.mark.parametrize("row", TRANSITIONS, ids=lambda row: f"{row[0]}, {row[1]}")
def test_every_row_of_the_table_is_a_step_that_the_machine_takes(
    row: tuple[Status, Trigger], monkeypatch: pytest.MonkeyPatch
) -> None:
    """W2 W3 W4 W11 E1"""
    after, method = TRANSITIONS[row]
    taken: list[str] = []
    step = getattr(Windows, method)

    def noted(self: Windows, *arguments: object) -> None:
        taken.append(method)
        step(self, *arguments)

    before, event, words = PREPARED[row]
    monkeypatch.setattr(Windows, method, noted)
    scene = Scene()
    scene.play(*before)
    taken.clear()
    assert status(scene) == row[0]
    assert scene.play(event) == words
    assert status(scene) == after
    assert taken == [method]


def test_the_table_has_no_more_rows_than_those_that_are_walked() -> None:
    assert set(TRANSITIONS) == set(PREPARED)
    assert {after for after, _ in TRANSITIONS.values()} == set(get_args(Status))
    assert {trigger for _, trigger in TRANSITIONS} == set(get_args(Trigger))


def test_the_diagram_in_the_documents_is_made_from_the_table() -> None:
    assert ARCHITECTURE.is_file(), "ARCHITECTURE.md with the output of `python -m tests.tidy.diagram` is missing"
    text = ARCHITECTURE.read_text("utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    assert text.split(BEGIN)[1].split(END)[0].strip() == diagram().strip(), "run `python -m tests.tidy.diagram`"


def test_the_diagram_shows_every_row_once() -> None:
    lines = [line.strip() for line in diagram().splitlines() if " --> " in line and "[*]" not in line]
    assert len(lines) == len(set(lines)) == len(TRANSITIONS)


# -------------------------------------------------------------------------------------------------------------- opening


def test_a_message_opens_a_window_for_24_hours() -> None:
    """W2"""
    scene = Scene()
    scene.play(said(0, "image", id_="wamid.1"))
    assert scene.decisions == [Opened(KEY, T0, T0 + DAY, "wamid.1", "image")]
    assert scene.window() == Window(T0, T0 + DAY, T0)


def test_each_channel_business_number_and_contact_has_a_window_of_its_own() -> None:
    """W1"""
    keys = [b"whatsapp:1:9", b"whatsapp:2:9", b"whatsapp:1:8", b"telegram:1:9"]
    scene = Scene(NO_WARNING)
    for i, key in enumerate(keys):
        assert scene.play(said(i, key=key)) == ["opened"]
    assert scene.play(sent(10, key=b"telegram:2:9")) == ["rejected s1: no-window"]
    scene.play(said(HOUR, key=keys[0]))
    assert [scene.window(key).expires_at - T0 for key in keys] == [DAY + HOUR, DAY + 1, DAY + 2, DAY + 3]
    assert scene.pass_until(DAY + 3) == ["closed"] * 3
    assert [decision.key for decision in scene.decisions[-3:]] == keys[1:]


def test_the_same_message_at_two_numbers_of_one_business_opens_both() -> None:
    """W1"""
    scene = Scene()
    assert scene.play(said(0, key=b"whatsapp:1:9"), said(0, key=b"whatsapp:2:9")) == ["opened", "opened"]


def test_a_number_with_and_without_brazils_ninth_digit_is_two_contacts_to_us() -> None:
    """W1: whoever writes the inputs makes the contact one."""
    scene = Scene()
    scene.play(said(0, key=b"whatsapp:1:5511900010001"))
    assert scene.play(sent(1, key=b"whatsapp:1:551100010001")) == ["rejected s1: no-window"]


def test_a_window_is_as_long_as_its_channels_policy_says() -> None:
    """W1 W2 W4"""
    policy = Policy(window_ms={"default": DAY, "telegram": 7 * DAY, "sms": HOUR}, expiring_before_ms=(),
                    closed_retention_ms=7 * DAY)  # fmt: skip
    scene = Scene(policy)
    for channel in (b"telegram", b"sms", b"whatsapp"):
        scene.play(said(0, key=channel + b":1:2"))
    assert scene.pass_until(8 * DAY) == ["closed"] * 3
    closes = [(decision.key, decision.time_ms - T0) for decision in scene.decisions if isinstance(decision, Closed)]
    assert closes == [(b"sms:1:2", HOUR), (b"whatsapp:1:2", DAY), (b"telegram:1:2", 7 * DAY)]


@pytest.mark.parametrize(
    "type_",
    [
        "text",
        "image",
        "video",
        "audio",
        "voice",
        "document",
        "sticker",
        "location",
        "contacts",
        "order",
        "button",
        "interactive",
    ],
)
def test_each_kind_of_message_opens(type_: str) -> None:
    """W2 W7"""
    scene = Scene(Policy(unknown_types_open=False))
    assert scene.play(said(0, type_)) == ["opened"]
    assert scene.count("unknown-type") == 0


@pytest.mark.parametrize(
    ("direction", "outcome", "opens"),
    [
        ("user", "", True),
        ("user", "missed", True),
        ("user", "rejected", True),
        ("user", "accepted", True),
        ("business", "accepted", True),
        ("business", "missed", False),
        ("business", "rejected", False),
        ("business", "", False),
        ("business", "Accepted", False),
    ],
)
def test_a_call_opens_by_who_made_it_and_what_came_of_it(direction: str, outcome: str, opens: bool) -> None:
    """W2 W6"""
    assert Scene().play(called(0, direction, outcome)) == ["opened"] * opens


@pytest.mark.parametrize(("direction", "outcome", "hours"), [("user", "missed", 25), ("business", "missed", 24)])
def test_a_call_extends_where_it_would_open(direction: str, outcome: str, hours: int) -> None:
    """W3 W6"""
    scene = Scene()
    scene.play(said(0), called(HOUR, direction, outcome))
    assert scene.window().expires_at == T0 + hours * HOUR


@pytest.mark.parametrize("opens", [False, True])
def test_a_reaction_opens_only_where_the_policy_says_so(opens: bool) -> None:
    """W7"""
    scene = Scene(Policy(reactions_open=opens))
    assert scene.play(said(0, "reaction")) == ["opened"] * opens
    assert scene.count("unknown-type") == 0


@pytest.mark.parametrize(
    ("error_code", "unknown_types_open", "opens"),
    [
        ("131051", False, True),
        ("131060", True, False),
        ("", True, True),
        ("", False, False),
        ("131999", True, True),
        ("131999", False, False),
    ],
)
def test_an_unsupported_message_opens_by_its_code(error_code: str, unknown_types_open: bool, opens: bool) -> None:
    """W7 W13a"""
    scene = Scene(Policy(unknown_types_open=unknown_types_open))
    assert scene.play(unsupported(0, error_code)) == ["opened"] * opens


def test_which_codes_of_unsupported_messages_open_is_policy() -> None:
    """W7"""
    scene = Scene(Policy(unsupported_opens={"131051": False, "1": True}, unknown_types_open=False))
    assert scene.play(unsupported(0, "131051")) == []
    assert scene.play(unsupported(1, "1")) == ["opened"]


@pytest.mark.parametrize(("source", "opens"), [("user_action", True), ("automatic", False), ("", False)])
def test_a_reply_about_calls_opens_only_by_the_users_own_hand(source: str, opens: bool) -> None:
    """W7"""
    assert Scene().play(permission_reply(0, source)) == ["opened"] * opens


def test_an_automatic_reply_about_calls_opens_where_the_policy_says_so() -> None:
    """W7"""
    scene = Scene(Policy(call_permission_reply_opens=("automatic",)))
    assert scene.play(permission_reply(0, "user_action")) == []
    assert scene.play(permission_reply(1, "automatic")) == ["opened"]


@pytest.mark.parametrize("opens", [False, True])
def test_a_type_that_nobody_knows_yet_counts_as_a_message_by_policy(opens: bool) -> None:
    """W13a"""
    scene = Scene(Policy(unknown_types_open=opens))
    assert scene.play(said(0, "hologram")) == ["opened"] * opens
    assert scene.count("unknown-type") == 1


def test_what_the_codec_only_notes_opens_nothing_and_is_counted() -> None:
    """W8: imported history, statuses, system messages, preferences arrive here as `Noted`."""
    scene = Scene()
    assert scene.play(tick(0)) == []
    assert (scene.count("silent"), scene.knows(OTHER_KEY), scene.partition.clock_ms) == (1, False, T0)


# ------------------------------------------------------------------------------------------------------------ extending


def test_a_further_message_extends_and_announces_nothing() -> None:
    """W3"""
    scene = Scene()
    scene.play(said(0))
    assert scene.play(said(20 * HOUR)) == []
    assert scene.window() == Window(T0, T0 + 44 * HOUR, T0 + 20 * HOUR)


def test_a_message_in_the_last_millisecond_extends() -> None:
    """W3 W4"""
    scene = Scene(NO_WARNING)
    assert scene.play(said(0), said(DAY - 1)) == ["opened"]
    assert scene.window().expires_at == T0 + 2 * DAY - 1


def test_a_message_at_the_very_end_opens_a_new_window_after_the_close() -> None:
    """W4"""
    scene = Scene(NO_WARNING)
    assert scene.play(said(0), said(DAY)) == ["opened", "closed", "opened"]
    assert scene.window() == Window(T0 + DAY, T0 + 2 * DAY, T0 + DAY)


def test_an_older_message_takes_nothing_back() -> None:
    """W3"""
    scene = Scene()
    assert scene.play(said(5 * HOUR), said(2 * HOUR)) == ["opened"]
    assert scene.window() == Window(T0 + 5 * HOUR, T0 + 29 * HOUR, T0 + 5 * HOUR)


def test_the_order_of_arrival_does_not_move_the_end() -> None:
    """W3: inbound T2 before T1."""
    first, second = Scene(), Scene()
    first.play(said(0), said(HOUR), said(2 * HOUR))
    second.play(said(0), said(2 * HOUR), said(HOUR))
    assert first.window() == second.window()


@pytest.mark.parametrize(
    "event",
    [
        sent(HOUR),
        sent(HOUR, done=True),
        sent(HOUR, agent=False),
        template(HOUR),
        template(HOUR, done=True, agent=True),
        echoed(HOUR),
        consent(HOUR, "all", granted=True),
        tick(HOUR),
    ],
    ids=lambda event: type(event).__name__,
)
def test_nothing_that_the_business_sends_opens_or_extends(event: Event) -> None:
    """W5 S4: nor does a consent."""
    silent = Scene()
    silent.play(event)
    assert not silent.knows()

    open_ = Scene()
    open_.play(said(0), event)
    assert (open_.window().expires_at, open_.window().last_inbound_at) == (T0 + DAY, T0)


# --------------------------------------------------------------------------------------------------------------- ending


def test_a_window_is_open_in_its_last_millisecond_and_closed_at_24_hours() -> None:
    """W4"""
    scene = Scene(NO_WARNING)
    scene.play(said(0))
    assert scene.pass_until(DAY - 1) == []
    assert scene.window().status == "open"
    assert scene.pass_until(DAY) == ["closed"]
    assert scene.decisions[-1] == Closed(KEY, T0 + DAY, T0, T0 + DAY, "expired", is_unanswered=True)
    assert scene.window() == Window(T0, T0 + DAY, T0, None, T0 + DAY, "expired")


def test_the_close_is_timed_by_its_end_however_late_it_is_seen() -> None:
    """W4: after days without any traffic."""
    scene = Scene(NO_WARNING)
    scene.play(said(0))
    scene.pass_until(3 * DAY + 7)
    assert scene.decisions[-1].time_ms == T0 + DAY


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 26, 0, 30, tzinfo=UTC)),  # Lisbon's clocks
        (datetime(2018, 11, 4, 2, 59, 59, tzinfo=UTC), datetime(2018, 11, 5, 2, 59, 59, tzinfo=UTC)),  # São Paulo's
        (datetime(2028, 2, 28, 23, tzinfo=UTC), datetime(2028, 2, 29, 23, tzinfo=UTC)),
        (datetime(2027, 2, 28, 23, tzinfo=UTC), datetime(2027, 3, 1, 23, tzinfo=UTC)),
        (datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2027, 1, 1, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_24_hours_know_no_calendar(start: datetime, end: datetime) -> None:
    """W4: summer time, a leap day, the end of a month and of a year."""
    scene = Scene(NO_WARNING)
    scene.play(Message(KEY, int(start.timestamp()) * 1000, "m1", "text"))
    assert scene.window().expires_at == int(end.timestamp()) * 1000


def test_ends_come_in_the_order_of_their_time_and_then_of_their_key() -> None:
    """W4"""
    scene = Scene(NO_WARNING)
    for key, after in ((b"w:1:c", 5), (b"w:1:b", 9), (b"w:1:a", 9), (b"w:1:d", 1)):
        scene.play(said(after, key=key))
    scene.pass_until(2 * DAY)
    closes = [decision.key for decision in scene.decisions if isinstance(decision, Closed)]
    assert closes == [b"w:1:d", b"w:1:c", b"w:1:a", b"w:1:b"]


def test_a_closed_window_is_remembered_for_its_retention_and_then_forgotten() -> None:
    """S1: a rejection can say for how long it has been closed."""
    scene = Scene(NO_WARNING)
    scene.play(said(0))
    scene.pass_until(4 * DAY - 1)
    assert scene.knows()
    assert scene.changed(tick(4 * DAY)) == ({KEY}, set())
    assert not scene.knows()
    assert told(scene.decisions) == ["opened", "closed"]


def test_a_retention_that_was_shortened_forgets_after_the_restart_and_not_in_the_past() -> None:
    scene = Scene(Policy(expiring_before_ms=(), closed_retention_ms=7 * DAY))
    scene.play(said(0), tick(5 * DAY))
    shorter = scene.restarted(NO_WARNING)
    assert shorter.knows()
    shorter.pass_until(5 * DAY + 1)
    assert not shorter.knows()


# --------------------------------------------------------------------------------------------- late, doubled, re-opened


@pytest.mark.parametrize(("behind", "said_of_it"), [(DAY, []), (DAY + 1, []), (DAY - 1, ["opened", "expiring 7200"])])
def test_a_message_a_whole_window_behind_the_clock_opens_nothing(behind: int, said_of_it: list[str]) -> None:
    """W9 E1a"""
    scene = Scene()
    scene.play(tick(behind))
    assert scene.play(said(0)) == said_of_it
    assert scene.count("late") == (0 if said_of_it else 1)
    assert scene.knows() == bool(said_of_it)


def test_how_late_is_too_late_is_the_channels_window() -> None:
    """W9"""
    scene = Scene(Policy(window_ms={"default": DAY, "sms": 3 * HOUR}, expiring_before_ms=()))
    scene.play(tick(3 * HOUR))
    assert scene.play(said(0, key=b"sms:1:2"), said(0, key=b"whatsapp:1:2")) == ["opened"]
    assert scene.count("late") == 1


def test_a_late_message_extends_an_open_window_by_what_is_left_of_its_24_hours() -> None:
    """W9 W3"""
    scene = Scene()
    scene.play(said(0), tick(20 * HOUR), said(HOUR))
    assert scene.window() == Window(T0, T0 + 25 * HOUR, T0 + HOUR)


def test_a_message_that_came_too_late_changes_nothing_of_an_open_window() -> None:
    """W9"""
    scene = Scene()
    scene.play(said(DAY))
    assert scene.changed(said(0)) == (set(), set())
    assert (scene.window(), scene.count("late")) == (Window(T0 + DAY, T0 + 2 * DAY, T0 + DAY), 1)


def test_the_same_message_twice_changes_nothing_and_writes_nothing() -> None:
    """W10"""
    scene = Scene()
    scene.play(said(0))
    assert scene.changed(said(0)) == (set(), set())
    assert scene.changed(said(0, id_="another at the same time")) == (set(), set())
    assert told(scene.decisions) == ["opened"]


def test_a_redelivery_three_days_late_changes_nothing() -> None:
    """W9 W10"""
    scene = Scene()
    scene.play(said(0), tick(3 * DAY))
    assert scene.changed(said(0)) == (set(), set())
    assert (scene.window().status, scene.count("late")) == ("closed", 1)


def test_a_duplicate_after_the_close_stays_closed() -> None:
    """W10 W11"""
    scene = Scene()
    scene.play(said(0), said(HOUR), tick(25 * HOUR))
    assert scene.changed(said(HOUR), said(0)) == (set(), set())
    assert scene.window().status == "closed"


def test_a_late_message_that_is_newer_than_the_last_one_known_opens_a_new_window_after_the_close() -> None:
    """W11 E1a"""
    scene = Scene()
    scene.play(said(0), tick(24 * HOUR))
    assert scene.play(said(1)) == ["opened", "expiring 7200"]
    assert scene.window() == Window(T0 + 1, T0 + DAY + 1, T0 + 1)
    assert scene.pass_until(DAY + 1) == ["closed"]


def test_a_message_that_is_not_newer_opens_nothing_even_where_it_is_in_time() -> None:
    """W11: possible where the channel's window was made longer since."""
    scene = Scene(Policy(window_ms={"default": HOUR}, expiring_before_ms=()))
    scene.play(said(0), tick(2 * HOUR))
    longer = scene.restarted(NO_WARNING)
    assert longer.changed(said(0), said(-1)) == (set(), set())
    assert longer.window().status == "closed"
    assert longer.play(said(1)) == ["opened"]


def test_a_re_opened_window_keeps_the_last_answer_and_no_mark_of_its_close() -> None:
    """W11 E3"""
    scene = Scene(NO_WARNING)
    scene.play(said(0), sent(HOUR), tick(DAY), said(DAY + 5))
    assert scene.window() == Window(T0 + DAY + 5, T0 + 2 * DAY + 5, T0 + DAY + 5, T0 + HOUR)


def test_a_window_that_was_forgotten_begins_anew() -> None:
    """W11"""
    scene = Scene(NO_WARNING)
    scene.play(said(0), sent(HOUR), tick(4 * DAY))
    assert scene.play(said(4 * DAY + 1)) == ["opened"]
    assert scene.window().last_answer_at is None


# ------------------------------------------------------------------------------------------------------------- warnings


def test_a_warning_comes_at_its_threshold_and_says_what_remains() -> None:
    """E1"""
    scene = Scene()
    scene.play(said(0))
    assert scene.pass_until(22 * HOUR - 1) == []
    assert scene.pass_until(22 * HOUR) == ["expiring 7200"]
    due_ms, end_ms = T0 + 22 * HOUR, T0 + DAY
    warning = Expiring(KEY, due_ms, T0, end_ms, 2 * HOUR, 2 * HOUR, is_unanswered=True, last_inbound_at=T0)
    assert scene.decisions[-1] == warning


def test_each_threshold_warns_once_for_each_end() -> None:
    """E1"""
    scene = Scene(THREE_WARNINGS)
    scene.play(said(0))
    assert scene.pass_until(DAY) == ["expiring 14400", "expiring 3600", "expiring 900", "closed"]


def test_an_extension_before_a_threshold_silences_it_until_the_new_end() -> None:
    """E1"""
    scene = Scene()
    scene.play(said(0), said(22 * HOUR - 1))
    assert scene.pass_until(44 * HOUR - 1) == ["expiring 7200"]
    assert scene.decisions[-1].time_ms == T0 + 44 * HOUR - 1


def test_a_message_at_the_threshold_comes_after_its_warning() -> None:
    """E1: what is due at the time of an event comes before it, and each end has a warning of its own."""
    scene = Scene()
    scene.play(said(0))
    assert scene.play(said(22 * HOUR)) == ["expiring 7200"]
    assert scene.pass_until(2 * DAY) == ["expiring 7200", "closed"]


def test_an_extension_between_two_thresholds_brings_both_again() -> None:
    """E1"""
    scene = Scene(THREE_WARNINGS)
    scene.play(said(0))
    assert scene.play(said(22 * HOUR)) == ["expiring 14400"]
    assert scene.pass_until(3 * DAY) == ["expiring 14400", "expiring 3600", "expiring 900", "closed"]


def test_thresholds_that_are_past_at_the_opening_warn_once_by_the_smallest() -> None:
    """E1a"""
    scene = Scene(THREE_WARNINGS)
    scene.play(tick(23 * HOUR + 10 * MINUTE + 1))
    assert scene.play(said(0)) == ["opened", "expiring 3600"]
    warning = scene.decisions[-1]
    assert isinstance(warning, Expiring)
    assert (warning.time_ms, warning.threshold_ms) == (T0 + 23 * HOUR, HOUR)
    assert warning.remaining_ms == 49 * MINUTE + 59 * SECOND  # 50 minutes less a millisecond, rounded down
    assert scene.pass_until(DAY) == ["expiring 900", "closed"]


@pytest.mark.parametrize(("late", "words"), [(22 * HOUR - 1, ["opened"]), (22 * HOUR, ["opened", "expiring 7200"])])
def test_a_threshold_is_past_at_the_opening_from_its_own_millisecond_on(late: int, words: list[str]) -> None:
    """E1a"""
    scene = Scene()
    scene.play(tick(late))
    assert scene.play(said(0)) == words
    assert scene.pass_until(DAY) == ["expiring 7200", "closed"][len(words) - 1 :]


def test_an_extension_whose_new_due_time_is_not_after_the_clock_fires_nothing() -> None:
    """E1a"""
    scene = Scene()
    scene.play(said(0), tick(23 * HOUR))
    assert scene.play(said(HOUR)) == []  # the new threshold is at 23 h, where the clock stands
    assert scene.pass_until(25 * HOUR) == ["closed"]


def test_an_extension_whose_new_due_time_is_after_the_clock_warns_before_the_old_end() -> None:
    """E1 E1a: the timer waits for the end by now, and must be called back."""
    scene = Scene()
    scene.play(said(0), tick(23 * HOUR))
    assert scene.play(said(HOUR + 1)) == []
    assert scene.pass_until(23 * HOUR + 1) == ["expiring 7200"]
    assert scene.pass_until(25 * HOUR + 1) == ["closed"]


def test_an_extension_at_the_very_time_of_the_warning_warns_before_the_old_end_too() -> None:
    """E1 E1a"""
    scene = Scene()
    scene.play(said(0), tick(22 * HOUR), said(1))
    assert scene.pass_until(22 * HOUR + 1) == ["expiring 7200"]


def test_a_burst_of_messages_makes_one_warning() -> None:
    """E2"""
    scene = Scene()
    scene.play(*(said(ms, id_=f"m{ms}") for ms in range(0, SECOND, 10)))
    assert scene.pass_until(2 * DAY) == ["expiring 7200", "closed"]
    assert scene.decisions[-1].time_ms == T0 + DAY + 990


@pytest.mark.parametrize(
    ("answer", "is_unanswered"),
    [
        (None, True),
        (sent(HOUR), False),
        (sent(0), False),  # a send at the very time of the message comes after it
        (sent(-1), True),
        (sent(HOUR, done=True), False),
        (sent(HOUR, agent=False), True),
        (template(HOUR), True),
        (template(HOUR, agent=True), False),
        (echoed(HOUR), False),
        (echoed(0), False),
        (echoed(-1), True),
    ],
)
def test_a_warning_and_a_close_say_whether_the_last_message_is_unanswered(
    answer: Event | None, is_unanswered: bool
) -> None:
    """E3 S7 S8"""
    scene = Scene()
    scene.play(said(0))
    scene.play(*([answer] if answer is not None else []))
    scene.pass_until(DAY)
    *_, warning, close = scene.decisions
    assert isinstance(warning, Expiring)
    assert isinstance(close, Closed)
    assert warning.is_unanswered is close.is_unanswered is is_unanswered


def test_a_message_after_the_answer_is_unanswered_again() -> None:
    """E3"""
    scene = Scene(NO_WARNING)
    scene.play(said(0), sent(1), said(2))
    assert scene.window().is_unanswered
    scene.play(sent(2))
    assert not scene.window().is_unanswered


def test_a_refused_request_is_no_answer_and_a_refused_send_that_was_done_is() -> None:
    """E3 S1"""
    scene = Scene(NO_WARNING)
    scene.play(said(0), consent(1, "all", granted=False))
    assert scene.play(sent(2)) == ["rejected s1: opt-out"]
    assert scene.window().last_answer_at is None
    assert scene.play(sent(3, done=True)) == ["rejected s1: opt-out"]
    assert scene.window().last_answer_at == T0 + 3


def test_an_older_answer_changes_nothing_and_one_without_a_window_leaves_no_trace() -> None:
    """E3 W5"""
    scene = Scene(NO_WARNING)
    assert scene.changed(echoed(0)) == (set(), set())
    scene.play(said(1))
    assert scene.changed(echoed(5)) == ({KEY}, set())
    assert scene.changed(echoed(4), echoed(5)) == (set(), set())
    assert scene.window().last_answer_at == T0 + 5


def test_a_closed_window_notes_a_late_answer() -> None:
    """E3"""
    scene = Scene(NO_WARNING)
    scene.play(said(0), tick(DAY))
    assert scene.changed(echoed(HOUR)) == ({KEY}, set())
    assert scene.window().last_answer_at == T0 + HOUR


# ------------------------------------------------------------------------------------------------------------- restarts


def test_after_an_outage_each_end_comes_once_in_the_order_of_its_time() -> None:
    """W4 E1"""
    scene = Scene()
    keys = [f"w:1:{number}".encode() for number in range(20)]
    scene.play(*(said(i * 10 * MINUTE, key=key) for i, key in enumerate(keys)))
    scene.pass_until(22 * HOUR + 30 * MINUTE)
    before = len(scene.decisions)

    scene = scene.restarted()
    scene.pass_until(DAY + 2 * HOUR)
    ends = [(decision.time_ms, decision.key) for decision in scene.decisions if isinstance(decision, Closed)]
    assert ends == [(T0 + DAY + i * 10 * MINUTE, key) for i, key in enumerate(keys[:13])]
    warnings = sum(isinstance(decision, Expiring) for decision in scene.decisions)
    assert warnings == 20 - (before - 20)  # those that had come before the outage do not come again
    assert all(one.time_ms <= other.time_ms for one, other in pairwise(scene.decisions))


def test_what_was_due_at_the_committed_clock_has_fired() -> None:
    """E1: no mark is needed on a window."""
    scene = Scene()
    scene.play(said(0))
    scene.pass_until(22 * HOUR)
    assert scene.restarted().pass_until(DAY) == ["closed"]


def test_a_hundred_thousand_windows_that_end_in_one_second_all_end() -> None:
    """W4"""
    keys = [f"w:1:{number:06d}".encode() for number in range(100_000)]
    partition, effects = Partition(NO_WARNING), Effects()
    partition.apply([Message(key, T0 + i % 1000, "m", "text") for i, key in enumerate(keys)], effects)
    ends: list[tuple[int, bytes]] = []
    rounds = 0
    done = False
    while not done:
        effects = Effects()
        done = partition.advance(T0 + DAY + SECOND, effects)
        ends += [(decision.time_ms, decision.key) for decision in effects.outputs]
        rounds += 1
    assert ends == sorted((T0 + DAY + i % 1000, key) for i, key in enumerate(keys))
    assert rounds == 5  # 20,000 at a time
