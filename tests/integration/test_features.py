"""Workers on clusters that can't do what exactly-once rests on: upgraded and never raised, or too old altogether."""

# mypy: disable-error-code="misc"
# aiokafka carries no types, and a class of unknown type is a base that mypy's strict mode refuses.

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka.protocol.admin import ApiVersionResponse_v0, ApiVersionResponse_v1
from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.metadata import MetadataResponse_v1
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int8, Int16, Int32, Schema, TaggedFields

from processor import features, topics
from processor.embedded import EmbeddedKafka
from processor.kafka.protocol import ExactRequest
from processor.preflight import refusals
from processor.settings import Settings
from processor.stream.engine import EXIT_REFUSED
from tests.chaos.harness import Worker, environment, patience
from tests.verbs import janela

pytestmark = pytest.mark.timeout(300)

SAID_WITHIN_S = 10
"""How soon a worker that may not run must say so, on a machine that has a core for it."""

HOST = "127.0.0.1"


async def refused(settings: Settings, folder: Path) -> str:
    """Start a worker that must refuse to run, and give its one line."""
    worker = Worker("w", environment(settings, "w"), folder / "w.log", ("-m", "processor", "worker"))
    try:
        assert await worker.ended(SAID_WITHIN_S * patience()) == EXIT_REFUSED, worker.told()
    finally:
        worker.kill()
    (line,) = [line for line in worker.lines() if ">>>" not in line and "[info" not in line]
    return line


# --------------------------------------------------------------------------------------------- upgraded, never raised

_TEXT, _TAGS = CompactString("utf-8"), ("tags", TaggedFields)


class UpdateFeaturesResponse(Response):
    """What became of it."""

    API_KEY, API_VERSION = 57, 1
    SCHEMA = Schema(
        ("throttle_time_ms", Int32), ("error_code", Int16), ("error_message", _TEXT),
        ("results", CompactArray(("feature", _TEXT), ("error_code", Int16), ("error_message", _TEXT), _TAGS)), _TAGS,
    )  # fmt: skip


class UpdateFeaturesRequest(RequestStruct):
    """What kafka-features.sh sends."""

    API_KEY, API_VERSION, FLEXIBLE_VERSION = 57, 1, True
    RESPONSE_TYPE = UpdateFeaturesResponse
    SCHEMA = Schema(
        ("timeout_ms", Int32), ("updates", CompactArray(("feature", _TEXT), ("level", Int16), ("kind", Int8), _TAGS)),
        ("is_trial", Boolean), _TAGS,
    )  # fmt: skip


async def raise_feature(settings: Settings, feature: str, level: int) -> None:
    """Do as `kafka-features.sh upgrade --feature` does, and wait until the broker goes by it."""
    upgrade = 1
    request = ExactRequest(UpdateFeaturesRequest, 5000, [(feature, level, upgrade, {})], False, {})
    async with topics.asking_brokers(settings) as client:
        answer = await client.send(client.get_random_node(), request)
    assert (answer.error_code, [code for _, code, *_ in answer.results]) == (0, [0])


@pytest.fixture
def upgraded(topic_prefix: str) -> Iterator[Settings]:
    """Give settings on a Kafka that still goes by the features of 3.9, as after an upgrade of the brokers alone."""
    with EmbeddedKafka(release="3.9") as kafka:
        yield Settings(
            bootstrap_servers=kafka.bootstrap_servers,
            app_id=f"{topic_prefix}janela",
            topic_prefix=topic_prefix,
            partitions=2,
            clock="event",
        )


async def test_a_cluster_that_was_never_raised_to_transactions_of_version_2_is_refused_until_it_is(
    upgraded: Settings, tmp_path: Path
) -> None:
    await topics.apply(upgraded)
    line = (
        "error: brokers: transaction.version: found 0, expected at least 2; kafka-features.sh"
        f" --bootstrap-server {upgraded.bootstrap_servers} upgrade --feature transaction.version=2"
    )
    assert line in await refused(upgraded, tmp_path)
    code, out, _ = await janela(upgraded, "topics", "check")
    assert (code, out.splitlines()) == (2, [line])
    code, _, err = await janela(upgraded, "rebuild", "--yes")
    assert (code, err.splitlines()) == (2, [line])

    await raise_feature(upgraded, features.FEATURE, features.LEVEL_MIN)
    give_up_s = time.monotonic() + 10
    while left := await refusals(upgraded):
        assert time.monotonic() < give_up_s, left
        await asyncio.sleep(0.1)


# ------------------------------------------------------------------------------------------------------------ too old

_API_VERSIONS, _METADATA, _END_TXN = 18, 3, 26


def _answered(key: int, version: int, newest: dict[int, int], port: int) -> bytes:
    match key, version:
        case (18, 0 | 1 | 2):
            kinds = [(key, 0, version) for key, version in newest.items()]
            told = ApiVersionResponse_v0(0, kinds) if version == 0 else ApiVersionResponse_v1(0, kinds, 0)
        case (3, 1):
            told = MetadataResponse_v1([(1, HOST, port, None)], 1, [])
        case _:
            raise AssertionError(f"request {key} v{version} was asked of a broker that is too old")
    return bytes(told.encode())


@asynccontextmanager
async def old_broker(newest: dict[int, int]) -> AsyncIterator[str]:
    """Run what answers as a broker of these versions would, to the questions that come before a refusal."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = writer.get_extra_info("sockname")[1]
        try:
            while size := await reader.read(4):
                request = await reader.readexactly(int.from_bytes(size))
                key, version, correlation = struct.unpack_from(">hhi", request)
                body = struct.pack(">i", correlation) + _answered(key, version, newest, port)
                writer.write(struct.pack(">i", len(body)) + body)
        finally:
            writer.close()

    server = await asyncio.start_server(answer, HOST, 0)
    async with server:
        yield f"{HOST}:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(("api_versions", "end_txn"), [(4, 4), (2, 1)], ids=["3.9", "2.3"])
async def test_an_older_broker_is_refused_by_the_version_of_kafka_that_is_needed(
    topic_prefix: str, tmp_path: Path, api_versions: int, end_txn: int
) -> None:
    versions = {_API_VERSIONS: api_versions, _METADATA: 1, _END_TXN: end_txn}
    async with old_broker(versions) as servers:
        settings = Settings(bootstrap_servers=servers, topic_prefix=topic_prefix)
        line = await refused(settings, tmp_path)
    assert f"error: brokers: EndTxn requests: found none newer than v{end_txn}, expected v5; upgrade all" in line
    assert "Kafka 4.0 or newer" in line
