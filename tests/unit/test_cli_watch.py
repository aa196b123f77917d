"""`janela watch`: the order of what a fetch brings, and how it reads."""

import dataclasses
import json
from typing import Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition

from processor.cli import watch
from processor.cli.main import main
from processor.cli.watch import TOPICS, Kind, in_order, line
from processor.contract import topics
from processor.kafka.unread import Unread
from tests.examples import OutputExample, output_examples

pytestmark = pytest.mark.usefixtures("nothing_set")

KINDS = {topic: kind for kind, topic in TOPICS.items()}
EXAMPLES = [example for topic in TOPICS.values() for example in output_examples(topic, "good")]


def record(topic: str, partition: int, value: dict[str, Any] | None, key: str = "whatsapp:1:2") -> Any:
    """Give a record as a consumer does."""
    raw = None if value is None else json.dumps(value).encode()
    return ConsumerRecord(topic, partition, 0, 1_795_373_239_000, 0, key.encode(), raw, 0, 0, len(raw or b""), ())


def fetch(*records: Any) -> dict[TopicPartition, list[Any]]:
    """Group records as a fetch does: by topic and partition."""
    found: dict[TopicPartition, list[Any]] = {}
    for each in records:
        found.setdefault(TopicPartition(each.topic, each.partition), []).append(each)
    return found


def event(sequence: int, minute: int) -> dict[str, Any]:
    return {"time": f"2026-11-22T18:{minute:02d}:00.000Z", "sequence": f"{sequence:020d}"}


def test_one_partition_comes_in_order_of_sequence_over_all_topics() -> None:
    fetched = fetch(
        record("window-opened", 0, event(1, 10)),
        record("window-opened", 0, event(4, 20)),
        record("window-closed", 0, event(3, 40)),  # its time is later, its sequence is not
        record("send-rejected", 0, event(2, 5)),
    )
    assert [seen.sequence for seen in in_order(fetched, KINDS)] == [1, 2, 3, 4]


def test_partitions_are_laid_together_by_time_and_keep_their_own_order() -> None:
    fetched = fetch(
        record("window-opened", 0, event(1, 10)),
        record("window-closed", 0, event(2, 5)),
        record("window-opened", 1, event(1, 7)),
        record("window-closed", 1, event(2, 30)),
    )
    seen = list(in_order(fetched, KINDS))
    assert [each.time[14:16] for each in seen] == ["07", "10", "05", "30"]


def test_what_was_too_large_to_be_kept_is_shown_by_its_size(capsys: pytest.CaptureFixture[str]) -> None:
    raw: Any = Unread(1_500_000_000, "ab" * 32)
    huge = dataclasses.replace(record("window-opened", 0, event(1, 10)), value=raw)
    seen = list(in_order(fetch(record("window-opened", 0, event(1, 10)), huge), KINDS))
    assert line(seen[1]).plain == "2026-11-22 18:47:19  opened    whatsapp:1:2  a value of 1,500,000,000 bytes"
    watch._print_raw(seen[1])
    assert json.loads(capsys.readouterr().out) == {"key": "whatsapp:1:2", "too_large": "a value of 1,500,000,000 bytes"}


GOOD = next(example.value for example in EXAMPLES if example.event == "window-opened")
DEEP = b"[" * 100_000
FOREIGN = {
    "no JSON": b"hello",
    "no UTF-8": b"\xff",
    "no object": b"[1]",
    "a null": b"null",
    "empty": b"",
    "deep": DEEP,
    "a tombstone": None,
    "a huge integer": b'{"sequence": ' + b"9" * 5_000 + b"}",
    "a sequence that is none": json.dumps(GOOD | {"sequence": "first"}).encode(),
    "a sequence without end": b'{"sequence": 1e400}',
}


