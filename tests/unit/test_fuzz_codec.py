"""Mutated and hostile records through the codec: each is an event or a dead letter, and none is an exception.

Each record is made from one of the contract's examples, by the number alone: a failure names the number. What came of
it is looked at as well, and what CPU it took (`tests.fuzz.invariants`). 200,000 numbers are the same in each run.
Others are new in each, and memory must stay flat over them. For a night there is `make fuzz RECORDS=10000000`, and
`make fuzz SECONDS=` for a fuzzer that is guided by coverage.
"""

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from processor.codec.inputs import DeadLetter, Headers
from processor.core.decisions import Effects
from processor.core.events import Event
from processor.core.partition import Partition
from processor.core.policy import DAY_MS, Policy
from tests.examples import INPUTS, PARTITIONS, InputExample, input_examples
from tests.fuzz.invariants import DECODERS, ENCODER, REASONS, STRICT, Hostile, decode, is_json

RECORDS = int(os.environ.get("TEST_FUZZ_RECORDS", "200000"))
BEGIN = int(os.environ.get("TEST_FUZZ_BEGIN", "0")) or random.randrange(10**9, 10**12)
"""The number of the first of the records that are new in each run."""
NEW_SECONDS = float(os.environ.get("TEST_FUZZ_SECONDS", "3"))
PARTS = 10
WARM_UP_SHARE: Final = 0.25
GROWTH_KB_MAX: Final = 2048
"""How much the most memory may grow after the warm-up, however many records follow: caches and arenas are full then.

50 bytes kept of each record are this much within three seconds.
"""

EXAMPLES: list[InputExample] = [
    example for name in INPUTS for verdict in ("good", "bad") for example in input_examples(name, verdict)
]
SMALL = [example for example in EXAMPLES if example.value is not None and len(example.value) < 1500]
OBJECTS = [
    example
    for example in SMALL
    if (example.value or b"").startswith(b'{"')
    and example.reason != "not-json"
    and "lone-surrogate" not in example.name
]  # what msgspec takes apart
GOOD = [example for example in OBJECTS if example.reason is None]
LARGE = [example for example in EXAMPLES if example.value is not None and len(example.value) >= 1500]

