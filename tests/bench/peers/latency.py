"""How long an engine takes from when a message was due to a read_committed consumer of `window-opened`.

Load and receiver are those of `tests/bench/test_latency.py`: open loop, the schedule waits for nobody. Counted are
opened windows, half of the events; a send to an open window makes no output in this job.
"""

import asyncio
from pathlib import Path
from typing import Final, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient

from processor.settings import Settings
from tests.bench import clients
from tests.bench.peers.engines import Engine, running
from tests.bench.peers.ground import Ground
from tests.bench.scene import WITHIN_S, Bench
from tests.chaos.harness import INPUTS

WARM_UP_S: Final = 10
"""Left out: a JVM compiles its hot path meanwhile."""
QUIET_S: Final = 15
"""Nobody knows how many windows there will be; where none has come for so long, there are no more."""
OPENED: Final = "window-opened"


class Delays(NamedTuple):
    """What one run gave, in milliseconds; `is_whole` where every window was told of once."""

    engine: str
    partitions: int
    rate: int
    p50: float
    p90: float
    p99: float
    most: float
    is_whole: bool


async def run(engine: Engine, settings: Settings, folder: Path, rate: int, seconds: int) -> Delays:
    """Put events on inputs of their own at a rate; `settings` name a prefix that no other run has."""
    ground = Ground(settings, folder)
    await ground.clear()
    settings, folder = ground.next_run("latency")
    async with Bench.open(settings, folder, apply=False) as bench:
        async with running(engine, settings, folder):
            await _at_work(settings)
            async with (
                clients.receiving(
                    bench, OPENED, wanted=rate * (WARM_UP_S + seconds), warm_up_s=WARM_UP_S, quiet_s=QUIET_S
                ) as receiver,
                clients.loading(bench, rate, WARM_UP_S + seconds) as load,
            ):
                _, came = await asyncio.gather(clients.result(load), receiver.received())
        messages = sum((await bench.ends(INPUTS["inbound"])).values())  # each of them a new customer's
    await ground.remove()
    is_whole = came.received == came.different == messages
    delays = came.delays
    return Delays(engine.name, settings.partitions, rate, delays.p50, delays.p90, delays.p99, delays.max, is_whole)


async def _at_work(settings: Settings) -> None:
    """Wait until the group has shared its partitions out; what is slow after that falls into the warm-up."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    try:
        async with asyncio.timeout(WITHIN_S):
            while not await _is_stable(admin, settings.app_id):
                await asyncio.sleep(0.2)
    finally:
        await admin.close()


async def _is_stable(admin: AIOKafkaAdminClient, group_id: str) -> bool:
    described = await admin.describe_consumer_groups([group_id])
    return any(group[2] == "Stable" and group[5] for response in described for group in response.groups)
