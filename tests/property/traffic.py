"""Random traffic of one partition, from whatever chooses: a seed's generator, or hypothesis.

A `Step` is one record in the making; `Traffic` turns steps into what lies on both input topics. Gaps and delays are
chosen among the lengths that the policy names, and a millisecond to each side of them, so that boundaries are hit and
ties are common.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from processor.audit.partitioner import partition_of
from processor.audit.records import Record, TopicKind, rfc3339
from processor.core.policy import Policy

T = TypeVar("T")
Choose = Callable[[Sequence[T]], T]
"""Takes one of the things given."""

START_MS = 1_795_348_800_000  # 2026-11-22T12:00:00.000Z
SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

PARTITIONS = 4
PARTITION = 1
BUSINESSES = ("100200300", "100200301")
CHANNELS = ("whatsapp", "sms")


def _contacts() -> tuple[list[tuple[str, str, str]], tuple[str, str, str]]:
    """Give the parts of five keys that belong here, of two channels and two businesses, and of one that does not."""
    wanted = [(channel, business) for channel in CHANNELS for business in BUSINESSES] + [("whatsapp", BUSINESSES[0])]
    here: list[tuple[str, str, str]] = []
    stranger = ("whatsapp", BUSINESSES[0], "")
    for number in range(1000):
        parts = (*wanted[len(here) % len(wanted)], f"55119000{number:05d}")
        if partition_of(":".join(parts).encode(), PARTITIONS) != PARTITION:
            stranger = parts
        elif len(here) < len(wanted):
            here.append(parts)
    return here, stranger


CONTACTS, STRANGER = _contacts()

# What is written twice is chosen twice as often.
INBOUND_TYPES = [
    *("text", "text", "text", "text", "image", "voice", "button", "interactive", "call", "call", "reaction"),
    *("unsupported", "call_permission_reply", "consent", "consent", "consent", "hologram", "edit", "system"),
    *("history", "contact_changed", "status", "echo", "user_preferences"),
]
OUTBOUND_TYPES = [
    *("text", "text", "text", "image", "audio", "interactive", "document", "reaction", "template", "template"),
    *("template", "echo", "echo", "call", "status", "hologram", "read", "typing", "consent"),
]
FIELDS: dict[str, dict[str, list[Any]]] = {
    "call": {"direction": [..., "user", "business", "business"], "outcome": [..., "missed", "accepted", "rejected"]},
    "unsupported": {"error_code": [..., 131051, "131051", 131060, "131060", 7, "what"]},
    "call_permission_reply": {"response_source": [..., "user_action", "automatic"]},
    "consent": {"scope": ["all", "marketing", "marketing"], "value": ["granted", "granted", "revoked"]},
}
"""What a type of the customer's side may say; `...` leaves a field out."""
SEND_FIELDS: dict[str, list[Any]] = {
    "intent": [..., ..., "request", "done"],
    "origin": [..., ..., "agent", "automation"],
    "category": [..., ..., "service", "Utility", "authentication", "MARKETING", "news"],
    "context": [..., ..., ..., {}, {"ticket": 7, "who": "José", "of": [1.5, None, "\u2028"]}],
}
EXTRAS: list[Any] = [..., ..., ..., {"body": "Bom dia, já abriram? 😀"}, [1, {"x": -0.0}], 10**25, "plain", None]
FAULTS = [
    *("too large", "cut off", "null", "not UTF-8", "NaN", "an array", "missing", "bad id", "bad contact", "bad word"),
    *("bad time", "no key", "another key", "another partition", "future"),
]


class Step(NamedTuple):
    """One record in the making. `gap_ms` is the time since the last one, `behind_ms` how old the event is by then."""

    kind: TopicKind
    gap_ms: int
    behind_ms: int
    contact: int
    type_: str
    fields: dict[str, Any]
    form: str
    fault: str | None


def choose_policy(choose: Choose[Any]) -> Policy:
    """Make a policy in which the switches stand anyhow."""
    window_ms = choose(
        [
            {"default": DAY_MS},
            {"default": DAY_MS, "sms": 3 * HOUR_MS},
            {"default": 5 * HOUR_MS, "sms": DAY_MS},
            {"default": DAY_MS, "sms": 7 * DAY_MS},
        ]
    )
    shortest, longest = min(window_ms.values()), max(window_ms.values())
    thresholds = [(), (2 * HOUR_MS,), (2 * HOUR_MS, HOUR_MS, 15 * MINUTE_MS), (4 * HOUR_MS, HOUR_MS), (20 * HOUR_MS,)]
    return Policy(
        window_ms=window_ms,
        expiring_before_ms=choose([each for each in thresholds if not each or each[0] < shortest]),
        closed_retention_ms=choose([longest, longest + HOUR_MS, 3 * longest]),
        safety_margin_ms=choose([0, MINUTE_MS]),
        reactions_open=choose([False, True]),
        unknown_types_open=choose([True, False]),
        unsupported_opens=choose([{"131051": True, "131060": False}, {"131060": True, "7": False}, {}]),
        call_permission_reply_opens=choose([("user_action",), (), ("automatic", "user_action")]),
        direct_send=choose([(), ("*",), (BUSINESSES[0],)]),
        marketing_needs_opt_in=choose(["outside-window", "off", "always"]),
        enforcement=choose(["enforce", "enforce", "observe"]),
        effects_from_ms=choose([0, 0, 0, START_MS + DAY_MS, START_MS + 3 * DAY_MS + 1]),
        emit_accepted=choose([True, True, True, False]),
    )


