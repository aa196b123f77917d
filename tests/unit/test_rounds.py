"""The witness of rounds: by what its records tell, what an owner was free to do is clean, and nothing else is.

Each test plays one partition by hand: what lies on the inputs and since when, and when the owner noted their ends.
"""

import gc
import json
import tracemalloc
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from aiokafka import TopicPartition
from aiokafka.record.default_records import DefaultRecord
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from processor.audit import witnesses as gathering
from processor.audit.findings import INPUTS, OUTPUTS, STATES, Committed, Found, Kind, Terms, Written
from processor.audit.model import Breach, Fold, run
from processor.audit.policy import ModelPolicy
from processor.audit.reading import leave
from processor.audit.records import Record, TopicKind, rfc3339
from processor.audit.rounds import HEADER, Round, Walk
from processor.audit.verdict import compare
from processor.audit.witnesses import Witnesses, until_cut
from processor.codec.rounds import round_header
from processor.core import partition as core
from processor.kafka.log import LogEnds
from processor.settings import Settings
from processor.stream import owner as owner_module
from processor.stream.merge import merge
from processor.stream.owner import Owner
from processor.stream.transport import Carrier
from processor.topics import names
from processor.tracing.tracer import Tracer
from tests.scene import DAY, HOUR, SECOND, T0

KINDS: tuple[TopicKind, TopicKind] = ("inbound", "outbound")
TERMS = Terms("/janela/janela", Settings().policy().version, "")
GRACE = 1000


class Play:
    """An owner, what lies on its topics, and what it wrote."""

    def __init__(self, clock: Any = "live", **more: Any) -> None:
        self.settings = Settings(partitions=1, clock=clock, **more)
        self.owner = Owner(0, self.settings, self.settings.policy(), names(self.settings), Tracer())
        self.inputs: dict[TopicKind, list[Record]] = {"inbound": [], "outbound": []}
        self.written: dict[str, list[Written]] = {name: [] for name in (*OUTPUTS, *STATES, "dead-letters")}
        self.cut = (0, 0, -1)

    def put(
        self, kind: TopicKind, time_ms: int, type_: str = "text", *, at_ms: int | None = None, who: int = 1
    ) -> None:
        """Let something lie on a topic since `at_ms`, unread."""
        log, at_ms = self.inputs[kind], time_ms if at_ms is None else at_ms
        body = {"id": f"{kind}{len(log)}", "type": type_, "business_id": "15550001", "contact_id": f"551190000000{who}"}
        key = f"whatsapp:15550001:551190000000{who}".encode()
        value = json.dumps(body | {"time": rfc3339(time_ms)}).encode()
        log.append(Record(kind, 0, len(log), at_ms, key, value, (), at_ms))

    def fetch(self, kind: TopicKind, count: int = 1) -> None:
        """Let the next records of a topic arrive."""
        side = KINDS.index(kind)
        start = self.owner.buffers[side].taken
        records = [
            DefaultRecord(each.offset, each.timestamp_ms, 1, each.key, each.value, [])
            for each in self.inputs[kind][start : start + count]
        ]
        carrier = Carrier(self.owner.inputs[side], start, start + len(records), 0, records)
        assert self.owner.accept(carrier)

    def decide(self, noted_ms: int | None = None, *, ends: tuple[int, int] | None = None) -> None:
        """Do a round, with the ends of both topics noted at a moment (None: not asked for), and commit it."""
        lying = tuple(len(self.inputs[kind]) for kind in KINDS)
        known = dict(zip(self.owner.inputs, ends or lying, strict=True)) if noted_ms is not None else {}
        round_ = self.owner.decide(LogEnds(noted_ms or 0, known), noted_ms or T0)
        for batch in round_.batches if round_ else ():
            memory, topic = MemoryRecords(bytes(batch._build())), self.written[batch.tp.topic]
            while (part := memory.next_batch()) is not None:
                for each in part:
                    topic.append(Written(len(topic), each.timestamp, each.key, each.value, tuple(each.headers)))
        if round_:
            self.cut = (*(round_.positions[tp] for tp in self.owner.inputs), round_.clock_ms)  # type: ignore[assignment]

    def judged(
        self, cut: tuple[int, int, int] | None = None, since: Mapping[str, set[str]] | None = None, **changed: Any
    ) -> list[tuple[Kind, str]]:
        """Give the kinds of faults and what is told of them, up to a cut that a worker has gone beyond."""
        end = cut or self.cut
        inbound, outbound = (self.inputs[kind][:to] for kind, to in zip(KINDS, end, strict=False))
        whole = all(len(self.inputs[kind]) == to for kind, to in zip(KINDS, end, strict=False))
        rights = leave(self.settings.model_copy(update=changed))
        with closing(witnesses_of(self.written)) as witnesses:
            schedule = witnesses.schedule(rights, until=cut, clock_ms=end[2], is_whole=whole)
            fold = Fold(inbound, outbound, ModelPolicy(), 1, schedule=schedule)
            found = Found(0, dict(zip(INPUTS, (inbound, outbound), strict=True)), self.written, None, schedule)
            found = found._replace(committed=Committed(*self.cut[:2], self.owner.sequence))
            faults = compare(until_cut(found, cut, since or {}) if cut else found, fold, TERMS)
            return [(fault.kind, fault.details) for fault in faults]

    def said(self) -> list[str]:
        """Give what was said, in order."""
        events = [json.loads(each.value or b"") for name in OUTPUTS for each in self.written[name]]
        return [event["id"].split("/", 1)[1] for event in sorted(events, key=lambda event: str(event["sequence"]))]


