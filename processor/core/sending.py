"""Judging a send: whether the business may write this now (S1-S5, S7, S8).

`refusal` is the whole rule, a function of the send, whether the window was open at its time, and the consents.
"""

from typing import Final

from processor.core.consent import Consents
from processor.core.decisions import Accepted, Rejected
from processor.core.events import Send
from processor.core.policy import Policy
from processor.core.window import Window

OPT_OUT: Final = "opt-out"
MARKETING_OPT_OUT: Final = "marketing-opt-out"
WINDOW_CLOSED: Final = "window-closed"
NO_WINDOW: Final = "no-window"
NO_CONSENT: Final = "no-consent"

REFUSALS: Final[dict[str, tuple[int | None, str]]] = {
    OPT_OUT: (None, "none"),
    MARKETING_OPT_OUT: (131050, "none"),
    WINDOW_CLOSED: (131047, "send-template"),
    NO_WINDOW: (131047, "send-template"),
    NO_CONSENT: (None, "ask-consent"),
}
"""Reason -> (the provider's code for it, what to do instead), in the order in which they are tried."""

_DIRECT_TYPES = frozenset(["text", "image", "video", "document", "interactive"])
_DIRECT_CATEGORIES = frozenset(("utility", "authentication"))
_CATEGORIES = frozenset(("utility", "authentication", "marketing"))


def judged_category(type_: str, category: str | None) -> str:
    """Tell the category that a send is judged by: an unknown one is marketing for a template, else service."""
    category = category.lower() if category else ""
    if category in _CATEGORIES:
        return category
    return "marketing" if type_ == "template" else "service"


def refusal(send: Send, window: Window | None, is_open: bool, consents: Consents | None, policy: Policy) -> str | None:
    """Tell why the send may not go, the first reason that applies; None where it may.

    `window` is the last one known, `is_open` whether it was open at the send's time.
    """
    category = send.category
    if consents is not None:
        if consents.all is not None and not consents.all.granted and category != "authentication":
            return OPT_OUT
        if consents.marketing is not None and not consents.marketing.granted and category == "marketing":
            return MARKETING_OPT_OUT
    if not is_open and send.type != "template" and not _goes_directly(send, policy):
        return NO_WINDOW if window is None else WINDOW_CLOSED
    if category == "marketing" and (
        policy.marketing_needs_opt_in == "always" or (policy.marketing_needs_opt_in == "outside-window" and not is_open)
    ):
        marketing = consents.marketing if consents is not None else None
        if marketing is None or not marketing.granted:
            return NO_CONSENT
    return None


def accepted(
    send: Send, window: Window | None, consents: Consents | None, policy: Policy, would_reject: str | None
) -> Accepted:
    """Put the verdict "may be sent" together; `would_reject` is the refusal that observation lets pass."""
    key, event_time_ms = send.key, send.event_time_ms
    if window is None or not window.is_open_at(event_time_ms):
        return Accepted(key, event_time_ms, send, _reason_outside(send, policy), None, None, None, would_reject)
    valid_until = None
    if would_reject is None and refusal(send, window, False, consents, policy) is not None:  # it rests on the window
        end_ms = window.expires_at if window.closed_at is None else window.closed_at
        valid_until = end_ms - policy.safety_margin_ms
    return Accepted(
        key,
        event_time_ms,
        send,
        "window-open",
        window.opened_at,
        window.expires_at,
        valid_until,
        would_reject,
    )


def rejected(send: Send, window: Window | None, reason: str) -> Rejected:
    """Put the verdict "may not be sent" together, with the last window known."""
    if window is None:
        return Rejected(send.key, send.event_time_ms, send, reason, None, None, None)
    return Rejected(send.key, send.event_time_ms, send, reason, window.opened_at, window.expires_at, window.closed_at)


def _goes_directly(send: Send, policy: Policy) -> bool:
    """Whether Direct Send carries it outside the window (S3)."""
    if not policy.direct_send or send.type not in _DIRECT_TYPES or send.category not in _DIRECT_CATEGORIES:
        return False
    return "*" in policy.direct_send or send.key.split(b":", 2)[1].decode() in policy.direct_send


def _reason_outside(send: Send, policy: Policy) -> str | None:
    """Tell what carries a send where no window does; None where only observation lets it pass."""
    if send.type == "template":
        return "template"
    return "direct-send" if _goes_directly(send, policy) else None
