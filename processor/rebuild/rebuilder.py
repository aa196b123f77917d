"""A rebuild from begin to end, a partition after the other, and never more than one in memory.

    1 end what a dead worker, or an earlier rebuild, left open; fetch the stable offsets
    2 mark every partition as unfinished, in one transaction: no worker goes on from a state that is half written
    3 for each: read its states and rounds, apply its inputs, write what differs, and take the mark off with the last

Each transaction commits the offsets that are committed already, under the membership of an outsider: the broker refuses
it once a worker is in the group, and a worker that comes waits for it. So nothing is written behind anybody's back, and
a rebuild that broke off at whatever point is started again.
"""

import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Final, NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import ProducerFenced, UnknownMemberIdError

from processor.kafka.batch import Batches
from processor.kafka.offsets import UNFINISHED, OffsetError, Progress, decode_progress, encode_progress
from processor.kafka.producer import Committed, TransactionalProducer, TransactionError, end_transaction_of
from processor.kafka.protocol import OUTSIDER
from processor.rebuild.difference import Change, Difference, difference
from processor.rebuild.inputs import replayed
from processor.rebuild.plan import STATES, Part, Plan, input_tps, parts_of, refuse_members, written_tps
from processor.rebuild.standings import Standings
from processor.settings import Settings
from processor.topics import INPUTS, ClusterError

TRANSACTION_RECORDS_MAX: Final = 20_000
"""State records in one transaction: a second of work, well within its time-out."""
FETCH_BYTES_MAX: Final = 4 * 1024 * 1024
FETCH_WAIT_MS: Final = 20
"""A fetch under way must come back before another partition is fetched."""
WAIT_EXTRA_S: Final = 30
"""How much longer than a transaction may be open a read waits for the next record."""

Told = Callable[[str, int, int], None]
"""Is told what goes on, how many positions are done of all there are to read."""


@dataclass(frozen=True)
class Outcome:
    """What was done with one partition, or would be."""

    partition: int
    applied: int
    """Records of the inputs, dead letters left out."""
    dead_letters: int
    windows: int
    consents: int
    unreadable: int
    """Records that lay there and could not be read."""
    kept: int
    """Records of which the inputs know nothing any more, left as they were."""
    changed: int
    """Records that were written, or would be."""
    removed: int
    """Of these the tombstones."""


class _Found(NamedTuple):
    """What workers wrote: the newest state records by topic and key, and where their rounds began and ended."""

    states: dict[str, dict[bytes, bytes]]
    standings: Standings


