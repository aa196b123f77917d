"""The straight-line model against cases worked by hand: who referees the processor must be right himself.

Every expected outcome is written out; none is computed by the code under test. Times are given as hours,
minutes and seconds after T0, a Sunday noon.
"""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from processor.audit.model import DeadLetter, Result, run
from processor.audit.partitioner import murmur2, partition_of
from processor.audit.policy import ModelPolicy
from processor.audit.records import Record, TopicKind, rfc3339, unix_ms, written_bytes

T0 = 1_795_348_800_000  # 2026-11-22T12:00:00.000Z
SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

KEY = "whatsapp:100200300:5511999990000"
OTHER_KEY = "whatsapp:100200300:5511999990001"


# --- Speaking of records ----------------------------------------------------------------------------------


def words(text: str) -> list[str]:
    return text.split()


def record(
    kind: TopicKind,
    body: Mapping[str, Any] | bytes | None,
    *,
    key: bytes | None = KEY.encode(),
    timestamp_ms: int = T0,
    partition: int = 0,
    headers: tuple[tuple[str, bytes | None], ...] = (),
) -> Record:
    value = json.dumps(body).encode() if isinstance(body, Mapping) else body
    return Record(kind, partition, -1, timestamp_ms, key, value, headers)


def said(after: int, type_: str = "text", *, id_: str = "m1", key: str = KEY, **fields: Any) -> Record:
    """Return a record of the customer's side that happened `after` ms after T0."""
    return _event("inbound", after, type_, id_, key, fields)


def sent(after: int, type_: str = "text", *, id_: str = "s1", key: str = KEY, **fields: Any) -> Record:
    """Return a record of the business's side that happened `after` ms after T0."""
    return _event("outbound", after, type_, id_, key, fields)


def time_passes(until: int) -> Record:
    """Return a record that moves the clock and touches no window: another contact's system message."""
    return said(until, "system", id_="tick", key=OTHER_KEY)


def _event(kind: TopicKind, after: int, type_: str, id_: str, key: str, fields: dict[str, Any]) -> Record:
    channel, business_id, contact_id = key.split(":")
    body = {
        "id": id_,
        "type": type_,
        "channel": channel,
        "business_id": business_id,
        "contact_id": contact_id,
        "time": str(T0 + after),
    }
    return record(kind, body | fields, key=key.encode(), timestamp_ms=T0 + after)


def play(*records: Record, policy: ModelPolicy | None = None, partitions: int = 1) -> Result:
    """Put the records on their topics in the order given, and run the model over them."""
    topics: dict[TopicKind, list[Record]] = {"inbound": [], "outbound": []}
    for each in records:
        topic = topics[each.topic_kind]
        topic.append(each._replace(offset=len(topic)))
    return run(topics["inbound"], topics["outbound"], policy or ModelPolicy(), partitions)


def ids(result: Result) -> list[str]:
    """Return the ids of all outputs in order, without the first contact's key in front."""
    return [output.id.removeprefix(KEY) for output in result.outputs]


def named(result: Result, topic: str) -> list[dict[str, Any]]:
    """Return the data of the events of one output topic."""
    return [output.event["data"] for output in result.outputs if output.topic == topic]


def opened(after: int = 0) -> str:
    return f"@{T0 + after}/opened"


def closed(after: int = 0) -> str:
    return f"@{T0 + after}/closed"


def expiring(end: int = DAY, *, seconds: int = 7200, opened_at: int = 0) -> str:
    return f"@{T0 + opened_at}/expiring/{T0 + end}/{seconds}"


def accepted(id_: str = "s1") -> str:
    return f"/{id_}/accepted"


def rejected(id_: str = "s1") -> str:
    return f"/{id_}/rejected"


def open_window(opened_at: int, expires_at: int, last_inbound_at: int) -> dict[str, Any]:
    return {
        "status": "open",
        "opened_at": T0 + opened_at,
        "expires_at": T0 + expires_at,
        "closed_at": None,
        "close_reason": None,
        "last_inbound_at": T0 + last_inbound_at,
        "last_answer_at": None,
    }


# --- The window -------------------------------------------------------------------------------------------


def test_two_numbers_of_one_business_have_a_window_each() -> None:
    """W1"""
    other_number = "whatsapp:100200301:5511999990000"
    result = play(said(0), sent(1, key=other_number), said(2, key=other_number))
    assert [output.id for output in result.outputs] == [
        f"{KEY}@1795348800000/opened",
        f"{other_number}/s1/rejected",
        f"{other_number}@1795348800002/opened",
    ]


def test_the_same_contact_on_two_channels_has_a_window_each() -> None:
    """W1"""
    result = play(said(0), sent(1, key="telegram:100200300:5511999990000"))
    assert [output.event["data"].get("reason") for output in result.outputs] == [None, "no-window"]


def test_a_channel_may_have_a_window_of_its_own_length() -> None:
    """W1 W2"""
    short = ModelPolicy(window_ms_by_channel={"telegram": HOUR}, thresholds_ms=())
    result = play(said(0, key="telegram:7:8"), said(0), time_passes(2 * HOUR), policy=short)
    assert [output.id for output in result.outputs] == [
        f"telegram:7:8@{T0}/opened",
        f"{KEY}@{T0}/opened",
        f"telegram:7:8@{T0}/closed",
    ]


def test_a_message_opens_a_window_for_24_hours() -> None:
    """W2"""
    result = play(said(0, "image", id_="wamid.1"))
    assert [tuple(output) for output in result.outputs] == [
        (
            "window-opened",
            "whatsapp:100200300:5511999990000@1795348800000/opened",
            "whatsapp:100200300:5511999990000",
            {
                "id": "whatsapp:100200300:5511999990000@1795348800000/opened",
                "type": "janela.window.opened.v1",
                "subject": "whatsapp:100200300:5511999990000",
                "time": "2026-11-22T12:00:00.000Z",
                "data": {
                    "channel": "whatsapp",
                    "business_id": "100200300",
                    "contact_id": "5511999990000",
                    "opened_at": "2026-11-22T12:00:00.000Z",
                    "expires_at": "2026-11-23T12:00:00.000Z",
                    "cause": {"id": "wamid.1", "type": "image"},
                },
            },
        )
    ]
    assert result.windows == {KEY: open_window(0, 24 * HOUR, 0)}


def test_a_further_message_extends_and_announces_nothing() -> None:
    """W3"""
    result = play(said(0), said(20 * HOUR, id_="m2"))
    assert ids(result) == [opened()]
    assert result.windows == {KEY: open_window(0, 44 * HOUR, 20 * HOUR)}


def test_an_older_message_of_an_open_window_takes_nothing_back() -> None:
    """W3"""
    result = play(said(5 * HOUR), said(2 * HOUR, id_="m2"))
    assert ids(result) == [opened(5 * HOUR)]
    assert result.windows == {KEY: open_window(5 * HOUR, 29 * HOUR, 5 * HOUR)}


def test_a_window_ends_at_24_hours_exactly() -> None:
    """W4 S1"""
    result = play(
        said(0),
        sent(86_399 * SECOND, id_="s1"),
        sent(86_399_999, id_="s2"),
        sent(86_400 * SECOND, id_="s3"),
    )
    assert ids(result) == [opened(), expiring(), accepted("s1"), accepted("s2"), closed(), rejected("s3")]


def test_a_message_at_the_very_end_opens_a_new_window_after_the_close() -> None:
    """W4"""
    result = play(said(0), said(DAY, id_="m2"))
    assert ids(result) == [opened(), expiring(), closed(), opened(DAY)]
    assert result.windows == {KEY: open_window(DAY, 2 * DAY, DAY)}


