"""`janela rebuild` on a real broker: what was lost comes back in its place, and nothing is said of it."""

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.errors import KafkaError

from processor import topics
from processor.audit.findings import OUTPUTS
from processor.audit.partitioner import partition_of
from processor.audit.reading import verify
from processor.audit.records import TopicKind
from processor.codec.state import encode_consents
from processor.core.consent import Consents, Register
from processor.rebuild import rebuilder
from processor.rebuild.plan import plan
from processor.rebuild.rebuilder import Rebuilder
from processor.settings import Settings
from processor.stream.engine import EXIT_REFUSED
from processor.topics import ClusterError
from tests.chaos.backlog import HOUR_MS, Wanted, backlog
from tests.chaos.harness import INPUTS, Stage
from tests.integration.test_rebuild import READY_S, STATES, made_anew, states
from tests.integration.test_replay import answered
from tests.verbs import janela, typed

pytestmark = pytest.mark.timeout(300)

KILLED = -9


@pytest.fixture
def stage_of(tmp_path: Path) -> Any:
    """Open a stage for settings, its logs in a folder of its own."""
    return lambda settings: Stage.open(settings, tmp_path)


async def worked(stage: Stage, seed: int = 11, events: int = 5_000) -> None:
    """Put days of a business on the inputs, let a worker take them, and stop it."""
    end_ms = time.time_ns() // 1_000_000 - 3 * HOUR_MS
    await stage.preload(backlog(seed, events, 250, stage.settings.partitions, end_ms))
    worker = stage.worker("w")
    await stage.until_consumed(READY_S)
    worker.kill()
    await stage.evict(worker)


async def spoil(stage: Stage, records: Mapping[bytes, bytes | None], name: str = "window-state") -> int:
    """Write records over those of the state, each on its key's partition; gives how many."""
    places = {it.key: tp.partition for tp, found in (await stage.records(name)).items() for it in found}
    producer = stage.settings.connection.producer()
    await producer.start()
    for key, value in records.items():
        await producer.send_and_wait(stage.names[name], value, key, partition=places.get(key, 0))
    await producer.stop()
    return len(records)


