"""What a worker tells of itself: counts of its rounds, gauges when somebody asks, and whether it is alive and ready."""

import asyncio
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import structlog
from aiokafka import TopicPartition

from processor.codec.outputs import TOPICS
from processor.ops.labels import OTHER, TYPES
from processor.ops.metrics import Metrics
from processor.ops.server import OpsServer
from processor.settings import Settings
from processor.stream.merge import InputBuffer
from processor.stream.owner import Owner, Round
from processor.stream.watcher import Watcher

if TYPE_CHECKING:
    from processor.stream.engine import Engine

log = structlog.get_logger(__name__)

PULSE_S: Final = 0.25
DEAD_S: Final = 15.0
"""A loop that has not turned for so long stands still: a large round takes a hundredth of it."""
WAITING_S: Final = 15.0
"""A partition whose records have waited for so long is not being committed."""
SOON_MS: Final = 60_000


class Pulse:
    """Whether an event loop turns, and how late its timers are."""

    def __init__(self, loop_name: str, metrics: Metrics) -> None:
        """Begin with a beat."""
        self._stalls = metrics.loop_stall_seconds.labels(loop_name)
        self._last_s = time.monotonic()

    @property
    def is_alive(self) -> bool:
        """Whether the loop has turned lately. May be asked in any thread."""
        return time.monotonic() - self._last_s < DEAD_S

    async def beat(self) -> None:
        """Beat for ever, in the loop that is watched."""
        while True:
            await asyncio.sleep(PULSE_S)
            now_s = time.monotonic()
            self._stalls.observe(max(now_s - self._last_s - PULSE_S, 0.0))
            self._last_s = now_s


