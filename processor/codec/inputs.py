"""Records of the input topics to events of the core, or to the reason why they can't be read.

There are two roads. The plain one serves a customer's message, and a send, a status or an echo, in one pass of msgspec
over the value. Whatever is not as plain as that takes the careful road, which looks at one thing after the other in the
order of the contract and is the authority: the plain road only ever answers what the careful one would.

Nothing leaves this module as an exception, whatever the bytes are.
"""

import re
from collections.abc import Container, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec

from processor.codec.faults import unquoted
from processor.codec.keys import is_key, partition_of
from processor.codec.times import parse_time
from processor.core import events as core
from processor.core.sending import judged_category

FUTURE_TOLERANCE_MS: Final = 5 * 60_000
"""How far ahead of its record's timestamp an event may be; it is then taken as that timestamp."""

CONTEXT_BYTES_MAX: Final = 1024

_UNKNOWN_MS: Final = 0
"""Event time of what bears none that can be believed: it is applied when it comes, and moves no clock."""

_KEY_BYTES_MAX: Final = 32 + 1 + 160 + 1 + 160
_HEADERS_BYTES_FEW: Final = 512
_CHECKED_MAX: Final = 10_000  # some 1 MB; a murmur2 in Python takes as long as all else that is done to a record

Headers = Sequence[tuple[str, bytes]]


_ESCAPE: Final = re.compile(
    rb"(?P<whole>\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\(?!u[dD][89a-fA-F]).)"
    rb"|\\u[dD][89a-fA-F][0-9a-fA-F]{2}",
    re.DOTALL,
)
"""An escape in a JSON string; one that is not `whole` is half of a surrogate pair."""


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

    id: _Id | None = None


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


class _Form:
    """How to read one kind of record: the names that must be there, and a decoder."""

    def __init__(self, struct: type[_Record]) -> None:
        self.decode = msgspec.json.Decoder(struct).decode
        self.required = sorted(field.encode_name for field in msgspec.structs.fields(struct) if field.required)


_COMMON, _STATUS, _SEND = _Form(_Common), _Form(_Status), _Form(_Send)
_INBOUND_FORMS = {
    "status": _STATUS,
    "call": _Form(_Call),
    "unsupported": _Form(_Unsupported),
    "call_permission_reply": _Form(_CallPermissionReply),
    "consent": _Form(_Consent),
}
_OUTBOUND_FORMS = dict.fromkeys(core.MISPLACED_OUTBOUND_TYPES, _COMMON) | {
    "status": _STATUS,
    "template": _Form(_Template),
    "echo": _COMMON,
    "call": _COMMON,
}
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_message = msgspec.json.Decoder(_PlainMessage).decode
_decode_send = msgspec.json.Decoder(_PlainSend).decode
_decode_context = msgspec.json.Decoder(dict[str, Any]).decode