def witnesses_of(written: Mapping[str, list[Written]]) -> Witnesses:
    """Gather what the records of all topics tell; to be closed."""
    witnesses = Witnesses()
    for topic in (*OUTPUTS, *STATES):
        for record in written[topic]:
            witnesses.note(topic, record)
    return witnesses


def opened(clock: Any = "live", **more: Any) -> Play:
    """Give a play with one window, opened at T0."""
    play = Play(clock, **more)
    play.put("inbound", T0)
    play.fetch("inbound")
    play.decide(T0)
    assert play.said() == ["opened"]
    return play


# ---------------------------------------------------------------------------------------------------------- the header


def test_each_record_of_a_round_tells_what_it_took_and_how_time_went() -> None:
    play = opened()
    play.put("outbound", T0 + HOUR)
    play.put("inbound", T0 + HOUR, "consent")  # a bad record: dead letters tell nothing of a round
    play.fetch("outbound")
    play.fetch("inbound")
    play.decide(T0 + 2 * HOUR)
    told = [[Round.read(each.headers) for each in play.written[name]] for name in ("window-opened", "send-accepted")]
    first = Round(0, 1, 1, 0, 0, 0, 0, T0, T0)
    second = Round(2, 2, 2, 0, 1, 1, T0, T0 + HOUR, T0 + 2 * HOUR)
    assert told == [[first], [second]]
    assert [Round.read(each.headers) for each in play.written["window-state"]] == [first, second]
    assert [str(first), str(second)] == [f"0+1/0 0+0/0 0+{T0}/0", f"2+0/0 0+1/0 {T0}+{HOUR}/{HOUR}"]
    assert all(HEADER not in dict(each.headers) for each in play.written["dead-letters"])


LONG = b"9" * 19


@pytest.mark.parametrize(
    "text",
    [
        *(None, b"", b"1+1 1+1", b"1-2/3 0+0 0+0", b"1+1/0 0+0/0 0+0/0 ", b"\xff"),
        *(LONG + b"+0 0+0 0+0", b"1+" + LONG + b" 0+0 0+0", b"0+0/-" + LONG + b" 0+0 0+0", b"0+0 0+0 0+1/" + LONG),
    ],
)
def test_a_header_that_is_not_in_its_form_tells_nothing(text: bytes | None) -> None:
    assert Round.read([(HEADER, text)]) is None
    assert Round.read([]) is None
    assert Round.read([(HEADER, b"1+1 0+0 5+0"), (HEADER, b"1+1 0+0 5+0")]) is None


