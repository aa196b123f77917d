"""How far a verb is, on stderr: a line that is replaced on a terminal, one line for each step in a log."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console

SILENT_S: Final = 2
"""How long a verb works before it says how far it is."""
LOGGED_EVERY_S: Final = 30
"""In a log."""


class Progress:
    """Says what is being done and how far it is, once it takes long enough to be wondered about."""

    def __init__(self, logged_every_s: float = LOGGED_EVERY_S) -> None:
        """Say nothing yet."""
        self._logged_every_s = logged_every_s
        self._status = Console(stderr=True).status("")
        self._begin_s = time.monotonic()
        self._what, self._logged_s = "", 0.0

    def note(self, what: str, done: int, total: int = 0, more: str = "") -> None:
        """Take note that `done` records of `total` (0: nobody knows) are done, and what more there is to say."""
        now_s = time.monotonic()
        if now_s - self._begin_s < SILENT_S:
            return
        text = f"{what}: {done:,}{f' of {total:,}' if total else ''} records{more}"
        if self._status.console.is_terminal:
            self._status.start()
            self._status.update(text)
        elif what != self._what or now_s - self._logged_s >= self._logged_every_s:
            self._status.console.print(text, soft_wrap=True, markup=False, highlight=False)
            self._what, self._logged_s = what, now_s

    def stop(self) -> None:
        """Take the line away."""
        self._status.stop()


@contextmanager
def progress_shown(logged_every_s: float = LOGGED_EVERY_S) -> Iterator[Progress]:
    """Give a `Progress`, whose line goes when the work is done or has failed."""
    progress = Progress(logged_every_s)
    try:
        yield progress
    finally:
        progress.stop()
