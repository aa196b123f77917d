"""Simulated traffic: what a business and its customers write to each other, day by day.

A story is what happens between one customer and the business, told in the order of time: an enquiry with its
answers, a reply that comes a day too late, a missed call, a sign-off. `Traffic` begins stories as the hours of a
business's day have them, with a campaign to many at once, and lays them side by side. It also is the network that
lies between: some records it delivers late, some twice, some damaged.

Nothing here reads a clock: the same arguments give the same records. All numbers are invented.
"""

import heapq
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, NamedTuple

from processor.codec.times import format_time

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60 * SECOND_MS
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS

HOURS: Final = (2, 1, 1, 1, 1, 2, 4, 8, 13, 18, 22, 20, 15, 17, 21, 22, 20, 17, 14, 11, 9, 7, 5, 3)
"""How busy each hour of a day is (UTC), the busiest 22; only their proportions count."""
BUSIEST: Final = max(HOURS)
MEAN_BUSYNESS: Final = sum(HOURS) / len(HOURS)

EVENTS_A_STORY: Final = 3.51
"""On average, what the network doubles and damages included; measured, and held by a test."""
EVENTS_A_CAMPAIGN_CONTACT: Final = 1.92
"""The same for each contact of a campaign: its template, and what some answer."""
CAMPAIGN_SHARE: Final = 0.35
"""Of a day's events, those that campaigns bring about."""
CAMPAIGN_OFFSETS_MS: Final = (0, 2 * HOUR_MS)
"""When the campaigns of a day go out, counted from the hour at which the traffic began. So where the traffic ends a
number of whole days later, windows of the first one's answers are about to end, and those of the second to warn."""

REGULARS_SHARE: Final = 0.7
"""Of the stories, at most, those of customers that come back."""

LATE_SHARE: Final = 0.012
DOUBLED_SHARE: Final = 0.012
DAMAGED_SHARE: Final = 0.005

BUSINESS_IDS: Final = ("15550001", "15550002")
FIRST_CONTACT: Final = 5_511_900_000_000

ASKED: Final = ("Is it in stock?", "Where is my order?", "Can I change the address?", "Thank you!", "How much is it?")
ANSWERED: Final = ("It leaves today.", "Yes, we have it.", "May I have the number?", "Done!", "It is 49.90.")

Side = Literal["inbound", "outbound"]


class Record(NamedTuple):
    """What goes on an input topic. It can be put there from `arrives_ms` on, which is not before its event's time."""

    side: Side
    arrives_ms: int
    key: bytes
    value: bytes


class Customer(NamedTuple):
    """A contact of one of the business's numbers."""

    business_id: str
    contact_id: str

    @property
    def key(self) -> bytes:
        """The window key."""
        return f"whatsapp:{self.business_id}:{self.contact_id}".encode()


class Happening(NamedTuple):
    """An event of a story; `fields` are those that say what it is."""

    side: Side
    event_time_ms: int
    fields: dict[str, Any]


Story = Iterator[Happening]


@dataclass(frozen=True)
class Timeline:
    """Which event time belongs to which second of a run: past days first, fast, and from the present on as it is."""

    begin_ms: int
    """Event time at the start."""
    began_ms: int
    """Wall clock at the start."""
    simulated_s: float
    """How many seconds of the run the days from `begin_ms` on take; then the present is reached."""

    @property
    def present_ms(self) -> int:
        """Event time at which the simulated days reach the wall clock."""
        return self.began_ms + int(self.simulated_s * SECOND_MS)

    @property
    def days(self) -> float:
        """How many days are simulated."""
        return (self.present_ms - self.begin_ms) / DAY_MS

    def is_simulated(self, elapsed_s: float) -> bool:
        """Whether the present is still to come."""
        return elapsed_s < self.simulated_s

    def speed(self, elapsed_s: float) -> float:
        """How many seconds pass in one: 1 from the present on."""
        if not self.is_simulated(elapsed_s):
            return 1
        return (self.present_ms - self.begin_ms) / (self.simulated_s * SECOND_MS)

    def event_time_ms(self, elapsed_s: float) -> int:
        """What time it is in the events, so many seconds after the start."""
        if not self.is_simulated(elapsed_s):
            return self.began_ms + int(elapsed_s * SECOND_MS)
        return self.begin_ms + int((self.present_ms - self.begin_ms) * elapsed_s / self.simulated_s)


