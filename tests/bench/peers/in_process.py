"""Our core and codec in one thread, without Kafka: what the job itself takes, as a process of its own.

``python -m tests.bench.peers.in_process BOOTSTRAP_SERVERS PARTITIONS TOPIC_PREFIX`` reads the inputs into memory, and
then measures: decode, merge by time, decide, encode outputs and states.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path

from aiokafka import ConsumerRecord, TopicPartition

from processor import garbage
from processor.codec.inputs import InputDecoder
from processor.codec.outputs import TOPICS, OutputEncoder
from processor.codec.state import encode_window
from processor.core.decisions import Effects
from processor.core.partition import Partition
from processor.core.policy import Policy
from processor.settings import Settings
from processor.stream.merge import InputBuffer, merge
from tests.bench.peers.outcome import digest, one_said
from tests.bench.scene import Bench
from tests.chaos.harness import INPUTS

CARRIER = 1000
BATCH = 4000
"""Records in a carrier and of a partition in a round, as our worker has them."""

Outputs = list[tuple[str, bytes, bytes]]


def work(partition: int, settings: Settings, inputs: list[tuple[TopicPartition, list[ConsumerRecord]]]) -> Outputs:
    """Do the whole of one partition."""
    policy = Policy(emit_accepted=False)
    core, encoder = Partition(policy), OutputEncoder(settings.app_id, policy.version)
    decoder = InputDecoder(partition, settings.partitions, core.windows, settings.record_bytes_max, True)
    decoders = (decoder.inbound, decoder.outbound)
    buffers = InputBuffer(inputs[0][0], 0), InputBuffer(inputs[1][0], 0)
    said: Outputs = []
    sequence, taken = 0, [0, 0]
    while True:
        for side, (buffer, (_, records)) in enumerate(zip(buffers, inputs, strict=True)):
            while len(buffer.events) < BATCH and taken[side] < len(records):
                carrier = records[taken[side] : taken[side] + CARRIER]
                decode = decoders[side]
                buffer.add([decode(each.key, each.value, each.timestamp, each.headers) for each in carrier], carrier)
                taken[side] += len(carrier)
        ended = taken[0] == len(inputs[0][1]), taken[1] == len(inputs[1][1])
        events, sides = merge(*buffers, ended, BATCH)
        if not events:
            assert ended == (True, True)
            return said
        effects = Effects()
        applied = core.apply(events, effects)
        for side, buffer in enumerate(buffers):
            buffer.drop_first(sides.count(side, 0, applied))
        for decision in effects.outputs:
            sequence += 1
            said.append((TOPICS[type(decision)], decision.key, encoder.encode(decision, sequence)))
        for key in effects.windows:
            sequence += 1
            window = core.windows.get(key)
            if window is not None:
                encode_window(window, sequence)


async def _main(bootstrap_servers: str, partitions: int, topic_prefix: str) -> None:
    settings = Settings(bootstrap_servers=bootstrap_servers, partitions=partitions, topic_prefix=topic_prefix)
    async with Bench.open(settings, Path(), apply=False) as bench:
        found = await bench.records(*INPUTS.values())
    by_partition = [
        [(tp, found[tp]) for tp in bench.tps(*INPUTS.values()) if tp.partition == n] for n in range(partitions)
    ]
    garbage.come_seldom()
    garbage.settle()
    began_s, cpu_before_s = time.monotonic(), time.process_time()
    said = [work(partition, settings, inputs) for partition, inputs in enumerate(by_partition)]
    took_s, used_s = time.monotonic() - began_s, time.process_time() - cpu_before_s
    outputs = Counter(one_said(*each) for outputs in said for each in outputs)
    events = sum(map(len, found.values()))
    print(json.dumps({"events": events, "seconds": took_s, "cpu_s": used_s, "digest": digest(outputs)}))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
