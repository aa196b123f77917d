"""What of the transport needs no broker: whose membership a round is committed under."""

from types import SimpleNamespace
from typing import Any

import pytest
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
