"""Which rights of a worker's are missing on the cluster: asked before it joins, and without the right to ask for ACLs.

Brokers tell anyone what he may do with what he may see: in the metadata of topics, and of groups (KIP-430). Of a
transactional id they tell nobody; so a transaction that never was is asked to end. Whoever may write under its name is
told that there is none, the others that they may not; nothing is changed by it.
"""

import asyncio
from typing import Any, Final

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    GroupCoordinatorNotAvailableError,
    NotCoordinatorForGroupError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    for_code,
)

from processor.acls import OPERATION_CODES, WORKER, Acl, acls, commands
from processor.kafka import protocol
from processor.settings import Settings
from processor.topics import asking_brokers

_AGAIN_S: Final = 0.1
ANYBODY: Final = "-any-"
"""What stands for an instance id; should a worker bear it, nothing happens to it."""
_NOBODYS: Final = 2**62
"""The id of a producer that no broker has ever given."""


async def missing(settings: Settings) -> list[str]:
    """Give a line for each right that a worker needs and has not; none where the cluster asks for none.

    Raises:
        BrokerAwayError: No broker answers.
        ClusterError: The cluster refuses us, or to answer.
    """
    needed = acls(settings, WORKER)
    by_resource: dict[tuple[str, str], list[Acl]] = {}
    for acl in needed:
        by_resource.setdefault(acl[:2], []).append(acl)
    async with asking_brokers(settings) as client:
        topics = [name for kind, name in by_resource if kind == "topic"]
        allowed = await _on_topics(client, topics)
        allowed |= {("group", settings.app_id): await _on_group(client, settings.app_id)}
        for kind, name in by_resource:
            if kind == "transactional-id":
                allowed[kind, name] = await _on_transactions(client, name)
    principal = settings.principal or "User:..."
    lines: list[str] = []
    for resource, rights in by_resource.items():
        has = allowed.get(resource)
        if has is not None and (lacking := [acl for acl in rights if acl.operation not in has]):
            found = " and ".join(sorted(has)) or "none"
            expected = " and ".join(acl.operation for acl in lacking)
            (command,) = commands(lacking, principal, settings.bootstrap_servers)
            what = str(lacking[0]).partition(" on ")[2]
            lines.append(f"error: {what}: rights: found {found}, expected {expected}; {command}")
    return lines


def _operations(bits: int) -> set[str]:
    return {name for name, code in OPERATION_CODES.items() if bits >> code & 1}


async def _on_topics(client: AIOKafkaClient, names: list[str]) -> dict[tuple[str, str], set[str]]:
    """Tell what we may do with topics; those that are not there are left out."""
    request = protocol.ExactRequest(protocol.MetadataRequest, names, False, False, True)
    found: dict[tuple[str, str], set[str]] = {}
    for code, name, _, _, bits in (await _asked(client, request)).topics:
        if code == TopicAuthorizationFailedError.errno:
            found["topic", name] = set()
        elif not code:
            found["topic", name] = _operations(bits)
    return found


async def _on_group(client: AIOKafkaClient, name: str) -> set[str]:
    request = protocol.ExactRequest(protocol.DescribeGroupsRequest, [name], True)
    while True:
        try:
            node = await client.coordinator_lookup(CoordinationType.GROUP, name)
            ((code, *_, bits),) = (await client.send(node, request)).groups
            if code:
                raise for_code(code)
            return _operations(bits)
        except GroupAuthorizationFailedError:
            return set()
        except (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError):
            await asyncio.sleep(_AGAIN_S)  # the first question makes Kafka's own topic


async def _on_transactions(client: AIOKafkaClient, prefix: str) -> set[str]:
    # a name that a right for one worker's alone does not cover
    request = protocol.ExactRequest(protocol.EndTxnRequest, f"{prefix}{ANYBODY}", _NOBODYS, 0, False, {})
    code = (await _asked(client, request)).error_code
    return set() if code == TransactionalIdAuthorizationFailed.errno else {"Write"}


async def _asked(client: AIOKafkaClient, request: protocol.ExactRequest) -> Any:
    return await client.send(client.get_random_node(), request)
