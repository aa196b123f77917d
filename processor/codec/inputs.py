"""Records of the input topics to events of the core, or to the reason why they can't be read.

There are two roads. The plain one serves a customer's message and a send of a usual type, in one pass of msgspec over
the value. Whatever is not as plain as that takes the careful road, which looks at one thing after the other in the
order of the contract and is the authority: the plain road only ever answers what the careful one would.

Nothing leaves this module as an exception, whatever the bytes are.
"""

from collections.abc import Container, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec

from processor.codec.keys import is_key, partition_of
from processor.codec.times import parse_time
from processor.core import events as core
from processor.core.sending import judged_category

FUTURE_TOLERANCE_MS: Final = 5 * 60_000
"""How far ahead of its record's timestamp an event may be; it is then taken as that timestamp."""

CONTEXT_BYTES_MAX: Final = 1024

_CHECKED_MAX: Final = 10_000  # some 1 MB; a murmur2 in Python takes as long as all else that is done to a record

Headers = Sequence[tuple[str, bytes]]


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """Why a record can't be read: a reason of the contract's closed set, and a sentence without personal data."""

    reason: str
    message: str


_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Channel = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9-]{1,32}\Z")]
_Part = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9._-]{1,160}\Z")]
_Type = Annotated[str, msgspec.Meta(min_length=1)]


class _PlainMessage(msgspec.Struct, gc=False):
    id: _Id
    type: str
    business_id: str
    contact_id: str
    time: int | str
    channel: str = "whatsapp"


class _PlainSend(_PlainMessage, gc=False):
    intent: Literal["request", "done"] | None = None
    origin: Literal["agent", "automation"] | None = None
    category: str | None = None
    context: msgspec.Raw | None = None


class _Record(msgspec.Struct, gc=False):
    """What every input has. An optional field that is null counts as absent."""

    type: _Type
    business_id: _Part
    contact_id: _Part
    time: Any
    channel: _Channel | None = None


class _Status(_Record, gc=False):
    """A delivery status bears the id of the send that it speaks of, and need not have one of its own."""

    id: _Id | msgspec.UnsetType = msgspec.UNSET


class _Common(_Record, gc=False, kw_only=True):
    id: _Id


class _Call(_Common, gc=False):
    direction: Literal["user", "business"] | None = None
    outcome: str | None = None


class _Unsupported(_Common, gc=False):
    error_code: str | int | None = None


class _CallPermissionReply(_Common, gc=False):
    response_source: str | None = None


class _Consent(_Common, gc=False, kw_only=True):
    scope: Literal["marketing", "all"]
    value: Literal["granted", "revoked"]


class _Send(_Common, gc=False):
    intent: Literal["request", "done"] | None = None
    origin: Literal["agent", "automation"] | None = None
    category: str | None = None
    context: dict[str, Any] | None = None


class _Template(_Send, gc=False, kw_only=True):
    category: str


_INBOUND_FORMS: dict[str, type[_Record]] = {
    "call": _Call,
    "unsupported": _Unsupported,
    "call_permission_reply": _CallPermissionReply,
    "consent": _Consent,
}
_OUTBOUND_FORMS: dict[str, type[_Record]] = {"template": _Template, "echo": _Common, "call": _Common}
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_message = msgspec.json.Decoder(_PlainMessage).decode
_decode_send = msgspec.json.Decoder(_PlainSend).decode


