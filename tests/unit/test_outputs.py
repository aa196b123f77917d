"""Decisions to CloudEvents: each kind holds to its schema, and every id, time and word is the contract's."""

import json
from typing import Any

import pytest

from processor.codec.inputs import InputDecoder
from processor.codec.outputs import HEADERS, TOPICS, OutputEncoder
from processor.codec.times import parse_time
from processor.contract import topics
from processor.core.decisions import Accepted, Closed, Decision, Expiring, Opened, Rejected
from processor.core.events import Send
from processor.core.policy import Policy
from processor.core.sending import REFUSALS
from tests.scene import DAY, HOUR, KEY, MINUTE, SECOND, T0, Scene, consent, echoed, said, sent, template, tick
from tests.unit.test_contract import failures

POLICY = Policy(name="2026-11")
ENCODER = OutputEncoder("acme", POLICY.version)
COMMON = {
    "channel": "whatsapp",
    "business_id": "100200300",
    "contact_id": "5511900010001",
    "policy": POLICY.version,
}
OPENED = "2026-11-22T12:00:00.000Z"
EXPIRES = "2026-11-23T12:00:00.000Z"


def encoded(decision: Decision, sequence: int = 7) -> dict[str, Any]:
    """Give the event, which holds to the schema of its topic."""
    event: dict[str, Any] = json.loads(ENCODER.encode(decision, sequence))
    assert failures(TOPICS[type(decision)], event) == set()
    return event


def request(value: bytes) -> Send:
    """Read a send as the worker does."""
    found = InputDecoder(0, 1, (), 65_536, check_keys=False).outbound(KEY, value, T0 + DAY)
    assert isinstance(found, Send)
    return found


def value_of(id_: str = "s1", **fields: Any) -> bytes:
    contact = {"business_id": "100200300", "contact_id": "5511900010001"}
    return json.dumps({"id": id_, "type": "text", **contact, "time": T0 + 5, **fields}).encode()


# --------------------------------------------------------------------------------------------------------- the envelope


def test_an_event_has_an_envelope_in_the_form_of_cloudevents() -> None:
    event = encoded(Opened(KEY, T0, T0 + DAY, "wamid.1", "text"), 42)
    data = event.pop("data")
    assert event == {
        "specversion": "1.0",
        "id": "whatsapp:100200300:5511900010001@1795348800000/opened",
        "source": "/janela/acme",
        "type": "janela.window.opened.v1",
        "subject": "whatsapp:100200300:5511900010001",
        "time": OPENED,
        "datacontenttype": "application/json",
        "sequence": "00000000000000000042",
    }
    assert data.items() >= COMMON.items()


@pytest.mark.parametrize("sequence", [1, 10**9, 10**20 - 1])
def test_the_sequence_is_text_of_twenty_digits(sequence: int) -> None:
    text = encoded(Opened(KEY, T0, T0 + DAY, "m", "text"), sequence)["sequence"]
    assert (len(text), int(text)) == (20, sequence)


def test_the_header_says_what_the_topics_say() -> None:
    content_types = {topic.value.content_type for topic in topics() if topic.role == "output"}
    assert content_types == {dict(HEADERS)["content-type"].decode()}


# -------------------------------------------------------------------------------------------------------------- windows


def test_an_opened_window_says_until_when_and_by_which_message() -> None:
    """W2"""
    event = encoded(Opened(KEY, T0, T0 + DAY, "wamid.1", "image"))
    assert event["data"] == COMMON | {
        "opened_at": OPENED,
        "expires_at": EXPIRES,
        "cause": {"id": "wamid.1", "type": "image"},
    }


def test_an_expiring_window_says_what_remains_and_whether_it_is_unanswered() -> None:
    """E1 E3"""
    due_ms = T0 + 22 * HOUR
    event = encoded(Expiring(KEY, due_ms, T0, T0 + DAY, 2 * HOUR, 2 * HOUR, is_unanswered=True, last_inbound_at=T0))
    assert event["id"] == "whatsapp:100200300:5511900010001@1795348800000/expiring/1795435200000/7200"
    assert (event["type"], event["time"]) == ("janela.window.expiring.v1", "2026-11-23T10:00:00.000Z")
    assert event["data"] == COMMON | {
        "opened_at": OPENED,
        "expires_at": EXPIRES,
        "threshold_seconds": 7200,
        "remaining_seconds": 7200,
        "unanswered": True,
        "last_inbound_at": OPENED,
    }


@pytest.mark.parametrize(("late", "remaining"), [(23 * HOUR, 3600), (23 * HOUR + 1, 3599), (DAY - 1, 0)])
def test_an_immediate_warning_says_what_really_remains_and_is_timed_by_its_deadline(late: int, remaining: int) -> None:
    """E1a"""
    scene = Scene()
    scene.play(tick(late), said(0))
    event = encoded(scene.decisions[-1])
    assert (event["data"]["threshold_seconds"], event["data"]["remaining_seconds"]) == (7200, remaining)
    assert event["time"] == "2026-11-23T10:00:00.000Z"


