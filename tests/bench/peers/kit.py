"""What the tools that put records on topics do from one process: `janela replay` and `janela load`.

Where a tool is slower than an engine, it is the tool that is measured.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from processor.settings import Settings
from tests.bench import clients
from tests.bench.peers.ground import Ground
from tests.bench.scene import progress

LOAD_RATE: Final = 100_000
"""Twice the bar; the figure of a tool that keeps to it is that rate, and says nothing of what more it could do."""


async def replay(source: Settings, ground: Ground, events: int) -> float:
    """Replay the backlog that lies on the inputs of `source` onto fresh ones; give its records a second."""
    async with _fresh_inputs(ground) as settings, progress("replay", events):
        told = await _told(source, "replay", "--to-prefix", settings.topic_prefix, "--json")
    return replayed(told, events)


def replayed(told: Mapping[str, Any], events: int) -> float:
    """Give the records a second of a replay, from when it began to write, if it has written all of them."""
    assert told["written"] == events, f"{told['written']:,} of {events:,} records were written"
    return float(events / told["seconds"])


async def load(ground: Ground, seconds: int) -> float:
    """Put a load on fresh inputs; give its events a second."""
    options = ("--rate", str(LOAD_RATE), "--seconds", str(seconds), "--processes", "1", "--json")
    async with _fresh_inputs(ground) as settings, progress("load", LOAD_RATE * seconds):
        told = await _told(settings, "load", *options)
    return loaded(told)


def loaded(told: Mapping[str, Any]) -> float:
    """Give the events a second of a load, until the last was acknowledged, if none was refused."""
    assert told["failed"] == 0, f"{told['failed']:,} events were refused"
    return float(told["rate"])


@asynccontextmanager
async def _fresh_inputs(ground: Ground) -> AsyncIterator[Settings]:
    await ground.make_inputs()
    try:
        yield ground.settings
    finally:
        await ground.remove()


async def _told(settings: Settings, verb: str, *options: str) -> dict[str, Any]:
    async with clients.janela(settings, verb, *options) as process:
        return msgspec.json.decode(await clients.result(process), type=dict[str, Any])
