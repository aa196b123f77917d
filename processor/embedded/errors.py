"""What goes wrong with the embedded Kafka."""

from __future__ import annotations


class EmbeddedKafkaError(Exception):
    """The embedded Kafka can't be had.

    The message is one sentence for whoever asked for it: what was wanted, what stood in the way, what helps.
    """
