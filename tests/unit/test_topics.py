"""What a cluster's topics are held to: each way to be wrong is one problem, and a sound cluster has none."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from processor import contract
from processor.settings import Settings
from processor.topics import Cluster, FoundTopic, Problem, compactions, names, problems

SETTINGS = Settings(topic_prefix="acme.")


def sound_cluster(brokers: int = 3) -> Cluster:
    topics = [
        FoundTopic(f"acme.{topic.name}", SETTINGS.partitions, min(3, brokers), dict(topic.configuration))
        for topic in contract.topics()
    ]
    topics += [
        FoundTopic(name, 50, min(3, brokers), {"min.insync.replicas": "2"})
        for name in ("__consumer_offsets", "__transaction_state")
    ]
    return Cluster(brokers, {topic.name: topic for topic in topics})


def with_topic(cluster: Cluster, name: str, change: Callable[[FoundTopic], FoundTopic]) -> Cluster:
    return replace(cluster, topics={**cluster.topics, name: change(cluster.topics[name])})


def configured(cluster: Cluster, name: str, key: str, value: str | None) -> Cluster:
    def change(topic: FoundTopic) -> FoundTopic:
        configuration = {**topic.configuration, key: value}
        return replace(topic, configuration={k: v for k, v in configuration.items() if v is not None})

    return with_topic(cluster, name, change)


def only(found: list[Problem]) -> Problem:
    assert len(found) == 1, [str(problem) for problem in found]
    return found[0]


def test_a_name_has_the_prefix_before_it() -> None:
    assert names(SETTINGS)["window-state"] == "acme.window-state"
    assert list(names(SETTINGS)) == [topic.name for topic in contract.topics()]


def test_the_settings_and_the_contract_agree_on_the_number_of_partitions() -> None:
    assert {topic.partitions for topic in contract.topics()} == {Settings().partitions}


@pytest.mark.parametrize("brokers", [1, 3])
def test_a_sound_cluster_has_no_problem(brokers: int) -> None:
    assert problems(sound_cluster(brokers), SETTINGS) == []


def test_a_missing_topic_is_an_error() -> None:
    cluster = sound_cluster()
    topics = {name: topic for name, topic in cluster.topics.items() if name != "acme.window-closed"}
    problem = only(problems(replace(cluster, topics=topics), SETTINGS))
    assert (problem.topic, problem.severity) == ("acme.window-closed", "error")
    assert "janela topics apply" in problem.remedy


def test_a_cluster_without_any_topic_is_one_error() -> None:
    problem = only(problems(Cluster(1, {}), SETTINGS))
    assert (problem.topic, problem.found, problem.severity) == ("acme.*", "none", "error")


def test_another_number_of_partitions_on_all_topics_is_one_error_that_names_the_setting() -> None:
    problem = only(problems(sound_cluster(), Settings(topic_prefix="acme.", partitions=24)))
    assert (problem.topic, problem.found, problem.severity) == ("acme.*", "12", "error")
    assert problem.expected.startswith("24")
    assert "JANELA_PARTITIONS=12" in problem.remedy


def test_a_topic_with_its_own_number_of_partitions_is_wrong_and_breaks_the_co_partitioning() -> None:
    cluster = with_topic(sound_cluster(), "acme.messages.outbound", lambda topic: replace(topic, partitions=6))
    found = problems(cluster, SETTINGS)
    assert [(each.topic, each.what, each.severity) for each in found] == [
        ("acme.messages.outbound", "partitions", "error"),
        ("acme.*", "co-partitioning", "error"),
    ]


@pytest.mark.parametrize("name", ["acme.window-state", "acme.consent-state"])
@pytest.mark.parametrize("policy", ["delete", "compact,delete"])
def test_state_that_is_not_only_compacted_is_an_error(name: str, policy: str) -> None:
    problem = only(problems(configured(sound_cluster(), name, "cleanup.policy", policy), SETTINGS))
    assert (problem.topic, problem.found, problem.severity) == (name, policy, "error")
    assert "--add-config cleanup.policy=compact" in problem.remedy


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("acme.messages.inbound", "retention.ms", "3600000"),
        ("acme.dead-letters", "retention.ms", "604800000"),
        ("acme.window-opened", "cleanup.policy", "compact"),
        ("acme.messages.inbound", "retention.bytes", "1073741824"),
        ("acme.messages.outbound", "message.timestamp.type", "CreateTime"),
        ("acme.window-state", "max.compaction.lag.ms", "9223372036854775807"),
        ("acme.window-state", "delete.retention.ms", "86400000"),
        ("acme.consent-state", "min.insync.replicas", "1"),
        ("acme.send-accepted", "unclean.leader.election.enable", "true"),
        ("__consumer_offsets", "min.insync.replicas", "1"),
        ("__transaction_state", "min.insync.replicas", "1"),
    ],
)
def test_what_may_lose_records_or_let_time_be_moved_is_a_warning(name: str, key: str, value: str) -> None:
    problem = only(problems(configured(sound_cluster(), name, key, value), SETTINGS))
    assert (problem.topic, problem.what, problem.found, problem.severity) == (name, key, value, "warning")


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("acme.messages.inbound", "retention.ms", "-1"),
        ("acme.messages.inbound", "retention.bytes", "-1"),
        ("acme.window-state", "retention.bytes", "1073741824"),
        ("acme.messages.inbound", "retention.ms", "1209600000"),
        ("acme.window-state", "segment.bytes", "1073741824"),
        ("acme.window-state", "max.compaction.lag.ms", "3600000"),
        ("acme.messages.inbound", "min.insync.replicas", "3"),
    ],
)
def test_more_than_the_contract_asks_for_is_no_problem(name: str, key: str, value: str) -> None:
    assert problems(configured(sound_cluster(), name, key, value), SETTINGS) == []


INPUT = "acme.messages.inbound"


@pytest.mark.parametrize("policy", ["compact", "delete,compact"])
def test_inputs_that_are_compacted_are_told_by_whoever_must_have_all_of_them(policy: str) -> None:
    cluster = configured(sound_cluster(), INPUT, "cleanup.policy", policy)
    assert only([*compactions(cluster, [INPUT, "acme.messages.outbound", "acme.not-there"])]) == Problem(
        INPUT,
        "cleanup.policy",
        policy,
        "delete",
        "records that have a later one of their key may be gone; docs/operations.md has the way on",
        "error",
    )


def test_inputs_whose_configuration_we_may_not_see_do_not_pass_for_whole() -> None:
    problem = only([*compactions(configured(sound_cluster(), INPUT, "cleanup.policy", None), [INPUT])])
    assert problem.found.startswith("unknown")
    assert "DescribeConfigs" in problem.remedy


@pytest.mark.parametrize("name", ["acme.window-state", "__consumer_offsets", "__transaction_state"])
def test_too_few_copies_are_a_warning_where_there_is_room_for_more(name: str) -> None:
    cluster = with_topic(sound_cluster(), name, lambda topic: replace(topic, replication_factor=1))
    problem = only(problems(cluster, SETTINGS))
    assert (problem.topic, problem.what, problem.severity) == (name, "replication factor", "warning")


def test_a_topic_with_one_copy_is_told_so_once_and_not_that_its_one_copy_is_alone() -> None:
    cluster = configured(sound_cluster(), "acme.window-state", "min.insync.replicas", "1")
    cluster = with_topic(cluster, "acme.window-state", lambda topic: replace(topic, replication_factor=1))
    assert only(problems(cluster, SETTINGS)).what == "replication factor"


def test_on_two_brokers_copies_are_not_asked_for() -> None:
    cluster = configured(sound_cluster(brokers=2), "acme.window-state", "min.insync.replicas", "1")
    assert problems(cluster, SETTINGS) == []


def test_a_configuration_that_we_may_not_see_is_a_warning_and_stops_nobody() -> None:
    cluster = configured(sound_cluster(), "acme.window-state", "cleanup.policy", None)
    problem = only(problems(cluster, SETTINGS))
    assert problem.severity == "warning"
    assert problem.found.startswith("unknown")


def test_internal_topics_that_we_may_not_see_are_warnings() -> None:
    cluster = sound_cluster()
    ours = {name: topic for name, topic in cluster.topics.items() if not name.startswith("__")}
    found = problems(replace(cluster, topics=ours), SETTINGS)
    assert {each.topic for each in found} == {"__consumer_offsets", "__transaction_state"}
    assert {each.severity for each in found} == {"warning"}


def test_errors_come_before_warnings() -> None:
    cluster = configured(sound_cluster(), "acme.messages.inbound", "retention.ms", "1")
    cluster = configured(cluster, "acme.window-state", "cleanup.policy", "delete")
    assert [each.severity for each in problems(cluster, SETTINGS)] == ["error", "warning"]


def test_a_problem_is_one_line_that_says_what_was_found_expected_and_how_to_mend_it() -> None:
    cluster = configured(sound_cluster(), "acme.messages.inbound", "retention.ms", "1")
    assert str(only(problems(cluster, SETTINGS))) == (
        "warning: acme.messages.inbound: retention.ms: found 1, expected at least 604800000; "
        "kafka-configs.sh --bootstrap-server 127.0.0.1:9092 --alter --entity-type topics "
        "--entity-name acme.messages.inbound --add-config retention.ms=604800000"
    )
