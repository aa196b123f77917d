"""State that was damaged where it lies: a worker refuses to start from it, and says in a line which record it is.

What it wrote before stays as the rules want it, and once the record is mended it goes on as if nothing had been.
"""

import json
import random
from contextlib import suppress
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from processor.audit.reading import verify
from processor.settings import Settings
from processor.stream.engine import EXIT_REFUSED
from tests.chaos.harness import Stage, Worker
from tests.chaos.test_exactly_once import QUICK, START_S, drained, filled, stopped
from tests.chaos.trial import IS_LONG, SEED, Trial

pytestmark = [pytest.mark.chaos, pytest.mark.short, pytest.mark.timeout(0)]

EVENTS = 3_000
TOPICS = ("window-state", "consent-state")


async def test_a_damaged_byte_or_an_unknown_version_in_the_state_is_refused_by_its_place(
    settings: Settings, tmp_path: Path, trial: Trial
) -> None:
    chance = random.Random(SEED + 7)
    async with Stage.open(settings, tmp_path) as stage:

        async def half_consumed() -> bool:
            return await stage.lag() < EVENTS // 2

        await filled(stage, EVENTS)
        first = stage.worker("first", batch_records_max=20)
        await stage.until("half is consumed", half_consumed, START_S)
        await stopped(first)
        # an unknown version of one topic and a damaged byte of the other: all four where there is time
        cases = [(topic, damage) for topic in TOPICS for damage in ("byte", "version")]
        for topic, damage in cases if IS_LONG else (cases[0], cases[3]):
            place, record, again, headers = await newest(stage, topic, chance)
            damaged = unknown(record) if damage == "version" else bitten(record, chance)
            offset = await put(stage, place, damaged, headers)
            told = await refusal(stage.worker(f"refused-{topic}"))
            assert f"{place[0].topic}, partition {place[0].partition}, offset {offset}: " in told
            assert damage == "byte" or "found version 2, this worker knows 1" in told
            await put(stage, place, again, headers)
            trial.faults[f"{damage} of {topic} damaged"] += 1
        rest = await drained(stage, stage.worker("last", **QUICK))
        trial.notes.append(rest)
        trial.judge(await verify(stage.settings), stage.events_put)


Place = tuple[TopicPartition, bytes]
"""A partition of a state topic, and a key in it."""
Headers = list[tuple[str, bytes | None]]


async def newest(stage: Stage, topic: str, chance: random.Random) -> tuple[Place, bytes, bytes, Headers]:
    """Choose a key of a state topic, and give its newest record, and the same as it is to be put there again.

    That one is numbered after what its partition has, and before what the next worker writes. The headers are those of
    the partition's last record: what is put there tells of that round, as if it were of it.
    """
    found: dict[Place, bytes | None] = {}
    highest: dict[TopicPartition, str] = {}
    headers: dict[TopicPartition, Headers] = {}
    for tp, records in (await stage.records(topic)).items():
        for record in records:
            found[tp, record.key] = record.value
            headers[tp] = list(record.headers)
            if record.value is not None:
                with suppress(ValueError):  # one that was damaged before lies there still
                    highest[tp] = json.loads(record.value).get("sequence", "")
    kept = {place: value for place, value in found.items() if value is not None}
    place = chance.choice(sorted(kept))
    fields = json.loads(kept[place])
    again = fields | {"sequence": f"{highest[place[0]]}+"} if "sequence" in fields else fields
    return place, kept[place], json.dumps(again).encode(), headers[place[0]]


def unknown(record: bytes) -> bytes:
    """Give a record as a later worker might have written it."""
    return json.dumps({**json.loads(record), "v": 2, "sequence": ""}).encode()


def bitten(record: bytes, chance: random.Random) -> bytes:
    """Flip the top bit of a byte, so that no digit becomes another one: that could not be told from the right one."""
    place = chance.randrange(len(record))
    return record[:place] + bytes([record[place] ^ 0x80]) + record[place + 1 :]


async def put(stage: Stage, place: Place, value: bytes, headers: Headers) -> int:
    """Write a state record by hand, and give its offset."""
    tp, key = place
    producer = stage.settings.connection.producer()
    await producer.start()
    try:
        written = await producer.send_and_wait(tp.topic, value, key=key, partition=tp.partition, headers=headers)
        return int(written.offset)
    finally:
        await producer.stop()


async def refusal(worker: Worker) -> str:
    """Wait for a worker that must refuse to run, and give its last line."""
    assert await worker.ended(START_S) == EXIT_REFUSED, worker.told()
    line = worker.lines()[-1]
    assert "worker.refused" in line, worker.told()
    return line
