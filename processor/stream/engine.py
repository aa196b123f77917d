"""The worker's inside: what lives as long as the process, and the assignment of the moment.

Everything that fails here ends the process (`Engine.fail`): a worker whose state may differ from what is committed
must not decide anything more, and a successor restores what is committed.
"""

import asyncio
import itertools
import os
import secrets
from collections import Counter
from collections.abc import Coroutine, Iterable
from typing import Any, NoReturn

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced

from processor import garbage, topics
from processor.failpoints import failpoint
from processor.kafka.clock import BrokerClock
from processor.kafka.group import is_gone
from processor.kafka.log import LogError, LogReader
from processor.kafka.producer import TransactionalProducer, TransactionError, end_transaction_of
from processor.settings import Settings
from processor.stream.assignment import Assignment, TakeOverError
from processor.stream.owner import Owner, Round
from processor.stream.restore import RestoreError
from processor.stream.transport import Carrier, Consumer
from processor.stream.watchdog import Watchdog
from processor.stream.watcher import Watcher
from processor.tracing.tracer import create_tracer

log = structlog.get_logger(__name__)

BUFFER_BYTES_MAX = 32 * 1024 * 1024
"""Most bytes that wait, for each topic and partition: 32,000 records (`buffer_records_max`) of 1 KiB, and 512 of the
largest size; a round, which holds what waits, is bounded with it."""
EXIT_REFUSED = 2
"""Exit code where the worker won't run: settings, topics, or a state that needs a person."""
EXIT_FAILED = 3
"""Exit code where the worker can't go on, but a new one can."""

_EXPECTED = (TransactionError, ProducerFenced, KafkaError, OSError)


