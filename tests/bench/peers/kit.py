"""How many records a second the tools of the kit put on topics, from one process each: `janela replay`, `janela load`.

Where the kit is slower than an engine, it is the kit that is measured.
"""

from typing import Any, Final, NamedTuple

import msgspec

from processor.settings import Settings
from tests.bench import clients
from tests.bench.peers.ground import Ground
from tests.bench.scene import progress

LOAD_RATE: Final = 100_000
"""More than is asked of it, so that it is the tool that gives the rate."""


class Speeds(NamedTuple):
    """Records a second; of a replay from when it begins to write, of a load until the last is acknowledged."""

    replay: float
    load: float


async def replay(source: Settings, target: Ground, events: int) -> float:
    """Replay what lies on the inputs of `source` into inputs that are made for it."""
    await target.make_inputs()
    async with progress("replay", events):
        told = await _told(source, "replay", "--to-prefix", target.settings.topic_prefix, "--json")
    assert told["written"] == events, told
    await target.remove()
    return float(events / told["seconds"])


async def load(target: Ground, seconds: int) -> float:
    """Load inputs that are made for it."""
    await target.make_inputs()
    options = ("--rate", str(LOAD_RATE), "--seconds", str(seconds), "--processes", "1", "--json")
    async with progress("load", LOAD_RATE * seconds):
        told = await _told(target.settings, "load", *options)
    await target.remove()
    return float(told["rate"])


async def _told(settings: Settings, *command: str) -> dict[str, Any]:
    async with clients.janela(settings, *command) as process:
        told: dict[str, Any] = msgspec.json.decode(await clients.result(process))
        return told
