"""`janela watch`: follow what comes out of any cluster, as lines for people or for machines."""

import asyncio
import contextlib
import heapq
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from processor.cli.config import BootstrapServers, ConfigFile, load_settings
from processor.cli.early import begin

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
    from rich.text import Text

    from processor.settings import Settings


class Kind(StrEnum):
    """What can be watched."""

    OPENED = "opened"
    EXPIRING = "expiring"
    CLOSED = "closed"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    STATE = "state"


TOPICS = {
    Kind.OPENED: "window-opened",
    Kind.EXPIRING: "window-expiring",
    Kind.CLOSED: "window-closed",
    Kind.ACCEPTED: "send-accepted",
    Kind.REJECTED: "send-rejected",
    Kind.STATE: "window-state",
}
EVENTS = [kind for kind in Kind if kind is not Kind.STATE]
STYLES = {
    Kind.OPENED: "green",
    Kind.EXPIRING: "yellow",
    Kind.CLOSED: "blue",
    Kind.ACCEPTED: "cyan",
    Kind.REJECTED: "red",
    Kind.STATE: "magenta",
}


FOREIGN = ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError
"""What reading and wording a record raise where it is none of a worker's: whoever may write to the topic may do so."""


class Seen(NamedTuple):
    """A record of an output topic. `value` is what it says, empty for a tombstone; `raw` its bytes.

    No worker wrote one that is too large to be kept, of which `too_large` says the size, or one that can't be read, of
    which `unreadable` says where it lies; both have no value.
    """

    kind: Kind
    key: str
    time: str
    sequence: int
    value: Mapping[str, Any]
    raw: bytes | None
    place: str = ""
    too_large: str = ""
    unreadable: str = ""

    @property
    def contact_id(self) -> str:
        """The key's last part."""
        return self.key.rsplit(":", 1)[-1]


def watch(
    kinds: Annotated[
        list[Kind] | None,
        typer.Option("--kind", help="Only this kind; may be given again. Without it, all but state."),
    ] = None,
    contact: Annotated[str | None, typer.Option(metavar="TEXT", help="Only contacts whose id has TEXT in it.")] = None,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="What the topics hold, then what comes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines: the CloudEvent as it is, one a line.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="End after N events.")] = None,
    bootstrap_servers: BootstrapServers = None,
    config_file: ConfigFile = None,
) -> None:
    """Follow the output topics of a cluster, a line for each event, until Ctrl-C.

    Only what is committed is shown, in order of `sequence` within each partition and fetch. No consumer
    group is joined: watching takes nothing away from anybody. A state in JSON is an object of `key` and
    `value`, null where the key was forgotten. Of a record that no worker wrote it says where it lies, in JSON as an
    object of `key` and `unreadable`. Dead letters and consents are not shown: they are records of the topics
    dead-letters and consent-state, for a consumer of your own.

    Examples:
        janela watch
        janela watch --kind closed --kind expiring --contact 8888
        janela watch --from-beginning --json --limit 100

    Exit codes: 0 ended by Ctrl-C or --limit, 2 broker away, topics missing, a setting wrong.
    """
    settings = load_settings(config_file, bootstrap_servers)
    topics = {settings.topic_prefix + TOPICS[kind]: kind for kind in kinds or EVENTS}
    begin()
    with contextlib.suppress(KeyboardInterrupt):  # the way to end it, so no failure
        asyncio.run(_watch(settings, _Choice(topics, contact or "", from_beginning, limit, as_json)))


class _Choice(NamedTuple):
    """What was asked for; `topics` are with their prefix."""

    topics: Mapping[str, Kind]
    contact: str
    from_beginning: bool
    limit: int | None
    as_json: bool


async def _watch(settings: "Settings", choice: _Choice) -> None:
    show = _print_raw if choice.as_json else _line_printer()
    shown = 0
    async with _consumer(settings, choice) as consumer:
        if not choice.as_json:
            since = "their beginning" if choice.from_beginning else "now"
            print(f"watching {', '.join(choice.topics)} from {since} on; Ctrl-C ends it", file=sys.stderr)
        while True:
            for seen in in_order(await consumer.getmany(timeout_ms=1000), choice.topics):
                if choice.contact not in seen.contact_id:
                    continue
                show(seen)
                shown += 1
                if shown == choice.limit:
                    return


@contextlib.asynccontextmanager
async def _consumer(settings: "Settings", choice: _Choice) -> AsyncIterator["AIOKafkaConsumer"]:
    from aiokafka import TopicPartition

    from processor.cli.cluster import partitions_of
    from processor.topics import refusals_told

    counts = await partitions_of(settings, choice.topics)
    partitions = [TopicPartition(topic, number) for topic, count in counts.items() for number in range(count)]
    consumer = settings.connection.consumer(
        client_id="janela-watch",
        isolation_level="read_committed",
        auto_offset_reset="earliest",  # where a record was deleted before we came to it, the next one is it
    )
    try:
        with refusals_told(settings):
            await consumer.start()
            consumer.assign(partitions)
            await (consumer.seek_to_beginning if choice.from_beginning else consumer.seek_to_end)(*partitions)
            yield consumer
    finally:
        await consumer.stop()


def in_order(
    fetched: "Mapping[TopicPartition, Sequence[ConsumerRecord[bytes, bytes | None]]]",
    topics: Mapping[str, Kind],
) -> Iterator[Seen]:
    """Put what one fetch brought in order: by `sequence` within a partition number, over all topics.

    Between partitions there is no order; they are laid together by time, since that reads well.
    """
    by_partition: dict[int, list[Seen]] = {}
    for source, records in fetched.items():
        partition = by_partition.setdefault(source.partition, [])
        sequence = 0
        for record in records:
            seen = _seen(record, topics[source.topic], sequence)
            sequence = seen.sequence
            partition.append(seen)
    ordered = (sorted(partition, key=lambda seen: seen.sequence) for partition in by_partition.values())
    return heapq.merge(*ordered, key=lambda seen: seen.time)


