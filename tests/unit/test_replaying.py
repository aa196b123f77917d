"""The schedule of a replay that is measured: known of each record before the first one is sent."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka.errors import TransactionalIdAuthorizationFailed
from pydantic import SecretStr

from processor.codec.times import format_time
from processor.measure import replaying
from processor.measure.replaying import Place, Replay, ReplayMoments, ReplayTraffic
from processor.replay.archive import VERSION, ArchiveWriter, Manifest
from processor.replay.records import StoredRecord
from processor.replay.selection import Selection
from processor.settings import Settings

T0_MS = 1_795_373_239_000
AFTER_MS = (0, 1000, 4000, 4000, 10_000)
IDS = ("a", "b", "a", "c", None)  # the first one is there twice, and the last one can't be read
NOWHERE = Place("", {"bootstrap_servers": "nowhere:1"})


@pytest.fixture
def archive(tmp_path: Path) -> str:
    """Write five records."""
    path = tmp_path / "day.jsonl.zst"
    with ArchiveWriter(path, Manifest(janela_archive=VERSION, partitions=1, written="now")) as writer:
        for number, (id_, after_ms) in enumerate(zip(IDS, AFTER_MS, strict=True)):
            time_ms = T0_MS + after_ms
            value = json.dumps({"time": format_time(time_ms)} | ({"id": id_} if id_ else {})).encode()
            writer.write([StoredRecord("inbound", 0, number, time_ms, b"k", value, ())])
    return str(path)


async def moments(archive: str, **pace: Any) -> dict[str, int]:
    """Give when each message is due, in ms from the begin."""
    fields = {"speed": None, "rate": None} | pace
    replay = Replay(NOWHERE, archive, Selection(), NOWHERE, times="original", may_append=False, **fields)
    traffic = ReplayTraffic(replay, lambda *_: None)
    await traffic.prepare()
    assert traffic.events == len(IDS)
    return {id_: after_us // 1000 for id_, after_us in traffic._after_us.items()}


async def test_at_a_speed_a_record_is_due_by_its_time_and_the_first_of_two_counts(archive: str) -> None:
    assert await moments(archive, speed=2) == {"a": 0, "b": 500, "c": 2000}


async def test_a_record_without_a_time_at_the_begin_keeps_nobody_waiting(tmp_path: Path) -> None:
    path = tmp_path / "day.jsonl.zst"
    with ArchiveWriter(path, Manifest(janela_archive=VERSION, partitions=1, written="now")) as writer:
        writer.write([StoredRecord("inbound", 0, 0, T0_MS, b"k", b'{"id":"z"}', ())])
        for number, id_ in enumerate("abcd", 1):
            value = json.dumps({"id": id_, "time": format_time(T0_MS + number * 1000)}).encode()
            writer.write([StoredRecord("inbound", 0, number, T0_MS + number * 1000, b"k", value, ())])
    assert await moments(str(path), speed=1) == {"z": 0, "a": 0, "b": 1000, "c": 2000, "d": 3000}


async def test_a_straggler_at_the_begin_keeps_nobody_waiting(tmp_path: Path) -> None:
    path = tmp_path / "day.jsonl.zst"
    with ArchiveWriter(path, Manifest(janela_archive=VERSION, partitions=1, written="now")) as writer:
        for number, (id_, after_ms) in enumerate(zip("zabcd", (-36 * 3_600_000, 0, 1000, 2000, 3000), strict=True)):
            value = json.dumps({"id": id_, "time": format_time(T0_MS + after_ms)}).encode()
            writer.write([StoredRecord("inbound", 0, number, T0_MS + max(after_ms, 0), b"k", value, ())])
    assert await moments(str(path), speed=1) == {"z": 0, "a": 0, "b": 1000, "c": 2000, "d": 3000}


async def test_what_the_brokers_refuse_is_told_in_a_line(
    archive: str, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    async def refused(_: Settings) -> None:
        raise TransactionalIdAuthorizationFailed

    monkeypatch.setattr(replaying, "room", refused)
    replay = Replay(NOWHERE, archive, Selection(), NOWHERE, None, 5, "original", may_append=False)
    await replaying._follow(replay, asyncio.StreamReader())
    words = "the cluster at nowhere:1 refuses: [Error 53] TransactionalIdAuthorizationFailed"
    assert json.loads(capsysbinary.readouterr().out) == {"type": "_Refused", "words": words}


async def test_at_a_rate_a_record_is_due_by_its_number(archive: str) -> None:
    assert await moments(archive, rate=10) == {"a": 0, "b": 100, "c": 300}


def test_a_record_of_nobody_is_not_due() -> None:
    due = ReplayMoments({"a": 5}, begin_us=100, ends_from_us=None).due_us
    assert (due("a"), due("b")) == (105, None)


@pytest.mark.parametrize(
    ("times", "speed", "is_told"), [("shifted", 1.0, True), ("shifted", 60.0, False), ("original", 1.0, False)]
)
def test_ends_are_timed_where_events_happen_the_moment_they_leave(times: Any, speed: float, is_told: bool) -> None:
    replay = Replay(NOWHERE, None, Selection(), NOWHERE, speed, None, times, may_append=False)
    assert (ReplayTraffic(replay, lambda *_: None)._ends_from_us(7) == 7) is is_told


def test_an_order_reads_as_it_was_written() -> None:
    selection = Selection(partitions=(1, 2), since_ms=5, contacts=frozenset({b"5511", b"\xff"}))
    replay = Replay(
        Place("x.", {"bootstrap_servers": "a:1"}), None, selection, NOWHERE, None, 3.5, "shifted", may_append=True
    )
    assert msgspec.json.decode(msgspec.json.encode(replay), type=Replay) == replay
    assert replay.as_scenario()["replay"] == "a:1 x."


@pytest.mark.parametrize("given", ["sasl_password", "sasl_password_file"])
def test_a_place_is_reached_as_its_settings_say_and_its_text_has_no_secret(given: str, tmp_path: Path) -> None:
    (secret := tmp_path / "secret").write_text("marmalade\n")
    password: dict[str, Any] = {given: secret if given.endswith("_file") else SecretStr("marmalade")}
    settings = Settings(
        bootstrap_servers="kafka-1:9093",
        security_protocol="SASL_PLAINTEXT",
        sasl_username="lab",
        app_id="desk",
        topic_prefix="lab.",
        **password,
    )
    place = msgspec.json.decode(msgspec.json.encode(Place.of(settings)), type=Place)
    assert (place.settings().topic_prefix, place.settings().connection) == ("lab.", settings.connection)
    assert "marmalade" not in repr(place)