@pytest.mark.parametrize(
    ("time", "end"),
    [
        ("2026-10-25T00:30:00+02:00", "2026-10-25T22:30:00.000Z"),  # Berlin's clocks go back that night
        ("2027-03-14T01:30:00-05:00", "2027-03-15T06:30:00.000Z"),  # New York's go forward
        ("2028-02-28T23:00:00Z", "2028-02-29T23:00:00.000Z"),  # a leap day
        ("2027-02-28T23:00:00Z", "2027-03-01T23:00:00.000Z"),
        ("2026-12-31T23:59:59.999Z", "2027-01-01T23:59:59.999Z"),
    ],
)
def test_24_hours_know_no_calendar(time: str, end: str) -> None:
    """W4"""
    result = play(said(0, time=time)._replace(timestamp_ms=T0 + 1000 * DAY))
    assert named(result, "window-opened")[0]["expires_at"] == end


@pytest.mark.parametrize(
    ("type_", "fields"),
    [
        ("text", {"intent": "done"}),
        ("text", {}),
        ("template", {"category": "utility"}),
        ("template", {"category": "utility", "intent": "done", "origin": "agent"}),
        ("echo", {}),
        ("read", {}),
        ("call", {}),
        ("poll", {}),
    ],
)
def test_nothing_that_the_business_sends_opens_or_extends(type_: str, fields: dict[str, Any]) -> None:
    """W5"""
    never_opened = play(sent(0, type_, **fields))
    assert never_opened.windows == {}
    assert named(never_opened, "window-opened") == []

    not_extended = play(said(0), sent(HOUR, type_, **fields)).windows[KEY]
    assert (not_extended["expires_at"], not_extended["last_inbound_at"]) == (T0 + DAY, T0)


@pytest.mark.parametrize(
    ("fields", "opens"),
    [
        ({}, True),
        ({"direction": "user"}, True),
        ({"direction": "user", "outcome": "missed"}, True),
        ({"direction": "user", "outcome": "rejected"}, True),
        ({"direction": "business", "outcome": "accepted"}, True),
        ({"direction": "business", "outcome": "missed"}, False),
        ({"direction": "business", "outcome": "rejected"}, False),
        ({"direction": "business"}, False),
    ],
)
def test_a_call_opens_by_who_made_it_and_what_came_of_it(fields: dict[str, Any], opens: bool) -> None:
    """W2 W6"""
    result = play(said(0, "call", **fields))
    assert ids(result) == ([opened()] if opens else [])
    assert result.counts.without_effect == (0 if opens else 1)


@pytest.mark.parametrize(
    "type_", words("text image video audio voice document sticker location contacts order button interactive")
)
def test_each_kind_of_message_opens(type_: str) -> None:
    """W2 W7"""
    assert ids(play(said(0, type_))) == [opened()]


@pytest.mark.parametrize("type_", ["reaction", "edit", "revoke", "history", "system", "contact_changed"])
def test_what_is_no_message_opens_nothing(type_: str) -> None:
    """W7 W8"""
    result = play(said(0, type_))
    assert result.outputs == []
    assert result.windows == {}
    assert (result.counts.without_effect, result.counts.applied) == (1, 1)


def test_a_reaction_opens_where_the_policy_says_so() -> None:
    """W7"""
    assert ids(play(said(0, "reaction"), policy=ModelPolicy(reactions_open=True))) == [opened()]


@pytest.mark.parametrize(
    ("fields", "unknown_types_open", "opens"),
    [
        ({"error_code": 131051}, True, True),
        ({"error_code": "131051"}, False, True),
        ({"error_code": 131060}, True, False),
        ({"error_code": "131060"}, True, False),
        ({"error_code": 131999}, True, True),
        ({"error_code": 131999}, False, False),
        ({"error_code": "what"}, True, True),
        ({}, True, True),
        ({}, False, False),
    ],
)
def test_an_unsupported_message_opens_by_its_code(
    fields: dict[str, Any], unknown_types_open: bool, opens: bool
) -> None:
    """W7"""
    result = play(said(0, "unsupported", **fields), policy=ModelPolicy(unknown_types_open=unknown_types_open))
    assert ids(result) == ([opened()] if opens else [])


@pytest.mark.parametrize(
    ("fields", "opens"),
    [({"response_source": "user_action"}, True), ({"response_source": "automatic"}, False), ({}, False)],
)
def test_a_reply_about_calls_opens_only_by_the_users_own_hand(fields: dict[str, Any], opens: bool) -> None:
    """W7"""
    assert ids(play(said(0, "call_permission_reply", **fields))) == ([opened()] if opens else [])


@pytest.mark.parametrize(
    "type_",
    words("status echo template user_preferences user_id_update errors account_update request_welcome"),
)
def test_what_belongs_to_the_other_side_is_counted_and_opens_nothing(type_: str) -> None:
    """W8"""
    result = play(said(0, type_))
    assert (result.outputs, result.windows, result.dead_letters) == ([], {}, [])
    assert result.counts.misplaced == 1


@pytest.mark.parametrize(
    "type_",
    words("button order voice unsupported edit revoke history system consent contact_changed")
    + words("call_permission_reply read typing"),
)
def test_what_the_business_can_not_send_is_counted_and_not_judged(type_: str) -> None:
    result = play(sent(0, type_))
    assert (result.outputs, result.dead_letters) == ([], [])
    assert result.counts.misplaced == 1


@pytest.mark.parametrize("type_", ["call", "status"])
def test_a_business_call_and_a_status_are_read_and_change_nothing_for_now(type_: str) -> None:
    result = play(said(0), sent(HOUR, type_, status="failed", error_code=131047))
    assert ids(result) == [opened()]
    assert result.windows == {KEY: open_window(0, DAY, 0)}
    assert result.counts.without_effect == 1


def test_a_message_a_whole_window_behind_the_clock_is_late() -> None:
    """W9"""
    result = play(time_passes(DAY), said(0))
    assert result.outputs == []
    assert result.windows == {}
    assert (result.counts.late, result.counts.applied) == (1, 2)


def test_a_message_that_is_late_by_less_opens_with_what_is_left() -> None:
    """W9 E1a"""
    result = play(time_passes(DAY - 1), said(0))
    assert ids(result) == [opened(), expiring()]
    assert result.windows == {KEY: open_window(0, DAY, 0)}
    assert result.counts.late == 0


def test_a_late_message_extends_an_open_window_by_what_is_left() -> None:
    """W3 W9"""
    result = play(said(0), time_passes(20 * HOUR), said(HOUR, id_="m2"))
    assert result.windows == {KEY: open_window(0, 25 * HOUR, HOUR)}


def test_a_late_message_changes_nothing_of_an_open_window() -> None:
    """W9"""
    result = play(said(DAY), said(0, id_="m2"))
    assert result.windows == {KEY: open_window(DAY, 2 * DAY, DAY)}
    assert result.counts.late == 1


def test_a_message_that_does_not_open_is_never_late() -> None:
    """W9"""
    assert play(time_passes(DAY), said(0, "system")).counts.late == 0


def test_the_same_message_twice_changes_nothing() -> None:
    """W10"""
    once, twice = play(said(0)), play(said(0), said(0))
    assert twice.outputs == once.outputs
    assert twice.windows == once.windows


def test_a_redelivery_three_days_late_changes_nothing() -> None:
    """W9 W10"""
    result = play(said(0), time_passes(3 * DAY), said(0))
    assert ids(result) == [opened(), expiring(), closed()]
    assert result.counts.late == 1
    assert result.windows[KEY]["status"] == "closed"


