"""What the audit takes from a cluster: the committed offsets of a group, and one partition of all topics at a time.

1. The group's offsets are asked for: up to there inputs count as consumed, and their metadata has the clock and the
   number of the last output.
2. The ends of all that the worker writes are asked for, after that: what was committed lies before them.
3. Inputs are read up to the offsets, the rest up to these ends, committed records only. A transaction that is open is
   waited for.
4. The offsets are asked for again. Where they have moved, a worker is at work, and what it wrote since is left out.
   Where they have not, nothing may tell of more than is committed.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import ExitStack, aclosing, closing
from typing import Final, NamedTuple

from aiokafka import ConsumerRecord, TopicPartition

from processor import topics
from processor.audit.findings import DEAD_LETTERS, INPUTS, OUTPUTS, STATES, Committed, Found, Terms, Written
from processor.audit.model import Fold
from processor.audit.policy import ModelPolicy
from processor.audit.records import Digest, NotKept, Record
from processor.audit.rounds import Leave
from processor.audit.spool import Spool
from processor.audit.verdict import Verdict
from processor.audit.witnesses import Witnesses, until_cut
from processor.core.policy import Policy
from processor.kafka.fetched import KEPT_BYTES_MAX
from processor.kafka.group import offsets_of
from processor.kafka.log import ends_consumer
from processor.kafka.offsets import OffsetError, decode_progress
from processor.kafka.protocol import offset_fetch
from processor.kafka.unread import Unread, UnreadHeaders, too_large
from processor.settings import Settings
from processor.topics import ClusterError

WAIT_EXTRA_S: Final = 30
"""How much longer than a transaction may be open a read waits for the next record."""
FETCH_BYTES_MAX: Final = 4 * 1024 * 1024
_AGAIN_S: Final = 0.1
_LOG_APPEND_TIME: Final = 1
WRITTEN: Final = (*OUTPUTS, *STATES, DEAD_LETTERS)


class Sample(NamedTuple):
    """A share of the contacts, by a hash that has nothing to do with that of partitions.

    No checksum will do: those of numbers that follow each other have bits in common.
    """

    part: int = 1
    of: int = 1

    def holds(self, key: bytes) -> bool:
        """Whether a window's key is in it."""
        return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") % self.of < self.part


ALL: Final = Sample()


class Cut(NamedTuple):
    """Up to where a partition's inputs were consumed (offsets in the order of `INPUTS`), and what was true there."""

    offsets: list[int]
    clock_ms: int | None = None
    sequence: int = 0

    @property
    def end(self) -> tuple[int, int, int]:
        """Where the last round ended that is committed."""
        inbound, outbound = self.offsets
        return inbound, outbound, -1 if self.clock_ms is None else self.clock_ms


def leave(settings: Settings, tolerance_ms: int | None = None) -> Leave:
    """Say what workers of these settings may do beside following event time."""
    grace_ms = settings.timer_grace_ms
    return Leave(settings.clock == "live", grace_ms, grace_ms if tolerance_ms is None else tolerance_ms)


def model_policy(policy: Policy, record_bytes_max: int, key_check: bool) -> ModelPolicy:
    """Say a policy to the model, in its own words."""
    lengths = dict(policy.window_ms)
    return ModelPolicy(
        window_ms=lengths.pop("default"),
        window_ms_by_channel=lengths,
        thresholds_ms=policy.expiring_before_ms,
        closed_retention_ms=policy.closed_retention_ms,
        safety_margin_ms=policy.safety_margin_ms,
        reactions_open=policy.reactions_open,
        unknown_types_open=policy.unknown_types_open,
        unsupported_opens={int(code): opens for code, opens in policy.unsupported_opens.items()},
        call_permission_reply_opens=frozenset(policy.call_permission_reply_opens),
        direct_send=frozenset(policy.direct_send),
        marketing_needs_opt_in=policy.marketing_needs_opt_in,
        emit_accepted=policy.emit_accepted,
        enforcement=policy.enforcement,
        effects_from_ms=policy.effects_from_ms or None,
        key_check=key_check,
        record_bytes_max=record_bytes_max,
    )


