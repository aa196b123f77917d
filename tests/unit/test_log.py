"""What is asked about the ends of logs, and to which moment an answer belongs."""

import time
from typing import Any

from aiokafka import TopicPartition

from processor.kafka.connection import Connection
from processor.kafka.log import LogReader

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