def test_a_duplicate_after_the_close_stays_closed() -> None:
    """W10 W11"""
    # By expiry alone a window ends a whole length after its last message, so a message that is no newer is
    # always late by W9 too. That it is no newer matters once a window can end before its time (W12).
    result = play(said(0), said(HOUR, id_="m2"), time_passes(25 * HOUR), said(HOUR, id_="m2"), said(0))
    assert ids(result) == [opened(), expiring(25 * HOUR), closed()]
    assert result.windows[KEY]["status"] == "closed"
    assert result.counts.late == 2


def test_a_late_message_newer_than_the_last_opens_a_new_window_after_the_close() -> None:
    """W11"""
    result = play(said(0), time_passes(DAY + HOUR), said(2 * HOUR, id_="m2"))
    assert ids(result) == [
        opened(),
        expiring(),
        closed(),
        opened(2 * HOUR),
        expiring(26 * HOUR, opened_at=2 * HOUR),
    ]
    assert result.windows == {KEY: open_window(2 * HOUR, 26 * HOUR, 2 * HOUR)}


def test_a_new_window_keeps_when_the_business_answered_last() -> None:
    """W11 E3"""
    result = play(
        said(0),
        sent(3 * HOUR),
        time_passes(DAY + HOUR),
        said(2 * HOUR, id_="m2"),
        policy=ModelPolicy(thresholds_ms=()),
    )
    assert result.windows[KEY]["last_answer_at"] == T0 + 3 * HOUR
    assert result.windows[KEY]["last_inbound_at"] == T0 + 2 * HOUR


def test_an_unknown_type_of_the_customer_counts_as_a_message() -> None:
    """W13a"""
    result = play(said(0, "hologram"))
    assert named(result, "window-opened")[0]["cause"] == {"id": "m1", "type": "hologram"}
    assert result.counts.unknown == 1


def test_an_unknown_type_opens_nothing_where_the_policy_says_so() -> None:
    """W13a"""
    result = play(said(0, "hologram"), policy=ModelPolicy(unknown_types_open=False))
    assert result.outputs == []
    assert result.counts.unknown == 1


# --- Sending ----------------------------------------------------------------------------------------------


def test_any_type_goes_while_the_window_is_open() -> None:
    """S1"""
    types = words("text image video audio document sticker location contacts interactive reaction poll")
    result = play(said(0), *[sent(HOUR, type_, id_=type_) for type_ in types])
    assert ids(result) == [opened(), *[accepted(type_) for type_ in types]]
    assert {event["reason"] for event in named(result, "send-accepted")} == {"window-open"}


@pytest.mark.parametrize(
    "type_", words("text image video audio document sticker location contacts interactive reaction poll")
)
def test_free_form_is_refused_where_no_window_was_ever_known(type_: str) -> None:
    """S1"""
    result = play(sent(0, type_, context={"ticket": 7}, extra=[1]))
    assert [tuple(output) for output in result.outputs] == [
        (
            "send-rejected",
            "whatsapp:100200300:5511999990000/s1/rejected",
            "whatsapp:100200300:5511999990000",
            {
                "id": "whatsapp:100200300:5511999990000/s1/rejected",
                "type": "janela.send.rejected.v1",
                "subject": "whatsapp:100200300:5511999990000",
                "time": "2026-11-22T12:00:00.000Z",
                "data": {
                    "channel": "whatsapp",
                    "business_id": "100200300",
                    "contact_id": "5511999990000",
                    "send": {
                        "id": "s1",
                        "type": type_,
                        "category": "service",
                        "time": "2026-11-22T12:00:00.000Z",
                        "intent": "request",
                        "context": {"ticket": 7},
                    },
                    "reason": "no-window",
                    "provider_code": 131047,
                    "remedy": "send-template",
                    "window": None,
                },
            },
        )
    ]


def test_free_form_is_refused_after_the_close_and_told_for_how_long() -> None:
    """S1 W4"""
    [refusal] = named(play(said(0), sent(25 * HOUR + 1_999)), "send-rejected")
    assert (refusal["reason"], refusal["provider_code"], refusal["remedy"]) == (
        "window-closed",
        131047,
        "send-template",
    )
    assert refusal["send"]["context"] is None
    assert refusal["window"] == {
        "opened_at": "2026-11-22T12:00:00.000Z",
        "expires_at": "2026-11-23T12:00:00.000Z",
        "closed_at": "2026-11-23T12:00:00.000Z",
        "closed_for_seconds": 3601,
    }


def test_an_accepted_send_is_spliced_in_as_it_came() -> None:
    """S1"""
    result = play(said(0), sent(HOUR, text={"body": "olá"}, context={"a": 1}))
    assert result.outputs[1].event == {
        "id": "whatsapp:100200300:5511999990000/s1/accepted",
        "type": "janela.send.accepted.v1",
        "subject": "whatsapp:100200300:5511999990000",
        "time": "2026-11-22T13:00:00.000Z",
        "data": {
            "channel": "whatsapp",
            "business_id": "100200300",
            "contact_id": "5511999990000",
            "send": {
                "id": "s1",
                "type": "text",
                "channel": "whatsapp",
                "business_id": "100200300",
                "contact_id": "5511999990000",
                "time": "1795352400000",
                "text": {"body": "olá"},
                "context": {"a": 1},
            },
            "window": {
                "opened_at": "2026-11-22T12:00:00.000Z",
                "expires_at": "2026-11-23T12:00:00.000Z",
            },
            "reason": "window-open",
            "valid_until": "2026-11-23T11:59:00.000Z",
        },
    }


def test_a_template_goes_at_any_time() -> None:
    """S2"""
    never = play(sent(0, "template", category="utility"))
    inside = play(said(0), sent(HOUR, "template", category="UTILITY"))
    after = play(said(0), sent(2 * DAY, "template", category="Authentication"))
    verdicts = [named(result, "send-accepted")[0] for result in (never, inside, after)]
    assert [verdict["reason"] for verdict in verdicts] == ["template", "window-open", "template"]
    assert [verdict["window"] is None for verdict in verdicts] == [True, False, True]
    assert [verdict["valid_until"] for verdict in verdicts] == [None, None, None]


@pytest.mark.parametrize(
    ("type_", "category", "named_numbers", "verdict"),
    [
        ("text", "utility", {"100200300"}, "direct-send"),
        ("interactive", "AUTHENTICATION", {"*"}, "direct-send"),
        ("text", "utility", set(), "no-window"),
        ("text", "utility", {"100200301"}, "no-window"),
        ("text", "service", {"*"}, "no-window"),
        ("text", "marketing", {"*"}, "no-window"),
        ("text", "promotional", {"*"}, "no-window"),
        ("audio", "utility", {"*"}, "no-window"),
        ("sticker", "utility", {"*"}, "no-window"),
        ("poll", "utility", {"*"}, "no-window"),
    ],
)
def test_direct_send_goes_outside_the_window_for_numbers_that_the_policy_names(
    type_: str, category: str, named_numbers: set[str], verdict: str
) -> None:
    """S3"""
    policy = ModelPolicy(direct_send=frozenset(named_numbers))
    [output] = play(sent(0, type_, category=category), policy=policy).outputs
    assert output.event["data"]["reason"] == verdict
    assert output.event["data"].get("valid_until") is None


def test_direct_send_inside_the_window_rests_on_no_window() -> None:
    """S3"""
    policy = ModelPolicy(direct_send=frozenset({"*"}))
    [verdict] = named(play(said(0), sent(HOUR, category="utility"), policy=policy), "send-accepted")
    assert (verdict["reason"], verdict["valid_until"]) == ("window-open", None)


