"""Decisions of the core to CloudEvents 1.0, structured JSON."""

from collections.abc import Callable
from typing import Any

import orjson

from processor.codec.times import format_time
from processor.core.decisions import Accepted, Closed, Decision, Expiring, Opened, Rejected
from processor.core.policy import SECOND_MS
from processor.core.sending import REFUSALS

TOPICS: dict[type[Decision], str] = {
    Opened: "window-opened",
    Expiring: "window-expiring",
    Closed: "window-closed",
    Accepted: "send-accepted",
    Rejected: "send-rejected",
}
"""Which topic a decision goes to."""

HEADERS: list[tuple[str, bytes]] = [("content-type", b"application/cloudevents+json")]
"""What each record with a decision bears, beside the round's own header."""


class OutputEncoder:
    """Writes decisions as events of one source, signed with the version of one policy."""

    def __init__(self, app_id: str, policy_version: str) -> None:
        """Take what every event of this worker bears."""
        self._source = f"/janela/{app_id}"
        self._policy = policy_version
        self._parts: dict[type[Decision], Callable[[Any, str, str, dict[str, Any]], tuple[str, str]]] = {
            Opened: _opened,
            Expiring: _expiring,
            Closed: _closed,
            Accepted: _accepted,
            Rejected: _rejected,
        }

    def encode(self, decision: Decision, sequence: int) -> bytes:
        """Write one decision; `sequence` is its number among the outputs of the partition."""
        key = decision.key.decode()
        channel, business_id, contact_id = key.split(":", 2)
        data = {"channel": channel, "business_id": business_id, "contact_id": contact_id, "policy": self._policy}
        time = format_time(decision.time_ms)
        type_, id_ = self._parts[type(decision)](decision, key, time, data)
        return orjson.dumps(
            {
                "specversion": "1.0",
                "id": id_,
                "source": self._source,
                "type": type_,
                "subject": key,
                "time": time,
                "datacontenttype": "application/json",
                "sequence": sequence_text(sequence),
                "data": data,
            }
        )


def sequence_text(sequence: int) -> str:
    """Write a number of the partition's records so that texts are in the order of the numbers."""
    return str(sequence).zfill(20)


# Each of these adds its part to `data`, and tells the event's type and id; `time` is the decision's, written.


def _opened(opened: Opened, key: str, time: str, data: dict[str, Any]) -> tuple[str, str]:
    data["opened_at"] = time
    data["expires_at"] = format_time(opened.expires_at)
    data["cause"] = {"id": opened.cause_id, "type": opened.cause_type}
    return "janela.window.opened.v1", f"{key}@{opened.time_ms}/opened"


def _expiring(expiring: Expiring, key: str, time: str, data: dict[str, Any]) -> tuple[str, str]:
    threshold_seconds = expiring.threshold_ms // SECOND_MS
    data["opened_at"] = format_time(expiring.opened_at)
    data["expires_at"] = format_time(expiring.expires_at)
    data["threshold_seconds"] = threshold_seconds
    data["remaining_seconds"] = expiring.remaining_ms // SECOND_MS
    data["unanswered"] = expiring.is_unanswered
    data["last_inbound_at"] = format_time(expiring.last_inbound_at)
    id_ = f"{key}@{expiring.opened_at}/expiring/{expiring.expires_at}/{threshold_seconds}"
    return "janela.window.expiring.v1", id_


def _closed(closed: Closed, key: str, time: str, data: dict[str, Any]) -> tuple[str, str]:
    data["opened_at"] = format_time(closed.opened_at)
    data["expires_at"] = time if closed.expires_at == closed.time_ms else format_time(closed.expires_at)
    data["closed_at"] = time
    data["reason"] = closed.reason
    data["unanswered"] = closed.is_unanswered
    return "janela.window.closed.v1", f"{key}@{closed.opened_at}/closed"


def _accepted(accepted: Accepted, key: str, time: str, data: dict[str, Any]) -> tuple[str, str]:
    opened_at, expires_at, valid_until = accepted.opened_at, accepted.expires_at, accepted.valid_until
    data["send"] = orjson.Fragment(accepted.send.value)
    data["window"] = None
    if opened_at is not None and expires_at is not None:
        data["window"] = {"opened_at": format_time(opened_at), "expires_at": format_time(expires_at)}
    data["reason"] = accepted.reason
    data["valid_until"] = None if valid_until is None else format_time(valid_until)
    if (refusal := accepted.would_reject) is not None:
        data["would_reject"] = {"reason": refusal, "remedy": REFUSALS[refusal][1]}
    return "janela.send.accepted.v1", f"{key}/{accepted.send.id}/accepted"


def _rejected(rejected: Rejected, key: str, time: str, data: dict[str, Any]) -> tuple[str, str]:
    send, opened_at, expires_at, closed_at = rejected.send, rejected.opened_at, rejected.expires_at, rejected.closed_at
    data["send"] = {
        "id": send.id,
        "type": send.type,
        "category": send.category,
        "time": time,
        "intent": "done" if send.is_done else "request",
        "context": None if send.context is None else orjson.Fragment(send.context),
    }
    data["reason"] = rejected.reason
    data["provider_code"], data["remedy"] = REFUSALS[rejected.reason]
    data["window"] = None
    if opened_at is not None and expires_at is not None:
        data["window"] = {
            "opened_at": format_time(opened_at),
            "expires_at": format_time(expires_at),
            "closed_at": None if closed_at is None else format_time(closed_at),
            "closed_for_seconds": None if closed_at is None else (rejected.time_ms - closed_at) // SECOND_MS,
        }
    return "janela.send.rejected.v1", f"{key}/{send.id}/rejected"
