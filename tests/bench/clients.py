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


async def started(module: str, order: Any) -> Process:
    """Start a module of this package, with its order as JSON."""
    order_json = msgspec.json.encode(order).decode()
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"tests.bench.{module}", order_json, stdout=PIPE, cwd=ROOT
    )


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
    process = await started("receive", watch)
    try:
        assert process.stdout is not None
        assert (await process.stdout.readline()).decode().strip() == READY
        yield Receiving(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
