"""What tests of a whole worker begin with; a module that needs other settings has a fixture of its own."""

from typing import Final

import pytest

from processor.embedded import EmbeddedKafka
from processor.settings import Settings

PARTITIONS: Final = 2


@pytest.fixture
def settings(kafka: EmbeddedKafka, topic_prefix: str) -> Settings:
    """Give settings under a prefix of the test's own, for few partitions, with time by the events alone."""
    return Settings(
        bootstrap_servers=kafka.bootstrap_servers,
        app_id=f"{topic_prefix}janela",
        topic_prefix=topic_prefix,
        partitions=PARTITIONS,
        clock="event",
    )