@pytest.mark.parametrize("raw", FOREIGN.values(), ids=FOREIGN.keys())
def test_a_record_that_no_worker_wrote_is_shown_by_its_place(
    raw: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    good = record("window-opened", 0, GOOD)
    seen = list(in_order(fetch(good, dataclasses.replace(good, value=raw, offset=7), good), KINDS))
    words = "can't be read as an event: window-opened[0], offset 7"
    assert sorted(line(each).plain.endswith(f"  opened    whatsapp:1:2  {words}") for each in seen) == [
        False,
        False,
        True,
    ]
    for each in seen:
        watch._print_raw(each)
    told = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert told == [GOOD, {"key": "whatsapp:1:2", "unreadable": words}, GOOD]


@pytest.mark.parametrize("data", [{}, [], 7, None, {"expires_at": 7, "cause": {"id": "", "type": ""}}])
def test_an_event_of_which_something_is_missing_is_shown_by_its_place(data: Any) -> None:
    (seen,) = in_order(fetch(record("window-opened", 0, GOOD | {"data": data})), KINDS)
    assert line(seen).plain.endswith("can't be read as an event: window-opened[0], offset 0")


@pytest.mark.parametrize("value", [{"v": 1}, {"status": "open", "expires_at": 10**30}, {"status": "open"}, [[]]])
def test_a_state_that_no_worker_wrote_is_shown_by_its_place(value: Any) -> None:
    (seen,) = in_order(fetch(record("window-state", 0, value)), KINDS)
    assert line(seen).plain.endswith("can't be read as an event: window-state[0], offset 0")


@pytest.mark.parametrize("time", [7, None, [], "soon", "\x1b[2J\ud800"])
def test_an_event_with_a_time_that_is_none_has_the_one_when_it_was_written(time: Any) -> None:
    (seen,) = in_order(fetch(record("window-opened", 0, GOOD | {"time": time})), KINDS)
    assert line(seen).plain.startswith("2026-11-22 18:47:19  opened    whatsapp:1:2  until ")


@pytest.mark.parametrize("timestamp", [-1, -(2**62), 2**62])
def test_a_producers_clock_may_say_anything(timestamp: int) -> None:
    foreign = dataclasses.replace(record("window-opened", 0, GOOD), value=b"{", timestamp=timestamp)
    (seen,) = in_order(fetch(foreign), KINDS)
    assert "can't be read as an event" in line(seen).plain


def test_a_key_that_is_no_utf_8_is_written_out() -> None:
    (seen,) = in_order(fetch(dataclasses.replace(record("window-opened", 0, GOOD), key=b"\xff1")), KINDS)
    assert line(seen).plain.endswith("  \\xff1  can't be read as an event: window-opened[0], offset 0")


def test_a_state_as_deep_as_can_be_read_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    for depth in range(800, 1_000, 3):
        raw = b'{"deep": ' + b"[" * depth + b"]" * depth + b"}"
        (seen,) = in_order(fetch(dataclasses.replace(record("window-state", 0, {}), value=raw)), KINDS)
        watch._print_raw(seen)
        line(seen)
    assert '"value"' in capsys.readouterr().out


def test_a_tombstone_keeps_its_place_behind_the_record_before_it() -> None:
    fetched = fetch(
        record("window-state", 0, {"v": 1, "sequence": f"{7:020d}"}, "whatsapp:1:2"),
        record("window-state", 0, None, "whatsapp:1:3"),
        record("window-state", 0, {"v": 1, "sequence": f"{9:020d}"}, "whatsapp:1:4"),
        record("window-closed", 0, event(8, 0)),
    )
    seen = list(in_order(fetched, KINDS))
    assert [each.contact_id for each in seen if each.kind is Kind.STATE] == ["2", "3", "4"]
    assert seen[1].value == {}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.event}/{example.name}")
def test_every_good_example_reads_as_one_line(example: OutputExample) -> None:
    key = example.value.get("subject", "whatsapp:1:2")
    (seen,) = in_order(fetch(record(example.event, 0, example.value, key)), KINDS)
    text = line(seen).plain
    assert "\n" not in text
    assert f"{seen.kind}  " in text
    assert key in text


def test_a_rejection_says_why_since_when_and_what_to_do_instead() -> None:
    data = {
        "send": {"id": "out-1", "type": "text"},
        "reason": "window-closed",
        "remedy": "send-template",
        "window": {"closed_for_seconds": 5400},
    }
    (seen,) = in_order(fetch(record("send-rejected", 0, event(1, 47) | {"data": data})), KINDS)
    head, what = line(seen).plain.split("  whatsapp:1:2  ")
    assert head == "2026-11-22 18:47:00  rejected"
    assert what == "text out-1: window-closed, closed for 1h30m; send-template"


def test_an_id_moves_no_cursor() -> None:
    opened = event(1, 47)
    opened["data"] = {"expires_at": opened["time"], "cause": {"id": "\x1b[2J\nx", "type": "text"}}
    (seen,) = in_order(fetch(record("window-opened", 0, opened)), KINDS)
    assert line(seen).plain.endswith("by text \\x1b[2J\\nx")


def test_a_tombstone_reads_as_forgotten() -> None:
    (seen,) = in_order(fetch(record("window-state", 0, None)), KINDS)
    assert line(seen).plain.endswith("state     whatsapp:1:2  forgotten")


def test_what_is_watched_are_the_topics_of_the_contract() -> None:
    of_contract = {topic.name for topic in topics() if topic.role in ("output", "state")}
    assert set(TOPICS.values()) == of_contract - {"consent-state"}


def test_without_a_broker_it_ends_with_one_line_and_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["watch", "--bootstrap-servers", "127.0.0.1:1"])
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    (told,) = err.splitlines()
    assert "127.0.0.1:1" in told
    assert "janela kafka" in told
