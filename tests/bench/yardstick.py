"""Another worker to compare with, which is none of ours: a command that consumes what lies on the inputs.

BENCH_BOOTSTRAP_SERVERS, BENCH_INBOUND, BENCH_OUTBOUND, BENCH_PARTITIONS and BENCH_BACKLOG (how many events) tell it
where they are, and it is to end by itself when it has committed them all.
"""

import asyncio
import os
import shlex
import time
from typing import NamedTuple

from processor.settings import Settings
from tests.bench.scene import WITHIN_S, progress
from tests.chaos.harness import INPUTS


class Taken(NamedTuple):
    """What it took, from its start to its end."""

    seconds: float
    cpu_s: float


async def run(command: str, settings: Settings, events: int) -> Taken:
    """Run it on the inputs under the settings' prefix."""
    inbound, outbound = (settings.topic_prefix + topic for topic in INPUTS.values())
    told = {
        "BENCH_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "BENCH_INBOUND": inbound,
        "BENCH_OUTBOUND": outbound,
        "BENCH_PARTITIONS": str(settings.partitions),
        "BENCH_BACKLOG": str(events),
    }
    began_s, used_before_s = time.monotonic(), _children_cpu_s()
    async with progress("yardstick", events):
        process = await asyncio.create_subprocess_exec(*shlex.split(command), env={**os.environ, **told})
        code = await asyncio.wait_for(process.wait(), WITHIN_S)
        assert code == 0, f"the yardstick: exit code {code}"
    return Taken(time.monotonic() - began_s, _children_cpu_s() - used_before_s)


def _children_cpu_s() -> float:
    used = os.times()
    return used.children_user + used.children_system
