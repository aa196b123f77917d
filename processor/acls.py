"""The least rights that each party needs on a cluster that denies by default, made from the contract's files.

Who writes and reads a topic stands in ``schemas/topics/``; what a worker needs beside that follows from how it works:

* its group: it joins, and commits offsets in transactions (Read);
* every transactional id that begins with its app_id (Write): its own, and those of workers that are gone, whose
  transactions it ends. Their names are not known before;
* what its state topics are set to (DescribeConfigs): it does not start on state that is not compacted.

It needs nothing of the cluster itself: who may write to a topic may be an idempotent producer (KIP-679).
"""

import shlex
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final, Literal, NamedTuple

from aiokafka.errors import for_code
from aiokafka.protocol.admin import CreateAclsRequest_v1

from processor import contract
from processor.kafka.protocol import ExactRequest
from processor.settings import Settings
from processor.topics import INTERNAL_TOPICS, ClusterError, asking, names

Resource = Literal["topic", "group", "transactional-id", "cluster"]
Operation = Literal["Read", "Write", "Create", "Describe", "DescribeConfigs"]

WORKER: Final = "worker"
CONTRACT_WORKER: Final = "processor"
"""What the contract calls a worker."""
PARTIES: Final = tuple(
    sorted({it for topic in contract.topics() for it in (*topic.producers, *topic.consumers)} - {CONTRACT_WORKER})
)
"""Who else writes or reads the contract's topics."""
ROLES: Final = (WORKER, *PARTIES, "auditor", "autoscaler", "operator", "rebuilder", "replayer")
"""For whom rights are made; the last five stand in no file of the contract."""

OPERATION_CODES: Final[dict[Operation, int]] = {
    "Read": 3,
    "Write": 4,
    "Create": 5,
    "Describe": 8,
    "DescribeConfigs": 10,
}
"""Kafka's numbers (AclOperation); also the bits in which a broker tells what one may do."""
_RESOURCE_CODES: Final[dict[Resource, int]] = {"topic": 2, "group": 3, "cluster": 4, "transactional-id": 5}
_LITERAL, _PREFIXED, _ALLOW = 3, 4, 3
_CLUSTER_NAME: Final = "kafka-cluster"


class Acl(NamedTuple):
    """A right on a resource, from any host."""

    resource: Resource
    name: str
    """Of the resource, with the prefix of the settings."""
    operation: Operation
    is_prefix: bool = False
    """Whether it holds for all names that begin with `name`."""

    def __str__(self) -> str:
        what = "" if self.resource == "cluster" else f" {self.name}{'*' if self.is_prefix else ''}"
        return f"{self.operation} on {self.resource}{what}"


def acls(settings: Settings, role: str, group: str | None = None) -> tuple[Acl, ...]:
    """Give what a role needs; `group` is the consumer group of who reads, by default the role's name.

    Roles beside the worker and the contract's parties: ``auditor`` for `verify`, `watch`, `archive` and `measure`;
    ``autoscaler`` for who asks for the lag; ``operator`` for `topics apply` and `topics check`; ``rebuilder``
    for `rebuild`; ``replayer`` for `replay` onto the settings' prefix.
    """
    ours = names(settings)
    if role == WORKER:
        return tuple(_of_worker(settings))
    if role in PARTIES:
        return tuple(_of_party(settings, role, group or role))
    if role == "auditor":
        on_topics = [Acl("topic", name, it) for name in ours.values() for it in ("Read", "DescribeConfigs")]
        return (*on_topics, Acl("group", settings.app_id, "Describe"))
    if role == "autoscaler":
        inputs = [ours[topic.name] for topic in contract.topics() if topic.role == "input"]
        return (*(Acl("topic", name, "Describe") for name in inputs), Acl("group", settings.app_id, "Describe"))
    if role == "operator":
        wanted: tuple[Operation, ...] = ("Create", "Describe", "DescribeConfigs")
        on_topics = [Acl("topic", name, it) for name in ours.values() for it in wanted]
        internal = [Acl("topic", name, it) for name in INTERNAL_TOPICS for it in wanted[1:]]
        return (*on_topics, *internal, Acl("cluster", _CLUSTER_NAME, "DescribeConfigs"))
    if role == "rebuilder":
        on_states: tuple[Operation, ...] = ("Read", "DescribeConfigs", "Write")
        found = [
            Acl("topic", ours[topic.name], it)
            for topic in contract.topics()
            for it in (on_states if topic.role == "state" else on_states[:2])
        ]
        return (*found, *_of_group(settings))
    if role == "replayer":
        inputs = [ours[topic.name] for topic in contract.topics() if topic.role == "input"]
        needed: tuple[Operation, ...] = ("Read", "Write", "DescribeConfigs")
        transactions = Acl("transactional-id", f"janela-replay-{settings.topic_prefix}", "Write", is_prefix=True)
        return (*(Acl("topic", name, it) for name in inputs for it in needed), transactions)
    raise ValueError(f"no role {role!r}; there are {', '.join(ROLES)}")


