"""What leaves the house under pseudonyms: nobody is in it, and the same windows come of it."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from processor import contract
from processor.audit.model import Result, run
from processor.audit.policy import ModelPolicy
from processor.audit.records import Record
from processor.core.policy import DAY_MS, Policy
from processor.replay.pseudonyms import Pseudonyms
from processor.replay.records import StoredRecord
from tests.chaos.backlog import Wanted, backlog

NOW_MS = 1_795_600_000_000
KEY = b"a key that nobody else has"
WINDOW_KEY = b"whatsapp:15550001:5511999998888"
BUSINESS = "15550001"
NUMBER = "5511999998888"


def stored(wanted: Wanted, offset: int) -> StoredRecord:
    return StoredRecord(wanted.kind, wanted.partition, offset, NOW_MS, wanted.key, wanted.value, tuple(wanted.headers))


def hidden(
    fields: dict[str, Any], key: bytes = b"whatsapp:15550001:5511999998888"
) -> tuple[bytes | None, dict[str, Any]]:
    record = StoredRecord("inbound", 0, 0, NOW_MS, key, msgspec.json.encode(fields), ())
    found = Pseudonyms(KEY).hide(record, 1)
    return found.key, msgspec.json.decode(found.value or b"")


def judged(records: Iterable[StoredRecord]) -> Result:
    """Fold records through the model, as if all lay on one partition and in order of their offsets."""
    sides: dict[str, list[Record]] = {"inbound": [], "outbound": []}
    for it in records:
        sides[it.side].append(Record(it.side, 0, it.offset, it.timestamp_ms, it.key, it.value, it.headers))
    return run(sides["inbound"], sides["outbound"], ModelPolicy(key_check=True), 1)


def test_an_id_is_the_same_pseudonym_in_key_and_body_and_under_one_key_only() -> None:
    key, body = hidden({"id": "wamid.1", "type": "text", "contact_id": "5511999998888", "business_id": BUSINESS})
    assert key == f"whatsapp:{body['business_id']}:{body['contact_id']}".encode()
    assert body["contact_id"] == Pseudonyms(KEY).of("5511999998888")
    assert body["contact_id"] != Pseudonyms(KEY[::-1]).of("5511999998888")
    assert (body["type"], body["business_id"]) == ("text", Pseudonyms(KEY).of(BUSINESS))


def test_what_a_person_wrote_keeps_its_length_and_says_nothing() -> None:
    _, body = hidden({"type": "text", "text": {"body": "Olá, é Ana", "n": 5, "ok": True}, "context": ["5511"]})
    assert body == {"type": "text", "text": {"x1": "xxxxxxxxxx", "x2": 0, "x3": True}, "context": ["xxxx"]}


@pytest.mark.parametrize(
    "fields",
    [
        {"contacts": {NUMBER: {"name": "Ana", NUMBER: 1}}},
        {NUMBER: 1, "Ana": [{NUMBER: {}}]},
        {"type": "Ana", "value": "Ana", "category": "Ana", "outcome": "Ana", "status": "Ana", "response_source": "Ana"},
        {"business_id": NUMBER, "channel": NUMBER},
        {"business_id": f"+{NUMBER}", "channel": "Ana "},
        {"time": NUMBER, "send_time": int(NUMBER)},
        {"time": f"2026-11-22T18:47:19.{NUMBER}Z"},
        {"error_code": NUMBER, "message_id": NUMBER, "previous_contact_id": NUMBER},
    ],
)
def test_nothing_is_left_of_a_number_or_a_name_wherever_it_stands(fields: dict[str, Any]) -> None:
    key, body = hidden(fields, f"whatsapp:{NUMBER}:15550001".encode())  # the key is swapped
    told = (key or b"").decode() + json.dumps(body)
    assert NUMBER not in told
    assert "Ana" not in told


def test_headers_keep_those_names_only_that_everybody_has() -> None:
    headers = ((NUMBER, b"5511"), ("traceparent", b"00-5511"), ("replay-id", b"one"), ("x-Ana", None))
    found = Pseudonyms(KEY).hide(StoredRecord("inbound", 0, 0, NOW_MS, b"k", b"{}", headers), 1).headers
    assert found == (("x1", b"xxxx"), ("traceparent", b"x" * 7), ("replay-id", b"xxx"), ("x4", None))


@pytest.mark.parametrize(
    ("time", "found"),
    [
        (str(NOW_MS), str(NOW_MS)),
        (NOW_MS // 1000 - 364 * 86_400, NOW_MS // 1000 - 364 * 86_400),
        (NUMBER, "9000000000000"),  # too far ahead, as it was
        (int(NUMBER), 9_000_000_000_000),
        ("1155500010", "1100000000"),  # long ago, as it was
        ("2006-11-22T18:47:19+01:00", "2006-11-22T17:47:19.000Z"),
        ("half past six", "x" * 13),
    ],
)
def test_a_time_is_kept_unless_its_digits_may_be_a_number(time: Any, found: Any) -> None:
    assert hidden({"time": time})[1]["time"] == found


def test_a_policy_keeps_the_names_that_it_names() -> None:
    policy = Policy(
        window_ms={"default": DAY_MS, "sms": DAY_MS},
        direct_send=(BUSINESS,),
        call_permission_reply_opens=("user_action", "menu"),
    )
    fields = {"channel": "sms", "business_id": BUSINESS, "response_source": "menu"}
    record = StoredRecord("inbound", 0, 0, NOW_MS, b"sms:15550001:5511", msgspec.json.encode(fields), ())
    found = Pseudonyms(KEY, policy).hide(record, 1)
    assert (found.key or b"").startswith(b"sms:15550001:p")
    assert msgspec.json.decode(found.value or b"") == fields


def properties() -> dict[str, set[str]]:
    """Give the fields that the contract's inputs may have, each with the examples that the schemas give."""
    found: dict[str, set[str]] = {}

    def look(schema: Any) -> None:
        if isinstance(schema, dict):
            for name, each in schema.get("properties", {}).items():
                found.setdefault(name, set()).update(map(str, each.get("examples", ())))
        for each in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
            look(each)

    look([contract.event_schema("inbound"), contract.event_schema("outbound"), contract.vocabulary()["$defs"]["input"]])
    return found


