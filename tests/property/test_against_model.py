"""The engine against the model: random traffic through codec and core, and through the straight line.

Outputs must be equal one by one and in order, dead letters with their reasons, and what is known in the end. Then the
same traffic again, in rounds of any size, with the state lost and read back from its records at any point, and with
every message told twice: nothing of it may change anything.
"""

import json
import os
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiokafka import TopicPartition
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from processor.audit.model import Result, run
from processor.audit.policy import ModelPolicy
from processor.audit.reading import model_policy
from processor.audit.records import Event, Record, read
from processor.codec.inputs import DeadLetter, InputDecoder
from processor.codec.outputs import TOPICS, OutputEncoder
from processor.codec.state import decode_consents, decode_window, encode_consents, encode_window
from processor.core import partition as partition_module
from processor.core.decisions import Effects
from processor.core.partition import Partition
from processor.core.policy import Policy
from processor.stream.merge import BadRecord, InputBuffer, merge
from tests.examples import INPUTS, RECORD_BYTES_MAX, InputExample, input_examples
from tests.examples import PARTITIONS as PARTITIONS_OF_EXAMPLES
from tests.property.traffic import (
    PARTITION,
    PARTITIONS,
    Traffic,
    boundaries,
    choose_policy,
    choose_step,
)

SEEDS = int(os.environ.get("TEST_SEEDS", "300"))
SEEDS_AT_ONCE = 50
EVENTS = 400
ALL = 1 << 30
BYTES_MAX = 4096  # small, so that a record that is too large is cheap; the plain road is taken below 3,584

Outputs = list[tuple[str, dict[str, Any]]]