async def verify(
    settings: Settings,
    partitions: Iterable[int] | None = None,
    *,
    sample: Sample = ALL,
    examples_max: int = 5,
    tolerance_ms: int | None = None,
    on_read: Callable[[int, int], None] = lambda _partition, _records: None,
) -> Verdict:
    """Hold a cluster's topics against the rules, a partition after the other.

    What is read of one waits in a temporary file; in memory is what is known of its contacts, and what is wrong.

    The settings are to be those of the workers. `tolerance_ms` is how far the clocks of workers and brokers may have
    differed (default: the timers' grace). `on_read` is told how many more records of a partition were read.

    Raises:
        SettingsError: There is no room for the temporary file (TMPDIR).
        ClusterError: A topic is missing or not as it should be; or what was written is not all there any more, was not
            written by workers of these settings, or can't be read to its end.
        KafkaError: The cluster does not answer, or refuses to.
    """
    if errors := topics.errors(await topics.check(settings)):
        raise ClusterError("\n".join(errors))
    ours = topics.names(settings)
    if lines := await topics.compacted(settings, [ours[name] for name in (*INPUTS, *OUTPUTS, DEAD_LETTERS)]):
        raise ClusterError("\n".join(lines))
    verdict = Verdict(examples_max)
    async with _Reader(settings, sample, leave(settings, tolerance_ms), on_read) as reader:
        for partition in range(settings.partitions) if partitions is None else partitions:
            await reader.judge(partition, verdict)
    return verdict


