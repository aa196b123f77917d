"""The worker's one loop: rounds of all owners, each committed in one transaction.

    1 take what has arrived on each owned partition, merged by time
    2 decide (`Owner.decide`)
    3-6 commit (`TransactionalProducer.commit`)

While one transaction commits, the next round decides. What has arrived is the batch: small when idle, large under
load. Deciding a round clears its owners' tokens; only its answered commit sets them again.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import structlog
from aiokafka import TopicPartition

from processor.failpoints import failpoint
from processor.kafka.clock import BrokerClock
from processor.kafka.log import NO_ENDS, LogEnds, LogReader
from processor.kafka.offsets import encode_progress
from processor.kafka.producer import TransactionalProducer
from processor.kafka.protocol import Membership
from processor.settings import Settings
from processor.stream.owner import Owner, Round

log = structlog.get_logger(__name__)

TRANSACTION_RECORDS_MAX = 64_000  # under a second of work: well within the transaction's time-out
_TICK_S = 0.2  # how often an idle worker looks whether a timer is due
_UPSTREAM_S = 5.0  # an owner that has been behind for longer than this asks whether a producer's transaction holds it


@dataclass(eq=False)
class TransactionLoop:
    """Runs rounds over `owners` under one membership, until `stop`. Owners may be added while it runs."""

    owners: dict[int, Owner]
    membership: Membership
    producer: TransactionalProducer
    log_reader: LogReader
    clock: BrokerClock
    settings: Settings
    tokens: Iterator[str]
    """None of them has another transaction ever had."""
    on_round: Callable[[Iterable[Round], float], None]
    """Told what was committed, and how long that took (s)."""

    def __post_init__(self) -> None:
        self._arrived, self._stopping = asyncio.Event(), asyncio.Event()
        self._first_owner = 0
        self._asked_s = 0.0

    def wake(self) -> None:
        """Say that something has arrived."""
        self._arrived.set()

    def stop(self) -> None:
        """Take no further round; `run` returns when the transaction under way is committed."""
        self._stopping.set()
        self._arrived.set()
        self.log_reader.break_off()

    async def run(self) -> None:
        """Run until stopped.

        Raises:
            TransactionError, ProducerFenced: A transaction failed; the state of the owners must not be used again.
        """
        committing: asyncio.Task[None] | None = None
        began_s = 0.0
        try:
            while not self._stopping.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._arrived.wait(), _TICK_S)
                self._arrived.clear()
                if (early_s := began_s + self.settings.commit_interval_ms / 1000 - time.monotonic()) > 0:
                    await asyncio.sleep(early_s)
                if self._stopping.is_set():
                    break
                rounds = await self._decide(await self._ends())
                if committing is not None:
                    await committing
                    committing = None
                if rounds:
                    began_s = time.monotonic()
                    committing = asyncio.create_task(self._commit(rounds))
                    if any(round_.owner.has_input() for round_ in rounds):
                        self._arrived.set()
        finally:
            if committing is not None:
                await committing

    async def _decide(self, ends: LogEnds) -> list[Round]:
        """Do steps 1 and 2 for each owner, in turn so that none is always last."""
        rounds: list[Round] = []
        records = 0
        owners = list(self.owners.values())
        for i in range(len(owners)):
            if records >= TRANSACTION_RECORDS_MAX:
                self._first_owner += i
                self._arrived.set()
                break
            owner = owners[(self._first_owner + i) % len(owners)]
            if not owner.is_stopped and (round_ := owner.decide(ends, self.clock.now_ms())) is not None:
                failpoint("round-built")
                rounds.append(round_)
                records += round_.records + round_.kinds.total()
                await asyncio.sleep(0)  # the transaction under way goes on, and so do heartbeats
        return rounds

    async def _ends(self) -> LogEnds:
        """Ask for the ends of the inputs where something hangs on them: one request for all partitions.

        A merge that waits asks in every round; idle clocks ask once a tick, and without them it is looked now and then
        whether anything lies there that is not fetched.
        """
        now_s = time.monotonic()
        is_time = now_s - self._asked_s >= (_TICK_S if self.settings.clock == "live" else _UPSTREAM_S)
        owners = [
            owner for owner in self.owners.values() if owner.waits_for_end() or (is_time and not owner.has_input())
        ]
        if not owners:
            return NO_ENDS
        self._asked_s = now_s if is_time else self._asked_s
        stood = {buffer.tp: buffer.taken for owner in owners for buffer in owner.buffers}
        ends = await self.log_reader.known_ends(stood)
        if any(ends.offsets.get(tp, taken) < taken for tp, taken in stood.items()):  # no idle clock may go on over that
            await self.log_reader.check(stood)
        for owner in owners:
            owner.note_ends(ends)
            if ends.offsets and owner.is_behind() and now_s - owner.waiting_since_s > _UPSTREAM_S:
                await self._excuse(owner, ends)
        return ends

    async def _excuse(self, owner: Owner, ends: LogEnds) -> None:
        """Tell an owner that a producer's open transaction holds up from one that is stuck (the watchdog's to see)."""
        stable = await self.log_reader.stable_ends(owner.inputs)
        for tp, buffer in zip(owner.inputs, owner.buffers, strict=True):
            if stable[tp] <= buffer.taken < ends.offsets[tp]:
                owner.waiting_since_s = time.monotonic()
                log.warning("stream.input-transaction-open", topic=tp.topic, partition=tp.partition, offset=stable[tp])

    async def _commit(self, rounds: list[Round]) -> None:
        """Do steps 3 to 6 for all rounds together."""
        token = next(self.tokens)
        offsets: dict[TopicPartition, tuple[int, str]] = {}
        for round_ in rounds:
            progress = encode_progress(round_.owner.progress(round_, token, self.producer.transactional_id))
            for tp, position in round_.positions.items():
                offsets[tp] = (position, progress)
        batches = [batch for round_ in rounds for batch in round_.batches]
        began_s = time.monotonic()
        await self.producer.commit(batches, offsets, self.membership)
        for round_ in rounds:
            round_.owner.on_committed(round_, token)
        self.on_round(rounds, time.monotonic() - began_s)
