"""What a chaos test needs: topics with a backlog, workers as processes of their own, and a view of their group.

A worker runs as users run it, `python -m processor worker`, with its settings in the environment. Whatever it writes
goes to a file, which is told when a test fails.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from aiokafka import AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError
from aiokafka.protocol.group import LeaveGroupRequest
from pydantic import SecretStr

from processor import topics
from processor.audit.findings import OUTPUTS
from processor.settings import Settings
from tests.chaos.backlog import Wanted
from tests.chaos.trial import CLUSTER

if TYPE_CHECKING:
    from tests.chaos.reader import Reader

ROOT: Final = Path(__file__).parents[2]
INPUTS: Final = {"inbound": "messages.inbound", "outbound": "messages.outbound"}

SESSION_S: Final = 6
"""The shortest session time-out that a broker takes as it comes."""
LOG_BYTES_MAX: Final = 6_000
POLL_S: Final = 0.1


def patience() -> float:
    """How much slower than by itself a process runs here now: 1 on a machine that has a core for it."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def environment(settings: Settings, instance_id: str, **more: object) -> dict[str, str]:
    """Give the environment of a worker: what is set in these settings, and nothing of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("JANELA_")}
    chosen = {name: getattr(settings, name) for name in settings.model_fields_set} | {"instance_id": instance_id}
    chosen |= {name: it.get_secret_value() for name, it in chosen.items() if isinstance(it, SecretStr)}
    quiet = {"ops_address": ""}  # workers of one machine would have to share the default
    ours = {f"JANELA_{name.upper()}": str(value) for name, value in (quiet | chosen | more).items()}
    return kept | ours | {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}


class Worker:
    """A worker as a process of its own."""

    def __init__(self, instance_id: str, environment: Mapping[str, str], log: Path, command: Sequence[str]) -> None:
        """Start it."""
        self.instance_id, self.log = instance_id, log
        self._note("start")
        with log.open("ab") as into:
            self._process = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=into,
                stderr=into,
            )

    @property
    def code(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.poll()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._note(number.name)
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it by SIGKILL, stopped or not."""
        if self.code is None:
            self._note("SIGKILL")
        self._process.kill()
        self._process.wait()

    def _note(self, what: str) -> None:
        """Write into its log what was done to it."""
        with self.log.open("a") as into:
            into.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ} >>> {what}\n")

    async def ended(self, within_s: float) -> int:
        """Wait until it has ended, and give its exit code."""
        give_up_s = time.monotonic() + within_s
        while (code := self.code) is None:
            assert time.monotonic() < give_up_s, (
                f"{self.instance_id} has not ended within {within_s:g} s\n{self.told()}"
            )
            await asyncio.sleep(POLL_S)
        return code

    def lines(self) -> list[str]:
        """Give the lines that it has written."""
        return self.log.read_text("utf-8", "replace").splitlines()

    def says(self, event: str) -> bool:
        """Whether it has logged a line of that name."""
        return any(event in line for line in self.lines())

    def told(self) -> str:
        """Give the end of its log under its name."""
        text = self.log.read_text("utf-8", "replace")
        end = "running" if self.code is None else f"exit code {self.code}"
        return f"--- {self.instance_id} ({end})\n{text[-LOG_BYTES_MAX:]}"


