"""The contract's topics on a real broker: created, kept, checked, and the command line over it."""

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from typer.testing import CliRunner, Result

from processor import contract, topics
from processor.cli.topics import topics_app
from processor.settings import Settings

PARTITIONS = 3
NOBODY = "127.0.0.1:1"


@pytest.fixture
def settings(kafka: Any, topic_prefix: str) -> Settings:
    return Settings(bootstrap_servers=kafka.bootstrap_servers, topic_prefix=topic_prefix, partitions=PARTITIONS)


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.chdir(tmp_path)  # no janela.toml of whoever runs the tests
    monkeypatch.setenv("JANELA_BOOTSTRAP_SERVERS", settings.bootstrap_servers)
    monkeypatch.setenv("JANELA_TOPIC_PREFIX", settings.topic_prefix)
    monkeypatch.setenv("JANELA_PARTITIONS", str(PARTITIONS))


async def make(settings: Settings, name: str, partitions: int, configuration: Mapping[str, str]) -> None:
    """Create one of the contract's topics by hand, in a way of our own."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    try:
        topic = NewTopic(settings.topic_prefix + name, partitions, 1, topic_configs=dict(configuration))
        response = await admin.create_topics([topic])
        assert [code for _, code, _ in response.topic_errors] == [0]
    finally:
        await admin.close()


def janela_topics(*arguments: str) -> Result:
    return CliRunner().invoke(topics_app, arguments)


async def test_applied_topics_are_as_the_contract_wants_them(settings: Settings) -> None:
    applied = await topics.apply(settings)
    assert applied.created == tuple(topics.names(settings).values())
    assert applied.kept == ()
    assert await topics.check(settings) == []
    found = (await topics.survey(settings)).topics
    for topic in contract.topics():
        made = found[settings.topic_prefix + topic.name]
        assert made.partitions == PARTITIONS
        in_force = {key: made.configuration[key] for key in topic.configuration}
        # a lone broker has one copy, and a lone copy must be allowed to be alone
        assert in_force == {**topic.configuration, "min.insync.replicas": "1"}


async def test_applying_twice_keeps_what_there_is(settings: Settings) -> None:
    first = await topics.apply(settings)
    second = await topics.apply(settings)
    assert second == topics.Applied(created=(), kept=first.created)


async def test_checking_the_topics_creates_nothing(settings: Settings) -> None:
    for _ in range(2):
        (problem,) = await topics.check(settings)
        assert (problem.topic, problem.found) == (f"{settings.topic_prefix}*", "none")


async def test_a_topic_that_exists_is_never_altered_and_what_is_wrong_with_it_is_said(
    settings: Settings,
) -> None:
    await make(settings, "messages.inbound", PARTITIONS, {"retention.ms": "3600000"})
    await make(settings, "messages.outbound", PARTITIONS + 1, {"message.timestamp.type": "LogAppendTime"})
    await make(settings, "window-state", PARTITIONS, {"cleanup.policy": "compact,delete"})
    applied = await topics.apply(settings)
    prefix = settings.topic_prefix
    kept = ("messages.inbound", "messages.outbound", "window-state")
    assert applied.kept == tuple(prefix + name for name in kept)
    found = [(each.topic, each.what, each.found, each.severity) for each in await topics.check(settings)]
    outbound = f"{prefix}messages.outbound"
    co_partitioning = [each for each in found if each[1] == "co-partitioning"]
    assert [each[0] for each in co_partitioning] == [f"{prefix}*"]
    assert [each for each in found if each not in co_partitioning] == [
        (outbound, "partitions", str(PARTITIONS + 1), "error"),
        (f"{prefix}window-state", "cleanup.policy", "compact,delete", "error"),
        (f"{prefix}messages.inbound", "retention.ms", "3600000", "warning"),
        (f"{prefix}messages.inbound", "message.timestamp.type", "CreateTime", "warning"),
        (f"{prefix}window-state", "max.compaction.lag.ms", "9223372036854775807", "warning"),
        (f"{prefix}window-state", "delete.retention.ms", "86400000", "warning"),
    ]


async def test_more_copies_than_brokers_are_refused_in_one_line(settings: Settings) -> None:
    with pytest.raises(topics.ClusterError, match="InvalidReplicationFactorError") as refusal:
        await topics.apply(settings, replication_factor=2)
    assert "\n" not in str(refusal.value)
    assert not isinstance(refusal.value, topics.BrokerAwayError)


async def test_a_broker_that_is_away_is_said_in_one_line_and_in_time() -> None:
    started = time.monotonic()
    with pytest.raises(topics.BrokerAwayError, match=NOBODY) as absence:
        await topics.check(Settings(bootstrap_servers=NOBODY))
    assert time.monotonic() - started < 10
    assert "\n" not in str(absence.value)


@pytest.mark.usefixtures("environment")
def test_the_command_line_checks_applies_and_lists(settings: Settings) -> None:
    checked = janela_topics("check")
    assert checked.exit_code == 2
    assert checked.stdout.startswith(f"error: {settings.topic_prefix}*: topics: found none, expected 10")
    applied = janela_topics("apply", "--json")
    assert applied.exit_code == 0
    assert json.loads(applied.stdout)["created"] == list(topics.names(settings).values())
    checked = janela_topics("check", "--strict", "--json")
    assert checked.exit_code == 0
    assert json.loads(checked.stdout) == {
        "bootstrap_servers": settings.bootstrap_servers,
        "errors": 0,
        "warnings": 0,
        "problems": [],
    }
    listed = janela_topics("list", "--json")
    assert listed.exit_code == 0
    assert all(row["exists"] for row in json.loads(listed.stdout)["topics"])
    lines = janela_topics("list").stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == list(topics.names(settings).values())


@pytest.mark.usefixtures("environment")
async def test_a_warning_is_an_exit_code_only_where_it_is_asked_for(settings: Settings) -> None:
    await make(settings, "messages.inbound", PARTITIONS, {})
    await topics.apply(settings)
    lenient = await asyncio.to_thread(janela_topics, "check")
    strict = await asyncio.to_thread(janela_topics, "check", "--strict")
    assert (lenient.exit_code, strict.exit_code) == (0, 1)
    (line,) = strict.stdout.splitlines()
    assert line.startswith(f"warning: {settings.topic_prefix}messages.inbound: message.timestamp.type: ")


def test_without_a_broker_the_command_line_says_one_line_and_exits_2(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JANELA_BOOTSTRAP_SERVERS", NOBODY)
    for verb in ("apply", "check", "list"):
        result = janela_topics(verb)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr.count("\n") == 1
        assert NOBODY in result.stderr


def test_settings_that_can_not_be_used_are_exit_code_2(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JANELA_PARTITIONS", "none")
    result = janela_topics("check")
    assert result.exit_code == 2
    assert "JANELA_PARTITIONS" in result.stderr


@pytest.mark.parametrize("verb", ["apply", "check", "list"])
def test_the_help_has_examples_and_exit_codes(verb: str) -> None:
    shown = janela_topics(verb, "--help")
    assert shown.exit_code == 0
    assert f"janela topics {verb}" in shown.stdout
    assert "Exit codes" in shown.stdout
