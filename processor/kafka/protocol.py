"""Nine requests of Kafka's protocol that aiokafka 0.14 does not speak, and a sender that uses the first two.

* TxnOffsetCommit v3 (KIP-447) bears generation and member: the broker refuses the offsets of a worker that has lost
  its partitions.
* EndTxn v5 (KIP-890) answers with a new producer epoch for the next transaction: a copy of a request of this
  transaction that arrives late is refused then, where it would have ended or rewound the next one.
* OffsetFetch v7 can ask for stable offsets: none that a transaction still under way may move.
* DescribeProducers and ListTransactions (KIP-664) tell whose transaction is open on a partition.
* DescribeTransactions (KIP-664) tells when a transaction began, by its coordinator's clock.
* Metadata v8 and DescribeGroups v3 (KIP-430) tell what we are allowed to do.
* ApiVersions v3 (KIP-584) tells what the cluster is able to.
"""

# mypy: disable-error-code="misc"
# aiokafka carries no types, and a class of unknown type is a base that mypy's strict mode refuses.

from collections import defaultdict
from io import BytesIO
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import CoordinationType
from aiokafka.errors import IncompatibleBrokerVersion, UnknownTopicOrPartitionError
from aiokafka.producer import sender as aiokafka_sender
from aiokafka.producer.transaction_manager import PidAndEpoch
from aiokafka.protocol.api import RequestStruct, Response, ResponseHeader_v0
from aiokafka.protocol.types import (
    Array,
    Boolean,
    Bytes,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
    TaggedFields,
)
from msgspec import Struct

from processor.failpoints import failpoint


class Membership(Struct, frozen=True):
    """A worker's place in the consumer group, as the broker knows it in one generation."""

    generation: int
    member_id: str
    group_instance_id: str | None


OUTSIDER = Membership(-1, "outsider", None)
"""Whoever is no member. Brokers take offsets under it while a group has no member, and refuse them once it has one."""


_text = CompactString("utf-8")
_plain = String("utf-8")
_TAGS = ("tags", TaggedFields)


class _TxnOffsetCommitResponse(Response):
    API_KEY, API_VERSION = 28, 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("errors", CompactArray(
            ("topic", _text),
            ("partitions", CompactArray(("partition", Int32), ("error_code", Int16), _TAGS)),
            _TAGS,
        )),
        _TAGS,
    )  # fmt: skip


class TxnOffsetCommitRequest(RequestStruct):
    """Offsets for a transaction, with the fence of the group."""

    API_KEY, API_VERSION, FLEXIBLE_VERSION = 28, 3, True
    RESPONSE_TYPE = _TxnOffsetCommitResponse
    SCHEMA = Schema(
        ("transactional_id", _text), ("group_id", _text), ("producer_id", Int64), ("producer_epoch", Int16),
        ("generation_id", Int32), ("member_id", _text), ("group_instance_id", _text),
        ("topics", CompactArray(
            ("topic", _text),
            ("partitions", CompactArray(
                ("partition", Int32), ("offset", Int64), ("leader_epoch", Int32), ("metadata", _text), _TAGS
            )),
            _TAGS,
        )),
        _TAGS,
    )  # fmt: skip


class _EndTxnResponse(Response):
    API_KEY, API_VERSION = 26, 5
    SCHEMA = Schema(
        ("throttle_time_ms", Int32), ("error_code", Int16), ("producer_id", Int64), ("producer_epoch", Int16), _TAGS
    )  # fmt: skip


class EndTxnRequest(RequestStruct):
    """The end of a transaction; the answer bears the epoch of the next one."""

    API_KEY, API_VERSION, FLEXIBLE_VERSION = 26, 5, True
    RESPONSE_TYPE = _EndTxnResponse
    SCHEMA = Schema(
        ("transactional_id", _text), ("producer_id", Int64), ("producer_epoch", Int16), ("committed", Boolean), _TAGS
    )  # fmt: skip


