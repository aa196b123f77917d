"""A replay from begin to end: read, change on the way, wait for each record's turn, write.

1 look at the target: what is there of an earlier try, and whether anybody else writes there
2 survey the source, from where the earlier try began: how many, and between which times
3 take, change, write, at the pace that was asked for
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from processor.core.policy import DAY_MS
from processor.replay.pace import Pace
from processor.replay.pseudonyms import Pseudonyms
from processor.replay.records import Source, Span, StoredRecord
from processor.replay.target import Before, ReplayTarget
from processor.replay.times import shifted
from processor.topics import ClusterError

FLUSH_RECORDS_MAX: Final = 20_000
FLUSH_BYTES_MAX: Final = 16 * 1024 * 1024
"""In one transaction; where records wait for their turn, a transaction ends before each wait."""


class Schedule:
    """Says when the first record is due, and hears of each that is taken up. This one begins at once."""

    def begin_s(self) -> float:
        """Give the moment of the first record (monotonic); asked once, before it."""
        return time.monotonic()

    def taken_up(self, due_s: float) -> None:
        """Hear that a record is taken up that was due at this moment (monotonic)."""


Told = Callable[[str, int, int], None]
"""Is told what goes on, how much of it is done, and of how much (0: not known)."""


class Played(NamedTuple):
    """What a replay did."""

    span: Span
    written: int
    before: int
    """Records that an earlier try had written."""
    distance_ms: int | None
    seconds: float


class Planned(NamedTuple):
    """What a replay would do."""

    span: Span
    before: int
    """Records that are there already."""
    refused: str
    """Why it would be refused; empty where it would not."""


async def survey(source: Source, told: Told) -> Span:
    """Read through a source and count."""
    span = Span()
    async for chunk in source.chunks():
        span.add(chunk)
        told("counting", span.records, 0)
    span.left_out = source.left_out
    return span


class Player:
    """Plays a source into a target."""

    def __init__(
        self,
        source: Source,
        target: ReplayTarget,
        pace: Pace,
        *,
        is_shifted: bool,
        pseudonyms: Pseudonyms | None = None,
        schedule: Schedule | None = None,
        since_ms: int | None = None,
        until_ms: int | None = None,
    ) -> None:
        """Take from where, where to, what is changed on the way, and who follows the schedule.

        `since_ms` is where the source begins if another start would begin elsewhere: there, the first start's counts;
        and `until_ms` the same of its end.
        """
        self._source, self._target, self._pace = source, target, pace
        self._schedule = schedule or Schedule()
        self._is_shifted, self._pseudonyms, self._since_ms, self._until_ms = is_shifted, pseudonyms, since_ms, until_ms

    async def play(self, told: Told, *, may_append: bool) -> Played:
        """Do all three steps.

        Raises:
            ClusterError: Another producer's records are on the target, and `may_append` does not allow that; or those
                of another replay under this id; or the target was not written to its end: start again with the same
                id, and it goes on.
        """
        try:
            before = await self._target.start(_counting(told))
            self._refuse_others(before, may_append)
            self._go_on_from(before)
            span = await survey(self._source, told)
            distance_ms = self._distance_ms(before, span)
            self._refuse_what_is_too_old(span, distance_ms)
            began_s = time.monotonic()
            await self._write(span, distance_ms, told)
        finally:
            await self._target.stop()
        seconds = time.monotonic() - began_s
        return Played(span, self._target.written, self._target.before, distance_ms, seconds)

    async def plan(self, told: Told, *, may_append: bool) -> Planned:
        """Find out what `play` would do: look at the target, and change nothing there.

        Raises:
            ClusterError: The source, or the target, can't be read.
        """
        try:
            before = await self._target.look(_counting(told))
        finally:
            await self._target.stop()
        self._go_on_from(before)
        span = await survey(self._source, told)
        distance_ms = self._distance_ms(before, span)
        try:
            self._refuse_others(before, may_append)
            self._refuse_what_is_too_old(span, distance_ms)
        except ClusterError as error:
            return Planned(span, 0, str(error))
        if before.records:
            async for chunk in self._source.chunks():
                for _, original in chunk:
                    self._target.has(original, self._changed(original, distance_ms))
        return Planned(span, self._target.before, "")

    def _refuse_others(self, before: Before, may_append: bool) -> None:
        if before.foreign and not may_append:
            raise ClusterError(
                f"{before.foreign.topic}[{before.foreign.partition}]: found records of another producer, expected"
                " none or those of this replay; take another prefix, or say --append"
            )
        if before.records and before.of != self._target.of:
            raise ClusterError(
                "the target: found records of this --id that were asked for otherwise or come from elsewhere, expected"
                " those of the same options and the same source; give them again, or take another --id"
            )

    def _go_on_from(self, before: Before) -> None:
        """Take what the first start would have taken."""
        if self._since_ms is not None and before.since_ms is not None:
            self._since_ms = before.since_ms
            self._source.begin_at(before.since_ms)
        if self._until_ms is not None and before.until_ms is not None:
            self._until_ms = before.until_ms
            self._source.end_at(before.until_ms)

    def _distance_ms(self, before: Before, span: Span) -> int | None:
        if not self._is_shifted or span.last_ms is None:
            return None
        if before.distance_ms is not None:
            return before.distance_ms
        return self._pace.distance_ms(span.begin_ms, span.last_ms, _wall_clock_ms())

    def _refuse_what_is_too_old(self, span: Span, distance_ms: int | None) -> None:
        age_max_ms = self._target.room.age_max_ms
        if age_max_ms is None or span.oldest_timestamp_ms is None:
            return
        age_ms = _wall_clock_ms() - span.oldest_timestamp_ms - (distance_ms or 0)
        if age_ms > age_max_ms:
            raise ClusterError(
                f"the target's topics: found room for records of at most {age_max_ms // DAY_MS} days, expected"
                f" {age_ms // DAY_MS + 1}; set retention.ms=-1 (and message.timestamp.before.max.ms, where it is lower"
                " than its default) on them, or say --times shifted"
            )

    async def _write(self, span: Span, distance_ms: int | None, told: Told) -> None:
        target, pace = self._target, self._pace
        number, first_ms, began_s = 0, 0, 0.0
        async for chunk in self._source.chunks():
            for time_ms, original in chunk:
                record = self._changed(original, distance_ms)
                if target.has(original, record):
                    continue
                if not number:  # of those that are not there yet
                    began_s = self._schedule.begin_s()
                if time_ms and not first_ms:
                    first_ms = max(time_ms, span.begin_ms)
                due_s = began_s + pace.due_s(number, time_ms, first_ms)
                if due_s > time.monotonic():
                    await self._turn(due_s)
                self._schedule.taken_up(due_s)
                target.add(original, record, distance_ms, self._since_ms, self._until_ms)
                number += 1
                if target.pending >= FLUSH_RECORDS_MAX or target.pending_bytes >= FLUSH_BYTES_MAX:
                    await target.hand_over()
            told("writing", target.before + number, span.records)
        await target.flush()

    async def _turn(self, due_s: float) -> None:
        """Wait until a record is due; what left before it is not kept waiting."""
        await self._target.flush()
        await asyncio.sleep(max(due_s - time.monotonic(), 0))

    def _changed(self, record: StoredRecord, distance_ms: int | None) -> StoredRecord:
        if self._pseudonyms is not None:
            record = self._pseudonyms.hide(record, self._source.partitions)
        return record if distance_ms is None else shifted(record, distance_ms, _wall_clock_ms())


def _counting(told: Told) -> Callable[[int], None]:
    looked = 0

    def on_read(records: int) -> None:
        nonlocal looked
        looked += records
        told("reading the target", looked, 0)

    return on_read


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000
