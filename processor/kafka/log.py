"""Questions about the ends of partitions' logs, asked outside of the consumer group."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaTimeoutError

from processor.kafka.connection import Connection

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class LogEnds:
    """Ends of partitions (high watermarks), as they were at `noted_ms` (the brokers' time) or later."""

    noted_ms: int
    offsets: dict[TopicPartition, int]


NO_ENDS = LogEnds(0, {})


class LogError(Exception):
    """A log has not what a reader of it must have; one line that says what, found, expected and how to mend it."""


def ends_consumer(connection: Connection) -> AIOKafkaConsumer:
    """Make a consumer to ask where logs end, and from which offset on records are of some time or later.

    Records of open transactions count. One that reads committed records alone is told that a log ends where the first
    of them begins, whatever is committed behind it.
    """
    return connection.consumer(client_id="janela-ends")


class LogReader:
    """Two clients without a group: one sees every record, the other only committed ones."""

    def __init__(self, connection: Connection, now_ms: Callable[[], int]) -> None:
        """Make the clients, which needs a running loop; `now_ms` tells the time of what is asked."""
        self._now_ms = now_ms
        self._all = connection.consumer()
        self._committed = connection.consumer(isolation_level="read_committed")
        self._asking: asyncio.Task[Any] | None = None
        self._unanswered_since_s: float | None = None

    async def start(self) -> None:
        """Connect."""
        await self._all.start()
        await self._committed.start()

    async def stop(self) -> None:
        """Disconnect."""
        await self._all.stop()
        await self._committed.stop()

    async def ends(self, tps: Iterable[TopicPartition]) -> LogEnds:
        """Ask for the high watermarks; the answer counts from before the question."""
        noted_ms = self._now_ms()
        return LogEnds(noted_ms, await self._all.end_offsets(list(tps)))

    async def known_ends(self, tps: Iterable[TopicPartition]) -> LogEnds:
        """Ask as `ends` does; NO_ENDS where the brokers stay silent, or `break_off` is called meanwhile."""
        self._asking = asyncio.current_task()
        self._unanswered_since_s = self._unanswered_since_s or time.monotonic()
        try:
            ends = await self.ends(tps)
        except KafkaTimeoutError:
            log.warning("stream.brokers-silent", silent_s=round(self.silent_s()))
            return NO_ENDS  # it is the same silence where the next question is not answered either
        except asyncio.CancelledError:
            if self._asking is not None or (task := asyncio.current_task()) is None:
                raise  # not by `break_off`
            task.uncancel()
            ends = NO_ENDS
        finally:
            self._asking = None
        self._unanswered_since_s = None
        return ends

    def silent_s(self) -> float:
        """Tell for how long a question of `known_ends` that is under way waits, with those before it; 0: none is."""
        since_s = self._unanswered_since_s
        return 0.0 if self._asking is None or since_s is None else time.monotonic() - since_s

    def break_off(self) -> None:
        """Have a question of `known_ends` that is under way come to nothing: whoever stops waits for no answer."""
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()

    async def stable_ends(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Ask for the last stable offsets: before them no transaction is open."""
        offsets: dict[TopicPartition, int] = await self._committed.end_offsets(list(tps))
        return offsets

    async def starts(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Ask for the first offsets that are still there."""
        offsets: dict[TopicPartition, int] = await self._all.beginning_offsets(list(tps))
        return offsets

    async def check(self, positions: Mapping[TopicPartition, int]) -> None:
        """Look whether partitions can be read on from these offsets.

        Raises:
            LogError: One begins after that, or ends before it.
        """
        starts, ends = await self.starts(positions), (await self.ends(positions)).offsets
        for tp, position in positions.items():
            found = f"{tp.topic}, partition {tp.partition}: found the log to reach from {starts[tp]} to {ends[tp]}"
            if starts[tp] > position:
                raise LogError(
                    f"{found}, expected {position} to be in it: records were deleted before they were read; raise the"
                    " topic's retention"
                )
            if ends[tp] < position:
                raise LogError(
                    f"{found}, expected {position} to be in it: it has lost its end, which was read"
                    " (an unclean election, a disk); how to go on is in docs/operations.md"
                )
