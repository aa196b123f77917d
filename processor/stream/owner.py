"""The owner of one partition: its state, its buffers, and what it decides in a round.

An owner does steps 1 and 2 of a round: it takes what may be applied, lets the core decide, and builds the records that
say so. It never waits.
"""

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

import structlog
from aiokafka import TopicPartition

from processor import __version__
from processor.codec.dead_letters import dead_letter
from processor.codec.inputs import InputDecoder
from processor.codec.outputs import HEADERS, TOPICS, OutputEncoder
from processor.codec.rounds import Standing, round_header
from processor.codec.state import encode_consents, encode_window
from processor.core.decisions import Decision, Effects, Rejected
from processor.core.partition import Partition
from processor.core.policy import Policy
from processor.core.window import Window
from processor.failpoints import failpoint
from processor.kafka.batch import BATCH_BYTES_MAX, Batch, Batches
from processor.kafka.log import LogEnds
from processor.kafka.offsets import Progress
from processor.settings import Settings
from processor.stream.merge import INBOUND, OUTBOUND, BadRecord, InputBuffer, merge
from processor.stream.transport import Carrier
from processor.tracing.tracer import Header, Traced, Tracer

log = structlog.get_logger(__name__)


class FloodGauge:
    """Counts the dead letters among the last records of a partition."""

    def __init__(self, window: int, share: float) -> None:
        self._window, self._share = window, share
        self._chunks: deque[tuple[int, int]] = deque()
        self._total = self._bad = 0

    def add(self, total: int, bad: int) -> bool:
        """Count a chunk; returns whether it is a flood: a full window of records, and more than the share are bad."""
        self._chunks.append((total, bad))
        self._total += total
        self._bad += bad
        while self._total - self._chunks[0][0] >= self._window:
            total, bad = self._chunks.popleft()
            self._total -= total
            self._bad -= bad
        return self._total >= self._window and self._bad > self._total * self._share


_type_of = attrgetter("type")


@dataclass(frozen=True)
class Round:
    """What one owner decided: records to write, and the offsets and the progress that go with them."""

    owner: "Owner"
    batches: list[Batch]
    positions: dict[TopicPartition, int]
    clock_ms: int
    sequence: int
    records: int
    kinds: Counter[type[Decision]]
    rejections: Counter[str]
    """By reason, as are the dead letters."""
    dead_letters: Counter[str]
    lateness_ms: int | None
    """How long after its due time the first timer of an idle clock fired; None where none did."""
    traced: Traced