HOSTILE: list[bytes] = [
    *(
        b"null",
        b"true",
        b"false",
        b"0",
        b"-0",
        b"-1",
        b"1.5",
        b"1e5",
        b"1e400",
        b"-1e400",
        b"1E-400",
        b"[]",
        b"{}",
        b'""',
    ),
    *(b"NaN", b"Infinity", b"-Infinity", b"nan", b"undefined", b"None", b"0x10", b"01", b"+1", b".5", b"1.", b"--1"),
    *(b"9" * digits for digits in (10, 13, 19, 20, 40, 400, 4300, 4301, 10_000)),
    *(b"-" + b"9" * digits for digits in (10, 13, 20, 5000)),
    *(b"[" * depth + b"]" * depth for depth in (10, 500, 1000, 5000)),
    *(b'{"a":' * depth + b"1" + b"}" * depth for depth in (10, 500, 1000, 5000)),
    *(b"[" * 3000, b'{"a":' * 3000, b"[[" * 1000 + b"]"),
    *(b'"\\ud800"', b'"\\udfff\\ud800"', b'"\\ud83d\\ude00"', b'"\\u0000"', b'"\\u00"', b'"\\x41"', b'"\\', b'"\\u'),
    *(b'"\x00"', b'"\n"', b'"\x7f"', b'"\xff"', b'"\xc3"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'"\xe2\x80\xa8"'),
    *(b'"' + b"a" * length + b'"' for length in (161, 257, 1025, 20_000)),
    *(b'"9999-12-31T23:59:59.999Z"', b'"0001-01-01T00:00:00Z"', b'"1970-01-01T00:00:00.000Z"', b'"9999999999999"'),
    *(b'"2026-11-22T18:47:19.000Z"', b'"request"', b'"done"', b'"template"', b'"consent"', b'"status"', b'"call"'),
    *(b'"unsupported"', b'"call_permission_reply"', b'"echo"', b'"text"', b'"a:b"', b'"\\n"', b'"whatsapp\\n"'),
    *(b'{"a":1,"a":2}', b'{"":""}', b'{"\\ud800":1}', b"[1,]", b"{,}", b'{"a"}', b"{1:2}", b"//", b"/**/"),
]


VALUES = [value for value in HOSTILE if is_json(value) and len(value) < 6000] * 6 + HOSTILE
"""What a field may be given: mostly JSON, so that what lies behind the parser is reached."""
KEYS: list[bytes | None] = [None, b"", b"\xff", b"a:b:c", b":" * 1000, b"x" * 70_000]

Value = tuple[bytes | None, list[tuple[str, bytes]]]


def _bytes_flipped(numbers: random.Random, value: bytes) -> bytes:
    mutable = bytearray(value)
    for _ in range(numbers.choice([1, 1, 2, 5, 20])):
        if mutable:
            mutable[numbers.randrange(len(mutable))] = numbers.choice([numbers.randrange(256), *b'"{}[]:,\\0e-.'])
    return bytes(mutable)


def _cut(numbers: random.Random, value: bytes) -> bytes:
    start, stop = sorted((numbers.randrange(len(value) + 1), numbers.randrange(len(value) + 1)))
    return numbers.choice([value[:start], value[start:], value[:start] + value[stop:], value[start:stop]])


def _inserted(numbers: random.Random, value: bytes) -> bytes:
    place = numbers.randrange(len(value) + 1)
    return value[:place] + numbers.choice([numbers.choice(HOSTILE), numbers.randbytes(4), value]) + value[place:]


def _one_field_changed(numbers: random.Random, value: bytes) -> bytes:
    """Put something hostile where a field's value was; leave the rest as it is written."""
    fields = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
    names = [*fields, "x", "context", "intent", "origin", "category", "channel", "error_code", "scope", "direction"]
    changed = {name: bytes(raw) for name, raw in fields.items()}
    for _ in range(numbers.choice([1, 1, 1, 2, 3])):
        changed[numbers.choice(names)] = numbers.choice(VALUES)
    return _object(list(changed.items()))


def _fields_swapped(numbers: random.Random, value: bytes) -> bytes:
    fields = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
    names, values = list(fields), [bytes(raw) for raw in fields.values()]
    numbers.shuffle(values)
    return _object(list(zip(names, values, strict=True)))


def _fields_repeated(numbers: random.Random, value: bytes) -> bytes:
    fields = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
    pairs = [(name, bytes(raw)) for name, raw in fields.items()]
    pairs += [(numbers.choice(list(fields)), numbers.choice(VALUES)) for _ in range(numbers.choice([1, 2]))]
    numbers.shuffle(pairs)
    return _object(pairs)


def _a_field_dropped(numbers: random.Random, value: bytes) -> bytes:
    fields = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
    fields.pop(numbers.choice(list(fields)))
    return _object([(name, bytes(raw)) for name, raw in fields.items()])


def _noise(numbers: random.Random, value: bytes) -> bytes:
    return numbers.choice([numbers.randbytes(len(value) % 200), numbers.choice(HOSTILE), b"", value[::-1], value * 2])


def _object(pairs: list[tuple[str, bytes]]) -> bytes:
    return b"{" + b", ".join(json.dumps(name).encode() + b": " + value for name, value in pairs) + b"}"


BYTEWISE: list[Callable[[random.Random, bytes], bytes]] = [_bytes_flipped, _bytes_flipped, _cut, _inserted, _noise]
FIELDWISE = [
    _one_field_changed,
    _one_field_changed,
    _one_field_changed,
    _fields_swapped,
    _fields_repeated,
    _a_field_dropped,
]


class Fuzzed(msgspec.Struct):
    """One record, made from its number."""

    is_inbound: bool
    partition: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: Headers


def record(number: int) -> Fuzzed:
    """Make a record; more than half of them may still be JSON objects."""
    numbers = random.Random(number)
    if numbers.random() < 0.6:
        example = numbers.choice(GOOD if numbers.random() < 0.7 else OBJECTS)
        value = numbers.choice(FIELDWISE)(numbers, example.value or b"")
        if numbers.random() < 0.1:
            value = _bytes_flipped(numbers, value)
    else:
        example = numbers.choice(LARGE if numbers.random() < 0.01 else numbers.choice([GOOD, SMALL]))
        value = numbers.choice(BYTEWISE)(numbers, example.value or b"")
    strange = numbers.random() < 0.02
    return Fuzzed(
        is_inbound=(example.event == "inbound") == (numbers.random() < 0.9),
        partition=numbers.randrange(PARTITIONS) if strange else example.partition,
        key=numbers.choice(KEYS) if strange else example.key,
        value=None if numbers.random() < 0.001 else value,
        timestamp_ms=numbers.choice([-1, 0, 2**62]) if strange else example.timestamp_ms,
        headers=[("h\u00e9", b"\xff" * 10)] if numbers.random() < 0.05 else example.headers,
    )


def tried(number: int) -> str:
    """Decode a record; gives the reason of its dead letter, "none" where it is an event."""
    fuzzed = record(number)
    hostile = Hostile(
        fuzzed.is_inbound, fuzzed.partition, fuzzed.key, fuzzed.value, fuzzed.timestamp_ms, fuzzed.headers
    )
    try:
        found = decode(hostile, number % 4 != 0)
    except BaseException as error:
        error.add_note(f"record {number}: {fuzzed.value!r:.500}")
        raise
    return found.reason if isinstance(found, DeadLetter) else "none"


@pytest.mark.timeout(0)
def test_records_that_no_run_has_seen_raise_nothing_either(capsys: pytest.CaptureFixture[str]) -> None:
    """For some seconds of CPU, and memory stays flat; TEST_FUZZ_BEGIN is where they begin."""
    number, slowest_s = _tried_for(NEW_SECONDS * WARM_UP_SHARE, BEGIN)
    before_kb = _most_kb(anew=True)
    number, slower_s = _tried_for(NEW_SECONDS * (1 - WARM_UP_SHARE), number)
    growth_kb, slowest_ms = _most_kb() - before_kb, 1000 * max(slowest_s, slower_s)
    with capsys.disabled():
        print(  # noqa: T201
            f"\n  hostile records {BEGIN} to {number - 1}: the slowest took {slowest_ms:.1f} ms of CPU,"
            f" memory grew by {growth_kb} KB"
        )
    assert number > BEGIN + 100
    assert growth_kb < GROWTH_KB_MAX


def _tried_for(seconds: float, number: int) -> tuple[int, float]:
    """Try records for so long; gives the number behind the last, and what the slowest took."""
    until_s, slowest_s = time.thread_time() + seconds, 0.0
    while (began_s := time.thread_time()) < until_s:
        tried(number)
        slowest_s = max(slowest_s, time.thread_time() - began_s)
        number += 1
    return number, slowest_s


def _most_kb(*, anew: bool = False) -> int:
    """Give the most memory that this process has had, `anew` from now on; 0 where the system has no /proc."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    return int(status.read_text().partition("VmHWM:")[2].split()[0])


@pytest.mark.parametrize("part", range(PARTS))
def test_no_record_whatever_its_bytes_raises_anything(part: int) -> None:
    """Each is an event or a dead letter of a reason of the closed set."""
    reasons = Counter(tried(number) for number in range(part, RECORDS, PARTS))
    if RECORDS >= 100_000:
        assert reasons.keys() == REASONS | {"none"}, reasons
        assert min(reasons.values()) >= 5, reasons


def test_a_partition_survives_what_the_codec_lets_through() -> None:
    """And every output that comes of it can be written."""
    partition, effects = Partition(Policy(direct_send=("*",))), Effects()
    applied = 0
    for number in range(0, RECORDS, 20):
        fuzzed = record(number)
        decoder = DECODERS[fuzzed.partition, False]
        decode = decoder.inbound if fuzzed.is_inbound else decoder.outbound
        found = decode(fuzzed.key, fuzzed.value, fuzzed.timestamp_ms, fuzzed.headers)
        if isinstance(found, Event) and 0 <= fuzzed.timestamp_ms < 2**62:
            applied += partition.apply([found], effects)
    partition.advance(partition.clock_ms + 5 * DAY_MS, effects)
    for sequence, decision in enumerate(effects.outputs):
        STRICT.decode(ENCODER.encode(decision, sequence).decode())
    assert applied > RECORDS // 200
    assert len({type(decision) for decision in effects.outputs}) == 5


def test_one_number_makes_one_record() -> None:
    assert record(12345) == record(12345)
    found: set[Any] = {record(number).value for number in range(1000)}
    assert len(found) > 900
