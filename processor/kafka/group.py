"""Who is in a consumer group, and what follows from it."""

import asyncio
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.group import LeaveGroupRequest

from processor.kafka.connection import Connection
from processor.kafka.protocol import ExactRequest, Membership

_UNSTABLE_OFFSET_COMMIT = 88
_AGAIN_S = 0.2
_HEAR_S = 1.0
_FENCED_S = 5.0
_REBALANCE_S = 2.0
_LEAVE_S = 2.0


async def members_of(connection: Connection, group: str, within_s: float = 0.0) -> dict[str, str]:
    """Give the client id of each member of a group, by member id; there are none where it does not exist.

    Where nobody can say for the moment (a coordinator that has just come names no members either), it is asked again
    for `within_s`.

    Raises:
        KafkaError: The cluster does not answer, or refuses to.
    """
    give_up_s = time.monotonic() + within_s
    admin = connection.admin()
    await admin.start()
    try:
        while True:
            answers = await admin.describe_consumer_groups([group])
            groups = [found for answer in answers for found in answer.groups]
            error = next((for_code(code)() for code, *_ in groups if code), None)
            if error is None:
                return {member[0]: member[1] for found in groups for member in found[5]}
            if not error.retriable or time.monotonic() >= give_up_s:
                raise error
            await asyncio.sleep(_AGAIN_S)
    finally:
        await admin.close()


async def offsets_of(
    client: AIOKafkaClient, group: str, question: ExactRequest
) -> dict[TopicPartition, tuple[int, str]] | None:
    """Ask for a group's offsets, with their metadata (`protocol.offset_fetch`); partitions without one are left out.

    None where the answer has to be waited for: nobody can say for the moment, or a transaction that holds some is being
    completed.

    Raises:
        KafkaError: The cluster refuses to answer.
    """
    try:
        # any broker of the metadata is asked, also one that is dead
        node = await client.coordinator_lookup(CoordinationType.GROUP, group)
        response = await client.send(node, question, group=ConnectionGroup.COORDINATION)
    except KafkaError as error:
        if not error.retriable:
            raise
        return None
    codes = {response.error_code, *(part[4] for _, parts, _ in response.topics for part in parts)} - {0}
    if any(not for_code(code).retriable and code != _UNSTABLE_OFFSET_COMMIT for code in codes):
        raise for_code(max(codes))
    if codes:
        return None
    return {
        TopicPartition(topic, partition): (offset, metadata or "")
        for topic, parts, _ in response.topics
        for partition, offset, _, metadata, _, _ in parts
        if offset >= 0
    }


async def is_gone(connection: Connection, group: str, client_id: str) -> bool:
    """Tell whether a client is not in a group; where nobody can say for the moment, it may be.

    Raises:
        KafkaError: The cluster refuses to answer.
    """
    try:
        return client_id not in (await members_of(connection, group)).values()
    except KafkaError as error:
        if not error.retriable:
            raise
        return False


async def why_fenced(connection: Connection, group: str, client_id: str, membership: Membership) -> str:
    """Say who fenced a member's transactions, as far as the group shows; waits a little for that.

    Brokers have one answer for all: a worker that stood still hears it, whose transaction a successor or the time-out
    has ended, and so does one whose name another process bears.
    """
    instance_id = client_id.removeprefix(f"{group}-")
    with suppress(KafkaError, OSError):
        async with asyncio.timeout(_FENCED_S):
            while True:
                members = await members_of(connection, group)
                if any(name == client_id and id_ != membership.member_id for id_, name in members.items()):
                    return f"instance id {instance_id} is in use elsewhere: {group} has another member of this name"
                if membership.group_instance_id is None:
                    break
                await asyncio.sleep(_AGAIN_S)  # static members have one place a name, and take it from each other
    return (
        "its transactions were fenced: by a successor that took its partitions over while it stood still, by the"
        f" brokers' time-out, or by another process with the instance id {instance_id}"
    )


async def error_of_group(consumer: AIOKafkaConsumer) -> KafkaError:
    """Wait until the group refuses a consumer, also at its first join; to be awaited in the consumer's loop.

    aiokafka does nothing more until somebody has taken the error, and it is taken by asking for records only.
    """
    while True:
        try:
            consumer._coordinator.check_errors()
        except KafkaError as error:
            return error
        await asyncio.sleep(_HEAR_S)


async def leave_in_time(stopping: Coroutine[Any, Any, None], consumer: AIOKafkaConsumer | None) -> None:
    """Wait until a consumer has been stopped by `stopping`, and let no rebalance hold that up.

    aiokafka waits for the answer to its JoinGroup, which comes when all members have joined or their sessions have
    ended, and brokers answer nothing else on that connection meanwhile. So after a while it is said on another one
    that the member leaves, by which its JoinGroup is answered. A static member stays, as in any stop: it hangs up.
    """
    task = asyncio.ensure_future(stopping)
    done, _ = await asyncio.wait([task], timeout=_REBALANCE_S)
    if not done and consumer is not None:
        coordinator, client = consumer._coordinator, consumer._client
        if coordinator._group_instance_id is None:
            with suppress(KafkaError, TimeoutError):
                async with asyncio.timeout(_LEAVE_S):
                    leaving = LeaveGroupRequest(coordinator.group_id, coordinator.member_id)
                    await client.send(coordinator.coordinator_id, leaving)
                    await asyncio.shield(task)
        for (_, purpose), connection in list(client._conns.items()):
            if purpose is ConnectionGroup.COORDINATION:
                connection.close()
    await task
