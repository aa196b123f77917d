"""Records of the inputs to events or dead letters: the contract's examples, each boundary, both roads."""

import json
import random
from typing import Any

import pytest

from processor.codec.inputs import CONTEXT_BYTES_MAX, FUTURE_TOLERANCE_MS, DeadLetter, Headers, InputDecoder
from processor.codec.keys import partition_of
from processor.contract import closed_sets
from processor.core.events import (
    FREE_FORM_TYPES,
    MISPLACED_INBOUND_TYPES,
    MISPLACED_OUTBOUND_TYPES,
    OPENING_TYPES,
    SILENT_INBOUND_TYPES,
    SILENT_OUTBOUND_TYPES,
    Call,
    CallPermissionReply,
    Consent,
    DoubtfulMessage,
    Echo,
    Event,
    Message,
    Noted,
    Send,
    Unsupported,
)
from tests.examples import INPUTS, PARTITIONS, RECORD_BYTES_MAX, InputExample, input_examples

T = 1_795_373_239_000  # 2026-11-22T18:47:19.000Z
BUSINESS, CONTACT = "106540352242922", "5511900010001"
KEY = f"whatsapp:{BUSINESS}:{CONTACT}".encode()
HOME = partition_of(KEY, PARTITIONS)


def body(**fields: Any) -> dict[str, Any]:
    """Give a good record's fields; a field that is `...` is left out."""
    common = {"id": "m1", "type": "text", "business_id": BUSINESS, "contact_id": CONTACT, "time": T}
    return {name: value for name, value in (common | fields).items() if value is not ...}


def decoder(
    partition: int = HOME, known: frozenset[bytes] = frozenset(), bytes_max: int = RECORD_BYTES_MAX, check: bool = True
) -> InputDecoder:
    return InputDecoder(partition, PARTITIONS, known, bytes_max, check)


def inbound(value: Any, key: bytes | None = KEY, timestamp_ms: int = T, headers: Headers = ()) -> Event | DeadLetter:
    return decoder().inbound(key, raw(value), timestamp_ms, headers)


def outbound(value: Any, key: bytes | None = KEY, timestamp_ms: int = T, headers: Headers = ()) -> Event | DeadLetter:
    return decoder().outbound(key, raw(value), timestamp_ms, headers)


def raw(value: Any) -> bytes | None:
    return json.dumps(value).encode() if isinstance(value, dict) else value


def utf8(**fields: Any) -> bytes:
    """Give a good record's value with its letters as they are, not escaped."""
    return json.dumps(body(**fields), ensure_ascii=False).encode()


def reason(found: Event | DeadLetter) -> str | None:
    return found.reason if isinstance(found, DeadLetter) else None


def decoded(example: InputExample) -> Event | DeadLetter:
    to_event = decoder(example.partition)
    decode = to_event.inbound if example.event == "inbound" else to_event.outbound
    return decode(example.key, example.value, example.timestamp_ms, example.headers)


# ------------------------------------------------------------------------------------------------------------- examples


def _class_of(event: str, type_: str) -> type[Event]:
    """Say what the contract's tables make of a type."""
    if event == "inbound":
        fields_of_their_own: dict[str, type[Event]] = {
            "call": Call,
            "unsupported": Unsupported,
            "call_permission_reply": CallPermissionReply,
            "consent": Consent,
        }
        if type_ in MISPLACED_INBOUND_TYPES | SILENT_INBOUND_TYPES:
            return Noted
        return Message if type_ in OPENING_TYPES else fields_of_their_own.get(type_, DoubtfulMessage)
    if type_ in MISPLACED_OUTBOUND_TYPES | SILENT_OUTBOUND_TYPES:
        return Noted
    return Echo if type_ == "echo" else Send


