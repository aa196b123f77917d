"""The wire contract as values: the topics, the schemas of their records, the closed sets of words.

The contract is data, in ``schemas/``, and this module is its only reader. Nothing is written twice: a topic
is created and checked from its file, a closed set has its one home in ``schemas/vocabulary.schema.json``, and
tests hold the codec to both.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import msgspec

Role = Literal["input", "output", "state", "dead-letter"]
_ROLES: tuple[Role, ...] = ("input", "output", "state", "dead-letter")


class Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the value of a topic's records is."""

    schema: str
    """Name for `event_schema`; for dead letters, whose values are any bytes, that of their headers."""
    content_type: str | None
    """What the ``content-type`` header of each record says; None: no such header."""
    description: str


class Replication(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many copies a topic has where the cluster is large enough."""

    factor: int
    note: str


class TopicSpecification(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A topic as the contract wants it: one file of ``schemas/topics/``.

    `name` is without the prefix, `configuration` is Kafka's own names and texts, `partitions` is the default,
    which the settings may overrule for all topics together.
    """

    name: str
    role: Role
    description: str
    key: str
    value: Value
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    cleanup: str
    partitions: int
    configuration: Mapping[str, str]
    replication: Replication

    def __post_init__(self) -> None:
        """Make the configuration as immutable as the rest."""
        msgspec.structs.force_setattr(self, "configuration", MappingProxyType(dict(self.configuration)))


@cache
def topics() -> tuple[TopicSpecification, ...]:
    """Give every topic of the contract: inputs, outputs, states, dead letters, each group by name."""
    files = (_root() / "topics").glob("*.json")
    specifications = (msgspec.json.decode(file.read_bytes(), type=TopicSpecification) for file in files)
    return tuple(sorted(specifications, key=lambda topic: (_ROLES.index(topic.role), topic.name)))


def event_schema(name: str) -> dict[str, Any]:
    """Give the JSON Schema (draft 2020-12) of an event, such as ``window-opened``; the caller may change it.

    It refers to `vocabulary` and, for ``send-accepted``, to the schema of ``outbound``, by their ``$id``.

    Raises:
        KeyError: The contract has no event of this name.
    """
    schema: dict[str, Any] = json.loads(_event_schema_texts()[name])
    return schema


def event_names() -> tuple[str, ...]:
    """Give the names that `event_schema` knows, in alphabetical order."""
    return tuple(_event_schema_texts())


def good_example(event: str, name: str) -> dict[str, Any]:
    """Give a record that ``schemas/examples/`` has of an event; of an input with key, partition and timestamp."""
    example: dict[str, Any] = json.loads((_root() / "examples" / event / "good" / f"{name}.json").read_text("utf-8"))
    return example


def vocabulary() -> dict[str, Any]:
    """Give the schema that holds what events share; the caller may change it."""
    schema: dict[str, Any] = json.loads(_vocabulary_text())
    return schema


@cache
def closed_sets() -> Mapping[str, tuple[str, ...]]:
    """Give every closed set of words by its name, such as ``dead_letter_reason``.

    Where the contract asks for the first word that applies, the order is that of precedence.
    """
    definitions = vocabulary()["$defs"]
    return MappingProxyType({name: tuple(each["enum"]) for name, each in definitions.items() if "enum" in each})


@cache
def _event_schema_texts() -> Mapping[str, str]:
    files = sorted((_root() / "events").glob("*.schema.json"))
    return MappingProxyType({file.name.removesuffix(".schema.json"): file.read_text("utf-8") for file in files})


@cache
def _vocabulary_text() -> str:
    return (_root() / "vocabulary.schema.json").read_text("utf-8")


def _root() -> Path:
    """Find ``schemas/``: inside the package where it was installed, beside it in the repository."""
    package = Path(__file__).parent
    inside = package / "schemas"
    return inside if inside.is_dir() else package.parent / "schemas"
