"""The run's one Kafka, as tests see it."""

from dataclasses import dataclass
from typing import Protocol


class Kafka(Protocol):
    """What a test may know of a Kafka that it shares: where clients begin."""

    @property
    def bootstrap_servers(self) -> str:
        """Give the addresses, comma-separated."""
        ...


@dataclass(frozen=True)
class ElsewhereKafka:
    """A Kafka that another process started, and will end."""

    bootstrap_servers: str
