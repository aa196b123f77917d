"""What a job must have said, by the model of `janela verify`, and what an engine has said.

Compared is what every engine can say alike: topic, id, contact and time. The contract's ids are functions of what
happened (`…@{opened_at}/expiring/{expires_at}/…`), so equal ids are equal facts.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Self

import msgspec
from aiokafka import ConsumerRecord, TopicPartition

from processor.audit.model import run
from processor.audit.reading import model_policy
from processor.audit.records import Record
from processor.settings import Settings
from tests.chaos.backlog import Wanted

OUTPUTS: Final = ("window-opened", "window-expiring", "window-closed", "send-rejected")
EXAMPLES_MAX: Final = 3


class Said(NamedTuple):
    """One output."""

    topic: str
    id: str
    key: str
    time: str


class _Event(msgspec.Struct):
    id: str
    time: str


_decode: Final = msgspec.json.Decoder(_Event).decode


class Outcome(NamedTuple):
    """How an engine's outputs differ from those that are due."""

    due: int
    lost: Counter[Said]
    """Due, and not there."""
    doubled: Counter[Said]
    """There once more than is right, or more often, be it due or not."""
    unexpected: Counter[Said]
    """There, and due at no time; once each."""

    @classmethod
    def of(cls, due: Counter[Said], said: Counter[Said]) -> Self:
        """Compare."""
        unexpected = Counter(said.keys() - due.keys())
        return cls(due.total(), lost=due - said, doubled=said - due - unexpected, unexpected=unexpected)

    @property
    def is_right(self) -> bool:
        """Whether everything was said once, and nothing else."""
        return not (self.lost or self.doubled or self.unexpected)

    def __str__(self) -> str:
        if self.is_right:
            return f"all {self.due:,}"
        kinds = {"lost": self.lost, "doubled": self.doubled, "unexpected": self.unexpected}
        return ", ".join(f"{found.total():,} {kind}" for kind, found in kinds.items() if found) + f" of {self.due:,}"

    def examples(self) -> list[str]:
        """Give a few of each kind."""
        kinds = {"lost": self.lost, "doubled": self.doubled, "unexpected": self.unexpected}
        return [f"{kind} {each.id}" for kind, found in kinds.items() for each in list(found)[:EXAMPLES_MAX]]


def due(settings: Settings, records: Sequence[Wanted], written_ms: int) -> Counter[Said]:
    """Give what must come of records that are put on empty topics at a moment, once all of them are consumed."""
    policy = model_policy(settings.policy(), settings.record_bytes_max, settings.key_check == "on")
    inputs: dict[tuple[str, int], list[Record]] = {
        (kind, partition): [] for kind in ("inbound", "outbound") for partition in range(settings.partitions)
    }
    for wanted in records:
        into = inputs[wanted.kind, wanted.partition]
        into.append(Record(wanted.kind, wanted.partition, len(into), written_ms, wanted.key, wanted.value))
    expected: Counter[Said] = Counter()
    for partition in range(settings.partitions):
        sides = inputs["inbound", partition], inputs["outbound", partition]
        outputs = run(*sides, policy, settings.partitions).outputs
        expected.update(Said(it.topic, it.id, it.key, it.event["time"]) for it in outputs if it.topic in OUTPUTS)
    return expected


def said(names: Mapping[str, str], found: Mapping[TopicPartition, Iterable[ConsumerRecord]]) -> Counter[Said]:
    """Count what lies on output topics; `names` gives the name of each topic on the cluster."""
    topics = {names[topic]: topic for topic in OUTPUTS}
    return Counter(one_said(topics[tp.topic], r.key, r.value) for tp, records in found.items() for r in records)


def one_said(topic: str, key: bytes, value: bytes) -> Said:
    """Read one output."""
    event = _decode(value)
    return Said(topic, event.id, key.decode(), event.time)


def digest(said: Counter[Said]) -> str:
    """Write a count of outputs in a few signs, for those who can't be asked for more."""
    lines = sorted(f"{count} {' '.join(each)}\n" for each, count in said.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()