class InputDecoder:
    """Decodes the records of one partition of both input topics.

    `known` holds the keys that are in the partition's state: they were checked when they came in. `check_keys` off
    takes the key from the body and asks for nothing else.
    """

    def __init__(
        self,
        partition: int,
        partitions: int,
        known: Container[bytes],
        record_bytes_max: int,
        check_keys: bool = True,
    ) -> None:
        """Take the partition's place among the topic's `partitions`."""
        self._partition, self._partitions = partition, partitions
        self._known = known
        self._record_bytes_max = record_bytes_max
        self._check_keys = check_keys
        self._checked: set[bytes] = set()  # a burst of a new contact is decoded before it is applied, and so known

    def inbound(
        self, key: bytes | None, value: bytes | None, timestamp_ms: int, headers: Headers = ()
    ) -> core.Event | DeadLetter:
        """Decode a record of ``messages.inbound``; `timestamp_ms` is the record's, negative where it has none."""
        if value is not None and not headers and len(value) < self._record_bytes_max - 512:
            try:
                if not value.isascii():
                    value.decode()  # msgspec does not look into what it skips
                wire = _decode_message(value)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                return self._carefully(True, key, value, timestamp_ms, headers)
            if wire.type in core.OPENING_TYPES:
                event_time_ms = parse_time(wire.time)
                body_key = f"{wire.channel}:{wire.business_id}:{wire.contact_id}".encode()
                is_known = key in self._checked and key == body_key
                home_key = body_key if is_known else self._home_key(key, body_key)
                if event_time_ms is not None and event_time_ms <= timestamp_ms and home_key is not None:
                    return core.Message(home_key, event_time_ms, wire.id, wire.type)
        return self._carefully(True, key, value, timestamp_ms, headers)

    def outbound(
        self, key: bytes | None, value: bytes | None, timestamp_ms: int, headers: Headers = ()
    ) -> core.Event | DeadLetter:
        """Decode a record of ``messages.outbound``."""
        if value is not None and not headers and len(value) < self._record_bytes_max - 512:
            try:
                if not value.isascii():
                    value.decode()  # msgspec does not look into what it skips
                wire = _decode_send(value)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                return self._carefully(False, key, value, timestamp_ms, headers)
            if wire.type in core.FREE_FORM_TYPES and wire.context is None:
                event_time_ms = parse_time(wire.time)
                body_key = f"{wire.channel}:{wire.business_id}:{wire.contact_id}".encode()
                is_known = key in self._checked and key == body_key
                home_key = body_key if is_known else self._home_key(key, body_key)
                if event_time_ms is not None and event_time_ms <= timestamp_ms and home_key is not None:
                    category = judged_category(wire.type, wire.category) if wire.category else "service"
                    by_agent, is_done = wire.origin != "automation", wire.intent == "done"
                    return core.Send(
                        home_key, event_time_ms, wire.id, wire.type, category, is_done, by_agent, None, value
                    )
        return self._carefully(False, key, value, timestamp_ms, headers)

    def _home_key(self, key: bytes | None, body_key: bytes) -> bytes | None:
        """Give the window key where the record's key is the body's and on its partition; else None."""
        if key != body_key and self._check_keys:
            return None
        if body_key in self._checked or body_key in self._known:
            return body_key
        if not is_key(body_key):
            return None
        if self._check_keys and partition_of(body_key, self._partitions) != self._partition:
            return None
        if len(self._checked) >= _CHECKED_MAX:
            self._checked.clear()
        self._checked.add(body_key)
        return body_key

    def _carefully(
        self, is_inbound: bool, key: bytes | None, value: bytes | None, timestamp_ms: int, headers: Headers
    ) -> core.Event | DeadLetter:
        size = len(key or b"") + len(value or b"") + sum(len(name) + len(text or b"") for name, text in headers)
        if size > self._record_bytes_max:
            return DeadLetter("too-large", f"{size} bytes, allowed are {self._record_bytes_max}")
        if value is None:
            return DeadLetter("not-json", "the value is null")
        if isinstance(fields := _fields(value), DeadLetter):
            return fields
        if isinstance(wire := _typed(_form(is_inbound, fields), value, fields), DeadLetter):
            return wire
        event_time_ms = parse_time(wire.time)
        if event_time_ms is None:
            return DeadLetter("bad-time", "time is neither RFC 3339 with a zone nor Unix time of 10 or 13 digits")
        body_key = f"{wire.channel or 'whatsapp'}:{wire.business_id}:{wire.contact_id}".encode()
        if self._check_keys:
            if key != body_key:
                return DeadLetter("wrong-key", "the record's key is not the body's")
            if (home := partition_of(body_key, self._partitions)) != self._partition:
                return DeadLetter("wrong-partition", f"found on {self._partition}, belongs on {home}")
        if 0 <= timestamp_ms < event_time_ms:
            if event_time_ms > timestamp_ms + FUTURE_TOLERANCE_MS and not isinstance(wire, _Consent):
                ahead_s = (event_time_ms - timestamp_ms) // 1000
                return DeadLetter("future-time", f"time is {ahead_s} s ahead of the record's timestamp")
            event_time_ms = timestamp_ms
        if is_inbound:
            return _inbound_event(wire, body_key, event_time_ms)
        context = bytes(fields["context"]) if isinstance(wire, _Send) and wire.context is not None else None
        return _outbound_event(wire, body_key, event_time_ms, value, context)