class Instruments(Watcher):
    """Fills the metrics of an engine, and answers for its health. What `ops` asks is asked in another thread."""

    _engine: "Engine"

    def __init__(self) -> None:
        """Make the metrics; there is nothing to watch before `on_start`."""
        self.metrics = Metrics()
        self._pulses: dict[str, Pulse] = {}

    @property
    def _settings(self) -> Settings:
        return self._engine.settings

    def on_start(self, engine: "Engine") -> None:
        """Listen on the ops address, and watch the worker's loop, which this is called in.

        An address that another worker of this machine has is gone on without, unless it was chosen.
        """
        self._engine = engine
        self._pulses["worker"] = pulse = Pulse("worker", self.metrics)
        self._engine.guard(pulse.beat(), "pulse")
        if not (address := self._settings.ops_address):
            return
        try:
            OpsServer(address, self).start()
        except OSError as error:
            if "ops_address" in self._settings.model_fields_set:
                found = f"found {address} ({error.strerror}), expected an address that can be had"
                self._engine.refuse([f"JANELA_OPS_ADDRESS (ops_address): {found}; empty: none"])
            log.warning("worker.ops-address-taken", address=address)

    # -------------------------------------------------------------------------------------------- as it happens

    def on_assigned(self) -> None:
        """Count an assignment; with the first one there is a consumer to watch."""
        self.metrics.rebalances.inc()
        self.metrics.restore_records.clear()  # of a restore that was broken off
        if "consumer" not in self._pulses:
            self._pulses["consumer"] = pulse = Pulse("consumer", self.metrics)
            self._engine.consumer.in_thread(pulse.beat())

    def on_round(self, rounds: Iterable[Round], seconds: float) -> None:
        """Count what a transaction has committed."""
        metrics, records = self.metrics, 0
        metrics.transactions.inc()
        metrics.transaction_seconds.observe(seconds)
        for round_ in rounds:
            records += round_.records + round_.kinds.total()
            for kind, count in round_.kinds.items():
                metrics.outputs.labels(TOPICS[kind]).inc(count)
            for reason, count in round_.rejections.items():
                metrics.rejections.labels(reason).inc(count)
            for reason, count in round_.dead_letters.items():
                metrics.dead_letters.labels(reason).inc(count)
            for outcome, count in round_.traced.counts.items():
                metrics.traced_inputs.labels(outcome).inc(count)
            if round_.lateness_ms is not None:
                metrics.timer_lateness_seconds.observe(max(round_.lateness_ms, 0) / 1000)
            self._drain(round_.owner)
        metrics.transaction_records.observe(records)

    def on_restore_read(self, partition: int, records: int) -> None:
        """Note how far a restore is."""
        self.metrics.restore_records.labels(str(partition)).set(records)

    def on_restored(self, seconds: float) -> None:
        """Note how long a restore took."""
        self.metrics.restore_records.clear()
        self.metrics.restore_seconds.observe(seconds)

    def on_transaction_ended(self) -> None:
        """Count a dead worker's transaction."""
        self.metrics.foreign_transactions_ended.inc()

    def _drain(self, owner: Owner) -> None:
        """Move what an owner has counted into the metrics."""
        for tp, types in zip(owner.inputs, owner.types, strict=True):
            topic = self._name(tp)
            for type_, count in types.items():
                self.metrics.records.labels(topic, type_ if type_ in TYPES[topic] else OTHER).inc(count)
            types.clear()
        for cause, count in owner.counts.items():
            self.metrics.without_effect.labels(cause).inc(count)
        owner.counts.clear()

    # ------------------------------------------------------------------------------------------- when it is asked

    def dead(self) -> list[str]:
        """Say which loops stand still."""
        return [f"the {name} loop stands still" for name, pulse in list(self._pulses.items()) if not pulse.is_alive]

    def unready(self) -> list[str]:
        """Say what keeps the worker from doing its work for all of its partitions."""
        assignment = self._engine.assignment
        if assignment is None:
            return ["no partitions are assigned"]
        found = []
        if (silent_s := self._engine.log_reader.silent_s()) > WAITING_S:
            found.append(f"the brokers have not told for {silent_s:.0f} s where the inputs end")
        if not assignment.is_restored:
            found.append(f"{len(assignment.owners)} of {len(assignment.partitions)} partitions are restored")
        for owner in list(assignment.owners.values()):
            waited_s = time.monotonic() - owner.waiting_since_s
            if owner.is_stopped:
                found.append(f"partition {owner.partition} is stopped by a flood of dead letters")
            elif owner.is_behind() and waited_s > WAITING_S:
                found.append(f"partition {owner.partition} has committed nothing for {waited_s:.0f} s")
        return found

    def measure(self) -> None:
        """Set the gauges to what is true now."""
        metrics, engine = self.metrics, self._engine
        by_partition = (metrics.event_time_lag, metrics.open_windows, metrics.known_windows)
        timers = (metrics.timers_soon, metrics.timers_overdue)
        for gauge in (*by_partition, *timers, metrics.offset_lag, metrics.buffered_records, metrics.held_partitions):
            gauge.clear()  # partitions come and go
        owners = list(engine.owners.values())
        stopped = sum(owner.is_stopped for owner in owners)
        assigned = len(engine.assignment.partitions) if engine.assignment is not None else 0
        states = {"restoring": assigned - len(owners), "at-work": len(owners) - stopped, "stopped": stopped}
        for state, count in states.items():
            metrics.partitions.labels(state).set(max(count, 0))
        for topic in TYPES:
            metrics.held_partitions.labels(topic).set(sum(self._name(tp) == topic for tp in engine.held))
        for owner in owners:
            self._measure_owner(owner, engine.clock.now_ms())
        if self._settings.clock == "live":
            metrics.clock_ahead.set(engine.clock.ahead_ms() / 1000)

    def _measure_owner(self, owner: Owner, now_ms: int) -> None:
        metrics, core, partition = self.metrics, owner.core, str(owner.partition)
        metrics.open_windows.labels(partition).set(core.windows.open_count)
        metrics.known_windows.labels(partition).set(len(owner.windows))
        metrics.timers_soon.labels(partition).set(core.windows.timers.count(core.clock_ms + SOON_MS))
        if self._settings.clock == "live":
            lag_ms = max(now_ms - core.clock_ms, 0) if core.clock_ms and self._is_behind(owner) else 0
            metrics.event_time_lag.labels(partition).set(lag_ms / 1000)
            overdue_ms = now_ms - self._settings.timer_grace_ms
            metrics.timers_overdue.labels(partition).set(core.windows.timers.count(overdue_ms))
        for buffer in owner.buffers:
            metrics.buffered_records.labels(self._name(buffer.tp), partition).set(len(buffer.events))
            metrics.offset_lag.labels(self._name(buffer.tp), partition).set(self._lag(buffer))

    def _name(self, tp: TopicPartition) -> str:
        """Give a topic's name in the contract."""
        name: str = tp.topic.removeprefix(self._settings.topic_prefix)
        return name

    def _lag(self, buffer: InputBuffer) -> int:
        """Tell how many records are not applied, up to the end that came with the last fetch or was asked for since."""
        end = max(self._engine.consumer.end_seen(buffer.tp) or 0, buffer.end)
        return max(end - buffer.position, 0)

    def _is_behind(self, owner: Owner) -> bool:
        return owner.has_input() or any(self._lag(buffer) for buffer in owner.buffers)
