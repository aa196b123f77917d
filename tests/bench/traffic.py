"""Days of a business that go well: what the throughput is measured with. All numbers are invented.

A customer begins a conversation, both sides write a few times within an hour or so, and now and then the business comes
back a day or more later, often after the window has closed. The same arguments give the same events.
"""

import random
from typing import Final, NamedTuple

from processor.codec.keys import partition_of
from processor.codec.times import format_time
from processor.core.policy import DAY_MS, HOUR_MS
from tests.bench.scene import BUSINESS_ID
from tests.chaos.backlog import Wanted

BEGUN_WITHIN_MS: Final = 10 * DAY_MS
LAST_END_MS: Final = 3 * DAY_MS
"""The longest that a conversation and what comes after it can take."""

_TEXT: Final = b"Good morning, I should like to know about my order, thank you. "


class Backlog(NamedTuple):
    """Records in the order of their times, and how many of the sends find their window open."""

    records: list[Wanted]
    accepted: int


def backlog(seed: int, events: int, contacts: int, partitions: int, end_ms: int) -> Backlog:
    """Give that many events of these contacts, all of them before `end_ms`."""
    plan = _conversations(random.Random(seed), events, contacts, end_ms - LAST_END_MS - BEGUN_WITHIN_MS)
    people = [Contact(number, partitions) for number in range(contacts)]
    ends_ms = [0] * contacts
    records, accepted = [], 0
    for number, (time_ms, is_outbound, who) in enumerate(plan):
        if is_outbound:
            accepted += time_ms < ends_ms[who]
        else:
            ends_ms[who] = time_ms + DAY_MS
        records.append(people[who].says("outbound" if is_outbound else "inbound", time_ms, number))
    return Backlog(records, accepted)


class Contact:
    """One customer, whose key and place are worked out once."""

    def __init__(self, number: int, partitions: int) -> None:
        """Take the number that makes it another one than the others."""
        self.contact_id = f"55119{number:08d}"
        self.key = f"whatsapp:{BUSINESS_ID}:{self.contact_id}".encode()
        self.partition = partition_of(self.key, partitions)
        self._body = f'"business_id":"{BUSINESS_ID}","contact_id":"{self.contact_id}","type":"text"'.encode()

    def says(self, kind: str, time_ms: int, number: int) -> Wanted:
        """Give a text from or to this customer; `number` makes its id, and its length."""
        text = _TEXT[: 20 + number % 36]
        value = b'{"id":"wamid.%019d",%b,"time":"%b","text":"%b"}' % (
            number, self._body, format_time(time_ms).encode(), text,
        )  # fmt: skip
        return Wanted("outbound" if kind == "outbound" else "inbound", self.partition, self.key, value)


def _conversations(chance: random.Random, events: int, contacts: int, begin_ms: int) -> list[tuple[int, bool, int]]:
    """Give (time, whether it is the business's, contact) of the first `events` events."""
    plan: list[tuple[int, bool, int]] = []
    while len(plan) < events:
        who, time_ms = chance.randrange(contacts), begin_ms + int(chance.random() * BEGUN_WITHIN_MS)
        plan.append((time_ms, False, who))
        for _ in range(chance.randint(1, 13)):
            time_ms += 1 + int(chance.expovariate(15 / HOUR_MS))
            plan.append((time_ms, chance.random() < 0.45, who))
        if chance.random() < 0.25:
            plan.append((time_ms + int(chance.uniform(20, 40) * HOUR_MS), True, who))
    plan.sort()
    return plan[:events]