def test_a_closed_window_says_when_it_ended_and_why() -> None:
    """W4 E3"""
    event = encoded(Closed(KEY, T0 + DAY, T0, T0 + DAY, "expired", is_unanswered=False))
    assert event["id"] == "whatsapp:100200300:5511900010001@1795348800000/closed"
    assert (event["type"], event["time"]) == ("janela.window.closed.v1", EXPIRES)
    assert event["data"] == COMMON | {
        "opened_at": OPENED,
        "expires_at": EXPIRES,
        "closed_at": EXPIRES,
        "reason": "expired",
        "unanswered": False,
    }


# ------------------------------------------------------------------------------------------------------------- verdicts


def test_an_acceptance_in_the_window_says_until_when_it_is_valid() -> None:
    """S1"""
    send = request(value_of())
    event = encoded(Accepted(KEY, T0 + 5, send, "window-open", T0, T0 + DAY, T0 + DAY - MINUTE, None))
    assert event["id"] == "whatsapp:100200300:5511900010001/s1/accepted"
    assert (event["type"], event["time"]) == ("janela.send.accepted.v1", "2026-11-22T12:00:00.005Z")
    assert event["data"] == COMMON | {
        "send": json.loads(send.value),
        "window": {"opened_at": OPENED, "expires_at": EXPIRES},
        "reason": "window-open",
        "valid_until": "2026-11-23T11:59:00.000Z",
    }


def test_an_acceptance_outside_the_window_shows_none() -> None:
    """S2"""
    send = request(value_of(type="template", category="utility"))
    data = encoded(Accepted(KEY, T0 + 5, send, "template", None, None, None, None))["data"]
    assert (data["window"], data["reason"], data["valid_until"]) == (None, "template", None)
    assert "would_reject" not in data


@pytest.mark.parametrize("reason", REFUSALS)
def test_an_observed_acceptance_says_what_would_have_been_refused(reason: str) -> None:
    """S1 S4 S5"""
    send = request(value_of(type="template", category="marketing"))
    data = encoded(Accepted(KEY, T0 + 5, send, "template", None, None, None, reason))["data"]
    assert data["would_reject"] == {"reason": reason, "remedy": REFUSALS[reason][1]}


@pytest.mark.parametrize(
    "extra",
    [
        b"",
        b', "x": 1.0e0',
        b', "x" :\t[ ],  "text": {"body": "\\u00e9 \xc3\xa9 \\/ \xf0\x9f\x98\x80"}',
        b', "big": 123456789012345678901234567890, "tiny": 1e-400, "huge": 1E+400',
        b', "x": 1, "x": 2',
    ],
)
@pytest.mark.parametrize(("before", "after"), [(b"", b""), (b" \r\n\t", b"\n ")])
def test_the_send_is_spliced_in_byte_for_byte(extra: bytes, before: bytes, after: bytes) -> None:
    """Contract: the input's value, as it came, so that a number or a field that we do not know is not changed."""
    value = before + value_of()[:-1] + extra + b"}" + after
    written = ENCODER.encode(Accepted(KEY, T0 + 5, request(value), "window-open", T0, T0 + DAY, None, None), 1)
    assert b'"send":' + value + b',"window"' in written
    assert json.loads(written)["data"]["send"] == json.loads(value)


def test_a_rejection_shows_the_window_that_ended_and_the_senders_context() -> None:
    """S1"""
    context = b'{"ticket" : 7.0, "who":"Jos\\u00e9"}'
    value = value_of(intent="done")[:-1] + b', "context": ' + context + b"}"
    event = encoded(Rejected(KEY, T0 + 5, request(value), "window-closed", T0 - 2 * DAY, T0 - DAY, T0 - DAY))
    assert event["id"] == "whatsapp:100200300:5511900010001/s1/rejected"
    assert (event["type"], event["time"]) == ("janela.send.rejected.v1", "2026-11-22T12:00:00.005Z")
    assert event["data"] == COMMON | {
        "send": {
            "id": "s1",
            "type": "text",
            "category": "service",
            "time": "2026-11-22T12:00:00.005Z",
            "intent": "done",
            "context": {"ticket": 7.0, "who": "José"},
        },
        "reason": "window-closed",
        "provider_code": 131047,
        "remedy": "send-template",
        "window": {
            "opened_at": "2026-11-20T12:00:00.000Z",
            "expires_at": "2026-11-21T12:00:00.000Z",
            "closed_at": "2026-11-21T12:00:00.000Z",
            "closed_for_seconds": 86_400,
        },
    }
    assert b'"context":' + context + b"}" in ENCODER.encode(
        Rejected(KEY, T0 + 5, request(value), "no-window", None, None, None), 1
    )


def test_a_rejection_without_a_window_shows_none() -> None:
    """S1"""
    data = encoded(Rejected(KEY, T0 + 5, request(value_of()), "no-window", None, None, None))["data"]
    assert (data["window"], data["send"]["context"], data["send"]["intent"]) == (None, None, "request")


