"""What holds of every record that the codec is given, whatever its bytes are."""

import json
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from processor.codec.dead_letters import dead_letter
from processor.codec.inputs import DeadLetter, InputDecoder
from processor.codec.keys import is_key
from processor.codec.outputs import OutputEncoder
from processor.contract import closed_sets
from processor.core.events import Event, Message, Send
from processor.core.sending import NO_WINDOW, rejected
from tests.examples import PARTITIONS, RECORD_BYTES_MAX

REASONS: Final = frozenset(closed_sets()["dead_letter_reason"])
PART_BYTES_MAX: Final = 100_000
RECORD_S: Final = 0.25
"""The most CPU that a record may take, both roads and these checks included: so long may the worker's loop stand."""

DECODERS: Final = {
    (partition, check): InputDecoder(partition, PARTITIONS, (), RECORD_BYTES_MAX, check)
    for partition in range(PARTITIONS)
    for check in (True, False)
}
ENCODER: Final = OutputEncoder("janela", "fuzz-00000000")


def _refuse(constant: str) -> float:
    raise ValueError(constant)


STRICT: Final = json.JSONDecoder(parse_constant=_refuse, parse_int=float)  # Python reads no integer of 5,000 digits


class Hostile(NamedTuple):
    """A record, and where it is found."""

    is_inbound: bool
    partition: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    headers: Sequence[tuple[str, bytes]] = ()


def decode(record: Hostile, check_keys: bool) -> Event | DeadLetter:
    """Read a record; hold the plain road to the careful one, and what came of it to what the worker relies on."""
    began_s = time.thread_time()
    decoder = DECODERS[record.partition, check_keys]
    road = decoder.inbound if record.is_inbound else decoder.outbound
    found = road(record.key, record.value, record.timestamp_ms, record.headers)
    careful = decoder._carefully(record.is_inbound, record.key, record.value, record.timestamp_ms, record.headers)
    # how deep is too deep hangs on the stack of whoever asks, so of a dead letter the reason is compared, not the words
    differ = found.reason != getattr(careful, "reason", "") if isinstance(found, DeadLetter) else found != careful
    assert not differ, f"the plain road says {found}, the careful one {careful}"
    if isinstance(found, DeadLetter):
        hold_letter(found, record)
    else:
        hold_event(found, record)
    took_s = time.thread_time() - began_s
    assert took_s < RECORD_S, f"{took_s:.3f} s of CPU"
    return found


def hold_letter(letter: DeadLetter, record: Hostile) -> None:
    """Its reason is of the closed set, and it bears the record byte for byte."""
    assert letter.reason in REASONS
    assert letter.message
    assert len(letter.message.encode()) < 500
    source = ("messages.inbound", record.partition, 7)
    key, value, headers = dead_letter(
        letter, source, record.timestamp_ms, record.key, record.value, record.headers, "0.1.0", PART_BYTES_MAX
    )
    ours = dict(headers[len(record.headers) :])
    assert list(headers[: len(record.headers)]) == list(record.headers)
    assert key == record.key or (key is None and int(ours["__dlq.key_size"]) == len(record.key or b""))
    assert value == record.value or (value is None and int(ours["__dlq.size"]) == len(record.value or b""))


def hold_event(event: Event, record: Hostile) -> None:
    """Its key is one, its time is possible, and a send can be spliced into an output as it is."""
    assert is_key(event.key)
    assert event.event_time_ms >= 0
    if record.timestamp_ms >= 0:
        assert event.event_time_ms <= record.timestamp_ms
    if isinstance(event, Message | Send):
        assert 1 <= len(event.id) <= 256
        event.id.encode()
        event.type.encode()
    if isinstance(event, Send):
        assert event.value == record.value or rb"\ufffd" in event.value  # half a character was mended
        whole = STRICT.decode(event.value.decode())
        json.dumps(whole, ensure_ascii=False).encode()
        assert event.context is None or isinstance(STRICT.decode(event.context.decode()), dict)
        STRICT.decode(ENCODER.encode(rejected(event, None, NO_WINDOW), 1).decode())


def is_json(value: bytes) -> bool:
    """Whether msgspec takes it for JSON."""
    try:
        msgspec.json.decode(value, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True
