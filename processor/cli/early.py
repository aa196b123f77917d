"""A signal that comes before a verb has begun its work: nothing is to be put away, so it ends at once and quietly."""

import os
import signal
from collections.abc import Sequence
from types import FrameType
from typing import Any, Final

UNTIL_STOPPED: Final = ("up", "watch", "worker")
"""Verbs that go on until they are stopped, so that this is no failure."""

_SIGNALS: Final[dict[signal.Signals, Any]] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}


def end_at_once(arguments: Sequence[str]) -> None:
    """From here on Ctrl-C and SIGTERM end the process: with 0 where the verb is one of those, else as shells say it.

    Until `begin`, or until the verb has set what it does itself. What is ignored (a shell's background job) stays so.
    """
    is_no_failure = bool(arguments) and arguments[0] in UNTIL_STOPPED

    def end(number: int, _: FrameType | None) -> None:
        os._exit(0 if is_no_failure else 128 + number)

    for number in _SIGNALS:
        if signal.getsignal(number) == _SIGNALS[number]:
            signal.signal(number, end)


def begin() -> None:
    """Let signals be what they are to a Python program: a verb is about to do what it may have to put away."""
    for number, usual in _SIGNALS.items():
        if getattr(signal.getsignal(number), "__module__", "") == __name__:
            signal.signal(number, usual)
