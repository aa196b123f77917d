"""Revocations that meet a take-over, an assignment or a stop: of two assignments never anything runs side by side.

Chance seldom brings such a meeting about, so here it is arranged, in the cluster of the simulation.
"""

import asyncio
from collections.abc import Awaitable, Callable
from unittest.mock import patch

from aiokafka import TopicPartition
from aiokafka.record.default_records import DefaultRecord

from processor.kafka.protocol import Membership
from processor.stream.engine import Engine
from tests.sim.clients import ConsumerClient, ProducerClient
from tests.sim.cluster import Transaction
from tests.sim.history import NOW_MS, arranged, simulation
from tests.sim.worker import Worker

HOLD_S = 1.0
"""How long a consumer takes to stop, as one does that waits for its fetch."""
SOON_S = 3 * HOLD_S


def at_work(engine: Engine) -> set[str]:
    """Give the names of what runs for assignments."""
    return {task.get_name() for task in engine._tasks if not task.done()}


def play(scene: Callable[[Engine], Awaitable[None]]) -> None:
    """Play a scene that begins with a take-over that never ends: a stranger's transaction holds the state up."""

    async def stop(_: ConsumerClient) -> None:
        await asyncio.sleep(HOLD_S)

    async def in_the_middle_of_a_restore(worker: Worker) -> None:
        state = DefaultRecord(0, NOW_MS, 0, b"k", b"v", [])
        worker._cluster.logs[TopicPartition("window-state", 0)].append(NOW_MS, state, Transaction())
        worker._consumer.membership = Membership(1, "member", None)
        await worker._engine.on_assigned([0])
        await asyncio.sleep(SOON_S)
        assert at_work(worker._engine) == {"loop", "take-over"}
        await scene(worker._engine)

    with simulation(), patch.object(ConsumerClient, "stop", stop):
        arranged(1, in_the_middle_of_a_restore)


def test_a_revocation_does_not_wait_for_a_take_over_to_come_to_its_end() -> None:
    async def scene(engine: Engine) -> None:
        async with asyncio.timeout(SOON_S):
            await engine.on_revoked()

    play(scene)


def test_a_revocation_is_over_when_nothing_of_its_assignment_runs_any_more() -> None:
    async def scene(engine: Engine) -> None:
        await engine.on_revoked()
        assert at_work(engine) == set()

    play(scene)


def test_what_is_assigned_while_a_revocation_is_under_way_begins_after_it() -> None:
    async def scene(engine: Engine) -> None:
        revoking = asyncio.create_task(engine.on_revoked())
        await asyncio.sleep(HOLD_S / 2)
        assert not revoking.done()
        await engine.on_assigned([0])
        assert revoking.done()
        await engine.on_revoked()

    play(scene)


def test_a_stop_that_meets_a_revocation_waits_for_it() -> None:
    async def scene(engine: Engine) -> None:
        revoking = asyncio.create_task(engine.on_revoked())
        await asyncio.sleep(HOLD_S / 2)
        assert not revoking.done()
        was_over = list[bool]()

        async def stop(_: ProducerClient) -> None:
            was_over.append(revoking.done())

        with patch.object(ProducerClient, "stop", stop):
            await engine.stop()
        assert was_over == [True]

    play(scene)
