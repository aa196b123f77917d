"""What lies on the state topics of a partition, and what must be written there so that it is as the inputs have it."""

from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple, TypeVar

import msgspec

from processor.codec.state import StateError, decode_consents, decode_window, encode_consents, encode_window
from processor.core.consent import Consents, Register
from processor.core.partition import Partition
from processor.core.window import Window

StateTopic = Literal["window-state", "consent-state"]

_Value = TypeVar("_Value", Window, Consents)


class Change(NamedTuple):
    """A record that must be written; no value is a tombstone."""

    topic: StateTopic
    key: bytes
    value: Window | Consents | None

    def encoded(self, sequence: int) -> bytes | None:
        """Give the record's value; `sequence` is its number among the partition's outputs."""
        match self.value:
            case Window() as window:
                return encode_window(window, sequence)
            case Consents() as consents:
                return encode_consents(consents)
            case None:
                return None


class Difference(NamedTuple):
    """What must change, and what was found."""

    changes: list[Change]
    unreadable: int
    """Records that could not be read."""
    kept: int
    """Records that the inputs know nothing of any more, and that stay as they are."""
    windows: int
    consents: int
    """How many there are when the changes are written."""


def difference(
    core: Partition, windows: Mapping[bytes, bytes], consents: Mapping[bytes, bytes], retention_ms: int, is_whole: bool
) -> Difference:
    """Hold the state that came of the inputs against the newest records that were found, by key.

    `is_whole`: whether the inputs were there from their first record on. Where they were not, a record that can be
    read is joined with what they say, since it may know of what was deleted.
    """
    found_windows, bad_windows = _read(windows, decode_window)
    found_consents, bad_consents = _read(consents, decode_consents)
    made_windows, made_consents, kept = dict(core.windows), dict(core.consents), 0
    if not is_whole:
        for key, window in found_windows.items():
            if (joined := joined_windows(window, made_windows.get(key), core.clock_ms, retention_ms)) is not None:
                kept += key not in made_windows
                made_windows[key] = joined
        for key, both in found_consents.items():
            kept += key not in made_consents
            made_consents[key] = joined_consents(both, made_consents.get(key))
    changes = [
        *_changes("window-state", windows, found_windows, made_windows),
        *_changes("consent-state", consents, found_consents, made_consents),
    ]
    return Difference(changes, bad_windows + bad_consents, kept, len(made_windows), len(made_consents))


def _read(records: Mapping[bytes, bytes], decode: Callable[[bytes], _Value]) -> tuple[dict[bytes, _Value], int]:
    found: dict[bytes, _Value] = {}
    for key, value in records.items():
        try:
            found[key] = decode(value)
        except StateError:
            continue
    return found, len(records) - len(found)


def _changes(
    topic: StateTopic, records: Mapping[bytes, bytes], found: Mapping[bytes, _Value], made: Mapping[bytes, _Value]
) -> list[Change]:
    differing: list[Change] = [Change(topic, key, value) for key, value in made.items() if found.get(key) != value]
    return [*(Change(topic, key, None) for key in records if key not in made), *differing]


def joined_windows(found: Window, made: Window | None, clock_ms: int, retention_ms: int) -> Window | None:
    """Join a record that lay there with what came of inputs whose beginning is gone.

    It stays, since it knows of consents and windows that the inputs do not, unless they tell of a later message or of
    its end. A window that they first saw when it was open already has begun when the record says. One that they know
    nothing of stays, unless it ended so long before `clock_ms` (the retention) that it must have been forgotten; where
    its end is past, it has ended, and that was announced, though the record is from before.
    """
    if made is None:
        ended_ms = found.expires_at if found.closed_at is None else found.closed_at
        if ended_ms <= clock_ms - retention_ms:
            return None
        if ended_ms <= clock_ms and found.closed_at is None:
            return msgspec.structs.replace(found, closed_at=ended_ms, close_reason="expired")
        return found
    if found.last_inbound_at >= made.last_inbound_at and found.closed_at == made.closed_at:
        return found
    answers = [at for at in (found.last_answer_at, made.last_answer_at) if at is not None]
    is_the_same = found.opened_at < made.opened_at < found.expires_at
    opened_at = found.opened_at if is_the_same else made.opened_at
    last_answer_at = max(answers, default=None)
    return Window(opened_at, made.expires_at, made.last_inbound_at, last_answer_at, made.closed_at, made.close_reason)


def joined_consents(found: Consents, made: Consents | None) -> Consents:
    """Keep the newer word of each register."""
    return found if made is None else Consents(_newer(found.marketing, made.marketing), _newer(found.all, made.all))


_NEVER: Final = Register(True, -1)


def _newer(first: Register | None, second: Register | None) -> Register | None:
    """Give the newer of two words; at equal times the revocation stands."""
    newest = max(first or _NEVER, second or _NEVER, key=lambda it: (it.at, not it.granted))
    return None if newest is _NEVER else newest
