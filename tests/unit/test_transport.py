"""What of the transport needs no broker: whose membership a round is committed under, and what quiet hours leave."""

import asyncio
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.fetcher import Fetcher
from faust.transport.drivers import aiokafka as driver

from processor.stream.transport import ConsumerThread


async def test_a_membership_is_the_one_that_was_assigned_whatever_the_coordinator_says_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def passed_on(*_: object) -> None:
        pass

    monkeypatch.setattr(driver.AIOKafkaConsumerThread, "on_partitions_assigned", passed_on)
    coordinator = SimpleNamespace(generation=7, member_id="w-1", _group_instance_id="one")
    consumer: Any = SimpleNamespace(membership=None)
    thread: Any = ConsumerThread.__new__(ConsumerThread)
    thread.consumer, thread._openings = consumer, {}
    thread._consumer = SimpleNamespace(_coordinator=coordinator, pause=lambda *_: None)

    await thread.on_partitions_assigned(set(), 7)
    coordinator.generation, coordinator.member_id = -1, ""  # as aiokafka resets it: no fence at all

    membership = consumer.membership
    assert (membership.generation, membership.member_id) == (7, "w-1")
    assert membership.group_instance_id == "one"


async def test_hours_in_which_nothing_comes_leave_nothing_behind() -> None:
    fetcher: Any = Fetcher.__new__(Fetcher)
    fetcher._loop, fetcher._fetch_waiters, fetcher._records, fetcher._closed = (
        asyncio.get_running_loop(), set[Any](), dict[Any, Any](), False,
    )  # fmt: skip
    fetcher._subscriptions = SimpleNamespace(fetch_context=nullcontext, reassignment_in_progress=False)
    thread: Any = ConsumerThread.__new__(ConsumerThread)
    thread._consumer = SimpleNamespace(_closed=False, _fetcher=fetcher)
    thread._openings, thread._held = {}, frozenset()
    for _ in range(50):
        assert await thread.fetch(0.0, 0) == []
    await asyncio.sleep(0)
    assert fetcher._fetch_waiters == set()
