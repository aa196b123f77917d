"""What a rebuild begins with: which partitions, from where their inputs are there, and up to where they are committed.

Asked before anything is written; whatever makes a rebuild impossible, or unsafe, is said here.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from processor import features, topics
from processor.kafka.group import members_of
from processor.kafka.offsets import UNFINISHED, OffsetError, Progress, decode_progress
from processor.kafka.producer import Committed
from processor.settings import Settings
from processor.topics import INPUTS, ClusterError

WRITTEN: Final = ("window-opened", "window-expiring", "window-closed", "send-accepted", "send-rejected")
"""Topics whose records tell of the rounds in which the inputs were taken."""
STATES: Final = ("window-state", "consent-state")
_FIRST_RECORD_S: Final = 5
_COORDINATOR_S: Final = 30
"""How long a cluster may take to choose who speaks of the group."""

Pair = tuple[int, int]
"""Offsets of the two inputs, inbound first."""


class Gap(NamedTuple):
    """An input partition whose first records are not there any more."""

    tp: TopicPartition
    begins: int
    """The first offset that is left."""
    first_ms: int | None
    """The timestamp of the record there; None where none is left."""


class Part(NamedTuple):
    """One partition that is rebuilt."""

    partition: int
    begins: Pair
    ends: Pair
    """What is committed: up to there inputs count."""
    progress: Progress

    @property
    def is_unfinished(self) -> bool:
        """Whether an earlier rebuild of it broke off."""
        return self.progress.v == UNFINISHED

    @property
    def is_whole(self) -> bool:
        """Whether the inputs are there from their first record on; of compacted ones that could not be told."""
        return self.begins == (0, 0)


class Plan(NamedTuple):
    """The partitions that are rebuilt, and what of their inputs is missing."""

    parts: list[Part]
    gaps: list[Gap]
    inputs: int
    """Positions of the inputs that are to be applied."""

    @property
    def goes_on(self) -> bool:
        """Whether this is what is left of a rebuild that broke off."""
        return all(part.is_unfinished for part in self.parts)


def input_tps(settings: Settings, partition: int) -> list[TopicPartition]:
    """Give a partition of both inputs, inbound first."""
    return [TopicPartition(settings.topic_prefix + name, partition) for name in INPUTS]


def written_tps(settings: Settings, partitions: Iterable[int]) -> list[TopicPartition]:
    """Give partitions of all that a worker writes in order, states last."""
    return [TopicPartition(settings.topic_prefix + name, n) for n in partitions for name in (*WRITTEN, *STATES)]


async def plan(settings: Settings, partitions: Sequence[int] | None) -> Plan:
    """Look at the cluster: these partitions, or those where a rebuild broke off, or else all.

    Raises:
        BrokerAwayError: No broker answers.
        ClusterError: Brokers or topics are not as they must be, a worker is in the group, or there is nothing to go by.
        KafkaError: The cluster does not answer, or refuses to.
    """
    if errors := topics.errors([*await features.problems(settings), *await topics.check(settings)]):
        raise ClusterError("\n".join(errors))
    if lines := await topics.compacted(settings, [settings.topic_prefix + name for name in INPUTS]):
        raise ClusterError("\n".join(lines))
    await refuse_members(settings)
    admin = settings.connection.admin()
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(settings.app_id)
    finally:
        await admin.close()
    committed = {tp: (it.offset, it.metadata or "") for tp, it in found.items() if it.offset >= 0}
    chosen = range(settings.partitions) if partitions is None else partitions
    consumer = settings.connection.consumer(enable_auto_commit=False)
    await consumer.start()
    try:
        parts = await parts_of(settings, chosen, committed, consumer)
        if not parts:
            raise ClusterError("there is nothing to rebuild: nothing was ever put on the inputs of these partitions")
        if partitions is None:
            parts = [part for part in parts if part.is_unfinished] or parts
        gaps = [gap for part in parts for gap in await _gaps(settings, part, consumer)]
    finally:
        await consumer.stop()
    inputs = sum(max(end - begin, 0) for part in parts for begin, end in zip(part.begins, part.ends, strict=True))
    return Plan(parts, gaps, inputs)


async def refuse_members(settings: Settings) -> None:
    """Look whether anybody is in the group.

    Raises:
        ClusterError: Somebody is.
    """
    if members := await members_of(settings.connection, settings.app_id, within_s=_COORDINATOR_S):
        names = ", ".join(sorted(members.values()))
        raise ClusterError(
            f"group {settings.app_id}: found {len(members)} workers in it ({names}), expected"
            " none; stop them (one that died, or is a static member, leaves with its session)"
        )


async def parts_of(
    settings: Settings, partitions: Sequence[int], committed: Committed, consumer: AIOKafkaConsumer
) -> list[Part]:
    """Put together what is committed of partitions, and where their inputs begin; of one that is empty there is none.

    Raises:
        ClusterError: Nothing is committed of one, or what is does not fit.
    """
    parts: list[Part] = []
    every = [tp for partition in partitions for tp in input_tps(settings, partition)]
    starts, stops = await consumer.beginning_offsets(every), await consumer.end_offsets(every)
    for partition in partitions:
        tps = input_tps(settings, partition)
        missing = [tp for tp in tps if tp not in committed]
        if len(missing) == len(tps) and committed and not any(stops[tp] for tp in tps):
            continue  # nobody ever wrote there
        if missing:
            raise ClusterError(
                f"group {settings.app_id}: found no committed offset of {missing[0].topic}[{partition}], expected one:"
                " it says up to where the state must come; docs/operations.md has the way without"
            )
        try:
            progress = decode_progress(committed[tps[0]][1], unfinished_too=True)
        except OffsetError as error:
            raise ClusterError(f"group {settings.app_id}, partition {partition}: {error}") from error
        if progress.partitions != settings.partitions:
            raise ClusterError(
                f"partitions: found {progress.partitions} in the committed state of {settings.app_id}, expected"
                f" {settings.partitions} (JANELA_PARTITIONS): set it back"
            )
        for tp in tps:
            if stops[tp] < committed[tp][0]:
                raise ClusterError(
                    f"{tp.topic}[{partition}]: found its end at offset {stops[tp]}, expected"
                    f" {committed[tp][0]} or more, which is committed: it is not the topic that was consumed"
                )
        first, second = tps
        ends = committed[first][0], committed[second][0]
        parts.append(Part(partition, (starts[first], starts[second]), ends, progress))
    return parts


async def _gaps(settings: Settings, part: Part, consumer: AIOKafkaConsumer) -> list[Gap]:
    gaps: list[Gap] = []
    for tp, begins, end in zip(input_tps(settings, part.partition), part.begins, part.ends, strict=True):
        if begins:
            gaps.append(Gap(tp, begins, await _first_ms(consumer, tp, begins) if begins < end else None))
    return gaps


async def _first_ms(consumer: AIOKafkaConsumer, tp: TopicPartition, offset: int) -> int | None:
    """Read the timestamp of the record at an offset; None where none comes."""
    consumer.assign([tp])
    consumer.seek(tp, offset)
    give_up_s = time.monotonic() + _FIRST_RECORD_S
    while time.monotonic() < give_up_s:
        for records in (await consumer.getmany(tp, timeout_ms=200, max_records=1)).values():
            return int(records[0].timestamp)
        await asyncio.sleep(0)
    return None
