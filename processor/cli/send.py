"""`janela send`: put one event on an input topic, with the key and on the partition where it belongs."""

import asyncio
import contextlib
import json
import math
import os
import secrets
import sys
import time
from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from processor.cli.config import BootstrapServers, ConfigFile, load_settings

if TYPE_CHECKING:
    from aiokafka.structs import RecordMetadata

    from processor.settings import Settings

SEND_SECONDS = 15
"""How long a send may take: with too few brokers for its copies the client would go on trying for ever."""
STOP_SECONDS = 2
RECORD_BYTES_MAX = 1_000_000
"""A producer sends requests of 1 MiB, and brokers take them, where nobody says otherwise; some of it is overhead."""


class Side(StrEnum):
    """Whose event it is."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


def send(
    side: Annotated[Side, typer.Argument(help="The customer's side (inbound) or the business's (outbound).")],
    type_: Annotated[str | None, typer.Option("--type", help="text, image, template, consent, …")] = None,
    business: Annotated[str | None, typer.Option(metavar="ID", help="The business number.")] = None,
    contact: Annotated[str | None, typer.Option(metavar="ID", help="The customer.")] = None,
    channel: Annotated[str | None, typer.Option(help="The channel. Without it, whatsapp.")] = None,
    id_: Annotated[str | None, typer.Option("--id", help="The event's id. Without it, a new one.")] = None,
    time_: Annotated[
        str | None, typer.Option("--time", help="When it happened, RFC 3339 with a zone. Without it, now.")
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option(
            "--field",
            metavar="NAME=VALUE",
            help="A further field: JSON where it reads as JSON, else text. Repeatable.",
        ),
    ] = None,
    value: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="The whole event, or - to read it from stdin; options stand over it."),
    ] = None,
    unchecked: Annotated[
        bool,
        typer.Option("--unchecked", help="Send it whatever it is, --value byte for byte: for dead letters."),
    ] = False,
    key: Annotated[
        str | None, typer.Option(help="With --unchecked: the record's key, also an empty one, instead of the event's.")
    ] = None,
    partition: Annotated[
        int | None, typer.Option(min=0, help="With --unchecked: the partition, instead of the key's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines: one JSON object.")] = False,
    bootstrap_servers: BootstrapServers = None,
    config_file: ConfigFile = None,
) -> None:
    """Put one event on an input topic, and say where it lies.

    It is read first as a worker would read it, and not sent if it would become a dead letter.

    Examples:
        janela send inbound --type text --business 15550001 --contact 5511999998888
        janela send outbound --type template --field category=utility --business 1 --contact 2
        janela send inbound --value '{"type": "text", "business_id": "1", "contact_id": "2"}'
        echo '{"type": "text"}' | janela send inbound --unchecked --value - --key whatsapp:1:2

    Exit codes: 0 every copy in sync has it, 2 the event, a setting, a topic or the broker is at fault.
    """
    if not unchecked and (key is not None or partition is not None):
        raise typer.BadParameter("--key and --partition need --unchecked")
    settings = load_settings(config_file, bootstrap_servers)
    given = sys.stdin.buffer.read() if value == "-" else None if value is None else os.fsencode(value)
    options = {
        "type": type_,
        "channel": channel,
        "business_id": business,
        "contact_id": contact,
        "id": id_,
        "time": time_,
    }
    said: dict[str, Any] = {name: _typed(word) for name, word in options.items() if word is not None}
    said |= _fields(map(_typed, fields or []))
    if unchecked and given is not None:
        wire, event = given, _object(given, {}) | said
    else:
        event = _event({} if given is None else _object(given), said)
        wire = _encoded(_json(event))
    record_key = _encoded(_key(event) if key is None else _typed(key))
    if not unchecked:
        _check(settings, side, record_key, wire)
    if (size := len(record_key) + len(wire)) > RECORD_BYTES_MAX:
        words = f"key and value have {size:,} bytes: no more than {RECORD_BYTES_MAX:,} are sent"
        raise typer.BadParameter(words, param_hint="--value")

    topic = f"{settings.topic_prefix}messages.{side}"
    sent = asyncio.run(_send(settings, topic, record_key, wire, partition))
    if as_json:
        found = {"topic": topic, "partition": sent.partition, "offset": sent.offset, "key": record_key.decode()}
        print(json.dumps(found | {"id": _object(wire, {}).get("id")}))
    else:
        print(f"{topic} partition {sent.partition} offset {sent.offset} key {record_key.decode()}")


def new_id() -> str:
    """Make an id that no other event has; ids sort by the time they were made at."""
    return f"cli-{time.time_ns() // 1_000_000:012x}{secrets.token_hex(8)}"


def _typed(word: str) -> str:
    """Read a word of the command line as UTF-8, whatever the locale says of it."""
    return os.fsencode(word).decode("utf-8", "surrogateescape")


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is not JSON, though Python takes it for that")


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise typer.BadParameter("it has a number that is too large, such as 1e999") from None


def _fields(texts: Iterable[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, word = text.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--field")
        try:
            found[name] = json.loads(word, parse_constant=_no_number)
        except ValueError:
            found[name] = word
        except RecursionError:
            raise typer.BadParameter(f"{name} is nested too deeply", param_hint="--field") from None
        if isinstance(found[name], float) and not math.isfinite(found[name]):
            raise typer.BadParameter(f"{name}: {word} is too large a number", param_hint="--field")
    return found


def _object(text: bytes, otherwise: dict[str, Any] | None = None) -> dict[str, Any]:
    """Read a JSON object; what is none gives `otherwise`, or is the caller's mistake."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        return found
    if otherwise is None:
        raise typer.BadParameter("not a JSON object", param_hint="--value")
    return otherwise


