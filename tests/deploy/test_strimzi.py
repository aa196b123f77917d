"""Topics and users for Strimzi: made from the contract, and what a real broker makes the contract's topics of."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy import generate
from processor import contract, topics
from processor.embedded import EmbeddedKafka
from processor.settings import Settings
from processor.topics import INPUTS
from tests.deploy.tools import needs_strimzi, unknown_to_strimzi

RIGHTS = generate.rights(contract.topics(), "", "janela")


def of(role: str, resource: str) -> set[tuple[str, str]]:
    return {(each.name, each.operation) for each in RIGHTS if (each.role, each.resource) == (role, resource)}


@pytest.mark.parametrize("path", generate.kept(), ids=lambda path: path.name)
def test_what_is_kept_is_what_is_made(path: Path) -> None:
    assert path.read_text("utf-8") == generate.kept()[path], "make docs"


def test_a_setting_that_is_new_comes_into_the_chart_and_a_secret_does_not() -> None:
    from pydantic import SecretStr

    class More(Settings):
        speed: int = 1
        """How fast."""
        password: SecretStr | None = None
        """Of whom."""

    found = generate.values_schema(More)["properties"]["settings"]["properties"]
    assert found["speed"] == {"description": "How fast.", "type": "integer"}
    assert "password" not in found


def test_each_topic_is_there_under_its_prefix_with_what_the_contract_says() -> None:
    made = list(generate.kafka_topics(contract.topics(), "Acme_", 24))
    assert [each["spec"]["topicName"] for each in made] == [f"Acme_{topic.name}" for topic in contract.topics()]
    assert {each["spec"]["partitions"] for each in made} == {24}
    assert made[0]["metadata"]["name"] == "acme-messages.inbound"  # what Kubernetes takes as a name


def test_a_worker_may_read_inputs_and_states_and_write_what_is_its_own() -> None:
    may = of("processor", "topic")
    for topic in contract.topics():
        assert ((topic.name, "Read") in may) == (topic.role in ("input", "state"))
        assert ((topic.name, "Write") in may) == (topic.role != "input")
        assert (topic.name, "DescribeConfigs") in may


def test_a_worker_may_create_alter_and_delete_nothing() -> None:
    allowed = {"Read", "Write", "Describe", "DescribeConfigs"}
    assert {each.operation for each in RIGHTS} <= allowed
    assert {each.resource for each in RIGHTS} == {"topic", "group", "transactionalId"}


def test_a_worker_has_its_own_group_and_its_own_transactions() -> None:
    assert of("processor", "group") == {("janela", "Read")}
    assert of("processor", "transactionalId") == {("janela-", "Write")}
    for role in {each.role for each in RIGHTS} - {"processor"}:
        assert of(role, "transactionalId") == set()
        assert ("janela", "Read") not in of(role, "group")


def test_only_whom_the_contract_names_writes_the_inputs_and_reads_verdicts() -> None:
    writers = {each.role for each in RIGHTS if each.name in INPUTS and each.operation == "Write"}
    assert writers == {"platform"}
    readers = {each.role for each in RIGHTS if each.name == "send-accepted" and each.operation == "Read"}
    assert readers == {"dispatcher"}


def test_who_scales_may_look_at_the_lag_and_at_nothing_else() -> None:
    assert of("autoscaler", "topic") == {(name, "Describe") for name in INPUTS}
    assert of("autoscaler", "group") == {("janela", "Describe")}


def test_a_user_s_lists_are_the_rights_and_no_others() -> None:
    found = set()
    for user in generate.kafka_users(RIGHTS, "janela"):
        role = user["metadata"]["name"].removeprefix("janela-").replace("worker", "processor")
        for acl in user["spec"]["authorization"]["acls"]:
            resource = acl["resource"]
            for operation in acl["operations"]:
                found.add((role, resource["type"], resource["name"], resource["patternType"], operation))
    assert found == {tuple(right) for right in RIGHTS}


@needs_strimzi
def test_strimzi_itself_knows_every_field_and_every_word() -> None:
    topics_made, users_made = (path.read_text("utf-8") for path in (generate.TOPICS, generate.USERS))
    assert unknown_to_strimzi(topics_made + users_made) == []
    assert len(unknown_to_strimzi(topics_made.replace("topicName:", "topic:"))) == len(contract.topics())
    assert unknown_to_strimzi(users_made.replace("- DescribeConfigs", "- DescribeConfig"))


def test_files_for_other_settings_are_told_and_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JANELA_TOPIC_PREFIX", "acme.")
    monkeypatch.setenv("JANELA_PARTITIONS", "24")
    assert generate.main(["topics", "users"]) == 0
    told = list(yaml.safe_load_all(capsys.readouterr().out))
    found = {each["spec"]["topicName"]: each["spec"]["partitions"] for each in told if each["kind"] == "KafkaTopic"}
    assert found == dict.fromkeys((f"acme.{topic.name}" for topic in contract.topics()), 24)
    assert {each["kind"] for each in told} == {"KafkaTopic", "KafkaUser"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("asked", "partitions"), [(["topic"], "24"), (["topics"], "0")])
def test_what_can_not_be_told_is_refused_in_a_line(
    asked: list[str], partitions: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JANELA_PARTITIONS", partitions)
    assert generate.main(asked) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert "allowed: " in told.err


async def test_topics_made_as_strimzi_would_make_them_are_the_contract_s(
    kafka: EmbeddedKafka, topic_prefix: str
) -> None:
    settings = Settings(bootstrap_servers=kafka.bootstrap_servers, topic_prefix=topic_prefix, partitions=3)
    documents = list(yaml.safe_load_all(generate.topics_file(settings)))
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([_as_asked(each["spec"]) for each in documents])
    finally:
        await admin.close()
    assert list(map(str, await topics.check(settings))) == []
    assert (await topics.apply(settings)).created == ()


def _as_asked(spec: dict[str, Any]) -> NewTopic:
    """Ask for a topic as Strimzi does, with as many copies as one broker can have."""
    configuration = json.loads(json.dumps(spec["config"])) | {"min.insync.replicas": "1"}
    return NewTopic(spec["topicName"], spec["partitions"], 1, topic_configs=configuration)
