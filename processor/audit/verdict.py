"""What lies on a partition's topics, held against what the model says must lie there: the verdict.

Both directions: what is due and is not there is lost, also at the end of a topic; what is there and is not due is
doubled or unexpected. Nothing here shares code with the worker, and nothing asks a broker. In memory stays what a
partition must know of its contacts, the places of its dead letters, and what is wrong.
"""

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from processor.audit.dead_letters import dead_letter_faults
from processor.audit.findings import (
    INPUTS,
    STATES,
    Fault,
    Found,
    Kind,
    Terms,
    Written,
    differences,
    parsed,
)
from processor.audit.model import Counts, Fold, Knowledge, calm_collector
from processor.audit.outputs import Outputs


@dataclass
class Verdict:
    """What was compared, and what is wrong with it."""

    examples_max: int = 5
    """How many faults of each kind are kept; all are counted."""
    partitions: int = 0
    counts: Counts = field(default_factory=Counts)
    """Of the inputs, as the model counts them: consumed = applied + dead letters."""
    not_consumed: int = 0
    """Positions of the inputs that the group has not committed yet; nothing of them is judged."""
    outputs: int = 0
    windows: int = 0
    consents: int = 0
    faults: Counter[Kind] = field(default_factory=Counter)
    examples: list[Fault] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    def add(self, found: Found, fold: Fold, terms: Terms) -> None:
        """Take in one partition, and fold its inputs meanwhile."""
        with calm_collector():
            for fault in compare(found, fold, terms):
                self.faults[fault.kind] += 1
                if self.faults[fault.kind] <= self.examples_max:
                    self.examples.append(fault)
        known = fold.knowledge
        self.partitions += 1
        self.outputs += known.due
        self.windows += len(known.windows)
        self.consents += len(known.consents)
        for count in fields(Counts):
            total = getattr(self.counts, count.name) + getattr(known.counts, count.name)
            setattr(self.counts, count.name, total)

    def __str__(self) -> str:
        head = (
            f"{self.counts.records} records, {self.outputs} outputs, {self.windows} windows,"
            f" {self.counts.dead_letters} dead letters, {self.faults.total()} faults"
        )
        return "\n  ".join([head, *map(str, self.examples)])


def compare(found: Found, fold: Fold, terms: Terms) -> Iterator[Fault]:
    """Give all that is wrong with a partition; the fold has come to its end then."""
    yield from Outputs(found, fold, terms).faults()
    known = fold.knowledge
    yield from _accounting_faults(found, known.counts)
    yield from _uncommitted_faults(found)
    if found.schedule is not None:
        yield from _breach_faults(found.partition, known)
    for topic, states in zip(STATES, (known.windows, known.consents), strict=True):
        yield from _state_faults(topic, found, states, terms)
    yield from dead_letter_faults(found, known.dead_letters, terms)


def _accounting_faults(found: Found, counts: Counts) -> Iterator[Fault]:
    """Look whether each record that was read was applied, or is a dead letter."""
    read = sum(1 for name in INPUTS for _ in found.inputs[name])
    if read != counts.records:
        details = f"{read:,} records were read, {counts.applied:,} applied, {counts.dead_letters:,} dead letters"
        yield Fault(Kind.LOST, INPUTS[0], found.partition, None, "the inputs", details)


def _uncommitted_faults(found: Found) -> Iterator[Fault]:
    """Look whether the inputs that the last round took are committed: what is not would be taken once more."""
    if found.committed is None or found.schedule is None:
        return
    committed = found.committed.inbound, found.committed.outbound
    for witness in deque(found.schedule.witnesses, maxlen=1):
        taken = witness.round.inbound_to, witness.round.outbound_to
        for name, to, offset in zip(INPUTS, taken, committed, strict=True):
            if to > offset:
                details = f"took {name} up to {to}, committed is {offset}"
                subject = f"round {witness.round}"
                yield Fault(Kind.UNEXPECTED, witness.topic, found.partition, witness.offset, subject, details)


def _breach_faults(partition: int, known: Knowledge) -> Iterator[Fault]:
    """Tell what the worker was not free to do."""
    for breach in known.breaches:
        if (witness := breach.witness) is None:
            yield Fault(Kind(breach.kind), INPUTS[0], partition, None, "the committed clock", breach.details)
        else:
            subject = f"round {witness.round}"
            yield Fault(Kind(breach.kind), witness.topic, partition, witness.offset, subject, breach.details)


def _state_faults(topic: str, found: Found, expected: Mapping[str, Any], terms: Terms) -> Iterator[Fault]:
    """Hold the newest record of each key against what must be known of it, and of no other key."""
    newest = {record.key_text: record for record in found.written.get(topic, ())}
    judged = (newest.keys() | expected.keys()) - found.moved.get(topic, frozenset())
    for key in sorted(key for key in judged if terms.concerns(key)):
        record_or_none = newest.get(key)
        state = _state(record_or_none)
        if state == expected.get(key):
            continue
        offset = None if record_or_none is None else record_or_none.offset
        details = "; ".join(differences(state, expected.get(key)))
        yield Fault(Kind.WRONG_STATE, topic, found.partition, offset, key, details)


def _state(record: Written | None) -> Any:
    """Give what a record says is known, None for a tombstone or none; one that can't be read is given as it is."""
    if record is None or record.value is None:
        return None
    state = parsed(record.value)
    if not isinstance(state, dict) or state.pop("v", None) != 1:
        return record.value.decode("utf-8", "replace")
    state.pop("sequence", None)
    return state
