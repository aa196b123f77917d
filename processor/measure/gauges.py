"""What is read beside outputs and meters: once a second how far the group is behind, and once what the cluster is."""

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import GroupCoordinatorNotAvailableError

from processor.kafka.group import offsets_of
from processor.kafka.protocol import ApiVersionsRequest, ExactRequest, finalized_features, offset_fetch
from processor.settings import Settings
from processor.topics import INPUTS, ClusterError, asking_brokers, names


class Sample(msgspec.Struct):
    """One second of a run."""

    at_s: float
    """Since the begin."""
    sent: int
    """Records acknowledged to the load until then."""
    received: int
    """The load's outputs that had come."""
    lag: int
    """Positions of the inputs that were not committed."""
    p50_ms: float | None
    """Of the outputs that came since the sample before; None where none did."""
    p99_ms: float | None
    cpu: list[float]
    """Of each worker, the share of a core since the sample before."""
    rss_mb: list[float]
    open_windows: int | None = None
    """Of all workers whose ops addresses are asked; None where none is, or none answers."""
    clock_lag_s: float | None = None
    """How far the clock is behind the wall clock, of the partition that is furthest."""


async def cluster_of(settings: Settings) -> str:
    """Give what the cluster goes by, such as ``metadata.version 29``: brokers don't tell of which release they are.

    Empty where they don't tell this either.
    """
    request = ExactRequest(ApiVersionsRequest, "janela", "1", {})
    try:
        async with asking_brokers(settings) as client:
            levels = finalized_features(await client.send(client.get_random_node(), request))
    except ClusterError:
        return ""
    return ", ".join(f"{name} {level}" for name, level in sorted(levels.items()))


class Lag:
    """Asks how far the group is behind its inputs."""

    def __init__(self, settings: Settings) -> None:
        """Take the group and its topics; needs a running loop."""
        ours, connection = names(settings), settings.connection
        self._group = settings.app_id
        self._tps = [TopicPartition(ours[name], n) for name in INPUTS for n in range(settings.partitions)]
        self._consumer = connection.consumer(client_id="janela-measure-lag")
        self._admin = connection.admin(client_id="janela-measure-lag")
        topics, partitions = [ours[name] for name in INPUTS], list(range(settings.partitions))
        self._question = offset_fetch(self._group, topics, partitions, stable=False)
        self._has_answered = False

    async def start(self) -> None:
        """Connect."""
        await self._consumer.start()
        await self._admin.start()

    async def stop(self) -> None:
        """Disconnect."""
        await self._consumer.stop()
        await self._admin.close()

    async def read(self) -> int:
        """Give how many positions are not committed.

        Raises:
            KafkaError: The brokers do not answer now, or the group can't say for the moment.
        """
        begins = await self._consumer.beginning_offsets(self._tps)
        ends = await self._consumer.end_offsets(self._tps)
        committed = await offsets_of(self._admin._client, self._group, self._question)
        if committed is None and self._has_answered:
            raise GroupCoordinatorNotAvailableError
        self._has_answered = committed is not None  # the group's first member makes the cluster choose a coordinator
        stands = {tp: offset for tp, (offset, _) in (committed or {}).items()}
        return sum(max(end - max(stands.get(tp, 0), begins[tp]), 0) for tp, end in ends.items())
