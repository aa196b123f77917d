"""Topics and users for Strimzi: made from the contract, and what a real broker makes the contract's topics of."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy import generate
from processor import contract, topics
from processor.acls import PARTIES, Acl, acls
from processor.settings import Settings
from tests.deploy.tools import needs_strimzi, unknown_to_strimzi
from tests.kafka import Kafka


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


def test_a_user_s_lists_are_the_rights_of_its_role_and_no_others() -> None:
    settings = Settings(topic_prefix="acme.", app_id="desk")
    words = {word: kafkas for kafkas, word in generate.RESOURCES.items()}
    roles = []
    for user in generate.kafka_users(settings):
        found = {
            Acl(words[acl["resource"]["type"]], acl["resource"]["name"], operation, is_prefix=pattern == "prefix")
            for acl in user["spec"]["authorization"]["acls"]
            for operation in acl["operations"]
            if (pattern := acl["resource"]["patternType"]) in ("prefix", "literal")
        }
        roles.append(user["metadata"]["name"].removeprefix("desk-"))
        assert found == set(acls(settings, roles[-1]))
    assert roles == ["worker", *PARTIES, "autoscaler"]


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


async def test_topics_made_as_strimzi_would_make_them_are_the_contract_s(kafka: Kafka, topic_prefix: str) -> None:
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