def consent(after: int, scope: str, value: str) -> Record:
    return said(after, "consent", id_=f"{scope}-{value}-{after}", scope=scope, value=value)


@pytest.mark.parametrize(
    ("type_", "category", "refused"),
    [
        ("text", None, "opt-out"),
        ("text", "utility", "opt-out"),
        ("text", "authentication", None),
        ("template", "utility", "opt-out"),
        ("template", "marketing", "opt-out"),
        ("template", "authentication", None),
    ],
)
def test_all_revoked_refuses_everything_but_authentication(
    type_: str, category: str | None, refused: str | None
) -> None:
    """S4"""
    fields = {} if category is None else {"category": category}
    result = play(said(0), consent(1, "all", "revoked"), sent(2, type_, **fields))
    verdict = result.outputs[-1].event["data"]
    if refused is None:
        assert verdict["reason"] == "window-open"
    else:
        assert (verdict["reason"], verdict["provider_code"], verdict["remedy"]) == (refused, None, "none")
        assert (verdict["window"]["closed_at"], verdict["window"]["closed_for_seconds"]) == (None, None)


@pytest.mark.parametrize(
    ("type_", "category", "refused"),
    [
        ("text", "marketing", True),
        ("text", "MARKETING", True),
        ("template", "marketing", True),
        ("template", "seasonal", True),  # an unknown category of a template is marketing
        ("template", "utility", False),
        ("text", "seasonal", False),  # of anything else it is service
        ("text", "service", False),
    ],
)
def test_marketing_revoked_refuses_marketing_inside_the_window_too(type_: str, category: str, refused: bool) -> None:
    """S4"""
    result = play(said(0), consent(1, "marketing", "revoked"), sent(2, type_, category=category))
    verdict = result.outputs[-1].event["data"]
    if refused:
        assert (verdict["reason"], verdict["provider_code"]) == ("marketing-opt-out", 131050)
        assert (verdict["remedy"], verdict["send"]["category"]) == ("none", "marketing")
    else:
        assert verdict["reason"] == "window-open"


def test_marketing_revoked_is_told_before_the_closed_window() -> None:
    """S4 S1"""
    [verdict] = named(play(consent(0, "marketing", "revoked"), sent(1, category="marketing")), "send-rejected")
    assert verdict["reason"] == "marketing-opt-out"


@pytest.mark.parametrize(
    ("words", "register"),
    [
        ([(1, "revoked"), (2, "granted")], ("granted", 2)),
        ([(2, "granted"), (1, "revoked")], ("granted", 2)),  # out of order
        ([(2, "revoked"), (1, "granted")], ("revoked", 2)),
        ([(1, "granted"), (1, "revoked")], ("revoked", 1)),
        ([(1, "revoked"), (1, "granted")], ("revoked", 1)),
        ([(1, "granted"), (2, "granted")], ("granted", 2)),
    ],
)
def test_the_newest_consent_counts_by_its_own_time(words: list[tuple[int, str]], register: tuple[str, int]) -> None:
    """S4"""
    result = play(*[consent(after, "marketing", value) for after, value in words])
    value, at = register
    assert result.consents == {KEY: {"marketing": {"value": value, "at": T0 + at}, "all": None}}
    assert result.windows == {}


def test_a_grant_changes_only_its_own_register() -> None:
    """S4"""
    result = play(said(0), consent(1, "all", "revoked"), consent(2, "marketing", "granted"), sent(3, id_="s1"))
    assert ids(result) == [opened(), rejected()]
    assert result.consents[KEY] == {
        "marketing": {"value": "granted", "at": T0 + 2},
        "all": {"value": "revoked", "at": T0 + 1},
    }


def test_consent_is_judged_as_last_known_and_not_as_of_the_sends_time() -> None:
    """S4"""
    opt_out = consent(2 * HOUR, "all", "revoked")
    assert ids(play(said(0), opt_out, sent(HOUR))) == [opened(), accepted()]
    # Behind a later record of its own topic, the same send is judged after the opt-out, and by it.
    behind = sent(3 * HOUR, "call", id_="moves the clock")
    assert ids(play(said(0), opt_out, behind, sent(HOUR))) == [opened(), rejected()]


def test_consent_is_applied_however_late() -> None:
    """S4 W9"""
    result = play(time_passes(30 * DAY), consent(0, "all", "revoked"), sent(30 * DAY))
    assert named(result, "send-rejected")[0]["reason"] == "opt-out"
    assert result.counts.late == 0


@pytest.mark.parametrize(
    ("switch", "inside", "outside"),
    [
        ("off", "window-open", "template"),
        ("outside-window", "window-open", "no-consent"),
        ("always", "no-consent", "no-consent"),
    ],
)
def test_marketing_needs_a_grant_by_policy(switch: Any, inside: str, outside: str) -> None:
    """S5"""
    policy = ModelPolicy(marketing_needs_opt_in=switch)
    template = sent(HOUR, "template", category="marketing")
    assert play(said(0), template, policy=policy).outputs[-1].event["data"]["reason"] == inside
    [output] = play(template, policy=policy).outputs
    verdict = output.event["data"]
    assert verdict["reason"] == outside
    if outside == "no-consent":
        assert (verdict["provider_code"], verdict["remedy"]) == (None, "ask-consent")


def test_a_grant_in_the_marketing_register_lets_marketing_go() -> None:
    """S5"""
    policy = ModelPolicy(marketing_needs_opt_in="always")
    template = sent(2, "template", category="marketing")
    assert ids(play(consent(1, "marketing", "granted"), template, policy=policy)) == [accepted()]
    assert ids(play(consent(1, "all", "granted"), template, policy=policy)) == [rejected()]


def test_free_form_marketing_outside_is_told_of_the_window_first() -> None:
    """S1 S5"""
    [verdict] = named(play(sent(0, category="marketing")), "send-rejected")
    assert verdict["reason"] == "no-window"
    policy = ModelPolicy(marketing_needs_opt_in="always")
    [verdict] = named(play(said(0), sent(1, category="marketing"), policy=policy), "send-rejected")
    assert verdict["reason"] == "no-consent"


def test_a_marketing_template_without_a_grant_rests_on_the_window() -> None:
    """S5"""
    template = sent(HOUR, "template", category="marketing")
    [resting] = named(play(said(0), template), "send-accepted")
    [granted] = named(play(said(0), consent(1, "marketing", "granted"), template), "send-accepted")
    assert (resting["valid_until"], granted["valid_until"]) == ("2026-11-23T11:59:00.000Z", None)


def test_consent_outlives_the_window() -> None:
    """S5"""
    result = play(
        said(0),
        consent(1, "marketing", "granted"),
        time_passes(300 * DAY),
        sent(300 * DAY, "template", category="marketing"),
    )
    assert ids(result) == [opened(), expiring(), closed(), accepted()]
    assert result.windows == {}


def test_an_echo_is_never_judged() -> None:
    """S7 W5"""
    result = play(consent(0, "all", "revoked"), sent(1, "echo"))
    assert result.outputs == []


def test_a_first_contact_by_a_send_is_judged_without_a_window() -> None:
    """S1"""
    assert ids(play(sent(0), said(1))) == [rejected(), opened(1)]


def test_a_late_send_is_judged_by_its_own_time_against_the_last_window() -> None:
    """S8"""
    result = play(
        said(0),
        sent(DAY + HOUR, "call", id_="moves the clock"),
        sent(DAY - 1, id_="s1"),
        sent(DAY, id_="s2"),
        sent(-30 * DAY, id_="s3"),
    )
    assert ids(result) == [opened(), expiring(), closed(), accepted("s1"), rejected("s2"), accepted("s3")]
    [before, _] = named(result, "send-accepted")
    assert before["window"] == {
        "opened_at": "2026-11-22T12:00:00.000Z",
        "expires_at": "2026-11-23T12:00:00.000Z",
    }
    assert before["valid_until"] == "2026-11-23T11:59:00.000Z"