class InputDecoder:
    """Decodes the records of one partition of both input topics.

    `known` holds the keys that are in the partition's state: they were checked when they came in. `check_keys` off
    takes the key from the body and asks for nothing else.

    A record's parts may be such that only their sizes are known (`processor.kafka.unread`), where these are too large.
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
        self._plain_bytes_max = record_bytes_max - _KEY_BYTES_MAX - _HEADERS_BYTES_FEW
        self._check_keys = check_keys
        self._checked: set[bytes] = set()  # a burst of a new contact is decoded before it is applied, and so known

    def inbound(
        self, key: bytes | None, value: bytes | None, timestamp_ms: int, headers: Headers = ()
    ) -> core.Event | DeadLetter:
        """Decode a record of ``messages.inbound``; `timestamp_ms` is the record's, negative where it has none."""
        if (
            key is not None
            and value is not None
            and len(value) <= self._plain_bytes_max
            and (not headers or _size(headers) <= _HEADERS_BYTES_FEW)
        ):
            try:
                if not value.isascii():
                    value.decode()  # msgspec does not look into what it skips
                wire = _decode_message(value)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                return self._carefully(True, key, value, timestamp_ms, headers)
            event_time_ms = parse_time(wire.time)
            if (
                wire.type in core.OPENING_TYPES
                and event_time_ms is not None
                and event_time_ms <= timestamp_ms
                and key == f"{wire.channel}:{wire.business_id}:{wire.contact_id}".encode()
                and (key in self._known or self._is_home(key))
            ):
                return core.Message(key, event_time_ms, wire.id, wire.type)
        return self._carefully(True, key, value, timestamp_ms, headers)

    def outbound(
        self, key: bytes | None, value: bytes | None, timestamp_ms: int, headers: Headers = ()
    ) -> core.Event | DeadLetter:
        """Decode a record of ``messages.outbound``."""
        if (
            key is not None
            and value is not None
            and len(value) <= self._plain_bytes_max
            and (not headers or _size(headers) <= _HEADERS_BYTES_FEW)
        ):
            try:
                if not value.isascii():
                    value.decode()
                wire = _decode_send(value)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                return self._carefully(False, key, value, timestamp_ms, headers)
            event_time_ms = parse_time(wire.time)
            if (
                event_time_ms is not None
                and event_time_ms <= timestamp_ms
                and key == f"{wire.channel}:{wire.business_id}:{wire.contact_id}".encode()
                and (key in self._known or self._is_home(key))
                and (event := _plain_outbound_event(wire, key, event_time_ms, value)) is not None
            ):
                return event
        return self._carefully(False, key, value, timestamp_ms, headers)

    def _is_home(self, key: bytes) -> bool:
        """Whether a record's key, which is its body's too, is a window key of this partition."""
        if key in self._checked:
            return True
        if not is_key(key):
            return False
        if self._check_keys and partition_of(key, self._partitions) != self._partition:
            return False
        if len(self._checked) >= _CHECKED_MAX:
            self._checked.clear()
        self._checked.add(key)
        return True

    def _carefully(
        self, is_inbound: bool, key: bytes | None, value: bytes | None, timestamp_ms: int, headers: Headers
    ) -> core.Event | DeadLetter:
        size = len(key or b"") + len(value or b"") + _size(headers)
        if size > self._record_bytes_max:
            return DeadLetter("too-large", f"{size} bytes, allowed are {self._record_bytes_max}")
        read = _read(is_inbound, value)
        if isinstance(read, DeadLetter):
            return read
        value, fields, wire = read
        event_time_ms = parse_time(wire.time)
        if event_time_ms is None:
            return DeadLetter("bad-time", "time is neither RFC 3339 with a zone nor Unix time of 10 or 13 digits")
        body_key = f"{wire.channel or 'whatsapp'}:{wire.business_id}:{wire.contact_id}".encode()
        if self._check_keys:
            if key != body_key:
                return DeadLetter("wrong-key", "the record's key is not the body's")
            if (home := partition_of(body_key, self._partitions)) != self._partition:
                return DeadLetter("wrong-partition", f"found on {self._partition}, belongs on {home}")
        if timestamp_ms < event_time_ms:
            is_absurd = event_time_ms > timestamp_ms + FUTURE_TOLERANCE_MS
            if isinstance(wire, _Consent):
                at_ms = timestamp_ms if timestamp_ms >= 0 else event_time_ms
                return _consent(wire, body_key, _UNKNOWN_MS if is_absurd else at_ms, at_ms)
            if is_absurd:
                ahead_s = (event_time_ms - timestamp_ms) // 1000
                return DeadLetter("future-time", f"time is {ahead_s} s ahead of the record's timestamp")
            event_time_ms = max(timestamp_ms, 0)  # a record without a timestamp has -1
        if is_inbound:
            return _inbound_event(wire, body_key, event_time_ms)
        if isinstance(wire, _Send):
            context = None if wire.context is None else bytes(fields["context"])
            return _send(wire, body_key, event_time_ms, value, context)
        return _outbound_event(wire, body_key, event_time_ms)


def _read(is_inbound: bool, value: bytes | None) -> tuple[bytes, dict[str, msgspec.Raw], _Record] | DeadLetter:
    """Give the value (mended, where it holds half a character), its parts, and its fields as the type wants them."""
    if value is None:
        return DeadLetter("not-json", "the value is null")
    fields = _fields(value)
    if isinstance(fields, DeadLetter) and (mended := _without_lone_surrogates(value)) != value:
        value, fields = mended, _fields(mended)
    if isinstance(fields, DeadLetter):
        return fields
    wire = _typed(_form(is_inbound, fields), fields)
    return wire if isinstance(wire, DeadLetter) else (value, fields, wire)


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


