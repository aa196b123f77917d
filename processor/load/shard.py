"""The records of a load, in the order in which they are due: all of them, or those of a shard's partitions.

Every shard goes through all events, draws each one's contact, and makes the records of its own partitions only. So any
number of shards makes the same records, and all of a contact come from one of them, in their order.
"""

import json
import random
from array import array
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sized
from itertools import accumulate
from typing import Any, Final, Literal

from processor.codec.keys import partition_of
from processor.codec.times import format_time
from processor.load.popularity import popularity_of
from processor.load.profile import profile_of
from processor.load.scenario import Scenario
from processor.traffic import DAMAGES, Record

BLOCK: Final = 4096
"""Events whose random numbers are drawn together, from a source of their own."""
ADDRESSES_AHEAD: Final = 2_000_000
"""Contacts whose partitions are worked out before the start (1.5 s a million). Of more, each is when it is met."""

INBOUND: Final = 0
OUTBOUND: Final = 1
SIDES: Final[tuple[Literal["inbound", "outbound"], ...]] = ("inbound", "outbound")
FATES: Final = ("bad", "doubles", "late", "disorder")
"""What can go wrong, as the scenario names it; one thing at a time."""

Made = tuple[int, int, bytes, bytes]
"""Lane (the partition, plus the number of partitions for messages.outbound), moment when it is due (µs since the epoch,
in the schedule's time), key, value. A plain tuple: there are tens of thousands a second."""

_TEXT: Final = "Good morning, I should like to know about my order, thank you. "
_FIELDS: Final[Mapping[tuple[int, str], Mapping[str, Any]]] = {
    (INBOUND, "call"): {"direction": "user", "outcome": "missed"},
    (INBOUND, "unsupported"): {"error_code": 131051},
    (INBOUND, "call_permission_reply"): {"response_source": "user_action"},
    (INBOUND, "consent"): {"scope": "marketing", "value": "granted"},
    (INBOUND, "contact_changed"): {"previous_contact_id": "5521800000000"},
    (OUTBOUND, "template"): {"category": "utility", "name": "order_on_its_way"},
    (OUTBOUND, "status"): {"message_id": "wamid.1", "status": "delivered"},
}
"""What a type has beside the common fields; the others bear a text."""
_UNKNOWN: Final = 0xFFFF


