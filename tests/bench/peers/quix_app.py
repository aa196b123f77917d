"""The job on Quix Streams: both inputs in one frame, ordered by time, and a state for each contact.

Runs in an environment of its own (`quix.lock`) and imports nothing of ours; what it is to do stands in JANELA_* as for
our worker, QUIX_STATE names a folder and QUIX_COMMIT_S the commit interval. A state is reached by an event of its key
and in no other way, so what falls due is told at the contact's next event, and where none comes, not at all.
"""

import os
from datetime import UTC, datetime
from typing import Any

from quixstreams import Application, State

HOUR_MS = 3_600_000
LENGTH_MS = 24 * HOUR_MS
WARNED_BEFORE_MS = 2 * HOUR_MS

prefix = os.environ["JANELA_TOPIC_PREFIX"]
app = Application(
    broker_address=os.environ["JANELA_BOOTSTRAP_SERVERS"],
    consumer_group=os.environ["JANELA_APP_ID"],
    auto_offset_reset="earliest",
    processing_guarantee="exactly-once",
    commit_interval=float(os.environ.get("QUIX_COMMIT_S", "1")),
    state_dir=os.environ["QUIX_STATE"],
    loglevel="WARNING",
)
inbound, outbound = (
    app.topic(f"{prefix}messages.{side}", key_deserializer="str", value_deserializer="json")
    for side in ("inbound", "outbound")
)
outputs = {
    type_: app.topic(prefix + name, key_serializer="str", value_serializer="json")
    for type_, name in (
        ("janela.window.opened.v1", "window-opened"),
        ("janela.window.expiring.v1", "window-expiring"),
        ("janela.window.closed.v1", "window-closed"),
        ("janela.send.rejected.v1", "send-rejected"),
    )
}

Window = dict[str, int]
"""`opened_at` and `expires_at` in Unix milliseconds, `is_warned`."""


def track(message: dict[str, Any], key: str, _timestamp: int, _headers: Any, state: State) -> list[dict[str, Any]]:
    """Apply one event to its contact's window; give what is to be said."""
    time_ms = unix_ms(message["time"])
    window: Window | None = state.get("window")
    said: list[dict[str, Any]] = []
    before = None if window is None else dict(window)
    if window is not None:
        window = advance(key, window, time_ms, said)
    if message["is_outbound"]:
        if window is None:
            about: dict[str, Any] = {"send": {"id": message["id"]}, "reason": "window-closed"}
            said.append(event("janela.send.rejected.v1", key, f"{key}/{message['id']}/rejected", time_ms, about))
    elif window is None:
        window = {"opened_at": time_ms, "expires_at": time_ms + LENGTH_MS, "is_warned": 0}
        about = times(window) | {"cause": {"id": message["id"]}}
        said.append(event("janela.window.opened.v1", key, f"{key}@{time_ms}/opened", time_ms, about))
    else:
        window["expires_at"], window["is_warned"] = max(window["expires_at"], time_ms + LENGTH_MS), 0
    if window is None and before is not None:
        state.delete("window")
    elif window != before:
        state.set("window", window)
    return said


def advance(key: str, window: Window, clock_ms: int, said: list[dict[str, Any]]) -> Window | None:
    """Do what is due for one window; None where it has ended."""
    opened_at, ends_ms = window["opened_at"], window["expires_at"]
    warning_ms = ends_ms - WARNED_BEFORE_MS
    if not window["is_warned"] and clock_ms >= warning_ms:
        id_ = f"{key}@{opened_at}/expiring/{ends_ms}/{WARNED_BEFORE_MS // 1000}"
        said.append(event("janela.window.expiring.v1", key, id_, warning_ms, times(window)))
        window["is_warned"] = 1
    if clock_ms < ends_ms:
        return window
    about = times(window) | {"closed_at": rfc3339(ends_ms)}
    said.append(event("janela.window.closed.v1", key, f"{key}@{opened_at}/closed", ends_ms, about))
    return None


def event(type_: str, key: str, id_: str, time_ms: int, about: dict[str, Any]) -> dict[str, Any]:
    return {"id": id_, "type": type_, "subject": key, "time": rfc3339(time_ms), "data": about}


def times(window: Window) -> dict[str, Any]:
    return {"opened_at": rfc3339(window["opened_at"]), "expires_at": rfc3339(window["expires_at"])}


def unix_ms(time: str | int) -> int:
    """Read a time as the benches write it: RFC 3339, or Unix milliseconds."""
    return time if isinstance(time, int) else round(datetime.fromisoformat(time).timestamp() * 1000)


def rfc3339(time_ms: int) -> str:
    written = datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return written.replace("+00:00", "Z")


if __name__ == "__main__":
    said_by_customer, said_by_business = app.dataframe(inbound), app.dataframe(outbound)
    said_by_customer["is_outbound"] = False
    said_by_business["is_outbound"] = True
    both = said_by_customer.concat(said_by_business)
    both = both.apply(track, stateful=True, metadata=True, expand=True)
    both.to_topic(lambda value, *_: outputs[value["type"]])
    app.run()
