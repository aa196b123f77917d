"""A real Apache Kafka on this machine, from PyPI packages alone: for `janela up` and for tests.

    with EmbeddedKafka() as kafka:
        print(kafka.bootstrap_servers)

Reading order: `broker` (the cluster), `process` (one JVM), `folder` (what lies on disk), `runtime` (how Kafka
is called, and two caches that make it quick), `jars` and `java` (where both come from).
"""

from processor.embedded.broker import EmbeddedKafka
from processor.embedded.errors import EmbeddedKafkaError
from processor.embedded.jars import FetchProgress, OnFetch

__all__ = ["EmbeddedKafka", "EmbeddedKafkaError", "FetchProgress", "OnFetch"]
