"""One history from one seed: inputs, workers, and what befalls them; then calm, and the verdict.

Most seeds tell of inputs that all lie there before, and of event time that alone moves the clock. From `LIVE` on inputs
come while the workers are at work, windows last for seconds, the wall clock moves time on where there is nothing to
read, each worker's machine has a clock that is off, and at times two have one name.

In the end all trouble stops. The inputs must then be consumed within `CALM_S` of virtual time, and what was written
must be what the model says.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, NoReturn
from unittest.mock import patch

from aiokafka import TopicPartition
from aiokafka.record.default_records import DefaultRecord

from processor import garbage
from processor.kafka import clock, connection, protocol
from processor.kafka import producer as producer_module
from processor.settings import Settings
from processor.stream import assignment, engine, loop, owner, restore
from tests.chaos.backlog import DAY_MS, HOUR_MS, Wanted, backlog, hostile
from tests.sim.auditor import audit
from tests.sim.clients import AdminClient, ConsumerClient, FencedSender, ProducerClient
from tests.sim.cluster import Cluster, Transaction
from tests.sim.loop import Died, Process, SimulatedLoop, StandstillError
from tests.sim.worker import Worker

LIVE = 1_000_000_000
"""The seeds from here on tell of live clocks."""
NOW_MS = 1_795_348_800_000  # 2026-11-22T12:00:00.000Z
CALM_S = 60.0
"""The longest way back: a transaction that hangs, a session and a rebalance that run out."""
SKEW_MS = 3_000
"""How far the clock of a worker's machine may be off the cluster's; beside those that are off by an hour."""
POLICIES = (None, *sorted((Path(__file__).parent / "policies").glob("*.toml")))


@dataclass
class Story:
    """What happened in a history, and what is wrong with it."""

    seed: int
    faults: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    deaths: int = 0
    steps: int = 0
    virtual_s: float = 0.0


def play(seed: int) -> Story:
    """Play the history of a seed, inside of `simulation`."""
    return _History(seed).play()


def arranged(seed: int, scene: Callable[[Worker], Coroutine[Any, Any, None]]) -> None:
    """Play a scene by hand, inside of `simulation`: in the process of one worker, and without trouble."""
    history, process = _History(seed), Process("w0")
    _playing.append(history)
    history.cluster.fault_share = 0.0

    async def live() -> None:
        await scene(Worker(history._settings("w0"), history.cluster))

    try:
        history.loop.run_until_complete(history.loop.create_task(live(), context=process.context))
    finally:
        history.loop.bury()
        _playing.pop()


@contextmanager
def simulation() -> Iterator[None]:
    """Put the cluster in memory, virtual time and virtual deaths in the place of the real ones."""
    world = {
        (connection, "AIOKafkaProducer"): _on_cluster(ProducerClient),
        (protocol, "FencedSender"): FencedSender,
        (connection, "AIOKafkaConsumer"): _on_cluster(ConsumerClient),
        (connection, "AIOKafkaAdminClient"): _on_cluster(AdminClient),
        (engine, "os"): SimpleNamespace(_exit=_exit),
        (garbage, "gc"): SimpleNamespace(unfreeze=lambda: None, collect=lambda: 0, freeze=lambda: None),
        (engine, "secrets"): SimpleNamespace(token_hex=lambda size: f"{_current().chance.getrandbits(8 * size):x}"),
        (engine, "Watchdog"): lambda *_: SimpleNamespace(start=lambda: None, stop=lambda: None),  # stricter: CALM_S
    }
    time = SimpleNamespace(
        time_ns=lambda: _current().wall_clock_ms() * 1_000_000,
        monotonic=lambda: asyncio.get_running_loop().time(),
    )
    world |= {(module, "time"): time for module in (clock, producer_module, assignment, loop, owner, restore)}
    world |= {(module, "log"): _Log() for module in (clock, assignment, engine, loop, owner)}
    with ExitStack() as stack:
        for (module, name), stand_in in world.items():
            stack.enter_context(patch.object(module, name, stand_in))
        yield


_playing: list["_History"] = []


def _current() -> "_History":
    return _playing[-1]


def _on_cluster(client: Callable[..., Any]) -> Callable[..., Any]:
    return lambda **options: client(_current().cluster, **options)


def _exit(code: int) -> NoReturn:
    Process.current().end(code)
    raise Died


class _Log:
    """Stands in for the log: a line of the story each, and a fault where it is one that no trouble explains."""

    def __getattr__(self, level: str) -> Callable[..., None]:
        def tell(event: str, **fields: Any) -> None:
            history = _current()
            line = history.tell(f"{event} {' '.join(f'{name}={value!r}' for name, value in fields.items())}")
            if event in ("worker.bug", "worker.refused"):
                history.story.faults.append(line)

        return tell


@lru_cache(maxsize=64)
def _settings(name: str, partitions: int, batch: int, is_live: bool, policy_file: Path | None) -> Settings:
    return Settings(
        instance_id=name, partitions=partitions, clock="live" if is_live else "event", session_timeout_ms=6000,
        transaction_timeout_ms=6000, batch_records_max=batch, buffer_records_max=4 * batch, policy_file=policy_file,
    )  # fmt: skip


class _History:
    def __init__(self, seed: int) -> None:
        self.story = Story(seed)
        self.chance = Random(seed % LIVE)
        self.loop = SimulatedLoop(self.chance)
        share = self.chance.choice([0.0, 0.003, 0.02])
        self.cluster = Cluster(self.loop, self.chance, self.chance.choice([1, 2, 3]), share, NOW_MS)
        self._batch = self.chance.choice([1, 2, 4])
        self._is_live = seed >= LIVE
        self._policy_file = self.chance.choice(POLICIES) if self._is_live else None
        self._processes: dict[str, tuple[Process, Worker]] = {}
        self._is_calm = False

    def wall_clock_ms(self) -> int:
        """Give the time by the clock of the process that asks."""
        return self.cluster.wall_clock_ms + Process.current().skew_ms

    def _settings(self, name: str) -> Settings:
        return _settings(name, self.cluster.partitions, self._batch, self._is_live, self._policy_file)

    def play(self) -> Story:
        _playing.append(self)
        try:
            self.loop.run_until_complete(self._direct())
            self.story.faults += self.loop.accidents or audit(self.cluster, self._settings("auditor"), 0)
        except StandstillError:
            self.story.faults.append("nothing is ready and no timer is set")
        finally:
            self.story.steps, self.story.virtual_s = self.loop.steps, self.loop.time()
            self.loop.bury()
            _playing.pop()
        return self.story

    def tell(self, what: str) -> str:
        try:
            name = Process.current().name
        except AssertionError:
            name = "--"
        line = f"{self.loop.time():8.3f} {name} {what}"
        self.story.told.append(line)
        return line

    async def _direct(self) -> None:
        self._fill()
        watching = asyncio.create_task(self.cluster.watch_sessions())
        lives = [asyncio.create_task(self._live(f"w{n}")) for n in range(self.chance.choice([1, 2, 2, 3]))]
        flow = asyncio.create_task(self._flow()) if self._is_live else None
        twin = asyncio.create_task(self._live("w0", "twin")) if self._is_live and self.chance.random() < 0.1 else None
        for _ in range(self.chance.randint(0, 8)):
            await asyncio.sleep(self.chance.random() ** 2 * 4)
            self._befall()
        if flow is not None:
            await flow
        self._is_calm, self.cluster.fault_share = True, 0.0
        if twin is not None:  # who takes it away does not ask
            twin.cancel()
            if "twin" in self._processes:
                self._processes.pop("twin")[0].end(-9)
        for process, _ in self._processes.values():
            process.steps_left = None
            process.go_on(self.loop)
        self.tell("calm")
        until_s = self.loop.time() + CALM_S
        while not (self._is_consumed() and self.cluster.is_quiet) and not self.story.faults:
            await asyncio.sleep(0.25)
            if self.loop.time() > until_s:
                self.story.faults.append(f"not consumed {CALM_S:.0f} s after all trouble had ended")
        if self._is_live:  # what falls due, falls due
            await asyncio.sleep(self.chance.choice([0.0, 0.0, 2.0, 8.0]))
            while not self.cluster.is_quiet:
                await asyncio.sleep(0.1)
        for task in (watching, *lives):
            task.cancel()

    async def _live(self, instance_id: str, name: str = "") -> None:
        """Start a worker, and another in its place whenever it has died."""
        name = name or instance_id
        while True:
            await asyncio.sleep(self.chance.random() ** 2 * 2)
            process = Process(name)
            process.skew_ms = self._skew_ms() if self._is_live else 0
            worker = process.context.run(Worker, self._settings(instance_id), self.cluster)
            self._processes[name] = process, worker
            self.tell(f"{name} starts" + (f", its clock off by {process.skew_ms} ms" if process.skew_ms else ""))
            running = self.loop.create_task(worker.run(), context=process.context)
            running.add_done_callback(self._on_done, context=process.context)
            while process.is_alive:
                await asyncio.sleep(0.1)
            self.story.deaths += 1
            self.tell(f"{name} is gone: {process.exit_code}")

    def _skew_ms(self) -> int:
        """Choose how far a machine's clock is off."""
        if self.chance.random() < 0.1:
            return self.chance.choice([HOUR_MS, -HOUR_MS])
        return self.chance.choice([0, self.chance.randint(-SKEW_MS, SKEW_MS)])

    def _on_done(self, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if not isinstance(error, Died):
            self.story.faults.append(self.tell(f"what stands for Faust has failed: {error!r}"))

    def _befall(self) -> None:
        """Let something happen to a worker."""
        alive = [each for each in self._processes.values() if each[0].is_alive]
        if not alive:
            return
        process, worker = self.chance.choice(alive)
        possible = ["kill", "kill", "kill", "stop", "stop", "evict", "leave"]
        what = self.chance.choice([*possible, "set"] if self._is_live else possible)
        self.tell(f"{what} {process.name}")
        match what:
            case "kill":
                process.steps_left = self.chance.randint(0, self.chance.choice([20, 300]))
            case "stop":
                process.is_stopped = True
                self.loop.call_later(self.chance.choice([0.3, 3, 12]), process.go_on, self.loop)
            case "evict":
                self.cluster.leave(worker._member_id)
            case "set":  # its clock
                process.skew_ms = self._skew_ms()
            case "leave":
                leaving = self.loop.create_task(worker.leave(), context=process.context)
                leaving.add_done_callback(lambda _: process.end(0), context=process.context)

    def _is_consumed(self) -> bool:
        for partition in range(self.cluster.partitions):
            for topic in ("messages.inbound", "messages.outbound"):
                tp = TopicPartition(topic, partition)
                log = self.cluster.logs[tp]
                records = log.committed()
                if log.open or (records and self.cluster.offsets.get(tp, (0, ""))[0] <= records[-1].offset):
                    return False
        return True

    def _fill(self) -> None:
        """Put all inputs on their topics, some in transactions that end later or are aborted."""
        chance, partitions = self.chance, self.cluster.partitions
        end_ms = NOW_MS - HOUR_MS
        records = backlog(chance.getrandbits(32), chance.randint(5, 60), chance.randint(1, 4), partitions, end_ms)
        for bad in hostile(chance.getrandbits(32), chance.randint(0, 6), partitions, end_ms - 6 * DAY_MS):
            records.insert(chance.randint(0, len(records)), bad)
        while records:
            some, records = records[: (size := chance.randint(1, 12))], records[size:]
            is_transaction = chance.random() < 0.3
            self._append(some, Transaction() if is_transaction else None)

    async def _flow(self) -> None:
        """Put inputs on their topics about when they happen, with idle times between."""
        chance, partitions = self.chance, self.cluster.partitions
        span_s = chance.choice([3.0, 8.0, 16.0])
        end_ms = NOW_MS + int(span_s * 1000)
        number = chance.randint(5, 60)
        records = backlog(
            chance.getrandbits(32), number, chance.randint(1, 4), partitions, end_ms, days=span_s * 1000 / DAY_MS
        )
        begin_s, pause_s, count = self.loop.time(), 0.0, len(records)
        while records:
            done = 1 - len(records) / count
            await asyncio.sleep(max(begin_s + pause_s + done * span_s - self.loop.time(), 0.0))
            some, records = records[: (size := chance.randint(1, 4))], records[size:]
            self._append(some, Transaction() if chance.random() < 0.2 else None)
            if chance.random() < 0.05:
                pause_s += chance.random() * 6

    def _append(self, some: list[Wanted], transaction: Transaction | None) -> None:
        logs = {}
        for wanted in some:
            tp = TopicPartition(f"messages.{wanted.kind}", wanted.partition)
            logs[tp] = self.cluster.logs[tp]
            now_ms = self.cluster.wall_clock_ms
            logs[tp].append(
                now_ms, DefaultRecord(0, now_ms, 0, wanted.key, wanted.value, [*wanted.headers]), transaction
            )
        if transaction is None:
            return
        transaction.is_committed = self.chance.random() < 0.8
        late_s = self.chance.choice([0.0, 0.0, 0.0, 1.0, 7.0])
        for log in logs.values():
            if late_s:
                self.cluster.later(late_s, lambda log=log: log.mark(transaction))  # type: ignore[misc]
            else:
                log.mark(transaction)
