"""Dead letters: the record byte for byte, and headers that say why and where from."""

import hashlib
from typing import Any

import pytest

from processor.codec.dead_letters import dead_letter
from processor.codec.inputs import DeadLetter, Headers
from processor.contract import closed_sets
from processor.kafka.unread import UnreadHeaders
from tests.unit.test_contract import failures

LETTER = DeadLetter("bad-time", "time is neither RFC 3339 with a zone nor Unix time of 10 or 13 digits")
SOURCE = ("acme.messages.inbound", 3, 123_456)


def written(
    value: bytes | None, headers: Headers = (), letter: DeadLetter = LETTER, bytes_max: int = 100, **changes: Any
) -> tuple[bytes | None, list[tuple[str, bytes]]]:
    source = changes.get("source", SOURCE)
    timestamp_ms = changes.get("timestamp_ms", 1795373239000)
    key, value, headers = dead_letter(letter, source, timestamp_ms, b"k", value, headers, "0.1.0", bytes_max)
    assert key == b"k"
    return value, headers


def ours(headers: list[tuple[str, bytes]]) -> dict[str, str]:
    return {name: text.decode() for name, text in headers if name.startswith("__dlq.")}


def test_the_headers_say_why_and_where_from() -> None:
    _, headers = written(b"{}")
    assert ours(headers) == {
        "__dlq.reason": "bad-time",
        "__dlq.message": LETTER.message,
        "__dlq.topic": "acme.messages.inbound",
        "__dlq.partition": "3",
        "__dlq.offset": "123456",
        "__dlq.timestamp": "1795373239000",
        "__dlq.processor": "0.1.0",
    }
    assert failures("dead-letter", ours(headers)) == set()


@pytest.mark.parametrize("value", [None, b"", b"{}", b"\xff\x00\xfe", b"x" * 100])
def test_the_value_is_byte_for_byte_what_it_was(value: bytes | None) -> None:
    assert written(value)[0] == value


def test_a_value_that_does_not_fit_is_replaced_by_its_size_and_digest() -> None:
    value, headers = written(b"x" * 101)
    assert value is None
    assert ours(headers)["__dlq.size"] == "101"
    assert ours(headers)["__dlq.sha256"] == hashlib.sha256(b"x" * 101).hexdigest()
    assert failures("dead-letter", ours(headers)) == set()


def test_a_key_that_does_not_fit_is_replaced_by_its_size_and_digest() -> None:
    key, value, headers = dead_letter(LETTER, SOURCE, 0, b"x" * 101, b"{}", (), "0.1.0", 100)
    assert (key, value) == (None, b"{}")
    assert ours(headers)["__dlq.key_size"] == "101"
    assert ours(headers)["__dlq.key_sha256"] == hashlib.sha256(b"x" * 101).hexdigest()
    assert failures("dead-letter", ours(headers)) == set()


def test_the_records_own_headers_come_first_as_they_were() -> None:
    own: Headers = [("trace", b"\xff"), ("trace", b"again"), ("empty", b""), ("__dlq.reason", b"from an earlier time")]
    _, headers = written(b"{}", own)
    assert headers[:4] == own
    assert headers[4:] == written(b"{}")[1]
    assert dict(headers)["__dlq.reason"] == b"bad-time"


def test_a_record_without_a_timestamp_says_so() -> None:
    _, headers = written(b"{}", timestamp_ms=-1, source=("messages.outbound", 0, 0))
    assert ours(headers)["__dlq.timestamp"] == "-1"
    assert failures("dead-letter", ours(headers)) == set()


@pytest.mark.parametrize("reason", closed_sets()["dead_letter_reason"])
def test_every_reason_of_the_contract_can_be_told(reason: str) -> None:
    _, headers = written(b"{}", letter=DeadLetter(reason, "a sentence with an é"))
    assert failures("dead-letter", ours(headers)) == set()


def test_headers_that_do_not_fit_are_left_out_and_counted() -> None:
    own: Headers = [("a" * 50, b"b" * 25), ("c" * 20, b"d" * 5)]
    assert written(b"{}", own)[1][:2] == own
    _, headers = written(b"{}", [*own, ("e", b"")])
    assert headers[0][0] == "__dlq.reason"
    assert ours(headers)["__dlq.headers"] == "3"
    assert failures("dead-letter", ours(headers)) == set()


def test_headers_that_were_never_kept_are_left_out_and_counted_however_few_bytes_they_have() -> None:
    never_kept: Any = UnreadHeaders(14_000, 14_000)
    _, headers = written(b"7", never_kept, bytes_max=512 * 1024)
    assert headers[0][0] == "__dlq.reason"
    assert ours(headers)["__dlq.headers"] == "14000"
