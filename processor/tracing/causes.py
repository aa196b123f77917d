"""Which input an output came of: found out afterwards, from what was decided, so that no decision hangs on it.

A verdict bears its send; an opening bears the id, the key and the time of its message, and with it goes a warning that
is past already (E1a). All else, ends and the warnings before them, comes of time and not of an input.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from processor.core.decisions import Accepted, Decision, Expiring, Opened, Rejected
from processor.core.events import Message, Send


def causes(events: Iterable[Any], outputs: Sequence[Decision]) -> dict[int, int]:
    """Give for each output that one of these events caused its place, and the place of the event.

    What is no event of the core (a dead letter) causes nothing. Of two events that are the same message the first one
    did it. A warning that is due at the very millisecond of its opening counts as one of time.
    """
    sends: dict[int, int] = {}
    messages: dict[tuple[bytes, int, str], int] = {}
    openings: dict[tuple[bytes, int], int] = {}
    for place, event in enumerate(events):
        if isinstance(event, Send):
            sends[id(event)] = place  # the verdict holds the very object
        elif isinstance(event, Message):
            messages.setdefault((event.key, event.event_time_ms, event.id), place)
            openings.setdefault((event.key, event.event_time_ms), place)
    found: dict[int, int] = {}
    for place, output in enumerate(outputs):
        cause: int | None = None
        match output:
            case Accepted() | Rejected():
                cause = sends.get(id(output.send))
            case Opened():
                cause = messages.get((output.key, output.time_ms, output.cause_id))
            case Expiring() if output.remaining_ms < output.threshold_ms:
                cause = openings.get((output.key, output.opened_at))
        if cause is not None:
            found[place] = cause
    return found
