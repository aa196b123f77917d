"""What tests of a whole worker begin with; a module that needs other settings has a fixture of its own."""

import asyncio
import secrets
from collections.abc import Iterator
from typing import Final

import pytest

from processor import topics
from processor.settings import Settings
from tests.kafka import Kafka
from tests.secured import WORKER, Cluster, secured_kafka

PARTITIONS: Final = 2


@pytest.fixture
def settings(kafka: Kafka, topic_prefix: str) -> Settings:
    """Give settings under a prefix of the test's own, for few partitions, with time by the events alone."""
    return Settings(
        bootstrap_servers=kafka.bootstrap_servers,
        app_id=f"{topic_prefix}janela",
        topic_prefix=topic_prefix,
        partitions=PARTITIONS,
        clock="event",
    )


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Give a Kafka that denies by default; tests share it as they do the other one."""
    with secured_kafka(tmp_path_factory.mktemp("authority")) as cluster:
        yield cluster


@pytest.fixture
def secured_settings(cluster: Cluster, topic_prefix: str) -> Settings:
    """Give the settings of an administrator on it, under a prefix of the test's own."""
    return cluster.as_admin(cluster.settings(topic_prefix, cluster.by_password(WORKER)))


@pytest.fixture(scope="session")
def rightful(cluster: Cluster) -> Settings:
    """Give an administrator's settings on it whose topics are there, for tests that alter none."""
    prefix = f"t{secrets.token_hex(4)}."
    settings = cluster.as_admin(cluster.settings(prefix, cluster.by_password(WORKER)))
    asyncio.run(topics.apply(settings))
    return settings