class _OffsetFetchResponse(Response):
    API_KEY, API_VERSION = 9, 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("topics", CompactArray(
            ("topic", _text),
            ("partitions", CompactArray(
                ("partition", Int32), ("offset", Int64), ("leader_epoch", Int32), ("metadata", _text),
                ("error_code", Int16), _TAGS,
            )),
            _TAGS,
        )),
        ("error_code", Int16),
        _TAGS,
    )  # fmt: skip


class OffsetFetchRequest(RequestStruct):
    """A question for committed offsets, stable ones if so asked."""

    API_KEY, API_VERSION, FLEXIBLE_VERSION = 9, 7, True
    RESPONSE_TYPE = _OffsetFetchResponse
    SCHEMA = Schema(
        ("group", _text),
        ("topics", CompactArray(("topic", _text), ("partitions", CompactArray(Int32)), _TAGS)),
        ("require_stable", Boolean),
        _TAGS,
    )  # fmt: skip


class _DescribeProducersResponse(Response):
    API_KEY, API_VERSION = 61, 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("topics", CompactArray(
            ("topic", _text),
            ("partitions", CompactArray(
                ("partition", Int32), ("error_code", Int16), ("error_message", _text),
                ("producers", CompactArray(
                    ("producer_id", Int64), ("producer_epoch", Int32), ("last_sequence", Int32),
                    ("last_timestamp", Int64), ("coordinator_epoch", Int32), ("transaction_start", Int64), _TAGS
                )),
                _TAGS,
            )),
            _TAGS,
        )),
        _TAGS,
    )  # fmt: skip


class DescribeProducersRequest(RequestStruct):
    """A question to a partition's leader: who has written there, and who has a transaction open."""

    API_KEY, API_VERSION, FLEXIBLE_VERSION = 61, 0, True
    RESPONSE_TYPE = _DescribeProducersResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic", _text), ("partitions", CompactArray(Int32)), _TAGS)), _TAGS
    )  # fmt: skip


class _ListTransactionsResponse(Response):
    API_KEY, API_VERSION = 66, 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32), ("error_code", Int16), ("unknown_states", CompactArray(_text)),
        ("transactions", CompactArray(("transactional_id", _text), ("producer_id", Int64), ("state", _text), _TAGS)),
        _TAGS,
    )  # fmt: skip


class ListTransactionsRequest(RequestStruct):
    """A question to a broker: the transactional ids of these producers, as far as it coordinates them."""

    API_KEY, API_VERSION, FLEXIBLE_VERSION = 66, 0, True
    RESPONSE_TYPE = _ListTransactionsResponse
    SCHEMA = Schema(("states", CompactArray(_text)), ("producer_ids", CompactArray(Int64)), _TAGS)


class _DescribeTransactionsResponse(Response):
    API_KEY, API_VERSION = 65, 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("transactions", CompactArray(
            ("error_code", Int16), ("transactional_id", _text), ("state", _text), ("timeout_ms", Int32),
            ("began_ms", Int64), ("producer_id", Int64), ("producer_epoch", Int16),
            ("topics", CompactArray(("topic", _text), ("partitions", CompactArray(Int32)), _TAGS)),
            _TAGS,
        )),
        _TAGS,
    )  # fmt: skip


class DescribeTransactionsRequest(RequestStruct):
    """A question to the coordinator of these transactional ids: what it knows of their newest transactions."""

    API_KEY, API_VERSION, FLEXIBLE_VERSION = 65, 0, True
    RESPONSE_TYPE = _DescribeTransactionsResponse
    SCHEMA = Schema(("transactional_ids", CompactArray(_text)), _TAGS)


class _MetadataResponse(Response):
    API_KEY, API_VERSION = 3, 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", Array(("node_id", Int32), ("host", _plain), ("port", Int32), ("rack", _plain))),
        ("cluster_id", _plain), ("controller_id", Int32),
        ("topics", Array(
            ("error_code", Int16), ("topic", _plain), ("is_internal", Boolean),
            ("partitions", Array(
                ("error_code", Int16), ("partition", Int32), ("leader", Int32), ("leader_epoch", Int32),
                ("replicas", Array(Int32)), ("in_sync", Array(Int32)), ("offline", Array(Int32)),
            )),
            ("authorized_operations", Int32),
        )),
        ("authorized_operations", Int32),
    )  # fmt: skip


