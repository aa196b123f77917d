"""The reader of outputs can fail: what it is given twice, or what does not stay, it finds."""

import json
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from processor.settings import Settings
from tests.chaos.harness import Stage, patience
from tests.chaos.reader import Reader

pytestmark = [pytest.mark.chaos, pytest.mark.short]

WITHIN_S = 30


async def put(stage: Stage, *sequences: int) -> TopicPartition:
    """Write outputs with these numbers on one partition, as a worker would not."""
    tp = TopicPartition(stage.names["window-opened"], 0)
    producer = stage.settings.connection.producer()
    await producer.start()
    try:
        for sequence in sequences:
            event = json.dumps({"id": f"id {sequence}", "sequence": f"{sequence:020}"}).encode()
            await producer.send_and_wait(tp.topic, event, partition=tp.partition)
    finally:
        await producer.stop()
    return tp


async def test_outputs_that_stay_where_they_were_agree_with_what_was_read(settings: Settings, tmp_path: Path) -> None:
    async with Stage.open(settings, tmp_path) as stage, Reader.open(stage) as reader:
        await put(stage, 1, 2, 5)
        assert await reader.agrees(WITHIN_S * patience()) == 3


async def test_an_output_that_comes_twice_is_found(settings: Settings, tmp_path: Path) -> None:
    async with Stage.open(settings, tmp_path) as stage, Reader.open(stage) as reader:
        await put(stage, 1, 2, 2)
        with pytest.raises(AssertionError, match=r"1 outputs of 0 more than once, such as \[2\]"):
            await reader.agrees(WITHIN_S * patience())


async def test_an_output_that_is_taken_back_is_found(settings: Settings, tmp_path: Path) -> None:
    async with Stage.open(settings, tmp_path) as stage, Reader.open(stage) as reader:
        tp = await put(stage, 1, 2)
        await stage.until("both are read", lambda: reader.outputs == 2, WITHIN_S * patience())
        await stage._admin.delete_records({tp: RecordsToDelete(before_offset=1)})
        with pytest.raises(AssertionError, match="2 outputs live, 1 now; first difference"):
            await reader.agrees(WITHIN_S * patience())
