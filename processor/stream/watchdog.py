"""A watchdog of our own: a worker that has input to do and commits nothing is worse than one that has ended."""

import faulthandler
import os
import threading
import time
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from processor.stream.engine import Engine

log = structlog.get_logger(__name__)

_STDERR = 2  # whatever stands for it in `sys`
EXIT_STUCK = 4
"""Exit code where the watchdog ended the worker."""


class Watchdog:
    """Looks from a thread of its own, so that a loop which stands still is seen too."""

    def __init__(self, engine: "Engine", limit_s: float) -> None:
        """Take how long an owner may have input and commit nothing."""
        self._engine, self._limit_s = engine, limit_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(min(1.0, self._limit_s / 10)):
            for owner in list(self._engine.owners.values()):
                waited_s = time.monotonic() - owner.waiting_since_s
                if owner.is_behind() and not owner.is_stopped and waited_s > self._limit_s:
                    log.error("worker.stuck", partition=owner.partition, waited_s=round(waited_s))
                    faulthandler.dump_traceback(_STDERR, all_threads=True)
                    os._exit(EXIT_STUCK)
