"""A Faust worker in the foreground: gone when its work is done, and what ends it is told by its engine."""

import asyncio
import faulthandler
import logging
from contextlib import suppress
from typing import Any, Final, cast

import faust
from faust.types import AppT
from mode import ServiceT

_LEFT_S: Final = 1.0
"""How long what is still running may take to be cancelled."""


class ForegroundWorker(faust.Worker):
    """Closes its loop once all services have stopped.

    mode waits two seconds more for whatever might be left. A static member's partitions wait with it: its successor is
    started when the process has gone.

    On SIGUSR1 mode writes every local variable, phone numbers among them, and on SIGUSR2 it waits for a debugger while
    the group gives the worker up. Here both write where each thread is, as the watchdog does.

    Whatever crashes in Faust ends the process as a failure of our own does. What is logged and written is left alone.
    """

    def __init__(self, app: AppT, *services: ServiceT, **options: Any) -> None:
        """Take what Faust's worker takes."""
        super().__init__(app, *services, **(options | {"redirect_stdouts": False}))
        self.spinner = None  # it would write to stdout what is for a terminal

    def on_setup_root_logger(self, logger: logging.Logger, level: int) -> None:
        """Keep the levels of `processor.logs`."""

    async def start(self) -> None:
        """Start, and run until stopped."""
        try:
            await super().start()
        except Exception as error:  # noqa: BLE001  # whatever it is, the process ends
            self._crash(error)

    def _crash(self, reason: BaseException) -> None:
        cast(Any, self.app).engine.fail(reason)

    def _on_sigusr1(self) -> None:
        faulthandler.dump_traceback(self.stderr)

    _on_sigusr2 = _on_sigusr1

    def _shutdown_loop(self) -> None:
        with suppress(asyncio.CancelledError):
            self.loop.run_until_complete(self._gather_futures())
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        if left:
            self.loop.run_until_complete(asyncio.wait(left, timeout=_LEFT_S))
        self.loop.close()