def _seen(record: "ConsumerRecord[bytes, bytes | None]", kind: Kind, sequence_before: int) -> Seen:
    from processor.codec.times import LIMIT_MS, format_time, parse_time
    from processor.kafka.unread import Unread, too_large

    key = "" if isinstance(record.key, Unread) else (record.key or b"").decode(errors="backslashreplace")
    written = format_time(min(max(record.timestamp, 0), LIMIT_MS - 1))  # what a producer's clock said
    place = f"{record.topic}[{record.partition}], offset {record.offset}"
    # a tombstone has no sequence, and keeps its place behind the record before it, as what can't be read does
    bare = Seen(kind, key, written, sequence_before, {}, None, place)
    if words := too_large(record.key, record.value, ()):
        return bare._replace(too_large=words)
    if record.value is None and kind is Kind.STATE:
        return bare
    try:
        value = json.loads((record.value or b"").decode())
        time_ms = parse_time(value.get("time"))  # state has none, it is as it was written
        time = written if time_ms is None else format_time(time_ms)
        sequence = int(value.get("sequence", sequence_before))
        return Seen(kind, (record.key or b"").decode(), time, sequence, value, record.value, place)
    except FOREIGN:
        return bare._replace(unreadable=_unreadable(place))


def said(seen: Seen, words: Mapping[Kind, Callable[[Any], str]]) -> str:
    """Say what a record tells, by these words for each kind; of one that can't be read, where it lies."""
    if seen.too_large or seen.unreadable:
        return seen.too_large or seen.unreadable
    try:
        return printable(words[seen.kind](seen.value.get("data", seen.value)))
    except FOREIGN:
        return _unreadable(seen.place)


def _unreadable(place: str) -> str:
    return f"can't be read as an event: {place}"


# --------------------------------------------------------------------------------------------- for machines


def _print_raw(seen: Seen) -> None:
    if seen.too_large:
        print(json.dumps({"key": seen.key, "too_large": seen.too_large}), flush=True)
    elif seen.unreadable:
        print(json.dumps({"key": seen.key, "unreadable": seen.unreadable}), flush=True)
    elif seen.kind is Kind.STATE:
        print(f'{{"key": {json.dumps(seen.key)}, "value": {(seen.raw or b"null").decode()}}}', flush=True)
    else:
        print((seen.raw or b"").decode(), flush=True)


# ----------------------------------------------------------------------------------------------- for people


def _line_printer() -> Callable[[Seen], None]:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    return lambda seen: console.print(line(seen))


def line(seen: Seen) -> "Text":
    """Say an event in a line: when it became true, what, of whom, and what follows."""
    from rich.text import Text

    style = STYLES[seen.kind]
    return Text.assemble(
        (_moment(seen.time), "dim"), "  ", (f"{seen.kind:<8}", f"bold {style}"), "  ", printable(seen.key), "  ",
        (said(seen, _WORDS), style),
    )  # fmt: skip


def printable(text: str) -> str:
    """Write out what would move a terminal's cursor, or worse: an id may be any characters that a producer likes."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def _opened(data: Mapping[str, Any]) -> str:
    cause = data["cause"]
    return f"until {_moment(data['expires_at'])}, by {cause['type']} {cause['id']}"


def _expiring(data: Mapping[str, Any]) -> str:
    answer = "unanswered" if data["unanswered"] else "answered"
    return f"{_span(data['remaining_seconds'])} left, {answer}"


def _closed(data: Mapping[str, Any]) -> str:
    return f"{data['reason']}, {'unanswered' if data['unanswered'] else 'answered'}"


def _accepted(data: Mapping[str, Any]) -> str:
    send = data["send"]
    words = f"{send['type']} {send['id']}: {data['reason'] or 'observed'}"
    if data["valid_until"]:
        words += f", valid until {_moment(data['valid_until'])}"
    if would_reject := data.get("would_reject"):
        words += f", would be rejected: {would_reject['reason']}"
    return words


def _rejected(data: Mapping[str, Any]) -> str:
    send, window = data["send"], data["window"]
    words = f"{send['type']} {send['id']}: {data['reason']}"
    if window and window["closed_for_seconds"] is not None:
        words += f", closed for {_span(window['closed_for_seconds'])}"
    return f"{words}; {data['remedy']}" if data["remedy"] != "none" else words


def _state(value: Mapping[str, Any]) -> str:
    from processor.codec.times import format_time

    if not value:
        return "forgotten"
    if value["status"] == "open":
        return f"open until {_moment(format_time(value['expires_at']))}"
    return f"closed at {_moment(format_time(value['closed_at']))}, {value['close_reason']}"


_WORDS: dict[Kind, Callable[[Mapping[str, Any]], str]] = {
    Kind.OPENED: _opened,
    Kind.EXPIRING: _expiring,
    Kind.CLOSED: _closed,
    Kind.ACCEPTED: _accepted,
    Kind.REJECTED: _rejected,
    Kind.STATE: _state,
}


def _moment(time: str) -> str:
    """``2026-11-22T18:47:19.000Z`` as a person reads it; all times are UTC."""
    return time[:19].replace("T", " ")


def _span(seconds: int) -> str:
    """``5400`` as ``1h30m``."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{count}{unit}" for count, unit in parts if count) or "0s"