def _of_worker(settings: Settings) -> Iterator[Acl]:
    for topic in contract.topics():
        yield from _on_topic(settings, topic, CONTRACT_WORKER)
        if topic.role == "state":
            yield Acl("topic", settings.topic_prefix + topic.name, "DescribeConfigs")
    yield from _of_group(settings)


def _of_group(settings: Settings) -> Iterator[Acl]:
    """Give what is needed to commit the group's offsets in transactions."""
    yield Acl("group", settings.app_id, "Read")
    yield Acl("transactional-id", f"{settings.app_id}-", "Write", is_prefix=True)


def _of_party(settings: Settings, party: str, group: str) -> Iterator[Acl]:
    for topic in contract.topics():
        yield from _on_topic(settings, topic, party)
    if any(party in topic.consumers for topic in contract.topics()):
        yield Acl("group", group, "Read")


def _on_topic(settings: Settings, topic: contract.TopicSpecification, party: str) -> Iterator[Acl]:
    """Give what the contract says that a party does with a topic."""
    if party in topic.consumers:
        yield Acl("topic", settings.topic_prefix + topic.name, "Read")
    if party in topic.producers:
        yield Acl("topic", settings.topic_prefix + topic.name, "Write")


def commands(rights: Iterable[Acl], principal: str, bootstrap_servers: str) -> list[str]:
    """Write rights as calls of Kafka's own tool, one for each resource."""
    return [_command(list(group), principal, bootstrap_servers) for _, group in groupby(rights, lambda acl: acl[:2])]


def _command(rights: list[Acl], principal: str, bootstrap_servers: str) -> str:
    resource, name, *_ = rights[0]
    words = ["kafka-acls.sh", "--bootstrap-server", bootstrap_servers, "--add", "--allow-principal", principal]
    for acl in rights:
        words += ["--operation", acl.operation]
    words += ["--cluster"] if resource == "cluster" else [f"--{resource}", name]
    words += ["--resource-pattern-type", "prefixed"] if rights[0].is_prefix else []
    return shlex.join(words)


async def grant(settings: Settings, rights: Iterable[Acl], principal: str) -> None:
    """Grant rights on the cluster, in addition to what there is; one that is there already stays.

    Raises:
        BrokerAwayError: No broker answers.
        ClusterError: The cluster refuses: for want of the right to alter the cluster, or it has no authorizer.
    """
    creations = [
        (
            _RESOURCE_CODES[acl.resource], acl.name, _PREFIXED if acl.is_prefix else _LITERAL, principal, "*",
            OPERATION_CODES[acl.operation], _ALLOW,
        )
        for acl in rights
    ]  # fmt: skip
    async with asking(settings) as admin:
        answer = await admin._send_request(ExactRequest(CreateAclsRequest_v1, creations))
    if refused := {for_code(code).__name__: words for code, words in answer.creation_responses if code}:
        reasons = "; ".join(f"{name}: {words}" for name, words in refused.items())
        raise ClusterError(f"the cluster refuses to grant rights: {reasons}")
