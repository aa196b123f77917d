"""The verdict: what is as the model says is clean, and whatever else is done to the topics is found and named."""

import dataclasses
import gc
import json
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.audit import model, records
from processor.audit import outputs as audit_outputs
from processor.audit.dead_letters import dead_letter_faults
from processor.audit.findings import (
    DEAD_LETTERS,
    INPUTS,
    OUTPUTS,
    STATES,
    Committed,
    Found,
    Kind,
    Place,
    Terms,
    Written,
)
from processor.audit.model import Fold, Result, run
from processor.audit.policy import ModelPolicy
from processor.audit.reading import Sample
from processor.audit.records import Digest, NotKept, Record, TopicKind
from processor.audit.spool import Spool
from processor.audit.verdict import Verdict, compare
from processor.audit.witnesses import until_cut

T0 = 1_795_348_800_000  # 2026-11-22T12:00:00.000Z
HOUR = 3_600_000
PREFIX = "acme."
KEYS = tuple(f"whatsapp:15550001:55119000{n:05}" for n in range(4))
TERMS = Terms("/janela/janela", "default-12345678", PREFIX)
CLOCK = T0 + 30 * HOUR

Topic = list[Written]
Topics = dict[str, Topic]


def record(kind: TopicKind, offset: int, key: str, hours: float, type_: str, **fields: Any) -> Record:
    channel, business_id, contact_id = key.split(":")
    time_ms = T0 + int(hours * HOUR)
    who = {"channel": channel, "business_id": business_id, "contact_id": contact_id}
    body = {"id": f"{kind}{offset}", "type": type_, "time": time_ms, **who, **fields}
    return Record(kind, 0, offset, time_ms, key.encode(), json.dumps(body).encode(), (("trace", b"1"),))


INBOUND = [
    *(record("inbound", n, key, 0, "text") for n, key in enumerate(KEYS)),
    record("inbound", 4, KEYS[0], 1, "consent", scope="marketing", value="granted"),
    Record("inbound", 0, 5, T0 + HOUR, KEYS[0].encode(), b"not json", (("__dlq.reason", b"mine"),)),
    record("inbound", 6, KEYS[1], 10, "text"),
    record("inbound", 7, KEYS[0], 30, "system"),
]
OUTBOUND = [record("outbound", n, key, 2, "text") for n, key in enumerate(KEYS)]
EXPECTED = run(INBOUND, OUTBOUND, ModelPolicy(), 1)


def fold(**more: Any) -> Fold:
    """Fold the inputs once more."""
    return Fold(INBOUND, OUTBOUND, ModelPolicy(), 1, **more)


CLOUD_EVENT = (("content-type", b"application/cloudevents+json"),)


def topics(expected: Result = EXPECTED, inbound: Sequence[Record] = INBOUND) -> Topics:
    """Write what the model says as a worker does, so that a test can spoil it."""
    written: Topics = {name: [] for name in (*OUTPUTS, "window-state", "consent-state", DEAD_LETTERS)}

    def put(topic: str, key: str, value: Any, headers: tuple[tuple[str, bytes | None], ...] = ()) -> None:
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        written[topic].append(Written(len(written[topic]), CLOCK, key.encode(), raw, headers))

    for number, output in enumerate(expected.outputs):
        shell = {
            "specversion": "1.0",
            "source": TERMS.source,
            "datacontenttype": "application/json",
            "sequence": f"{number:020}",
        }
        event = {**output.event, "data": {**output.event["data"], "policy": TERMS.policy_version}}
        put(output.topic, output.key, event | shell, CLOUD_EVENT)
    for number, (key, window) in enumerate(expected.windows.items(), len(expected.outputs)):
        put("window-state", key, {"v": 1, "sequence": f"{number:020}", **window})
    for key, consents in expected.consents.items():
        put("consent-state", key, {"v": 1, **consents})
    for letter in expected.dead_letters:
        source = inbound[letter.offset]
        ours = {
            "reason": letter.reason,
            "message": "it begins with n",
            "topic": PREFIX + letter.topic,
            "partition": "0",
            "offset": str(letter.offset),
            "timestamp": str(source.timestamp_ms),
            "processor": "1",
        }
        headers = tuple((f"__dlq.{name}", text.encode()) for name, text in ours.items())
        put(DEAD_LETTERS, (source.key or b"").decode(), source.value, (*source.headers, *headers))
    return written


