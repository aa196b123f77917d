"""The contract is data: files are whole, good examples hold, bad ones fail for their stated reason."""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from typing import Any

import pytest
from aiokafka.partitioner import murmur2
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend
from referencing import Registry, Resource

from processor import contract
from processor.codec import outputs
from processor.core import events, sending
from tests.examples import (
    INPUTS,
    PARTITIONS,
    RECORD_BYTES_MAX,
    ROOT,
    InputExample,
    OutputExample,
    Verdict,
    input_examples,
    output_examples,
)

FUTURE_TOLERANCE_MS = 300_000
OUTPUTS = tuple(name for name in contract.event_names() if name not in INPUTS)
KAFKA_TOPIC_KEYS = {
    "cleanup.policy",
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.type",
    "compression.zstd.level",
    "delete.retention.ms",
    "file.delete.delay.ms",
    "flush.messages",
    "flush.ms",
    "follower.replication.throttled.replicas",
    "index.interval.bytes",
    "leader.replication.throttled.replicas",
    "local.retention.bytes",
    "local.retention.ms",
    "max.compaction.lag.ms",
    "max.message.bytes",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.type",
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "min.insync.replicas",
    "preallocate",
    "remote.log.copy.disable",
    "remote.log.delete.on.disable",
    "remote.storage.enable",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.index.bytes",
    "segment.jitter.ms",
    "segment.ms",
    "unclean.leader.election.enable",
}
"""Kafka 4.2's topic-level settings; the integration tests ask a real broker."""


def _inputs(verdict: Verdict) -> list[Any]:
    return [pytest.param(each, id=each.name) for name in INPUTS for each in input_examples(name, verdict)]


def _outputs(verdict: Verdict) -> list[Any]:
    return [pytest.param(each, id=each.name) for name in OUTPUTS for each in output_examples(name, verdict)]


def _pattern(_: Validator, pattern: str, text: object, __: object) -> Iterator[ValidationError]:
    """Match as ECMA-262 does, where `$` is the very end; Python's also matches before a last line break."""
    if isinstance(text, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), text):
        yield ValidationError(f"{text!r} does not match {pattern!r}")


_Strict: type[Validator] = extend(Draft202012Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call]


@cache
def validator(event: str) -> Validator:
    schemas = [contract.vocabulary(), *(contract.event_schema(name) for name in contract.event_names())]
    registry: Registry[Any] = Registry().with_resources(
        [(schema["$id"], Resource.from_contents(schema)) for schema in schemas]
    )
    return _Strict(contract.event_schema(event), registry=registry)


def failures(event: str, value: Any) -> set[tuple[str, str]]:
    """Give where and for which keyword the event's schema refuses the value."""
    return {
        ("".join(f"/{step}" for step in error.absolute_path), str(error.validator))
        for error in validator(event).iter_errors(value)
    }


def window_key(fields: dict[str, Any]) -> bytes:
    return f"{fields.get('channel') or 'whatsapp'}:{fields['business_id']}:{fields['contact_id']}".encode()


def partition(key: bytes) -> int:
    return int((murmur2(key) & 0x7FFFFFFF) % PARTITIONS)


def event_time_ms(time: str | int) -> int:
    if str(time).isdigit():
        return int(time) * (1000 if len(str(time)) == 10 else 1)
    moment = datetime.fromisoformat(str(time).upper())
    return int(moment.replace(microsecond=0).timestamp()) * 1000 + moment.microsecond // 1000


def parsed(value: bytes) -> Any:
    """Parse as RFC 8259 wants it: no NaN."""

    def refuse(constant: str) -> float:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(value.decode(), parse_constant=refuse)


def dead_letter_reason(record: InputExample) -> str | None:
    """Say what the contract says of a record, as plainly as it says it; None: it can be read."""
    size = sum(len(name) + len(text) for name, text in record.headers)
    if size + len(record.key or b"") + len(record.value or b"") > RECORD_BYTES_MAX:
        return "too-large"
    try:
        fields = parsed(record.value or b"")
    except (ValueError, RecursionError):
        return "not-json"
    if not isinstance(fields, dict):
        return "bad-field"
    found = failures(record.event, fields)
    if found:
        if "required" in {keyword for _, keyword in found}:
            return "missing-field"
        return "bad-time" if {path for path, _ in found} <= {"/time", "/send_time"} else "bad-field"
    return _misplacement(record, fields)


def _misplacement(record: InputExample, fields: dict[str, Any]) -> str | None:
    key = window_key(fields)
    if record.key != key:
        return "wrong-key"
    if record.partition != partition(key):
        return "wrong-partition"
    ahead_ms = event_time_ms(fields["time"]) - record.timestamp_ms
    return "future-time" if ahead_ms > FUTURE_TOLERANCE_MS and fields["type"] != "consent" else None


