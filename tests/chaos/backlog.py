"""What lies on the input topics before a run: days of a business, with everything that goes wrong on the way.

The same arguments give the same records. Contacts write and are written to at random times over some days; the network
between delivers most of it at once, some late, some after a whole window, some twice; some of it can't be read. All
numbers are invented.
"""

import json
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from processor.audit.partitioner import partition_of
from processor.audit.records import TopicKind, rfc3339

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
BUSINESS_IDS: Final = ("15550001", "15550002")

AHEAD: Final = 16
"""How many of the last records of a backlog are ahead of its end."""

Headers = tuple[tuple[str, bytes], ...]
Fields = dict[str, Any]


class Wanted(NamedTuple):
    """A record to be put on an input topic."""

    kind: TopicKind
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


def backlog(
    seed: int, events: int, contacts: int, partitions: int, end_ms: int, days: float = 5, first: int = 0
) -> list[Wanted]:
    """Give about `events` records of `contacts` contacts, over the `days` before `end_ms`, as they arrive.

    Their ids are numbered after `first`, so that parts of one long backlog have none in common.
    """
    generator = _Generator(random.Random(seed), contacts, partitions, first)
    begin_ms = end_ms - int(days * DAY_MS)
    times = sorted(generator.random.randint(begin_ms, end_ms) for _ in range(events))
    arrivals: list[tuple[int, int, Wanted]] = []
    for number, time_ms in enumerate(times):
        wanted = generator.event(time_ms)
        if generator.random.random() < _DAMAGED_SHARE:
            wanted = generator.damaged(wanted)
        arrivals.append((generator.arrival(time_ms), number, wanted))
        if generator.random.random() < _DOUBLED_SHARE:
            arrivals.append((generator.arrival(time_ms), number, wanted))
    arrivals.sort(key=lambda arrival: arrival[:2])
    records = [wanted for _, _, wanted in arrivals]
    # what is ahead of its time comes last: the clock runs to the end there, and there is nothing left to spoil
    records += [generator.event(end_ms + ahead_ms) for ahead_ms in (60_000, 4 * 60_000) for _ in range(4)]
    records += [generator.event(end_ms + 2 * HOUR_MS) for _ in range(8)]
    return records


def hostile(seed: int, records: int, partitions: int, end_ms: int) -> list[Wanted]:
    """Give records of which most can't be read, each in one of the ways that the contract has a reason for."""
    generator = _Generator(random.Random(seed), 50, partitions)
    return [generator.damaged(generator.event(end_ms - records + n)) for n in range(records)]


_LATE_SHARE = 0.03
_TOO_LATE_SHARE = 0.005
_DOUBLED_SHARE = 0.01
_DAMAGED_SHARE = 0.005

_INBOUND: Sequence[tuple[int, Fields]] = (
    (60, {"type": "text", "text": "Is it in stock?"}),
    (8, {"type": "image"}),
    (4, {"type": "voice"}),
    (4, {"type": "button"}),
    (4, {"type": "interactive"}),
    (3, {"type": "call"}),
    (1, {"type": "call", "direction": "user", "outcome": "missed"}),
    (1, {"type": "call", "direction": "business", "outcome": "accepted"}),
    (1, {"type": "call", "direction": "business", "outcome": "rejected"}),
    (3, {"type": "reaction", "emoji": "👍"}),
    (1, {"type": "unsupported", "error_code": 131051}),
    (1, {"type": "unsupported", "error_code": "131060"}),
    (1, {"type": "call_permission_reply", "response_source": "user_action"}),
    (1, {"type": "call_permission_reply", "response_source": "automatic"}),
    (2, {"type": "consent", "scope": "marketing", "value": "granted"}),
    (1, {"type": "consent", "scope": "marketing", "value": "revoked"}),
    (1, {"type": "consent", "scope": "all", "value": "revoked"}),
    (1, {"type": "consent", "scope": "all", "value": "granted"}),
    (1, {"type": "edit"}),
    (1, {"type": "history"}),
    (1, {"type": "contact_changed", "previous_contact_id": "5511900000000"}),
    (1, {"type": "template"}),
    (1, {"type": "hologram"}),
)
_OUTBOUND: Sequence[tuple[int, Fields]] = (
    (40, {"type": "text", "text": "It leaves today."}),
    (8, {"type": "text", "context": {"ticket": 7, "note": 'a "quoted" word, é'}}),
    (8, {"type": "text", "intent": "done"}),
    (8, {"type": "text", "origin": "automation"}),
    (4, {"type": "image", "category": "Utility"}),
    (2, {"type": "text", "category": "marketing"}),
    (10, {"type": "template", "name": "notice", "category": "utility"}),
    (8, {"type": "template", "name": "sale", "category": "MARKETING", "context": {"campaign": "spring"}}),
    (2, {"type": "template", "name": "code", "category": "authentication"}),
    (1, {"type": "template", "name": "odd", "category": "a new one", "origin": "agent"}),
    (3, {"type": "reaction", "emoji": "👍"}),
    (5, {"type": "echo"}),
    (6, {"type": "status", "message_id": "m", "status": "read"}),
    (1, {"type": "call"}),
    (1, {"type": "typing"}),
    (1, {"type": "hologram"}),
)