def found(written: Topics, sequence_max: int | None = None) -> Found:
    return Found(0, dict(zip(INPUTS, (INBOUND, OUTBOUND), strict=True)), written, sequence_max)


def kinds(written: Topics, terms: Terms = TERMS, **more: Any) -> set[tuple[Kind, str]]:
    """Give the kinds of faults that are found, each with its topic."""
    return {(fault.kind, fault.topic) for fault in compare(found(written), fold(**more), terms)}


def changed(written: Written, change: dict[str, Any] | Callable[[dict[str, Any]], object]) -> Written:
    """Give a record with some other fields in its value, or one that was changed in place."""
    value = json.loads(written.value or b"")
    if isinstance(change, dict):
        value |= change
    else:
        change(value)
    return written._replace(value=json.dumps(value).encode())


def test_what_the_model_says_is_clean_on_every_topic() -> None:
    written = topics()
    assert all(written[name] for name in written if name != "send-rejected")
    assert list(compare(found(written), fold(), TERMS)) == []


@pytest.mark.parametrize("topic", ["window-opened", "window-expiring", "window-closed", "send-accepted", DEAD_LETTERS])
def test_a_record_that_is_not_there_is_lost_also_at_the_end(topic: str) -> None:
    for place in (0, -1):
        written = topics()
        del written[topic][place]
        assert kinds(written) == {(Kind.LOST, topic)}


def test_a_topic_without_its_tail_has_lost_each_event_of_it() -> None:
    written = topics()
    missing = written["window-closed"][1:]
    del written["window-closed"][1:]
    lost = [fault.subject for fault in compare(found(written), fold(), TERMS)]
    assert sorted(lost) == sorted(json.loads(record.value or b"")["id"] for record in missing)


def test_of_an_event_that_is_lost_the_input_is_named_that_it_must_come_of() -> None:
    """The send, and for a window the message that opened it or moved its end last."""
    kept, extended = KEYS[:2]
    said = [(kept, 0), (extended, 0), (extended, 6), (extended, 3), (kept, 48)]
    inbound = [record("inbound", n, key, hours, "text") for n, (key, hours) in enumerate(said)]
    outbound = [record("outbound", 0, kept, 1, "status"), record("outbound", 1, kept, 2, "text")]
    inputs = dict(zip(INPUTS, (inbound, outbound), strict=True))
    faults = list(compare(Found(7, inputs, {}), Fold(inbound, outbound, ModelPolicy(key_check=False), 1), TERMS))
    lost = [fault for fault in faults if fault.kind is Kind.LOST and fault.topic in OUTPUTS]
    assert [(fault.topic, fault.subject.split("@")[0].split("/")[0], fault.cause) for fault in lost] == [
        ("window-opened", kept, Place("messages.inbound", 7, 0)),
        ("window-opened", extended, Place("messages.inbound", 7, 1)),
        ("send-accepted", kept, Place("messages.outbound", 7, 1)),
        ("window-expiring", kept, Place("messages.inbound", 7, 0)),
        ("window-closed", kept, Place("messages.inbound", 7, 0)),
        ("window-expiring", extended, Place("messages.inbound", 7, 2)),
        ("window-closed", extended, Place("messages.inbound", 7, 2)),
        ("window-opened", kept, Place("messages.inbound", 7, 4)),
    ]
    assert "must come of messages.outbound[7]@1" in str(lost[2])