def test_a_refusal_before_the_close_is_told_a_negative_time_since() -> None:
    """S4 S8"""
    result = play(
        said(0),
        consent(1, "all", "revoked"),
        sent(2 * DAY, "call", id_="moves the clock"),
        sent(DAY - 1_500),
    )
    [verdict] = named(result, "send-rejected")
    assert verdict["reason"] == "opt-out"
    assert verdict["window"]["closed_for_seconds"] == -2


def test_a_send_at_the_very_time_of_the_message_comes_after_it() -> None:
    """S8"""
    assert ids(play(sent(0), said(0))) == [opened(), accepted()]


def test_two_messages_and_a_send_in_the_same_second() -> None:
    """W3 S8 E2"""
    result = play(said(0), said(400, id_="m2"), sent(200), time_passes(2 * DAY))
    assert ids(result) == [opened(), accepted(), expiring(DAY + 400), closed()]


# --- Warnings ---------------------------------------------------------------------------------------------


def test_each_threshold_and_the_end_are_announced_once() -> None:
    """E1"""
    three = ModelPolicy(thresholds_ms=(4 * HOUR, HOUR, 15 * MINUTE))
    result = play(said(0), time_passes(20 * HOUR), time_passes(21 * HOUR), time_passes(2 * DAY), policy=three)
    assert ids(result) == [
        opened(),
        expiring(seconds=14400),
        expiring(seconds=3600),
        expiring(seconds=900),
        closed(),
    ]
    assert [event["remaining_seconds"] for event in named(result, "window-expiring")] == [14400, 3600, 900]


def test_a_warning_comes_when_the_clock_is_at_its_deadline_and_not_before() -> None:
    """E1"""
    assert ids(play(said(0), time_passes(22 * HOUR - 1))) == [opened()]
    result = play(said(0), time_passes(22 * HOUR))
    assert [tuple(output) for output in result.outputs[1:]] == [
        (
            "window-expiring",
            "whatsapp:100200300:5511999990000@1795348800000/expiring/1795435200000/7200",
            "whatsapp:100200300:5511999990000",
            {
                "id": "whatsapp:100200300:5511999990000@1795348800000/expiring/1795435200000/7200",
                "type": "janela.window.expiring.v1",
                "subject": "whatsapp:100200300:5511999990000",
                "time": "2026-11-23T10:00:00.000Z",
                "data": {
                    "channel": "whatsapp",
                    "business_id": "100200300",
                    "contact_id": "5511999990000",
                    "opened_at": "2026-11-22T12:00:00.000Z",
                    "expires_at": "2026-11-23T12:00:00.000Z",
                    "threshold_seconds": 7200,
                    "remaining_seconds": 7200,
                    "unanswered": True,
                    "last_inbound_at": "2026-11-22T12:00:00.000Z",
                },
            },
        )
    ]


def test_a_close_says_when_and_why() -> None:
    """E1 W4"""
    result = play(said(0), time_passes(30 * HOUR))
    assert result.outputs[-1].event == {
        "id": "whatsapp:100200300:5511999990000@1795348800000/closed",
        "type": "janela.window.closed.v1",
        "subject": "whatsapp:100200300:5511999990000",
        "time": "2026-11-23T12:00:00.000Z",
        "data": {
            "channel": "whatsapp",
            "business_id": "100200300",
            "contact_id": "5511999990000",
            "opened_at": "2026-11-22T12:00:00.000Z",
            "expires_at": "2026-11-23T12:00:00.000Z",
            "closed_at": "2026-11-23T12:00:00.000Z",
            "reason": "expired",
            "unanswered": True,
        },
    }
    assert result.windows[KEY] == {
        "status": "closed",
        "opened_at": T0,
        "expires_at": T0 + DAY,
        "closed_at": T0 + DAY,
        "close_reason": "expired",
        "last_inbound_at": T0,
        "last_answer_at": None,
    }


def test_an_extension_before_the_warning_silences_it_until_the_new_end_is_near() -> None:
    """E1"""
    result = play(said(0), said(20 * HOUR, id_="m2"), time_passes(41 * HOUR), time_passes(2 * DAY))
    assert ids(result) == [opened(), expiring(44 * HOUR), closed()]


def test_an_extension_after_the_warning_makes_it_due_again() -> None:
    """E1"""
    result = play(said(0), said(23 * HOUR, id_="m2"), time_passes(3 * DAY))
    assert ids(result) == [opened(), expiring(), expiring(47 * HOUR), closed()]


def test_a_message_at_the_deadline_of_a_warning_comes_after_it() -> None:
    """E1"""
    result = play(said(0), said(22 * HOUR, id_="m2"), time_passes(3 * DAY))
    assert ids(result) == [opened(), expiring(), expiring(46 * HOUR), closed()]


def test_nothing_fires_after_the_last_event() -> None:
    """E1"""
    assert ids(play(said(0))) == [opened()]


def test_what_falls_due_fires_in_order_of_its_time_and_then_of_its_key() -> None:
    """E1"""
    a, b, c = (f"whatsapp:100200300:{contact}" for contact in ("a", "b", "c"))
    result = play(said(0, key=c), said(0, key=a), said(HOUR, key=b), time_passes(30 * HOUR))
    assert [output.id for output in result.outputs[3:]] == [
        f"{a}@{T0}/expiring/{T0 + DAY}/7200",
        f"{c}@{T0}/expiring/{T0 + DAY}/7200",
        f"{b}@{T0 + HOUR}/expiring/{T0 + 25 * HOUR}/7200",
        f"{a}@{T0}/closed",
        f"{c}@{T0}/closed",
        f"{b}@{T0 + HOUR}/closed",
    ]


def test_of_the_thresholds_past_at_the_opening_the_smallest_fires_at_once() -> None:
    """E1a"""
    three = ModelPolicy(thresholds_ms=(4 * HOUR, HOUR, 15 * MINUTE))
    # 23 h 20 min 0.3 s behind the clock: 39 min 59.7 s are left.
    result = play(time_passes(23 * HOUR + 20 * MINUTE + 300), said(0), time_passes(2 * DAY), policy=three)
    assert ids(result) == [opened(), expiring(seconds=3600), expiring(seconds=900), closed()]
    [at_once, in_time] = named(result, "window-expiring")
    assert (at_once["threshold_seconds"], at_once["remaining_seconds"]) == (3600, 2399)
    assert (in_time["threshold_seconds"], in_time["remaining_seconds"]) == (900, 900)
    assert result.outputs[1].event["time"] == "2026-11-23T11:00:00.000Z"  # the deadline itself


def test_a_threshold_that_is_due_at_the_clock_is_past() -> None:
    """E1a"""
    result = play(time_passes(22 * HOUR), said(0))
    assert ids(result) == [opened(), expiring()]
    assert named(result, "window-expiring")[0]["remaining_seconds"] == 7200


def test_an_extension_whose_new_warning_is_not_after_the_clock_fires_nothing() -> None:
    """E1a"""
    result = play(said(0), time_passes(23 * HOUR), said(HOUR, id_="m2"), time_passes(2 * DAY))
    # The new end is at 25 h, its warning was due at 23 h: the clock is there already.
    assert ids(result) == [opened(), expiring(), closed()]
    one_later = play(said(0), time_passes(23 * HOUR), said(HOUR + 1, id_="m2"), time_passes(2 * DAY))
    assert ids(one_later) == [opened(), expiring(), expiring(25 * HOUR + 1), closed()]


