"""`janela replay` and `janela archive` on a real broker."""

import asyncio
import gc
import json
import re
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from processor import topics
from processor.audit.partitioner import partition_of
from processor.replay import target as replay_target
from processor.replay import topics as replay_topics
from processor.replay.archive import VERSION, ArchiveSource, ArchiveWriter, Manifest
from processor.replay.pace import Pace
from processor.replay.player import Player, survey
from processor.replay.records import StoredRecord
from processor.replay.selection import Selection
from processor.replay.target import ReplayTarget, Room
from processor.replay.topics import topic_source
from processor.settings import Settings
from processor.topics import ClusterError
from tests import batches
from tests.chaos.backlog import HOUR_MS, backlog
from tests.chaos.harness import INPUTS, Stage, patience
from tests.integration.conftest import PARTITIONS
from tests.verbs import ended, janela, started

pytestmark = pytest.mark.timeout(300)

NUMBER = re.compile(rb"55119\d{8}")
"""A contact's, as `backlog` makes them; a hash has some of its digits by chance."""


UNKNOWN_TYPE = "hologram"


def elsewhere(settings: Settings, partitions: int = PARTITIONS) -> Settings:
    """Give the settings of the target's prefix."""
    prefix = f"{settings.topic_prefix}lab."
    return settings.model_copy(update={"topic_prefix": prefix, "partitions": partitions})


async def answered(settings: Settings, *arguments: str) -> dict[str, Any]:
    """Run a verb that is to end well, for machines; give its answer."""
    code, out, err = await janela(settings, *arguments, "--json")
    assert code == 0, err
    answer: dict[str, Any] = json.loads(out)
    return answer


Lying = dict[tuple[str, int], list[Any]]


async def lying(stage: Stage) -> Lying:
    """Give what lies on the inputs, by side and partition."""
    found = await stage.records(*INPUTS.values())
    return {(tp.topic.rpartition(".")[2], tp.partition): records for tp, records in found.items()}


def told(record: Any) -> tuple[Any, ...]:
    """Give what a replay must keep of a record."""
    headers = tuple((name, value) for name, value in record.headers if not name.startswith("replay-"))
    return record.key, record.value, headers


async def filled(stage: Stage, events: int = 1_500) -> None:
    end_ms = time.time_ns() // 1_000_000 - 3 * HOUR_MS
    await stage.preload(backlog(5, events, 60, stage.settings.partitions, end_ms))


async def test_a_replay_writes_every_record_once_also_when_it_is_killed_and_started_again(
    settings: Settings, tmp_path: Path
) -> None:
    target = elsewhere(settings)
    command = ("replay", "--to-prefix", target.topic_prefix)
    async with Stage.open(settings, tmp_path) as stage, Stage.open(target, tmp_path) as lab:
        await filled(stage)
        counted = await answered(settings, *command, "--dry-run")
        before = await lying(stage)
        assert counted["records"] == sum(map(len, before.values()))
        assert not any((await lying(lab)).values())

        killed = await started(settings, *command, "--rate", str(counted["records"] / 20))
        await lab.until("a part is written", lambda: has_some(lab), 60 * patience())
        killed.send_signal(signal.SIGKILL)
        await killed.communicate()

        rest = await answered(settings, *command)
        assert 0 < rest["there_before"] < counted["records"]
        assert rest["written"] + rest["there_before"] == counted["records"]
        after = await lying(lab)
        assert {place: list(map(told, records)) for place, records in after.items()} == {
            place: list(map(told, records)) for place, records in before.items()
        }
        headers = dict(after["inbound", 0][0].headers)
        assert (headers["replay-id"].decode(), headers["replay-source"]) == (counted["replay_id"], b"0@0")
        again = await answered(settings, *command)
        assert (again["written"], again["there_before"]) == (0, counted["records"])

        code, _, err = await janela(settings, *command, "--id", "another")
        assert code == 2
        assert "found records of another producer" in err


async def has_some(stage: Stage) -> bool:
    return sum((await stage.ends(*INPUTS.values())).values()) > 0