def test_a_round_in_which_a_message_came_too_late_tells_of_itself_though_nothing_came_of_it() -> None:
    """W9"""
    play = opened()
    play.put("outbound", T0 + DAY + HOUR, "status")
    play.fetch("outbound")
    play.decide(T0 + DAY + HOUR)
    states = len(play.written["window-state"])
    play.put("inbound", T0 + HOUR - SECOND, at_ms=T0 + DAY + HOUR, who=2)
    play.fetch("inbound")
    play.decide(T0 + DAY + HOUR)
    assert len(play.written["window-state"]) == states + 1
    assert play.judged() == []


# ------------------------------------------------------------------------------------------------ what a worker may do


def test_timers_of_idle_time_are_clean() -> None:
    """W4 E1"""
    play = opened()
    for noted_ms in (T0 + 22 * HOUR + GRACE, T0 + 23 * HOUR, T0 + DAY + GRACE, T0 + 6 * DAY):
        play.decide(noted_ms)
    assert play.said() == ["opened", f"expiring/{T0 + DAY}/7200", "closed"]
    assert play.written["window-state"][-1].value is None  # forgotten
    assert play.judged() == []


def test_idle_time_that_fired_nothing_stands_in_the_next_round() -> None:
    """E1a"""
    play = opened()
    play.put("inbound", T0 + HOUR, at_ms=T0 + HOUR)
    play.fetch("inbound")
    play.decide(T0 + HOUR)  # its timer is stale at the old end
    play.decide(T0 + DAY - 2 * HOUR + GRACE)
    assert play.owner.core.clock_ms == T0 + DAY - 2 * HOUR
    play.put("inbound", T0 - HOUR, at_ms=T0 + DAY - HOUR, who=2)  # the clock is at its threshold
    play.fetch("inbound")
    play.decide(T0 + DAY - HOUR)
    assert play.said()[-2:] == ["opened", f"expiring/{T0 + DAY - HOUR}/7200"]
    assert play.judged() == []


def test_a_full_round_is_clean_also_while_the_event_that_it_stopped_before_is_not_committed() -> None:
    play = Play()
    play.put("inbound", T0)
    play.put("inbound", T0 + DAY)
    play.fetch("inbound", 2)
    with patch.object(core, "OUTPUTS_MAX", 2):
        play.decide(T0 + DAY)
    play.put("outbound", T0 + HOUR, at_ms=T0 + DAY + SECOND)  # came meanwhile, and is taken first
    play.fetch("outbound")
    with patch.object(core, "OUTPUTS_MAX", 1):
        play.decide(T0 + DAY + SECOND)
    assert play.cut[:2] == (1, 1)
    assert play.judged(play.cut) == play.judged() == []
    play.decide(T0 + DAY + SECOND)
    assert play.judged() == []


def test_a_message_that_came_after_a_send_was_judged_is_no_fault() -> None:
    play = Play()
    play.put("outbound", T0 + SECOND)
    play.fetch("outbound")
    play.decide(T0 + SECOND)
    play.put("inbound", T0, at_ms=T0 + 2 * SECOND)
    play.fetch("inbound")
    play.decide(T0 + 2 * SECOND)
    assert play.said() == ["outbound0/rejected", "opened"]
    assert play.judged() == []


@pytest.mark.parametrize("clock", ["live", "event"])
def test_a_round_that_is_full_stops_on_the_way_to_the_next_event(clock: Any) -> None:
    play = Play(clock)
    for who in range(1, 6):
        play.put("inbound", T0 + who, who=who)
    play.put("inbound", T0 + 3 * DAY)
    play.fetch("inbound", 6)
    with patch.object(core, "OUTPUTS_MAX", 2):
        for _ in range(12):
            play.decide(T0 + 3 * DAY)
    assert len({Round.read(each.headers) for each in play.written["window-closed"]}) > 1
    assert play.cut[:2] == (6, 0)
    assert play.judged() == []


def test_rounds_of_which_nothing_came_leave_gaps() -> None:
    """W10"""
    play = opened()
    for kind, type_ in (("outbound", "status"), ("inbound", "system"), ("inbound", "history")):
        play.put(kind, T0 + HOUR, type_)  # type: ignore[arg-type]
        play.fetch(kind)  # type: ignore[arg-type]
        play.decide(T0 + HOUR)
    play.put("outbound", T0 + HOUR)
    play.fetch("outbound")
    play.decide(T0 + HOUR)
    assert len(play.written["window-state"]) == 2
    assert play.judged() == []


