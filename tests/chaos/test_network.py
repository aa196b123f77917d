"""A bad network: exactly once while it is slow, silent, torn or half open, and while single requests come late.

The worker reaches the broker through a proxy alone; the harness has a way of its own. A supervisor's part, to start a
worker again that could not go on, is played here.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import pytest

from processor.audit.reading import verify
from processor.embedded import EmbeddedKafka
from processor.embedded.ports import HOST, PortChooser
from processor.settings import Settings
from processor.stream.engine import EXIT_FAILED
from tests.chaos.harness import Stage, Worker, patience
from tests.chaos.proxy import Proxy, Side
from tests.chaos.test_exactly_once import EVENTS, QUICK, START_S, drained, filled
from tests.chaos.trial import IS_LONG, MINUTES, SEED, Trial, asked, rounds

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(0)]

TRANSACTION_S: Final = 6
"""The shortest time-out of a transaction that the settings take."""
DEADLINE_S: Final = TRANSACTION_S * 0.8
"""When a worker whose transaction is not answered gives up."""

End = Literal["given up", "tried again", "late"]
"""What the client does while its request is held: end, send it again by another connection, or wait."""


class Held(NamedTuple):
    """One thing to be kept back, and what the client is brought to."""

    api: str
    side: Side
    end: End
    is_soon: bool = False
    """Whether it is delivered as soon as the client has turned away, not inside the next transaction."""

    def fault(self, end: End) -> str:
        """What was done, in words, as the client has ended it."""
        return f"{self.api} {self.side} {'late' if end == 'late' else f'held until {end}'}"


SHORT: Final = [
    Held("EndTxn", "request", "tried again"),
    Held("EndTxn", "answer", "tried again"),
    Held("TxnOffsetCommit", "request", "tried again"),
    Held("EndTxn", "answer", "late"),
    Held("AddOffsetsToTxn", "request", "tried again"),
    Held("EndTxn", "answer", "tried again"),
    Held("Produce", "request", "tried again"),
    Held("EndTxn", "request", "tried again"),
]
SIDES: Final[tuple[Side, Side]] = ("request", "answer")


class Broker(NamedTuple):
    """A Kafka of this file's own, which tells clients of its second listener to come to the proxy's port."""

    kafka: EmbeddedKafka
    proxy_port: int

    def proxy(self, chance: random.Random) -> Proxy:
        """Give the proxy for which it has a listener."""
        return Proxy(self.proxy_port, int(self.kafka.extra_servers.rpartition(":")[2]), chance)


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """Start the broker; its own listener is the harness's."""
    proxy_port = PortChooser().rather(0)
    plain, proxied = f"PLAINTEXT://{HOST}:{{port}}", f"PROXIED://{HOST}"
    props = {
        "listeners": f"{plain},CONTROLLER://{HOST}:{{control}},{proxied}:{{extra}}",
        "advertised.listeners": f"{plain},{proxied}:{proxy_port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT",
    }
    with EmbeddedKafka(props=props) as kafka:
        yield Broker(kafka, proxy_port)


@pytest.fixture
def kafka(broker: Broker) -> EmbeddedKafka:
    """Give this file's broker where others have the run's."""
    return broker.kafka


