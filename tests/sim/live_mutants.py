"""A live clock that goes too far, one way at a time: the witness of rounds is worth what it says of these."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Final
from unittest.mock import patch

from aiokafka import TopicPartition

from processor.kafka.clock import BrokerClock
from processor.kafka.log import LogEnds, LogReader
from processor.stream import owner as owner_module
from processor.stream.merge import merge
from processor.stream.owner import Owner

_decide, _ends, _move, _now = Owner.decide, LogReader.ends, Owner._move_idle_clock, BrokerClock.now_ms


def _merge_at_once(inbound: Any, outbound: Any, _: tuple[bool, bool], limit: int) -> Any:
    return merge(inbound, outbound, (True, True), limit)


def _move_without_grace(owner: Owner, noted_ms: int, effects: Any) -> None:
    _move(owner, noted_ms + owner._settings.timer_grace_ms, effects)


def _decide_in_backlog(owner: Owner, ends: LogEnds, now_ms: int) -> Any:
    read = {tp: buffer.taken for tp, buffer in zip(owner.inputs, owner.buffers, strict=True)}
    return _decide(owner, LogEnds(ends.noted_ms or now_ms, read), now_ms)


async def _stable_ends(reader: LogReader, tps: Iterable[TopicPartition]) -> LogEnds:
    ends = await _ends(reader, tps)
    return LogEnds(ends.noted_ms, await reader.stable_ends(ends.offsets))


def _by_the_machine(clock: BrokerClock) -> int:
    return _now(clock) + int(clock._machine_zero() - clock._zero_ms)


LIVE_MUTANTS: Final[dict[str, Callable[[], AbstractContextManager[Any]]]] = {
    "a merge waits for nothing": lambda: patch.object(owner_module, "merge", _merge_at_once),
    "timers keep no grace": lambda: patch.object(Owner, "_move_idle_clock", _move_without_grace),
    "timers fire in a backlog": lambda: patch.object(Owner, "decide", _decide_in_backlog),
    "timers go by the machine's clock": lambda: patch.object(BrokerClock, "now_ms", _by_the_machine),
    "an open transaction is no input": lambda: patch.object(LogReader, "ends", _stable_ends),
}