def test_what_is_beyond_a_cut_is_left_out_by_its_rounds() -> None:
    play = opened()
    cut = play.cut
    play.put("inbound", T0 + HOUR, who=2)
    play.fetch("inbound")
    play.decide(T0 + HOUR)
    play.decide(T0 + 2 * DAY)
    assert play.judged(cut) == []
    assert play.judged() == []


def test_beside_a_worker_at_work_each_state_is_judged_of_which_no_more_was_written() -> None:
    play = opened()
    play.put("inbound", T0 + HOUR, who=2)
    play.fetch("inbound")
    play.decide(T0 + HOUR)
    cut = play.cut
    play.put("inbound", T0 + 2 * HOUR, who=1)
    play.fetch("inbound")
    play.decide(T0 + 2 * HOUR)
    first, second, _ = states = play.written["window-state"]
    assert play.judged(cut) == []
    states.remove(first)  # compacted: there is a newer one beyond the cut
    assert play.judged(cut) == []
    states.remove(second)
    assert [kind for kind, _ in play.judged(cut)] == [Kind.WRONG_STATE]
    assert play.judged(cut, since={"window-state": {second.key_text}}) == []


# -------------------------------------------------------------------------------------------- what a worker may not do


def test_a_merge_that_does_not_wait_for_the_end_of_a_topic_is_found() -> None:
    play = Play()
    play.put("inbound", T0)
    play.put("outbound", T0 + SECOND)
    play.fetch("outbound")
    for ends in (None, (1, 1)):
        with patch.object(owner_module, "merge", _hasty(merge)):
            play.decide(None if ends is None else T0 + HOUR)
    play.fetch("inbound")
    play.decide(T0 + HOUR)
    assert play.said() == ["outbound0/rejected", "opened"]
    ((kind, details),) = play.judged()
    assert (kind, details.split(" (")[0]) == (Kind.OUT_OF_ORDER, "did not wait for messages.inbound@0")


def _hasty(merge_: Callable[..., Any]) -> Callable[..., Any]:
    return lambda inbound, outbound, _, limit: merge_(inbound, outbound, (True, True), limit)


@pytest.mark.parametrize(
    ("ends", "at_ms", "why"),
    [
        ((1, 0), T0 + DAY, "before messages.inbound@1 ("),
        ((2, 0), T0 + DAY, "before messages.inbound@1 ("),
        ((2, 0), T0 + DAY + HOUR, "without having read both topics to their ends"),
        (None, T0 + DAY, "with ends from 1970"),
    ],
)
def test_timers_in_a_backlog_are_early_whatever_the_worker_says_of_the_ends(
    ends: tuple[int, int] | None, at_ms: int, why: str
) -> None:
    play = opened()
    play.put("inbound", T0 + DAY - SECOND, at_ms=at_ms)  # lies there, unread, and would have extended the window
    with patch.object(owner_module, "all", lambda _: True, create=True):
        if ends is None:
            with patch.object(owner_module, "round_header", _without_ends(round_header)):
                play.decide(T0 + DAY + HOUR)
        else:
            play.decide(T0 + DAY + HOUR, ends=ends)
    play.fetch("inbound")
    play.decide(T0 + DAY + HOUR)
    assert "closed" in play.said()
    kind, details = play.judged()[0]
    assert (kind, why in details) == (Kind.EARLY, True), details


def _without_ends(header: Callable[..., Any]) -> Callable[..., Any]:
    return lambda began, ended, _: header(began, ended, [None, None, 0])


def test_a_clock_that_does_not_keep_its_grace_is_early() -> None:
    play = opened(timer_grace_ms=0)
    play.decide(T0 + DAY)
    assert play.judged() == []
    assert {kind for kind, _ in play.judged(timer_grace_ms=1)} == {Kind.EARLY}


def test_idle_time_is_early_where_event_time_alone_moves_the_clock() -> None:
    play = opened()
    play.decide(T0 + 2 * DAY)
    assert {kind for kind, _ in play.judged(clock="event")} == {Kind.EARLY}


