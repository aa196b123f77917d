"""A node's `server.properties`."""

from __future__ import annotations

from collections.abc import Mapping

from processor.embedded.folder import Cluster
from processor.embedded.ports import HOST

REPLICAS_MAX = 3
LOG = "log"
"""A node's log, below the folder that it runs in."""

ONE_MACHINE = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",  # a topic that nobody specified is a mistake, here as in production
    "group.initial.rebalance.delay.ms": 0,  # 3 s by default, for the other members of a fleet
    "offsets.topic.num.partitions": 4,  # 50 by default, each with its files
    "transaction.state.log.num.partitions": 4,
    "share.coordinator.state.topic.num.partitions": 1,
    # A broker that was killed is let in again when its old session has ended: in 2 s, not in 9.
    "broker.session.timeout.ms": 2000,
    "broker.heartbeat.interval.ms": 250,
    "log.cleaner.dedupe.buffer.size": 8 << 20,  # 128 MiB by default, out of a heap of 256
    "socket.listen.backlog.size": 128,
}


def server_properties(cluster: Cluster, node: int, extra: Mapping[str, object]) -> str:
    """Compose a node's properties.

    `extra` go last. {port}, {control} and {extra} in them become the node's ports.
    """
    ports = cluster.nodes[node]
    values: dict[str, object] = {
        **ONE_MACHINE,
        **_replication(len(cluster.nodes)),
        "node.id": kafka_id(node),
        "log.dirs": LOG,  # not its whole path: of that, Java may read other letters, or two folders
        # Static voters: the list may name new ports at each start, and a format needs no controller to be up.
        "controller.quorum.voters": ",".join(
            f"{kafka_id(voter)}@{HOST}:{its.control}" for voter, its in enumerate(cluster.nodes)
        ),
        "listeners": f"PLAINTEXT://{HOST}:{{port}},CONTROLLER://{HOST}:{{control}}",
        **extra,
    }
    text = "".join(f"{name}={value}\n" for name, value in values.items())
    for placeholder, port in ("{port}", ports.client), ("{control}", ports.control), ("{extra}", ports.extra):
        text = text.replace(placeholder, str(port))
    return text


def kafka_id(node: int) -> int:
    """Return Kafka's `node.id` of our node: it counts from 1."""
    return node + 1


def _replication(nodes: int) -> dict[str, object]:
    replicas = min(REPLICAS_MAX, nodes)
    in_sync_min = max(1, replicas - 1)
    return {
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync_min,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync_min,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync_min,
    }
