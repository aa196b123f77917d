"""What the workers wrote, held against the independent model. Shares no code with the core."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from aiokafka import TopicPartition

from tests.model.policy import ModelPolicy
from tests.model.records import Record, TopicKind
from tests.model.straight_line import Result, run
from tests.sim.cluster import Cluster

OUTPUTS = ("window-opened", "window-expiring", "window-closed", "send-accepted", "send-rejected")
_SIDES: tuple[tuple[str, TopicKind], ...] = (("messages.inbound", "inbound"), ("messages.outbound", "outbound"))


def audit(cluster: Cluster) -> list[str]:
    """Give all that is wrong, a line each."""
    return [
        f"partition {partition}: {fault}"
        for partition in range(cluster.partitions)
        for fault in _partition_faults(cluster, partition)
    ]


def _partition_faults(cluster: Cluster, partition: int) -> Iterator[str]:
    inbound, outbound = (
        [
            Record(side, partition, each.offset, each.timestamp, each.key, each.value, tuple(each.headers))
            for each in cluster.logs[TopicPartition(topic, partition)].committed()
        ]
        for topic, side in _SIDES
    )
    expected = run(inbound, outbound, ModelPolicy(), cluster.partitions)
    written = {
        name: cluster.logs[TopicPartition(name, partition)].committed()
        for name in (*OUTPUTS, "window-state", "consent-state", "dead-letters")
    }
    yield from _output_faults(written, expected)
    yield from _state_faults("window-state", written["window-state"], expected.windows)
    yield from _state_faults("consent-state", written["consent-state"], expected.consents)
    sources = {("messages." + each.topic_kind, each.offset): each for each in (*inbound, *outbound)}
    yield from _dead_letter_faults(written["dead-letters"], sources, expected)


def _output_faults(written: dict[str, list[Any]], expected: Result) -> Iterator[str]:
    found = []
    for name in OUTPUTS:
        last = ""
        for record in written[name]:
            event = json.loads(record.value)
            del event["specversion"], event["source"], event["data"]["policy"]
            sequence = event.pop("sequence")
            if sequence <= last:
                yield f"{name}, offset {record.offset}: sequence {sequence} after {last}"
            last = sequence
            found.append((sequence, (name, event["id"], record.key.decode()), event))
    found.sort(key=lambda output: output[0])
    due = [((each.topic, each.id, each.key), each.event) for each in expected.outputs]
    told, wanted = Counter(what for _, what, _ in found), Counter(what for what, _ in due)
    for what, number in (wanted - told).items():
        yield f"missing {number} x {what}"
    for what, number in (told - wanted).items():
        yield f"{'doubled' if what in wanted else 'unexpected'} {number} x {what}"
    if told == wanted:
        for (_, what, event), (wanted_what, wanted_event) in zip(found, due, strict=True):
            if what != wanted_what:
                yield f"out of order: {what}, where {wanted_what} is due"
                return
            if event != {**wanted_event, "datacontenttype": "application/json"}:
                yield f"wrong {what}: {event}, expected {wanted_event}"


def _state_faults(name: str, records: list[Any], expected: dict[str, Any]) -> Iterator[str]:
    newest: dict[str, Any] = {}
    for record in records:
        newest[record.key.decode()] = state = json.loads(record.value) if record.value is not None else None
        if state is not None:
            del state["v"]
            state.pop("sequence", None)
    for key in sorted(newest.keys() | expected.keys()):
        if newest.get(key) != expected.get(key):
            yield f"{name} of {key}: found {newest.get(key)}, expected {expected.get(key)}"


def _dead_letter_faults(letters: list[Any], sources: dict[Any, Record], expected: Result) -> Iterator[str]:
    told: Counter[tuple[str, int, str]] = Counter()
    for letter in letters:
        said = {name: text.decode() for name, text in letter.headers[-7:]}
        topic, offset = said["__dlq.topic"], int(said["__dlq.offset"])
        told[topic, offset, said["__dlq.reason"]] += 1
        source = sources[topic, offset]
        if (letter.key, letter.value, tuple(letter.headers[:-7])) != (source.key, source.value, source.headers):
            yield f"dead letter of {topic}, offset {offset}: not byte for byte"
    due = Counter((letter.topic, letter.offset, letter.reason) for letter in expected.dead_letters)
    for what, number in (due - told).items():
        yield f"missing dead letter {number} x {what}"
    for what, number in (told - due).items():
        yield f"{'doubled' if what in due else 'unexpected'} dead letter {number} x {what}"
