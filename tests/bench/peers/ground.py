"""The topics that every engine works on: inputs put there once, everything that is written made anew for each run.

They are as the contract wants them for a replay: record times are kept (some engines put topics in order by nothing
else), and nothing goes by time, since what lies on them is days old.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import UnknownTopicOrPartitionError, for_code

from processor import contract
from processor.codec.times import parse_time
from processor.settings import Settings
from tests.bench.scene import Bench
from tests.chaos.backlog import Wanted
from tests.chaos.harness import INPUTS

GONE_WITHIN_S: Final = 60
_FOR_A_REPLAY: Final = {"retention.ms": "-1", "message.timestamp.type": "CreateTime"}


class Ground:
    """Topics under one prefix."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        """Take the settings that all runs share; logs go to `folder`."""
        self.settings, self.folder = settings, folder
        self._runs = 0

    def next_run(self, name: str) -> tuple[Settings, Path]:
        """Give settings and a folder of a run that nothing is known of: a group of its own."""
        self._runs += 1
        run = f"{self._runs}-{name}"
        folder = self.folder / run
        folder.mkdir(parents=True)
        return self.settings.model_copy(update={"app_id": f"{self.settings.topic_prefix}{run}"}), folder

    async def put(self, records: Sequence[Wanted]) -> None:
        """Make the inputs, and put records on them with the times of their events."""
        await self.make_inputs()
        async with Bench.open(self.settings, self.folder, apply=False) as bench:
            await bench.preload(records, event_time_ms)

    async def make_inputs(self) -> None:
        """Make the inputs, with nothing on them."""
        await self._make(list(INPUTS.values()))

    async def clear(self) -> None:
        """Delete all but the inputs, engines' own topics too, and make the contract's topics that are missing."""
        inputs = {self.settings.topic_prefix + topic for topic in INPUTS.values()}
        await self._delete(lambda name: name not in inputs)
        await self._make([topic.name for topic in contract.topics()])

    async def remove(self) -> None:
        """Delete everything."""
        await self._delete(lambda _: True)

    async def _delete(self, is_concerned: Callable[[str], bool]) -> None:
        async with _Admin(self.settings) as admin:
            have = await admin.list_topics()
            gone = {name for name in have if name.startswith(self.settings.topic_prefix) and is_concerned(name)}
            if gone:
                await admin.delete_topics(list(gone))
            async with asyncio.timeout(GONE_WITHIN_S):
                while gone & set(await admin.list_topics()):
                    await asyncio.sleep(0.1)

    async def _make(self, wanted: Sequence[str]) -> None:
        prefix = self.settings.topic_prefix
        async with _Admin(self.settings) as admin:
            have = set(await admin.list_topics())
            missing = [topic for topic in contract.topics() if topic.name in wanted and prefix + topic.name not in have]
            new = [
                NewTopic(
                    prefix + topic.name, self.settings.partitions, 1, topic_configs=_configuration(topic.configuration)
                )
                for topic in missing
            ]
            for name, code, words in (await admin.create_topics(new)).topic_errors if new else []:
                assert not code, f"{name}: {for_code(code).__name__}: {words}"
            names = {topic.name for topic in new}
            while not await _have_leaders(admin, names):
                await asyncio.sleep(0.1)


def event_time_ms(wanted: Wanted) -> int:
    """Read when an event happened."""
    value = wanted.value or b""
    begin = value.index(b'"time":"') + 8
    time_ms = parse_time(value[begin : value.index(b'"', begin)].decode())
    assert time_ms is not None, value
    return time_ms


def _configuration(specified: Any) -> dict[str, str]:
    configuration = {**specified, "min.insync.replicas": "1"}
    return {**configuration, **{name: value for name, value in _FOR_A_REPLAY.items() if name in specified}}


async def _have_leaders(admin: AIOKafkaAdminClient, names: set[str]) -> bool:
    try:
        described = await admin.describe_topics(list(names)) if names else []
    except UnknownTopicOrPartitionError:
        return False
    partitions = [partition for topic in described for partition in topic["partitions"]]
    return all(not topic["error_code"] for topic in described) and all(each["leader"] >= 0 for each in partitions)


class _Admin:
    """An admin client for a while."""

    def __init__(self, settings: Settings) -> None:
        self._admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)

    async def __aenter__(self) -> AIOKafkaAdminClient:
        await self._admin.start()
        return self._admin

    async def __aexit__(self, *_: object) -> None:
        await self._admin.close()