def test_a_message_that_was_there_before_the_ends_were_noted_may_be_so_within_the_tolerance_alone() -> None:
    play = opened()
    play.decide(T0 + DAY + HOUR)
    play.put("inbound", T0 + DAY, at_ms=T0 + DAY + HOUR - GRACE)
    play.fetch("inbound")
    play.decide(T0 + DAY + HOUR)
    assert play.judged() == []
    play.inputs["inbound"][1] = play.inputs["inbound"][1]._replace(appended_ms=T0 + DAY + HOUR - GRACE - 1)
    assert {kind for kind, _ in play.judged()} == {Kind.EARLY}
    play.inputs["inbound"][1] = play.inputs["inbound"][1]._replace(appended_ms=None)  # the topic does not say
    assert play.judged() == []


Change = Callable[[Round], Round]


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told._replace(inbound_to=told.inbound_to + 1),
        lambda told: told._replace(inbound_to=told.inbound_to - 1),
        lambda told: told._replace(inbound_from=told.inbound_from + 1),
        lambda told: told._replace(inbound_from=told.inbound_from - 1),
        lambda told: told._replace(clock_ms=told.clock_ms + 1),
        lambda told: told._replace(clock_ms=told.clock_ms - 1),
        lambda told: told._replace(clock_from_ms=told.clock_from_ms - 1),
        lambda told: told._replace(outbound_to=7),
    ],
)
def test_a_round_that_is_told_wrongly_is_found(change: Change) -> None:
    play = opened()
    for hours in (1, 2, 3):
        play.put("inbound", T0 + hours * HOUR, who=hours + 1)
        play.fetch("inbound")
        play.decide(T0 + hours * HOUR)
    assert play.judged() == []
    told = Round.read(play.written["window-opened"][2].headers)
    assert told is not None
    for topic in play.written.values():
        topic[:] = [_telling(each, change(told)) if Round.read(each.headers) == told else each for each in topic]
    assert play.judged() != []


def test_one_record_that_tells_of_another_round_or_of_none_is_found() -> None:
    for name in ("window-opened", "window-state"):
        for other in (0, None):
            play = opened()
            play.put("inbound", T0 + HOUR, who=2)
            play.fetch("inbound")
            play.decide(T0 + HOUR)
            topic = play.written[name]
            told = None if other is None else Round.read(topic[other].headers)
            topic[1] = _telling(topic[1], told)
            expected = Kind.WRONG if other is None else Kind.OUT_OF_ORDER
            assert expected in {kind for kind, _ in play.judged()}, (name, other)


def _telling(record: Written, told: Round | None) -> Written:
    headers = [each for each in record.headers if each[0] != HEADER]
    return record._replace(headers=(*headers, *([(HEADER, str(told).encode())] if told else [])))


def test_where_no_record_tells_of_its_round_event_time_alone_is_judged() -> None:
    play = opened("event")
    for topic in play.written.values():
        topic[:] = [_telling(each, None) for each in topic]
    assert play.judged() == []


def test_a_record_of_another_hand_does_not_hide_the_rounds_from_the_others() -> None:
    """A send was judged where inbound had ended; a message that was to come before it came later."""
    play = opened("event")
    play.put("outbound", T0 + 2 * HOUR, who=2)
    play.fetch("outbound")
    play.decide(T0 + 2 * HOUR)
    play.put("inbound", T0 + HOUR, who=2)
    play.fetch("inbound")
    play.decide(T0 + 2 * HOUR)
    assert play.judged() == []
    play.written["window-state"].append(Written(99, T0, b"whatsapp:15550001:5511900000009", None))
    assert [kind for kind, _ in play.judged()] == [Kind.WRONG]


def test_a_round_that_took_more_than_is_committed_is_found() -> None:
    """Also where nothing came of the record that is not committed."""
    play = opened("event")
    play.put("inbound", T0)
    play.put("outbound", T0 + HOUR)
    play.fetch("inbound")
    play.fetch("outbound")
    play.decide(T0 + HOUR)
    assert play.judged() == []
    inbound, outbound, clock_ms = play.cut
    play.cut = inbound - 1, outbound, clock_ms
    assert play.judged() == [(Kind.UNEXPECTED, "took messages.inbound up to 2, committed is 1")]