class MetadataRequest(RequestStruct):
    """A question about topics, and what we may do with each; does not create what is not there."""

    API_KEY, API_VERSION = 3, 8
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", Array(_plain)), ("allow_creation", Boolean),
        ("with_rights_on_cluster", Boolean), ("with_rights_on_topics", Boolean),
    )  # fmt: skip


class _DescribeGroupsResponse(Response):
    API_KEY, API_VERSION = 15, 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("groups", Array(
            ("error_code", Int16), ("group", _plain), ("state", _plain), ("type", _plain), ("protocol", _plain),
            ("members", Array(
                ("member_id", _plain), ("client_id", _plain), ("host", _plain), ("metadata", Bytes),
                ("assignment", Bytes),
            )),
            ("authorized_operations", Int32),
        )),
    )  # fmt: skip


class DescribeGroupsRequest(RequestStruct):
    """A question about groups, and what we may do with each."""

    API_KEY, API_VERSION = 15, 3
    RESPONSE_TYPE = _DescribeGroupsResponse
    SCHEMA = Schema(("groups", Array(_plain)), ("with_rights", Boolean))


class _ApiVersionsResponse(Response):
    API_KEY, API_VERSION = 18, 3
    SCHEMA = Schema(
        ("error_code", Int16),
        ("requests", CompactArray(("api_key", Int16), ("oldest", Int16), ("newest", Int16), _TAGS)),
        ("throttle_time_ms", Int32),
        _TAGS,
    )  # fmt: skip


class ApiVersionsRequest(RequestStruct):
    """A question to a broker: the requests that it takes, and the cluster's features. Needs no right at all."""

    API_KEY, API_VERSION, FLEXIBLE_VERSION = 18, 3, True
    RESPONSE_TYPE = _ApiVersionsResponse
    SCHEMA = Schema(("client", _text), ("client_version", _text), _TAGS)

    def parse_response_header(self, read_buffer: Any) -> Any:
        """Read the header; of this one answer it never has tags, for brokers that do not know the version (KIP-511)."""
        return ResponseHeader_v0.decode(read_buffer)


_FINALIZED_FEATURES = 2
_FEATURES = CompactArray(("feature", _text), ("newest", Int16), ("oldest", Int16), _TAGS)


def finalized_features(answer: Any) -> dict[str, int]:
    """Take from an answer of ApiVersions what the whole cluster goes by (KIP-584); a feature at level 0 is left out."""
    content = answer.tags.get(_FINALIZED_FEATURES)
    found = _FEATURES.decode(BytesIO(content)) if content else []
    return {feature: newest for feature, newest, *_ in found or []}


class ExactRequest:
    """A request of one version only; what aiokafka's connections ask of a request is `prepare`."""

    def __init__(self, form: type[RequestStruct], *fields: Any) -> None:
        self._form, self._fields = form, fields

    def prepare(self, versions: dict[int, tuple[int, int]]) -> RequestStruct:
        """Build the request.

        Raises:
            IncompatibleBrokerVersion: The broker does not speak this version.
        """
        _, newest = versions.get(self._form.API_KEY, (0, -1))
        if newest < self._form.API_VERSION:
            name = self._form.__name__.strip("_").removesuffix("Request")
            raise IncompatibleBrokerVersion(f"{name} v{self._form.API_VERSION} needed, the broker speaks v{newest}")
        return self._form(*self._fields)


def offset_fetch(group: str, topics: list[str], partitions: list[int], stable: bool = True) -> ExactRequest:
    """Ask for the offsets of a group on these partitions of each topic; `stable`: none that may still be moved."""
    return ExactRequest(OffsetFetchRequest, group, [(topic, partitions, {}) for topic in topics], stable, {})