def test_an_event_that_comes_twice_is_doubled_under_its_number_or_a_new_one() -> None:
    for sequence in (None, f"{99:020}"):
        written = topics()
        topic = written["window-opened"]
        again = topic[0]._replace(offset=len(topic))
        topic.append(changed(again, {"sequence": sequence} if sequence else {}))
        faults = [fault for fault in compare(found(written), fold(), TERMS) if fault.kind is Kind.DOUBLED]
        assert [(fault.topic, fault.offset, fault.subject) for fault in faults] == [
            ("window-opened", len(topic) - 1, EXPECTED.outputs[0].id)
        ]


def test_an_event_that_nothing_called_for_is_unexpected() -> None:
    written = topics()
    strange = changed(written["window-opened"][-1], {"id": "x/opened", "sequence": f"{99:020}"})
    written["window-opened"].append(strange)
    assert (Kind.UNEXPECTED, "window-opened") in kinds(written)


@pytest.mark.parametrize(
    "change",
    [
        lambda event: event["data"].update(expires_at="2026-11-23T12:00:00.001Z"),
        lambda event: event["data"].pop("cause"),
        lambda event: event["data"].update(policy="default-00000000"),
        lambda event: event.update(time="2026-11-22T12:00:00Z"),
        lambda event: event.update(source="/janela/other"),
    ],
)
def test_an_event_that_says_something_else_is_wrong(change: Callable[[dict[str, Any]], object]) -> None:
    written = topics()
    written["window-opened"][1] = changed(written["window-opened"][1], change)
    assert kinds(written) == {(Kind.WRONG, "window-opened")}


@pytest.mark.parametrize("sequence", ["", "7", 7, None, "\N{ARABIC-INDIC DIGIT ONE}" * 20])
def test_an_event_without_a_number_of_20_digits_is_wrong(sequence: object) -> None:
    written = topics()
    written["window-opened"][0] = changed(written["window-opened"][0], {"sequence": sequence})
    assert kinds(written) == {(Kind.WRONG, "window-opened")}


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b"7", b'{"data":7}', b"\xff", b"[" * 2000 + b"]" * 2000])
def test_an_output_that_is_no_event_is_wrong_and_stops_nothing(value: bytes | None) -> None:
    written = topics()
    written["window-opened"].append(Written(4, CLOCK, b"k", value))
    assert kinds(written) == {(Kind.WRONG, "window-opened")}


@pytest.mark.parametrize("topic", STATES)
def test_a_state_that_is_nested_too_deeply_is_wrong_and_stops_nothing(topic: str) -> None:
    written = topics()
    written[topic].append(Written(99, CLOCK, b"k", b"[" * 2000 + b"]" * 2000))
    assert kinds(written) == {(Kind.WRONG_STATE, topic)}


@pytest.mark.parametrize(
    "headers", [(), (("content-type", None),), (("content-type", b"application/json"),), CLOUD_EVENT * 2]
)
def test_an_event_whose_headers_do_not_call_it_a_cloud_event_is_wrong(
    headers: tuple[tuple[str, bytes | None], ...],
) -> None:
    written = topics()
    written["window-opened"][0] = written["window-opened"][0]._replace(headers=headers)
    assert kinds(written) == {(Kind.WRONG, "window-opened")}


@pytest.mark.parametrize("count", [4001, 5000])
def test_an_integer_that_is_too_long_for_python_is_carried_as_it_is(count: int) -> None:
    digits = b"7" * count
    inbound, send = [record("inbound", 0, KEYS[0], 0, "text")], record("outbound", 0, KEYS[0], 1, "text", x=0)
    outbound = [send._replace(value=(send.value or b"").replace(b'"x": 0', b'"x": ' + digits))]
    written = topics(run(inbound, outbound, ModelPolicy(), 1))
    (accepted,) = written["send-accepted"]
    # what the model holds in place of it is written as an array of its digits
    held = b'["' + digits + b'"]'
    for spliced, faults in ((digits, []), (digits[:-1] + b"8", [Kind.WRONG])):
        written["send-accepted"] = [accepted._replace(value=(accepted.value or b"").replace(held, spliced))]
        there = Found(0, {INPUTS[0]: inbound, INPUTS[1]: outbound}, written)
        assert [it.kind for it in compare(there, Fold(inbound, outbound, ModelPolicy(), 1), TERMS)] == faults


