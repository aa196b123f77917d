"""Work of a verb that a signal ends: what it has begun is put away, whichever signal it is."""

import asyncio
import signal
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def until_told(work: Awaitable[T]) -> T:
    """Do the work of a whole verb; SIGTERM ends it as Ctrl-C does.

    Raises:
        KeyboardInterrupt: It was ended.
    """
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await work
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def unless(stopped: asyncio.Event, work: Awaitable[T]) -> T | None:
    """Do work; None where it is stopped before it is done."""
    working, waiting = asyncio.ensure_future(work), asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait((working, waiting), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        waiting.cancel()
        working.cancel()
        await asyncio.gather(waiting, working, return_exceptions=True)