class Traffic:
    """The records of all stories, in the order in which they arrive."""

    def __init__(self, seed: int, begin_ms: int, events_per_day: float, regulars: int = 400) -> None:
        """Begin at `begin_ms` (event time), with as many customers that come back; others come as they are needed."""
        self._random = random.Random(seed)
        self._regulars = regulars
        self._newcomers = 0
        self._events = 0
        self._count = 0
        self._now_ms = begin_ms
        self._records: list[Record] = []
        self._agenda: list[tuple[int, int, int, Callable[[], None]]] = []
        self._events_per_day = events_per_day
        self._next_story_ms = self._draw_next_story()
        self._stories = _weighted(
            (46, self._enquiry),
            (14, self._answered_too_late),
            (12, self._notice),
            (10, self._call),
            (6, self._sign_up),
            (4, self._cold_send),
            (4, self._phone_app),
            (4, self._sign_off),
        )
        self._begin_story(self._consents_on_file(begin_ms))
        for offset_ms in CAMPAIGN_OFFSETS_MS:
            self._at(begin_ms + offset_ms, 0, self._send_campaign)

    @property
    def events_per_day(self) -> float:
        """Events of both sides a day, on average. When it is set, it holds from where `until` has come to."""
        return self._events_per_day

    @events_per_day.setter
    def events_per_day(self, events_per_day: float) -> None:
        self._events_per_day = events_per_day
        self._next_story_ms = self._draw_next_story()

    def until(self, moment_ms: int) -> list[Record]:
        """Give what arrives before `moment_ms`, from where the last call stopped; inbound first at one moment."""
        while (due_ms := min(self._next_story_ms, self._agenda[0][0])) < moment_ms:
            self._now_ms = due_ms
            if due_ms == self._next_story_ms:
                story = self._random.choice(self._stories)
                self._begin_story(story(self._some_customer(), due_ms))
                self._next_story_ms = self._draw_next_story()
            else:
                heapq.heappop(self._agenda)[-1]()
        self._now_ms = max(self._now_ms, moment_ms)
        records, self._records = self._records, []
        return records

    # ----------------------------------------------------------------------------------------- how it goes on

    def _at(self, due_ms: int, rank: int, act: Callable[[], None]) -> None:
        """Act at that time, by rank where the times are equal."""
        self._count += 1
        heapq.heappush(self._agenda, (due_ms, rank, self._count, act))

    def _draw_next_story(self) -> int:
        """Draw from a Poisson process whose rate follows the hours: at the rate of the busiest, then thinned out."""
        busiest_rate = self._stories_per_day() / DAY_MS * BUSIEST / MEAN_BUSYNESS
        at_ms = float(self._now_ms)
        while True:
            at_ms += self._random.expovariate(busiest_rate)
            if self._random.random() * BUSIEST < HOURS[int(at_ms / HOUR_MS) % 24]:
                return int(at_ms) + 1

    def _stories_per_day(self) -> float:
        campaigns = len(CAMPAIGN_OFFSETS_MS) * self._campaign_contacts() * EVENTS_A_CAMPAIGN_CONTACT
        return max(self._events_per_day - campaigns, 1) / EVENTS_A_STORY

    def _campaign_contacts(self) -> int:
        wanted = self._events_per_day * CAMPAIGN_SHARE / len(CAMPAIGN_OFFSETS_MS) / EVENTS_A_CAMPAIGN_CONTACT
        return int(min(wanted, self._regulars * 0.8))

    def _send_campaign(self) -> None:
        self._at(self._now_ms + DAY_MS, 0, self._send_campaign)
        for number in self._random.sample(range(self._regulars), self._campaign_contacts()):
            self._begin_story(self._offer(_customer(number), self._now_ms))

    def _begin_story(self, story: Story) -> None:
        self._go_on(story)

    def _go_on(self, story: Story) -> None:
        happening = next(story, None)
        if happening is not None:
            rank = 0 if happening.side == "inbound" else 1
            self._at(happening.event_time_ms, rank, partial(self._happen, happening, story))

    def _happen(self, happening: Happening, story: Story) -> None:
        self._convey(happening)
        self._go_on(story)

    # ------------------------------------------------------------------------------------------- the customers

    def _some_customer(self) -> Customer:
        """Choose one who comes back, some more often than others, or one who was never here.

        However much traffic there is, one who comes back does so about once a day.
        """
        if self._random.random() >= min(REGULARS_SHARE, self._regulars / self._stories_per_day()):
            return self._newcomer()
        return _customer(int(self._regulars * self._random.random() ** 1.5))

    def _newcomer(self) -> Customer:
        self._newcomers += 1
        return _customer(self._regulars + self._newcomers)

    # --------------------------------------------------------------------------------------------- the stories

    def _enquiry(self, who: Customer, at_ms: int) -> Story:
        """A customer asks, an automatic message says hello, an agent answers or nobody does, and so to and fro."""
        yield self._message(who, at_ms)
        if self._chance(0.4):
            at_ms += 2 * SECOND_MS
            yield self._send(who, at_ms, "text", origin="automation", body="Hello! We answer soon.")
        while self._chance(0.88):
            at_ms = self._later(at_ms, 8 * MINUTE_MS)
            yield self._reply(who, at_ms)
            if self._chance(0.4):
                return
            at_ms = self._later(at_ms, 12 * MINUTE_MS)
            yield self._message(who, at_ms)

    def _answered_too_late(self, who: Customer, at_ms: int) -> Story:
        """The answer comes when the window has ended, so a template must ask the customer to write again."""
        yield self._message(who, at_ms)
        at_ms += DAY_MS + self._later(0, 3 * HOUR_MS)
        yield self._reply(who, at_ms)
        at_ms = self._later(at_ms, 2 * MINUTE_MS)
        yield self._template(who, at_ms, "utility", "are_you_still_there")
        if self._chance(0.5):
            at_ms = self._later(at_ms, 20 * MINUTE_MS)
            yield self._customer(who, at_ms, "button", body="Yes")
            yield self._reply(who, self._later(at_ms, 5 * MINUTE_MS))

    def _notice(self, who: Customer, at_ms: int) -> Story:
        """The business has something to say that needs no window."""
        if self._chance(0.3):
            yield self._template(who, at_ms, "authentication", "login_code")
            return
        yield self._template(who, at_ms, "utility", "order_on_its_way")
        if self._chance(0.3):
            at_ms = self._later(at_ms, 30 * MINUTE_MS)
            yield self._message(who, at_ms)
            yield self._reply(who, self._later(at_ms, 6 * MINUTE_MS))

    def _call(self, who: Customer, at_ms: int) -> Story:
        """A customer calls, whatever comes of it; the business calls back, or writes."""
        yield self._customer(who, at_ms, "call", direction="user", outcome="missed")
        at_ms = self._later(at_ms, 10 * MINUTE_MS)
        if self._chance(0.5):
            yield self._send(who, at_ms, "call")
            yield self._customer(who, at_ms + 20 * SECOND_MS, "call", direction="business", outcome="accepted")
        else:
            yield self._reply(who, at_ms)

    def _sign_up(self, who: Customer, at_ms: int) -> Story:
        """A customer wants to hear of offers."""
        yield self._customer(who, at_ms, "interactive", body="Yes, send me offers")
        yield self._consent(who, at_ms, "marketing", "granted")
        if self._chance(0.3):
            yield self._consent(who, at_ms, "all", "granted")
        yield self._template(who, self._later(at_ms, MINUTE_MS), "marketing", "welcome")

    def _sign_off(self, who: Customer, at_ms: int) -> Story:
        """A customer wants to hear no more, of offers or at all; the business's other systems have not heard."""
        yield self._customer(who, at_ms, "text", body="stop")
        scope = "marketing" if self._chance(0.7) else "all"
        yield self._consent(who, at_ms, scope, "revoked")
        yield self._template(who, self._later(at_ms, 3 * HOUR_MS), "marketing", "weekly_offers")

    def _cold_send(self, who: Customer, at_ms: int) -> Story:
        """An agent writes to somebody who never wrote."""
        stranger = self._newcomer()
        yield self._reply(stranger, at_ms)
        yield self._template(stranger, self._later(at_ms, 3 * MINUTE_MS), "utility", "order_on_its_way")

    def _phone_app(self, who: Customer, at_ms: int) -> Story:
        """The owner answers on the phone, past the platform."""
        yield self._message(who, at_ms)
        yield self._send(who, self._later(at_ms, 4 * MINUTE_MS), "echo")

    def _offer(self, who: Customer, at_ms: int) -> Story:
        """One contact of a campaign; most answers come soon."""
        yield self._template(who, at_ms + self._random.randrange(2 * MINUTE_MS), "marketing", "weekly_offers")
        if self._chance(0.45):
            at_ms = self._later(at_ms + 2 * MINUTE_MS, 15 * MINUTE_MS)
            yield self._customer(who, at_ms, "button", body="Show me")
            if self._chance(0.7):
                at_ms = self._later(at_ms, 10 * MINUTE_MS)
                yield self._reply(who, at_ms)
            if self._chance(0.3):
                yield self._message(who, self._later(at_ms, 10 * MINUTE_MS))

    def _consents_on_file(self, at_ms: int) -> Story:
        """What the regulars had said before the traffic begins."""
        for number in range(self._regulars):
            if self._chance(0.5):
                yield self._consent(_customer(number), at_ms, "marketing", "granted")

    # ----------------------------------------------------------------------------------- what stories are made of

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _later(self, at_ms: int, mean_ms: int) -> int:
        return at_ms + SECOND_MS + int(self._random.expovariate(1 / mean_ms))

    def _message(self, who: Customer, at_ms: int) -> Happening:
        return self._customer(who, at_ms, self._random.choice(_ASKING), body=self._random.choice(ASKED))

    def _reply(self, who: Customer, at_ms: int) -> Happening:
        """An agent's; some have gone out by another road already, some bear the caller's own words."""
        fields: dict[str, Any] = {"body": self._random.choice(ANSWERED)}
        if self._chance(0.15):
            fields["intent"] = "done"
        if self._chance(0.2):
            fields["context"] = {"ticket": f"T-{self._random.randrange(10_000)}"}
        return self._send(who, at_ms, self._random.choice(_ANSWERING), **fields)

    def _template(self, who: Customer, at_ms: int, category: str, name: str) -> Happening:
        return self._send(who, at_ms, "template", category=category, name=name)

    def _consent(self, who: Customer, at_ms: int, scope: str, value: str) -> Happening:
        return self._customer(who, at_ms, "consent", scope=scope, value=value)

    def _customer(self, who: Customer, at_ms: int, type_: str, **fields: Any) -> Happening:
        return Happening("inbound", at_ms, self._event("in", who, at_ms, type_) | fields)

    def _send(self, who: Customer, at_ms: int, type_: str, **fields: Any) -> Happening:
        return Happening("outbound", at_ms, self._event("out", who, at_ms, type_) | fields)

    def _event(self, prefix: str, who: Customer, at_ms: int, type_: str) -> dict[str, Any]:
        self._events += 1
        return {
            "id": f"{prefix}-{at_ms}-{self._events}",
            "type": type_,
            "business_id": who.business_id,
            "contact_id": who.contact_id,
            "time": format_time(at_ms),
        }

    # ----------------------------------------------------------------------------------------------- the network

    def _convey(self, happening: Happening) -> None:
        """Bring an event to its topic, most of the time as it should be."""
        side, event_time_ms, fields = happening
        record = Record(side, event_time_ms, _key(fields), _wire(fields))
        if self._chance(DAMAGED_SHARE):
            damage = self._random.choice(DAMAGES)
            self._deliver(Record(side, event_time_ms, *damage(record, fields)))
        if self._chance(DOUBLED_SHARE):
            self._deliver_late(record, self._later(event_time_ms, 30 * MINUTE_MS))
        if self._chance(LATE_SHARE):
            mean_ms = 18 * HOUR_MS if self._chance(0.3) else 20 * MINUTE_MS
            self._deliver_late(record, self._later(event_time_ms, mean_ms))
        else:
            self._deliver(record)

    def _deliver(self, record: Record) -> None:
        self._records.append(record)

    def _deliver_late(self, record: Record, arrives_ms: int) -> None:
        late = record._replace(arrives_ms=arrives_ms)
        self._at(arrives_ms, 0 if late.side == "inbound" else 1, partial(self._deliver, late))