class Stage:
    """Topics under one prefix, one consumer group, and the workers in it."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        """Take the settings that all workers share; logs go to `folder`."""
        self.settings, self.folder = settings, folder
        self.names = topics.names(settings)
        self.workers: list[Worker] = []
        self.events_put = 0
        """How many records it has put on the inputs to stay."""
        self.reader: Reader | None = None
        """Reads the outputs along, where a trial has asked for it."""
        self.beside = AsyncExitStack()
        """What goes on until the stage is left."""
        self._admin = settings.connection.admin()
        self._all = settings.connection.consumer()
        self._committed = settings.connection.consumer(isolation_level="read_committed")

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: Settings, folder: Path, *, apply: bool = True, bugs_ok: bool = False
    ) -> AsyncIterator[Self]:
        """Make the topics and connect. Workers that still run at the end are killed; where it failed, logs are told.

        A worker that met a bug is a failure, whatever came of it, unless `bugs_ok`.
        """
        stage = cls(settings, folder)
        if apply:
            await topics.apply(settings)
        clients = (stage._admin, stage._all, stage._committed)
        for client in clients:
            await client.start()
        try:
            await stage.until("the group has a coordinator", stage._has_coordinator, 60)
            yield stage
            if not bugs_ok:
                stage._look_for_bugs()
        except BaseException as error:
            for worker in stage.workers:
                error.add_note(worker.told())
            raise
        finally:
            for worker in stage.workers:
                worker.kill()
            await stage.beside.aclose()
            try:
                if CLUSTER and settings.topic_prefix:
                    await stage._clear()
            finally:
                await stage._admin.close()
                await stage._all.stop()
                await stage._committed.stop()

    def worker(
        self, instance_id: str, *, command: Sequence[str] = ("-m", "processor", "worker"), **more: object
    ) -> Worker:
        """Start a worker; `more` are settings of its own."""
        log = self.folder / f"{len(self.workers)}-{instance_id}.log"
        worker = Worker(instance_id, environment(self.settings, instance_id, **more), log, command)
        self.workers.append(worker)
        return worker

    # ------------------------------------------------------------------------------------------------- what is put

    async def preload(
        self, records: Iterable[Wanted], timestamp_ms: Callable[[Wanted], int | None] = lambda _: None
    ) -> None:
        """Put records on the input topics, in their order within each partition.

        `timestamp_ms` gives each its timestamp, None for now; it counts only where topics keep what producers say.
        """
        producer = self.settings.connection.producer(
            acks="all",
            enable_idempotence=True,
            max_batch_size=512 * 1024,
            linger_ms=0,
        )
        await producer.start()
        try:
            await self.write(producer, records, timestamp_ms)
        finally:
            await producer.stop()

    async def write(
        self,
        producer: AIOKafkaProducer,
        records: Iterable[Wanted],
        timestamp_ms: Callable[[Wanted], int | None] = lambda _: None,
        *,
        is_aborted: bool = False,
    ) -> None:
        """Put records on the input topics by this producer; see `preload`. Those that it is to abort do not count."""
        builders: dict[TopicPartition, Any] = {}
        for wanted in records:
            tp = TopicPartition(self.names[INPUTS[wanted.kind]], wanted.partition)
            fields: dict[str, Any] = {"key": wanted.key, "value": wanted.value, "headers": list(wanted.headers)}
            fields["timestamp"] = timestamp_ms(wanted)
            builder = builders.setdefault(tp, producer.create_batch())
            if builder.append(**fields) is None:
                await (await producer.send_batch(builder, tp.topic, partition=tp.partition))
                builder = builders[tp] = producer.create_batch()
                assert builder.append(**fields) is not None
            self.events_put += not is_aborted
        for tp, builder in builders.items():
            await (await producer.send_batch(builder, tp.topic, partition=tp.partition))

    # ------------------------------------------------------------------------------------------------- what is seen

    def tps(self, *names: str) -> list[TopicPartition]:
        """Give all partitions of topics of the contract."""
        return [TopicPartition(self.names[name], n) for name in names for n in range(self.settings.partitions)]

    async def ends(self, *names: str) -> dict[TopicPartition, int]:
        """Ask for the ends (high watermarks) of topics of the contract."""
        found: dict[TopicPartition, int] = await self._all.end_offsets(self.tps(*names))
        return found

    async def committed(self) -> dict[TopicPartition, int]:
        """Ask for the group's committed offsets; a partition without one is at 0."""
        found = await self._admin.list_consumer_group_offsets(self.settings.app_id)
        return {tp: max(found[tp].offset, 0) if tp in found else 0 for tp in self.tps(*INPUTS.values())}

    async def progress(self) -> int:
        """Give the sum of the committed offsets."""
        return sum((await self.committed()).values())

    async def partitions_of(self, worker: Worker) -> tuple[str, set[int]]:
        """Give a worker's member id, and the partitions that the group has given to it; empty where it has no place."""
        client_id = f"{self.settings.app_id}-{worker.instance_id}"
        for response in await self._admin.describe_consumer_groups([self.settings.app_id]):
            for group in response.groups:
                for member in group[5]:
                    if member[1] == client_id:
                        given = ConsumerProtocolMemberAssignment.decode(member[4]).partitions() if member[4] else []
                        return member[0], {tp.partition for tp in given}
        return "", set()

    async def open_transactions(self) -> set[int]:
        """Give the partitions on whose output topics a transaction is open."""
        tps = self.tps(*OUTPUTS, "window-state")
        stable, every = await self._committed.end_offsets(tps), await self._all.end_offsets(tps)
        return {tp.partition for tp in tps if stable[tp] < every[tp]}

    async def evict(self, worker: Worker) -> None:
        """Take a worker that is dead out of the group, as an operator would who does not wait for the time-out."""
        member_id, _ = await self.partitions_of(worker)
        if member_id:
            coordinator = await self._admin.find_coordinator(self.settings.app_id)
            await self._admin._send_request(LeaveGroupRequest(self.settings.app_id, member_id), coordinator)

    async def records(self, *names: str) -> dict[TopicPartition, list[ConsumerRecord]]:
        """Read topics of the contract from start to end, committed records only."""
        tps, ends = self.tps(*names), await self.ends(*names)
        consumer = self.settings.connection.consumer(
            isolation_level="read_committed",
            enable_auto_commit=False,
            max_partition_fetch_bytes=4 * 1024 * 1024,
        )
        await consumer.start()
        try:
            consumer.assign(tps)
            await consumer.seek_to_beginning(*tps)
            found: dict[TopicPartition, list[ConsumerRecord]] = {tp: [] for tp in tps}
            give_up_s = time.monotonic() + 60
            while behind := [tp for tp in tps if await consumer.position(tp) < ends[tp]]:
                assert time.monotonic() < give_up_s, f"not read to the end: {behind}"
                for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                    found[tp] += records
            return found
        finally:
            await consumer.stop()

    # ------------------------------------------------------------------------------------------- what is waited for

    async def until(self, what: str, is_so: Callable[[], Any], within_s: float, *, ends_ok: bool = False) -> float:
        """Wait until a question (a coroutine function or a plain one) is answered yes; gives how long it took.

        A worker that ends meanwhile by itself is a failure, unless `ends_ok`.
        """
        began_s = time.monotonic()
        dead = {worker for worker in self.workers if worker.code is not None}
        while True:
            try:
                answer = is_so()
                if await answer if asyncio.iscoroutine(answer) else answer:
                    return time.monotonic() - began_s
            except KafkaError as error:
                if not error.retriable:
                    raise
            ended = [] if ends_ok else [w for w in self.workers if w.code is not None and w not in dead]
            assert not ended, f"waiting until {what}, a worker ended by itself: {ended[0].told()}"
            waited_s = time.monotonic() - began_s
            assert waited_s < within_s, f"not within {within_s:g} s: {what}"
            await asyncio.sleep(POLL_S)

    def _look_for_bugs(self) -> None:
        """Fail where a worker has met what nobody expects: whoever starts it again sees no more than an exit code."""
        odd = [worker for worker in self.workers if worker.says("worker.bug")]
        assert not odd, odd[0].told()

    async def _clear(self) -> None:
        """Delete its topics, and those that Faust made for itself: all begin with the prefix. Offsets expire alone."""
        made = [name for name in await self._admin.list_topics() if name.startswith(self.settings.topic_prefix)]
        told = await self._admin.delete_topics(made)
        assert not any(code for _, code, *_ in told.topic_error_codes), f"not deleted: {told}"

    async def _has_coordinator(self) -> bool:
        await self._admin.find_coordinator(self.settings.app_id)  # its question makes Kafka's own topic
        return True

    async def lag(self) -> int:
        """Give how many positions of the inputs are not committed."""
        return sum((await self.ends(*INPUTS.values())).values()) - await self.progress()

    async def missing(self) -> str:
        """Say which inputs are not consumed."""
        ends, committed = await self.ends(*INPUTS.values()), await self.committed()
        behind = [f"{tp.topic}[{tp.partition}] {committed[tp]}/{ends[tp]}" for tp in ends if committed[tp] < ends[tp]]
        return f"committed of end: {', '.join(behind) or 'all'}"

    async def until_consumed(self, within_s: float, *, ends_ok: bool = False) -> float:
        """Wait until the group has committed the end of every input."""
        ends = await self.ends(*INPUTS.values())

        async def consumed() -> bool:
            committed = await self.committed()
            return all(committed[tp] >= end for tp, end in ends.items())

        try:
            return await self.until("all input is consumed", consumed, within_s, ends_ok=ends_ok)
        except AssertionError as error:
            error.add_note(await self.missing())
            raise

    async def until_moved(
        self, partitions: set[int] | None = None, within_s: float = 60, *, ends_ok: bool = False
    ) -> float:
        """Wait until the committed offsets of these partitions (None: of any one) have moved, or are at the end."""
        begin: list[tuple[dict[TopicPartition, int], dict[TopicPartition, int]]] = []

        async def moved() -> bool:
            if not begin:  # asked here, because a broker that has just come back may not answer yet
                begin.append((await self.committed(), await self.ends(*INPUTS.values())))
            (before, ends), after = begin[0], await self.committed()
            on = {tp.partition for tp in after if after[tp] > before[tp]}
            done = {tp.partition for tp in after} - {tp.partition for tp in after if after[tp] < ends[tp]}
            return (
                partitions <= on | done if partitions is not None else bool(on) or len(done) == self.settings.partitions
            )

        which = "any partition" if partitions is None else f"partitions {sorted(partitions)}"
        return await self.until(f"a commit on {which}", moved, within_s, ends_ok=ends_ok)

    async def stop_in_transaction(self, worker: Worker, chance: random.Random, tries: int = 40) -> set[int]:
        """Hold a worker (SIGSTOP) inside a transaction of its own; gives the partitions that it has open, if any."""
        _, partitions = await self.partitions_of(worker)
        for _ in range(tries):
            await asyncio.sleep(chance.uniform(0.01, 0.06))
            worker.signal(signal.SIGSTOP)
            await asyncio.sleep(0.05)  # what it had sent arrives
            if found := await self.open_transactions() & partitions:
                return found
            worker.signal(signal.SIGCONT)
        worker.signal(signal.SIGSTOP)
        return set()


@cache
def commit() -> str:
    """Say which code this is, or "unknown" where it is no clone; "-dirty" tells of changes that are not committed."""
    git = ("git", "describe", "--always", "--dirty", "--exclude=*")
    with suppress(OSError):
        told = subprocess.run(git, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
        return told.stdout.strip() or "unknown"
    return "unknown"