def _fields(value: bytes) -> dict[str, msgspec.Raw] | DeadLetter:
    """Take the value apart, if it is a JSON object."""
    try:
        value.decode()
        return _decode_fields(value)
    except UnicodeDecodeError as error:
        return DeadLetter("not-json", f"not UTF-8 at byte {error.start}")
    except RecursionError:
        return DeadLetter("not-json", "nested too deeply")
    except msgspec.ValidationError:
        return _not_an_object(value)
    except msgspec.DecodeError as error:
        return DeadLetter("not-json", str(error))


def _not_an_object(value: bytes) -> DeadLetter:
    try:
        msgspec.json.decode(value, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError) as error:
        return DeadLetter("not-json", str(error))
    return DeadLetter("bad-field", "not a JSON object")


def _form(is_inbound: bool, fields: dict[str, msgspec.Raw]) -> type[_Record]:
    """Tell which fields a record must have and of what kind, by its type."""
    try:
        type_ = msgspec.json.decode(fields["type"], type=str) if "type" in fields else ""
    except msgspec.MsgspecError:
        return _Common
    if type_ == "status":
        return _Status
    if is_inbound:
        return _INBOUND_FORMS.get(type_, _Common)
    return _Common if type_ in core.MISPLACED_OUTBOUND_TYPES else _OUTBOUND_FORMS.get(type_, _Send)


def _typed(form: type[_Record], value: bytes, fields: dict[str, msgspec.Raw]) -> _Record | DeadLetter:
    """Read the fields that the form names; what is missing is told before what is of a wrong kind."""
    if missing := [name for name in form.__struct_fields__ if _is_required(form, name) and name not in fields]:
        return DeadLetter("missing-field", f"missing: {', '.join(sorted(missing))}")
    try:
        wire = msgspec.json.decode(value, type=form)
    except RecursionError:
        return DeadLetter("bad-field", "nested too deeply")
    except msgspec.MsgspecError as error:
        text = str(error)
        if text.startswith("Invalid enum value"):  # msgspec quotes the value, which may be somebody's number
            text = f"Not one of the words allowed - at {text.rpartition(' - at ')[2]}"
        return DeadLetter("bad-field", text)
    if isinstance(wire, _Send) and wire.context is not None and len(bytes(fields["context"])) > CONTEXT_BYTES_MAX:
        return DeadLetter("bad-field", f"context is larger than {CONTEXT_BYTES_MAX} bytes - at `$.context`")
    return wire


def _is_required(form: type[_Record], name: str) -> bool:
    defaults: tuple[Any, ...] = form.__struct_defaults__
    position = form.__struct_fields__.index(name) - (len(form.__struct_fields__) - len(defaults))
    return position < 0 or defaults[position] is msgspec.NODEFAULT


def _inbound_event(wire: _Record, key: bytes, event_time_ms: int) -> core.Event:
    type_ = wire.type
    match wire:
        case _Consent():
            return core.Consent(key, event_time_ms, wire.scope, wire.value == "granted")
        case _Call():
            return core.Call(key, event_time_ms, wire.id, type_, wire.direction or "user", wire.outcome or "")
        case _Unsupported():
            code = "" if wire.error_code is None else str(wire.error_code)
            return core.Unsupported(key, event_time_ms, wire.id, type_, code)
        case _CallPermissionReply():
            return core.CallPermissionReply(key, event_time_ms, wire.id, type_, wire.response_source or "")
        case _Common() if type_ not in core.MISPLACED_INBOUND_TYPES | core.SILENT_INBOUND_TYPES:
            kind = core.Message if type_ in core.OPENING_TYPES else core.DoubtfulMessage
            return kind(key, event_time_ms, wire.id, type_)
    return core.Noted(key, event_time_ms, "silent" if type_ in core.SILENT_INBOUND_TYPES else "misplaced")


def _outbound_event(wire: _Record, key: bytes, event_time_ms: int, value: bytes, context: bytes | None) -> core.Event:
    type_ = wire.type
    if isinstance(wire, _Send):
        category = judged_category(type_, wire.category)
        by_agent = (wire.origin or ("automation" if type_ == "template" else "agent")) == "agent"
        is_done = wire.intent == "done"
        return core.Send(key, event_time_ms, wire.id, type_, category, is_done, by_agent, context, value)
    if type_ == "echo":
        return core.Echo(key, event_time_ms)
    return core.Noted(key, event_time_ms, "silent" if type_ in core.SILENT_OUTBOUND_TYPES else "misplaced")
