"""The rules of customer-service windows, told once more and as plainly as possible: the referee.

A `Fold` takes everything that lies on one partition of the two input topics and says what must come out of it:
when event time alone moves the clock, or in the rounds that a worker says it worked in (`rounds`). It is written
from the pages of the rules and of the contract and shares no code with the worker: where the two differ, one of
them is wrong. Slow is fine. It holds no more than what a partition knows of its contacts, however much lies there.

In the order of the file:

1. A `Fold` reads each topic, sets the dead letters aside, and takes the head with the earlier event time,
   inbound first where equal. A topic's own order is never changed, even where its times go back. With a
   schedule it does so round by round, and says where a worker took more leave than it has.
2. `_Partition.apply`: (a) all that falls due up to the event's time happens, in order of due time, then of
   key; (b) the clock moves to the event's time, never back; (c) the event itself is applied.
3. What a message, a send and a consent do.

A window has no list of timers. Its due times are a function of its present state (`_Partition.dues`); the
calendar holds the next one after the clock, and is told anew after whatever may have moved it. A due time at
or before the clock is over for good: it fired, or it never will.
"""

import gc
import heapq
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

from processor.audit.policy import ModelPolicy
from processor.audit.records import Event, Record, TopicKind, error_code, given, read, rfc3339
from processor.audit.rounds import Round, Schedule, Witness

_TOPICS = {"inbound": "messages.inbound", "outbound": "messages.outbound"}
_BEFORE_ALL_TIME = -(10**18)
_DIRECT_SEND_TYPES = ("text", "image", "video", "document", "interactive")


class Output(NamedTuple):
    """One event that must be seen on an output topic.

    `event` is the complete CloudEvent without `specversion`, `source` and `sequence`, and without `policy` in
    its data.
    """

    topic: str
    id: str
    key: str
    event: dict[str, Any]


class Cause(NamedTuple):
    """The input of which something must come: the send; for a window, what opened it or gave it its end."""

    topic: str
    offset: int


class Due(NamedTuple):
    """An event that must be seen, the round of the schedule that has to tell of it, and the input that it comes of.

    No round: there is no schedule, or no round of it was at work then.
    """

    output: Output
    round: Round | None
    cause: Cause


class DeadLetter(NamedTuple):
    """A record that could not be read: which one, and the contract's reason."""

    topic: str
    offset: int
    reason: str


class Breach(NamedTuple):
    """What a worker was not free to do: the first of a round. Without a witness: what it has committed."""

    kind: Literal["out-of-order", "early"]
    witness: Witness | None
    details: str


@dataclass
class Counts:
    """How many records came to what. `records` is the sum of `applied` and `dead_letters`."""

    records: int = 0
    applied: int = 0
    dead_letters: int = 0
    late: int = 0
    """Opening messages a window's length or more behind the clock."""
    not_newer: int = 0
    """Opening messages in time, of a closed window, but no newer than the last one known (W11).

    A window that ends by expiry leaves none of these: they are late already. A refused one may (W12).
    """
    misplaced: int = 0
    without_effect: int = 0
    """Types of the tables that change nothing, and those that the policy keeps from opening."""
    unknown: int = 0
    """Types that are in no table, whatever came of them."""


@dataclass
class Knowledge:
    """What a partition must know after its last event."""

    due: int = 0
    """How many events must be seen."""
    windows: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By key, the fields of `window-state` but `v` and `sequence`; times in Unix ms. No forgotten keys."""
    consents: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By key, `marketing` and `all`, each {`value`, `at`} or None where nothing was ever said."""
    dead_letters: list[DeadLetter] = field(default_factory=list)
    """Those of the inbound topic first, each topic's in the order of its offsets."""
    counts: Counts = field(default_factory=Counts)
    clock_ms: int | None = None
    """The largest event time applied, or how far time was told to go; None where nothing moved it."""
    breaches: list[Breach] = field(default_factory=list)


@dataclass
class Result(Knowledge):
    """All that a partition must have said, and what it must know then."""

    outputs: list[Output] = field(default_factory=list)


def run(
    inbound: Iterable[Record],
    outbound: Iterable[Record],
    policy: ModelPolicy,
    partitions: int,
    **more: Any,
) -> Result:
    """Apply one partition's records, as a `Fold` of the same arguments does, and give all that comes of it at once."""
    fold = Fold(inbound, outbound, policy, partitions, **more)
    with calm_collector():
        outputs = [due.output for due in fold]
    return Result(**vars(fold.knowledge), outputs=outputs)