def test_every_field_of_the_contract_keeps_its_name() -> None:
    names = set(properties())
    assert {"id", "business_id", "context", "send_time"} < names
    assert set(hidden(dict.fromkeys(names))[1]) == names


@pytest.mark.parametrize("name", ["outcome", "response_source", "status"])
def test_the_words_that_the_schemas_give_as_examples_are_kept(name: str) -> None:
    assert (words := properties()[name])
    assert [hidden({name: word})[1] for word in words] == [{name: word} for word in words]


@pytest.mark.parametrize(
    "value", [b"5511999998888 is not JSON", b"[1", b'{"a": NaN}', b'["5511999998888"]', b"\xff5511"]
)
def test_what_can_not_be_read_stays_such_and_says_nothing(value: bytes) -> None:
    record = StoredRecord("inbound", 0, 0, NOW_MS, b"5511999998888", value, (("from", b"5511999998888"),))
    found = Pseudonyms(KEY).hide(record, 1)
    assert found.value == b"x" * len(value)
    assert b"5511" not in (found.key or b"")
    assert found.headers == (("x1", b"x" * 13),)


def test_half_an_emoji_in_a_text_is_no_reason_not_to_read_it() -> None:
    record = StoredRecord("inbound", 0, 0, NOW_MS, b"k", rb'{"type": "text", "text": "cut \ud83d"}', ())
    assert msgspec.json.decode(Pseudonyms(KEY).hide(record, 1).value or b"")["text"] == "xxxxx"


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="found 5 bytes, expected at least 16"):
        Pseudonyms(b"short")


def test_the_same_windows_and_verdicts_come_of_a_business_under_pseudonyms() -> None:
    records = [stored(wanted, n) for n, wanted in enumerate(backlog(3, 3_000, 60, 1, NOW_MS - 7_200_000))]
    pseudonyms = Pseudonyms(KEY)
    before, after = judged(records), judged(pseudonyms.hide(record, 1) for record in records)
    assert len(before.outputs) > 1_000
    assert before.counts.dead_letters > 10

    def told(result: Result) -> Counter[tuple[str, str]]:
        return Counter((output.topic, output.event["time"]) for output in result.outputs)

    assert told(after) == told(before)
    assert len(after.windows) == len(before.windows)
    assert {letter.offset for letter in after.dead_letters} == {letter.offset for letter in before.dead_letters}
