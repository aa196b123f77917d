"""The load and the receiver as processes of their own, so that neither is what is measured."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import msgspec

from processor.settings import Settings
from tests.bench.receive import READY, Received, Watch
from tests.bench.scene import WITHIN_S, Bench
from tests.chaos.harness import ROOT, environment


@asynccontextmanager
async def _running(*command: str, env: Mapping[str, str] | None = None) -> AsyncIterator[Process]:
    """Run a module; it is gone at the end."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", *command, stdout=PIPE, cwd=ROOT, env=env)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def janela(settings: Settings, verb: str, *options: str) -> AsyncIterator[Process]:
    """Run a verb of ours; it is gone at the end."""
    async with _running("processor", verb, *options, env=environment(settings, verb)) as process:
        yield process


@asynccontextmanager
async def loading(bench: Bench, rate: int, seconds: float) -> AsyncIterator[Process]:
    """Put open-loop traffic on the inputs, of which each event makes one output.

    Every second event is a new customer's first message, the others are sends to those who wrote a second ago.
    """
    once = ["--popularity", "once", "--contacts", str(int(rate * seconds)), "--outbound", "0.5"]
    types = ["--inbound-types", "text=1", "--outbound-types", "text=1", "--text-bytes", "12"]
    options = [*once, *types, "--rate", str(rate), "--seconds", str(seconds), "--json"]
    async with janela(bench.settings, "load", *options) as process:
        yield process


async def result(process: Process) -> bytes:
    """Wait until it has ended well; give what it has written."""
    written, _ = await asyncio.wait_for(process.communicate(), WITHIN_S)
    assert process.returncode == 0, f"exit code {process.returncode}"
    return written


class Receiving:
    """A receiver at work."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def received(self) -> Received:
        """Wait until it has received all, or nothing more comes."""
        return msgspec.json.decode(await result(self._process), type=Received)


@asynccontextmanager
async def receiving(
    bench: Bench, *topics: str, wanted: int, warm_up_s: float = 0, quiet_s: float = 30
) -> AsyncIterator[Receiving]:
    """Have a receiver stand at the ends of topics of the contract."""
    settings = bench.settings
    where = settings.bootstrap_servers, settings.topic_prefix, list(topics), settings.partitions
    watch = Watch(*where, wanted, warm_up_s, quiet_s)
    async with _running("tests.bench.receive", msgspec.json.encode(watch).decode()) as process:
        assert process.stdout is not None
        assert (await process.stdout.readline()).decode().strip() == READY
        yield Receiving(process)
