"""The floor: what aiokafka's `getmany` alone takes for the inputs, as a process of its own.

``python -m tests.bench.peers.floor BOOTSTRAP_SERVERS PARTITIONS TOPIC…`` reads topics to their ends and does nothing
with the records.
"""

import asyncio
import json
import sys
import time

from aiokafka import AIOKafkaConsumer, TopicPartition

FETCH_BYTES_MAX = 1024 * 1024
"""Of a partition; as our worker has it."""


async def _main(bootstrap_servers: str, partitions: int, topics: list[str]) -> None:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        max_partition_fetch_bytes=FETCH_BYTES_MAX,
    )
    await consumer.start()
    try:
        tps = [TopicPartition(topic, n) for topic in topics for n in range(partitions)]
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        events = sum((await consumer.end_offsets(tps)).values())
        began_s, cpu_before_s, seen = time.monotonic(), time.process_time(), 0
        while seen < events:
            seen += sum(map(len, (await consumer.getmany(timeout_ms=1000)).values()))
        took_s, used_s = time.monotonic() - began_s, time.process_time() - cpu_before_s
    finally:
        await consumer.stop()
    print(json.dumps({"events": events, "seconds": took_s, "cpu_s": used_s}))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
