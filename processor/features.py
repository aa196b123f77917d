"""Whether the brokers can do what exactly-once rests on: asked before a worker joins; it needs no right.

That a transaction has an epoch of its own takes two things: brokers that know the requests of Kafka 4.0, and a cluster
that goes by `transaction.version` 2 (KIP-890). A new cluster does; one that was upgraded from 3.x does once somebody
has raised it. At 0 brokers announce EndTxn v5 all the same, and answer it with an error (seen with 4.2.1): the worker
would end at its first commit, and at the first one after each restart.
"""

from collections.abc import Mapping
from typing import Final

from aiokafka.protocol.admin import ApiVersionRequest
from aiokafka.protocol.api import RequestStruct

from processor.kafka import protocol
from processor.settings import Settings
from processor.topics import Problem, asking_brokers

REQUESTS: Final[tuple[type[RequestStruct], ...]] = (
    protocol.EndTxnRequest,
    protocol.TxnOffsetCommitRequest,
    protocol.OffsetFetchRequest,
    protocol.DescribeProducersRequest,
    protocol.ListTransactionsRequest,
    protocol.DescribeTransactionsRequest,
    protocol.MetadataRequest,
    protocol.DescribeGroupsRequest,
    protocol.ApiVersionsRequest,
)
"""What is asked in one version only, the newest first: one that a broker lacks is enough to tell."""
RELEASE_MIN: Final = "4.0"
"""Kafka's first that knows them all."""
FEATURE: Final = "transaction.version"
LEVEL_MIN: Final = 2
"""From it on Kafka's own clients, too, send EndTxn v5."""


async def problems(settings: Settings) -> list[Problem]:
    """Say what of it is missing, as one error; none where all is there.

    Any broker can tell: a level holds for the whole cluster, and can't be had while a broker is too old for it.

    Raises:
        BrokerAwayError: No broker answers.
        ClusterError: The cluster refuses us, or to answer.
    """
    async with asking_brokers(settings) as client:
        node = client.get_random_node()
        spoken = await client.send(node, ApiVersionRequest())
        newest = {key: version for key, _, version in spoken.api_versions}
        if found := too_old(newest, settings.bootstrap_servers):
            return found
        request = protocol.ExactRequest(protocol.ApiVersionsRequest, "janela", "1", {})
        levels = protocol.finalized_features(await client.send(node, request))
        return too_low(levels, settings.bootstrap_servers)


def too_old(newest: Mapping[int, int], bootstrap_servers: str) -> list[Problem]:
    """Judge the newest version of each request that a broker takes, by the request's number."""
    for request in REQUESTS:
        version = newest.get(request.API_KEY)
        if version is None or version < request.API_VERSION:
            what = f"{request.__name__.removesuffix('Request')} requests"
            found = "none" if version is None else f"none newer than v{version}"
            remedy = f"upgrade all of them to Kafka {RELEASE_MIN} or newer, then {_raising(bootstrap_servers)}"
            return [Problem("brokers", what, found, f"v{request.API_VERSION}", remedy, "error")]
    return []


def too_low(levels: Mapping[str, int], bootstrap_servers: str) -> list[Problem]:
    """Judge what the cluster goes by; a feature at level 0 is not in `levels`."""
    if (level := levels.get(FEATURE, 0)) >= LEVEL_MIN:
        return []
    return [Problem("brokers", FEATURE, str(level), f"at least {LEVEL_MIN}", _raising(bootstrap_servers), "error")]


def _raising(bootstrap_servers: str) -> str:
    return f"kafka-features.sh --bootstrap-server {bootstrap_servers} upgrade --feature {FEATURE}={LEVEL_MIN}"
