"""A worker without Faust: the real engine, its place in the group, and the fetches that bring it carriers.

What stands for Faust is unkind: carriers come late, twice, out of order, of earlier openings, and at times from
another position than the one that was asked for.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, cast

from aiokafka import TopicPartition
from aiokafka.errors import IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError

from processor.kafka.protocol import Membership
from processor.settings import Settings
from processor.stream.engine import Engine
from processor.stream.transport import Carrier
from tests.sim.cluster import Cluster

_POLL_S = 0.08


class Consumer:
    """Stands in for the transport's consumer."""

    membership: Membership | None = None

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._positions: dict[TopicPartition, int] = {}
        self._openings: dict[TopicPartition, int] = {}
        self._held: frozenset[TopicPartition] = frozenset()
        self._count = 0
        self.fetched: asyncio.Queue[Carrier] = asyncio.Queue()

    def open(self, tp: TopicPartition, offset: int) -> int:
        """Read a partition from `offset` on, after a moment, as the consumer's own thread would."""
        self._count += 1
        asyncio.get_running_loop().call_later(self._cluster.delay_s(), self._open, tp, offset, self._count)
        return self._count

    def hold(self, held: Iterable[TopicPartition]) -> None:
        """Fetch nothing more from these partitions until the next call."""
        self._held = frozenset(held)

    def forget(self) -> None:
        """Fetch nothing of the last assignment; what is under way still arrives."""
        self._openings.clear()

    async def fetch(self) -> None:
        """Fetch from what is open, for ever."""
        cluster, chance = self._cluster, self._cluster.chance
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(chance.random() * _POLL_S)
            asked = {tp: (self._positions[tp], n) for tp, n in self._openings.items() if tp not in self._held}
            if chance.random() < cluster.fault_share:  # a late seek, or a reset by the client
                # never to the very end: with nothing to come there is no carrier by which an owner could see it
                asked = {tp: (chance.randrange(cluster.logs[tp].end or 1), n) for tp, (_, n) in asked.items()}
            most = chance.choice([1, 3, 10])
            found = await cluster.request(
                lambda asked=asked, most=most: {  # type: ignore[misc]
                    tp: cluster.logs[tp].read(start, True, most) for tp, (start, _) in asked.items()
                }
            )
            for tp, (records, stop) in found.items():
                start, opening = asked[tp]
                if self._openings.get(tp) == opening:
                    self._positions[tp] = stop
                if stop > start:
                    carrier = Carrier(tp, start, stop, opening, records)
                    copies = 2 if chance.random() < cluster.fault_share else 1
                    for _ in range(copies):
                        delay_s = cluster.delay_s() if chance.random() < 3 * cluster.fault_share else 0.0
                        loop.call_later(delay_s, self.fetched.put_nowait, carrier)

    def _open(self, tp: TopicPartition, offset: int, opening: int) -> None:
        if opening > self._openings.get(tp, 0):
            self._openings[tp], self._positions[tp] = opening, offset


class Worker:
    """One life of a worker. Its methods run in its own process."""

    def __init__(self, settings: Settings, cluster: Cluster) -> None:
        self._cluster = cluster
        self._engine = Engine(settings)
        self._consumer = Consumer(cluster)
        self._engine.consumer = cast(Any, self._consumer)
        self._member_id = ""

    async def run(self) -> None:
        """Work until the process ends."""
        tasks = [self._belong(), self._consumer.fetch(), self._take()]
        await asyncio.gather(*tasks)

    async def leave(self) -> None:
        """Stop as a signal asks for it, and leave the group."""
        await self._engine.stop()
        await self._cluster.request(lambda: self._cluster.leave(self._member_id))

    async def _take(self) -> None:
        while True:
            self._engine.accept(await self._consumer.fetched.get())

    async def _belong(self) -> None:
        cluster, client_id = self._cluster, self._engine.transactional_id
        while True:
            member_id = self._member_id = self._member_id or cluster.new_member_id()
            joining = await cluster.request(lambda name=member_id: cluster.join(client_id, name))  # type: ignore[misc]
            try:
                generation, partitions = await joining
            except UnknownMemberIdError:
                self._member_id = ""
                continue
            self._consumer.forget()
            self._consumer.membership = Membership(generation, member_id, None)
            await self._engine.on_assigned(partitions)
            await self._beat(member_id, generation)
            await self._engine.on_revoked()

    async def _beat(self, member_id: str, generation: int) -> None:
        """Tell the group that this worker is alive, until another generation begins."""
        while True:
            await asyncio.sleep(self._cluster.SESSION_S / 6 * self._cluster.chance.random())
            try:
                await self._cluster.request(lambda: self._cluster.heartbeat(member_id, generation))
            except RebalanceInProgressError:
                return
            except (UnknownMemberIdError, IllegalGenerationError):
                self._member_id = ""
                return