@pytest.mark.parametrize(
    "example", [each for name in INPUTS for each in input_examples(name, "good")], ids=lambda each: each.name
)
def test_a_good_example_becomes_the_event_of_its_type_at_its_time(example: InputExample) -> None:
    """W1 W2 W8"""
    found = decoded(example)
    assert isinstance(found, Event), found
    fields = json.loads(example.value or b"")
    assert type(found) is _class_of(example.event, fields["type"])
    at_ms = found.at_ms if isinstance(found, Consent) else found.event_time_ms
    assert (at_ms, found.key) == (example.event_time_ms, example.key)
    for name in ("id", "type"):
        if name in found.__struct_fields__:
            assert getattr(found, name) == fields[name]


@pytest.mark.parametrize(
    "example", [each for name in INPUTS for each in input_examples(name, "bad")], ids=lambda each: each.name
)
def test_a_bad_example_becomes_a_dead_letter_of_its_reason(example: InputExample) -> None:
    found = decoded(example)
    assert isinstance(found, DeadLetter), found
    assert found.reason == example.reason
    assert found.message


# -------------------------------------------------------------------------------------------------- what an event bears


@pytest.mark.parametrize(
    ("fields", "event"),
    [
        ({"type": "image"}, Message(KEY, T, "m1", "image")),
        ({"type": "reaction"}, DoubtfulMessage(KEY, T, "m1", "reaction")),
        ({"type": "hologram"}, DoubtfulMessage(KEY, T, "m1", "hologram")),
        ({"type": "call"}, Call(KEY, T, "m1", "call", "user", "")),
        ({"type": "call", "direction": None, "outcome": None}, Call(KEY, T, "m1", "call", "user", "")),
        (
            {"type": "call", "direction": "business", "outcome": "accepted"},
            Call(KEY, T, "m1", "call", "business", "accepted"),
        ),
        ({"type": "unsupported"}, Unsupported(KEY, T, "m1", "unsupported", "")),
        ({"type": "unsupported", "error_code": 131051}, Unsupported(KEY, T, "m1", "unsupported", "131051")),
        ({"type": "unsupported", "error_code": "131060"}, Unsupported(KEY, T, "m1", "unsupported", "131060")),
        (
            {"type": "call_permission_reply", "response_source": "automatic"},
            CallPermissionReply(KEY, T, "m1", "call_permission_reply", "automatic"),
        ),
        ({"type": "consent", "scope": "all", "value": "granted"}, Consent(KEY, T, "all", granted=True, at_ms=T)),
        (
            {"type": "consent", "scope": "marketing", "value": "revoked"},
            Consent(KEY, T, "marketing", granted=False, at_ms=T),
        ),
        ({"type": "history"}, Noted(KEY, T, "silent")),
        ({"type": "contact_changed", "previous_contact_id": "1"}, Noted(KEY, T, "silent")),
        ({"type": "echo"}, Noted(KEY, T, "misplaced")),
        ({"type": "status", "id": ...}, Noted(KEY, T, "misplaced")),
    ],
)
def test_an_inbound_event_bears_what_the_rules_ask_for(fields: dict[str, Any], event: Event) -> None:
    """W2 W6 W7 W8 W13a S4"""
    assert inbound(body(**fields)) == event


@pytest.mark.parametrize(
    ("fields", "category", "is_done", "by_agent"),
    [
        ({}, "service", False, True),
        ({"intent": "done"}, "service", True, True),
        ({"intent": "request", "origin": "automation"}, "service", False, False),
        ({"category": "Utility", "origin": "agent"}, "utility", False, True),
        ({"type": "hologram", "intent": "done"}, "service", True, True),
        ({"type": "template", "category": "utility"}, "utility", False, False),
        ({"type": "template", "category": "news", "origin": "agent", "intent": "done"}, "marketing", True, True),
        ({"intent": None, "origin": None, "category": None, "context": None}, "service", False, True),
        ({"type": "template", "category": "AUTHENTICATION", "origin": None}, "authentication", False, False),
    ],
)
def test_a_send_bears_how_it_is_judged_and_its_value_as_it_came(
    fields: dict[str, Any], category: str, is_done: bool, by_agent: bool
) -> None:
    """S1 S2 S3 S4"""
    value = raw(body(**fields))
    assert value is not None
    expected = Send(KEY, T, "m1", fields.get("type", "text"), category, is_done, by_agent, None, value)
    assert outbound(value) == expected