class Shard:
    """One of `shards` parts of a load that begins at `start_us`, on topics of so many partitions.

    `counts` says what the records are that were taken, by side and by what went wrong on the way.
    """

    def __init__(self, scenario: Scenario, start_us: int, partitions: int, shard: int = 0, shards: int = 1) -> None:
        self._scenario, self._start_us, self._partitions = scenario, start_us, partitions
        self._is_ours = bytes(partition % shards == shard for partition in range(partitions))
        self._key = f"whatsapp:{scenario.business_id}:55219%08d".encode()
        self._addresses = array("H", [_UNKNOWN]) * scenario.contacts
        self._kinds = [(INBOUND, name) for name in scenario.inbound_types]
        self._kinds += [(OUTBOUND, name) for name in scenario.outbound_types]
        self._values = [self._template(*kind) for kind in self._kinds]
        self._fates = list(accumulate(getattr(scenario, fate) for fate in FATES))
        self._recent: list[deque[tuple[int, bytes, bytes]]] = [
            deque(maxlen=scenario.doubles_within) for _ in range(partitions)
        ]
        self.counts: Counter[str] = Counter(dict.fromkeys(SIDES, 0))
        if scenario.contacts <= ADDRESSES_AHEAD:
            for contact in range(scenario.contacts):
                self._address(contact)

    def begin(self, start_us: int) -> None:
        """Set the start, where it is known only now."""
        self._start_us = start_us

    def records(self) -> Iterator[Made]:
        """Make the records, each as it is asked for."""
        scenario, partitions, addresses, is_ours = self._scenario, self._partitions, self._addresses, self._is_ours
        popularity, kinds, values, key_of = popularity_of(scenario), self._kinds, self._values, self._key
        shares = _shares(scenario)
        last_kind, first_inbound = (
            len(kinds) - 1,
            next(n for n, weight in enumerate(scenario.inbound_types.values()) if weight),
        )
        remembers, fated = scenario.doubles > 0, self._fates[-1]
        start_us, speed, seed, counts = self._start_us, scenario.speed, scenario.seed, self.counts
        for n, offset_us, who, what, fate in _draws(scenario):
            kind = min(bisect_right(shares, what), last_kind)
            side = kinds[kind][0]
            contact = popularity.addressee(who, offset_us) if side else -1
            if contact < 0:
                if side:  # nobody has written yet whom the business could write to
                    kind, side = first_inbound, INBOUND
                contact = popularity.writer(who, offset_us)
            partition = addresses[contact]
            if partition == _UNKNOWN:
                partition = self._address(contact)
            if not is_ours[partition]:
                continue
            moment_us = start_us + offset_us
            time_ms = moment_us // 1000 if speed == 1 else int(start_us + offset_us * speed) // 1000
            if fate < fated:
                made = self._amiss(fate, side, partition, kind, n, moment_us, contact, time_ms)
                if made is not None:
                    yield made
                    counts[SIDES[made[0] // partitions]] += 1
                    counts[self._fate(fate)] += 1
                    continue
            key = key_of % contact
            value = (values[kind] % (seed, n, moment_us, contact, format_time(time_ms))).encode()
            if remembers:
                self._recent[partition].append((side, key, value))
            yield (side * partitions + partition, moment_us, key, value)
            counts[SIDES[side]] += 1

    def _fate(self, fate: float) -> str:
        return FATES[bisect_right(self._fates, fate)]

    def _amiss(
        self, fate: float, side: int, partition: int, kind: int, n: int, moment_us: int, contact: int, time_ms: int
    ) -> Made | None:
        """Make the record of an event with which something goes wrong; None where there is nothing yet to double."""
        scenario, recent, lane = self._scenario, self._recent[partition], side * self._partitions + partition
        what = self._fate(fate)
        sum_of_fates = self._fates[FATES.index(what)]
        rest = 1 - (sum_of_fates - fate) / getattr(scenario, what)  # from 0 to 1, as random as the whole was
        key = self._key % contact
        match what:
            case "doubles":
                if not recent:
                    return None
                side, key, value = recent[_index(rest, recent)]
                return side * self._partitions + partition, moment_us, key, value
            case "late":
                time_ms -= 1 + int(rest * scenario.late_seconds * 1000)
            case "disorder":
                time_ms -= 1 + int(rest * scenario.disorder_ms)
        text = self._values[kind] % (scenario.seed, n, moment_us, contact, format_time(time_ms))
        value = text.encode()
        if what == "bad":
            record = Record(SIDES[side], time_ms, key, value)
            return lane, moment_us, *DAMAGES[_index(rest, DAMAGES)](record, json.loads(text))
        if scenario.doubles:
            recent.append((side, key, value))
        return lane, moment_us, key, value

    def _address(self, contact: int) -> int:
        address = self._addresses[contact] = partition_of(self._key % contact, self._partitions)
        return address

    def _template(self, side: int, name: str) -> str:
        """Give the text of a record, to be filled with seed, number, moment, contact and time."""
        fields = _FIELDS.get((side, name))
        if fields is None:
            size = self._scenario.text_bytes
            fields = {"text": (_TEXT * (size // len(_TEXT) + 1))[:size]} if size else {}
        rest = "".join(f',"{field}":{json.dumps(value)}' for field, value in fields.items())
        return (
            '{"id":"load-%d-%d.%d","type":"' + name + '","business_id":"' + self._scenario.business_id
            + '","contact_id":"55219%08d","time":"%s"' + rest + "}"
        )  # fmt: skip


def _draws(scenario: Scenario) -> Iterator[tuple[int, int, float, float, float]]:
    """Give of each event its number, its moment (µs from the start), and three random numbers from 0 to 1."""
    profile = profile_of(scenario)
    for first in range(0, profile.events, BLOCK):
        chance = random.Random(f"{scenario.seed}/{first}").random
        for n, moment_us in enumerate(profile.moments_us(first, BLOCK), first):
            yield n, moment_us, chance(), chance(), chance()


def _index(share: float, of: Sized) -> int:
    """Give the place that lies at this share of all places."""
    return min(max(int(share * len(of)), 0), len(of) - 1)


def _shares(scenario: Scenario) -> list[float]:
    """Sum up how likely each type is, inbound first."""
    sides = ((scenario.inbound_types, 1 - scenario.outbound), (scenario.outbound_types, scenario.outbound))
    return list(accumulate(share * weight / sum(types.values()) for types, share in sides for weight in types.values()))
