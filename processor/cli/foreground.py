"""A Faust worker in the foreground that is gone when its work is done."""

import asyncio
from contextlib import suppress
from typing import Final

import faust

_LEFT_S: Final = 1.0
"""How long what is still running may take to be cancelled."""


class ForegroundWorker(faust.Worker):
    """Closes its loop once all services have stopped.

    mode waits two seconds more for whatever might be left. A static member's partitions wait with it: its successor is
    started when the process has gone.
    """

    def _shutdown_loop(self) -> None:
        with suppress(asyncio.CancelledError):
            self.loop.run_until_complete(self._gather_futures())
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        if left:
            self.loop.run_until_complete(asyncio.wait(left, timeout=_LEFT_S))
        self.loop.close()
        if self.crash_reason:
            raise self.crash_reason from self.crash_reason