def test_a_burst_makes_one_warning() -> None:
    """E2"""
    result = play(*[said(ms, id_=f"m{ms}") for ms in range(0, 1000, 100)], time_passes(23 * HOUR))
    assert ids(result) == [opened(), expiring(DAY + 900)]


@pytest.mark.parametrize(
    ("answer", "unanswered"),
    [
        (sent(HOUR), False),
        (sent(0), False),  # at the message's very time
        (sent(HOUR, origin="automation"), True),
        (sent(HOUR, intent="done"), False),
        (sent(HOUR, intent="done", origin="automation"), True),
        (sent(HOUR, "template", category="utility"), True),  # a template is automation by default
        (sent(HOUR, "template", category="utility", origin="agent"), False),
        (sent(HOUR, "echo"), False),
        (sent(HOUR, "call"), True),
        (sent(HOUR, "typing"), True),
        (sent(HOUR, category="marketing", intent="request"), True),  # refused, see the policy below
        (sent(HOUR, category="marketing", intent="done"), False),  # refused, and yet it went
    ],
)
def test_a_warning_says_whether_the_message_is_unanswered(answer: Record, unanswered: bool) -> None:
    """E3"""
    policy = ModelPolicy(marketing_needs_opt_in="always")
    result = play(said(0), answer, time_passes(2 * DAY), policy=policy)
    [warning] = named(result, "window-expiring")
    [close] = named(result, "window-closed")
    assert (warning["unanswered"], close["unanswered"]) == (unanswered, unanswered)


def test_a_further_message_is_unanswered_again() -> None:
    """E3"""
    result = play(said(0), sent(HOUR), said(HOUR + 1, id_="m2"), time_passes(24 * HOUR))
    assert named(result, "window-expiring")[0]["unanswered"] is True


def test_a_reaction_that_does_not_open_leaves_the_answer_standing() -> None:
    """E3 W7"""
    result = play(said(0), sent(HOUR), said(2 * HOUR, "reaction"), time_passes(22 * HOUR))
    [warning] = named(result, "window-expiring")
    assert (warning["unanswered"], warning["last_inbound_at"]) == (False, "2026-11-22T12:00:00.000Z")


def test_an_answer_before_any_window_leaves_no_trace() -> None:
    """E3"""
    done = sent(1, "template", category="utility", origin="agent", intent="done")
    result = play(sent(0, "echo"), done, said(2))
    assert result.windows == {KEY: open_window(2, DAY + 2, 2)}


def test_an_answer_after_the_close_is_kept_and_an_older_one_takes_nothing_back() -> None:
    """E3"""
    result = play(said(0), sent(25 * HOUR, "echo"), sent(HOUR, "echo"))
    assert result.windows[KEY]["last_answer_at"] == T0 + 25 * HOUR


def test_the_policy_may_warn_of_unanswered_windows_only() -> None:
    """E3"""
    policy = ModelPolicy(expiring_unanswered_only=True)
    answered = play(said(0), sent(HOUR), time_passes(2 * DAY), policy=policy)
    unanswered = play(said(0), time_passes(2 * DAY), policy=policy)
    assert ids(answered) == [opened(), accepted(), closed()]
    assert ids(unanswered) == [opened(), expiring(), closed()]


# --- The contract: intent, observe, effects_from, retention -----------------------------------------------


def test_a_done_send_is_told_only_where_it_would_have_been_refused() -> None:
    """S1"""
    assert ids(play(said(0), sent(1, intent="done"))) == [opened()]
    [verdict] = named(play(sent(0, intent="done")), "send-rejected")
    assert (verdict["send"]["intent"], verdict["reason"]) == ("done", "no-window")


def test_accepted_sends_can_be_kept_quiet_and_still_answer() -> None:
    """E3"""
    result = play(said(0), sent(1), sent(DAY, id_="s2"), policy=ModelPolicy(emit_accepted=False))
    assert ids(result) == [opened(), expiring(), closed(), rejected("s2")]
    assert result.windows[KEY]["last_answer_at"] == T0 + 1


def test_observe_accepts_all_and_says_what_it_would_have_refused() -> None:
    """S1 S4"""
    observe = ModelPolicy(enforcement="observe")
    result = play(
        sent(0, id_="s1"),
        said(1),
        sent(2, id_="s2"),
        consent(3, "all", "revoked"),
        sent(4, id_="s3"),
        policy=observe,
    )
    assert ids(result) == [accepted("s1"), opened(1), accepted("s2"), accepted("s3")]
    [without, plain, opted_out] = named(result, "send-accepted")
    assert (without["reason"], without["window"], without["valid_until"]) == (None, None, None)
    assert without["would_reject"] == {"reason": "no-window", "remedy": "send-template"}
    assert plain["reason"] == "window-open"
    assert "would_reject" not in plain
    assert (opted_out["reason"], opted_out["valid_until"]) == ("window-open", None)
    assert opted_out["would_reject"] == {"reason": "opt-out", "remedy": "none"}
    assert opted_out["window"] == {
        "opened_at": "2026-11-22T12:00:00.001Z",
        "expires_at": "2026-11-23T12:00:00.001Z",
    }
    assert result.windows[KEY]["last_answer_at"] == T0 + 4


def test_observe_says_nothing_of_a_done_send() -> None:
    """S1"""
    assert ids(play(sent(0, intent="done"), policy=ModelPolicy(enforcement="observe"))) == []


def test_what_became_true_before_effects_from_changes_state_alone() -> None:
    """E1"""
    policy = ModelPolicy(effects_from_ms=T0 + DAY)
    result = play(said(0), sent(HOUR), said(DAY, id_="m2"), sent(DAY), policy=policy)
    assert ids(result) == [closed(), opened(DAY), accepted()]  # the warning's time was 22 h
    assert result.windows[KEY]["opened_at"] == T0 + DAY


def test_an_immediate_warning_is_measured_by_its_own_time() -> None:
    """E1a"""
    policy = ModelPolicy(effects_from_ms=T0 + 23 * HOUR)
    assert play(time_passes(23 * HOUR), said(0), policy=policy).outputs == []


def test_a_closed_window_is_forgotten_72_hours_after_its_end() -> None:
    """S1"""
    reasons = {}
    for after in (4 * DAY - 1, 4 * DAY):
        [verdict] = named(play(said(0), sent(after)), "send-rejected")
        reasons[after] = (verdict["reason"], (verdict["window"] or {}).get("closed_for_seconds"))
    assert reasons == {4 * DAY - 1: ("window-closed", 259_199), 4 * DAY: ("no-window", None)}


def test_a_closed_window_is_remembered_for_its_own_length_at_least() -> None:
    policy = ModelPolicy(closed_retention_ms=HOUR)
    assert play(said(0), time_passes(2 * DAY - 1), policy=policy).windows.keys() == {KEY}
    assert play(said(0), time_passes(2 * DAY), policy=policy).windows == {}


def test_a_reopened_window_is_not_forgotten() -> None:
    """W2"""
    result = play(said(0), said(2 * DAY, id_="m2"), time_passes(4 * DAY))
    assert ids(result)[-2:] == [expiring(3 * DAY, opened_at=2 * DAY), closed(2 * DAY)]
    assert result.windows[KEY]["status"] == "closed"
    assert play(said(0), said(2 * DAY, id_="m2"), time_passes(6 * DAY)).windows == {}


# --- The merge and the clock ------------------------------------------------------------------------------