class Engine:
    """Holds the producer, the log reader and the current assignment, and what Faust tells them."""

    def __init__(self, settings: Settings, watcher: Watcher | None = None) -> None:
        """Take the settings, and whom to tell; nothing is connected before the first assignment."""
        self.settings = settings
        self.connection = settings.connection
        self.policy = settings.policy()
        self.names = topics.names(settings)
        prefix = secrets.token_hex(16)
        self.tokens = (f"{prefix}.{n}" for n in itertools.count(1))
        """What the process signs its transactions with; none comes twice."""
        self.consumer: Consumer
        dead_letters = TopicPartition(self.names["dead-letters"], 0)
        self.clock = BrokerClock(self.connection, f"{self.transactional_id}/clock", dead_letters)
        self.log_reader: LogReader
        self.counts: Counter[str] = Counter()
        """records, outputs and transactions committed by this process."""
        self.producer: TransactionalProducer
        self._is_connected = self._is_stopping = False
        self._changing = asyncio.Lock()  # the group's callbacks and a stop may come at once
        self.assignment: Assignment | None = None
        self._kept: dict[int, Owner] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.held: frozenset[TopicPartition] = frozenset()
        self.watcher = watcher or Watcher()
        self.tracer = create_tracer(settings)
        self._watchdog = Watchdog(self, settings.watchdog_seconds)

    @property
    def transactional_id(self) -> str:
        """The name of this instance's producer, and of its client: so a successor can tell whether it is alive."""
        return f"{self.settings.app_id}-{self.settings.instance_id}"

    @property
    def owners(self) -> dict[int, Owner]:
        """The owners at work, by partition."""
        return self.assignment.owners if self.assignment is not None else {}

    async def on_assigned(self, partitions: Iterable[int]) -> None:
        """Begin an assignment. Called inside the group's callback: returns at once."""
        async with self._changing:
            membership = self.consumer.membership
            if self._is_stopping:
                return
            if membership is None or self.assignment is not None:
                raise AssertionError("assigned before the last assignment was revoked")
            try:
                await self._connect()
            except _EXPECTED as error:
                self.fail(error)
            self.watcher.on_assigned()
            self.held = frozenset()
            self.consumer.hold(self.held)
            self.assignment = Assignment(self, membership, partitions)
            kept, self._kept = self._kept, {}
            self.assignment.start(kept)

    async def on_revoked(self) -> None:
        """End the assignment; its owners are kept in case they come back unchanged."""
        async with self._changing:
            if self.assignment is not None:
                assignment, self.assignment = self.assignment, None
                failpoint("revoking")
                self._kept = await assignment.release()
                failpoint("revoked")
                log.info("stream.revoked", generation=assignment.membership.generation)

    async def stop(self) -> None:
        """Finish the transaction under way and disconnect."""
        self._is_stopping = True
        await self.on_revoked()
        failpoint("shut-down")
        self._watchdog.stop()
        if self._is_connected:
            self._is_connected = False
            await self.clock.stop()
            await self.producer.stop()
            await self.log_reader.stop()
            await asyncio.to_thread(self.tracer.stop)
            log.info("worker.stopped", **self.counts)

    def accept(self, carrier: Carrier) -> None:
        """Take a carrier from the agent."""
        failpoint("records-fetched")
        owner = self.assignment.accept(carrier) if self.assignment is not None else None
        if owner is not None:
            self._hold_back(owner)

    def on_round(self, rounds: Iterable[Round], seconds: float) -> None:
        """Count what was committed."""
        self.watcher.on_round(rounds, seconds)
        self.tracer.on_committed((round_.traced for round_ in rounds), seconds)
        self.counts["transactions"] += 1
        for round_ in rounds:
            self.counts["records"] += round_.records
            self.counts["outputs"] += round_.kinds.total()
            self._hold_back(round_.owner)

    def on_restored(self, seconds: float) -> None:
        """Note that all that was missing is restored."""
        self.watcher.on_restored(seconds)
        garbage.settle()

    def guard(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run work in the background; if it fails, the process ends."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def fail(self, error: BaseException) -> NoReturn:
        """End the process, with one line for what is expected to happen and a traceback for what is not."""
        if isinstance(error, TakeOverError | RestoreError | LogError):
            self.refuse([str(error)])
        if isinstance(error, ProducerFenced):
            log.error("worker.fenced", reason=error.args[0])
        elif isinstance(error, _EXPECTED):
            log.error("worker.failed", reason=f"{type(error).__name__}: {error}")
        else:
            log.error("worker.bug", exc_info=error)
        self.tracer.fail(error)
        os._exit(EXIT_FAILED)

    def refuse(self, reasons: Iterable[str]) -> NoReturn:
        """End the process because a person must mend something first."""
        for reason in reasons:
            log.error("worker.refused", reason=reason)
        os._exit(EXIT_REFUSED)

    async def end_transaction_of(self, writer: str) -> None:
        """End the open transaction of a worker that is gone; leaves one alone that is still in the group."""
        if writer == self.transactional_id or not await is_gone(self.connection, self.settings.app_id, writer):
            return
        log.info("stream.open-transaction-ended", writer=writer)
        self.watcher.on_transaction_ended()
        await end_transaction_of(self.connection, writer, self.settings.transaction_timeout_ms)

    async def _connect(self) -> None:
        """Start the producer first: it ends what this instance's last process left open."""
        if not self._is_connected:
            group, timeout_ms = self.settings.app_id, self.settings.transaction_timeout_ms
            self.producer = TransactionalProducer(self.connection, group, self.transactional_id, timeout_ms)
            self.log_reader = LogReader(self.connection, self.clock.now_ms)
            await self.producer.start()
            if self.settings.clock == "live":
                await self.clock.start()
            await self.log_reader.start()
            self._is_connected = True
            self._watchdog.start()

    def _hold_back(self, owner: Owner) -> None:
        """Fetch nothing more of a topic that has run ahead; the other one must go on, or both would wait for ever."""
        most, held = self.settings.buffer_records_max, self.held
        for buffer in owner.buffers:
            share = max((len(buffer.events) + len(buffer.bad)) / most, buffer.size / BUFFER_BYTES_MAX)
            if owner.is_stopped or share > 1:
                held |= {buffer.tp}
            elif buffer.tp in held and share <= 1 / 2:
                held -= {buffer.tp}
        if held != self.held:
            self.held = held
            self.consumer.hold(held)

    def _on_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)