def test_a_context_is_taken_byte_for_byte() -> None:
    context = b'{ "ticket" : 7.0e1, "who":"Jos\\u00e9",  "z":[ ] }'
    value = raw(body())
    assert value is not None
    found = outbound(value[:-1] + b', "context" : ' + context + b" }")
    assert isinstance(found, Send)
    assert found.context == context


@pytest.mark.parametrize("type_", sorted(SILENT_OUTBOUND_TYPES | MISPLACED_OUTBOUND_TYPES))
def test_what_waits_for_its_rules_and_what_is_misplaced_is_only_noted(type_: str) -> None:
    """W8"""
    assert isinstance(outbound(body(type=type_, intent=7, category=7, context=7)), Noted)


def test_an_echo_is_an_answer_and_no_send() -> None:
    """S7 W5"""
    assert outbound(body(type="echo")) == Echo(KEY, T)


@pytest.mark.parametrize("id_", [..., None])
def test_a_status_needs_no_id(id_: Any) -> None:
    """W8: also one for a message that was never seen. Null is absent."""
    assert outbound(body(type="status", id=id_, status="failed", error_code=131047)) == Noted(KEY, T, "silent")


@pytest.mark.parametrize("id_", ["", 7, "x" * 257])
def test_a_status_that_has_an_id_has_a_good_one(id_: Any) -> None:
    """Contract: a field that is known must be right."""
    assert reason(outbound(body(type="status", id=id_))) == "bad-field"


@pytest.mark.parametrize("type_", [*sorted(FREE_FORM_TYPES), "hologram"])
def test_without_a_category_only_a_template_is_a_dead_letter(type_: str) -> None:
    """S3"""
    assert isinstance(outbound(body(type=type_)), Send)
    assert reason(outbound(body(type="template"))) == "missing-field"


# ---------------------------------------------------------------------------------------------------------------- times


@pytest.mark.parametrize("side", [inbound, outbound])
def test_a_time_ahead_of_its_record_is_cut_up_to_five_minutes_and_refused_beyond(side: Any) -> None:
    """W9"""
    assert FUTURE_TOLERANCE_MS == 300_000
    assert side(body(), timestamp_ms=T).event_time_ms == T
    assert side(body(), timestamp_ms=T + 1).event_time_ms == T
    assert side(body(), timestamp_ms=T - 1).event_time_ms == T - 1
    assert side(body(), timestamp_ms=T - 300_000).event_time_ms == T - 300_000
    assert reason(side(body(), timestamp_ms=T - 300_001)) == "future-time"


@pytest.mark.parametrize("ahead_ms", [1, 300_000, 300_001, 10**11])
def test_a_consent_is_cut_however_far_ahead_it_is(ahead_ms: int) -> None:
    """S4"""
    found = inbound(body(type="consent", scope="all", value="revoked", time=T + ahead_ms))
    moves_clock_to_ms = T if ahead_ms <= FUTURE_TOLERANCE_MS else 0
    assert found == Consent(KEY, moves_clock_to_ms, "all", granted=False, at_ms=T)


def test_a_record_without_a_timestamp_has_no_bound_that_its_time_could_be_held_against() -> None:
    """S4"""
    assert reason(inbound(body(), timestamp_ms=-1)) == "future-time"
    found = inbound(body(type="consent", scope="all", value="revoked"), timestamp_ms=-1)
    assert found == Consent(KEY, 0, "all", granted=False, at_ms=T)


@pytest.mark.parametrize(
    ("time", "expected"),
    [(..., "missing-field"), (None, "bad-time"), (-T, "bad-time"), ("0", "bad-time"), ("-1", "bad-time")],
)
def test_a_time_that_is_missing_negative_or_nothing_is_refused(time: Any, expected: str) -> None:
    """W2"""
    assert reason(inbound(body(time=time))) == expected