def boundaries(policy: Policy) -> list[int]:
    """Give the lengths at which something changes, and what lies beside them; ms."""
    lengths = {policy.closed_retention_ms}
    for window_ms in policy.window_ms.values():
        lengths |= {window_ms, *(window_ms - threshold_ms for threshold_ms in policy.expiring_before_ms)}
    lengths |= set(policy.expiring_before_ms)
    return sorted({length + beside for length in lengths for beside in (-1, 0, 1)})


def choose_step(choose: Choose[Any], edges: Sequence[int]) -> Step:
    """Make one record."""
    kind: TopicKind = choose(["inbound", "outbound"])
    type_ = choose(INBOUND_TYPES if kind == "inbound" else OUTBOUND_TYPES)
    words = FIELDS.get(type_, {}) if kind == "inbound" else SEND_FIELDS
    fields = {name: choose(values) for name, values in words.items()}
    if kind == "outbound" and type_ == "template" and fields["category"] is ...:
        fields["category"] = "utility"
    gap = choose(["none", "none", "short", "short", "minutes", "hours", "edge"])
    gaps = {"none": [0], "short": [1, 7, 999, 1000], "minutes": [MINUTE_MS, 17 * MINUTE_MS], "hours": [HOUR_MS]}
    delay = choose(["none", "none", "none", "none", "short", "edge"])
    delays = {"none": [0], "short": [-MINUTE_MS, -1, 1, 999, MINUTE_MS, HOUR_MS]}
    return Step(
        kind,
        choose(gaps.get(gap, edges)),
        choose(delays.get(delay, edges)),
        choose(range(len(CONTACTS))),
        type_,
        {**fields, "text": choose(EXTRAS)},
        choose(["ms", "ms", "rfc", "rfc", "digits", "zone", "seconds"]),
        choose(FAULTS) if choose(range(20)) == 0 else None,
    )


class Traffic:
    """Both input topics of the partition, filled step by step; time goes on with each."""

    def __init__(self, record_bytes_max: int) -> None:
        self.now_ms = START_MS
        self.inbound: list[Record] = []
        self.outbound: list[Record] = []
        self._record_bytes_max = record_bytes_max
        self._count = 0

    def add(self, step: Step) -> None:
        """Put the step's record on its topic."""
        self.now_ms += step.gap_ms
        self._count += 1
        topic = self.inbound if step.kind == "inbound" else self.outbound
        body = self._body(step)
        record = Record(step.kind, PARTITION, len(topic), self.now_ms, _key(body), _written(body, self._count))
        topic.append(self._spoilt(record, body, step.fault))

    def _body(self, step: Step) -> dict[str, Any]:
        channel, business_id, contact_id = CONTACTS[step.contact]
        body = {
            "id": f"{step.kind[0]}{self._count % 50}",
            "type": step.type_,
            "channel": ... if channel == "whatsapp" and self._count % 2 else channel,
            "business_id": business_id,
            "contact_id": contact_id,
            "time": _time(self.now_ms - step.behind_ms, step.form),
            **step.fields,
        }
        return {name: value for name, value in body.items() if value is not ...}

    def _spoilt(self, record: Record, body: dict[str, Any], fault: str | None) -> Record:
        """Give the record with the fault, if it has one."""
        match fault:
            case "too large":
                return record._replace(value=_written(body | {"x": "y" * self._record_bytes_max}))
            case "cut off":
                return record._replace(value=(record.value or b"")[:-2])
            case "null":
                return record._replace(value=None)
            case "not UTF-8":
                return record._replace(value=_written(body | {"x": "?"}).replace(b'"?"', b'"\xff"'))
            case "NaN":
                return record._replace(value=_written(body | {"x": float("nan")}))
            case "an array":
                return record._replace(value=b"[" + (record.value or b"") + b"]")
            case "no key":
                return record._replace(key=None)
            case "another key":
                return record._replace(key=(record.key or b"") + b"0")
            case "another partition":
                stranger = dict(zip(("channel", "business_id", "contact_id"), STRANGER, strict=True))
                return record._replace(key=_key(stranger), value=_written(body | stranger))
        changes: dict[str | None, dict[str, Any]] = {
            "bad id": {"id": ["", 7, None, "x" * 257][self._count % 4]},
            "bad contact": {"contact_id": ["+5511900010001", "", 5511900010001, "a:b"][self._count % 4]},
            "bad word": {"type": 7} if body["type"] == "echo" else {"business_id": None, "intent": "x", "scope": "x"},
            "bad time": {"time": ["0", -1, "2026-11-22T12:00:00", 1.5, None, True][self._count % 6]},
            "future": {"time": record.timestamp_ms + 300_001},
        }
        body = body | changes.get(fault, {})
        if fault == "missing":
            del body[["type", "business_id", "contact_id", "time"][self._count % 4]]
        return record._replace(value=_written(body, self._count))


def _key(body: dict[str, Any]) -> bytes:
    return f"{body.get('channel', 'whatsapp')}:{body['business_id']}:{body['contact_id']}".encode()


def _time(ms: int, form: str) -> int | str:
    if form == "rfc":
        return rfc3339(ms)
    if form == "zone":
        return rfc3339(ms - 3 * HOUR_MS).replace("Z", "-03:00")
    if form == "seconds":
        return ms // 1000
    return str(ms) if form == "digits" else ms


def _written(body: dict[str, Any], number: int = 0) -> bytes:
    """Write a body in one of several ways."""
    if number % 3 == 0:
        body = dict(reversed(body.items()))
    return json.dumps(body, ensure_ascii=number % 2 == 0, indent=1 if number % 7 == 0 else None).encode()
