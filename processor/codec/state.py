"""State records: the values of ``window-state`` and ``consent-state``, and back. Times are ms since the epoch.

These topics are the table's changelog and are public, so a record is JSON with a version, and fields are only added.
"""

from collections.abc import Callable
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from processor.codec.faults import unquoted
from processor.codec.outputs import sequence_text
from processor.core.consent import Consents, Register
from processor.core.window import Window

VERSIONS: Final = (1,)
"""Those that are read; the last one is written."""


class StateError(ValueError):
    """A state record can't be read: start must refuse, naming its partition and offset. It quotes nothing of it."""


# What version 1 has had from its begin is always written, so it has no defaults: a damaged name would pass for a field
# that nobody knows beside one that is missing, and an opt-out or an answer would be gone.


class _Versioned(msgspec.Struct, gc=False):
    v: Annotated[int, msgspec.Meta(ge=0, le=999)]  # it is named where it is unknown: it must be no more than that


class _WindowRecord(_Versioned, gc=False):
    status: Literal["open", "closed"]
    opened_at: int
    expires_at: int
    last_inbound_at: int
    last_answer_at: int | None
    closed_at: int | None
    close_reason: str | None
    sequence: str


class _RegisterRecord(msgspec.Struct, gc=False):
    value: Literal["granted", "revoked"]
    at: int


class _ConsentRecord(_Versioned, gc=False):
    marketing: _RegisterRecord | None
    all: _RegisterRecord | None


_Record = TypeVar("_Record", _WindowRecord, _ConsentRecord)
_encode = msgspec.json.Encoder().encode
_decode_window = msgspec.json.Decoder(_WindowRecord).decode
_decode_consents = msgspec.json.Decoder(_ConsentRecord).decode


def encode_window(window: Window, sequence: int) -> bytes:
    """Write a window as its state record; `sequence` is the record's number among the partition's outputs."""
    return _encode(
        _WindowRecord(
            VERSIONS[-1],
            window.status,
            window.opened_at,
            window.expires_at,
            window.last_inbound_at,
            window.last_answer_at,
            window.closed_at,
            window.close_reason,
            sequence_text(sequence),
        )
    )


def decode_window(value: bytes) -> Window:
    """Read a window's state record.

    Raises:
        StateError: Not a state record, or of a version that this worker does not know.
    """
    record = _checked(_decode_window, value)
    if (record.status == "closed") != (record.closed_at is not None):
        raise StateError(f"status is {record.status}, closed_at says otherwise")
    return Window(
        record.opened_at,
        record.expires_at,
        record.opened_at if record.last_inbound_at == record.opened_at else record.last_inbound_at,
        record.last_answer_at,
        record.closed_at,
        record.close_reason,
    )


def encode_consents(consents: Consents) -> bytes:
    """Write both registers of a contact."""
    return _encode(_ConsentRecord(VERSIONS[-1], _register(consents.marketing), _register(consents.all)))


def decode_consents(value: bytes) -> Consents:
    """Read both registers of a contact.

    Raises:
        StateError: Not a state record, or of a version that this worker does not know.
    """
    record = _checked(_decode_consents, value)
    registers = (
        None if register is None else Register(register.value == "granted", register.at)
        for register in (record.marketing, record.all)
    )
    return Consents(*registers)


def _register(register: Register | None) -> _RegisterRecord | None:
    return None if register is None else _RegisterRecord("granted" if register.granted else "revoked", register.at)


def _checked(decode: Callable[[bytes], _Record], value: bytes) -> _Record:
    try:
        record = decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError) as error:
        raise StateError(unquoted(error)) from None
    if record.v not in VERSIONS:
        raise StateError(f"found version {record.v}, this worker knows {', '.join(map(str, VERSIONS))}")
    return record
