"""The generator and the receiver as processes of their own, so that neither is what is measured."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from tests.bench.receive import READY, Delays, Watch
from tests.bench.scene import WITHIN_S, Bench
from tests.chaos.harness import ROOT


@asynccontextmanager
async def running(module: str, order: Any) -> AsyncIterator[Process]:
    """Run a module of this package, with its order as JSON; it is gone at the end."""
    order_json = msgspec.json.encode(order).decode()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"tests.bench.{module}", order_json, stdout=PIPE, cwd=ROOT
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def result(process: Process) -> bytes:
    """Wait until it has ended well; give what it has written."""
    written, _ = await asyncio.wait_for(process.communicate(), WITHIN_S)
    assert process.returncode == 0, f"exit code {process.returncode}"
    return written


class Receiving:
    """A receiver at work."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def delays(self) -> Delays:
        """Wait until it has received all, or nothing more comes."""
        return msgspec.json.decode(await result(self._process), type=Delays)


@asynccontextmanager
async def receiving(
    bench: Bench, *topics: str, wanted: int, warm_up_s: float = 0, quiet_s: float = 30
) -> AsyncIterator[Receiving]:
    """Have a receiver stand at the ends of topics of the contract."""
    names = [bench.names[topic] for topic in topics]
    watch = Watch(bench.settings.bootstrap_servers, names, bench.settings.partitions, wanted, warm_up_s, quiet_s)
    async with running("receive", watch) as process:
        assert process.stdout is not None
        assert (await process.stdout.readline()).decode().strip() == READY
        yield Receiving(process)
