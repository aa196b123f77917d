"""`janela send`, as far as it goes without a broker: what it refuses, and in which words."""

import json
import os
import re
from types import SimpleNamespace
from typing import Any

import pytest

from processor.cli.main import main
from processor.cli.send import new_id

pytestmark = pytest.mark.usefixtures("nothing_set")

WHO = ("--business", "15550001", "--contact", "5511999998888")
NOBODY = ("--bootstrap-servers", "127.0.0.1:1")


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run `janela send`, which must fail, and give what it says on stderr."""
    with pytest.raises(SystemExit) as caught:
        main(["send", *arguments, *NOBODY])
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("inbound", "--type", "text", "--business", "1", "--contact", "+55"), "bad-field"),
        (("inbound", "--type", "text", *WHO, "--time", "2026-11-22T18:47:19"), "bad-time"),
        (("inbound", "--type", "text", *WHO, "--time", "2099-01-01T00:00:00Z"), "future-time"),
        (("inbound", "--type", "text", *WHO, "--channel", "WhatsApp"), "bad-field"),
        (("inbound", "--type", "consent", *WHO, "--field", "scope=marketing"), "missing-field"),
        (("outbound", "--type", "template", *WHO), "missing-field"),
        (("outbound", "--type", "text", *WHO, "--field", "context=7"), "bad-field"),
        (("outbound", "--type", "text", *WHO, "--field", f"text={'x' * 66_000}"), "too-large"),
    ],
)
def test_what_would_be_a_dead_letter_is_not_sent(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], reason: str
) -> None:
    (line,) = told(capsys, *arguments).splitlines()
    assert line.startswith(f"not sent, {reason}: ")
    assert line.endswith("(--unchecked sends it all the same)")


@pytest.mark.parametrize(
    "arguments",
    [
        ("inbound", "--type", "text", *WHO),
        ("inbound", "--value", '{"type": "text", "business_id": "1", "contact_id": "2"}'),
        ("outbound", "--type", "template", *WHO, "--field", "category=utility"),
        ("outbound", "--type", "status", *WHO, "--field", "status=read"),
        ("inbound", "--unchecked", "--value", "not json", "--key", "whatsapp:1:2"),
        ("inbound", "--unchecked", "--value", os.fsdecode(b"\xff\xfe"), "--key", "whatsapp:1:2"),
        ("inbound", "--type", "text", *WHO, "--field", "x=NaN"),
    ],
)
def test_what_may_be_sent_is_held_up_by_the_broker_alone(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    (line,) = told(capsys, *arguments).splitlines()
    assert line.startswith("no Kafka broker: found none at 127.0.0.1:1")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("inbound", *WHO), "--type"),
        (("inbound", "--type", "text", "--contact", "2"), "--business"),
        (("inbound", "--type", "text", *WHO, "--field", "name"), "'name' is not NAME=VALUE"),
        (("inbound", "--type", "text", *WHO, "--key", "whatsapp:1:2"), "need --unchecked"),
        (("inbound", "--value", "[1]"), "not a JSON object"),
        (("inbound", "--type", "text", *WHO, "--field", 'text="\\ud800"'), "half of a character or none"),
        (("inbound", "--type", "text", *WHO, "--field", f"text={'[' * 50_000}"), "nested too deeply"),
        (("inbound", "--unchecked", "--value", '{"contact_id":"\\ud800"}'), "half of a character or none"),
        (("inbound", "--type", "text", *WHO, "--field", "x=1e999"), "x: 1e999 is too large a number"),
        (("inbound", "--type", "text", *WHO, "--field", "x=[-1e999]"), "a number that is too large"),
        (("inbound", "--unchecked", "--value", "x" * 1_000_001, "--key", ""), "have 1,000,001 bytes: no more than 1"),
        (("sideways",), "sideways"),
    ],
)
def test_a_slip_of_the_command_line_is_named(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    assert words in told(capsys, *arguments)


def test_a_type_of_the_other_topic_is_sent_with_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    note, _ = told(capsys, "inbound", "--type", "template", *WHO).splitlines()
    assert note.startswith("note: on messages.inbound this type counts as misplaced")


def sent(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[bytes, bytes]:
    """Run `janela send` as far as the broker, and give the key and value that would go there."""
    found: list[tuple[bytes, bytes]] = []

    async def send(_: Any, __: str, key: bytes, wire: bytes, ___: int | None) -> SimpleNamespace:
        found.append((key, wire))
        return SimpleNamespace(partition=0, offset=0)

    monkeypatch.setattr("processor.cli.send._send", send)
    with pytest.raises(SystemExit) as caught:
        main(["send", *arguments, *NOBODY])
    assert caught.value.code == 0
    ((key, wire),) = found
    return key, wire


def test_an_empty_key_is_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sent(monkeypatch, "inbound", "--unchecked", "--value", "{}", "--key", "") == (b"", b"{}")
    assert sent(monkeypatch, "inbound", "--unchecked", "--value", "{}") == (b"whatsapp::", b"{}")


def test_what_was_typed_is_utf_8_whatever_the_locale_says(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = "é".encode().decode("ascii", "surrogateescape")  # as Python gives it where the locale knows ASCII alone
    monkeypatch.setattr("os.fsencode", lambda word: word.encode("ascii", "surrogateescape"))
    key, wire = sent(monkeypatch, "inbound", "--type", "text", *WHO, "--id", typed, "--field", f"text={typed}")
    assert (json.loads(wire)["id"], json.loads(wire)["text"]) == ("é", "é")
    key, _ = sent(monkeypatch, "inbound", "--unchecked", "--value", "{}", "--key", typed)
    assert key == "é".encode()


def test_new_ids_differ_and_fit_the_contract() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch(r"cli-[0-9a-f]{28}", each) for each in ids)
