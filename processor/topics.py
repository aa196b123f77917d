"""The contract's topics on a cluster: create what is missing, say what is wrong.

`survey` asks the cluster, `problems` judges what was found and asks nobody; `check` is both. Nothing here
alters or deletes a topic: what a topic holds is worth more than its settings, and a wrong number of
partitions can't be mended in place at all.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAlreadyExistsError, for_code

from processor import contract
from processor.contract import TopicSpecification
from processor.settings import Settings, variable

ANSWER_SECONDS: Final = 8
"""How long a cluster may take to answer; a start that fails must say so within 10 s."""
CREATE_SECONDS: Final = 60
"""How long it may take to create ten topics and choose their leaders; a small machine needs about 2 s."""
REPLICATED_BROKERS_MIN: Final = 3
"""From this number of brokers on, too few copies are a warning; on fewer there is no room for more."""

INPUTS: Final = ("messages.inbound", "messages.outbound")
"""What the platform writes, in the contract's names."""

INTERNAL_TOPICS: Final = {
    "__consumer_offsets": ("offsets.topic.replication.factor", "min.insync.replicas"),
    "__transaction_state": ("transaction.state.log.replication.factor", "transaction.state.log.min.isr"),
}
"""Kafka's own topics that exactly-once rests on, each with the broker settings that it is created from."""

_DENIED: Final = (29, 31)  # TOPIC_AUTHORIZATION_FAILED, CLUSTER_AUTHORIZATION_FAILED


class ClusterError(Exception):
    """The cluster does not do what was asked; the message is one line."""


class BrokerAwayError(ClusterError):
    """No broker answers. It may come back: trying again is sensible."""


@dataclass(frozen=True)
class FoundTopic:
    """A topic as the cluster has it. What the cluster did not tell is None, or not in `configuration`."""

    name: str
    partitions: int
    replication_factor: int | None
    configuration: Mapping[str, str]


@dataclass(frozen=True)
class Cluster:
    """What `survey` found: the number of brokers, and the topics that exist, by name with the prefix."""

    brokers: int
    topics: Mapping[str, FoundTopic]


@dataclass(frozen=True)
class Problem:
    """Something about a topic, or about the brokers, that is not as we want it; as text, one line.

    An ``error`` stops a worker from starting, a ``warning`` does not.
    """

    topic: str
    what: str
    found: str
    expected: str
    remedy: str
    severity: Literal["error", "warning"]

    def __str__(self) -> str:
        found = f"found {self.found}, expected {self.expected}"
        return f"{self.severity}: {self.topic}: {self.what}: {found}; {self.remedy}"


@dataclass(frozen=True)
class Applied:
    """What `apply` did: names with the prefix, in the contract's order."""

    created: tuple[str, ...]
    kept: tuple[str, ...]


def names(settings: Settings) -> dict[str, str]:
    """Give each topic's name on the cluster by its name in the contract."""
    return {topic.name: settings.topic_prefix + topic.name for topic in contract.topics()}


async def apply(settings: Settings, *, replication_factor: int | None = None) -> Applied:
    """Create the topics that are missing, with as many copies as there are brokers, at most the contract's.

    When it returns, each new partition has a leader. Topics that exist are left as they are, right or wrong.

    Raises:
        BrokerAwayError: No broker answers, or none leads the new partitions in time.
        ClusterError: The cluster refuses to create a topic; the others may have been created.
    """
    async with asking(settings, CREATE_SECONDS) as admin:
        brokers = len((await admin.describe_cluster())["brokers"])
        existing = {topic["topic"] for topic in await admin.describe_topics()}
        missing = [topic for topic in contract.topics() if settings.topic_prefix + topic.name not in existing]
        created = await _create(admin, settings, missing, brokers, replication_factor) if missing else set()
        await _wait_for_leaders(admin, created)
    ours = names(settings).values()
    return Applied(tuple(name for name in ours if name in created), tuple(name for name in ours if name not in created))