async def test_an_archive_under_pseudonyms_keeps_each_contact_together_on_another_number_of_partitions(
    settings: Settings, tmp_path: Path
) -> None:
    target, file, key = elsewhere(settings, 5), tmp_path / "day.jsonl.zst", tmp_path / "key"
    key.write_bytes(b"a key that nobody else has\n")
    async with Stage.open(settings, tmp_path) as stage, Stage.open(target, tmp_path) as lab:
        await filled(stage)
        before = await lying(stage)
        archived = await answered(settings, "archive", str(file), "--pseudonyms-key", str(key))
        assert archived["records"] == sum(map(len, before.values()))
        assert archived["bytes"] == file.stat().st_size

        played = await answered(
            settings, "replay", "--from-archive", str(file), "--to-prefix", target.topic_prefix, "--times", "shifted"
        )
        assert (played["written"], played["records"]) == (archived["records"], archived["records"])
        after = await lying(lab)
        for (_, partition), records in after.items():
            at_home = [it for it in records if it.key and partition_of(it.key, 5) == partition]
            assert len(at_home) > 0.9 * len(records)
            assert not any(NUMBER.search((it.key or b"") + (it.value or b"")) for it in records)
        # whoever it was, what came of them and in which order is the same
        assert sequences(after) == sequences(before)
        newest_ms = max(time_of(it) for records in after.values() for it in records)
        assert abs(time.time_ns() // 1_000_000 - newest_ms) < 3 * 60_000 * patience()


def sequences(found: Lying) -> list[list[str]]:
    """Give, for each contact and side, the types of what it has, in order; one that is no word of the contract is x."""
    types: dict[tuple[str, bytes], list[str]] = defaultdict(list)
    for (side, _), records in found.items():
        for it in records:
            try:
                type_ = str(json.loads(it.value or b"")["type"])
                types[side, it.key or b""].append("x" * len(type_) if type_ == UNKNOWN_TYPE else type_)
            except (ValueError, KeyError, TypeError):
                continue
    return sorted(types.values())


def time_of(record: Any) -> int:
    """Give the timestamp of a record on a topic where the broker writes it."""
    found: int = record.timestamp
    return found


async def test_a_replay_at_a_speed_takes_as_long_as_the_speed_says(settings: Settings, tmp_path: Path) -> None:
    target = elsewhere(settings)
    async with Stage.open(settings, tmp_path) as stage, Stage.open(target, tmp_path) as lab:
        await filled(stage, 400)
        counted = await answered(settings, "replay", "--to-prefix", target.topic_prefix, "--dry-run")
        days = 5
        played = await answered(
            settings, "replay", "--to-prefix", target.topic_prefix, "--speed", str(days * 86_400 / 4)
        )
        assert played["seconds"] >= 3.5
        records = [it for part in (await lying(lab)).values() for it in part]
        assert len(records) == counted["records"]
        first, last = min(map(time_of, records)), max(map(time_of, records))
        assert last - first >= 3_000  # spread over the time, not put there at once


async def test_a_target_that_would_delete_what_is_old_is_refused(settings: Settings, tmp_path: Path) -> None:
    target = elsewhere(settings)
    async with Stage.open(settings, tmp_path, apply=False) as stage:
        admin = stage._admin
        old = {"message.timestamp.type": "CreateTime", "retention.ms": "-1"}
        short = {"message.timestamp.type": "CreateTime", "retention.ms": str(HOUR_MS)}
        await made(admin, settings, old)
        await made(admin, target, short)
        await topics.apply(settings)
        await topics.apply(target)
        producer_time_ms = time.time_ns() // 1_000_000 - 2 * HOUR_MS
        await put(settings, f"{settings.topic_prefix}messages.inbound", producer_time_ms)
        command = ("replay", "--to-prefix", target.topic_prefix)
        code, _, err = await janela(settings, *command)
        assert code == 2
        assert "retention.ms=-1" in err
        moved = await answered(settings, *command, "--times", "shifted")
        assert moved["written"] == 1


async def test_until_leaves_nothing_out_where_records_keep_times_of_their_own(
    settings: Settings, tmp_path: Path
) -> None:
    now_ms = time.time_ns() // 1_000_000
    async with Stage.open(settings, tmp_path, apply=False) as stage:
        await made(stage._admin, settings, {"message.timestamp.type": "CreateTime", "retention.ms": "-1"})
        for age_s in (100, 90, 10, 80, 70, 5):
            await put(settings, f"{settings.topic_prefix}messages.inbound", now_ms - age_s * 1000)
        found = await answered(settings, "replay", "--to-prefix", "lab.", "--until", "50s", "--dry-run")
        everything = await answered(settings, "replay", "--to-prefix", "lab.", "--since", "99999d", "--dry-run")
    assert (found["records"], everything["records"]) == (4, 6)


async def test_a_record_that_nobody_can_read_costs_no_other_one(settings: Settings, tmp_path: Path) -> None:
    """Its value has no time, so it can't keep others waiting; its header's name is not UTF-8."""
    target, archive = elsewhere(settings), tmp_path / "a.jsonl.zst"
    inbound = f"{settings.topic_prefix}messages.inbound"
    async with Stage.open(settings, tmp_path), Stage.open(target, tmp_path) as lab:
        named = batches.batch([(b"k", b"not JSON", [("name", b"x")])]).replace(b"name", b"n\xff\xfee")
        producer = settings.connection.producer()
        await producer.start()
        await batches.put(producer, TopicPartition(inbound, 0), batches.compressed(named, 0, bytes))
        await producer.stop()
        await put(settings, inbound, time.time_ns() // 1_000_000 - HOUR_MS)
        await put(settings, inbound, time.time_ns() // 1_000_000 - HOUR_MS + 1000)
        assert (await answered(settings, "archive", str(archive)))["records"] == 3
        began_s = time.monotonic()
        assert (await answered(settings, "replay", "--to-prefix", target.topic_prefix, "--speed", "1"))["written"] == 3
        assert time.monotonic() - began_s < 60 * patience()
        assert sum(map(len, (await lying(lab)).values())) == 3


async def test_another_archive_under_the_name_of_one_is_another_replay(settings: Settings, tmp_path: Path) -> None:
    target, archive = elsewhere(settings), tmp_path / "a.jsonl.zst"
    inbound = f"{settings.topic_prefix}messages.inbound"
    command = ("replay", "--to-prefix", target.topic_prefix, "--from-archive", str(archive))
    async with Stage.open(settings, tmp_path), Stage.open(target, tmp_path):
        await put(settings, inbound, time.time_ns() // 1_000_000)
        await answered(settings, "archive", str(archive))
        first = await answered(settings, *command)
        assert (first["written"], (await answered(settings, *command))["there_before"]) == (1, 1)
        await answered(settings, "archive", str(archive))
        code, _, err = await janela(settings, *command)
        assert (code, "found records of another producer" in err) == (2, True)
        again = await answered(settings, *command, "--append")
    assert again["written"] == 1
    assert again["replay_id"] != first["replay_id"]


async def test_an_archive_that_sigterm_ends_leaves_nothing_behind(settings: Settings, tmp_path: Path) -> None:
    archive = tmp_path / "archive" / "a.jsonl.zst"
    archive.parent.mkdir()
    async with Stage.open(settings, tmp_path) as stage:
        await filled(stage, 60_000)
        process = await started(settings, "archive", str(archive))
        await stage.until("it is being written", lambda: any(archive.parent.iterdir()), 60 * patience())
        process.send_signal(signal.SIGTERM)
        await ended(process)
    assert process.returncode == 130
    assert list(archive.parent.iterdir()) == []


# ---------------------------------------------------------------------------------------- how long ago, and a later try


def lain(*ages_s: int, now_ms: int) -> list[StoredRecord]:
    """Give records of one partition that were written so long ago."""
    value = json.dumps({"id": "1", "time": now_ms}).encode()
    return [
        StoredRecord("inbound", 0, offset, now_ms - age_s * 1000, b"whatsapp:1:2", value, ())
        for offset, age_s in enumerate(ages_s)
    ]


def archived(path: Path, records: list[StoredRecord]) -> Path:
    with ArchiveWriter(path, Manifest(janela_archive=VERSION, partitions=PARTITIONS, written="now")) as writer:
        writer.write(records)
    return path


def writer_to(target: Settings, replay_id: str = "one") -> ReplayTarget:
    return ReplayTarget(target.connection, target.topic_prefix, Room(PARTITIONS, None), PARTITIONS, replay_id)


@pytest.mark.parametrize(
    ("bound", "ago_ms", "broken_off_at", "first"),
    [("since_ms", (30_000, 15_000), 2, 1), ("until_ms", (15_000, 0), 1, 0)],
    ids=["since", "until"],
)
async def test_a_later_try_takes_what_the_first_one_would_have_taken(
    settings: Settings, tmp_path: Path, bound: str, ago_ms: tuple[int, int], broken_off_at: int, first: int
) -> None:
    """The first one broke off after one record; the second comes 15 s later, when the same words mean another time."""
    now_ms = time.time_ns() // 1_000_000
    path = archived(tmp_path / "a.zst", lain(40, 25, 20, 10, now_ms=now_ms))
    target = elsewhere(settings)
    written: list[tuple[int, int]] = []
    async with Stage.open(target, tmp_path) as lab:
        for ago, to_offset in zip(ago_ms, (broken_off_at, None), strict=True):
            asked: dict[str, Any] = {bound: now_ms - ago}
            source = ArchiveSource(path, Selection(**asked, to_offset=to_offset))
            player = Player(source, writer_to(target), Pace(), is_shifted=False, **asked)
            played = await player.play(lambda *_: None, may_append=False)
            written.append((played.before, played.written))
        found = (await lying(lab))["inbound", 0]
    assert written == [(0, 1), (1, 2)]
    assert [dict(it.headers)["replay-source"] for it in found] == [b"0@%d" % (first + n) for n in range(3)]


async def test_an_id_stands_for_one_wish_and_one_source(settings: Settings, tmp_path: Path) -> None:
    """The last record of each partition may be there, and those before it not."""
    target = elsewhere(settings)
    now_ms = time.time_ns() // 1_000_000
    one, other = (archived(tmp_path / name, lain(*(9,) * n, now_ms=now_ms)) for name, n in (("a.zst", 4), ("b.zst", 9)))
    command = ("replay", "--to-prefix", target.topic_prefix, "--id", "mine")
    first = (*command, "--from-archive", str(one), "--offsets", "2:")
    async with Stage.open(settings, tmp_path), Stage.open(target, tmp_path) as lab:
        assert (await answered(settings, *first))["written"] == 2
        for more in (
            ("--from-archive", str(one), "--offsets", ":2"),
            ("--from-archive", str(one), "--offsets", "2:", "--contact", "2"),
            ("--from-archive", str(other), "--offsets", "2:"),
            (),
        ):
            code, out, err = await janela(settings, *command, *more)
            assert (code, out) == (2, "")
            assert "found records of this --id that were asked for otherwise or come from elsewhere" in err
            told = await answered(settings, *command, *more, "--dry-run")
            assert "asked for otherwise" in told["refused"]
        again = await answered(settings, *first)
        assert (again["written"], again["there_before"]) == (0, 2)
        assert sum(map(len, (await lying(lab)).values())) == 2


async def test_a_dry_run_tells_what_is_there_and_what_is_left_and_begins_no_transaction(
    settings: Settings, tmp_path: Path
) -> None:
    target, now_ms = elsewhere(settings), time.time_ns() // 1_000_000
    records = lain(*(9,) * 5, now_ms=now_ms)
    path = archived(tmp_path / "a.zst", records)
    command = ("replay", "--to-prefix", target.topic_prefix, "--from-archive", str(path), "--dry-run")
    absent = await answered(settings, *command)
    assert (absent["records"], absent["remaining"], absent["record_times_kept"]) == (5, 0, None)
    assert "found none named" in absent["refused"]
    async with Stage.open(target, tmp_path) as lab:
        told = await answered(settings, *command)
        assert (told["there_before"], told["remaining"], told["refused"]) == (0, 5, None)
        under_way = writer_to(target, told["replay_id"])
        await under_way.start(lambda _: None)
        for number, record in enumerate(records):
            under_way.add(record, record, None)
            if number == 2:
                await under_way.flush()
                told = await answered(settings, *command)
                assert (told["there_before"], told["remaining"], told["refused"]) == (3, 2, None)
        await under_way.flush()  # nobody has taken it over meanwhile
        await under_way.stop()
        _, out, _ = await janela(settings, *command)
        assert "nothing written (--dry-run); 0 would be, 5 are there" in out
        assert sum(map(len, (await lying(lab)).values())) == 5
        stranger = await answered(settings, *command, "--id", "another")
        assert "found records of another producer" in stranger["refused"]


@pytest.mark.parametrize("kind", ["CreateTime", "LogAppendTime"])
async def test_record_times_go_through_a_target_that_keeps_them_and_another_one_is_named(
    kind: str, settings: Settings, tmp_path: Path
) -> None:
    now_ms = time.time_ns() // 1_000_000
    path = archived(tmp_path / "a.zst", lain(4000, 3000, 1000, now_ms=now_ms))
    ages_s: list[list[float]] = []
    for times in ("original", "shifted"):
        target = elsewhere(settings).model_copy(update={"topic_prefix": f"{settings.topic_prefix}{times}."})
        async with Stage.open(target, tmp_path, apply=False) as lab:
            await made(lab._admin, target, {"message.timestamp.type": kind, "retention.ms": "-1"})
            await topics.apply(target)
            command = ("replay", "--to-prefix", target.topic_prefix, "--from-archive", str(path), "--times", times)
            code, out, err = await janela(settings, *command, "--json")
            assert code == 0
            assert json.loads(out)["record_times_kept"] is (kind == "CreateTime")
            assert ("record times are not kept" in err) is (kind == "LogAppendTime" and times == "original")
            ages_s.append([(now_ms - it.timestamp) / 1000 for it in (await lying(lab))["inbound", 0]])
    if kind == "CreateTime":
        assert ages_s[0] == [4000, 3000, 1000]
        first_s, second_s, last_s = ages_s[1]  # moved by one distance, so that the last one is of now
        assert (first_s - second_s, second_s - last_s) == pytest.approx((1000, 2000))
        assert -60 * patience() < last_s <= 0


async def test_a_topic_is_not_put_on_itself_by_another_address(settings: Settings, tmp_path: Path) -> None:
    elsewhere_said = settings.bootstrap_servers.replace("127.0.0.1", "localhost")
    assert elsewhere_said != settings.bootstrap_servers
    command = ("replay", "--to-prefix", settings.topic_prefix, "--to-bootstrap-servers", elsewhere_said, "--append")
    async with Stage.open(settings, tmp_path) as stage:
        await put(settings, f"{settings.topic_prefix}messages.inbound", time.time_ns() // 1_000_000)
        code, out, err = await janela(settings, *command)
        assert (code, out) == (2, "")
        assert "it is where the records come from, by another address" in " ".join(err.split())
        assert sum(map(len, (await lying(stage)).values())) == 1


@pytest.mark.parametrize(("since", "is_told"), [("1h", True), ("2026-01-01T00:00:00Z", False)])
async def test_each_record_tells_from_when_on_they_were_taken_where_that_was_said_as_how_long_ago(
    since: str, is_told: bool, settings: Settings, tmp_path: Path
) -> None:
    target = elsewhere(settings)
    async with Stage.open(settings, tmp_path), Stage.open(target, tmp_path) as lab:
        await put(settings, f"{settings.topic_prefix}messages.inbound", time.time_ns() // 1_000_000)
        began_ms = time.time_ns() // 1_000_000
        command = ("replay", "--to-prefix", target.topic_prefix, "--since", since)
        assert (await answered(settings, *command))["written"] == 1
        (found,) = [it for part in (await lying(lab)).values() for it in part]
    told_ms = dict(found.headers).get("replay-since-ms")
    assert (told_ms is not None) is is_told
    if told_ms is not None:
        assert 0 <= int(told_ms) - (began_ms - HOUR_MS) < 60_000 * patience()


async def test_another_producers_records_are_noticed_before_the_source_is_counted(
    settings: Settings, tmp_path: Path
) -> None:
    target = elsewhere(settings)
    path = archived(tmp_path / "a.zst", lain(1, now_ms=time.time_ns() // 1_000_000))
    told: list[str] = []
    async with Stage.open(target, tmp_path):
        await put(target, f"{target.topic_prefix}messages.inbound", time.time_ns() // 1_000_000)
        player = Player(ArchiveSource(path, Selection()), writer_to(target), Pace(), is_shifted=False)
        with pytest.raises(ClusterError, match="found records of another producer"):
            await player.play(lambda what, *_: told.append(what), may_append=False)
    assert set(told) == {"reading the target"}


# ------------------------------------------------------------------------------------------------- open transactions


@asynccontextmanager
async def open_transaction(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    """Have a stranger's transaction open on the inbound topic, each partition of it, until it is aborted."""
    stranger = settings.connection.producer(
        transactional_id=f"{settings.topic_prefix}stranger", transaction_timeout_ms=600_000
    )
    await stranger.start()
    try:
        await stranger.begin_transaction()
        for partition in range(PARTITIONS):
            await stranger.send_and_wait(f"{settings.topic_prefix}messages.inbound", b"open", partition=partition)
        yield stranger
    finally:
        await stranger.stop()


async def test_what_lies_behind_an_open_transaction_is_waited_for_and_then_told_of(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbound = f"{settings.topic_prefix}messages.inbound"
    now_ms = time.time_ns() // 1_000_000
    async with Stage.open(settings, tmp_path), open_transaction(settings) as stranger:
        await put(settings, inbound, now_ms)
        for selection in (Selection(), Selection(since_ms=now_ms - HOUR_MS)):
            with monkeypatch.context() as hurried:
                hurried.setattr(replay_topics, "SILENT_S", 2)
                words = re.escape(f"{inbound}[0]: nothing to read for 2 s; is a transaction open?")
                with pytest.raises(ClusterError, match=words):
                    await survey(await topic_source(settings, selection), lambda *_: None)
        reading = asyncio.create_task(survey(await topic_source(settings, Selection()), lambda *_: None))
        await asyncio.wait((reading,), timeout=2)
        assert not reading.done()
        await stranger.abort_transaction()
        assert (await reading).records == 1


async def test_a_later_try_finds_its_own_records_behind_an_open_transaction(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = elsewhere(settings)
    (record,) = lain(1, now_ms=time.time_ns() // 1_000_000)
    async with Stage.open(target, tmp_path):
        first = writer_to(target)
        await first.start(lambda _: None)
        async with open_transaction(target) as stranger:
            first.add(record, record, None)
            await first.flush()
            await first.stop()
            monkeypatch.setattr(replay_target, "SILENT_S", 2)
            second = writer_to(target)
            with pytest.raises(ClusterError, match=r"messages.inbound\[0\]: nothing to read for .* transaction open"):
                await second.start(lambda _: None)
            await second.stop()
            await stranger.abort_transaction()
        third = writer_to(target)
        before = await third.start(lambda _: None)
        await third.stop()
    assert (before.records, before.foreign) == (1, None)


async def test_a_replay_that_another_start_has_fenced_says_so_and_complains_of_nothing_else(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = elsewhere(settings)
    async with Stage.open(target, tmp_path):
        first, second = writer_to(target), writer_to(target)
        await first.start(lambda _: None)
        await second.start(lambda _: None)
        for partition in range(PARTITIONS):
            (record,) = lain(1, now_ms=time.time_ns() // 1_000_000)
            record = record._replace(partition=partition, is_at_home=None, key=None)
            first.add(record, record, None)
        with pytest.raises(ClusterError, match=r"the replay broke off.*ProducerFenced.*; start it again"):
            await first.flush()
        for each in (first, second):
            await each.stop()
        del first, second
        gc.collect()
    assert not [it for it in caplog.records if it.name == "asyncio"]


@pytest.mark.parametrize("verb", [("archive", "a.zst"), ("replay", "--to-prefix", "lab.", "--dry-run")])
async def test_a_partition_that_is_not_there_is_refused(
    verb: tuple[str, ...], settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with Stage.open(settings, tmp_path):
        code, out, err = await janela(settings, *verb, "--partition", str(PARTITIONS))
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == f"partition: found {PARTITIONS}, expected 0 to {PARTITIONS - 1}"
    assert not (tmp_path / "a.zst").exists()


async def made(admin: AIOKafkaAdminClient, settings: Settings, configuration: dict[str, str]) -> None:
    names = [f"{settings.topic_prefix}{name}" for name in INPUTS.values()]
    await admin.create_topics([NewTopic(name, PARTITIONS, 1, topic_configs=configuration) for name in names])


async def put(settings: Settings, topic: str, timestamp_ms: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers)
    await producer.start()
    body = {"id": "1", "type": "text", "business_id": "1", "contact_id": "2", "time": timestamp_ms}
    await producer.send_and_wait(topic, json.dumps(body).encode(), b"whatsapp:1:2", timestamp_ms=timestamp_ms)
    await producer.stop()
