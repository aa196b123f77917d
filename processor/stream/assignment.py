"""One assignment: what this worker holds in one generation of the group, from take-over to release.

Taking over runs in the background, so that heartbeats go on:

    a  the offsets are fetched, stable: none that a transaction still under way may move
    b  an owner of the last assignment stays where its token is the committed one: nobody wrote after it
    c  the others' state is restored; each is at work as soon as it is complete
    d  both input partitions of an owner are opened at the committed offsets

After each wait it is looked at whether the assignment is still current: a revocation may have come meanwhile.
"""

import asyncio
import time
from collections.abc import Iterable
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import IllegalGenerationError

from processor import garbage
from processor.failpoints import failpoint
from processor.kafka.offsets import OffsetError, Progress, decode_progress
from processor.kafka.producer import Committed
from processor.kafka.protocol import Membership
from processor.stream.loop import TransactionLoop
from processor.stream.owner import Owner
from processor.stream.restore import RestoredState, Restorer, fill
from processor.stream.transport import Carrier

if TYPE_CHECKING:
    from processor.stream.engine import Engine

log = structlog.get_logger(__name__)


class TakeOverError(Exception):
    """A partition can't be taken over; one line that says what, found, expected and how to mend it."""


class Assignment:
    """Generation, member, owners and loop of one assignment, in one object that is dropped as a whole."""

    def __init__(self, engine: "Engine", membership: Membership, partitions: Iterable[int]) -> None:
        """Take what the group gave; `take_over` begins the work."""
        self.membership = membership
        self.partitions = sorted(partitions)
        self.owners: dict[int, Owner] = {}
        self._engine = engine
        self.began_s = time.monotonic()
        self.loop = TransactionLoop(
            self.owners, membership, engine.producer, engine.log_reader, engine.clock, engine.settings, engine.tokens,
            engine.on_round,
        )  # fmt: skip
        self._running: asyncio.Task[None] | None = None
        self._taking: asyncio.Task[None] | None = None

    @property
    def is_restored(self) -> bool:
        """Whether all partitions have their owners at work."""
        return len(self.owners) == len(self.partitions)

    def start(self, kept: dict[int, Owner]) -> None:
        """Begin: `kept` are the owners of the last assignment, whose state may still be good."""
        self._running = self._engine.guard(self.loop.run(), "loop")
        self._taking = self._engine.guard(self._take_over(kept), "take-over")

    async def release(self) -> dict[int, Owner]:
        """Stop the take-over, finish the transaction under way, and give the owners back."""
        if self._taking is not None:
            self._taking.cancel()
            await asyncio.wait([self._taking])
        self.loop.stop()
        if self._running is not None:
            await asyncio.wait([self._running])
        return self.owners

    def accept(self, carrier: Carrier) -> Owner | None:
        """Pass a carrier to its owner, and tell which; where it does not fit, the partition is opened anew."""
        owner = self.owners.get(carrier.tp.partition)
        if owner is None:
            return None
        side = owner.inputs.index(carrier.tp)
        if carrier.opening != owner.openings[side]:
            return None  # fetched before the partition was opened where it is now
        if owner.accept(carrier):
            self.loop.wake()
            return owner
        self._engine.guard(self._reopen(owner, side, carrier), "reopen")
        return None

    async def _reopen(self, owner: Owner, side: int, carrier: Carrier) -> None:
        """Open a partition again where a carrier did not begin at the position that comes next."""
        tp, expected = carrier.tp, owner.buffers[side].taken
        log.warning(
            "stream.position-jumped", topic=tp.topic, partition=tp.partition, found=carrier.start, expected=expected
        )
        owner.openings[side] = self._engine.consumer.open(tp, expected)
        await self._engine.log_reader.check({tp: expected})

    async def _take_over(self, kept: dict[int, Owner]) -> None:
        engine = self._engine
        topics = [engine.names["messages.inbound"], engine.names["messages.outbound"]]
        starting: dict[int, tuple[Progress | None, tuple[int, int]]] = {}
        there: dict[TopicPartition, range] = {}
        staying = [partition for partition in self.partitions if partition in kept]
        # those that stay come first: a transaction that is open on the others does not hold them up
        for partitions in staying, [partition for partition in self.partitions if partition not in kept]:
            on_stalled = partial(self._on_stalled, partitions)
            committed = await engine.producer.committed(topics, partitions, on_stalled) if partitions else {}
            tps = [TopicPartition(it, n) for it in topics for n in partitions]
            starts, ends = await engine.log_reader.starts(tps), (await engine.log_reader.ends(tps)).offsets
            there |= {tp: range(starts[tp], ends[tp] + 1) for tp in tps}
            for partition in partitions:
                progress = self._progress(committed, topics, partition)
                positions = self._positions(committed, there, [TopicPartition(it, partition) for it in topics])
                if partition in kept and progress is not None and kept[partition].token == progress.token:
                    self._publish(kept[partition], positions)
                else:
                    starting[partition] = progress, positions
        log.info(
            "stream.assigned", generation=self.membership.generation, partitions=len(self.partitions),
            kept=len(self.owners), restoring=len(starting),
        )  # fmt: skip
        failpoint("assigned")
        kept.clear()
        garbage.settle()  # what went elsewhere, and what a take-over that was cut short had restored
        if not starting:
            return
        restorer = Restorer(engine.connection, engine.names, engine.log_reader, self._free)
        async with aclosing(restorer.restore(list(starting), engine.watcher.on_restore_read)) as restored:
            async for partition, state in restored:
                progress, positions = starting[partition]
                # only what is committed counts: who died in a partition's first transaction leaves records too
                if progress is None and state.records and engine.settings.on_lost_offsets == "stop":
                    if await engine.producer.committed(topics, [partition], partial(self._on_stalled, [partition])):
                        raise IllegalGenerationError(f"another worker has begun partition {partition} meanwhile")
                    raise self._lost_offsets({}, [TopicPartition(topic, partition) for topic in topics], there)
                self._publish(await self._owner(partition, progress, state), positions)
        engine.on_restored(time.monotonic() - self.began_s)
        log.info("stream.restored", generation=self.membership.generation, partitions=len(starting))

    def _progress(self, committed: Committed, topics: list[str], partition: int) -> Progress | None:
        """Read what was committed beside the offsets, and hold it against the settings."""
        settings = self._engine.settings
        found = [committed[tp][1] for topic in topics if (tp := TopicPartition(topic, partition)) in committed]
        if not found or (settings.on_lost_offsets == "restart" and len(found) < len(topics)):
            return None
        try:
            progress = decode_progress(found[0])
        except OffsetError as error:
            raise TakeOverError(f"group {settings.app_id}, partition {partition}: {error}") from None
        if progress.partitions != settings.partitions:
            raise TakeOverError(
                f"partitions: found {progress.partitions} in the committed state of {settings.app_id}, expected"
                f" {settings.partitions} (JANELA_PARTITIONS): set it back, or replay the inputs into a new topic_prefix"
            )
        return progress

    def _positions(
        self, committed: Committed, there: dict[TopicPartition, range], tps: list[TopicPartition]
    ) -> tuple[int, int]:
        """Give the offsets to go on from: the committed ones, or the log's start where nothing was ever committed."""
        found = [committed[tp][0] if tp in committed and committed[tp][0] in there[tp] else None for tp in tps]
        if None in found and self._engine.settings.on_lost_offsets == "stop" and any(tp in committed for tp in tps):
            raise self._lost_offsets(committed, tps, there)
        first, second = (there[tp].start if it is None else it for it, tp in zip(found, tps, strict=True))
        return first, second

    def _lost_offsets(
        self, committed: Committed, tps: list[TopicPartition], there: dict[TopicPartition, range]
    ) -> TakeOverError:
        found = ", ".join(f"{tp.topic} {committed[tp][0] if tp in committed else 'none'}" for tp in tps)
        logs = " and ".join(f"{there[tp].start} to {there[tp].stop - 1}" for tp in tps)
        return TakeOverError(
            f"partition {tps[0].partition}: found committed offsets {found} where the logs reach from"
            f" {logs}{'' if committed else ' and window-state is not empty'}, expected offsets that"
            " can be read from; JANELA_ON_LOST_OFFSETS=restart goes on from the logs' start with the state as it is"
            " (some events may be repeated, with the same ids)"
        )

    async def _owner(self, partition: int, progress: Progress | None, state: RestoredState) -> Owner:
        engine = self._engine
        owner = Owner(partition, engine.settings, engine.policy, engine.names, engine.tracer)
        clock_ms = 0
        if progress is not None:
            clock_ms, owner.sequence = progress.clock_ms, progress.sequence
        elif state.records or engine.policy.effects_from_ms:
            # somebody was here before: go on after whatever was numbered, and fire nothing twice
            clock_ms = max((window.closed_at or window.last_inbound_at for window in state.windows.values()), default=0)
            owner.sequence = engine.clock.now_ms() * 1000
        await fill(owner.core, clock_ms, state)
        return owner

    def _publish(self, owner: Owner, positions: tuple[int, int]) -> None:
        """Put an owner to work: open its inputs where it stands."""
        owner.stand_at(positions)
        self.owners[owner.partition] = owner
        for side, tp in enumerate(owner.inputs):
            owner.openings[side] = self._engine.consumer.open(tp, positions[side])
        self.loop.wake()

    async def _on_stalled(self, partitions: list[int], committed: Committed) -> None:
        """End the transactions that hold the offsets of partitions, unless their writers are alive.

        The partitions' last writers are known from what they committed. One that died in its first transaction is
        known to the brokers alone, by the state that it has written.
        """
        topics = sorted({tp.topic for tp in committed})
        progresses = [self._progress(committed, topics, partition) for partition in {tp.partition for tp in committed}]
        last = {progress.transactional_id for progress in progresses if progress is not None}
        await self._end_transactions(last, partitions)

    async def _free(self, partition: int) -> None:
        """End the transactions that were left open on a partition's state, unless their writers are alive."""
        await self._end_transactions(set(), [partition])

    async def _end_transactions(self, writers: set[str], partitions: list[int]) -> None:
        engine = self._engine
        topics = engine.names["window-state"], engine.names["consent-state"]
        states = [TopicPartition(topic, partition) for topic in topics for partition in partitions]
        for writer in writers | await engine.producer.writers(states):
            await engine.end_transaction_of(writer)