async def survey(settings: Settings) -> Cluster:
    """Ask the cluster for its brokers, for the contract's topics and for Kafka's own.

    Raises:
        BrokerAwayError: No broker answers.
        ClusterError: The cluster refuses to answer.
    """
    async with asking(settings) as admin:
        brokers = [broker["node_id"] for broker in (await admin.describe_cluster())["brokers"]]
        wanted = {*names(settings).values(), *INTERNAL_TOPICS}
        # all topics of the cluster: to ask for one by name would create it, where brokers do so by themselves
        partitions = {
            topic["topic"]: topic["partitions"] for topic in await admin.describe_topics() if topic["topic"] in wanted
        }
        configurations = await _configurations(admin, ConfigResourceType.TOPIC, partitions)
        found = {name: _found(name, partitions[name], configurations[name]) for name in partitions}
        to_come = INTERNAL_TOPICS.keys() - found.keys()
        if to_come and len(brokers) >= REPLICATED_BROKERS_MIN:
            broker = str(brokers[0])
            defaults = (await _configurations(admin, ConfigResourceType.BROKER, [broker]))[broker]
            found |= {name: _to_come(name, defaults) for name in to_come}
        return Cluster(len(brokers), found)


async def input_topics(settings: Settings) -> list[FoundTopic]:
    """Ask for the two input topics, inbound first.

    Raises:
        BrokerAwayError: No broker answers.
        ClusterError: A topic is missing, or the two have not the same number of partitions.
    """
    found, ours = (await survey(settings)).topics, names(settings)
    wanted = [ours[name] for name in INPUTS]
    if missing := [name for name in wanted if name not in found]:
        raise ClusterError(
            f"topics: found none named {', '.join(missing)} at {settings.bootstrap_servers}; create them with"
            f" `{variable('topic_prefix')}={settings.topic_prefix} janela topics apply`"
        )
    topics = [found[name] for name in wanted]
    if len({topic.partitions for topic in topics}) > 1:
        counts = " and ".join(str(topic.partitions) for topic in topics)
        raise ClusterError(f"{', '.join(wanted)}: found {counts} partitions, expected one number for both")
    return topics


async def check(settings: Settings) -> list[Problem]:
    """Say what on the cluster is not as the contract wants it, errors first; see `problems`.

    Raises:
        BrokerAwayError: No broker answers.
        ClusterError: The cluster refuses to answer.
    """
    return problems(await survey(settings), settings)


async def compacted(settings: Settings, names: Iterable[str]) -> list[str]:
    """Say which of these topics are compacted, a line each; names are with the prefix.

    A later record of a key may have taken an earlier one away, such as a message the consent before it, and the log
    begins where it did: so nothing can be told from what is not there. A topic whose configuration we may not see is
    named as well, one that does not exist is not.

    Raises:
        BrokerAwayError: No broker answers.
        ClusterError: The cluster refuses to answer.
    """
    return errors(compactions(await survey(settings), names))


def compactions(cluster: Cluster, names: Iterable[str]) -> Iterator[Problem]:
    """Judge what was found, for `compacted`."""
    for topic in filter(None, map(cluster.topics.get, names)):
        found = topic.configuration.get("cleanup.policy", _UNKNOWN)
        if found is _UNKNOWN:
            remedy = f"grant DescribeConfigs on topic {topic.name} (`janela topics acls`)"
        elif "compact" in found.split(","):
            remedy = "records that have a later one of their key may be gone; docs/operations.md has the way on"
        else:
            continue
        yield Problem(topic.name, "cleanup.policy", found, "delete", remedy, "error")


def errors(problems: Iterable[Problem]) -> list[str]:
    """Give those that stop a worker from starting, one line each."""
    return [str(problem) for problem in problems if problem.severity == "error"]


def problems(cluster: Cluster, settings: Settings) -> list[Problem]:
    """Judge what was found: errors first, each group in the contract's order.

    Errors: a topic that is missing, a wrong number of partitions, topics that are not co-partitioned, state
    that is not compacted. Warnings: what makes records go too early, lets a producer's clock set the time, or
    may lose what was acknowledged.
    """
    found = [*_missing_problems(cluster, settings), *_partition_problems(cluster, settings)]
    for specification in contract.topics():
        if topic := cluster.topics.get(settings.topic_prefix + specification.name):
            found += _configuration_problems(topic, specification, settings, cluster.brokers)
            found += _replication_problems(topic, specification.replication.factor, cluster.brokers)
    found += _internal_problems(cluster)
    return sorted(found, key=lambda problem: problem.severity)  # "error" stands before "warning"


