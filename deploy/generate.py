"""What of `deploy/` is made from other files: Strimzi's topics and users, the chart's settings, the operator's rules.

`make docs` writes the files that are kept, for the settings as they come. For others, to standard output:

    JANELA_TOPIC_PREFIX=acme. JANELA_PARTITIONS=24 .venv/bin/python -m deploy.generate topics users | kubectl apply -f -
"""

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import yaml

from processor import contract
from processor.acls import PARTIES, WORKER, Acl, Resource, acls
from processor.contract import TopicSpecification
from processor.settings import Settings, SettingsError

DEPLOY: Final = Path(__file__).parent
TOPICS: Final = DEPLOY / "strimzi/topics.yaml"
USERS: Final = DEPLOY / "strimzi/users.yaml"
VALUES: Final = DEPLOY / "helm/janela/values.schema.json"
PROMETHEUS: Final = DEPLOY / "prometheus"
OPERATORS_RULES: Final = PROMETHEUS / "prometheusrule.yaml"

SELECTED: Final = {"release": "prometheus"}
"""By what the operator finds rules and monitors, where kube-prometheus-stack is installed under this name."""

API: Final = "kafka.strimzi.io/v1"
"""Strimzi has had it since 0.49, and nothing else since 1.0."""
CLUSTER: Final = "kafka"
"""What the `Kafka` resource is called that topics and users belong to."""

PROGRAMS: Final = (WORKER, *PARTIES, "autoscaler")
"""The roles that are programs, for each of which there is a user; deploy/keda logs in as the last."""

THE_CHARTS: Final = frozenset({"instance_id", "ops_address", "policy_file"})
"""Settings that the chart gives by itself."""

RESOURCES: Final[dict[Resource, str]] = {"topic": "topic", "group": "group", "transactional-id": "transactionalId"}
"""Kafka's words and Strimzi's."""


def kafka_topics(topics: Iterable[TopicSpecification], prefix: str, partitions: int) -> Iterator[dict[str, Any]]:
    """Give each topic as a `KafkaTopic`."""
    for topic in topics:
        name = prefix + topic.name
        yield {
            "apiVersion": API,
            "kind": "KafkaTopic",
            "metadata": {"name": _resource_name(name), "labels": {"strimzi.io/cluster": CLUSTER}},
            "spec": {
                "topicName": name,
                "partitions": partitions,
                "replicas": topic.replication.factor,
                "config": dict(topic.configuration),
            },
        }


def kafka_users(settings: Settings) -> Iterator[dict[str, Any]]:
    """Give each program as a `KafkaUser`. SCRAM: Strimzi puts the password into a Secret of the user's name."""
    for role in PROGRAMS:
        yield {
            "apiVersion": API,
            "kind": "KafkaUser",
            "metadata": {
                "name": _resource_name(f"{settings.app_id}-{role}"),
                "labels": {"strimzi.io/cluster": CLUSTER},
            },
            "spec": {
                "authentication": {"type": "scram-sha-512"},
                "authorization": {"type": "simple", "acls": list(_in_strimzis_words(acls(settings, role)))},
            },
        }


def _in_strimzis_words(rights: Iterable[Acl]) -> Iterator[dict[str, Any]]:
    for (resource, name, is_prefix), same in groupby(rights, attrgetter("resource", "name", "is_prefix")):
        yield {
            "resource": {
                "type": RESOURCES[resource],
                "name": name,
                "patternType": "prefix" if is_prefix else "literal",
            },
            "operations": [right.operation for right in same],
        }


def _resource_name(name: str) -> str:
    """Make a name that Kubernetes allows: lower case, with nothing but '.' and '-' between."""
    return name.lower().replace("_", "-").strip(".-")


def values_schema(settings: type[Settings] = Settings) -> dict[str, Any]:
    """Give the chart's schema as it is kept, with the settings that there are now.

    A secret is no value of a chart, since values lie open in the release: it comes by `secretRef`.
    """
    schema: dict[str, Any] = json.loads(VALUES.read_text("utf-8"))
    fields = settings.model_json_schema()["properties"]
    schema["properties"]["settings"]["properties"] = {
        name: _value(field)
        for name, field in fields.items()
        if name not in THE_CHARTS and '"password"' not in json.dumps(field)
    }
    return schema


def _value(field: dict[str, Any]) -> dict[str, Any]:
    words = " ".join(str(field["description"]).split())
    kept = {key: value for key, value in field.items() if key not in ("title", "description", "default")}
    return {"description": words, **kept}


def prometheus_rule() -> dict[str, Any]:
    """Give rules and alerts as the Prometheus operator takes them."""
    files = ("rules.yml", "alerts.yml")
    groups = [group for name in files for group in yaml.safe_load((PROMETHEUS / name).read_text("utf-8"))["groups"]]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "janela", "labels": {"app.kubernetes.io/name": "janela"} | SELECTED},
        "spec": {"groups": groups},
    }


def in_yaml(source: str, documents: Iterable[dict[str, Any]]) -> str:
    """Write resources as one file that says what it was made from."""
    text = yaml.safe_dump_all(documents, sort_keys=False, explicit_start=True, width=120)
    return f"# Made from {source} by `make docs` (deploy/generate.py); a change here is lost.\n{text}"


def topics_file(settings: Settings) -> str:
    """Write the topics."""
    return in_yaml("schemas/", kafka_topics(contract.topics(), settings.topic_prefix, settings.partitions))


def users_file(settings: Settings) -> str:
    """Write the users."""
    return in_yaml("schemas/", kafka_users(settings))


def rules_file() -> str:
    """Write rules and alerts for the Prometheus operator."""
    return in_yaml("rules.yml and alerts.yml", [prometheus_rule()])


def values_file() -> str:
    """Write the chart's schema."""
    return json.dumps(values_schema(), indent=2, ensure_ascii=False) + "\n"


def kept() -> dict[Path, str]:
    """Give what each file that is kept must hold."""
    settings = Settings()
    return {
        TOPICS: topics_file(settings),
        USERS: users_file(settings),
        VALUES: values_file(),
        OPERATORS_RULES: rules_file(),
    }


def main(asked: list[str]) -> int:
    """Write the files that are kept; or, where `topics` or `users` are asked for, tell those of our settings."""
    writers = {"topics": topics_file, "users": users_file}
    if unknown := [name for name in asked if name not in writers]:
        sys.stderr.write(f"found {', '.join(unknown)}; allowed: {' and '.join(writers)}, or nothing\n")
        return 2
    try:
        sys.stdout.write("".join(writers[name](Settings.load()) for name in asked))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for path, text in {}.items() if asked else kept().items():
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
