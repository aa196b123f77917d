"""What brokers must be able to do: who is too old, or not raised, is told so in a line that says how to mend it."""

import inspect

import pytest
from aiokafka.protocol.api import RequestStruct

from processor import features
from processor.features import REQUESTS, too_low, too_old
from processor.kafka import protocol

SERVERS = "kafka-1:9092,kafka-2:9092"
RAISING = f"kafka-features.sh --bootstrap-server {SERVERS} upgrade --feature transaction.version=2"

KAFKA_4_2 = {3: 13, 9: 10, 15: 6, 18: 4, 26: 5, 28: 5, 61: 0, 65: 0, 66: 2}
KAFKA_3_9 = {3: 12, 9: 9, 15: 5, 18: 4, 26: 4, 28: 4, 61: 0, 65: 0, 66: 1}
KAFKA_2_3 = {3: 8, 9: 5, 15: 3, 18: 2, 26: 1, 28: 2}
"""The newest version of each request that we ask, by its number."""


def test_brokers_of_kafka_4_are_new_enough() -> None:
    assert too_old(KAFKA_4_2, SERVERS) == []


@pytest.mark.parametrize(("newest", "version"), [(KAFKA_3_9, 4), (KAFKA_2_3, 1)], ids=["3.9", "2.3"])
def test_an_older_broker_is_refused_by_the_version_of_kafka_that_is_needed(
    newest: dict[int, int], version: int
) -> None:
    (problem,) = too_old(newest, SERVERS)
    assert str(problem) == (
        f"error: brokers: EndTxn requests: found none newer than v{version}, expected v5;"
        f" upgrade all of them to Kafka 4.0 or newer, then {RAISING}"
    )


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda it: it.__name__)
def test_a_broker_that_does_not_know_one_of_our_requests_is_refused(request_: type[RequestStruct]) -> None:
    others = {key: version for key, version in KAFKA_4_2.items() if key != request_.API_KEY}
    (problem,) = too_old(others, SERVERS)
    assert (problem.found, problem.expected) == ("none", f"v{request_.API_VERSION}")
    assert problem.what == f"{request_.__name__.removesuffix('Request')} requests"


def test_every_request_that_we_ask_in_one_version_is_looked_for() -> None:
    ours = {it for _, it in inspect.getmembers(protocol, inspect.isclass) if it.__module__ == protocol.__name__}
    assert set(REQUESTS) == {it for it in ours if issubclass(it, RequestStruct)}


@pytest.mark.parametrize(("levels", "found"), [({}, 0), ({"transaction.version": 1}, 1)])
def test_a_cluster_that_was_never_raised_is_refused_with_the_command_that_raises_it(
    levels: dict[str, int], found: int
) -> None:
    (problem,) = too_low({"metadata.version": 21} | levels, SERVERS)
    assert str(problem) == f"error: brokers: transaction.version: found {found}, expected at least 2; {RAISING}"


@pytest.mark.parametrize("level", [2, 3])
def test_a_level_that_will_do_or_a_later_one_is_no_problem(level: int) -> None:
    assert too_low({features.FEATURE: level}, SERVERS) == []