HUGE = 1_500_000_000
UNTOLD = NotKept(value=Digest(HUGE, "ab" * 32), headers=(14_000, 90_000))


def letter_of_what_was_not_kept(**changes: str) -> Written:
    said = {
        "reason": "too-large", "topic": f"{PREFIX}messages.outbound", "partition": "0", "offset": "4",
        "timestamp": str(T0 + 3 * HOUR), "size": str(HUGE), "sha256": "ab" * 32, "headers": "14000", **changes,
    }  # fmt: skip
    return Written(1, CLOCK, b"k", None, tuple((f"__dlq.{name}", text.encode()) for name, text in said.items()))


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        ({}, set()),
        ({"size": "1500000001"}, {(Kind.WRONG, DEAD_LETTERS)}),
        ({"sha256": "ac" * 32}, {(Kind.WRONG, DEAD_LETTERS)}),
        ({"headers": "14001"}, {(Kind.WRONG, DEAD_LETTERS)}),
        ({"reason": "not-json"}, {(Kind.WRONG, DEAD_LETTERS)}),
    ],
)
def test_a_record_that_was_too_large_to_be_kept_is_judged_by_what_its_dead_letter_tells(
    changes: dict[str, str], faults: set[tuple[Kind, str]]
) -> None:
    written = topics()
    written[DEAD_LETTERS].append(letter_of_what_was_not_kept(**changes))
    outbound = [*OUTBOUND, Record("outbound", 0, 4, T0 + 3 * HOUR, b"k", None, (), None, UNTOLD)]
    with closing(Spool(Record)) as spool:
        for each in outbound:
            spool.append(each)
        assert list(spool) == outbound
        seen = Found(0, dict(zip(INPUTS, (INBOUND, spool), strict=True)), found(written).written)
        again = Fold(INBOUND, spool, ModelPolicy(), 1)
        assert {(fault.kind, fault.topic) for fault in compare(seen, again, TERMS)} == faults


def test_events_whose_numbers_are_swapped_are_out_of_order() -> None:
    written = topics()
    topic = written["window-opened"]
    numbers = [json.loads(record.value or b"")["sequence"] for record in topic[:2]]
    for place, number in enumerate(reversed(numbers)):
        topic[place] = changed(topic[place], {"sequence": number})
    topic[:2] = topic[1::-1]  # each topic by itself looks well
    faults = list(compare(found(written), fold(), TERMS))
    assert [(fault.kind, fault.subject) for fault in faults] == [(Kind.OUT_OF_ORDER, EXPECTED.outputs[0].id)]


def test_numbers_that_do_not_grow_along_a_topic_are_out_of_order() -> None:
    written = topics()
    written["window-opened"][:2] = written["window-opened"][1::-1]
    assert kinds(written) == {(Kind.OUT_OF_ORDER, "window-opened")}


def test_a_timer_whose_time_the_clock_has_not_reached_is_early() -> None:
    later = run([*INBOUND, record("inbound", 8, KEYS[0], 35, "system")], OUTBOUND, ModelPolicy(), 1)
    written = topics(later)
    early = [fault for fault in compare(found(written), fold(), TERMS) if fault.kind is Kind.EARLY]
    assert {(fault.topic, fault.subject) for fault in early} == {
        ("window-expiring", f"{KEYS[1]}@{T0}/expiring/{T0 + 34 * HOUR}/7200"),
        ("window-closed", f"{KEYS[1]}@{T0}/closed"),
    }


