"""What the workers wrote, held against the independent model by the audit that users have as `janela verify`."""

from contextlib import closing
from typing import Any

from aiokafka import TopicPartition

from processor.audit.findings import DEAD_LETTERS, INPUTS, OUTPUTS, STATES, Committed, Found, Terms, Written
from processor.audit.model import Fold
from processor.audit.reading import leave, model_policy
from processor.audit.records import Record, TopicKind
from processor.audit.verdict import Verdict
from processor.audit.witnesses import Witnesses
from processor.kafka.offsets import decode_progress
from processor.settings import Settings
from tests.sim.cluster import Cluster

_SIDES: tuple[TopicKind, TopicKind] = ("inbound", "outbound")


def audit(cluster: Cluster, settings: Settings, tolerance_ms: int) -> list[str]:
    """Give what is wrong on the topics of workers of these settings, a line each; no more than a dozen of a kind."""
    policy = settings.policy()
    terms = Terms(f"/janela/{settings.app_id}", policy.version, settings.topic_prefix)
    model = model_policy(policy, settings.record_bytes_max, settings.key_check == "on")
    verdict = Verdict(examples_max=12)
    for partition in range(cluster.partitions):

        def committed(name: str, partition: int = partition) -> list[Any]:
            return cluster.logs[TopicPartition(name, partition)].committed()

        inbound, outbound = (
            [
                Record(
                    side, partition, each.offset, each.timestamp, each.key, each.value, tuple(each.headers),
                    each.timestamp,
                )
                for each in committed(name)
            ]
            for side, name in zip(_SIDES, INPUTS, strict=True)
        )  # fmt: skip
        written = {
            name: [
                Written(each.offset, each.timestamp, each.key, each.value, tuple(each.headers))
                for each in committed(name)
            ]
            for name in (*OUTPUTS, *STATES, DEAD_LETTERS)
        }
        offset, metadata = cluster.offsets.get(TopicPartition(INPUTS[0], partition), (-1, ""))
        progress = decode_progress(metadata) if offset >= 0 else None
        clock_ms = progress.clock_ms if progress else None
        with closing(Witnesses()) as witnesses:
            for name in (*OUTPUTS, *STATES):
                for each in written[name]:
                    witnesses.note(name, each)
            schedule = witnesses.schedule(leave(settings, tolerance_ms), clock_ms=clock_ms, is_whole=True)
            if schedule is None:
                return [f"a record of partition {partition} does not tell of its round"]
            found = Found(partition, dict(zip(INPUTS, (inbound, outbound), strict=True)), written, None, schedule)
            if progress is not None:
                outbound_offset, _ = cluster.offsets.get(TopicPartition(INPUTS[1], partition), (0, ""))
                found = found._replace(committed=Committed(offset, outbound_offset, progress.sequence))
            verdict.add(found, Fold(inbound, outbound, model, cluster.partitions, schedule=schedule), terms)
    return [str(fault) for fault in verdict.examples]
