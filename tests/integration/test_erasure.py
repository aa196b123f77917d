"""A contact is forgotten by the way that docs/operations.md gives."""

import json
import time
from pathlib import Path

import pytest

from processor.audit.partitioner import partition_of
from processor.audit.records import TopicKind
from processor.settings import Settings
from tests.chaos.backlog import Wanted
from tests.chaos.harness import Stage
from tests.integration.test_rebuild import READY_S, STATES, states

pytestmark = pytest.mark.timeout(300)

FORGOTTEN, OTHER = b"whatsapp:15550001:5511900000001", b"whatsapp:15550001:5511900000002"


def told(settings: Settings, key: bytes, kind: TopicKind, id_: str, **more: str) -> Wanted:
    _, business_id, contact_id = key.decode().split(":")
    body = {
        "id": id_,
        "business_id": business_id,
        "contact_id": contact_id,
        "time": time.time_ns() // 1_000_000 - 1_000,
    }
    return Wanted(kind, partition_of(key, settings.partitions), key, json.dumps(body | more).encode())


async def test_a_contact_of_whom_the_state_topics_have_tombstones_is_unknown(
    settings: Settings, tmp_path: Path
) -> None:
    async with Stage.open(settings, tmp_path) as stage:

        async def worked(name: str, *kinds: dict[str, str]) -> None:
            both = (FORGOTTEN, OTHER)
            await stage.preload(
                told(settings, key, "inbound", f"{name}{n}", **kind) for key in both for n, kind in enumerate(kinds)
            )
            worker = stage.worker(name)
            await stage.until_consumed(READY_S)
            worker.kill()
            await stage.evict(worker)

        await worked("first", {"type": "text"}, {"type": "consent", "scope": "all", "value": "granted"})
        assert [set(found) for found in (await states(stage)).values()] == [{FORGOTTEN, OTHER}] * 2
        producer = settings.connection.producer()
        await producer.start()
        for topic in STATES:
            place = partition_of(FORGOTTEN, settings.partitions)
            await producer.send_and_wait(stage.names[topic], None, FORGOTTEN, partition=place)
        await producer.stop()

        await worked("second", {"type": "text"})
        after = await states(stage)
        opened = [it for found in (await stage.records("window-opened")).values() for it in found]
    assert set(after["window-state"]) == {FORGOTTEN, OTHER}
    assert set(after["consent-state"]) == {OTHER}
    assert sorted(it.key for it in opened) == [FORGOTTEN, FORGOTTEN, OTHER]