def test_milliseconds_are_told_from_seconds_by_their_digits() -> None:
    """W2"""
    for time in (T, str(T), T // 1000, str(T // 1000)):
        assert inbound(body(time=time)) == Message(KEY, T, "m1", "text")


def test_the_year_2099_is_refused() -> None:
    """W9"""
    assert reason(inbound(body(time="2099-01-01T00:00:00Z"))) == "future-time"


# ---------------------------------------------------------------------------------------------- keys, partitions, sizes


def test_the_key_must_be_the_bodys_and_on_its_partition() -> None:
    """W1"""
    value = raw(body())
    for partition in range(PARTITIONS):
        expected = None if partition == HOME else "wrong-partition"
        assert reason(decoder(partition).inbound(KEY, value, T)) == expected
    assert reason(inbound(body(), key=None)) == "wrong-key"
    assert reason(inbound(body(), key=KEY + b"1")) == "wrong-key"


def test_a_known_key_is_not_hashed_again() -> None:
    """W1: the check costs nothing for a key that is in the table."""
    elsewhere = decoder((HOME + 1) % PARTITIONS, known=frozenset([KEY]))
    assert isinstance(elsewhere.inbound(KEY, raw(body()), T), Message)


def test_without_the_check_the_key_is_the_bodys() -> None:
    """W1"""
    off = decoder((HOME + 1) % PARTITIONS, check=False)
    for key in (None, b"", b"anything", KEY):
        assert off.inbound(key, raw(body()), T) == Message(KEY, T, "m1", "text")
        assert off.outbound(key, raw(body(type="echo")), T) == Echo(KEY, T)
    assert reason(off.inbound(None, raw(body(contact_id="+55")), T)) == "bad-field"


def test_many_new_keys_are_each_checked() -> None:
    """W1"""
    here = decoder()
    for number in range(500):
        contact = f"55119000{number:05d}"
        key = f"whatsapp:{BUSINESS}:{contact}".encode()
        is_home = partition_of(key, PARTITIONS) == HOME
        for _ in range(2):
            found = here.inbound(key, raw(body(contact_id=contact)), T)
            assert isinstance(found, Message) if is_home else reason(found) == "wrong-partition"


@pytest.mark.parametrize("headers", [(), (("trace", b"0123456789"), ("empty", b""))])
@pytest.mark.parametrize("room", [0, -1, 1, -600, 600])
def test_a_record_has_a_size_with_its_key_and_headers(headers: Headers, room: int) -> None:
    value = raw(body(x="y" * 1000))
    assert value is not None
    size = len(value) + len(KEY) + sum(len(name) + len(text) for name, text in headers)
    limited = decoder(bytes_max=size + room)
    assert reason(limited.inbound(KEY, value, T, headers)) == ("too-large" if room < 0 else None)


def test_a_context_has_at_most_1024_bytes_as_written() -> None:
    assert CONTEXT_BYTES_MAX == 1024
    for letters, expected in ((1015, None), (1016, "bad-field")):
        assert reason(outbound(body(context={"a": "x" * letters}))) == expected, letters
    assert reason(outbound(body(type="hologram", context={"a": "x" * 1016}))) == "bad-field"


@pytest.mark.parametrize("intent", ["5511900010001", "x" * 10_000])
def test_a_dead_letters_message_tells_nothing_of_what_was_written(intent: str) -> None:
    """Contract: for a person, without personal data."""
    found = outbound(body(intent=intent))
    assert isinstance(found, DeadLetter)
    assert intent not in found.message
    assert len(found.message) < 300


# ------------------------------------------------------------------------------------------------------ hostile records


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r"\ud83d", r"\ufffd"),  # an emoji that was cut in half
        (r"\udc4d", r"\ufffd"),
        (r"\ud83d\ud83d\udc4d", r"\ufffd\ud83d\udc4d"),
        (r"\ud83d\udc4d\uDC4d", r"\ud83d\udc4d\ufffd"),
        (r"\\ud83d \uD83D\n", r"\\ud83d \ufffd\n"),
    ],
)
def test_half_of_a_surrogate_pair_is_read_as_the_replacement_character(written: str, read: str) -> None:
    value = json.dumps(body(type="text", text="#")).encode()
    found = outbound(value.replace(b"#", written.encode()))
    assert isinstance(found, Send)
    assert found.value == value.replace(b"#", read.encode())
    assert isinstance(inbound(value.replace(b"#", written.encode())), Message)
    assert reason(inbound(value.replace(b"#", b"\\ud83d\xff"))) == "not-json"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "not-json"),
        (b"", "not-json"),
        (b"\xef\xbb\xbf{}", "not-json"),
        (b'{"x": "\xff"}', "not-json"),
        (b'{"x": NaN}', "not-json"),
        (b"[" * 50_000, "not-json"),
        (b'{"x":' * 10_000 + b"1" + b"}" * 10_000, "not-json"),
        (b"[]", "bad-field"),
        (b"null", "bad-field"),
        (b"7", "bad-field"),
        (b'"{}"', "bad-field"),
        (b"{}", "missing-field"),
    ],
)
def test_a_value_that_is_no_object_in_json_is_told_as_such(value: bytes | None, expected: str) -> None:
    assert reason(inbound(value)) == reason(outbound(value)) == expected