class Owner:
    """One partition of both inputs. `inputs` are (inbound, outbound)."""

    def __init__(
        self, partition: int, settings: Settings, policy: Policy, names: dict[str, str], tracer: Tracer
    ) -> None:
        """Start empty; `names` gives the name of each topic on the cluster."""
        self.partition = partition
        self.core = Partition(policy)
        self.sequence = 0
        self.token: str | None = None
        """The committed token under which this state stands, while nothing newer is decided."""
        self.is_flooded = self.is_stopped = False
        """Stopped by a flood of dead letters; the process stays up."""
        self.inputs = tuple(TopicPartition(names[it], partition) for it in ("messages.inbound", "messages.outbound"))
        self.buffers = (InputBuffer(self.inputs[INBOUND], 0), InputBuffer(self.inputs[OUTBOUND], 0))
        self.openings = [0, 0]
        self.counts = self.core.counts
        self.types: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        """Records read since somebody looked, by side and type."""
        self.waiting_since_s = time.monotonic()
        """Since when (monotonic) it has been behind and committed nothing; means nothing while it is not."""
        self._settings = settings
        self._decoder = InputDecoder(
            partition, settings.partitions, self.core.windows, settings.record_bytes_max, settings.key_check == "on"
        )
        self._encoder = OutputEncoder(settings.app_id, policy.version)
        self._flood = FloodGauge(settings.dead_letter_flood_window, settings.dead_letter_flood_share)
        self._output_tps = {kind: TopicPartition(names[topic], partition) for kind, topic in TOPICS.items()}
        self._window_state = TopicPartition(names["window-state"], partition)
        self._consent_state = TopicPartition(names["consent-state"], partition)
        self._dead_letters = TopicPartition(names["dead-letters"], partition)
        self._traces = tracer.of_inputs(self.inputs)
        self._latest: Round | None = None

    @property
    def windows(self) -> dict[bytes, Window]:
        """The windows of this partition by key."""
        return self.core.windows

    def stand_at(self, positions: Sequence[int]) -> None:
        """Forget what has arrived, and go on from these offsets of the two inputs."""
        inbound, outbound = self.inputs
        self.buffers = (InputBuffer(inbound, positions[INBOUND]), InputBuffer(outbound, positions[OUTBOUND]))
        self._traces.forget()
        self.waiting_since_s = time.monotonic()

    def accept(self, carrier: Carrier) -> bool:
        """Take a carrier into its buffer. False where it does not begin at the position that comes next."""
        side = self.inputs.index(carrier.tp)
        buffer = self.buffers[side]
        if carrier.start != buffer.taken:
            return False
        if not self.has_input():
            self.waiting_since_s = time.monotonic()
        decode = self._decoder.inbound if side == INBOUND else self._decoder.outbound
        records = carrier.records
        decoded = [decode(record.key, record.value, record.timestamp, record.headers) for record in records]
        bad = buffer.add(decoded, records)
        self._traces.note(side, decoded, records)
        self.types[side].update(map(_type_of, buffer.events[-len(records) + bad :] if bad < len(records) else ()))
        buffer.take(carrier.stop, carrier.size())
        if records:
            self._note_flood(len(records), bad)
        return True

    def has_input(self) -> bool:
        """Whether anything waits to be applied or to leave."""
        return any(buffer.events or buffer.bad for buffer in self.buffers)

    def is_behind(self) -> bool:
        """Whether anything waits to be applied, or lies on a topic, as far as its end is known, and does not arrive."""
        return self.has_input() or any(buffer.taken < buffer.end for buffer in self.buffers)

    def note_ends(self, ends: LogEnds) -> None:
        """Note where its topics end."""
        was_behind = self.is_behind()
        for buffer in self.buffers:
            buffer.end = ends.offsets.get(buffer.tp, buffer.end)
        if not was_behind:
            self.waiting_since_s = time.monotonic()

    def waits_for_end(self) -> bool:
        """Whether the merge can't go on before the end of a topic is known."""
        return bool(self.buffers[INBOUND].events) != bool(self.buffers[OUTBOUND].events)

    def decide(self, ends: LogEnds, now_ms: int) -> Round | None:
        """Do steps 1 and 2: apply what may be applied, move the idle clock, build the records. None: nothing new."""
        began, late = self._standing(), self.counts["late"]
        found = [ends.offsets.get(tp) for tp in self.inputs]
        ended = [end is not None and buffer.taken >= end for buffer, end in zip(self.buffers, found, strict=True)]
        effects = Effects()
        events, sides = merge(*self.buffers, (ended[0], ended[1]), self._settings.batch_records_max)
        applied = self.core.apply(events, effects)
        failpoint("events-applied")
        bad = [
            letter
            for side, buffer in enumerate(self.buffers)
            for letter in buffer.drop_first(sides.count(side, 0, applied))
        ]
        lateness_ms = None
        if all(ended) and not self.has_input() and self._settings.clock == "live":
            fired_from = len(effects.outputs)
            self._move_idle_clock(ends.noted_ms, effects)
            if fired := effects.outputs[fired_from:]:
                lateness_ms = now_ms - fired[0].time_ms
        if not (applied or bad or effects):
            return None
        if not effects and self.counts["late"] > late:
            # Whether a message is too late hangs on where rounds begin, so such a round tells of itself, in a state
            # that is written again.
            effects.windows[events[0].key] = None
        self.token = None
        told = round_header(began, self._standing(), [*found, ends.noted_ms])
        traced = self._traces.take([buffer.position for buffer in self.buffers], effects.outputs)
        self._latest = Round(
            self,
            self._build(effects, bad, told, traced, now_ms),
            {tp: buffer.position for tp, buffer in zip(self.inputs, self.buffers, strict=True)},
            self.core.clock_ms,
            self.sequence,
            applied + len(bad),
            kinds := Counter(map(type, effects.outputs)),
            Counter(it.reason for it in effects.outputs if type(it) is Rejected) if Rejected in kinds else Counter(),
            Counter(it.letter.reason for it in bad),
            lateness_ms,
            traced,
        )
        return self._latest

    def on_committed(self, round_: Round, token: str) -> None:
        """Note that a round is committed; the state stands under its token unless something newer is decided."""
        self.waiting_since_s = time.monotonic()
        if round_ is self._latest:
            self.token = token

    def progress(self, round_: Round, token: str, transactional_id: str) -> Progress:
        """Give what is committed beside the offsets of a round."""
        return Progress(round_.clock_ms, round_.sequence, self._settings.partitions, token, transactional_id)

    def _standing(self) -> Standing:
        return self.buffers[INBOUND].position, self.buffers[OUTBOUND].position, self.core.clock_ms

    def _move_idle_clock(self, noted_ms: int, effects: Effects) -> None:
        """Move the clock to when both topics were known to be read to their end, less the grace; never to "now"."""
        idle_ms = noted_ms - self._settings.timer_grace_ms
        if idle_ms > self.core.clock_ms and idle_ms >= self.core.next_due_ms:
            failpoint("idle-timers-due")
            self.core.advance(idle_ms, effects)
            failpoint("idle-timers-fired")

    def _note_flood(self, total: int, bad: int) -> None:
        """Say so when dead letters become a flood, and stop where the settings want that."""
        is_flood = self._flood.add(total, bad)
        if is_flood and not self.is_flooded:
            self.is_stopped = self._settings.dead_letter_flood == "stop"
            log.error("stream.dead-letter-flood", partition=self.partition, stopped=self.is_stopped)
        self.is_flooded = is_flood

    def _build(self, effects: Effects, bad: list[BadRecord], told: Header, traced: Traced, now_ms: int) -> list[Batch]:
        """Write outputs, state records and dead letters into batches, numbering the outputs.

        All but dead letters bear `told`, the round's header; an output may bear where it belongs in a trace.
        """
        of_outputs, of_state = traced.headers([*HEADERS, told]), [told]
        batches = Batches(now_ms)
        sequence, encode = self.sequence, self._encoder.encode
        outputs = {kind: batches[self._output_tps[kind]].add for kind in set(map(type, effects.outputs))}
        for decision, headers in zip(effects.outputs, of_outputs):  # noqa: B905  # plain headers have no end
            sequence += 1
            outputs[type(decision)](decision.key, encode(decision, sequence), headers)
        for key in effects.windows:
            sequence += 1
            window = self.core.windows.get(key)
            batches[self._window_state].add(key, None if window is None else encode_window(window, sequence), of_state)
        for key in effects.consents:
            sequence += 1
            batches[self._consent_state].add(key, encode_consents(self.core.consents[key]), of_state)
        for item in bad:
            batches[self._dead_letters].add(*_dead_letter(item))
        self.sequence = sequence
        return [batch for written in batches.values() for batch in written.close()]


def _dead_letter(item: BadRecord) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]:
    record, source = item.record, (item.tp.topic, item.tp.partition, item.record.offset)
    parts = record.key, record.value, record.headers
    return dead_letter(item.letter, source, record.timestamp, *parts, __version__, BATCH_BYTES_MAX // 2)
