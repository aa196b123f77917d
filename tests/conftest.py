"""What the tests of every layer share: one real Kafka for the whole run."""

import secrets
import signal
from collections.abc import Iterator
from typing import Any, Final

import hypothesis
import pytest

from processor.embedded import EmbeddedKafka
from tests.collector import Collector, collecting
from tests.deploy import tools
from tests.kafka import ElsewhereKafka, Kafka

# A shell's background job ignores SIGINT, and what it starts inherits that: Ctrl-C would be tested on the deaf.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says something of the machine and what else it does, and nothing of our code.
hypothesis.settings.register_profile("janela", deadline=None)
hypothesis.settings.load_profile("janela")

GIVEN: Final = "bootstrap_servers"
STARTED: Final = pytest.StashKey[EmbeddedKafka]()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Look for the tools that a test needs before any of its fixtures begins."""
    tools.hold(item)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process that pytest-xdist will hand tests to of the run's one Kafka, and start that for the first one."""
    config: pytest.Config = node.config
    if STARTED not in config.stash:
        config.stash[STARTED] = EmbeddedKafka().start()
        config.add_cleanup(config.stash[STARTED].stop)
    node.workerinput[GIVEN] = config.stash[STARTED].bootstrap_servers


@pytest.fixture(scope="session")
def kafka(pytestconfig: pytest.Config) -> Iterator[Kafka]:
    """Give the run's one Kafka, which starts when the first test asks for it, or has been started for all processes.

    Tests share it, so each keeps to topics, groups and transactional ids that begin with its `topic_prefix`.
    A test that kills or suspends brokers starts an `EmbeddedKafka` of its own.
    """
    if bootstrap_servers := getattr(pytestconfig, "workerinput", {}).get(GIVEN):
        yield ElsewhereKafka(bootstrap_servers)
    else:
        with EmbeddedKafka() as kafka:
            yield kafka


@pytest.fixture
def topic_prefix() -> str:
    """Give the test a prefix that no other test has, such as `t8f3a90b1.`."""
    return f"t{secrets.token_hex(4)}."


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Give a collector of spans that the environment names, of this process and of those that it starts."""
    with collecting() as collector:
        for name, value in collector.environment.items():
            monkeypatch.setenv(name, value)
        yield collector