class _Reader:
    def __init__(self, settings: Settings, sample: Sample, leave: Leave, on_read: Callable[[int, int], None]) -> None:
        self._settings, self._sample, self._leave, self._on_read = settings, sample, leave, on_read
        self._names = topics.names(settings)
        self._wait_s = settings.transaction_timeout_ms / 1000 + WAIT_EXTRA_S
        self._admin = settings.connection.admin()
        self._ends = ends_consumer(settings.connection)
        self._consumer = settings.connection.consumer(
            client_id="janela-verify",
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",  # what goes meanwhile must not pass for lost
            max_partition_fetch_bytes=FETCH_BYTES_MAX,
        )
        policy = settings.policy()
        self._policy = model_policy(policy, settings.record_bytes_max, settings.key_check == "on")
        self._terms = Terms(
            f"/janela/{settings.app_id}", policy.version, settings.topic_prefix, lambda key: sample.holds(key.encode())
        )

    async def __aenter__(self) -> "_Reader":
        try:
            for client in (self._admin, self._ends, self._consumer):
                await client.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()
        await self._ends.stop()
        await self._admin.close()

    async def judge(self, partition: int, verdict: Verdict) -> None:
        """Read one partition, fold its inputs through the model, and add what is wrong."""
        await self._all_is_there(self._tps(partition, *INPUTS, *OUTPUTS, DEAD_LETTERS))
        cut = await self._cut(partition)
        ends: dict[TopicPartition, int] = await self._ends.end_offsets(self._tps(partition, *INPUTS, *WRITTEN))
        inputs = dict(zip(self._tps(partition, *INPUTS), cut.offsets, strict=True))
        lag = await self._lag(inputs, ends)
        with ExitStack() as spools:
            witnesses = spools.enter_context(closing(Witnesses()))
            records = {name: spools.enter_context(closing(Spool(Record))) for name in INPUTS}
            written = {name: spools.enter_context(closing(Spool(Written))) for name in WRITTEN}
            await self._read(partition, ends | inputs, records, written, witnesses)
            is_moving = await self._cut(partition, stable=True) != cut
            if not is_moving:  # else it may be a group's first transaction
                self._refuse_what_nobody_committed(partition, cut, written)
            schedule = witnesses.schedule(
                self._leave, until=cut.end if is_moving else None, clock_ms=cut.clock_ms, is_whole=not lag
            )
            fold = Fold(
                records[INPUTS[0]],
                records[INPUTS[1]],
                self._policy,
                self._settings.partitions,
                concerns=self._terms.concerns,
                # A round that is cut between two due times leaves the clock beyond the last event that it consumed.
                # Where there is no more to consume, events alone must account for the clock.
                until_ms=cut.clock_ms if lag and schedule is None else None,
                schedule=schedule,
            )
            found = Found(partition, records, written, cut.sequence if is_moving else None, schedule)
            if not is_moving:
                inbound, outbound = cut.offsets
                found = found._replace(committed=Committed(inbound, outbound, cut.sequence))
            else:
                found = await asyncio.to_thread(until_cut, found, cut.end, await self._states_since(partition, ends))
            await asyncio.to_thread(verdict.add, found, fold, self._terms)  # minutes, for millions of records
        verdict.not_consumed += lag

    def _tps(self, partition: int, *names: str) -> list[TopicPartition]:
        return [TopicPartition(self._names[name], partition) for name in names]

    async def _cut(self, partition: int, *, stable: bool = False) -> Cut:
        """Ask for what is committed; nothing is, where the group has no offsets.

        `stable`: a transaction that is being completed counts. Its outputs may be there before its offsets are.
        """
        group, tps = self._settings.app_id, self._tps(partition, *INPUTS)
        question = offset_fetch(group, [tp.topic for tp in tps], [partition], stable)
        give_up_s = time.monotonic() + self._wait_s
        while (committed := await offsets_of(self._admin._client, group, question)) is None:
            if time.monotonic() > give_up_s:
                raise ClusterError(
                    f"group {group}, partition {partition}: its offsets can't be had for {self._wait_s:.0f} s; is a"
                    " transaction open?"
                )
            await asyncio.sleep(_AGAIN_S)
        offsets = [committed[tp][0] if tp in committed else 0 for tp in tps]
        metadata = next((committed[tp][1] for tp in tps if tp in committed), None)
        if metadata is None:
            return Cut(offsets)
        try:
            progress = decode_progress(metadata)
        except OffsetError as error:
            raise ClusterError(f"group {group}, partition {partition}: {error}") from error
        return Cut(offsets, progress.clock_ms, progress.sequence)

    def _refuse_what_nobody_committed(self, partition: int, cut: Cut, written: Mapping[str, Spool[Written]]) -> None:
        """Refuse where outputs lie and no offset does: they are of another group, or its offsets have gone."""
        name = next((name for name in WRITTEN for _ in written[name]), None)
        if cut.clock_ms is None and name is not None:
            raise ClusterError(
                f"group {self._settings.app_id}, partition {partition}: found no committed offset, expected one, as"
                f" {self._names[name]} has records; is it the workers' app_id (JANELA_APP_ID)? Or its offsets have"
                " expired (offsets.retention.minutes)"
            )

    async def _lag(self, committed: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]) -> int:
        """Count the positions behind the committed ones; there is no lag where only aborted records lie there."""
        behind = {tp: offset for tp, offset in committed.items() if offset < ends[tp]}
        if not behind:
            return 0
        stable: dict[TopicPartition, int] = await self._consumer.end_offsets(list(behind))
        is_empty = all(stable[tp] >= ends[tp] for tp in behind)  # else a transaction is open, and may bring some
        async with aclosing(self._batches(behind, {tp: stable[tp] for tp in behind})) as batches:
            async for _, batch in batches:
                if batch:
                    is_empty = False
                    break
        return 0 if is_empty else sum(ends[tp] - offset for tp, offset in behind.items())

    async def _states_since(self, partition: int, ends: Mapping[TopicPartition, int]) -> dict[str, set[str]]:
        """Give the keys of what was written to the state topics behind these ends."""
        names = dict(zip(self._tps(partition, *STATES), STATES, strict=True))
        since: dict[str, set[str]] = {name: set() for name in STATES}
        now = await self._ends.end_offsets(list(names))
        async for tp, batch in self._batches({tp: ends[tp] for tp in names}, now):
            for record in batch:
                _look_at(record)
                since[names[tp]].add(_written(record).key_text)
        return since

    async def _all_is_there(self, tps: list[TopicPartition]) -> None:
        """Refuse where retention has deleted the beginning: what follows from it could not be told from a fault."""
        for tp, start in (await self._ends.beginning_offsets(tps)).items():
            if start:
                raise ClusterError(
                    f"{tp.topic}[{tp.partition}]: begins at offset {start}, expected 0; what came before was deleted,"
                    " and the rest can't be judged without it"
                )

    async def _read(
        self,
        partition: int,
        ends: dict[TopicPartition, int],
        records: Mapping[str, Spool[Record]],
        written: Mapping[str, Spool[Written]],
        witnesses: Witnesses,
    ) -> None:
        """Read committed records from the start up to these ends; of contacts that do not concern us the rounds."""
        names = dict(zip(self._tps(partition, *INPUTS, *WRITTEN), (*INPUTS, *WRITTEN), strict=True))
        async for tp, batch in self._batches(await self._ends.beginning_offsets(list(ends)), ends):
            name = names[tp]
            for record in batch:
                if name in records:
                    records[name].append(_input(name, record))
                    continue
                _look_at(record)
                found = _written(record)
                if name != DEAD_LETTERS:
                    witnesses.note(name, found)
                if name == DEAD_LETTERS or self._sample.holds(record.key or b""):
                    written[name].append(found)
            self._on_read(partition, len(batch))

    async def _batches(
        self, starts: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
    ) -> AsyncGenerator[tuple[TopicPartition, list[ConsumerRecord]], None]:
        """Give the committed records between these positions of partitions; an open transaction is waited for."""
        self._consumer.assign(list(ends))
        for tp, start in starts.items():
            self._consumer.seek(tp, start)
        give_up_s = time.monotonic() + self._wait_s
        while behind := [tp for tp, end in ends.items() if await self._consumer.position(tp) < end]:
            self._consumer.pause(*(tp for tp in ends if tp not in behind))
            fetched = await self._consumer.getmany(*behind, timeout_ms=200)
            for tp, batch in fetched.items():
                yield tp, [record for record in batch if record.offset < ends[tp]]
                give_up_s = time.monotonic() + self._wait_s
            if time.monotonic() > give_up_s:
                raise ClusterError(
                    f"{behind[0].topic}[{behind[0].partition}]: nothing to read in time; is a transaction open?"
                )