# -------------------------------------------------------------------------------------------------- judging


def _missing_problems(cluster: Cluster, settings: Settings) -> Iterator[Problem]:
    ours = names(settings).values()
    missing = [name for name in ours if name not in cluster.topics]
    if len(missing) == len(ours):  # one omission, one line
        remedy = "create them with `janela topics apply`"
        yield Problem(_all(settings), "topics", "none", str(len(ours)), remedy, "error")
        return
    for name in missing:
        yield Problem(name, "topic", "none", "one", "create it with `janela topics apply`", "error")


def _partition_problems(cluster: Cluster, settings: Settings) -> Iterator[Problem]:
    """Hold the numbers of partitions to each other, and to the settings."""
    ours = [cluster.topics[name] for name in names(settings).values() if name in cluster.topics]
    by_partitions: dict[int, list[str]] = {}
    for topic in ours:
        by_partitions.setdefault(topic.partitions, []).append(topic.name)
    expected = f"{settings.partitions}, as the settings say"
    anew = f"take a new {variable('topic_prefix')} and replay the inputs into it"
    if len(by_partitions) == 1 and settings.partitions not in by_partitions:  # one mistake, one line
        found = str(ours[0].partitions)
        remedy = f"set {variable('partitions')}={found}; or, since the number is fixed for a prefix, {anew}"
        yield Problem(_all(settings), "partitions", found, expected, remedy, "error")
    if len(by_partitions) > 1:
        remedy = f"delete the odd ones if they are empty and run `janela topics apply`; else {anew}"
        for topic in ours:
            if topic.partitions != settings.partitions:
                yield Problem(topic.name, "partitions", str(topic.partitions), expected, remedy, "error")
        found = " and ".join(f"{count} ({', '.join(group)})" for count, group in by_partitions.items())
        one = "one number for all topics"
        yield Problem(_all(settings), "co-partitioning", found, one, remedy, "error")


def _all(settings: Settings) -> str:
    return f"{settings.topic_prefix}*"


def _at_least(found: str, expected: str) -> bool:
    return found == "-1" or int(found) >= int(expected)  # -1: without a limit


def _at_most(found: str, expected: str) -> bool:
    return int(found) <= int(expected)


def _the_same(found: str, expected: str) -> bool:
    return sorted(found.split(",")) == sorted(expected.split(","))


_LEAST = ("at least ", _at_least)
_MOST = ("at most ", _at_most)
_SAME = ("", _the_same)
_JUDGES: Final[Mapping[str, tuple[str, Callable[[str, str], bool]]]] = {
    "cleanup.policy": _SAME,
    "retention.ms": _LEAST,
    "retention.bytes": _SAME,
    "message.timestamp.type": _SAME,
    "max.compaction.lag.ms": _MOST,
    "delete.retention.ms": _LEAST,
    "unclean.leader.election.enable": _SAME,
}
"""What of a configuration is judged, and when what was found will do; the rest is a matter of speed."""

_UNKNOWN: Final = "unknown, for want of the right to describe it"