# -------------------------------------------------------------------------------------------------- examples


@pytest.mark.parametrize("example", _inputs("good"))
def test_a_good_input_can_be_read(example: InputExample) -> None:
    assert dead_letter_reason(example) is None


@pytest.mark.parametrize("example", _inputs("good"))
def test_a_good_input_has_its_time_in_milliseconds_and_never_after_its_record(example: InputExample) -> None:
    fields = json.loads(example.value or b"")
    assert example.event_time_ms == min(event_time_ms(fields["time"]), example.timestamp_ms)


@pytest.mark.parametrize("example", _inputs("bad"))
def test_a_bad_input_becomes_a_dead_letter_for_its_stated_reason(example: InputExample) -> None:
    assert example.why
    assert example.reason in contract.closed_sets()["dead_letter_reason"]
    if example.beyond_schema:  # the codec's own tests have it
        assert failures(example.event, parsed(example.value or b"")) == set()
    else:
        assert dead_letter_reason(example) == example.reason


@pytest.mark.parametrize("example", [*_inputs("good"), *_inputs("bad")])
def test_an_input_is_on_its_topic_and_unless_it_shows_the_contrary_on_its_keys_partition(
    example: InputExample,
) -> None:
    assert example.topic == f"messages.{example.event}"
    if example.key is not None and "partition" not in example.name:
        assert example.partition == partition(example.key)


@pytest.mark.parametrize("example", _outputs("good"))
def test_a_good_output_holds_to_its_schema(example: OutputExample) -> None:
    assert failures(example.event, example.value) == set()


@pytest.mark.parametrize("example", _outputs("bad"))
def test_a_bad_output_fails_where_it_says_and_for_nothing_else(example: OutputExample) -> None:
    assert example.why
    assert failures(example.event, example.value) == {(example.path, example.keyword)}


@pytest.mark.parametrize("example", _outputs("good"))
def test_a_good_output_names_one_window_throughout(example: OutputExample) -> None:
    if "subject" in example.value:
        key = window_key(example.value["data"]).decode()
        assert example.value["subject"] == key
        assert example.value["id"].startswith(key)


def test_every_type_of_the_contract_has_a_good_example() -> None:
    shown = {
        event: {json.loads(each.value or b"")["type"] for each in input_examples(event, "good")} for event in INPUTS
    }
    for name, words in contract.closed_sets().items():
        if name.endswith("_type"):
            assert set(words) <= shown[name.split("_")[0]], name
    assert {"consent"} <= shown["inbound"]
    assert {"template", "echo"} <= shown["outbound"]


def test_every_dead_letter_reason_has_bad_examples_on_both_topics() -> None:
    for event in INPUTS:
        reasons = {each.reason for each in input_examples(event, "bad")}
        assert reasons == set(contract.closed_sets()["dead_letter_reason"])


def test_every_reason_of_an_output_has_a_good_example() -> None:
    def reasons(event: str) -> set[str]:
        return {each.value["data"]["reason"] for each in output_examples(event, "good")}

    sets = contract.closed_sets()
    assert reasons("send-rejected") == set(sets["rejection_reason"])
    assert reasons("send-accepted") == {*sets["accepted_reason"], None}
    assert reasons("window-closed") == set(sets["close_reason"])


def test_the_examples_hold_invented_numbers_only() -> None:
    for file in ROOT.rglob("*.json"):
        for number in re.findall(r"(?<!\d)55\d{10,11}(?!\d)", file.read_text("utf-8")):
            assert number.startswith(("55119000", "5511000")), f"{file.name}: {number}"


# --------------------------------------------------------------------------------------------------- schemas


@pytest.mark.parametrize("name", contract.event_names())
def test_a_schema_is_one_and_says_what_it_is_of(name: str) -> None:
    schema = contract.event_schema(name)
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == contract.vocabulary()["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    assert schema["$id"].endswith(f"/events/{name}.schema.json")
    assert schema["title"]
    assert schema["description"]


def test_the_vocabulary_is_a_schema_and_every_word_of_it_is_explained() -> None:
    vocabulary = contract.vocabulary()
    Draft202012Validator.check_schema(vocabulary)
    for name, definition in vocabulary["$defs"].items():
        assert definition.get("description") or name == "id", name


def test_every_event_is_the_value_of_a_topic() -> None:
    assert {topic.value.schema for topic in contract.topics()} == set(contract.event_names())


def test_a_schema_that_the_caller_changes_is_whole_again_the_next_time() -> None:
    contract.event_schema("inbound").clear()
    assert contract.event_schema("inbound")


def test_an_event_that_the_contract_has_not_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="window-moved"):
        contract.event_schema("window-moved")


