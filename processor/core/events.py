"""What can happen to a contact: the inputs of the core, decoded and checked.

The class says what an event can do, its fields only what the rules ask for. The sets below are the contract's tables
of types; whatever stands in none of them is a type that the provider has added since (W13a).
"""

from typing import ClassVar

import msgspec

_CONTENT_TYPES = frozenset(
    ["text", "image", "video", "audio", "document", "sticker", "location", "contacts", "interactive"]
)
"""What either side may send."""

OPENING_TYPES = _CONTENT_TYPES | {"voice", "order", "button"}
"""Inbound types that always open or extend a window (W2, W3, W7)."""

FREE_FORM_TYPES = _CONTENT_TYPES | {"reaction"}
"""Outbound types that need the window (S1); one that stands in no table here counts as one of them."""

SILENT_INBOUND_TYPES = frozenset(["edit", "revoke", "history", "system", "contact_changed"])
"""Inbound types that never open a window (W7, W8)."""

MISPLACED_INBOUND_TYPES = frozenset(
    ["status", "echo", "template", "user_preferences", "user_id_update", "errors", "account_update", "request_welcome"]
)

SILENT_OUTBOUND_TYPES = frozenset(["call", "status"])
"""Outbound types that wait for the rules S6 and W12; until then they change nothing."""

MISPLACED_OUTBOUND_TYPES = SILENT_INBOUND_TYPES | frozenset(
    ["button", "order", "voice", "unsupported", "consent", "call_permission_reply", "read", "typing"]
)


class Event(msgspec.Struct, gc=False):
    """Something that happened to the contact of window key `key` at `event_time_ms` (ms since the epoch)."""

    key: bytes
    event_time_ms: int


class Message(Event, gc=False):
    """A message of the customer of one of `OPENING_TYPES` (W2, W3)."""

    id: str
    type: str


class DoubtfulMessage(Message, gc=False):
    """Of another type: whether it opens a window is the policy's to say, by its type or one field (W6, W7, W13a)."""


class Call(DoubtfulMessage, gc=False):
    """A call: `direction` is ``user`` or ``business``, `outcome` the provider's word or empty (W6)."""

    direction: str
    outcome: str


class Unsupported(DoubtfulMessage, gc=False):
    """A message that the provider could not pass on; `error_code` as digits, or empty (W7)."""

    error_code: str


class CallPermissionReply(DoubtfulMessage, gc=False):
    """An answer to a request for call permission; `response_source` may be empty (W7)."""

    response_source: str


class Consent(Event, gc=False):
    """A grant or a revocation in the register `scope`, ``marketing`` or ``all`` (S4).

    It counts from `at_ms`. That differs from `event_time_ms` only where the latter can't be believed and is 0.
    """

    type: ClassVar[str] = "consent"
    scope: str
    granted: bool
    at_ms: int


class Send(Event, gc=False):
    """A send of the business, to be judged (S1-S8).

    `category` is the category as judged (`processor.core.sending.judged_category`); `value` is the record's value and
    `context` a part of it, both JSON as they came.
    """

    id: str
    type: str
    category: str
    is_done: bool
    by_agent: bool
    context: bytes | None
    value: bytes


class Echo(Event, gc=False):
    """A message from the business's own phone app: it answers the customer and is never judged (S7, W5)."""

    type: ClassVar[str] = "echo"


class Noted(Event, gc=False):
    """An event that changes no window: it moves the clock and is counted under `count`."""

    type: ClassVar[str] = "noted"
    count: str