def test_a_breach_names_the_round_and_the_record_that_tells_of_it() -> None:
    play = opened(timer_grace_ms=0)
    play.decide(T0 + DAY)
    with closing(witnesses_of(play.written)) as witnesses:
        schedule = witnesses.schedule(leave(Settings(clock="live")), is_whole=True)
        (breach,) = run(play.inputs["inbound"], [], ModelPolicy(), 1, schedule=schedule).breaches
    assert isinstance(breach, Breach)
    assert breach.witness is not None
    assert (breach.kind, breach.witness.topic, breach.witness.offset) == ("early", "window-expiring", 0)


# ------------------------------------------------------------------------------------------------------ many of them


def _witnessed(rounds: Iterable[Round]) -> Witnesses:
    """Gather rounds, each told by a record of its own; to be closed."""
    witnesses = Witnesses()
    for offset, round_ in enumerate(rounds):
        witnesses.note(OUTPUTS[0], Written(offset, T0, None, None, ((HEADER, str(round_).encode()),)))
    return witnesses


def test_of_two_rounds_that_end_alike_the_same_one_counts_whichever_was_read_first() -> None:
    one, other = Round(0, 1, None, 0, 0, None, 0, 5, None), Round(0, 1, None, 0, 0, None, 1, 5, None)
    for read in ((one, other), (other, one), (other, one, other, one)):
        with closing(_witnessed(read)) as witnesses:
            schedule = witnesses.schedule(leave(Settings()), is_whole=True)
            assert schedule is not None
            assert [witness.round for witness in schedule.witnesses] == [one]


def _one_after_the_other(count: int, start: int = 0) -> list[Round]:
    return [Round(at, at + 1, None, 0, 0, None, T0 + at, T0 + at + 1, None) for at in range(start, start + count)]


@given(st.data())
def test_rounds_come_in_their_order_however_the_topics_that_tell_of_them_were_read(data: st.DataObject) -> None:
    rounds = _one_after_the_other(12)
    told = [data.draw(st.lists(st.sampled_from(rounds)).map(sorted), label=name) for name in OUTPUTS]
    turns = data.draw(st.permutations([at for at, of_one in enumerate(told) for _ in of_one]))
    read = [told[at].pop(0) for at in turns]
    with closing(_witnessed(read)) as witnesses:
        schedule = witnesses.schedule(leave(Settings()), is_whole=True)
        assert schedule is not None
        assert [witness.round for witness in schedule.witnesses] == sorted(set(read))
        walk = Walk(schedule)
        assert [round_ for round_ in rounds if walk.has(round_)] == sorted(set(read))


@pytest.mark.parametrize("runs_max", [1, 2, 50])
def test_a_topic_that_goes_back_again_and_again_takes_no_more_files_than_there_may_be(
    runs_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "RUNS_MAX", runs_max)
    rounds = _one_after_the_other(20)
    open_before = len(list(Path("/dev/fd").iterdir()))
    with closing(_witnessed(reversed(rounds))) as witnesses:
        assert len(list(Path("/dev/fd").iterdir())) - open_before <= runs_max + 1  # the schedule's
        schedule = witnesses.schedule(leave(Settings()), is_whole=True)
        assert schedule is not None
        assert [witness.round for witness in schedule.witnesses] == rounds[-runs_max:]
    assert len(list(Path("/dev/fd").iterdir())) == open_before


def test_rounds_wait_in_files_and_memory_is_the_same_for_twice_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "BLOCK_BYTES", 4096)

    def peak_bytes(count: int) -> int:
        gc.collect()  # empties what Python keeps for later: up to two thousand tuples of each size
        tracemalloc.start()
        try:
            with closing(_witnessed(_one_after_the_other(1, at)[0] for at in range(count))) as witnesses:
                schedule = witnesses.schedule(leave(Settings()), is_whole=True)
                assert schedule is not None
                assert Walk(schedule).has(Round(count - 1, count, None, 0, 0, None, T0 + count - 1, T0 + count, None))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # more than it keeps, both
    assert peak_bytes(6_000) - peak_bytes(3_000) < 60 * 3_000


def test_the_input_topics_of_an_owner_are_those_of_the_contract() -> None:
    assert Play().owner.inputs == tuple(TopicPartition(name, 0) for name in INPUTS)
