"""What leaves the house under pseudonyms: nobody is in it, and the same windows come of it."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from processor.audit.model import Result, run
from processor.audit.policy import ModelPolicy
from processor.audit.records import Record
from processor.replay.pseudonyms import Pseudonyms
from processor.replay.records import StoredRecord
from tests.chaos.backlog import Wanted, backlog

NOW_MS = 1_795_600_000_000
KEY = b"a key that nobody else has"
WINDOW_KEY = b"whatsapp:15550001:5511999998888"
BUSINESS = "15550001"


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
    assert key == f"whatsapp:15550001:{body['contact_id']}".encode()
    assert body["contact_id"] == Pseudonyms(KEY).of("5511999998888")
    assert body["contact_id"] != Pseudonyms(KEY[::-1]).of("5511999998888")
    assert (body["type"], body["business_id"]) == ("text", BUSINESS)


def test_what_a_person_wrote_keeps_its_length_and_says_nothing() -> None:
    _, body = hidden({"type": "text", "text": {"body": "Olá, é Ana", "n": 5, "ok": True}, "context": ["5511"]})
    assert body == {"type": "text", "text": {"body": "xxxxxxxxxx", "n": 0, "ok": True}, "context": ["xxxx"]}


@pytest.mark.parametrize("field", ["type", "value", "channel", "time", "error_code", "category"])
def test_a_field_that_the_rules_read_is_kept_in_its_own_form_only(field: str) -> None:
    _, body = hidden({field: "call +55 11 99999-8888"})
    assert "9" not in body[field]


@pytest.mark.parametrize(
    "value", [b"5511999998888 is not JSON", b"[1", b'{"a": NaN}', b'["5511999998888"]', b"\xff5511"]
)
def test_what_can_not_be_read_stays_such_and_says_nothing(value: bytes) -> None:
    record = StoredRecord("inbound", 0, 0, NOW_MS, b"5511999998888", value, (("from", b"5511999998888"),))
    found = Pseudonyms(KEY).hide(record, 1)
    assert found.value == b"x" * len(value)
    assert b"5511" not in (found.key or b"")
    assert found.headers == (("from", b"x" * 13),)


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