def _configuration_problems(
    topic: FoundTopic, specification: TopicSpecification, settings: Settings, brokers: int
) -> Iterator[Problem]:
    judges = dict(_JUDGES)
    copies = topic.replication_factor
    if brokers >= REPLICATED_BROKERS_MIN and (copies is None or copies >= specification.replication.factor):
        judges["min.insync.replicas"] = _LEAST  # with fewer copies, those are the mistake
    wanted = dict(specification.configuration)
    if wanted.get("cleanup.policy") == "delete" and "retention.bytes" in topic.configuration:
        wanted["retention.bytes"] = "-1"  # brokers may set one for all topics, and records go before their time
    for key in filter(judges.get, wanted):
        (words, will_do), expected = judges[key], wanted[key]
        found = topic.configuration.get(key)
        if found is not None and will_do(found, expected):
            continue
        remedy = (
            f"kafka-configs.sh --bootstrap-server {settings.bootstrap_servers} --alter --entity-type topics"
            f" --entity-name {topic.name} --add-config {key}={expected}"
        )
        if key == "message.timestamp.type":
            remedy += " (or leave it, for a replay that keeps record times)"
        is_fatal = found is not None and key == "cleanup.policy" and specification.role == "state"
        severity: Literal["error", "warning"] = "error" if is_fatal else "warning"
        yield Problem(topic.name, key, found or _UNKNOWN, words + expected, remedy, severity)


def _replication_problems(topic: FoundTopic, factor: int, brokers: int) -> Iterator[Problem]:
    found = topic.replication_factor
    if brokers >= REPLICATED_BROKERS_MIN and (found is None or found < factor):
        remedy = "give it more with kafka-reassign-partitions.sh, then min.insync.replicas=2"
        copies = _UNKNOWN if found is None else str(found)
        yield Problem(topic.name, "replication factor", copies, f"at least {factor}", remedy, "warning")


def _internal_problems(cluster: Cluster) -> Iterator[Problem]:
    """Judge Kafka's own topics: a commit is as safe as they are."""
    if cluster.brokers < REPLICATED_BROKERS_MIN:
        return
    for name, (factor_setting, in_sync_setting) in INTERNAL_TOPICS.items():
        topic = cluster.topics.get(name, FoundTopic(name, 0, None, {}))
        for problem in _replication_problems(topic, REPLICATED_BROKERS_MIN, cluster.brokers):
            on_brokers = f"set {factor_setting}={REPLICATED_BROKERS_MIN} on the brokers"
            yield replace(problem, remedy=f"{on_brokers}; where the topic exists, {problem.remedy}")
        in_sync = topic.configuration.get("min.insync.replicas")
        if in_sync is None or not _at_least(in_sync, "2"):
            remedy = f"set {in_sync_setting}=2 on the brokers; where the topic exists, min.insync.replicas on it"
            yield Problem(name, "min.insync.replicas", in_sync or _UNKNOWN, "at least 2", remedy, "warning")


# --------------------------------------------------------------------------------------------------- asking


@contextmanager
def refusals_told(settings: Settings) -> Iterator[None]:
    """Turn what Kafka's client raises inside into a `ClusterError`: one line that names the brokers."""
    try:
        yield
    except KafkaError as error:
        raise ClusterError(f"the cluster at {settings.bootstrap_servers} refuses: {_words(error)}") from error


@asynccontextmanager
async def asking(settings: Settings, seconds: int = ANSWER_SECONDS) -> AsyncIterator[AIOKafkaAdminClient]:
    """Connect, and turn whatever the client raises inside into a `ClusterError`."""
    admin = settings.connection.admin(request_timeout_ms=seconds * 1000)
    try:
        async with _told(settings, admin._client, admin.start(), seconds):
            yield admin
    finally:
        await admin.close()


@asynccontextmanager
async def asking_brokers(settings: Settings) -> AsyncIterator[AIOKafkaClient]:
    """Connect as `asking` does, for requests of one's own."""
    client = settings.connection.client(request_timeout_ms=ANSWER_SECONDS * 1000)
    try:
        async with _told(settings, client, client.bootstrap(), ANSWER_SECONDS):
            yield client
    finally:
        await client.close()