_AS_KNOWN = {82: 47, 90: 47}
"""FENCED_INSTANCE_ID and PRODUCER_FENCED are to aiokafka what it knows: a producer whose epoch is over."""


class _AddPartitionsHandler(aiokafka_sender.AddPartitionsToTxnHandler):
    def handle_response(self, response: Any) -> float | None:
        self._sender.unknown[:] = [
            TopicPartition(topic, partition)
            for topic, partitions in response.errors
            for partition, code in partitions
            if code == UnknownTopicOrPartitionError.errno
        ]
        backoff: float | None = super().handle_response(response)
        return backoff


class _TxnOffsetCommitHandler(aiokafka_sender.TxnOffsetCommitHandler):
    def __init__(self, sender: "FencedSender", offsets: Any, group_id: str, membership: Membership) -> None:
        super().__init__(sender, offsets, group_id)
        self._membership = membership

    def create_request(self) -> ExactRequest:
        transaction, member = self._sender._txn_manager, self._membership
        topics: dict[str, list[Any]] = defaultdict(list)
        for tp, offset in sorted(self._offsets.items()):
            topics[tp.topic].append((tp.partition, offset.offset, -1, offset.metadata, {}))
        return ExactRequest(
            TxnOffsetCommitRequest, transaction.transactional_id, self._group_id, transaction.producer_id,
            transaction.producer_epoch, member.generation, member.member_id, member.group_instance_id,
            [(topic, partitions, {}) for topic, partitions in topics.items()], {},
        )  # fmt: skip

    def handle_response(self, response: Any) -> float | None:
        # aiokafka reads the errors of version 0: the same without the tags, and without these two fences
        response.errors = [
            (topic, [(partition, _AS_KNOWN.get(code, code)) for partition, code, _ in partitions])
            for topic, partitions, _ in response.errors
        ]
        backoff: float | None = super().handle_response(response)
        return backoff


class _EndTxnHandler(aiokafka_sender.EndTxnHandler):
    def create_request(self) -> ExactRequest:
        transaction = self._sender._txn_manager
        return ExactRequest(
            EndTxnRequest, transaction.transactional_id, transaction.producer_id, transaction.producer_epoch,
            bool(self._commit_result), {},
        )  # fmt: skip

    def handle_response(self, response: Any) -> float | None:
        response.error_code = _AS_KNOWN.get(response.error_code, response.error_code)
        backoff: float | None = super().handle_response(response)
        if response.error_code == 0:
            transaction = self._sender._txn_manager
            transaction._pid_and_epoch = PidAndEpoch(response.producer_id, response.producer_epoch)
            transaction._sequence_numbers.clear()
        return backoff


class FencedSender(aiokafka_sender.Sender):
    """aiokafka's sender, with the offsets fenced by `membership` and a new epoch after each transaction."""

    membership: Membership

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.unknown: list[TopicPartition] = []
        """Of the partitions that the transaction is to write to, those that its coordinator did not know of lately."""

    async def _do_add_partitions_to_txn(self, tps: Any) -> None:
        node_id = await self._find_coordinator(CoordinationType.TRANSACTION, self._txn_manager.transactional_id)
        await _AddPartitionsHandler(self, tps).do(node_id)

    async def _do_txn_offset_commit(self, offsets: Any, group_id: str) -> None:
        node_id = await self._find_coordinator(CoordinationType.GROUP, group_id)
        failpoint("group-added")
        await _TxnOffsetCommitHandler(self, offsets, group_id, self.membership).do(node_id)

    async def _do_txn_commit(self, commit_result: Any) -> None:
        await self._message_accumulator.flush_for_commit()
        if self._txn_manager.is_empty_transaction():
            self._txn_manager.complete_transaction()
            return
        node_id = await self._find_coordinator(CoordinationType.TRANSACTION, self._txn_manager.transactional_id)
        await _EndTxnHandler(self, commit_result).do(node_id)