Damage = Callable[["_Generator", Wanted], Wanted]


class _Generator:
    def __init__(self, random_: random.Random, contacts: int, partitions: int, first: int = 0) -> None:
        self.random = random_
        self._contacts, self.partitions = contacts, partitions
        self._count = first
        self._templates = {"inbound": _spread(_INBOUND), "outbound": _spread(_OUTBOUND)}

    def event(self, time_ms: int) -> Wanted:
        kind: TopicKind = "inbound" if self.random.random() < 0.55 else "outbound"
        business = BUSINESS_IDS[self.random.random() < 0.3]
        contact = str(5_511_900_000_000 + self.random.randrange(self._contacts))
        self._count += 1
        fields = self.random.choice(self._templates[kind])
        body: Fields = {"id": f"{kind}.{self._count}", **fields}
        body |= {"business_id": business, "contact_id": contact, "time": self._written(time_ms)}
        if self.random.random() < 0.3:
            body["channel"] = "whatsapp"
        key = f"whatsapp:{business}:{contact}".encode()
        value = json.dumps(body, ensure_ascii=self.random.random() < 0.5).encode()
        headers: Headers = (("trace", b"\x00\xff"),) if self.random.random() < 0.05 else ()
        return Wanted(kind, partition_of(key, self.partitions), key, value, headers)

    def arrival(self, time_ms: int) -> int:
        chance = self.random.random()
        if chance < _TOO_LATE_SHARE:
            return time_ms + self.random.randint(20 * HOUR_MS, 30 * HOUR_MS)
        if chance < _TOO_LATE_SHARE + _LATE_SHARE:
            return time_ms + self.random.randint(0, 6 * HOUR_MS)
        return time_ms + self.random.randint(0, 3_000)

    def damaged(self, wanted: Wanted) -> Wanted:
        return self.random.choice(_DAMAGES)(self, wanted)

    def _written(self, time_ms: int) -> str | int:
        form = self.random.random()
        if form < 0.8:
            return rfc3339(time_ms)
        return time_ms if form < 0.9 else str(time_ms // 1000)


def _spread(weighted: Iterable[tuple[int, Fields]]) -> list[Fields]:
    return [fields for weight, fields in weighted for _ in range(weight)]


def _with(change: Callable[[Fields], object]) -> Damage:
    """Damage one field of the body."""

    def damage(_: _Generator, wanted: Wanted) -> Wanted:
        body: Fields = json.loads(wanted.value or b"")
        change(body)
        return wanted._replace(value=json.dumps(body).encode())

    return damage


def _elsewhere(generator: _Generator, wanted: Wanted) -> Wanted:
    return wanted._replace(partition=(wanted.partition + 1) % generator.partitions)


def _cut(generator: _Generator, wanted: Wanted) -> Wanted:
    value = wanted.value or b"{}"
    return wanted._replace(value=value[: generator.random.randrange(len(value))])


def _noise(generator: _Generator, wanted: Wanted) -> Wanted:
    value = bytearray(wanted.value or b"{}")
    for _ in range(generator.random.randint(1, 8)):
        value[generator.random.randrange(len(value))] = generator.random.randrange(256)
    return wanted._replace(value=bytes(value))


_DAMAGES: Sequence[Damage] = (
    lambda _, wanted: wanted._replace(value=None),
    lambda _, wanted: wanted._replace(key=None),
    lambda _, wanted: wanted._replace(key=None, value=None),
    lambda _, wanted: wanted._replace(key=b"whatsapp:15550001:\xff"),
    lambda _, wanted: wanted._replace(key=b""),
    lambda _, wanted: wanted._replace(value=b""),
    lambda _, wanted: wanted._replace(value=b"[]"),
    lambda _, wanted: wanted._replace(value=b'"' + b"x" * 70_000 + b'"'),
    lambda _, wanted: wanted._replace(value=b"[" * 20_000),
    lambda _, wanted: wanted._replace(value=(wanted.value or b"") + b" NaN"),
    lambda _, wanted: wanted._replace(headers=(("big", b"h" * 66_000),)),
    lambda _, wanted: wanted._replace(headers=(("__dlq.reason", b"mine"), ("empty", b""))),
    _elsewhere,
    _cut,
    _noise,
    _with(lambda body: body.pop("contact_id", None)),
    _with(lambda body: body.pop("time", None)),
    _with(lambda body: body.update(time="2026-11-22 18:00")),
    _with(lambda body: body.update(time=True)),
    _with(lambda body: body.update(time=10**40)),
    _with(lambda body: body.update(time="2099-01-01T00:00:00Z")),
    _with(lambda body: body.update(business_id=15550001)),
    _with(lambda body: body.update(contact_id="+5511900000000")),
    _with(lambda body: body.update(type=7)),
    _with(lambda body: body.update(id="", type="text")),
    _with(lambda body: body.update(context="x" * 2000, intent="perhaps", scope=1, direction="sideways")),
)