@dataclass
class Outcome:
    """What came of the traffic: the same things that the model tells."""

    outputs: Outputs = field(default_factory=list)
    windows: dict[str, dict[str, Any]] = field(default_factory=dict)
    consents: dict[str, dict[str, Any]] = field(default_factory=dict)
    dead_letters: list[tuple[str, int, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    clock_ms: int = 0
    rounds: int = 0


class Worker:
    """The owner's work without Kafka: decode, merge, apply, encode, and keep the state records as a log would."""

    def __init__(self, policy: Policy, key_check: bool) -> None:
        self._policy, self._key_check = policy, key_check
        self._encoder = OutputEncoder("janela", policy.version)
        self._sequence = 0
        self._window_records: dict[bytes, bytes] = {}
        self._consent_records: dict[bytes, bytes] = {}
        self._core = Partition(policy)
        self.outcome = Outcome()

    def run(self, traffic: Traffic, limits: list[int], restarts: set[int]) -> Outcome:
        """Work off both topics; a round takes as many events as `limits` says in turn, and some end in a restart."""
        buffers = (
            self._filled("inbound", traffic.inbound),
            self._filled("outbound", traffic.outbound),
        )
        while any(buffer.events or buffer.bad for buffer in buffers):
            effects = Effects()
            limit = limits[self.outcome.rounds % len(limits)]
            events, sides = merge(*buffers, (True, True), limit)
            applied = self._core.apply(events, effects)
            self.outcome.counts["applied"] += applied
            for side, buffer in enumerate(buffers):
                for bad in buffer.drop_first(sides.count(side, 0, applied)):
                    record: Record = bad.record
                    self.outcome.dead_letters.append((record.topic_kind, record.offset, bad.letter.reason))
            self._write(effects)
            if self.outcome.rounds in restarts:
                self._restart()
            self.outcome.rounds += 1
        self._tell_state()
        return self.outcome

    def _filled(self, kind: str, records: list[Record]) -> InputBuffer:
        decoder = InputDecoder(PARTITION, PARTITIONS, self._core.windows, BYTES_MAX, self._key_check)
        decode = decoder.inbound if kind == "inbound" else decoder.outbound
        tp = TopicPartition(f"messages.{kind}", PARTITION)
        buffer = InputBuffer(tp, 0)
        for record in records:
            event = decode(record.key, record.value, record.timestamp_ms)
            if isinstance(event, DeadLetter):
                a_record: Any = record  # the model's; the merge asks for its offset only
                buffer.bad.append(BadRecord(tp, a_record, event))
            else:
                buffer.events.append(event)
                buffer.offsets.append(record.offset)
        buffer.taken = len(records)
        return buffer

    def _write(self, effects: Effects) -> None:
        for decision in effects.outputs:
            self._sequence += 1
            event = json.loads(self._encoder.encode(decision, self._sequence))
            assert event.pop("sequence") == f"{self._sequence:020d}"
            assert event.pop("specversion") == "1.0"
            assert event.pop("source") == "/janela/janela"
            assert event.pop("datacontenttype") == "application/json"
            assert event["data"].pop("policy") == self._policy.version
            self.outcome.outputs.append((TOPICS[type(decision)], event))
        for key in effects.windows:
            window = self._core.windows.get(key)
            if window is None:
                self._window_records.pop(key, None)
            else:
                self._window_records[key] = encode_window(window, self._sequence)
        for key in effects.consents:
            self._consent_records[key] = encode_consents(self._core.consents[key])

    def _restart(self) -> None:
        """Lose the state, and read back what is committed."""
        before = self._core
        self.outcome.counts += before.counts
        self._core = Partition(self._policy)
        self._core.restore(
            before.clock_ms,
            [(key, decode_window(value)) for key, value in self._window_records.items()],
            [(key, decode_consents(value)) for key, value in self._consent_records.items()],
        )
        assert dict(self._core.windows) == dict(before.windows)
        assert self._core.consents == before.consents

    def _tell_state(self) -> None:
        for key, value in self._window_records.items():
            record = json.loads(value)
            del record["v"], record["sequence"]
            self.outcome.windows[key.decode()] = record
        for key, value in self._consent_records.items():
            registers = json.loads(value)
            self.outcome.consents[key.decode()] = {scope: registers[scope] for scope in ("marketing", "all")}
        assert {key.decode() for key in self._core.windows} == self.outcome.windows.keys()
        self.outcome.counts += self._core.counts
        self.outcome.clock_ms = self._core.clock_ms


def worked(
    traffic: Traffic,
    policy: Policy,
    key_check: bool,
    limits: tuple[int, ...] = (ALL,),
    restarts: set[int] | None = None,
) -> Outcome:
    return Worker(policy, key_check).run(traffic, list(limits), restarts or set())


def modelled(traffic: Traffic, policy: Policy, key_check: bool) -> Result:
    told = model_policy(policy, BYTES_MAX, key_check)
    return run(traffic.inbound, traffic.outbound, told, PARTITIONS)


def check_against_model(outcome: Outcome, result: Result) -> None:
    """Compare all that can be seen."""
    expected: Outputs = [(output.topic, output.event) for output in result.outputs]
    for number, (ours, theirs) in enumerate(zip(outcome.outputs, expected, strict=False)):
        assert ours == theirs, f"output {number}"
    assert len(outcome.outputs) == len(expected)
    assert outcome.windows == result.windows
    assert outcome.consents == result.consents
    letters = sorted(
        (letter.topic.removeprefix("messages."), letter.offset, letter.reason) for letter in result.dead_letters
    )
    assert sorted(outcome.dead_letters) == letters
    assert outcome.clock_ms == (result.clock_ms or 0)
    counts = outcome.counts
    assert (counts["applied"], counts["late"], counts["misplaced"], counts["unknown-type"]) == (
        result.counts.applied,
        result.counts.late,
        result.counts.misplaced,
        result.counts.unknown,
    )
    assert counts["silent"] <= result.counts.without_effect


def check_unchanged(outcome: Outcome, other: Outcome) -> None:
    """Compare with another way to the same end."""
    assert other.outputs == outcome.outputs
    assert (other.windows, other.consents) == (outcome.windows, outcome.consents)
    assert sorted(other.dead_letters) == sorted(outcome.dead_letters)
    assert (other.clock_ms, other.counts) == (outcome.clock_ms, outcome.counts)


def with_messages_told_twice(traffic: Traffic, numbers: random.Random) -> Traffic:
    """Put each record of the customer's side on its topic a second time, at any later place."""
    topic: list[Record] = []
    again: list[tuple[int, Record]] = []
    for place, record in enumerate(traffic.inbound):
        topic.append(record)
        again.append((place + int(numbers.expovariate(0.1)), record))
        due, again = [each for each in again if each[0] <= place], [each for each in again if each[0] > place]
        topic += [record for _, record in due]
    topic += [record for _, record in again]
    doubled = Traffic(BYTES_MAX)
    doubled.inbound = [record._replace(offset=offset) for offset, record in enumerate(topic)]
    doubled.outbound = traffic.outbound
    return doubled


# ----------------------------------------------------------------------------------------------------------- many seeds


@pytest.mark.parametrize("first_seed", range(0, SEEDS, SEEDS_AT_ONCE))
def test_the_engine_equals_the_model_on_random_traffic_however_it_is_cut(
    first_seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W1 W2 W3 W4 W5 W6 W7 W8 W9 W10 W11 W13a S1 S2 S3 S4 S5 S7 S8 E1 E1a E2 E3"""
    seen: Counter[str] = Counter()
    for seed in range(first_seed, first_seed + SEEDS_AT_ONCE):
        numbers = random.Random(seed)
        policy, key_check = choose_policy(numbers.choice), numbers.random() < 0.8
        edges, traffic = boundaries(policy), Traffic(BYTES_MAX)
        for _ in range(EVENTS):
            traffic.add(choose_step(numbers.choice, edges))

        straight = worked(traffic, policy, key_check)
        result = modelled(traffic, policy, key_check)
        try:
            check_against_model(straight, result)

            limits = tuple(numbers.choice([1, 2, 3, 10, 50, 200]) for _ in range(5))
            monkeypatch.setattr(partition_module, "OUTPUTS_MAX", numbers.choice([1, 2, 5, 20_000]))
            restarts = {number for number in range(10 * EVENTS) if numbers.random() < 0.1}
            check_unchanged(straight, worked(traffic, policy, key_check, limits, restarts))
            monkeypatch.undo()

            doubled = worked(with_messages_told_twice(traffic, numbers), policy, key_check)
            assert doubled.outputs == straight.outputs
            assert (doubled.windows, doubled.consents) == (straight.windows, straight.consents)
            assert doubled.clock_ms == straight.clock_ms
        except AssertionError as error:
            error.add_note(f"seed {seed}, {policy}, key check {key_check}")
            raise
        seen.update(topic for topic, _ in straight.outputs)
        seen.update(event["data"].get("reason") or "no reason" for _, event in straight.outputs)
        seen.update(reason for _, _, reason in straight.dead_letters)
        seen.update(straight.counts)
    assert min(seen.values()) >= 5, seen  # the traffic is worth its name
    assert len(seen) == 28, seen


# ---------------------------------------------------------------- hypothesis: less traffic, and the smallest that fails


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Policy, Traffic, list[int], set[int]]:
    def choose(things: Any) -> Any:
        return draw(st.sampled_from(things))

    policy = choose_policy(choose)
    edges, traffic = boundaries(policy), Traffic(BYTES_MAX)

    @st.composite
    def steps(draw_step: st.DrawFn) -> Any:
        return choose_step(lambda things: draw_step(st.sampled_from(things)), edges)

    for step in draw(st.lists(steps(), max_size=25)):
        traffic.add(step)
    limits = draw(st.lists(st.integers(1, 10), min_size=1, max_size=3))
    return policy, traffic, limits, draw(st.sets(st.integers(0, 30), max_size=5))


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(scenes())
def test_the_engine_equals_the_model_on_the_smallest_traffic_that_could_fail(
    scene: tuple[Policy, Traffic, list[int], set[int]],
) -> None:
    """W2 W3 W4 W9 W10 W11 S1 S8 E1 E1a"""
    policy, traffic, limits, restarts = scene
    straight = worked(traffic, policy, key_check=True)
    check_against_model(straight, modelled(traffic, policy, key_check=True))
    check_unchanged(straight, worked(traffic, policy, True, tuple(limits), restarts))


# ------------------------------------------------------------------------------------ both read the contract's examples


@pytest.mark.parametrize(
    "example",
    [each for name in INPUTS for verdict in ("good", "bad") for each in input_examples(name, verdict)],
    ids=lambda each: each.name,
)
def test_the_model_reads_the_contracts_examples_too(example: InputExample) -> None:
    """The referee is held to the contract as the codec is."""
    kind: Any = example.event
    record = Record(kind, example.partition, 0, example.timestamp_ms, example.key, example.value, example.headers)
    found = read(record, ModelPolicy(record_bytes_max=RECORD_BYTES_MAX), PARTITIONS_OF_EXAMPLES)
    if isinstance(found, Event):
        assert (None, found.at_ms) == (example.reason, example.event_time_ms)
    else:
        assert found == example.reason