_ASKING: Final = ("text",) * 6 + ("audio", "image", "voice", "video", "document", "location", "sticker", "order")
_ANSWERING: Final = ("text",) * 5 + ("image", "document", "interactive")


def _weighted(
    *stories: tuple[int, Callable[[Customer, int], Story]],
) -> list[Callable[[Customer, int], Story]]:
    return [story for weight, story in stories for _ in range(weight)]


def _customer(number: int) -> Customer:
    return Customer(BUSINESS_IDS[number % len(BUSINESS_IDS)], str(FIRST_CONTACT + number))


def _key(fields: dict[str, Any]) -> bytes:
    return Customer(fields["business_id"], fields["contact_id"]).key


def _wire(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode()


# ------------------------------------------------------------------------- what a careless producer makes of a record

Damage = Callable[[Record, dict[str, Any]], tuple[bytes, bytes]]


def _cut_off(record: Record, fields: dict[str, Any]) -> tuple[bytes, bytes]:
    return record.key, _wire(fields)[: len(record.value) // 2]


def _without_type(record: Record, fields: dict[str, Any]) -> tuple[bytes, bytes]:
    return record.key, _wire({name: value for name, value in fields.items() if name != "type"})


def _with_a_number_for_an_id(record: Record, fields: dict[str, Any]) -> tuple[bytes, bytes]:
    return record.key, _wire(fields | {"id": 17})


def _without_a_zone(record: Record, fields: dict[str, Any]) -> tuple[bytes, bytes]:
    return record.key, _wire(fields | {"time": fields["time"].removesuffix("Z")})


def _under_the_wrong_key(record: Record, fields: dict[str, Any]) -> tuple[bytes, bytes]:
    return fields["contact_id"].encode(), record.value


def _from_the_future(record: Record, fields: dict[str, Any]) -> tuple[bytes, bytes]:
    if fields["type"] == "consent":  # would not be refused but cut to now, and move the clock past all simulated days
        return _without_a_zone(record, fields)
    return record.key, _wire(fields | {"time": "2099" + fields["time"][4:]})


DAMAGES: Final[tuple[Damage, ...]] = (
    _cut_off,
    _without_type,
    _with_a_number_for_an_id,
    _without_a_zone,
    _under_the_wrong_key,
    _from_the_future,
)
"""Each gives key and value of a record that can't be read."""
