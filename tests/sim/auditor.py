"""What the workers wrote, held against the independent model by the audit that users have as `janela verify`."""

from typing import Any

from aiokafka import TopicPartition

from processor.audit.model import run
from processor.audit.policy import ModelPolicy
from processor.audit.records import Record, TopicKind
from processor.audit.verdict import DEAD_LETTERS, INPUTS, OUTPUTS, STATES, Found, Terms, Verdict, Written
from processor.settings import Settings
from tests.sim.cluster import Cluster

_SIDES: tuple[TopicKind, TopicKind] = ("inbound", "outbound")


def audit(cluster: Cluster, settings: Settings) -> list[str]:
    """Give what is wrong on the topics of workers of these settings, a line each; no more than a dozen of a kind."""
    terms = Terms(f"/janela/{settings.app_id}", settings.policy().version, settings.topic_prefix)
    verdict = Verdict(examples_max=12)
    for partition in range(cluster.partitions):

        def committed(name: str, partition: int = partition) -> list[Any]:
            return cluster.logs[TopicPartition(name, partition)].committed()

        inbound, outbound = (
            [
                Record(side, partition, each.offset, each.timestamp, each.key, each.value, tuple(each.headers))
                for each in committed(name)
            ]
            for side, name in zip(_SIDES, INPUTS, strict=True)
        )
        written = {
            name: [
                Written(each.offset, each.timestamp, each.key, each.value, tuple(each.headers))
                for each in committed(name)
            ]
            for name in (*OUTPUTS, *STATES, DEAD_LETTERS)
        }
        found = Found(partition, dict(zip(INPUTS, (inbound, outbound), strict=True)), written)
        verdict.add(found, run(inbound, outbound, ModelPolicy(), cluster.partitions), terms)
    return [str(fault) for fault in verdict.examples]
