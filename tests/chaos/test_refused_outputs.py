"""An output topic that refuses: inputs are not committed past it, and once it is mended everything is there, once.

The verdict is asked for twice: where workers have ended, on what is consumed up to there, and at the end.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import UnknownTopicOrPartitionError
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest
from aiokafka.protocol.metadata import MetadataRequest

from processor import contract, topics
from processor.access import Access
from processor.audit.reading import verify
from processor.embedded import EmbeddedKafka
from processor.settings import Settings
from processor.stream.engine import EXIT_FAILED, EXIT_REFUSED
from tests.chaos.harness import Stage, Worker
from tests.chaos.test_exactly_once import QUICK, START_S, drained, filled
from tests.chaos.trial import Trial, asked

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(0)]

OUTPUT: Final = "window-opened"
EVENTS: Final = 1_000
TRIES: Final[dict[str, Any]] = QUICK | {"transaction_timeout_ms": 6_000}
"""A worker tries for four fifths of its transaction's time before it says that it can't."""

Act = Callable[[AIOKafkaAdminClient, str], Awaitable[None]]
"""What an operator does to a topic, by its name on the cluster."""


async def test_an_output_that_is_too_large_for_its_topic_is_not_committed_past(
    settings: Settings, tmp_path: Path, trial: Trial
) -> None:
    async def lower(admin: AIOKafkaAdminClient, topic: str) -> None:
        await configure(admin, topic, {"max.message.bytes": "300"})

    async def raise_(admin: AIOKafkaAdminClient, topic: str) -> None:
        await configure(admin, topic, {})

    async with Stage.open(settings, tmp_path) as stage:
        await refused_and_mended(stage, trial, "output too large", "MessageSizeTooLarge", lower, raise_)


async def test_an_output_that_a_worker_has_no_right_to_write_is_not_committed_past(
    settings: Settings, tmp_path: Path, trial: Trial
) -> None:
    """A broker with an authorizer, where anyone may do anything but write to this one topic."""
    topic, literal, anyone = 2, 3, "User:ANONYMOUS"
    any_, all_, write, deny, allow = 1, 2, 4, 2, 3

    async def forbid(admin: AIOKafkaAdminClient, name: str) -> None:
        for operation, permission in ((all_, allow), (write, deny)):
            made = CreateAclsRequest(topic, name, literal, anyone, "*", operation, permission)
            await ruled(admin, made)

    async def permit(admin: AIOKafkaAdminClient, name: str) -> None:
        await ruled(admin, DeleteAclsRequest(topic, name, literal, anyone, "*", any_, any_))

    props = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
    }
    with EmbeddedKafka(props=props) as guarded:
        trials = settings.model_dump(exclude=set(Access.model_fields), exclude_unset=True)
        there = Settings(bootstrap_servers=guarded.bootstrap_servers, **trials)
        async with Stage.open(there, tmp_path) as stage:
            reason = "TopicAuthorizationFailed"
            await refused_and_mended(stage, trial, "output not allowed", reason, forbid, permit, is_seen_at_start=True)


async def test_an_output_whose_topic_is_deleted_is_not_committed_past(
    settings: Settings, tmp_path: Path, trial: Trial
) -> None:
    """It is deleted under a worker that is at work but has written nothing yet: what was in it would be lost."""
    async with Stage.open(settings, tmp_path) as stage, operator(stage.settings) as admin:
        worker = stage.worker("w", **TRIES)
        await stage.until("it is at work", lambda: worker.says("stream.restored"), START_S)
        await admin.delete_topics([stage.names[OUTPUT]])
        # the controller answers first: until a broker knows of it, it takes records that are lost with the topic
        await stage.until("each broker knows of it", lambda: is_gone(admin, stage.names[OUTPUT]), START_S)
        await filled(stage, EVENTS, is_read=False)  # nobody can read on where a topic is another one
        assert await worker.ended(START_S) == EXIT_FAILED, worker.told()
        await stage.evict(worker)
        assert stage.names[OUTPUT] in last_line(worker, "worker.failed")
        successor = stage.worker("successor", **TRIES)
        assert await successor.ended(START_S) == EXIT_REFUSED, successor.told()
        told = last_line(successor, "worker.refused")
        assert f"{stage.names[OUTPUT]}: topic: found none" in told
        assert "janela topics apply" in told
        await topics.apply(stage.settings)
        before = await verify(stage.settings)
        assert before.is_clean, before
        assert before.not_consumed
        rest = await drained(stage, stage.worker("last", **QUICK))
        verdict = await verify(stage.settings)
    trial.faults["output topic deleted"] += 1
    trial.notes.append(rest)
    trial.judge(verdict, stage.events_put)


async def refused_and_mended(
    stage: Stage, trial: Trial, fault: str, reason: str, break_: Act, mend: Act, *, is_seen_at_start: bool = False
) -> None:
    """Break a topic under a worker: it ends, its successors too, and when it is mended the last one does the rest.

    Where it is seen at the start, successors do not even join.
    """
    name = stage.names[OUTPUT]
    async with operator(stage.settings) as admin:
        await filled(stage, EVENTS)
        worker = stage.worker("w0", transaction_timeout_ms=TRIES["transaction_timeout_ms"])
        await stage.until_moved(within_s=START_S)
        await break_(admin, name)
        for n in range(asked(2)):
            if n:
                worker = stage.worker(f"w{n}", **TRIES)
            code, event, why = EXIT_FAILED, "worker.failed", reason
            if n and is_seen_at_start:
                code, event, why = EXIT_REFUSED, "worker.refused", "expected Write"
            assert await worker.ended(START_S) == code, worker.told()
            told = last_line(worker, event)
            assert why in told
            assert name in told
            await stage.evict(worker)
            trial.faults[fault] += 1
        before = await verify(stage.settings)
        assert before.is_clean, before
        assert before.not_consumed
        await mend(admin, name)
    rest = await drained(stage, stage.worker("last", **QUICK))
    trial.notes.append(rest)
    trial.figures["not_consumed_while_broken"] = before.not_consumed
    trial.judge(await verify(stage.settings), stage.events_put)


def last_line(worker: Worker, event: str) -> str:
    """Give the last line that a worker wrote; it must be this event: one clear line and no traceback after it."""
    lines = [line for line in worker.lines() if ">>>" not in line]
    assert event in lines[-1], worker.told()
    assert not any("Traceback" in line for line in lines), worker.told()
    return lines[-1]


@asynccontextmanager
async def operator(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """Connect as an operator."""
    admin = settings.connection.admin()
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def is_gone(admin: AIOKafkaAdminClient, topic: str) -> bool:
    """Tell whether every broker refuses records for a topic: each goes by the metadata that it gives."""
    nodes = [node["node_id"] for node in (await admin.describe_cluster())["brokers"]]
    told = [(await admin._send_request_to_node(node, MetadataRequest([topic]))).to_object() for node in nodes]
    return all(each["topics"][0]["error_code"] == UnknownTopicOrPartitionError.errno for each in told)


async def configure(admin: AIOKafkaAdminClient, topic: str, more: Mapping[str, str]) -> None:
    """Give a topic its configuration as the contract wants it on one broker, and more."""
    (specified,) = (it.configuration for it in contract.topics() if it.name == OUTPUT)
    configs = {**specified, "min.insync.replicas": "1", **more}
    (response,) = await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=configs)])
    assert [resource[0] for resource in response.resources] == [0]


async def ruled(admin: AIOKafkaAdminClient, request: CreateAclsRequest | DeleteAclsRequest) -> None:
    """Change what is allowed, where the controller listens."""
    response = await admin._send_to_controller(request)
    codes = [answer[0] for answer in getattr(response, "creation_responses", None) or response.filter_responses]
    assert codes == [0], response
