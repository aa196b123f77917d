"""Brokers that are restarted, hang or stay away while workers are inside transactions.

Each test has a cluster of its own, two workers that a supervisor starts again when they could not go on, and a reader
that takes in their outputs all the while.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from processor.audit.reading import verify
from processor.embedded import EmbeddedKafka
from processor.settings import Settings
from tests.chaos.backlog import HOUR_MS, backlog
from tests.chaos.harness import Stage, patience
from tests.chaos.reader import Reader
from tests.chaos.supervisor import Supervisor
from tests.chaos.test_exactly_once import QUICK, START_S, drained
from tests.chaos.trial import IS_LONG, SEED, Trial, asked, rounds, size

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(0)]

EVENTS: Final = size(12_000, a_minute=20_000, proof=60_000)
"""More than two workers of `OURS` do in the time. All are put before they start: what befalls the brokers is not to
befall whoever writes the inputs."""
CONTACTS: Final = 2_000
RECOVERY_S: Final = 60
"""Within which all partitions move again once the brokers are back, on a machine that has nothing else to do."""
BROKER_SESSION_S: Final = 2
"""After which a cluster counts a silent broker out (`processor.embedded.properties`)."""
AWAY_S: Final = 70 if IS_LONG else 3
"""How long a lone broker stays away. Sessions begin anew when it is back, so short or long is the same until what the
workers count themselves is over: a transaction (24 s) and the watchdog (60 s)."""
OURS: Final[dict[str, Any]] = {
    "broker_wait_seconds": AWAY_S + RECOVERY_S,
    "batch_records_max": 4,
    "commit_interval_ms": 50,
}


@pytest.fixture
def kafka(request: pytest.FixtureRequest) -> Iterator[EmbeddedKafka]:
    """Give the test a cluster of its own, of as many nodes as it is parametrized with."""
    with EmbeddedKafka(nodes=request.param) as kafka:
        yield kafka


@pytest.fixture
def access(kafka: EmbeddedKafka) -> dict[str, Any]:
    """Reach that one, wherever others go."""
    return {"bootstrap_servers": kafka.bootstrap_servers}


class Service:
    """A cluster and what works on it, for one trial."""

    def __init__(self, kafka: EmbeddedKafka, stage: Stage, supervisor: Supervisor, trial: Trial) -> None:
        """Take what runs."""
        self.kafka, self.stage, self.supervisor = kafka, stage, supervisor
        self._trial = trial
        self._recovered_s: list[float] = trial.figures.setdefault("recovered_s", [])

    @classmethod
    @asynccontextmanager
    async def open(
        cls, kafka: EmbeddedKafka, settings: Settings, folder: Path, trial: Trial
    ) -> AsyncIterator["Service"]:
        """Put all to work; at the end of the block the rest is done, and everything is held against everything."""
        settings = Settings(**settings.model_dump(exclude_unset=True) | OURS)
        async with Stage.open(settings, folder) as stage:
            await Reader.along(stage)
            end_ms = time.time_ns() // 1_000_000 - HOUR_MS
            await stage.preload(await asyncio.to_thread(backlog, SEED, EVENTS, CONTACTS, settings.partitions, end_ms))
            async with Supervisor.open(stage, "a", "b") as supervisor:
                service = cls(kafka, stage, supervisor, trial)
                await service.at_work()
                yield service
                await supervisor.stop(10 * patience())
            trial.figures["workers_started_again"] = supervisor.restarts
            trial.notes.append(f"workers started again: {supervisor.restarts}")
            trial.notes.append(f"at work again within {max(service._recovered_s):.1f} s")
            trial.notes.append(await drained(stage, stage.worker("last", **QUICK)))
            verdict = await verify(stage.settings)
        trial.judge(verdict, stage.events_put)

    async def under_load(self) -> None:
        """See to it that a worker is inside a transaction."""
        within_s = START_S * patience()
        await self.stage.until("a transaction is open", self.stage.open_transactions, within_s, ends_ok=True)

    async def start(self, node: int) -> None:
        """Start a node that was ended."""
        await asyncio.to_thread(self.kafka.start, node, wait_seconds=RECOVERY_S * patience())

    async def recovered(self, fault: str) -> None:
        """Wait until both workers have their partitions again and all of these move; note how long that took."""
        self._trial.faults[fault] += 1
        self._recovered_s.append(round(await self.at_work(), 1))

    async def at_work(self) -> float:
        """Wait until each worker has partitions, and all partitions move; gives how long it took."""
        partitions, began_s = set(range(self.stage.settings.partitions)), time.monotonic()

        async def shared() -> bool:
            given = [(await self.stage.partitions_of(worker))[1] for worker in self.supervisor.workers]
            return all(given) and set().union(*given) == partitions

        within_s = RECOVERY_S * patience()
        await self.stage.until("both workers have partitions", shared, within_s, ends_ok=True)
        await self.stage.until_moved(partitions, within_s, ends_ok=True)
        return time.monotonic() - began_s

    async def restarted_hard(self, node: int) -> None:
        """Kill a broker and start it again."""
        await self.under_load()
        self.kafka.kill(node)
        await self.start(node)
        await self.recovered("broker killed and restarted")

    async def restarted_cleanly(self, node: int) -> None:
        """Shut a broker down and start it again."""
        await self.under_load()
        assert await asyncio.to_thread(self.kafka.shut_down, node), "the broker had to be killed"
        await self.start(node)
        await self.recovered("broker shut down and restarted")

    async def suspended(self, node: int, seconds: float) -> None:
        """Hold a broker still."""
        await self.under_load()
        self.kafka.suspend(node)
        await asyncio.sleep(seconds)
        self.kafka.resume(node)
        await self.recovered("broker suspended beyond its session")

    async def away(self, node: int, *, workers_too: bool = False) -> None:
        """Kill a broker, perhaps all workers too, which are started again at once, and start it much later."""
        await self.under_load()
        self.kafka.kill(node)
        if workers_too:
            self.supervisor.kill()
            self.supervisor.start()
        await asyncio.sleep(AWAY_S)
        await self.start(node)
        meanwhile = ", workers killed and started meanwhile" if workers_too else ""
        await self.recovered(f"broker away for {AWAY_S} s{meanwhile}")


@pytest.mark.parametrize("kafka", [1], indirect=True, ids=["alone"])
async def test_a_lone_broker_restarts_and_stays_away_and_nothing_is_lost_or_doubled(
    kafka: EmbeddedKafka, settings: Settings, tmp_path: Path, trial: Trial
) -> None:
    async with Service.open(kafka, settings, tmp_path, trial) as service:
        for _ in rounds():
            await service.restarted_cleanly(0)
            if IS_LONG:  # a short absence is no more than that
                await service.restarted_hard(0)
            await service.away(0)
            await service.away(0, workers_too=True)


@pytest.mark.parametrize("kafka", [3], indirect=True, ids=["three"])
async def test_each_of_three_brokers_restarts_or_hangs_and_nothing_is_lost_or_doubled(
    kafka: EmbeddedKafka, settings: Settings, tmp_path: Path, trial: Trial
) -> None:
    chance = random.Random(SEED + 3)
    nodes = [0, 1, 2]
    async with Service.open(kafka, settings, tmp_path, trial) as service:
        for n in rounds(asked(3)):
            chance.shuffle(nodes)
            for turn, node in enumerate(nodes):
                await (service.restarted_cleanly if (n + turn) % 2 else service.restarted_hard)(node)
            await service.suspended(chance.choice(nodes), BROKER_SESSION_S * chance.uniform(2, 5 if IS_LONG else 2.5))
