"""Another worker to compare with, such as a prototype: a command that goes through a backlog and ends by itself.

It is run on inputs that lie there, which BENCH_BOOTSTRAP_SERVERS, BENCH_INBOUND, BENCH_OUTBOUND, BENCH_PARTITIONS and
BENCH_BACKLOG (how many events) tell it, and is to end when it has committed them all.
"""

import asyncio
import os
import shlex
import time
from asyncio.subprocess import Process
from collections.abc import Mapping
from typing import NamedTuple

from processor.settings import Settings
from tests.bench.scene import WITHIN_S, progress
from tests.chaos.harness import INPUTS


class Taken(NamedTuple):
    """What it took from its start to its end."""

    seconds: float
    cpu_s: float


async def run(command: str, settings: Settings, events: int) -> Taken:
    """Run it on the inputs under the prefix of `settings`.

    Raises:
        RuntimeError: It could not be started, or did not end well; the words name neither it nor its place.
        TimeoutError: It went on for too long, and was ended.
    """
    inbound, outbound = (settings.topic_prefix + topic for topic in INPUTS.values())
    told = {
        "BENCH_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "BENCH_INBOUND": inbound,
        "BENCH_OUTBOUND": outbound,
        "BENCH_PARTITIONS": str(settings.partitions),
        "BENCH_BACKLOG": str(events),
    }
    began_s, used_before_s = time.monotonic(), _cpu_s()
    async with progress("yardstick", events):
        process = await _started(command, {**os.environ, **told})
        try:
            code = await asyncio.wait_for(process.wait(), WITHIN_S)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    if code != 0:
        raise RuntimeError(f"exit code {code}")
    return Taken(time.monotonic() - began_s, _cpu_s() - used_before_s)


async def _started(command: str, env: Mapping[str, str]) -> Process:
    try:
        return await asyncio.create_subprocess_exec(*shlex.split(command), env=env)
    except OSError as error:
        raise RuntimeError(f"it can't be started: {error.strerror}") from error


def _cpu_s() -> float:
    """Give the seconds of CPU of all children that have ended."""
    used = os.times()
    return used.children_user + used.children_system