class Rebuilder:
    """Rebuilds the partitions of a plan."""

    def __init__(self, settings: Settings, plan: Plan, told: Told, *, writes: bool) -> None:
        """Take the workers' settings; without `writes` it is only found out what would be written."""
        self._settings, self._plan, self._told, self._writes = settings, plan, told, writes
        self._policy = settings.policy()
        self._done = self._total = 0
        self._tokens = (f"{secrets.token_hex(16)}.{n}" for n in count(1))
        self._consumer: AIOKafkaConsumer
        self._all: AIOKafkaConsumer
        self._producer: TransactionalProducer

    @property
    def transactional_id(self) -> str:
        """A name that no worker can have, and that a worker's rights cover: a stalled one is ended by its successor."""
        return f"{self._settings.app_id}-/rebuild"

    async def run(self) -> AsyncIterator[Outcome]:
        """Rebuild; gives what came of each partition.

        Raises:
            ClusterError: A worker has come, another rebuild runs, or something can't be read; start again, then.
            KafkaError: The cluster does not answer, or refuses to.
        """
        async with self._clients():
            parts = self._plan.parts
            if self._writes:
                parts = await self._stable_parts()
                await self._mark(parts)
            tps = written_tps(self._settings, (part.partition for part in parts))
            starts, ends = await self._all.beginning_offsets(tps), await self._all.end_offsets(tps)
            self._total = sum(ends[tp] - starts[tp] for tp in tps) + self._plan.inputs
            for part in parts:
                yield await self._rebuild(part, {tp: ends[tp] for tp in tps if tp.partition == part.partition})

    @asynccontextmanager
    async def _clients(self) -> AsyncIterator[None]:
        connection, settings = self._settings.connection, self._settings
        self._all = connection.consumer(enable_auto_commit=False)
        self._consumer = connection.consumer(
            client_id="janela-rebuild",
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",  # what goes meanwhile must not pass for read
            max_partition_fetch_bytes=FETCH_BYTES_MAX,
            fetch_max_wait_ms=FETCH_WAIT_MS,
        )
        self._producer = TransactionalProducer(
            connection, settings.app_id, self.transactional_id, settings.transaction_timeout_ms
        )
        started = [self._all, self._consumer, *([self._producer] if self._writes else [])]
        try:
            for client in started:
                await client.start()
            yield
        finally:
            for client in reversed(started):
                await client.stop()

    # ------------------------------------------------------------------------------------------------ 1 and 2

    async def _stable_parts(self) -> list[Part]:
        """Do step 1."""
        partitions = [part.partition for part in self._plan.parts]
        names = [self._settings.topic_prefix + name for name in INPUTS]
        try:
            await self._end_transactions(await self._producer.writers(written_tps(self._settings, partitions)))
            committed = await self._producer.committed(names, partitions, self._on_stalled)
        except (TransactionError, OffsetError) as error:
            raise ClusterError(str(error)) from error
        parts = await parts_of(self._settings, partitions, committed, self._all)
        if [part.begins for part in parts] != [part.begins for part in self._plan.parts]:
            raise ClusterError(
                "the first records of the inputs have been deleted since this was planned; start it again"
            )
        return parts

    async def _on_stalled(self, committed: Committed) -> None:
        progresses = [decode_progress(metadata, unfinished_too=True) for _, metadata in committed.values()]
        await self._end_transactions({progress.transactional_id for progress in progresses})

    async def _end_transactions(self, writers: Iterable[str]) -> None:
        for writer in writers:
            if writer.startswith(f"{self._settings.app_id}-") and writer != self.transactional_id:
                await refuse_members(self._settings)
                await end_transaction_of(self._settings.connection, writer, self._settings.transaction_timeout_ms)

    async def _mark(self, parts: list[Part]) -> None:
        """Do step 2."""
        token = next(self._tokens)
        await self._commit(Batches(0), [(part, self._progress(part, UNFINISHED, token)) for part in parts])

    # ----------------------------------------------------------------------------------------------------- 3

    async def _rebuild(self, part: Part, ends: dict[TopicPartition, int]) -> Outcome:
        settings, end = self._settings, (*part.ends, part.progress.clock_ms)
        found = await self._read(part, ends)
        standings = found.standings.until(end)
        core, inputs = await replayed(settings, part, standings, self._consumer, self._on_applied(part))
        differing = difference(
            core,
            found.states["window-state"],
            found.states["consent-state"],
            self._policy.closed_retention_ms,
            part.is_whole,
        )
        if self._writes:
            await self._write(part, differing, found.standings.told(end))
        return Outcome(
            part.partition,
            inputs.records - inputs.dead_letters,
            inputs.dead_letters,
            differing.windows,
            differing.consents,
            differing.unreadable,
            differing.kept,
            len(differing.changes),
            sum(change.value is None for change in differing.changes),
        )

    async def _read(self, part: Part, ends: dict[TopicPartition, int]) -> _Found:
        """Read what workers wrote on a partition, committed records only, up to these ends."""
        consumer, tps = self._consumer, list(ends)
        states = {self._settings.topic_prefix + name: dict[bytes, bytes]() for name in STATES}
        standings = Standings()
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        positions = {tp: await consumer.position(tp) for tp in tps}
        wait_s = self._settings.transaction_timeout_ms / 1000 + WAIT_EXTRA_S
        give_up_s = time.monotonic() + wait_s
        while behind := [tp for tp in tps if positions[tp] < ends[tp]]:
            for tp, records in (await consumer.getmany(*behind, timeout_ms=200)).items():
                newest = states.get(tp.topic)
                for record in records:
                    standings.note(record.headers)
                    if newest is not None and record.value is None:
                        newest.pop(record.key, None)
                    elif newest is not None:
                        newest[record.key] = record.value
                give_up_s = time.monotonic() + wait_s
            for tp in behind:
                position = min(await consumer.position(tp), ends[tp])
                self._read_on(f"reading what is there of partition {part.partition}", position - positions[tp])
                positions[tp] = position
            if time.monotonic() > give_up_s:
                raise ClusterError(
                    f"{behind[0].topic}[{part.partition}]: nothing to read in time; is a transaction open?"
                )
        return _Found({name: states[self._settings.topic_prefix + name] for name in STATES}, standings)

    async def _write(self, part: Part, differing: Difference, told: tuple[str, bytes]) -> None:
        """Write what differs; the last transaction takes the mark off."""
        changes, sequence = differing.changes, part.progress.sequence
        for start in range(0, max(len(changes), 1), TRANSACTION_RECORDS_MAX):
            chunk = changes[start : start + TRANSACTION_RECORDS_MAX]
            batches = self._batches(part.partition, chunk, sequence, told)
            sequence += len(chunk)
            is_last = start + TRANSACTION_RECORDS_MAX >= len(changes)
            progress = self._progress(part, 1 if is_last else UNFINISHED, next(self._tokens))
            await self._commit(batches, [(part, msgspec.structs.replace(progress, sequence=sequence))])

    def _batches(self, partition: int, changes: list[Change], sequence: int, told: tuple[str, bytes]) -> Batches:
        """Number records after `sequence` and put them into batches."""
        batches = Batches(time.time_ns() // 1_000_000)
        for number, change in enumerate(changes, sequence + 1):
            tp = TopicPartition(self._settings.topic_prefix + change.topic, partition)
            batches[tp].add(change.key, change.encoded(number), [told])
        return batches

    def _progress(self, part: Part, version: int, token: str) -> Progress:
        """Give what is committed already, in our name."""
        ours = {"v": version, "token": token, "transactional_id": self.transactional_id}
        return msgspec.structs.replace(part.progress, **ours)

    async def _commit(self, batches: Batches, progresses: list[tuple[Part, Progress]]) -> None:
        offsets = {
            tp: (offset, encode_progress(progress))
            for part, progress in progresses
            for tp, offset in zip(input_tps(self._settings, part.partition), part.ends, strict=True)
        }
        records = [batch for written in batches.values() for batch in written.close()]
        try:
            await self._producer.commit(records, offsets, OUTSIDER)
        except ProducerFenced as error:
            raise ClusterError(
                "the rebuild was ended by another one, or by a worker that came; start it again"
            ) from error
        except TransactionError as error:
            told = error.__cause__  # aiokafka tells what it did not expect in a KafkaError of its own
            if told is not None and UnknownMemberIdError in (type(told), type(told.__cause__)):
                await refuse_members(self._settings)
            raise ClusterError(f"the rebuild broke off ({error}); start it again") from error

    # ----------------------------------------------------------------------------------------- how far it is

    def _on_applied(self, part: Part) -> Callable[[int], None]:
        return lambda positions: self._read_on(f"applying partition {part.partition}", positions)

    def _read_on(self, what: str, positions: int) -> None:
        self._done += positions
        self._told(what, self._done, self._total)