@contextmanager
def calm_collector() -> Iterator[None]:
    """Keep the garbage collector still: it would look at millions of dictionaries, again and again, and at no cycle."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


# --- The order in which records are taken -------------------------------------------------------------------


class _Readable(NamedTuple):
    """An event, and when the broker took it (None: the topic does not say)."""

    appended_ms: int | None
    event: Event


class _Queue:
    """What can be read on one topic; the next one can be looked at."""

    def __init__(self, records: Iterator[_Readable]) -> None:
        self._records = records

    @cached_property
    def head(self) -> _Readable | None:
        """The next one; it is read when it is first asked for."""
        return next(self._records, None)

    def head_before(self, offset: int | None) -> _Readable | None:
        """Give the next one, if it lies before an offset; None stands for the topic's end."""
        head = self.head
        return head if head is not None and (offset is None or head.event.offset < offset) else None

    def take(self) -> None:
        self.head = next(self._records, None)


def _comes_first(said: _Readable | None, sent: _Readable | None) -> bool:
    """Whether of two heads the inbound one is taken: the earlier one by event time, inbound where equal."""
    return sent is None or (said is not None and said.event.time_ms <= sent.event.time_ms)


class Fold:
    """One partition's records of both topics, taken once, and what must come of them: what is due, in order."""

    def __init__(
        self,
        inbound: Iterable[Record],
        outbound: Iterable[Record],
        policy: ModelPolicy,
        partitions: int,
        *,
        concerns: Callable[[str], bool] = lambda _: True,
        until_ms: int | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        """Take each topic's records in the order of their offsets.

        `partitions` is the number of partitions of every topic, for the check of where a key belongs. Of keys that
        it `concerns` everything is told; the records of others move the clock and are counted as applied, no more.
        After the last record time goes on to `until_ms`, where that is later. A schedule says in which rounds the
        records were taken, and how far time had gone after each.
        """
        self._policy, self._partitions = policy, partitions
        self._until_ms, self._schedule = until_ms, schedule
        self._partition = _Partition(policy, concerns)
        self._dead_letters: dict[TopicKind, list[DeadLetter]] = {"inbound": [], "outbound": []}
        self._inbound = _Queue(self._readable("inbound", inbound))
        self._outbound = _Queue(self._readable("outbound", outbound))
        self._breaches: list[Breach] = []
        self._count = 0
        self._due = self._all()

    def __iter__(self) -> Iterator[Due]:
        """Give what is due and was not given yet."""
        return self._due

    @cached_property
    def knowledge(self) -> Knowledge:
        """What the partition must know; to be asked for after the last that is due."""
        known = self._partition.knowledge()
        known.due, known.breaches = self._count, self._breaches
        known.dead_letters = [*self._dead_letters["inbound"], *self._dead_letters["outbound"]]
        known.counts.dead_letters = len(known.dead_letters)
        known.counts.records = known.counts.applied + known.counts.dead_letters
        return known

    def _readable(self, kind: TopicKind, records: Iterable[Record]) -> Iterator["_Readable"]:
        for record in records:
            event = read(record, self._policy, self._partitions)
            if isinstance(event, str):
                self._dead_letters[kind].append(DeadLetter(_TOPICS[kind], record.offset, event))
            else:
                yield _Readable(record.appended_ms, event)

    def _all(self) -> Iterator[Due]:
        if self._schedule is not None:
            yield from self._follow(self._schedule)
        else:
            yield from self._take_until(None)
        if self._until_ms is not None:
            self._partition.advance(self._until_ms)
            yield from self._said(None)

    def _said(self, round_: Round | None) -> Iterator[Due]:
        """Give what the partition has said meanwhile."""
        outputs = self._partition.outputs
        if outputs:
            self._partition.outputs = []
            self._count += len(outputs)
            for output, cause in outputs:
                yield Due(output, round_, cause)

    def _take_until(
        self, ends: tuple[int, int] | None, round_: Round | None = None
    ) -> Generator[Due, None, "_Readable | None"]:
        """Apply what lies before these offsets, by event time.

        Returns what was passed over: the other topic's next record, where it would have been first.
        """
        inbound_to, outbound_to = ends or (None, None)
        passed_over: _Readable | None = None
        while True:
            said, sent = self._inbound.head_before(inbound_to), self._outbound.head_before(outbound_to)
            if said is None and sent is None:
                return passed_over
            if _comes_first(said, sent):
                taken, queue = said, self._inbound
                is_passed = sent is None and not _comes_first(said, self._outbound.head)
                passed_over = passed_over or (self._outbound.head if is_passed else None)
            else:
                taken, queue = sent, self._outbound
                is_passed = said is None and self._inbound.head is not None and _comes_first(self._inbound.head, sent)
                passed_over = passed_over or (self._inbound.head if is_passed else None)
            assert taken is not None
            self._partition.apply(taken.event)
            queue.take()
            yield from self._said(round_)

    def _follow(self, schedule: Schedule) -> Iterator[Due]:
        """Take round by round. What lies between two was taken by rounds of which nothing came."""
        for witness in schedule.witnesses:
            round_ = witness.round
            before = len(self._breaches)
            yield from self._take_until((round_.inbound_from, round_.outbound_from))
            self._go_on_in_silence(round_.clock_from_ms, witness, schedule)
            passed_over = yield from self._take_until((round_.inbound_to, round_.outbound_to), round_)
            if passed_over is not None and not _may_pass_over(passed_over, round_):
                self._note("out-of-order", witness, f"did not wait for {_place(passed_over)}, which comes first")
            self._go_on(witness, schedule)
            del self._breaches[before + 1 :]
            yield from self._said(round_)
        yield from self._take_until(None)
        if schedule.clock_ms is not None:
            self._go_on_in_silence(schedule.clock_ms, None, schedule)
            yield from self._said(None)

    def _go_on(self, witness: Witness, schedule: Schedule) -> None:
        """Let time go on to where it stood after a round."""
        round_ = witness.round
        if self._stood_at(round_.clock_ms, witness) and not self._follows_events(round_, schedule):
            noted_ms = round_.noted_ms or 0
            why = self._no_idle_time(round_.clock_ms, noted_ms, schedule)
            if not (round_.is_inbound_ended and round_.is_outbound_ended):
                why = why or "without having read both topics to their ends"
            if witness.written_ms < noted_ms - schedule.leave.tolerance_ms:
                why = why or f"at {rfc3339(witness.written_ms)}, with ends from {rfc3339(noted_ms)}"
            if why:
                self._note("early", witness, f"moved time on to {rfc3339(round_.clock_ms)} {why}")
        self._advance(round_.clock_ms)

    def _go_on_in_silence(self, clock_ms: int, witness: Witness | None, schedule: Schedule) -> None:
        """Let time go on where nothing fell due, and nothing was written; it tells when the ends were noted."""
        if self._stood_at(clock_ms, witness) and (
            why := self._no_idle_time(clock_ms, clock_ms + schedule.leave.grace_ms, schedule)
        ):
            self._note("early", witness, f"had moved time on to {rfc3339(clock_ms)} {why}")
        self._advance(clock_ms)

    def _stood_at(self, clock_ms: int, witness: Witness | None) -> bool:
        """Whether time went on to there by itself; behind what was taken it can't have stood."""
        clock = self._partition.clock
        if clock_ms < clock:
            self._note("out-of-order", witness, f"says that time stood at {rfc3339(clock_ms)}, behind {rfc3339(clock)}")
        return clock_ms > max(clock, 0)

    def _advance(self, clock_ms: int) -> None:
        if clock_ms > 0:
            self._partition.advance(clock_ms)

    def _follows_events(self, round_: Round, schedule: Schedule) -> bool:
        """Whether a round that was full stopped on the way to the next event, between two due times."""
        said, sent = self._inbound.head, self._outbound.head
        if said is None and sent is None:
            return not schedule.is_whole  # the next event is there, and was not read
        first, second = (said, sent) if _comes_first(said, sent) else (sent, said)
        assert first is not None
        if first.event.time_ms >= round_.clock_ms:
            return True
        is_second_later = not schedule.is_whole if second is None else second.event.time_ms >= round_.clock_ms
        return is_second_later and _may_pass_over(first, round_)

    def _no_idle_time(self, clock_ms: int, noted_ms: int, schedule: Schedule) -> str:
        """Say why idle time had no right to move the clock so far; empty where it had."""
        leave = schedule.leave
        if not leave.moves_idle_clock:
            return "without an event"
        if clock_ms > noted_ms - leave.grace_ms:
            return f"with ends from {rfc3339(noted_ms)}"
        for head in (self._inbound.head, self._outbound.head):
            appended_ms = None if head is None else head.appended_ms
            if head is not None and appended_ms is not None and appended_ms < noted_ms - leave.tolerance_ms:
                return f"before {_place(head)} was taken, which was there"
        return ""

    def _note(self, kind: Literal["out-of-order", "early"], witness: Witness | None, details: str) -> None:
        self._breaches.append(Breach(kind, witness, details))


def _may_pass_over(record: _Readable, round_: Round) -> bool:
    """Whether a round could go on without a record: its topic was known to be read to its end, and it came later."""
    return round_.is_inbound_ended if record.event.topic_kind == "inbound" else round_.is_outbound_ended


def _place(record: _Readable) -> str:
    return f"{_TOPICS[record.event.topic_kind]}@{record.event.offset} ({rfc3339(record.event.time_ms)})"


@dataclass(slots=True)
class _Window:
    """What is known of one window. Closed where `closed_at` is set. All times are event time in Unix ms."""

    opened_at: int
    expires_at: int
    extended_by: int
    """Offset of the inbound message that opened it, or moved its end last."""
    last_inbound_at: int
    last_answer_at: int | None
    closed_at: int | None = None

    @property
    def end(self) -> int:
        return self.expires_at if self.closed_at is None else self.closed_at

    @property
    def unanswered(self) -> bool:
        return self.last_answer_at is None or self.last_answer_at < self.last_inbound_at


class _Consent(NamedTuple):
    at: int
    value: str


class _Refusal(NamedTuple):
    reason: str
    provider_code: int | None
    remedy: str


_OPT_OUT = _Refusal("opt-out", None, "none")
_MARKETING_OPT_OUT = _Refusal("marketing-opt-out", 131050, "none")
_WINDOW_CLOSED = _Refusal("window-closed", 131047, "send-template")
_NO_WINDOW = _Refusal("no-window", 131047, "send-template")
_NO_CONSENT = _Refusal("no-consent", None, "ask-consent")


class _Calendar:
    """Which keys fall due when: each key at most once, none at a time that no longer holds."""

    def __init__(self) -> None:
        self._due_of: dict[str, int] = {}
        self._keys_at: dict[int, set[str]] = {}
        self._times: list[int] = []  # a heap; it may still have a time whose keys have all moved away

    def set(self, key: str, due: int | None) -> None:
        before = self._due_of.pop(key, None)
        if before is not None:
            self._keys_at[before].remove(key)
            if not self._keys_at[before]:
                del self._keys_at[before]
        if due is not None:
            self._due_of[key] = due
            if due not in self._keys_at:
                self._keys_at[due] = set()
                heapq.heappush(self._times, due)
                if len(self._times) > 2 * len(self._keys_at) + 100:  # most of them are times that moved away
                    self._times = sorted(self._keys_at)
            self._keys_at[due].add(key)

    def take_up_to(self, time_ms: int) -> Iterator[tuple[int, str]]:
        """Take out what is due at or before a time, in order; what is set meanwhile is seen too.

        The order of the keys as text is that of their bytes, since a key is ASCII.
        """
        while self._times and self._times[0] <= time_ms:
            due = heapq.heappop(self._times)
            keys = self._keys_at.pop(due, set())
            for key in keys:
                del self._due_of[key]
            for key in sorted(keys):
                yield due, key


class _Partition:
    def __init__(self, policy: ModelPolicy, concerns: Callable[[str], bool]) -> None:
        self.policy = policy
        self.concerns = concerns
        self.clock = _BEFORE_ALL_TIME
        self.windows: dict[str, _Window] = {}
        self.consents: dict[str, dict[str, _Consent | None]] = {}
        self.calendar = _Calendar()
        self.outputs: list[tuple[Output, Cause]] = []
        self.counts = Counts()

    def knowledge(self) -> Knowledge:
        windows = {
            key: {
                "status": "open" if window.closed_at is None else "closed",
                "opened_at": window.opened_at,
                "expires_at": window.expires_at,
                "closed_at": window.closed_at,
                # The only reason in scope: the provider's refusals (W12) and erasures come later.
                "close_reason": None if window.closed_at is None else "expired",
                "last_inbound_at": window.last_inbound_at,
                "last_answer_at": window.last_answer_at,
            }
            for key, window in self.windows.items()
        }
        consents = {
            key: {
                scope: {"value": consent.value, "at": consent.at} if consent else None
                for scope, consent in registers.items()
            }
            for key, registers in self.consents.items()
        }
        clock = self.clock if self.clock > _BEFORE_ALL_TIME else None
        return Knowledge(windows=windows, consents=consents, counts=self.counts, clock_ms=clock)

    # --- An event, and what falls due before it ------------------------------------------------------------

    def advance(self, time_ms: int) -> None:
        # Nothing is planned for a time at or before the clock, so an event behind it has nothing to wait for.
        if time_ms > self.clock:
            self.fire_up_to(time_ms)
            self.clock = time_ms

    def apply(self, event: Event) -> None:
        self.advance(event.time_ms)
        self.counts.applied += 1
        if not self.concerns(event.key):
            return
        if event.sort == "unknown":
            self.counts.unknown += 1
        if event.sort == "misplaced":
            self.counts.misplaced += 1
        elif event.sort == "consent":
            self.record_consent(event)
        elif event.topic_kind == "inbound":
            if self.opens(event):
                self.receive(event)
            else:
                self.counts.without_effect += 1
        elif event.sort == "echo":
            self.answer(event)
        elif event.sort == "without effect":
            self.counts.without_effect += 1
        else:
            self.judge(event)

    def dues(self, key: str) -> list[int]:
        """All the times at which something is to happen to a window as it stands, past ones too."""
        window = self.windows.get(key)
        if window is None:
            return []
        if window.closed_at is not None:
            return [window.closed_at + self.policy.retention_ms(_channel(key))]
        warnings = [window.expires_at - threshold for threshold in self.policy.thresholds_ms]
        return [*warnings, window.expires_at]

    def plan(self, key: str, clock: int) -> None:
        """E1: what comes next is the first due time after the clock, by the window as it is now."""
        self.calendar.set(key, min((due for due in self.dues(key) if due > clock), default=None))

    def fire_up_to(self, time_ms: int) -> None:
        for due, key in self.calendar.take_up_to(time_ms):
            window = self.windows[key]
            if window.closed_at is not None:
                del self.windows[key]  # retention is over: forgotten, without an event
            elif due == window.expires_at:
                window.closed_at = due  # W4: at the end exactly it is closed
                self.emit_closed(key, window)
            else:
                threshold = window.expires_at - due
                self.emit_expiring(key, window, threshold, remaining_ms=threshold)
            self.plan(key, due)

    # --- The customer's side -------------------------------------------------------------------------------

    def opens(self, event: Event) -> bool:
        """W2 W6 W7 W8 W13a: say whether an event of the customer's side opens or extends."""
        policy, body = self.policy, event.body
        match event.sort:
            case "message":
                return True
            case "call":
                return given(body, "direction", "user") == "user" or body.get("outcome") == "accepted"
            case "reaction":
                return policy.reactions_open
            case "unsupported":
                code = error_code(body)
                listed = None if code is None else policy.unsupported_opens.get(code)
                return policy.unknown_types_open if listed is None else listed
            case "call_permission_reply":
                return body.get("response_source") in policy.call_permission_reply_opens
            case "unknown":
                return policy.unknown_types_open
            case _:
                return False

    def receive(self, event: Event) -> None:
        """Open or extend the window by an opening message at t."""
        key, t = event.key, event.time_ms
        expires_at = t + self.policy.window_length_ms(_channel(key))
        if expires_at <= self.clock:  # W9: as old as a whole window: nothing is left of it
            self.counts.late += 1
            return
        window = self.windows.get(key)
        if window is not None and window.closed_at is None:  # W3
            window.last_inbound_at = max(window.last_inbound_at, t)
            if expires_at > window.expires_at:
                window.expires_at, window.extended_by = expires_at, event.offset
            self.plan(key, self.clock)
            return
        if window is not None and t <= window.last_inbound_at:  # W10 W11: nothing new
            self.counts.not_newer += 1
            return
        last_answer_at = None if window is None else window.last_answer_at
        window = self.windows[key] = _Window(t, expires_at, event.offset, t, last_answer_at)
        self.plan(key, self.clock)
        self.emit_opened(key, window, event)
        # E1a: of the thresholds that are past already, the smallest one warns at once.
        past = [ms for ms in self.policy.thresholds_ms if expires_at - ms <= self.clock]
        if past:
            self.emit_expiring(key, window, min(past), remaining_ms=expires_at - self.clock)

    def record_consent(self, event: Event) -> None:
        """S4: keep the newest by its own time in the register that it names; equal times: revoked."""
        registers = self.consents.setdefault(event.key, {"marketing": None, "all": None})
        scope, value = event.body["scope"], event.body["value"]
        known = registers[scope]
        newer = known is None or event.at_ms > known.at
        overrules = known is not None and event.at_ms == known.at and value == "revoked"
        if newer or overrules:
            registers[scope] = _Consent(event.at_ms, value)

    def consent(self, key: str, scope: str) -> str | None:
        known = self.consents.get(key, {}).get(scope)
        return known.value if known else None

    # --- The business's side -------------------------------------------------------------------------------

    def answer(self, event: Event) -> None:
        """Note that the business answered at t; where no window is known this leaves no trace."""
        window = self.windows.get(event.key)
        if window is not None:
            before = window.last_answer_at
            window.last_answer_at = event.time_ms if before is None else max(before, event.time_ms)

    def judge(self, event: Event) -> None:
        """Say whether a send may go; W5: it never touches the window's times."""
        is_template = event.sort == "template"
        intent = given(event.body, "intent", "request")
        origin = given(event.body, "origin", "automation" if is_template else "agent")
        window = self.windows.get(event.key)
        is_open = window is not None and event.time_ms < window.end  # S8
        refusal = self.refusal(event, is_open)
        goes = refusal is None or self.policy.enforcement == "observe"
        if origin == "agent" and (goes or intent == "done"):
            self.answer(event)
        if not goes:
            assert refusal is not None
            self.emit_rejected(event, intent, refusal)
        elif intent == "request" and self.policy.emit_accepted:
            self.emit_accepted(event, window if is_open else None, refusal)

    def refusal(self, event: Event, is_open: bool) -> _Refusal | None:
        """S1-S5: why a send may not go, the first reason of the contract's order; None where it may."""
        category = _category(event)
        if self.consent(event.key, "all") == "revoked" and category != "authentication":
            return _OPT_OUT
        if self.consent(event.key, "marketing") == "revoked" and category == "marketing":
            return _MARKETING_OPT_OUT
        if event.sort != "template" and not is_open and not self.is_direct_send(event):
            return _WINDOW_CLOSED if event.key in self.windows else _NO_WINDOW
        needs_opt_in = self.policy.marketing_needs_opt_in
        asks = needs_opt_in == "always" or (needs_opt_in == "outside-window" and not is_open)
        if category == "marketing" and asks and self.consent(event.key, "marketing") != "granted":
            return _NO_CONSENT
        return None

    def is_direct_send(self, event: Event) -> bool:
        """S3."""
        named = self.policy.direct_send
        return (
            event.body["type"] in _DIRECT_SEND_TYPES
            and _category(event) in ("utility", "authentication")
            and ("*" in named or event.body["business_id"] in named)
        )

    # --- What is said --------------------------------------------------------------------------------------

    def emit_opened(self, key: str, window: _Window, event: Event) -> None:
        self.emit(
            ("window-opened", "janela.window.opened.v1"),
            f"{key}@{window.opened_at}/opened",
            key,
            window.opened_at,
            {
                "opened_at": rfc3339(window.opened_at),
                "expires_at": rfc3339(window.expires_at),
                "cause": {"id": event.body["id"], "type": event.body["type"]},
            },
            _cause(event),
        )

    def emit_expiring(self, key: str, window: _Window, threshold_ms: int, remaining_ms: int) -> None:
        if self.policy.expiring_unanswered_only and not window.unanswered:  # E3
            return
        threshold_seconds = threshold_ms // 1000
        self.emit(
            ("window-expiring", "janela.window.expiring.v1"),
            f"{key}@{window.opened_at}/expiring/{window.expires_at}/{threshold_seconds}",
            key,
            window.expires_at - threshold_ms,
            {
                "opened_at": rfc3339(window.opened_at),
                "expires_at": rfc3339(window.expires_at),
                "threshold_seconds": threshold_seconds,
                "remaining_seconds": remaining_ms // 1000,
                "unanswered": window.unanswered,
                "last_inbound_at": rfc3339(window.last_inbound_at),
            },
            _cause_of_end(window),
        )

    def emit_closed(self, key: str, window: _Window) -> None:
        self.emit(
            ("window-closed", "janela.window.closed.v1"),
            f"{key}@{window.opened_at}/closed",
            key,
            window.end,
            {
                "opened_at": rfc3339(window.opened_at),
                "expires_at": rfc3339(window.expires_at),
                "closed_at": rfc3339(window.end),
                "reason": "expired",
                "unanswered": window.unanswered,
            },
            _cause_of_end(window),
        )

    def emit_accepted(self, event: Event, window: _Window | None, overlooked: _Refusal | None) -> None:
        """Say that a send may go. `window` is the one that is open for it; `overlooked`: observe mode's."""
        reason = None  # none holds: only observe mode lets it go
        if window is not None:
            reason = "window-open"
        elif event.sort == "template":
            reason = "template"
        elif self.is_direct_send(event):
            reason = "direct-send"
        content: dict[str, Any] = {"send": event.body, "window": None, "reason": reason, "valid_until": None}
        if window is not None:
            content["window"] = {
                "opened_at": rfc3339(window.opened_at),
                "expires_at": rfc3339(window.expires_at),
            }
            if overlooked is None and self.refusal(event, is_open=False) is not None:
                content["valid_until"] = rfc3339(window.end - self.policy.safety_margin_ms)
        if overlooked is not None:
            content["would_reject"] = {"reason": overlooked.reason, "remedy": overlooked.remedy}
        self.emit(
            ("send-accepted", "janela.send.accepted.v1"),
            f"{event.key}/{event.body['id']}/accepted",
            event.key,
            event.time_ms,
            content,
            _cause(event),
        )

    def emit_rejected(self, event: Event, intent: str, refusal: _Refusal) -> None:
        window = self.windows.get(event.key)
        self.emit(
            ("send-rejected", "janela.send.rejected.v1"),
            f"{event.key}/{event.body['id']}/rejected",
            event.key,
            event.time_ms,
            {
                "send": {
                    "id": event.body["id"],
                    "type": event.body["type"],
                    "category": _category(event),
                    "time": rfc3339(event.time_ms),
                    "intent": intent,
                    "context": event.body.get("context"),
                },
                "reason": refusal.reason,
                "provider_code": refusal.provider_code,
                "remedy": refusal.remedy,
                "window": None if window is None else _last_known(window, event.time_ms),
            },
            _cause(event),
        )

    def emit(
        self,
        topic_and_type: tuple[str, str],
        id_: str,
        key: str,
        time_ms: int,
        content: dict[str, Any],
        cause: Cause,
    ) -> None:
        effects_from_ms = self.policy.effects_from_ms
        if effects_from_ms is not None and time_ms < effects_from_ms:
            return
        topic, type_ = topic_and_type
        channel, business_id, contact_id = key.split(":")
        event = {
            "id": id_,
            "type": type_,
            "subject": key,
            "time": rfc3339(time_ms),
            "data": {
                "channel": channel,
                "business_id": business_id,
                "contact_id": contact_id,
                **content,
            },
        }
        self.outputs.append((Output(topic, id_, key, event), cause))


def _cause(event: Event) -> Cause:
    return Cause(_TOPICS[event.topic_kind], event.offset)


def _cause_of_end(window: _Window) -> Cause:
    return Cause(_TOPICS["inbound"], window.extended_by)


def _channel(key: str) -> str:
    return key.partition(":")[0]


def _category(event: Event) -> str:
    """The category as it is judged: any case, an unknown one of a template is marketing, else service."""
    category: str = given(event.body, "category", "service").lower()
    if category in ("marketing", "utility", "authentication"):
        return category
    return "marketing" if event.sort == "template" else "service"


def _last_known(window: _Window, time_ms: int) -> dict[str, Any]:
    closed = window.closed_at is not None
    return {
        "opened_at": rfc3339(window.opened_at),
        "expires_at": rfc3339(window.expires_at),
        "closed_at": rfc3339(window.end) if closed else None,
        "closed_for_seconds": (time_ms - window.end) // 1000 if closed else None,
    }