@pytest.mark.parametrize("topic", ["window-state", "consent-state"])
def test_a_state_that_is_not_what_must_be_known_is_wrong(topic: str) -> None:
    spoilt = topics()
    spoilt[topic][0] = changed(spoilt[topic][0], {"status": "?", "marketing": None})
    forgotten, unreadable, more = topics(), topics(), topics()
    forgotten[topic].append(forgotten[topic][0]._replace(value=None))
    unreadable[topic][0] = unreadable[topic][0]._replace(value=b"{")
    more[topic].append(
        changed(more[topic][0]._replace(key=b"whatsapp:1:2"), lambda it: it.update(sequence=f"{99:020}"))
    )
    del (missing := topics())[topic][0]
    for written in (spoilt, forgotten, unreadable, more, missing):
        assert kinds(written) == {(Kind.WRONG_STATE, topic)}


def test_only_the_newest_state_of_a_key_counts() -> None:
    written = topics()
    oldest = written["window-state"][0]._replace(value=b'{"v":1,"status":"open"}')
    written["window-state"].insert(0, oldest)
    assert kinds(written) == set()


def test_a_dead_letter_is_held_to_its_record_byte_for_byte() -> None:
    def spoilt(**fields: Any) -> set[tuple[Kind, str]]:
        written = topics()
        written[DEAD_LETTERS][0] = written[DEAD_LETTERS][0]._replace(**fields)
        return kinds(written)

    (letter,) = topics()[DEAD_LETTERS]
    ours = letter.headers[1:]
    other_reason = (letter.headers[0], ("__dlq.reason", b"bad-field"), *letter.headers[2:])
    wrong = {(Kind.WRONG, DEAD_LETTERS)}
    assert spoilt(value=b"not JSON") == wrong
    assert spoilt(key=b"k") == wrong
    assert spoilt(headers=ours) == wrong
    assert spoilt(headers=other_reason) == wrong
    nowhere = {(Kind.UNEXPECTED, DEAD_LETTERS), (Kind.LOST, DEAD_LETTERS)}
    assert spoilt(headers=()) == nowhere


def test_an_input_that_is_neither_applied_nor_a_dead_letter_is_lost() -> None:
    more = [*INBOUND, record("inbound", len(INBOUND), KEYS[0], 30, "system")]
    there = Found(0, dict(zip(INPUTS, (more, OUTBOUND), strict=True)), topics())
    (fault,) = compare(there, fold(), TERMS)
    assert (fault.kind, fault.subject) == (Kind.LOST, "the inputs")
    assert fault.details == "13 records were read, 11 applied, 1 dead letters"


def test_a_dead_letter_that_comes_twice_is_doubled() -> None:
    written = topics()
    written[DEAD_LETTERS] *= 2
    assert kinds(written) == {(Kind.DOUBLED, DEAD_LETTERS)}


@pytest.mark.parametrize("offset", [b"9" * 5000, b"-1", b"", b"\xff"])
def test_a_dead_letter_of_no_offset_is_unexpected(offset: bytes) -> None:
    written = topics()
    letter = written[DEAD_LETTERS][0]
    headers = tuple((name, offset if name == "__dlq.offset" else text) for name, text in letter.headers)
    written[DEAD_LETTERS].append(letter._replace(headers=headers))
    assert kinds(written) == {(Kind.UNEXPECTED, DEAD_LETTERS)}


def test_dead_letters_in_any_order_are_held_to_their_records_in_two_passes() -> None:
    class Passes(list[Record]):
        gone = 0

        def __iter__(self) -> Iterator[Record]:
            self.gone += 1
            return super().__iter__()

    inbound = Passes(record("inbound", n, KEYS[0], n, "text")._replace(value=b"%d{" % n) for n in range(20))
    result = run(inbound, [], ModelPolicy(), 1)
    letters = topics(result, inbound)[DEAD_LETTERS]
    assert len(letters) == 20
    for order in (letters, letters[::-1], [letters[5], *letters[:5], *letters[6:]]):
        inbound.gone = 0
        there = Found(0, dict(zip(INPUTS, (inbound, []), strict=True)), {DEAD_LETTERS: order})
        assert list(dead_letter_faults(there, result.dead_letters, TERMS)) == []
        assert inbound.gone <= 2
    changed_ = letters[0]._replace(value=b"{")
    for order in ([changed_, *letters[1:]], [*letters[1:], changed_]):
        there = Found(0, dict(zip(INPUTS, (inbound, []), strict=True)), {DEAD_LETTERS: order})
        assert [it.kind for it in dead_letter_faults(there, result.dead_letters, TERMS)] == [Kind.WRONG]