@pytest.mark.parametrize(("partitions", "clock", "lost"), [(2, "event", STATES), (5, "live", STATES[:1])], ids=str)
async def test_state_that_was_lost_is_rebuilt_record_by_record_and_the_workers_go_on(
    settings: Settings, stage_of: Any, partitions: int, clock: str, lost: tuple[str, ...]
) -> None:
    settings = settings.model_copy(update={"partitions": partitions, "clock": clock})
    async with stage_of(settings) as stage:
        await worked(stage)
        before, said, offsets = await states(stage), await stage.ends(*OUTPUTS), await stage.committed()
        await made_anew(stage, *lost)

        told = await answered(settings, "rebuild", "--yes")

        assert await states(stage) == before
        assert len(before["window-state"]) > 150
        assert before["consent-state"]
        assert told["windows"] == len(before["window-state"])
        assert told["consents"] == len(before["consent-state"])
        assert told["changed"] == sum(len(before[name]) for name in lost)
        assert len(told["partitions"]) == partitions
        assert await stage.ends(*OUTPUTS) == said
        assert await stage.committed() == offsets
        verdict = await verify(settings)
        assert verdict.is_clean, verdict
        again = await answered(settings, "rebuild", "--yes")
        assert again["changed"] == 0

        await stage.preload(backlog(12, 300, 250, partitions, time.time_ns() // 1_000_000, 0.01, first=5_000))
        stage.worker("w")
        await stage.until_consumed(READY_S)
        verdict = await verify(settings)
    assert verdict.is_clean, verdict


async def test_the_inputs_are_applied_in_the_order_in_which_they_were_taken_and_not_in_that_of_their_times(
    settings: Settings, stage_of: Any
) -> None:
    key, now_ms = b"whatsapp:15550001:5511900000001", time.time_ns() // 1_000_000
    of_contact = {"business_id": "15550001", "contact_id": "5511900000001", "type": "text"}

    def record(kind: TopicKind, time_ms: int) -> Wanted:
        body = of_contact | {"id": f"{kind}.{time_ms}", "time": time_ms}
        return Wanted(kind, partition_of(key, settings.partitions), key, json.dumps(body).encode())

    async with stage_of(settings) as stage:
        worker = stage.worker("w")
        for one in record("outbound", now_ms - 1_000), record("inbound", now_ms - 2_000):
            await stage.preload([one])  # what was sent is judged before it is known that the customer had written
            await stage.until_consumed(READY_S)
        worker.kill()
        await stage.evict(worker)
        before = await states(stage)
        assert before["window-state"][key]["last_answer_at"] is None
        await made_anew(stage, *STATES)
        await answered(settings, "rebuild", "--yes")
        assert await states(stage) == before


@pytest.mark.parametrize(
    ("place", "times", "is_begun"),
    [
        pytest.param("offsets-sent", 1, False, marks=pytest.mark.chaos),
        pytest.param("transaction-ended", 1, True, marks=pytest.mark.chaos),
        ("records-sent", 2, True),
        pytest.param("transaction-ended", 2, True, marks=pytest.mark.chaos),
        pytest.param("offsets-sent", 3, True, marks=pytest.mark.chaos),
    ],
)
async def test_a_rebuild_that_is_killed_is_started_again_and_no_worker_takes_what_it_left(
    settings: Settings, stage_of: Any, place: str, times: int, is_begun: bool
) -> None:
    async with stage_of(settings) as stage:
        await worked(stage, events=3_000)
        before, said = await states(stage), await stage.ends(*OUTPUTS)
        await made_anew(stage, *STATES)
        code, _, err = await janela(settings, "rebuild", "--yes", failpoint=f"{place}:{times}")
        assert code == KILLED, err
        if is_begun:
            worker = stage.worker("w")
            assert await worker.ended(READY_S) == EXIT_REFUSED
            assert "run `janela rebuild` to its end" in worker.told()
            await stage.evict(worker)

        told = await answered(settings, "rebuild", "--yes")

        assert await states(stage) == before
        assert await stage.ends(*OUTPUTS) == said
        is_one_done = (place, times) == ("transaction-ended", 2) or times == 3
        assert [each["partition"] for each in told["partitions"]] == ([1] if is_one_done else [0, 1])
        verdict = await verify(settings)
        assert verdict.is_clean, verdict
        stage.worker("w2")
        await stage.preload(backlog(13, 50, 20, settings.partitions, time.time_ns() // 1_000_000, 0.01, first=3_000))
        await stage.until_consumed(READY_S)


async def test_a_record_that_is_damaged_gone_or_nobodys_is_mended_and_no_other_is_written(
    settings: Settings, stage_of: Any
) -> None:
    async with stage_of(settings) as stage:
        await worked(stage)
        before = await states(stage)
        damaged, gone, wrong = sorted(before["window-state"])[:3]
        other = json.dumps(before["window-state"][wrong] | {"last_answer_at": 7, "sequence": "0" * 20}).encode()
        spoilt = await spoil(stage, {damaged: b"{", gone: None, wrong: other, b"whatsapp:1:nobody": other})
        spoilt += await spoil(stage, {next(iter(before["consent-state"])): b"[]"}, "consent-state")
        ends = await stage.ends(*STATES)

        dry = await answered(settings, "rebuild", "--dry-run")
        code, out, err = await typed(settings, b"n\n", "rebuild")
        assert (code, out.strip()) == (1, "")
        assert "Rebuild? [y/N]:" in err
        assert await stage.ends(*STATES) == ends
        code, out, err = await typed(settings, b"y\n", "rebuild", "--json")
        assert code == 0, err
        told = json.loads(out)

        assert await states(stage) == before
        for each in dry, told:
            assert (each["changed"], each["removed"], each["unreadable"]) == (spoilt, 1, 2)
        written = await stage.records(*STATES)
        assert sum(it.offset >= ends[tp] for tp in ends for it in written[tp]) == spoilt


async def test_a_state_of_many_records_is_written_in_several_transactions(
    settings: Settings, stage_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuilder, "TRANSACTION_RECORDS_MAX", 20)
    async with stage_of(settings) as stage:
        await worked(stage)
        before = await states(stage)
        await made_anew(stage, *STATES)
        told: list[tuple[int, int]] = []
        work = Rebuilder(
            settings, await plan(settings, None), lambda _, done, total: told.append((done, total)), writes=True
        )
        outcomes = [outcome async for outcome in work.run()]
        assert sum(outcome.changed for outcome in outcomes) > 100
        assert await states(stage) == before
        assert told[-1][0] == told[-1][1] > 0
        verdict = await verify(settings)
        assert verdict.is_clean, verdict


async def test_while_a_worker_is_in_the_group_nothing_is_written_also_where_it_comes_last(
    settings: Settings, stage_of: Any
) -> None:
    async with stage_of(settings) as stage:
        await worked(stage, events=1_000)
        await made_anew(stage, *STATES)
        made = await plan(settings, None)
        worker = stage.worker("late")

        async def has_joined() -> bool:
            return bool((await stage.partitions_of(worker))[1])

        await stage.until("it is a member", has_joined, READY_S)
        ends = await stage.ends(*STATES)
        with pytest.raises(ClusterError, match=r"found 1 workers in it .*late.*, expected none; stop them"):
            _ = [outcome async for outcome in Rebuilder(settings, made, lambda *_: None, writes=True).run()]
        code, out, err = await janela(settings, "rebuild", "--yes")
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == 1
        assert "stop them" in err
        assert await stage.ends(*STATES) == ends


async def test_where_inputs_are_gone_it_says_since_when_and_keeps_what_is_recorded_if_so_asked(
    settings: Settings, stage_of: Any
) -> None:
    async with stage_of(settings) as stage:
        await worked(stage)
        before = await states(stage)
        ends = await stage.ends(*INPUTS.values())
        async with topics.asking(settings) as admin:
            await admin.delete_records({tp: RecordsToDelete(before_offset=end // 2) for tp, end in ends.items()})

        code, out, err = await janela(settings, "rebuild", "--yes")
        assert (code, out) == (2, "")
        first = TopicPartition(stage.names["messages.inbound"], 0)
        begins = f"{first.topic}[0]: begins at offset {ends[first] // 2:,}; of windows, answers and consents before 20"
        assert begins in err
        assert "--incomplete" in err

        damaged = max(before["window-state"], key=lambda key: before["window-state"][key]["opened_at"])
        await spoil(stage, {damaged: b"{"})
        told = await answered(settings, "rebuild", "--yes", "--incomplete")
        after = await states(stage)
        for found in before, after:  # an answer to a window that the inputs do not know any more leaves no trace
            del found["window-state"][damaged]["last_answer_at"]
        assert after == before
        assert (told["changed"], told["unreadable"]) == (1, 1)
        assert told["kept"] > 0
        assert len(told["incomplete"]) == 4


async def test_where_an_input_is_compacted_it_refuses_and_goes_on_once_the_log_says_that_records_are_gone(
    settings: Settings, stage_of: Any
) -> None:
    async with stage_of(settings) as stage:
        await worked(stage, events=1_000)
        inbound = stage.names["messages.inbound"]
        opted_out = b"whatsapp:1:opted-out"  # a message of the same contact may have taken its opt-out away
        recorded = {opted_out: encode_consents(Consents(marketing=Register(False, 7)))}
        await spoil(stage, recorded, "consent-state")
        before = await states(stage)

        async def set_policy(policy: str) -> None:
            async with topics.asking(settings) as admin:
                wanted = ConfigResource(ConfigResourceType.TOPIC, inbound, {"cleanup.policy": policy})
                (response,) = await admin.alter_configs([wanted])
                assert [code for code, *_ in response.resources] == [0]

        await set_policy("compact")
        for arguments in ("--yes",), ("--yes", "--incomplete"), ("--dry-run",):
            code, out, err = await janela(settings, "rebuild", *arguments)
            assert (code, out, len(err.splitlines())) == (2, "", 1), err
            assert f"{inbound}: cleanup.policy: found compact, expected delete; " in err
        await set_policy("delete")
        async with topics.asking(settings) as admin:
            gone = {tp: RecordsToDelete(before_offset=1) for tp in stage.tps("messages.inbound")}
            await admin.delete_records(gone)
        told = await answered(settings, "rebuild", "--yes", "--incomplete")
        assert told["kept"] > 0
        after = await states(stage)
        assert after["consent-state"] == before["consent-state"]
        assert opted_out in after["consent-state"]


async def test_offsets_that_a_strange_transaction_holds_end_it_with_one_line(settings: Settings, stage_of: Any) -> None:
    """A transaction that no worker began, and that no time-out ends soon, stands for one that hangs."""
    settings = settings.model_copy(update={"transaction_timeout_ms": 6_000})
    stranger = settings.connection.producer(
        transactional_id=f"{settings.topic_prefix}stranger", transaction_timeout_ms=600_000
    )
    async with stage_of(settings) as stage:
        await worked(stage, events=100)
        ends = await stage.ends(*STATES)
        await stranger.start()
        try:
            async with stranger.transaction():
                offsets = {TopicPartition(stage.names["messages.inbound"], 0): 0}
                await stranger.send_offsets_to_transaction(offsets, settings.app_id)
                code, out, err = await janela(settings, "rebuild", "--yes")
        finally:
            await stranger.stop()
        assert (code, out) == (2, "")
        assert "Traceback" not in err
        assert "find-hanging" in err.splitlines()[-1]
        assert await stage.ends(*STATES) == ends


@pytest.mark.parametrize("is_marked", [False, True], ids=["before it is marked", "after it is marked"])
async def test_inputs_that_go_while_it_runs_are_not_taken_for_read(
    is_marked: bool, settings: Settings, stage_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage_of(settings) as stage:
        await worked(stage, events=1_000)
        before = await states(stage)
        ends = await stage.ends(*INPUTS.values())
        work = Rebuilder(settings, await plan(settings, None), lambda *_: None, writes=True)
        mark = work._mark

        async def delete() -> None:
            async with topics.asking(settings) as admin:
                await admin.delete_records({tp: RecordsToDelete(before_offset=end // 2) for tp, end in ends.items()})

        async def marked(parts: Any) -> None:
            await mark(parts)
            await delete()

        if is_marked:
            monkeypatch.setattr(work, "_mark", marked)
        else:
            await delete()
        with pytest.raises(KafkaError if is_marked else ClusterError):
            _ = [outcome async for outcome in work.run()]
        assert await states(stage) == before


async def test_what_makes_a_rebuild_impossible_is_said_in_one_line(settings: Settings, stage_of: Any) -> None:
    async def refused(*arguments: str, settings: Settings = settings) -> str:
        code, out, err = await janela(settings, "rebuild", *arguments)
        assert (code, out) == (2, ""), err
        assert "Traceback" not in err
        return err

    assert "topics: found none" in await refused("--yes")
    async with stage_of(settings) as stage:
        err = await refused("--yes")
        assert len(err.splitlines()) == 1
        assert "found no committed offset of" in err
        await worked(stage, events=100)
        assert "found 2, expected 0 to 1" in await refused("--partition", "2")
        assert "no terminal to ask on" in await refused()
        assert "partitions: found 2, expected 3" in await refused(
            "--yes", settings=settings.model_copy(update={"partitions": 3})
        )
        async with topics.asking(settings) as admin:
            await admin.delete_topics([stage.names["window-state"]])
        await asyncio.sleep(1)
        assert "create it with `janela topics apply`" in await refused("--yes")
