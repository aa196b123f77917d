"""The page of the contract, made from ``schemas/``: each topic, each field of its records, and an example."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from processor import contract
from processor.contract import TopicSpecification

_PAGE: Final = """\
# The contract, topic by topic

What goes through Kafka. The files in [schemas/](../schemas/README.md) are the contract itself, for programs to read;
this page is made from them by `make docs`. How a version may change stands
[there](../schemas/README.md#how-to-change-it), what the words mean in [concepts.md](concepts.md). Names are without the
prefix (`JANELA_TOPIC_PREFIX`). Every consumer reads with `isolation.level=read_committed`, and every producer of inputs
sets `acks=all`, `enable.idempotence=true` and, where it builds on librdkafka, `partitioner=murmur2_random`.

"""

_EXAMPLES: Final = {
    "messages.inbound": "text",
    "messages.outbound": "text-request",
    "window-opened": "by-text",
    "window-expiring": "two-hours-before",
    "window-closed": "expired",
    "send-accepted": "window-open",
    "send-rejected": "window-closed",
    "window-state": "open",
    "consent-state": "marketing-granted",
    "dead-letters": "bad-time",
}
"""Topic -> the good example that is shown of it."""

_SHARED: Final = {"input": "What both inputs have", "cloudevent": "What every output has"}
_ROLES: Final = {
    "input": "The processor reads it.",
    "output": "The processor writes it.",
    "state": "The processor writes it, and reads it back when it takes partitions over.",
    "dead-letter": "The processor writes it.",
}
_JSON: Final = "```json\n{}\n```\n"

Schema = Mapping[str, Any]


class Field(NamedTuple):
    """A field as the page shows it; `path` has dots for objects in objects, `of` is who alone has it, empty for all."""

    path: str
    of: str
    type: str
    needed: str
    meaning: str


def contract_page() -> str:
    """Write the topics in the order of their roles, then the shapes and the closed sets that they share."""
    definitions = contract.vocabulary()["$defs"]
    parts = [_PAGE, _overview()]
    for name, title in _SHARED.items():
        parts.append(f"\n## {title}\n\n{definitions[name]['description']}\n\n{_table(_fields(definitions[name]))}")
    parts += [_section(topic) for topic in contract.topics()]
    parts.append("\n## Shapes and words\n\nWhat the tables above link to.\n")
    parts += [_word(name, each) for name, each in sorted(definitions.items()) if name not in _SHARED]
    return "".join(parts)


def _overview() -> str:
    rows = (
        f"| [{topic.name}](#{_anchor(topic.name)}) | {', '.join(topic.producers)} | {', '.join(topic.consumers)} |"
        f" {topic.description} |\n"
        for topic in contract.topics()
    )
    return "| topic | written by | read by | what is in it |\n|---|---|---|---|\n" + "".join(rows)


def _section(topic: TopicSpecification) -> str:
    schema = contract.event_schema(topic.value.schema)
    schema = _inlined(schema, schema.get("$defs", {}))
    configuration = "<br>".join(f"`{key}={value}`" for key, value in topic.configuration.items())
    facts = {
        "written by": ", ".join(topic.producers),
        "read by": ", ".join(topic.consumers),
        "key": topic.key,
        "value": topic.value.description,
        "header `content-type`": f"`{topic.value.content_type}`" if topic.value.content_type else "none",
        "partitions": f"{topic.partitions}, or as many as `JANELA_PARTITIONS` says, the same for all topics",
        "cleanup": topic.cleanup,
        "configuration": configuration,
        "copies": f"{topic.replication.factor}. {topic.replication.note}",
    }
    table = "| | |\n|---|---|\n" + "".join(f"| {name} | {words} |\n" for name, words in facts.items())
    example = json.dumps(_example(topic), indent=2, ensure_ascii=False)
    return (
        f"\n## {topic.name}\n\n{topic.description} {_ROLES[topic.role]}\n\n{table}\n"
        f"**{schema['title']}.** {schema['description']}{_also(schema)}\n\n"
        f"{_table(_fields(schema))}\n{_JSON.format(example)}"
    )


def _example(topic: TopicSpecification) -> Any:
    """Give the value of a record; of an input, what is written in it as text."""
    example = contract.good_example(topic.value.schema, _EXAMPLES[topic.name])
    return json.loads(example["value"]) if topic.role == "input" else example


def _also(schema: Schema) -> str:
    """Say which of the shared tables holds for this one too."""
    shared = {_name(part) for part in schema.get("allOf", ())} & _SHARED.keys()
    return "".join(f" Beside these: [{_SHARED[name].lower()}](#{_anchor(_SHARED[name])})." for name in sorted(shared))


def _word(name: str, schema: Schema) -> str:
    allowed = f" `{schema['pattern']}`." if "pattern" in schema else ""
    example = "".join(f" Such as `{json.dumps(each)}`." for each in schema.get("examples", ())[:1])
    fields = f"\n{_table(_fields(schema))}" if schema.get("properties") else ""
    return f"\n### {name}\n\n{schema['description']} {_capital(_of(schema))}.{allowed}{example}\n{fields}"


def _table(fields: Iterator[Field]) -> str:
    shown = list(fields)
    of = "of |" if any(it.of for it in shown) else ""
    head = f"| field |{of and f' {of}'} type | required | meaning |\n|---|{of and '---|'}---|---|---|\n"
    return head + "".join(
        f"| `{it.path}` |{of and f' {it.of} |'} {it.type} | {it.needed} | {it.meaning} |\n" for it in shown
    )


def _fields(schema: Schema, prefix: str = "", of: str = "") -> Iterator[Field]:
    """Give each field of an object, then those of the objects in it, and those that one type alone has."""
    required = schema.get("required", ())
    for name, given in schema.get("properties", {}).items():
        whole = _resolved(given)
        needed = "yes" if name in required else "no"
        if name in schema.get("else", {}).get("required", ()):
            needed = f"yes, but for type `{schema['if']['properties']['type']['const']}`"
        if prefix or name != "data":  # which holds nothing but fields
            yield Field(prefix + name, of, _type(given), needed, _meaning(given))
        if not _name(given):
            yield from _fields(whole, f"{prefix}{name}.")
    for part in schema.get("allOf", ()):
        if _name(part) and _name(part) not in _SHARED:
            yield from _fields(_resolved(part), prefix)
        types = part.get("if", {}).get("properties", {}).get("type", {})
        if "const" in types:
            yield from _fields(part["then"], prefix, f"type `{types['const']}`")
        elif "else" in part:
            yield from _fields(part["else"], prefix, "sends")


def _meaning(given: Schema) -> str:
    """Say what a field is for; of a shape that has a link, the first sentence will do."""
    default = f" Where it is absent: `{given['default']}`." if "default" in given else ""
    examples = ", ".join(f"`{json.dumps(each)}`" for each in given.get("examples", ()))
    shown = f" Such as {examples}." if examples else ""
    shape = _resolved(given).get("description", "").partition(". ")[0].removesuffix(".")
    return (given.get("description") or (shape and f"{shape}.")) + default + shown


def _type(given: Schema) -> str:
    """Name the shape by a link where the vocabulary has it, else say what JSON it is."""
    choices = given.get("anyOf") or [given]
    return " or ".join(f"[{_name(each)}](#{_anchor(_name(each))})" if _name(each) else _of(each) for each in choices)


def _of(schema: Schema) -> str:
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return "one of " + ", ".join(f"`{word}`" for word in schema["enum"])
    types = schema.get("type", "object" if "allOf" in schema else "any")
    words = [types] if isinstance(types, str) else list(types)
    linked = schema.get("then", {}).get("$ref", "")
    if linked and "string" in words:
        name = linked.rpartition("/")[2]
        words[words.index("string")] = f"[{name}](#{_anchor(name)})"
    least = f", {schema['minimum']} or more" if "minimum" in schema else ""
    return " or ".join(words) + least


def _name(given: Schema) -> str:
    """Give the name that a reference has in the vocabulary; empty where it is none of those."""
    reference = str(given.get("$ref", ""))
    return reference.rpartition("/")[2] if "vocabulary" in reference or reference.startswith("#/$defs/") else ""


def _resolved(given: Schema) -> Schema:
    """Follow a reference into the vocabulary; what is said beside it stands over what it says."""
    if not (name := _name(given)):
        nested = next((each for each in given.get("anyOf", ()) if _name(each)), None)
        return {**_resolved(nested), **given} if nested else given
    return {**contract.vocabulary()["$defs"].get(name, {}), **given}


def _inlined(schema: Any, definitions: Schema) -> Any:
    """Put a schema's own definitions where it refers to them."""
    if isinstance(schema, list):
        return [_inlined(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    local = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    if local in definitions:
        schema = {**definitions[local], **{name: each for name, each in schema.items() if name != "$ref"}}
    return {name: _inlined(each, definitions) for name, each in schema.items() if name != "$defs"}


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _anchor(title: str) -> str:
    """Give the anchor that a forge makes of a heading."""
    return "".join(each for each in title.lower().replace(" ", "-") if each.isalnum() or each in "-_")
