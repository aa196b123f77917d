"""The values that labels of closed lists can have: a counter has a series for each, at 0, before it first counts.

Prometheus sees no rate in a series that is born with its first count: neither alert nor dashboard would see a burst.
"""

from typing import Final

from processor.codec.outputs import TOPICS
from processor.contract import closed_sets
from processor.core.events import FREE_FORM_TYPES, OPENING_TYPES

OTHER: Final = "other"
"""Stands for the types that no table of the contract has: what records say must not make series."""

TYPES: Final = {
    "messages.inbound": OPENING_TYPES
    | {"call", "call_permission_reply", "consent", "noted", "reaction", "unsupported", OTHER},
    "messages.outbound": FREE_FORM_TYPES | {"echo", "noted", "template", OTHER},
}
"""Input topic -> the types that its records are counted by."""

RECORDS: Final = tuple((topic, type_) for topic, types in TYPES.items() for type_ in sorted(types))
OUTPUTS: Final = tuple((topic,) for topic in TOPICS.values())
REJECTIONS: Final = tuple((reason,) for reason in closed_sets()["rejection_reason"])
DEAD_LETTERS: Final = tuple((reason,) for reason in closed_sets()["dead_letter_reason"])
WITHOUT_EFFECT: Final = (("late",), ("not-newer",), ("silent",), ("misplaced",), ("unknown-type",))
TRACED_INPUTS: Final = (("span",), ("not-sampled",), ("beyond-limit",))