def test_a_line_break_at_the_end_is_no_match() -> None:
    """The guard of `_pattern`: with Python's own `$` these would pass."""
    assert failures("dead-letter", {"__dlq.offset": "1\n"}) >= {("/__dlq.offset", "pattern")}


# ---------------------------------------------------------------------------------------------------- topics


def test_the_topics_are_those_of_the_contract_inputs_first() -> None:
    assert [topic.name for topic in contract.topics()] == [
        *("messages.inbound", "messages.outbound"),
        *("send-accepted", "send-rejected", "window-closed", "window-expiring", "window-opened"),
        *("consent-state", "window-state"),
        "dead-letters",
    ]


@pytest.mark.parametrize("topic", contract.topics(), ids=lambda topic: topic.name)
def test_a_topic_is_described_in_full(topic: contract.TopicSpecification) -> None:
    assert (ROOT.parent / "topics" / f"{topic.name}.json").is_file()
    sentences = (topic.description, topic.key, topic.cleanup, topic.value.description, topic.replication.note)
    assert all(sentence.endswith(".") for sentence in sentences)
    assert topic.producers
    assert topic.consumers
    assert topic.replication.factor == 3
    assert (topic.value.content_type == "application/cloudevents+json") == (topic.role == "output")


@pytest.mark.parametrize("topic", contract.topics(), ids=lambda topic: topic.name)
def test_a_topics_configuration_holds_only_what_kafka_knows(topic: contract.TopicSpecification) -> None:
    assert set(topic.configuration) <= KAFKA_TOPIC_KEYS
    assert topic.configuration["min.insync.replicas"] == "2"
    assert topic.configuration["unclean.leader.election.enable"] == "false"


def test_topics_are_co_partitioned_by_default() -> None:
    assert {topic.partitions for topic in contract.topics()} == {PARTITIONS}


def test_retention_and_compaction_are_the_contracts() -> None:
    day_ms = 86_400_000
    for topic in contract.topics():
        wanted = {"cleanup.policy": "delete", "retention.ms": str(7 * day_ms)}
        if topic.role == "state":
            wanted = {
                "cleanup.policy": "compact",
                "max.compaction.lag.ms": str(day_ms),
                "delete.retention.ms": str(7 * day_ms),
            }
        if topic.role == "dead-letter":
            wanted["retention.ms"] = str(14 * day_ms)
        assert wanted.items() <= topic.configuration.items(), topic.name
        is_stamped_by_the_broker = topic.configuration.get("message.timestamp.type") == "LogAppendTime"
        assert is_stamped_by_the_broker == (topic.role == "input")


def test_a_specification_can_not_be_changed() -> None:
    topic = contract.topics()[0]
    with pytest.raises(AttributeError):
        topic.partitions = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        topic.configuration["retention.ms"] = "1"  # type: ignore[index]


# ----------------------------------------------------------------------------- the code is held to the words


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (events.OPENING_TYPES, "inbound_opening_type"),
        (events.SILENT_INBOUND_TYPES, "inbound_silent_type"),
        (events.MISPLACED_INBOUND_TYPES, "inbound_misplaced_type"),
        (events.FREE_FORM_TYPES, "outbound_free_form_type"),
        (events.SILENT_OUTBOUND_TYPES, "outbound_silent_type"),
        (events.MISPLACED_OUTBOUND_TYPES, "outbound_misplaced_type"),
    ],
)
def test_the_core_knows_the_types_of_the_contract(words: frozenset[str], name: str) -> None:
    assert words == set(contract.closed_sets()[name])


def test_the_core_refuses_in_the_contracts_order_with_its_codes_and_remedies() -> None:
    assert tuple(sending.REFUSALS) == contract.closed_sets()["rejection_reason"]
    rejected = next(each.value for each in output_examples("send-rejected", "good") if each.name.endswith("/opt-out"))
    for reason, (provider_code, remedy) in sending.REFUSALS.items():
        judged = {"reason": reason, "provider_code": provider_code, "remedy": remedy}
        paths = {path for path, _ in failures("send-rejected", rejected | {"data": rejected["data"] | judged})}
        assert not paths & {"/data/reason", "/data/provider_code", "/data/remedy"}, reason


def test_the_codec_writes_to_the_output_topics() -> None:
    assert set(outputs.TOPICS.values()) == {topic.name for topic in contract.topics() if topic.role == "output"}
