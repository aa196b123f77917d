"""One contact's story, told to the core in a line an event: what unit tests of the rules are written in.

Times are milliseconds after `T0`, a Sunday noon, so that a test reads `said(2 * HOUR)`.
"""

from collections.abc import Iterable

from processor.core.consent import Consents
from processor.core.decisions import Accepted, Closed, Decision, Effects, Expiring, Opened, Rejected
from processor.core.events import (
    OPENING_TYPES,
    Call,
    CallPermissionReply,
    Consent,
    DoubtfulMessage,
    Echo,
    Event,
    Message,
    Noted,
    Send,
    Unsupported,
)
from processor.core.partition import Partition
from processor.core.policy import Policy
from processor.core.sending import judged_category
from processor.core.window import Window

T0 = 1_795_348_800_000  # 2026-11-22T12:00:00.000Z
SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

KEY = b"whatsapp:100200300:5511900010001"
OTHER_KEY = b"whatsapp:100200300:5511900010002"


def said(after: int, type_: str = "text", *, id_: str = "m1", key: bytes = KEY) -> Message:
    """Give a message of the customer."""
    kind = Message if type_ in OPENING_TYPES else DoubtfulMessage
    return kind(key, T0 + after, id_, type_)


def called(after: int, direction: str = "user", outcome: str = "", *, key: bytes = KEY) -> Call:
    """Give a call."""
    return Call(key, T0 + after, "c1", "call", direction, outcome)


def unsupported(after: int, error_code: str = "") -> Unsupported:
    """Give a message that the provider could not pass on."""
    return Unsupported(KEY, T0 + after, "u1", "unsupported", error_code)


def permission_reply(after: int, response_source: str) -> CallPermissionReply:
    """Give an answer to a request for call permission."""
    return CallPermissionReply(KEY, T0 + after, "p1", "call_permission_reply", response_source)


def sent(
    after: int,
    type_: str = "text",
    category: str | None = None,
    *,
    id_: str = "s1",
    key: bytes = KEY,
    done: bool = False,
    agent: bool | None = None,
) -> Send:
    """Give a send; by an agent where nothing else is said, a template by automation, as the contract has it."""
    by_agent = type_ != "template" if agent is None else agent
    judged = judged_category(type_, category)
    return Send(key, T0 + after, id_, type_, judged, done, by_agent, None, b"{}")


def template(
    after: int, category: str = "utility", *, id_: str = "s1", done: bool = False, agent: bool = False
) -> Send:
    """Give a template's send."""
    return sent(after, "template", category, id_=id_, done=done, agent=agent)


def echoed(after: int, *, key: bytes = KEY) -> Echo:
    """Give a message from the business's own phone app."""
    return Echo(key, T0 + after)


def consent(after: int, scope: str, granted: bool, *, key: bytes = KEY) -> Consent:
    """Give a grant or a revocation."""
    return Consent(key, T0 + after, scope, granted, T0 + after)


def tick(after: int) -> Noted:
    """Give an event that moves the clock and touches no window."""
    return Noted(OTHER_KEY, T0 + after, "silent")


class Scene:
    """A partition, and all that it has said so far."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self.partition = Partition(self.policy)
        self.decisions: list[Decision] = []

    def play(self, *events: Event) -> list[str]:
        """Apply the events; tell what came of them."""
        effects = Effects()
        assert self.partition.apply(events, effects) == len(events)
        return self._note(effects)

    def pass_until(self, after: int) -> list[str]:
        """Let time pass without any event; tell what came of it."""
        effects = Effects()
        assert self.partition.advance(T0 + after, effects)
        return self._note(effects)

    def changed(self, *events: Event) -> tuple[set[bytes], set[bytes]]:
        """Apply the events; give the keys whose windows, and whose consents, must be written."""
        effects = Effects()
        self.partition.apply(events, effects)
        self._note(effects)
        return set(effects.windows), set(effects.consents)

    def window(self, key: bytes = KEY) -> Window:
        """Give the window that is known of the key."""
        return self.partition.windows[key]

    def knows(self, key: bytes = KEY) -> bool:
        """Tell whether a window is known."""
        return key in self.partition.windows

    def consents(self, key: bytes = KEY) -> Consents:
        """Give what is known of the key's consent."""
        return self.partition.consents[key]

    def count(self, name: str) -> int:
        """Give one of the counts."""
        return self.partition.counts[name]

    def restarted(self, policy: Policy | None = None) -> "Scene":
        """Give a scene that goes on from this one's state, as after a restart."""
        scene = Scene(policy or self.policy)
        known = self.partition
        windows = [(key, _copy(window)) for key, window in known.windows.items()]
        scene.partition.restore(known.clock_ms, windows, known.consents.items())
        return scene

    def _note(self, effects: Effects) -> list[str]:
        self.decisions += effects.outputs
        return told(effects.outputs)


def _copy(window: Window) -> Window:
    fields = (getattr(window, name) for name in Window.__struct_fields__)
    return Window(*fields)


def told(decisions: Iterable[Decision]) -> list[str]:
    """Put each decision in a few words, such as ``expiring 7200`` or ``rejected s1: no-window``."""
    return [_told(decision) for decision in decisions]


def _told(decision: Decision) -> str:
    match decision:
        case Opened():
            return "opened"
        case Expiring():
            return f"expiring {decision.threshold_ms // SECOND}"
        case Closed():
            return "closed"
        case Accepted():
            return f"accepted {decision.send.id}: {decision.reason}"
        case Rejected():
            return f"rejected {decision.send.id}: {decision.reason}"
    raise AssertionError(decision)