def _event(given: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """Lay the options over the value, and fill in what nobody said."""
    from processor.codec.times import format_time

    event = given | said
    for name, option in (("type", "--type"), ("business_id", "--business"), ("contact_id", "--contact")):
        if name not in event:
            raise typer.BadParameter(f"missing, and not in --value as {name}", param_hint=option)
    if event["type"] != "status":  # it speaks of another event's id and has none of its own
        event.setdefault("id", new_id())
    event.setdefault("time", format_time(time.time_ns() // 1_000_000))
    return event


def _key(event: dict[str, Any]) -> str:
    return f"{event.get('channel') or 'whatsapp'}:{event.get('business_id', '')}:{event.get('contact_id', '')}"


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        found = f"found {error.object[error.start]!a}, which is half of a character or none"
        raise typer.BadParameter(f"{found}: no UTF-8 can hold it") from None


def _check(settings: "Settings", side: Side, key: bytes, wire: bytes) -> None:
    """Read the event as a worker would; tell on stderr where it will change nothing."""
    from processor.codec.inputs import DeadLetter, InputDecoder
    from processor.core.events import Noted

    # The key is made from the body and the partition from the key, so neither needs a look.
    decoder = InputDecoder(0, 1, (), settings.record_bytes_max, check_keys=False)
    decode = decoder.inbound if side is Side.INBOUND else decoder.outbound
    read = decode(key, wire, time.time_ns() // 1_000_000)
    if isinstance(read, DeadLetter):
        print(f"not sent, {read.reason}: {read.message} (--unchecked sends it all the same)", file=sys.stderr)
        raise typer.Exit(2)
    if isinstance(read, Noted) and read.count == "misplaced":
        print(f"note: on messages.{side} this type counts as misplaced and changes nothing", file=sys.stderr)


async def _send(settings: "Settings", topic: str, key: bytes, wire: bytes, partition: int | None) -> "RecordMetadata":
    from processor.cli.cluster import partitions_of
    from processor.topics import ClusterError, refusals_told

    count = (await partitions_of(settings, [topic]))[topic]
    if partition is not None and partition >= count:
        raise typer.BadParameter(f"{topic} has {count}, counted from 0", param_hint="--partition")
    # The client's own partitioner is Kafka's default for a key, over as many partitions as there are.
    producer = settings.connection.producer(
        client_id="janela-send",
        acks="all",
        enable_idempotence=True,
    )
    try:
        with refusals_told(settings):
            async with asyncio.timeout(SEND_SECONDS):
                await producer.start()
                sent: RecordMetadata = await producer.send_and_wait(topic, wire, key, partition)
                return sent
    except TimeoutError:
        raise ClusterError(
            f"{topic}: no acknowledgement within {SEND_SECONDS} s from every copy in sync;"
            " the event may have been written all the same"
        ) from None
    finally:
        with contextlib.suppress(TimeoutError):  # an event that nobody takes holds up the end as well
            async with asyncio.timeout(STOP_SECONDS):
                await producer.stop()
