"""The job as Faust's manual teaches it: records, an agent over both inputs, a table, a timer that scans it.

Nothing of our stream layer is in it. It takes the same settings as our worker (JANELA_* in the environment), reads the
same inputs and writes events with the contract's ids to the same topics; FAUST_GUARANTEE is `at_least_once` (the
default) or `exactly_once`. Run as `python -m tests.bench.peers.faust_idiomatic --datadir FOLDER worker --without-web`.

What it can't do is not its author's choice: an agent gets the events of two topics in no order between them, what it
sends leaves when it is sent, and offsets are committed every 2.8 s by a task of their own.
"""

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import faust
from faust.types import StreamT, TopicT

from processor import topics
from processor.settings import Settings

HOUR_MS = 3_600_000
LENGTH_MS = 24 * HOUR_MS
WARNED_BEFORE_MS = 2 * HOUR_MS
SCAN_S = 1.0

settings = Settings.load()
names = topics.names(settings)

app = faust.App(
    settings.app_id,
    broker=f"kafka://{settings.bootstrap_servers}",
    broker_credentials=settings.connection.faust_credentials(),
    broker_client_id=f"{settings.app_id}-{settings.instance_id}",
    store="memory://",
    topic_partitions=settings.partitions,
    topic_replication_factor=1,
    processing_guarantee=os.environ.get("FAUST_GUARANTEE", "at_least_once"),
    # The broker's shortest; all else is as Faust has it.
    broker_session_timeout=settings.session_timeout_ms / 1000,
    broker_heartbeat_interval=settings.session_timeout_ms / 3000,
    consumer_auto_offset_reset="earliest",
)


class Message(faust.Record, serializer="json"):
    """An input of either side."""

    id: str
    business_id: str
    contact_id: str
    time: Any
    type: str
    text: str


class Window(faust.Record, serializer="json"):
    """What is known of a contact. Times are Unix milliseconds."""

    partition: int
    opened_at: int
    expires_at: int
    is_warned: bool = False


class Event(faust.Record, serializer="json"):
    """An output: a CloudEvent with what the job is about."""

    id: str
    type: str
    subject: str
    time: str
    data: dict[str, Any]


Said = tuple[TopicT, Event]


def output_topic(name: str) -> TopicT:
    return app.topic(names[name], key_type=str, key_serializer="raw", value_type=Event)


messages = app.topic(
    names["messages.inbound"], names["messages.outbound"], key_type=str, key_serializer="raw", value_type=Message
)
opened, expiring, closed, rejected = map(
    output_topic, ("window-opened", "window-expiring", "window-closed", "send-rejected")
)
windows = app.Table(
    "windows",
    schema=faust.Schema(key_type=str, key_serializer="raw", value_type=Window, value_serializer="json"),
    partitions=settings.partitions,
    use_partitioner=True,  # the timer changes the table too, outside of any event
)
clocks_ms: dict[int, int] = {}
"""The largest event time of each partition."""


@app.agent(messages)
async def track(stream: StreamT[Message]) -> None:
    """Apply each event to its contact's window."""
    async for event in stream.events():
        is_outbound = event.message.topic == names["messages.outbound"]
        await say(apply(event.key, event.value, event.message.partition, is_outbound))


@app.timer(interval=SCAN_S)  # type: ignore[untyped-decorator]
async def expire() -> None:
    """Tell what is due by each partition's clock."""
    for key in list(windows):
        if window := windows.get(key):  # the agent may have closed it meanwhile
            await say(advance(key, window, clocks_ms.get(window.partition, 0)))


# These two wait for nothing: agent and timer take turns at an await, and each is to find windows as they are.


def apply(key: str, message: Message, partition: int, is_outbound: bool) -> list[Said]:
    """Apply one event to its contact's window."""
    time_ms = unix_ms(message.time)
    clocks_ms[partition] = max(time_ms, clocks_ms.get(partition, 0))
    before = windows.get(key)
    said = advance(key, before, time_ms) if before is not None else []
    window = windows.get(key)
    if is_outbound:
        if window is None:
            about = {"send": {"id": message.id}, "reason": "window-closed"}
            said.append(
                output(rejected, "janela.send.rejected.v1", key, f"{key}/{message.id}/rejected", time_ms, about)
            )
    elif window is None:
        window = windows[key] = Window(partition, time_ms, time_ms + LENGTH_MS)
        about = times(window) | {"cause": {"id": message.id}}
        said.append(output(opened, "janela.window.opened.v1", key, f"{key}@{time_ms}/opened", time_ms, about))
    else:
        windows[key] = Window(partition, window.opened_at, max(window.expires_at, time_ms + LENGTH_MS))
    return said


def advance(key: str, window: Window, clock_ms: int) -> list[Said]:
    """Do what is due for one window."""
    said = []
    ends_ms, warning_ms = window.expires_at, window.expires_at - WARNED_BEFORE_MS
    if not window.is_warned and clock_ms >= warning_ms:
        id_ = f"{key}@{window.opened_at}/expiring/{ends_ms}/{WARNED_BEFORE_MS // 1000}"
        said.append(output(expiring, "janela.window.expiring.v1", key, id_, warning_ms, times(window)))
        windows[key] = Window(window.partition, window.opened_at, ends_ms, is_warned=True)
    if clock_ms >= ends_ms:
        id_, about = f"{key}@{window.opened_at}/closed", times(window) | {"closed_at": rfc3339(ends_ms)}
        said.append(output(closed, "janela.window.closed.v1", key, id_, ends_ms, about))
        del windows[key]
    return said


def output(topic: TopicT, type_: str, key: str, id_: str, time_ms: int, about: dict[str, Any]) -> Said:
    return topic, Event(id=id_, type=type_, subject=key, time=rfc3339(time_ms), data=about)


async def say(said: Iterable[Said]) -> None:
    for topic, event in said:
        await topic.send(key=event.subject, value=event)


def times(window: Window) -> dict[str, Any]:
    return {"opened_at": rfc3339(window.opened_at), "expires_at": rfc3339(window.expires_at)}


def unix_ms(time: str | int) -> int:
    """Read a time as the benches write it: RFC 3339, or Unix milliseconds."""
    return time if isinstance(time, int) else round(datetime.fromisoformat(time).timestamp() * 1000)


def rfc3339(time_ms: int) -> str:
    written = datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return written.replace("+00:00", "Z")


if __name__ == "__main__":
    app.main()