def test_while_a_worker_goes_on_only_dead_letters_of_what_it_takes_now_are_left_out() -> None:
    def judged(topic: str, offset: int) -> set[tuple[Kind, str]]:
        written = topics()
        ours = (("__dlq.reason", b"not-json"), ("__dlq.topic", topic.encode()), ("__dlq.offset", b"%d" % offset))
        written[DEAD_LETTERS].append(Written(1, CLOCK, b"k", b"{", ours))
        faults = compare(found(written, len(EXPECTED.outputs) + len(EXPECTED.windows)), fold(), TERMS)
        return {(fault.kind, fault.topic) for fault in faults}

    assert judged(PREFIX + INPUTS[0], len(INBOUND)) == set()
    for topic, offset in ((PREFIX + INPUTS[0], 0), ("", 99), ("elsewhere", 99)):
        assert judged(topic, offset) == {(Kind.UNEXPECTED, DEAD_LETTERS)}


@pytest.mark.parametrize("less", [0, 1])
def test_a_number_beyond_the_committed_one_is_unexpected(less: int) -> None:
    last = len(EXPECTED.outputs) + len(EXPECTED.windows) - 1
    committed = Committed(len(INBOUND), len(OUTBOUND), last - less)
    faults = list(compare(found(topics())._replace(committed=committed), fold(), TERMS))
    assert [(it.kind, it.topic, it.offset, it.subject, it.details) for it in faults] == [
        (Kind.UNEXPECTED, "window-state", 3, f"sequence {last:020}", f"committed is {last - 1:020}")
    ][:less]


def test_what_a_worker_wrote_after_the_cut_is_left_out() -> None:
    tail = [record("inbound", 8, KEYS[0], 31, "text")]
    later = run([*INBOUND, *tail], OUTBOUND, ModelPolicy(), 1)
    written = topics(later)
    cut = until_cut(found(written, len(EXPECTED.outputs) - 1), (len(INBOUND), len(OUTBOUND), CLOCK))
    assert list(compare(cut, fold(), TERMS)) == []
    assert kinds(written) == {(Kind.UNEXPECTED, "window-opened"), (Kind.WRONG_STATE, "window-state")}


def test_of_a_sample_only_its_contacts_are_compared_and_others_move_the_clock() -> None:
    sample = Sample(1, 2)
    concerned = {key for key in KEYS if sample.holds(key.encode())}
    assert 0 < len(concerned) < len(KEYS)
    expected = run(INBOUND, OUTBOUND, ModelPolicy(), 1, concerns=concerned.__contains__)
    assert expected.outputs == [output for output in EXPECTED.outputs if output.key in concerned]
    assert expected.windows == {key: window for key, window in EXPECTED.windows.items() if key in concerned}
    assert expected.clock_ms == EXPECTED.clock_ms
    assert expected.counts.records == EXPECTED.counts.records
    terms = TERMS._replace(concerns=concerned.__contains__)
    written = {
        name: [record for record in records if name == DEAD_LETTERS or (record.key or b"").decode() in concerned]
        for name, records in topics().items()
    }
    assert kinds(written, terms, concerns=concerned.__contains__) == set()


