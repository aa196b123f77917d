"""What the tests of a worker under other people's programs begin with."""

import pytest

from processor.settings import Settings
from tests.kafka import Kafka


@pytest.fixture
def settings(kafka: Kafka, topic_prefix: str) -> Settings:
    """Give settings as of a worker in production, with a live clock, under a prefix of the test's own."""
    return Settings(
        bootstrap_servers=kafka.bootstrap_servers,
        app_id=f"{topic_prefix}janela",
        topic_prefix=topic_prefix,
        partitions=2,
        clock="live",
    )
