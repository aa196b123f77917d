"""What a run said, held against what the model says: id by id, payload by payload, dead letter by dead letter.

The inputs are read back from their topics with the offsets and timestamps that the broker gave them, and the model is
told these.
"""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from aiokafka import ConsumerRecord

from tests.chaos.harness import INPUTS, OUTPUTS, Stage
from tests.model.policy import ModelPolicy
from tests.model.records import Record, TopicKind
from tests.model.straight_line import Result, run

FAULTS_SHOWN = 12


@dataclass
class Verdict:
    """What was found, and what is wrong with it."""

    records: int = 0
    outputs: int = 0
    windows: int = 0
    dead_letters: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.records} records, {self.outputs} outputs, {self.windows} windows, {self.dead_letters} dead letters,"
            f" {len(self.faults)} faults"
        )

    def check(self) -> None:
        """Fail, with the first faults, where there are any."""
        shown = "\n  ".join(self.faults[:FAULTS_SHOWN])
        assert not self.faults, f"{self}\n  {shown}"


async def judge(stage: Stage, policy: ModelPolicy | None = None) -> Verdict:
    """Read everything back and compare it, partition by partition."""
    names, partitions = stage.names, stage.settings.partitions
    found = await stage.records(*INPUTS.values(), *OUTPUTS, "window-state", "consent-state", "dead-letters")
    by_name: dict[int, dict[str, list[ConsumerRecord]]] = defaultdict(dict)
    plain = {topic: name for name, topic in names.items()}
    for tp, records in found.items():
        by_name[tp.partition][plain[tp.topic]] = records
    verdict = Verdict()
    for partition, topics in by_name.items():
        inbound, outbound = (
            [_record(kind, record) for record in topics[INPUTS[kind]]] for kind in ("inbound", "outbound")
        )
        expected = await asyncio.to_thread(run, inbound, outbound, policy or ModelPolicy(), partitions)
        _compare(stage, verdict, f"partition {partition}", topics, expected)
        verdict.records += len(inbound) + len(outbound)
    return verdict


def _record(kind: str, record: ConsumerRecord) -> Record:
    side: TopicKind = "inbound" if kind == "inbound" else "outbound"
    return Record(
        side, record.partition, record.offset, record.timestamp, record.key, record.value, tuple(record.headers)
    )


def _compare(
    stage: Stage, verdict: Verdict, where: str, topics: dict[str, list[ConsumerRecord]], expected: Result
) -> None:
    faults = [
        *_output_faults(f"/janela/{stage.settings.app_id}", topics, expected),
        *_sequence_faults(topics),
        *_state_faults("window-state", _folded(topics["window-state"]), expected.windows),
        *_state_faults("consent-state", _folded(topics["consent-state"]), expected.consents),
        *_dead_letter_faults(stage, topics, expected),
    ]
    verdict.faults += [f"{where}: {fault}" for fault in faults]
    verdict.outputs += sum(len(topics[name]) for name in OUTPUTS)
    verdict.windows += len(expected.windows)
    verdict.dead_letters += len(expected.dead_letters)


def _output_faults(source: str, topics: dict[str, list[ConsumerRecord]], expected: Result) -> Iterator[str]:
    found: list[tuple[str, tuple[str, str, str], dict[str, Any]]] = []
    for name in OUTPUTS:
        for record in topics[name]:
            event = json.loads(record.value)
            shell = event.pop("specversion"), event.pop("source"), event.pop("datacontenttype")
            if shell != ("1.0", source, "application/json") or not event["data"].pop("policy"):
                yield f"{name}, offset {record.offset}: an odd shell, {shell}"
            found.append((event.pop("sequence"), (name, event["id"], record.key.decode()), event))
    found.sort(key=lambda output: output[0])
    wanted = [((output.topic, output.id, output.key), output.event) for output in expected.outputs]
    counted, due = Counter(what for _, what, _ in found), Counter(what for what, _ in wanted)
    for what, number in (due - counted).items():
        yield f"missing {number} x {what}"
    for what, number in (counted - due).items():
        yield f"{'doubled' if what in due else 'unexpected'} {number} x {what}"
    if counted == due:
        for (_, what, event), (wanted_what, wanted_event) in zip(found, wanted, strict=True):
            if what != wanted_what:
                yield f"out of order: {what}, where {wanted_what} is due"
                return
            if event != wanted_event:
                yield f"wrong {what}: {event}, expected {wanted_event}"


def _sequence_faults(topics: dict[str, list[ConsumerRecord]]) -> Iterator[str]:
    """Look whether `sequence` grows strictly on each topic, and no number of the partition comes twice."""
    seen: set[str] = set()
    for name in (*OUTPUTS, "window-state"):
        last = ""
        for record in topics[name]:
            if record.value is None:
                continue
            number = json.loads(record.value)["sequence"]
            if len(number) != 20 or number <= last:
                yield f"{name}, offset {record.offset}: sequence {number} after {last}"
            if number in seen:
                yield f"{name}, offset {record.offset}: sequence {number} twice"
            seen.add(number)
            last = number


def _folded(records: Iterable[ConsumerRecord]) -> dict[str, Any]:
    """Keep the newest record of each key."""
    newest: dict[str, Any] = {}
    for record in records:
        newest.pop(record.key.decode(), None)
        if record.value is not None:
            state = json.loads(record.value)
            assert state.pop("v") == 1
            state.pop("sequence", None)
            newest[record.key.decode()] = state
    return newest


def _state_faults(name: str, found: dict[str, Any], expected: dict[str, Any]) -> Iterator[str]:
    for key in sorted(found.keys() | expected.keys()):
        if found.get(key) != expected.get(key):
            yield f"{name} of {key}: found {found.get(key)}, expected {expected.get(key)}"


def _dead_letter_faults(stage: Stage, topics: dict[str, list[ConsumerRecord]], expected: Result) -> Iterator[str]:
    sources = {(stage.names[name], record.offset): record for name in INPUTS.values() for record in topics[name]}
    found: Counter[tuple[str, int, str]] = Counter()
    plain = {topic: name for name, topic in stage.names.items()}
    for letter in topics["dead-letters"]:
        count = len(letter.headers) - 7
        headers = {name: content.decode() for name, content in letter.headers[count:]}
        topic, offset = headers["__dlq.topic"], int(headers["__dlq.offset"])
        found[plain[topic], offset, headers["__dlq.reason"]] += 1
        source = sources[topic, offset]
        if (letter.key, letter.value, letter.headers[:count]) != (source.key, source.value, source.headers):
            yield f"dead letter of {topic}, offset {offset}: not byte for byte"
        said = int(headers["__dlq.partition"]), int(headers["__dlq.timestamp"])
        if said != (source.partition, source.timestamp):
            yield f"dead letter of {topic}, offset {offset}: says {said}"
    due = Counter((letter.topic, letter.offset, letter.reason) for letter in expected.dead_letters)
    for what, number in (due - found).items():
        yield f"missing dead letter {number} x {what}"
    for what, number in (found - due).items():
        yield f"{'doubled' if what in due else 'unexpected'} dead letter {number} x {what}"