@asynccontextmanager
async def _told(
    settings: Settings, client: AIOKafkaClient, connecting: Awaitable[None], seconds: int
) -> AsyncIterator[None]:
    """Wait for the connection, and bound what is done with it; where brokers let us not in, say why."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await connecting
        if not client.cluster.brokers():
            raise KafkaConnectionError("the cluster names no broker")
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise await _refused_or_away(settings, "no answer in time") from None
    except KafkaError as error:
        if error.retriable:
            raise await _refused_or_away(settings, type(error).__name__) from error
        raise ClusterError(f"the cluster refuses: {_words(error)}") from error


async def _refused_or_away(settings: Settings, reason: str) -> ClusterError:
    if refusal := await settings.connection.refusal():
        return ClusterError(f"no way into the cluster: {refusal}")
    return BrokerAwayError(_away(settings, reason))


def _away(settings: Settings, reason: str) -> str:
    return (
        f"no Kafka broker: found none at {settings.bootstrap_servers} ({reason}, by {settings.security_protocol}),"
        " expected one; start it"
        f" (`janela kafka` has one) or set {variable('bootstrap_servers')}"
    )


def _words(error: KafkaError) -> str:
    return " ".join(str(error).split())


async def _create(
    admin: AIOKafkaAdminClient,
    settings: Settings,
    missing: Iterable[TopicSpecification],
    brokers: int,
    replication_factor: int | None,
) -> set[str]:
    """Create the topics and give the names of those that are ours; another's `apply` may have been faster."""
    wanted = [_new_topic(topic, settings, brokers, replication_factor) for topic in missing]
    response = await admin.create_topics(wanted)
    errors = {name: (for_code(code), words) for name, code, words in response.topic_errors if code}
    refused: dict[str, list[str]] = {}
    for name, (error, words) in errors.items():
        if error is not TopicAlreadyExistsError:
            refused.setdefault(f"{error.__name__}: {words}", []).append(name)
    if refused:
        reasons = "; ".join(f"{', '.join(group)}: {reason}" for reason, group in refused.items())
        raise ClusterError(f"the cluster refuses to create {reasons}")
    return {topic.name for topic in wanted if topic.name not in errors}


def _new_topic(topic: TopicSpecification, settings: Settings, brokers: int, replication_factor: int | None) -> NewTopic:
    factor = replication_factor or min(topic.replication.factor, brokers)
    configuration = dict(topic.configuration)
    # one copy may be away without a halt; a lone copy must be allowed to be alone
    in_sync = min(int(configuration["min.insync.replicas"]), max(1, factor - 1))
    configuration["min.insync.replicas"] = str(in_sync)
    return NewTopic(settings.topic_prefix + topic.name, settings.partitions, factor, topic_configs=configuration)


async def _wait_for_leaders(admin: AIOKafkaAdminClient, created: set[str]) -> None:
    """Wait until the brokers' metadata has each new partition with a leader; `asking` bounds the wait."""
    while created:
        topics = {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics()}
        if all(topics.get(name) and all(partition["leader"] >= 0 for partition in topics[name]) for name in created):
            return
        await asyncio.sleep(0.05)


async def _configurations(
    admin: AIOKafkaAdminClient, kind: ConfigResourceType, resources: Iterable[str]
) -> dict[str, dict[str, str]]:
    """Give the configuration in force of each resource, empty where we have no right to it."""
    asked = [ConfigResource(kind, name) for name in resources]
    configurations: dict[str, dict[str, str]] = {}
    for response in await admin.describe_configs(asked) if asked else []:
        for code, words, _, name, entries in response.resources:
            if code and code not in _DENIED:
                raise ClusterError(f"the cluster refuses to describe {name}: {for_code(code).__name__}: {words}")
            configurations[name] = {key: value for key, value, *_ in entries if value is not None}
    return configurations


def _found(name: str, partitions: list[dict[str, Any]], configuration: Mapping[str, str]) -> FoundTopic:
    copies = min((len(partition["replicas"]) for partition in partitions), default=None)
    return FoundTopic(name, len(partitions), copies, configuration)


def _to_come(name: str, defaults: Mapping[str, str]) -> FoundTopic:
    """Tell how one of Kafka's own topics will be created on its first use, by the brokers' settings."""
    factor_setting, in_sync_setting = INTERNAL_TOPICS[name]
    factor, in_sync = defaults.get(factor_setting), defaults.get(in_sync_setting)
    configuration = {} if in_sync is None else {"min.insync.replicas": in_sync}
    return FoundTopic(name, 0, None if factor is None else int(factor), configuration)