@pytest.mark.parametrize("digits", [20, 400, 4300, 4301, 5000, 20_000])
@pytest.mark.parametrize("field", ["id", "type", "time", "error_code", "direction", "x"])
def test_a_huge_number_in_any_field_is_a_dead_letter_or_carried(digits: int, field: str) -> None:
    value = raw(body(**{"type": "unsupported", field: "#"}))
    assert value is not None
    found = inbound(value.replace(b'"#"', b"9" * digits))
    assert isinstance(found, Unsupported) == (field in ("x", "direction") or (field == "error_code" and digits <= 4300))


def test_a_thousand_records_with_one_that_is_poison_lose_that_one_only() -> None:
    values: list[bytes | None] = [raw(body(id=f"m{number}")) for number in range(1000)]
    values[500] = b'{"id": "m500", "type": "te'
    here = decoder()
    found = [here.inbound(KEY, value, T) for value in values]
    assert [type(each) for each in found] == [Message] * 500 + [DeadLetter] + [Message] * 499


# -------------------------------------------------------------------------------------------------------- the two roads


WORDS: list[Any] = [
    *("", "a", "x" * 300, "text", "template", "consent", "user", "business", "accepted", "granted", "all", "é", "😀"),
    *("done", "request", "agent", "automation", "utility", "MARKETING", "whatsapp", "sms", BUSINESS, CONTACT, "+55"),
    *(None, True, False, 0, -1, 7, 131051, T, T // 1000, 1.5, 10**30, 1e300, [], {}, [1], {"a": None}, {"a": {"b": 1}}),
    *("2026-11-22T18:47:19.000Z", "2026-11-22T18:47:19Z", "2026-11-22T15:47:19-03:00", "0", str(T), str(T + 200_000)),
]
NAMES = [
    *("id", "type", "channel", "business_id", "contact_id", "time", "direction", "outcome", "error_code"),
    *("response_source", "scope", "value", "intent", "origin", "category", "context", "x", "previous_contact_id"),
]
TYPES = sorted(
    OPENING_TYPES
    | FREE_FORM_TYPES
    | SILENT_INBOUND_TYPES
    | MISPLACED_INBOUND_TYPES
    | MISPLACED_OUTBOUND_TYPES
    | SILENT_OUTBOUND_TYPES
    | {"template", "consent", "call", "unsupported", "call_permission_reply", "hologram"}
)


def _generated(numbers: random.Random) -> tuple[bytes | None, bytes | None, int, Headers]:
    """Make a record that is mostly good, with up to three fields changed, added or taken away."""
    register = {"scope": numbers.choice(["all", "marketing"]), "value": numbers.choice(["granted", "revoked"])}
    time = numbers.choice([T, str(T), f"{T - 5}", T // 1000])
    fields = body(type=numbers.choice(["text", "text", *TYPES]), time=time, **register)
    for _ in range(numbers.choice([0, 0, 1, 1, 2, 3])):
        name = numbers.choice(NAMES)
        if numbers.random() < 0.25:
            fields.pop(name, None)
        else:
            fields[name] = numbers.choice(WORDS)
    order = list(fields.items())
    if numbers.random() < 0.5:
        numbers.shuffle(order)
    value = json.dumps(dict(order), ensure_ascii=numbers.random() < 0.5).encode()
    channel = fields.get("channel") or "whatsapp"
    key: bytes | None = f"{channel}:{fields.get('business_id')}:{fields.get('contact_id')}".encode()
    key = numbers.choice([key] * 8 + [None, KEY, b"a:b:c"])
    timestamp_ms = numbers.choice([T, T + 5000, T - 1, T - 400_000, -1, T + 10**9])
    headers: Headers = numbers.choice([(), (), (("h", b"1"),)])
    return key, value, timestamp_ms, headers


@pytest.mark.parametrize("check", [True, False])
def test_the_plain_road_answers_what_the_careful_one_would(check: bool) -> None:
    numbers = random.Random(7)
    decoders = [decoder(check=check), decoder(known=frozenset([KEY]), check=check)]
    reasons: set[str | None] = set()
    classes: set[type] = set()
    for number in range(10_000):
        record = _generated(numbers)
        to_event = decoders[number % 2]
        for is_inbound, decode in ((True, to_event.inbound), (False, to_event.outbound)):
            found = decode(*record)
            assert found == to_event._carefully(is_inbound, *record), record
            reasons.add(reason(found))
            classes.add(type(found))
    expected = {*closed_sets()["dead_letter_reason"], None} - {"too-large", "not-json", "wrong-partition"}
    assert reasons >= (expected if check else expected - {"wrong-key"})
    assert classes >= {Message, DoubtfulMessage, Call, Unsupported, CallPermissionReply, Consent, Send, Echo, Noted}


@pytest.mark.parametrize("check", [True, False])
def test_of_a_name_that_stands_twice_only_the_last_value_counts(check: bool) -> None:
    """As the model has it; the fuzzer found the two roads at odds over it."""
    to_event = decoder(check=check)
    whole = json.dumps(body()).encode()
    for first in (b'"contact_id":"' + b"c" * 190 + b'"', b'"contact_id":7', b'"id":null', b'"type":{}', b'"time":[]'):
        value = b"{" + first + b"," + whole[1:]
        found = to_event.inbound(KEY, value, T)
        assert isinstance(found, Message), found
        assert found == to_event._carefully(True, KEY, value, T, ())
    last = whole[:-1] + b',"contact_id":7}'
    for found in (to_event.inbound(KEY, last, T), to_event._carefully(True, KEY, last, T, ())):
        assert reason(found) == "bad-field"


def test_most_traffic_takes_the_plain_road(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_care(*_: object) -> None:
        raise AssertionError("took the careful road")

    monkeypatch.setattr(InputDecoder, "_carefully", no_care)
    for text in ("Bom dia", "Olá, vocês já abriram? 😀"):
        for type_ in OPENING_TYPES:
            assert isinstance(inbound(utf8(type=type_, time="2026-11-22T18:47:19.000Z", x={"body": text})), Message)
        for type_ in FREE_FORM_TYPES:
            fields = {"intent": "request", "origin": "agent", "category": "service"}
            assert isinstance(outbound(utf8(type=type_, x=text, **fields)), Send)


def test_an_event_in_a_record_without_a_timestamp_is_not_taken_as_of_before_all_time() -> None:
    fields = {
        "id": "m1",
        "type": "text",
        "business_id": BUSINESS,
        "contact_id": CONTACT,
        "time": "1970-01-01T00:00:00Z",
    }
    found = InputDecoder(0, 1, (), 65_536).inbound(KEY, json.dumps(fields).encode(), -1)
    assert isinstance(found, Event)
    assert found.event_time_ms == 0