def test_the_two_topics_are_taken_by_time_and_inbound_first_where_equal() -> None:
    """S8"""
    result = play(sent(5, id_="s1"), sent(15, id_="s2"), said(5), said(10, id_="m2"))
    assert ids(result) == [opened(5), accepted("s1"), accepted("s2")]


def test_a_topic_keeps_its_own_order_where_its_times_go_back() -> None:
    """S8"""
    # The send at 20 stands before the one at 5 on its topic, so it goes second of all, after the message.
    result = play(sent(20, id_="s1"), sent(5, id_="s2"), said(10), said(30, id_="m2"))
    assert ids(result) == [opened(10), accepted("s1"), accepted("s2")]


def test_a_misplaced_record_takes_part_in_the_merge_and_moves_the_clock() -> None:
    """W9"""
    result = play(sent(DAY, "typing"), sent(0), said(0))
    # The message comes first; the misplaced record ends its window; the send is judged by its own time.
    assert ids(result) == [opened(), expiring(), closed(), accepted()]
    assert result.clock_ms == T0 + DAY


def test_a_dead_letter_takes_no_part_in_the_merge() -> None:
    """W9"""
    poison = record("outbound", {"id": "x", "type": "text", "time": str(T0 + DAY)}, timestamp_ms=T0 + DAY)
    result = play(poison, sent(1), said(0))
    assert ids(result) == [opened(), accepted()]
    assert result.clock_ms == T0 + 1
    assert result.dead_letters == [DeadLetter("messages.outbound", 0, "missing-field")]


def test_no_records_at_all_say_nothing() -> None:
    assert play() == Result()


# --- Dead letters -----------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "id": "m1",
    "type": "text",
    "business_id": "100200300",
    "contact_id": "5511999990000",
    "time": "2026-11-22T12:00:00Z",
}


def without(*names: str, **changes: Any) -> dict[str, Any]:
    return {name: value for name, value in (GOOD | changes).items() if name not in names}


def reason(kind: TopicKind, body: Mapping[str, Any] | bytes | None, **of_record: Any) -> str | None:
    """Return the reason why one record is a dead letter, or None where it is applied."""
    result = play(record(kind, body, **of_record))
    assert result.counts.records == result.counts.applied + result.counts.dead_letters == 1
    return result.dead_letters[0].reason if result.dead_letters else None


def test_the_smallest_good_record_is_read() -> None:
    assert reason("inbound", GOOD) is None
    assert reason("outbound", GOOD) is None


def test_unknown_fields_are_carried_whatever_they_hold() -> None:
    body = b'{"x": [1e999, null, {"y": %s}], ' % (b"9" * 5000) + json.dumps(GOOD).encode()[1:]
    assert reason("inbound", body) is None


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"{",
        "olá".encode("latin-1"),
        b'{"id": "\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"x": NaN}',
        b'{"x": -Infinity}',
        b'{"x": 01}',
        b"{'x': 1}",
        b'{"x": "\n"}',
        b'{"x": 1} {"x": 2}',
        b"[" * 30_000 + b"]" * 30_000,
    ],
)
def test_what_is_not_json_is_a_dead_letter(value: bytes | None) -> None:
    assert reason("inbound", value) == "not-json"


@pytest.mark.parametrize("value", [b"[]", b"null", b"7", b'"text"', b"true"])
def test_what_is_not_an_object_is_a_bad_field(value: bytes) -> None:
    assert reason("inbound", value) == "bad-field"


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        ("inbound", without("id"), "missing-field"),
        ("inbound", without("type"), "missing-field"),
        ("inbound", without("business_id"), "missing-field"),
        ("inbound", without("contact_id"), "missing-field"),
        ("outbound", without("time"), "missing-field"),
        ("outbound", without("id", type="status"), None),
        ("outbound", without(type="template"), "missing-field"),
        ("outbound", without(type="template", category="newsletter"), None),
        ("inbound", without(type="template"), None),  # misplaced: its own fields are nobody's
        ("inbound", without(type="consent", scope="all"), "missing-field"),
        ("inbound", without(type="consent", value="granted"), "missing-field"),
        ("outbound", without(type="consent"), None),
    ],
)
def test_what_is_required_must_be_there(kind: TopicKind, body: dict[str, Any], expected: str | None) -> None:
    assert reason(kind, body) == expected


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("inbound", {"id": ""}),
        ("inbound", {"id": "x" * 257}),
        ("inbound", {"id": 7}),
        ("inbound", {"id": None}),
        ("inbound", {"type": 7}),
        ("inbound", {"type": ["text"]}),
        ("inbound", {"type": True}),
        ("inbound", {"type": ""}),
        ("inbound", {"channel": "WhatsApp"}),
        ("inbound", {"channel": ""}),
        ("inbound", {"channel": "x" * 33}),
        ("inbound", {"business_id": 100200300}),
        ("inbound", {"business_id": "1:2"}),
        ("inbound", {"contact_id": "+5511999990000"}),
        ("inbound", {"contact_id": "5511999990000\n"}),
        ("inbound", {"contact_id": "x" * 161}),
        ("inbound", {"contact_id": ""}),
        ("inbound", {"contact_id": "\u0665\u0665"}),  # digits, but not those
        ("inbound", {"type": "call", "direction": "sideways"}),
        ("inbound", {"type": "consent", "scope": "news", "value": "granted"}),
        ("inbound", {"type": "consent", "scope": "all", "value": "yes"}),
        ("inbound", {"type": "consent", "scope": "all", "value": True}),
        ("inbound", {"type": "unsupported", "error_code": True}),
        ("inbound", {"type": "unsupported", "error_code": 131051.0}),
        ("outbound", {"intent": "maybe"}),
        ("outbound", {"origin": "robot"}),
        ("outbound", {"type": "poll", "origin": "robot"}),
        ("outbound", {"type": "template", "category": 7}),
        ("outbound", {"category": ["utility"]}),
        ("outbound", {"context": "ticket 7"}),
        ("outbound", {"context": [1]}),
    ],
)
def test_a_field_that_is_not_as_the_contract_says_is_a_bad_field(kind: TopicKind, changes: dict[str, Any]) -> None:
    assert reason(kind, GOOD | changes) == "bad-field"


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("inbound", {"direction": 7, "scope": 7, "context": 7, "intent": 7}),
        ("outbound", {"type": "echo", "intent": 7, "category": 7, "context": 7}),
        ("outbound", {"type": "status", "intent": 7}),
        ("outbound", {"direction": 7, "scope": 7}),
    ],
)
def test_a_field_that_the_type_does_not_have_is_carried(kind: TopicKind, changes: dict[str, Any]) -> None:
    assert reason(kind, GOOD | changes) is None


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("inbound", {"channel": None}),
        ("inbound", {"type": "call", "direction": None, "outcome": None}),
        ("inbound", {"type": "unsupported", "error_code": None}),
        ("outbound", {"intent": None, "origin": None, "category": None, "context": None}),
    ],
)
def test_an_optional_field_that_is_null_is_absent(kind: TopicKind, changes: dict[str, Any]) -> None:
    absent = {name: value for name, value in (GOOD | changes).items() if value is not None}
    assert reason(kind, GOOD | changes) is None
    assert ids(play(record(kind, GOOD | changes))) == ids(play(record(kind, absent)))


def test_an_id_may_have_up_to_256_characters_of_any_kind() -> None:
    assert reason("inbound", GOOD | {"id": "ã" * 256}) is None
    assert reason("inbound", GOOD | {"id": " "}) is None


