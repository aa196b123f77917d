"""State records: what is written is read again, and what can't be read is told, never guessed."""

import json
import operator
from collections.abc import Callable
from functools import reduce
from itertools import product
from typing import Any

import pytest

from processor.codec.state import (
    VERSIONS,
    StateError,
    decode_consents,
    decode_window,
    encode_consents,
    encode_window,
)
from processor.core.consent import Consents, Register
from processor.core.window import Window
from processor.kafka.unread import Unread
from tests.examples import output_examples
from tests.scene import DAY, HOUR, T0
from tests.unit.test_contract import failures

WINDOWS = [
    Window(T0, T0 + DAY, T0),
    Window(T0, T0 + 30 * HOUR, T0 + 6 * HOUR),
    Window(T0, T0 + DAY, T0, T0 + HOUR),
    Window(T0, T0 + DAY, T0, 0),
    Window(T0, T0 + DAY, T0, None, T0 + DAY, "expired"),
    Window(T0, T0 + DAY, T0, T0 + HOUR, T0 + 2 * HOUR, "provider-refused"),
    Window(0, DAY, 0),
]
REGISTERS = [None, Register(granted=True, at=T0), Register(granted=False, at=0)]
ALL_CONSENTS = [Consents(marketing, all_) for marketing, all_ in product(REGISTERS, REGISTERS)]


@pytest.mark.parametrize("window", WINDOWS)
def test_a_window_that_is_written_is_read_again(window: Window) -> None:
    """W2 W4 E3"""
    value = encode_window(window, 7)
    assert decode_window(value) == window
    assert failures("window-state", json.loads(value)) == set()


def test_a_windows_record_has_the_contracts_fields() -> None:
    assert json.loads(encode_window(WINDOWS[5], 42)) == {
        "v": 1,
        "status": "closed",
        "opened_at": T0,
        "expires_at": T0 + DAY,
        "closed_at": T0 + 2 * HOUR,
        "close_reason": "provider-refused",
        "last_inbound_at": T0,
        "last_answer_at": T0 + HOUR,
        "sequence": "00000000000000000042",
    }


@pytest.mark.parametrize("consents", ALL_CONSENTS)
def test_consent_that_is_written_is_read_again(consents: Consents) -> None:
    """S4 S5"""
    value = encode_consents(consents)
    assert decode_consents(value) == consents
    if consents != Consents():
        assert failures("consent-state", json.loads(value)) == set()


def test_a_consents_record_has_the_contracts_fields() -> None:
    found = json.loads(encode_consents(Consents(Register(granted=True, at=T0), Register(granted=False, at=5))))
    found.pop("sequence", None)
    assert found == {
        "v": 1,
        "marketing": {"value": "granted", "at": T0},
        "all": {"value": "revoked", "at": 5},
    }


@pytest.mark.parametrize("example", output_examples("window-state", "good"), ids=lambda each: each.name)
def test_a_good_example_of_a_windows_record_is_read(example: Any) -> None:
    """W2: fields that are to come are skipped."""
    window = decode_window(json.dumps(example.value).encode())
    written = json.loads(encode_window(window, int(example.value["sequence"])))
    assert written.items() <= example.value.items()


@pytest.mark.parametrize("example", output_examples("consent-state", "good"), ids=lambda each: each.name)
def test_a_good_example_of_a_consents_record_is_read(example: Any) -> None:
    """S4"""
    consents = decode_consents(json.dumps(example.value).encode())
    written = json.loads(encode_consents(consents))
    assert (written["marketing"] is None) == (example.value["marketing"] is None)
    assert (written["all"] is None) == (example.value["all"] is None)


def test_no_register_shares_its_place_with_the_other() -> None:
    """S4"""
    one = decode_consents(encode_consents(Consents(marketing=Register(granted=True, at=T0))))
    assert (one.marketing, one.all) == (Register(granted=True, at=T0), None)


NUMBER = 5_511_999_990_001
WRONG: list[Any] = [[], {"a": 1}, "what", 1.5, True]


def damaged(value: bytes) -> list[bytes]:
    """Give the record with each field missing or of a wrong kind, cut off, or nothing like one."""
    fields = json.loads(value)
    shapes = [{**fields, name: wrong} for name in fields for wrong in WRONG]
    shapes += [{name: fields[name] for name in fields if name != left_out} for left_out in fields]
    texts = [json.dumps(shape).encode() for shape in shapes]
    return [*texts, *(value[:length] for length in range(len(value))), b"", b"null", b"[]", b"7", b"\xff", b"[" * 9999]


def refusal(decode: Callable[[bytes], object], value: bytes) -> str:
    """Give the reason for which it is refused, empty where it is not; any other exception goes through."""
    try:
        decode(value)
    except StateError as error:
        return str(error)
    return ""


def is_refused(decode: Callable[[bytes], object], value: bytes) -> bool:
    return refusal(decode, value) != ""


