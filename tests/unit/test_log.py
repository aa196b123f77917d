"""What is asked about the ends of logs, and to which moment an answer belongs."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaTimeoutError

from processor.kafka.connection import Connection
from processor.kafka.log import NO_ENDS, LogReader

TP = TopicPartition("messages.inbound", 0)


async def test_the_ends_of_logs_count_from_before_the_question() -> None:
    """What is written while the answer is on its way may lie before the moment at which it comes."""
    reader = LogReader(Connection("127.0.0.1:1"), lambda: time.time_ns() // 1_000_000)
    answered_ms: list[int] = []

    async def end_offsets(tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        time.sleep(0.005)  # noqa: ASYNC251 (the clock must move)
        answered_ms.append(time.time_ns() // 1_000_000)
        return dict.fromkeys(tps, 7)

    client: Any = reader._all
    client.end_offsets = end_offsets
    ends = await reader.ends([TP])
    assert ends.offsets == {TP: 7}
    assert ends.noted_ms < answered_ms[0]
    await reader.stop()


async def test_where_brokers_stay_silent_nothing_is_known_of_the_ends_until_they_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = [1.0]
    monkeypatch.setattr("processor.kafka.log.time", SimpleNamespace(monotonic=lambda: now_s[0]))
    reader = LogReader(Connection("127.0.0.1:1"), lambda: 1)
    answers: list[Any] = [KafkaTimeoutError(), {TP: 7}, {TP: 8}]
    silent_s: list[float] = []

    async def end_offsets(_: list[TopicPartition]) -> Any:
        now_s[0] += 40
        silent_s.append(reader.silent_s())
        if isinstance(answer := answers.pop(0), Exception):
            raise answer
        return answer

    client: Any = reader._all
    client.end_offsets = end_offsets
    assert await reader.known_ends([TP]) is NO_ENDS
    assert reader.silent_s() == 0  # nobody asks: in a backlog that may be so for long, and nothing is wrong
    assert [(await reader.known_ends([TP])).offsets for _ in range(2)] == [{TP: 7}, {TP: 8}]
    assert silent_s == [40, 80, 40]  # one silence over two questions, until it is answered
    await reader.stop()


async def test_a_question_that_is_broken_off_comes_to_nothing_and_its_asker_goes_on() -> None:
    reader = LogReader(Connection("127.0.0.1:1"), lambda: 1)

    async def end_offsets(_: list[TopicPartition]) -> None:
        await asyncio.Event().wait()

    client: Any = reader._all
    client.end_offsets = end_offsets
    reader.break_off()  # nobody asks: nothing to break off
    asker = asyncio.create_task(reader.known_ends([TP]))
    await asyncio.sleep(0)
    reader.break_off()
    assert await asker is NO_ENDS
    assert asker.cancelling() == 0
    assert reader._unanswered_since_s is None
    asker = asyncio.create_task(reader.known_ends([TP]))
    await asyncio.sleep(0)
    asker.cancel()  # by anybody else it is what it always is
    with pytest.raises(asyncio.CancelledError):
        await asker
    await reader.stop()