def test_a_context_may_have_1024_bytes_as_written() -> None:
    def with_context(context: str) -> bytes:
        return (json.dumps(GOOD)[:-1] + f', "context" : {context} , "after": 1}}').encode()

    assert reason("outbound", with_context('{"a": "' + "x" * 1015 + '"}')) is None
    assert reason("outbound", with_context('{"a": "' + "x" * 1016 + '"}')) == "bad-field"
    assert reason("outbound", with_context('{"a": "' + "ã" * 507 + '"}')) is None
    assert reason("outbound", with_context('{"a": "' + "ã" * 508 + '"}')) == "bad-field"
    assert reason("outbound", with_context('{"a":' + " " * 1100 + "1}")) == "bad-field"


def test_the_written_size_is_that_of_the_top_level_field() -> None:
    assert written_bytes(' { "b" : {"context": 12345}, "context":{ } }', "context") == 3
    assert written_bytes('{"context":{"a":1},"context":{}}', "context") == 2


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2026-11-22T18:47:19.000Z", 1795373239000),
        ("2026-11-22T18:47:19Z", 1795373239000),
        ("2026-11-22t18:47:19z", 1795373239000),
        ("2026-11-22 18:47:19Z", 1795373239000),
        ("2026-11-22T15:47:19-03:00", 1795373239000),
        ("2026-11-23T00:17:19+05:30", 1795373239000),
        ("2026-11-22T18:47:19.1Z", 1795373239100),
        ("2026-11-22T18:47:19.123999999999Z", 1795373239123),
        ("1970-01-01T00:00:00Z", 0),
        ("1795373239", 1795373239000),
        (1795373239, 1795373239000),
        ("1795373239123", 1795373239123),
        (1795373239123, 1795373239123),
        ("0000000001", 1000),
        ("2026-11-22T18:47:19", None),  # no zone
        ("2026-11-22", None),
        ("2026-02-30T00:00:00Z", None),
        ("2026-11-22T24:00:00Z", None),
        ("2026-11-22T18:47:60Z", None),
        ("2026-11-22T18:47:19.Z", None),
        ("2026-11-22T18:47:19+0300", None),
        ("2026-11-22T18:47:19+24:00", None),
        ("2026-11-22T18:47Z", None),
        ("1969-12-31T23:59:59.999Z", None),
        ("1970-01-01T00:00:00+00:01", None),
        ("0000-01-01T00:00:00Z", None),
        ("0", None),
        (0, None),
        (-1795373239, None),
        ("-1795373239", None),
        ("17953732391", None),
        (179537323912, None),
        ("179537323912a", None),
        ("\uff11\uff17\uff19\uff15\uff13\uff17\uff13\uff12\uff13\uff19", None),
        (" 1795373239", None),
        ("1795373239\n", None),
        (1795373239.0, None),
        (True, None),
        (None, None),
        ("", None),
        ([1795373239], None),
    ],
)
def test_a_time_is_written_as_the_contract_says_or_not_at_all(written: object, expected: int | None) -> None:
    assert unix_ms(written) == expected
    if expected is None:
        assert reason("inbound", GOOD | {"time": written}) == "bad-time"


def test_a_time_is_written_out_in_milliseconds_utc() -> None:
    assert rfc3339(1795373239007) == "2026-11-22T18:47:19.007Z"
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"


@pytest.mark.parametrize("key", [None, b"", b"whatsapp:100200300:5511999990001", KEY.upper().encode(), b"\xff"])
def test_a_key_that_is_not_the_bodys_is_wrong(key: bytes | None) -> None:
    """W1"""
    assert reason("inbound", GOOD, key=key) == "wrong-key"


@pytest.mark.parametrize(
    ("key", "signed_hash"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_hash_is_kafkas(key: bytes, signed_hash: int) -> None:
    # The values are those of Apache Kafka's own test of its hash.
    assert murmur2(key) == signed_hash % 2**32


def test_a_record_on_a_partition_where_its_key_does_not_belong_is_refused() -> None:
    assert partition_of(KEY.encode(), 12) == 6
    here = play(said(0)._replace(partition=6), partitions=12)
    there = play(said(0)._replace(partition=5), partitions=12)
    assert ids(here) == [opened()]
    assert there.dead_letters == [DeadLetter("messages.inbound", 0, "wrong-partition")]


def test_without_the_key_check_the_window_is_the_bodys() -> None:
    """W1"""
    off = ModelPolicy(key_check=False)
    result = play(record("inbound", GOOD, key=None), record("outbound", GOOD, key=b"?", partition=3), policy=off)
    assert [output.id for output in result.outputs] == [f"{KEY}@{T0}/opened", f"{KEY}/m1/accepted"]


def test_a_time_a_little_ahead_of_the_record_is_cut_and_more_is_refused() -> None:
    """W9"""
    five = 5 * MINUTE
    ahead = play(said(five)._replace(timestamp_ms=T0))
    assert ids(ahead) == [opened(0)]
    assert ahead.clock_ms == T0
    assert reason("inbound", GOOD, timestamp_ms=T0 - five) is None
    assert reason("inbound", GOOD, timestamp_ms=T0 - five - 1) == "future-time"
    assert reason("outbound", GOOD, timestamp_ms=T0 - five - 1) == "future-time"
    assert reason("inbound", GOOD | {"time": "2099-01-01T00:00:00Z"}) == "future-time"


def test_a_cut_time_is_the_one_that_a_verdict_tells() -> None:
    result = play(sent(MINUTE)._replace(timestamp_ms=T0))
    assert result.outputs[0].event["time"] == "2026-11-22T12:00:00.000Z"
    assert named(result, "send-rejected")[0]["send"]["time"] == "2026-11-22T12:00:00.000Z"


def test_a_consent_is_cut_however_far_ahead_it_is() -> None:
    """S4"""
    result = play(consent(80 * 365 * DAY, "all", "revoked")._replace(timestamp_ms=T0))
    assert result.consents[KEY]["all"] == {"value": "revoked", "at": T0}
    assert result.clock_ms == 0


def test_a_record_may_have_64_kib_with_key_and_headers() -> None:
    headers = (("trace", b"0123456789"), ("empty", None))
    room = 65_536 - len(KEY) - len("trace") - 10 - len("empty") - len(json.dumps(GOOD | {"x": ""}))
    assert reason("inbound", GOOD | {"x": "y" * room}, headers=headers) is None
    assert reason("inbound", GOOD | {"x": "y" * (room + 1)}, headers=headers) == "too-large"


@pytest.mark.parametrize(
    ("expected", "body", "of_record"),
    [
        ("too-large", b"{" * 70_000, {"key": None}),
        ("not-json", b"{", {"key": None}),
        ("missing-field", without("contact_id", id=7, time="never"), {"key": None}),
        ("missing-field", without("time", type=7), {"key": None}),
        ("bad-field", without(id=7, time="never"), {"key": None}),
        ("bad-time", without(time="never"), {"key": None}),
        ("wrong-key", without(time="2099-01-01T00:00:00Z"), {"key": None, "partition": 1}),
        ("wrong-partition", without(time="2099-01-01T00:00:00Z"), {"partition": 1}),
        ("future-time", without(time="2099-01-01T00:00:00Z"), {}),
    ],
)
def test_the_first_reason_that_applies_is_told(
    expected: str, body: dict[str, Any] | bytes, of_record: dict[str, Any]
) -> None:
    assert reason("inbound", body, **of_record) == expected


def test_a_poison_record_among_good_ones_stops_nothing() -> None:
    good = [said(ms, id_=f"m{ms}") for ms in range(999)]
    result = play(*good[:500], record("inbound", b"\x00"), *good[500:], sent(1000))
    assert ids(result) == [opened(), accepted()]
    assert result.dead_letters == [DeadLetter("messages.inbound", 500, "not-json")]
    assert (result.counts.records, result.counts.applied) == (1001, 1000)
