"""Guards taken out, one at a time: the simulation is worth what it says of these."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from typing import Any, Final
from unittest.mock import patch

from aiokafka import TopicPartition

from processor.kafka import protocol
from processor.kafka.log import LogEnds, LogReader
from processor.kafka.producer import TransactionalProducer, TransactionError
from processor.kafka.protocol import Membership
from processor.stream.owner import Owner
from processor.stream.restore import Restorer
from tests.sim.cluster import Cluster


class _EqualToAll:
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


class _StableReader:
    def __init__(self, reader: LogReader) -> None:
        self.starts, self.stable_ends = reader.starts, reader.stable_ends

    async def ends(self, tps: Iterable[TopicPartition]) -> LogEnds:
        return LogEnds(0, await self.stable_ends(tps))


_commit_offsets, _accept = Cluster.commit_offsets, Owner.accept
_restorer, _commit, _offset_fetch = Restorer.__init__, TransactionalProducer.commit, protocol.offset_fetch


def _take_from_anybody(cluster: Cluster, name: str, epoch: int, offsets: Any, _: Any, timeout_s: float) -> None:
    somebody = Membership(cluster.generation, next(iter(cluster.members), ""), None)
    _commit_offsets(cluster, name, epoch, offsets, somebody, timeout_s)


def _accept_anywhere(owner: Owner, carrier: Any) -> bool:
    owner.buffers[owner.inputs.index(carrier.tp)].taken = carrier.start
    return _accept(owner, carrier)


def _read_to_stable_end(restorer: Restorer, servers: str, names: Any, reader: LogReader, free: Any) -> None:
    _restorer(restorer, servers, names, _StableReader(reader), free)  # type: ignore[arg-type]


async def _go_on_after_failure(producer: TransactionalProducer, *arguments: Any) -> None:
    with suppress(TransactionError):
        await _commit(producer, *arguments)


def _fetch_unstable(group: str, topics: list[str], partitions: list[int], **_: bool) -> Any:
    return _offset_fetch(group, topics, partitions, stable=False)


MUTANTS: Final[dict[str, Callable[[], AbstractContextManager[Any]]]] = {
    "offsets are taken from anybody": lambda: patch.object(Cluster, "commit_offsets", _take_from_anybody),
    "state is kept whoever wrote last": lambda: patch.object(
        Owner, "token", property(lambda _: _EqualToAll(), lambda _, __: None), create=True
    ),
    "carriers are taken from anywhere": lambda: patch.object(Owner, "accept", _accept_anywhere),
    "a restore ends at the last stable offset": lambda: patch.object(Restorer, "__init__", _read_to_stable_end),
    "a failed round counts as committed": lambda: patch.object(TransactionalProducer, "commit", _go_on_after_failure),
    "offsets are fetched unstable": lambda: patch.object(protocol, "offset_fetch", _fetch_unstable),
}