def test_a_verdict_counts_every_fault_and_keeps_some_of_each_kind() -> None:
    written = topics()
    written["window-opened"].clear()
    written[DEAD_LETTERS] *= 2
    judged = Verdict(examples_max=2)
    judged.add(found(written), fold(), TERMS)
    judged.add(found(topics()), fold(), TERMS)
    assert not judged.is_clean
    assert judged.faults == {Kind.LOST: 4, Kind.DOUBLED: 1}
    assert len(judged.examples) == 3
    assert dataclasses.asdict(judged.counts)["records"] == 2 * (len(INBOUND) + len(OUTBOUND))
    assert judged.counts.records == judged.counts.applied + judged.counts.dead_letters
    told = f"lost window-opened[0]: {EXPECTED.outputs[0].id}: must come of messages.inbound[0]@0"
    assert told in str(judged).replace("\n  ", "\n").splitlines()


# ------------------------------------------------------------------------------------- whatever is done to the outputs


@st.composite
def spoilt_orders(draw: st.DrawFn) -> list[int]:
    """Give places of due events as they were found: some are not there, some come twice, some come elsewhere."""
    places = [place for place in range(len(EXPECTED.outputs)) if not draw(st.sampled_from([False] * 4 + [True]))]
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(places)))
        places.insert(at, draw(st.integers(0, len(EXPECTED.outputs) - 1)))
    for _ in range(draw(st.integers(0, 2))):
        moved = places.pop(draw(st.integers(0, len(places) - 1))) if places else 0
        places.insert(draw(st.integers(0, len(places))), moved)
    return places


@given(spoilt_orders(), st.sampled_from([0, 1, 2, 5, audit_outputs.LOOK_AHEAD]))
def test_however_far_one_looks_ahead_each_event_that_is_due_is_found_once(places: list[int], look_ahead: int) -> None:
    written = topics()
    for name in OUTPUTS:
        written[name].clear()
    states = written["window-state"]
    for number, place in enumerate(places):
        output = EXPECTED.outputs[place]
        (template,) = (it for it in topics()[output.topic] if json.loads(it.value or b"")["id"] == output.id)
        record = changed(template, {"sequence": f"{number:020}"})
        written[output.topic].append(record._replace(offset=len(written[output.topic])))
    for at, state in enumerate(states):
        states[at] = changed(state, {"sequence": f"{len(places) + at:020}"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit_outputs, "LOOK_AHEAD", look_ahead)
        faults = list(compare(found(written), fold(), TERMS))
    said, due = Counter(places), Counter(range(len(EXPECTED.outputs)))
    ids = {place: output.id for place, output in enumerate(EXPECTED.outputs)}

    def told(kind: Kind) -> list[str]:
        return sorted(fault.subject for fault in faults if fault.kind is kind)

    assert told(Kind.LOST) == sorted(ids[place] for place in (due - said).elements())
    assert told(Kind.DOUBLED) == sorted(ids[place] for place in (said - due).elements())
    assert {fault.kind for fault in faults} <= {Kind.LOST, Kind.DOUBLED, Kind.OUT_OF_ORDER}
    if not said - due:
        assert bool(told(Kind.OUT_OF_ORDER)) == (places != sorted(places))


@pytest.mark.parametrize("apart_hours", [0.001, 25])
def test_what_is_found_as_it_is_due_is_let_go_of(apart_hours: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many events there are, and however often a window is extended, only its contacts stay in memory."""
    for kept in ("_date", "_midnight_ms"):  # what was worked out is kept for later, up to a number
        monkeypatch.setattr(records, kept, getattr(records, kept).__wrapped__)
    monkeypatch.setattr(model, "rfc3339", records.rfc3339.__wrapped__)

    def peak_bytes(messages: int) -> int:
        inbound = [record("inbound", n, KEYS[n % len(KEYS)], apart_hours * n, "text") for n in range(messages)]
        written = topics(run(inbound, [], ModelPolicy(), 1))
        there = Found(0, dict(zip(INPUTS, (inbound, []), strict=True)), written)
        gc.collect()  # empties what Python keeps for later: up to two thousand tuples of each size
        tracemalloc.start()
        try:
            assert list(compare(there, Fold(inbound, [], ModelPolicy(), 1), TERMS)) == []
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak_bytes(4_500) - peak_bytes(2_500) < 20 * 2_000