def _look_at(record: ConsumerRecord) -> None:
    """Refuse what was too large to be kept on a topic that only workers write to: none of them wrote that."""
    if words := too_large(record.key, record.value, record.headers):
        raise ClusterError(
            f"{record.topic}[{record.partition}]@{record.offset}: found {words}, expected at most"
            f" {KEPT_BYTES_MAX:,} bytes of each; no worker wrote it"
        )


def _input(name: str, record: ConsumerRecord) -> Record:
    key, value, headers = record.key, record.value, record.headers
    not_kept = None
    if too_large(key, value, headers):
        not_kept = NotKept(_digest(key), _digest(value), _counted(headers))
        key, value = (None if isinstance(part, Unread) else part for part in (key, value))
        headers = () if not_kept.headers is not None else headers
    return Record(
        "inbound" if name == INPUTS[0] else "outbound",
        record.partition,
        record.offset,
        record.timestamp,
        key,
        value,
        tuple(headers),
        record.timestamp if record.timestamp_type == _LOG_APPEND_TIME else None,
        not_kept,
    )


def _digest(part: Unread | bytes | None) -> Digest | None:
    return Digest(part.size, part.sha256) if isinstance(part, Unread) else None


def _counted(headers: object) -> tuple[int, int] | None:
    return (headers.count, headers.size) if isinstance(headers, UnreadHeaders) else None


def _written(record: ConsumerRecord) -> Written:
    return Written(record.offset, record.timestamp, record.key, record.value, tuple(record.headers))