def _without_lone_surrogates(value: bytes) -> bytes:
    """Write U+FFFD for each half of a pair: what is left of an emoji where a text was cut, and not JSON to all."""
    return _ESCAPE.sub(lambda escape: escape[0] if escape["whole"] else rb"\ufffd", value)


def _not_an_object(value: bytes) -> DeadLetter:
    try:
        msgspec.json.decode(value, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError) as error:
        return DeadLetter("not-json", str(error))
    return DeadLetter("bad-field", "not a JSON object")


def _form(is_inbound: bool, fields: dict[str, msgspec.Raw]) -> _Form:
    """Tell which fields a record must have and of what kind, by its type."""
    try:
        type_ = msgspec.json.decode(fields["type"], type=str) if "type" in fields else ""
    except msgspec.MsgspecError:
        return _COMMON
    return _INBOUND_FORMS.get(type_, _COMMON) if is_inbound else _OUTBOUND_FORMS.get(type_, _SEND)


def _typed(form: _Form, fields: dict[str, msgspec.Raw]) -> _Record | DeadLetter:
    """Read the fields that the form names; what is missing is told before what is of a wrong kind."""
    if missing := [name for name in form.required if name not in fields]:
        return DeadLetter("missing-field", f"missing: {', '.join(missing)}")
    try:
        wire = form.decode(msgspec.json.encode(fields))  # in the value a name may stand twice, and the last one counts
    except RecursionError:
        return DeadLetter("bad-field", "nested too deeply")
    except msgspec.MsgspecError as error:
        return DeadLetter("bad-field", unquoted(error))
    if isinstance(wire, _Send) and wire.context is not None and len(bytes(fields["context"])) > CONTEXT_BYTES_MAX:
        return DeadLetter("bad-field", f"context is larger than {CONTEXT_BYTES_MAX} bytes - at `$.context`")
    return wire


def _inbound_event(wire: _Record, key: bytes, event_time_ms: int) -> core.Event:
    type_ = wire.type
    match wire:
        case _Consent():
            return _consent(wire, key, event_time_ms, event_time_ms)
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


def _consent(wire: _Consent, key: bytes, event_time_ms: int, at_ms: int) -> core.Consent:
    return core.Consent(key, event_time_ms, wire.scope, wire.value == "granted", at_ms)


def _outbound_event(wire: _Record, key: bytes, event_time_ms: int) -> core.Event:
    type_ = wire.type
    if type_ == "echo":
        return core.Echo(key, event_time_ms)
    return core.Noted(key, event_time_ms, "silent" if type_ in core.SILENT_OUTBOUND_TYPES else "misplaced")


def _plain_outbound_event(wire: _PlainSend, key: bytes, event_time_ms: int, value: bytes) -> core.Event | None:
    """Give the event of an outbound record that is as plain as it looks, or None."""
    type_ = wire.type
    if type_ in core.FREE_FORM_TYPES or (type_ == "template" and wire.category):
        context = None if wire.context is None else bytes(wire.context)
        if context is None or _is_plain_context(context):
            return _send(wire, key, event_time_ms, value, context)
    elif type_ == "status":
        return core.Noted(key, event_time_ms, "silent")
    elif type_ == "echo":
        return core.Echo(key, event_time_ms)
    return None


def _is_plain_context(context: bytes) -> bool:
    if len(context) > CONTEXT_BYTES_MAX:
        return False
    try:
        _decode_context(context)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


def _send(wire: _Send | _PlainSend, key: bytes, event_time_ms: int, value: bytes, context: bytes | None) -> core.Send:
    type_, category, origin = wire.type, wire.category, wire.origin
    by_agent = type_ != "template" if origin is None else origin == "agent"
    category = judged_category(type_, category) if category or type_ == "template" else "service"
    return core.Send(key, event_time_ms, wire.id, type_, category, wire.intent == "done", by_agent, context, value)


def _size(headers: Headers) -> int:
    return sum(len(name.encode()) + len(text or b"") for name, text in headers)
