"""The time by which idle timers fire: the brokers', and never what this machine's wall clock says.

Records bear the time of the broker that took them, so windows end by that time. No answer of Kafka's to a consumer
says what time it is; but the coordinator of a transaction notes when it lets one begin, and tells. So an empty
transaction is begun and aborted, once at the start and then now and again; between two answers a clock goes on that
nobody sets.
"""

import asyncio
import time
from contextlib import suppress
from typing import Final

import structlog
from aiokafka import TopicPartition
from aiokafka.client import CoordinationType
from aiokafka.errors import KafkaError, ProducerFenced, for_code

from processor.kafka import protocol
from processor.kafka.connection import Connection

log = structlog.get_logger(__name__)

STEP_MS: Final = 1_000
"""Where the machine's clock has moved by more than this against the other one, it was set, or the machine slept."""
_GOOD_S: Final = 600.0  # two clocks that part by 100 millionths are 60 ms apart by then
_LOOK_S: Final = 1.0
_ANSWER_S: Final = 30.0
_OFF_MS: Final = 5 * 60_000


class BrokerClock:
    """The brokers' time, never ahead of it: what an answer needed to come counts as not yet passed."""

    def __init__(self, connection: Connection, transactional_id: str, tp: TopicPartition) -> None:
        """Take whom to ask and as whom; `tp` gets the markers of the empty transactions.

        Until it is started it goes by the machine's clock.
        """
        self._connection, self._transactional_id, self._tp = connection, transactional_id, tp
        self._zero_ms = self._machine_zero_ms = self._machine_zero()
        self._asked_s = 0.0
        self._keeping: asyncio.Task[None] | None = None

    def now_ms(self) -> int:
        """Ms since the epoch by the brokers' time."""
        return int(self._zero_ms + time.monotonic() * 1000)

    def ahead_ms(self) -> int:
        """How far this machine's wall clock is ahead of the brokers' time; negative where it is behind."""
        return time.time_ns() // 1_000_000 - self.now_ms()

    async def start(self) -> None:
        """Ask what time it is, and go on asking in the background.

        Raises:
            ProducerFenced: Another one asks under the same name.
            KafkaError: The brokers do not tell.
        """
        await self._ask()
        self._keeping = asyncio.create_task(self._keep(), name="clock")

    async def stop(self) -> None:
        """Ask no more."""
        if self._keeping is not None:
            self._keeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeping

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            stepped_ms = abs(self._machine_zero() - self._machine_zero_ms)
            if stepped_ms > STEP_MS or time.monotonic() - self._asked_s > _GOOD_S:
                try:
                    await self._ask()
                except (KafkaError, OSError, AssertionError) as error:  # aiokafka's states are asserts
                    log.warning("clock.unanswered", reason=f"{type(error).__name__}: {error}")

    async def _ask(self) -> None:
        """Ask by a producer of its own: whoever stands still in a round must not keep the time from the others."""
        asking = self._connection.producer(
            transactional_id=self._transactional_id, transaction_timeout_ms=int(_ANSWER_S * 1000)
        )
        async with asyncio.timeout(_ANSWER_S):
            try:
                await asking.start()
                await asking.begin_transaction()
                asking._txn_manager.maybe_add_partition_to_txn(self._tp)
                await asking.abort_transaction()
                answered_s, machine_zero_ms = time.monotonic(), self._machine_zero()
                node = await asking.client.coordinator_lookup(CoordinationType.TRANSACTION, self._transactional_id)
                request = protocol.ExactRequest(protocol.DescribeTransactionsRequest, [self._transactional_id], {})
                code, _, _, _, began_ms, *_ = (await asking.client.send(node, request)).transactions[0]
            except ProducerFenced as error:
                raise ProducerFenced(
                    "the question for the brokers' time was fenced: by another process with the same instance id, or by"
                    " the brokers' time-out while this one stood still"
                ) from error
            finally:
                await asking.stop()
        if code:
            raise for_code(code)
        self._zero_ms, self._machine_zero_ms, self._asked_s = began_ms - answered_s * 1000, machine_zero_ms, answered_s
        if abs(ahead_ms := self.ahead_ms()) > _OFF_MS:
            log.warning("clock.off", ahead_s=round(ahead_ms / 1000))

    @staticmethod
    def _machine_zero() -> float:
        """What the machine's wall clock would say when the clock that nobody sets is at its zero."""
        return time.time_ns() / 1_000_000 - time.monotonic() * 1000