def test_a_rejection_while_the_window_is_open_shows_no_end() -> None:
    """S4"""
    window = encoded(Rejected(KEY, T0 + 5, request(value_of()), "opt-out", T0, T0 + DAY, None))["data"]["window"]
    assert window == {"opened_at": OPENED, "expires_at": EXPIRES, "closed_at": None, "closed_for_seconds": None}


@pytest.mark.parametrize(("after_ms", "seconds"), [(0, 0), (999, 0), (1000, 1), (-1, -1), (-1000, -1), (-1001, -2)])
def test_for_how_long_it_is_closed_is_rounded_down(after_ms: int, seconds: int) -> None:
    """S8: below zero for a late send from before the end."""
    closed_at = T0 + 5 - after_ms
    rejected = Rejected(KEY, T0 + 5, request(value_of()), "opt-out", closed_at - DAY, closed_at, closed_at)
    assert encoded(rejected)["data"]["window"]["closed_for_seconds"] == seconds


@pytest.mark.parametrize(("reason", "answer"), REFUSALS.items())
def test_a_rejection_bears_the_providers_code_and_what_to_do(reason: str, answer: tuple[int | None, str]) -> None:
    """S1 S4 S5"""
    window = (None, None, None) if reason == "no-window" else (T0 - DAY, T0, T0)
    data = encoded(Rejected(KEY, T0 + 5, request(value_of()), reason, *window))["data"]
    assert (data["provider_code"], data["remedy"]) == answer


def test_a_cut_time_is_the_one_that_a_verdict_tells() -> None:
    """S8"""
    found = InputDecoder(0, 1, (), 65_536).outbound(KEY, value_of(time=T0 + 5), T0)
    assert isinstance(found, Send)
    event = encoded(Rejected(KEY, found.event_time_ms, found, "no-window", None, None, None))
    assert event["time"] == event["data"]["send"]["time"] == OPENED


# ------------------------------------------------------------------------------------------------------------------ ids


def test_ids_are_a_function_of_what_happened() -> None:
    """W10"""

    def story() -> list[str]:
        scene = Scene()
        scene.play(said(0), sent(1), sent(1), consent(2, "all", granted=False), sent(3), echoed(4), said(DAY))
        scene.pass_until(5 * DAY)
        return [json.loads(ENCODER.encode(decision, 1))["id"] for decision in scene.decisions]

    ids = story()
    assert ids == story()
    key = KEY.decode()
    assert ids == [
        f"{key}@{T0}/opened",
        f"{key}/s1/accepted",
        f"{key}/s1/accepted",  # a send that is put on the topic twice gives the same id twice
        f"{key}/s1/rejected",
        f"{key}@{T0}/expiring/{T0 + DAY}/7200",
        f"{key}@{T0}/closed",
        f"{key}@{T0 + DAY}/opened",
        f"{key}@{T0 + DAY}/expiring/{T0 + 2 * DAY}/7200",
        f"{key}@{T0 + DAY}/closed",
    ]


@pytest.mark.parametrize("id_", ["a/b@c:d", 'quote " and \\ back', "é😀\u2028", "x" * 256, "\x7f\x01"])
def test_an_id_may_hold_anything(id_: str) -> None:
    send = request(value_of(id_))
    for decision in (
        Accepted(KEY, T0 + 5, send, "window-open", T0, T0 + DAY, None, None),
        Rejected(KEY, T0 + 5, send, "no-window", None, None, None),
        Opened(KEY, T0, T0 + DAY, id_, "text"),
    ):
        assert json.dumps(id_)[1:-1] in json.dumps(encoded(decision))


def test_all_that_a_busy_partition_says_holds_to_the_schemas() -> None:
    """W2 W4 S1 S2 S4 E1"""
    for policy in (
        Policy(),
        Policy(enforcement="observe"),
        Policy(direct_send=("*",), marketing_needs_opt_in="always"),
    ):
        scene = Scene(policy)
        for hour in range(0, 200, 7):
            now = hour * HOUR
            answers = [sent(now + 1), template(now + 2, "marketing"), template(now + 3, "utility"), echoed(now + 4)]
            scene.play(said(now) if hour % 5 else tick(now), *answers, sent(now + SECOND, "text", "utility"))
            if hour % 3 == 0:
                scene.play(consent(now + 5, "all" if hour % 2 else "marketing", granted=hour % 4 == 0))
        for sequence, decision in enumerate(scene.decisions):
            if isinstance(decision, Accepted | Rejected):
                decision.send.value = value_of(type=decision.send.type, category=decision.send.category)
            encoded(decision, sequence)


def test_the_latest_time_that_is_read_can_still_be_written() -> None:
    """W2 S1: a window of a week, kept for three, from the last moment of the year 9998."""
    latest = parse_time("9998-12-31T23:59:59.999Z")
    assert latest is not None
    ENCODER.encode(Opened(KEY, latest, latest + 7 * DAY, "m", "text"), 1)
    ENCODER.encode(Closed(KEY, latest + 21 * DAY, latest, latest + 7 * DAY, "expired", is_unanswered=True), 1)