def test_a_damaged_windows_record_is_refused_and_never_raises_anything_else() -> None:
    values = damaged(encode_window(WINDOWS[5], 7))
    taken = [json.loads(value) for value in values if not is_refused(decode_window, value)]
    assert len(taken) == 2  # any text is a reason, and a sequence
    assert all(fields["status"] == "closed" and fields["closed_at"] == T0 + 2 * HOUR for fields in taken)


def test_damaged_consent_is_refused_and_never_raises_anything_else() -> None:
    values = damaged(encode_consents(Consents(REGISTERS[1], REGISTERS[2])))
    assert [value for value in values if not is_refused(decode_consents, value)] == []


@pytest.mark.parametrize(
    ("decode", "value"),
    [
        (decode_window, encode_window(WINDOWS[0], 7)),
        (decode_window, encode_window(WINDOWS[5], 7)),
        (decode_consents, encode_consents(Consents(REGISTERS[1], REGISTERS[2]))),
    ],
)
def test_no_damaged_byte_passes_for_a_field_that_is_not_there(decode: Callable[[bytes], object], value: bytes) -> None:
    """A bit of a digit can't be told from another number; anything else must be seen."""
    for place, byte in enumerate(value):
        for bit in range(8):
            record = value[:place] + bytes([byte ^ 1 << bit]) + value[place + 1 :]
            assert is_refused(decode, record) or chr(byte).isdigit() or _is_text(value, place), (place, record)


def _is_text(value: bytes, place: int) -> bool:
    """Tell whether a byte lies in a text of which any is good: a reason, a sequence."""
    fields = json.loads(value)
    texts = [str(fields[name]).encode() for name in ("close_reason", "sequence") if fields.get(name)]
    return any(value.index(text) <= place < value.index(text) + len(text) for text in texts)


@pytest.mark.parametrize("name", ["v", "status", "opened_at", "expires_at", "last_inbound_at"])
@pytest.mark.parametrize("wrong", [..., None, "1", 1.5, [], True])
def test_a_windows_record_without_what_it_needs_is_refused(name: str, wrong: Any) -> None:
    fields = json.loads(encode_window(WINDOWS[0], 7)) | {name: wrong}
    with pytest.raises(StateError):
        decode_window(json.dumps({key: value for key, value in fields.items() if value is not ...}).encode())


@pytest.mark.parametrize(("status", "closed_at"), [("open", T0), ("closed", None)])
def test_a_status_that_its_end_contradicts_is_refused(status: str, closed_at: int | None) -> None:
    fields = json.loads(encode_window(WINDOWS[0], 7)) | {"status": status, "closed_at": closed_at}
    with pytest.raises(StateError, match=status):
        decode_window(json.dumps(fields).encode())


@pytest.mark.parametrize("decode", [decode_window, decode_consents])
@pytest.mark.parametrize("path", ["v", "status", "closed_at", "opened_at", "sequence", "marketing", "marketing.value"])
@pytest.mark.parametrize("wrong", [NUMBER, str(NUMBER), f"5 - at {NUMBER}", [NUMBER], {str(NUMBER): NUMBER}], ids=str)
def test_a_refusal_quotes_nothing_of_a_damaged_record(decode: Callable[[bytes], object], path: str, wrong: Any) -> None:
    fields = json.loads(encode_window(WINDOWS[5], 7)) | json.loads(encode_consents(Consents(REGISTERS[1])))
    *parents, name = path.split(".")
    reduce(operator.getitem, parents, fields)[name] = wrong
    assert str(NUMBER) not in refusal(decode, json.dumps(fields).encode())


@pytest.mark.parametrize("version", [0, 2, 999])
def test_a_version_that_this_worker_does_not_know_is_refused_and_named(version: int) -> None:
    assert VERSIONS == (1,)
    for decode, value in (
        (decode_window, encode_window(WINDOWS[0], 7)),
        (decode_consents, encode_consents(ALL_CONSENTS[4])),
    ):
        with pytest.raises(StateError, match=str(version)):
            decode(json.dumps(json.loads(value) | {"v": version}).encode())


@pytest.mark.parametrize("decode", [decode_window, decode_consents])
def test_what_was_too_large_to_be_kept_is_refused_like_any_other_damage(decode: Callable[[Any], object]) -> None:
    with pytest.raises(StateError):
        decode(Unread(1_500_000_000, "ab" * 32))


@pytest.mark.parametrize("version", [-1, NUMBER, 10**30])
def test_a_version_that_no_worker_can_have_written_is_refused(version: int) -> None:
    for decode, value in (
        (decode_window, encode_window(WINDOWS[0], 7)),
        (decode_consents, encode_consents(ALL_CONSENTS[4])),
    ):
        with pytest.raises(StateError, match=r"at `\$\.v`"):
            decode(json.dumps(json.loads(value) | {"v": version}).encode())