@pytest.fixture
def access(kafka: EmbeddedKafka) -> dict[str, Any]:
    """Reach that one, wherever others go."""
    return {"bootstrap_servers": kafka.bootstrap_servers}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Let transactions time out soon: a worker must not wait long before it gives up."""
    return settings.model_copy(update={"transaction_timeout_ms": TRANSACTION_S * 1000})


class Supervised:
    """A worker behind the proxy that is started again when it could not go on, here or elsewhere."""

    def __init__(self, stage: Stage, proxy: Proxy, chance: random.Random) -> None:
        """Start it."""
        self._stage, self._proxy, self._chance = stage, proxy, chance
        self.ends = 0
        self._start()

    def _start(self, instance_id: str = "a") -> None:
        self.worker = self._stage.worker(instance_id, bootstrap_servers=self._proxy.address)

    async def replaced(self) -> Worker:
        """Kill it, and give the one that does the rest: quick, by the broker itself, and with time enough for it."""
        self.worker.kill()
        await self._stage.evict(self.worker)
        return self._stage.worker("last", **QUICK, transaction_timeout_ms=30_000)

    async def look(self) -> None:
        """Start it again if it has ended; by another name as often as by the same one."""
        if (code := self.worker.code) is not None:
            assert code == EXIT_FAILED, f"exit code {code}: {self.worker.told()}"
            self.ends += 1
            await self._stage.evict(self.worker)
            self._start(self._chance.choice("ab"))

    async def until_moved(self) -> None:
        """Wait for a commit of it, or of its successor."""
        before = await self._stage.progress()

        async def moved() -> bool:
            await self.look()
            return await self._stage.progress() > before

        await self._stage.until("a commit", moved, START_S, ends_ok=True)

    async def until_set(self, what: str, event: asyncio.Event) -> None:
        """Wait for something that the worker, or its successor, is to do."""

        async def happened() -> bool:
            await self.look()
            return event.is_set()

        await self._stage.until(what, happened, START_S, ends_ok=True)


async def test_a_transaction_of_unknown_outcome_is_neither_lost_nor_doubled(
    broker: Broker, settings: Settings, tmp_path: Path, trial: Trial
) -> None:
    chance = random.Random(SEED + 3)
    until_s = time.monotonic() + 60 * MINUTES
    async with broker.proxy(chance) as proxy, Stage.open(settings, tmp_path) as stage:
        await filled(stage)
        supervised = Supervised(stage, proxy, chance)
        await supervised.until_moved()
        for held in itertools.chain(SHORT, drawn(chance)):
            is_enough = trial.faults.total() >= len(SHORT) and ends_held(trial) >= asked(50)
            if is_enough and (time.monotonic() >= until_s or await stage.lag() <= EVENTS // 4):
                break
            trial.faults[held.fault(await held_back(proxy, supervised, held, chance))] += 1
            await supervised.until_moved()
        last = Held("EndTxn", chance.choice(SIDES), "given up")
        trial.faults[last.fault(await held_back(proxy, supervised, last, chance))] += 1
        await supervised.until_moved()
        rest = await drained(stage, await supervised.replaced())
        verdict = await verify(stage.settings)
    trial.notes += [f"{supervised.ends} workers could not go on", rest]
    trial.judge(verdict, stage.events_put)


async def test_a_late_copy_of_an_end_commits_nothing_of_a_transaction_whose_worker_then_dies(
    broker: Broker, settings: Settings, tmp_path: Path
) -> None:
    """The copy comes when the records of the next transaction are delivered, and its offsets are not."""
    chance = random.Random(SEED + 6)
    async with broker.proxy(chance) as proxy, Stage.open(settings, tmp_path) as stage:
        await filled(stage, 2000)
        supervised = Supervised(stage, proxy, chance)
        await supervised.until_moved()
        copy = proxy.hold("EndTxn", "request")
        await supervised.until_set("a transaction is to end", copy.caught)
        again = proxy.passing("EndTxn", "answer")
        offsets = proxy.hold("AddOffsetsToTxn", "request")
        copy.tear()
        await supervised.until_set("it has ended, at the second asking", again)
        await supervised.until_set("the next one has its records", offsets.caught)
        copy.deliver()
        await asyncio.sleep(0.5)  # who sent it has gone, so no answer says when it was heard
        await drained(stage, await supervised.replaced())
        verdict = await verify(stage.settings)
    assert supervised.ends == 0
    assert verdict.is_clean, verdict


def ends_held(trial: Trial) -> int:
    """Count the ends of transactions, asked for or answered, that were kept back until the client tried again."""
    return sum(trial.faults[f"EndTxn {side} held until tried again"] for side in SIDES)


def drawn(chance: random.Random) -> Iterator[Held]:
    """Draw what is to be held, for ever; the end of a transaction most often."""
    while True:
        api = chance.choice(("EndTxn", "EndTxn", "EndTxn", "AddOffsetsToTxn", "TxnOffsetCommit", "Produce"))
        end: End = chance.choice(("given up", "tried again", "tried again", "tried again", "late"))
        yield Held(api, chance.choice(SIDES), end, is_soon=chance.random() < 0.2)


async def held_back(proxy: Proxy, supervised: Supervised, held: Held, chance: random.Random) -> End:
    """Keep one request or answer back, and deliver it when the client has long gone on to something else.

    Tells what the client did meanwhile: one that is to try again, and is too slow for that, has given up.
    """
    hold = proxy.hold(held.api, held.side)
    await supervised.until_set(f"a worker comes to {held.api}", hold.caught)
    if held.end == "late":
        await asyncio.sleep(chance.uniform(0.1, DEADLINE_S / 4))
        hold.deliver()
        return "late"
    again, ends = proxy.passing(held.api, "answer"), supervised.ends
    if held.end == "tried again":
        hold.tear()
        await supervised.until_set(f"{held.api} is tried again", again)
    else:
        assert await supervised.worker.ended(DEADLINE_S + 5 * patience()) == EXIT_FAILED
        await supervised.look()
    end: End = "tried again" if supervised.ends == ends else "given up"
    if not held.is_soon:  # inside the next transaction, where it might do harm
        await supervised.until_set(f"{held.api} is answered", again)
        await supervised.until_set("the next transaction has records", proxy.passing("Produce", "answer"))
    hold.deliver()
    return end


async def test_a_network_that_is_slow_silent_or_torn_loses_nothing_and_doubles_nothing(
    broker: Broker, settings: Settings, tmp_path: Path, trial: Trial
) -> None:
    chance = random.Random(SEED + 4)
    async with broker.proxy(chance) as proxy, Stage.open(settings, tmp_path) as stage:
        await filled(stage)
        supervised = Supervised(stage, proxy, chance)
        for n in rounds(asked(5)):
            if n >= asked(5) and await stage.lag() <= EVENTS // 4:
                break
            await supervised.until_moved()
            with proxy.slow(chance.uniform(0.005, 0.05)):
                trial.faults["latency"] += 1
                await supervised.until_moved()
                for _ in range(chance.randint(4, 8)):
                    await asyncio.sleep(chance.uniform(0.1, 0.5))
                    trial.faults["connection reset"] += proxy.reset()
                    await supervised.look()
            await supervised.until_moved()
            with proxy.blackhole():
                trial.faults["blackhole"] += 1
                await asyncio.sleep(chance.uniform(0.5, 2 * DEADLINE_S if IS_LONG else DEADLINE_S / 2))
            await supervised.until_moved()
            if IS_LONG and chance.random() < 0.5:
                trial.faults["half-open connection"] += proxy.half_open()
        await supervised.until_moved()
        # where nothing comes back to the coordinator's client, only the deadline of the transaction ends the worker
        trial.faults["half-open connection"] += proxy.half_open("EndTxn")
        assert await supervised.worker.ended(DEADLINE_S + 5 * patience()) == EXIT_FAILED
        await supervised.until_moved()
        rest = await drained(stage, await supervised.replaced())
        verdict = await verify(stage.settings)
    trial.notes += [f"{supervised.ends} workers could not go on", rest]
    trial.judge(verdict, stage.events_put)
