"""How the process of a worker ends once its services have stopped."""

import asyncio
from collections.abc import Iterator

import faust
import pytest

from processor.foreground import ForegroundWorker


@pytest.fixture
def worker() -> Iterator[ForegroundWorker]:
    """Give a worker without services on a loop of its own, which it is to close."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield ForegroundWorker(faust.App("ends", web_enabled=False), loop=loop, quiet=True, redirect_stdouts=False)
    loop.close()
    asyncio.set_event_loop(None)


def test_what_is_still_running_is_cancelled_and_may_finish_before_the_loop_is_closed(worker: ForegroundWorker) -> None:
    told: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            told.append("finished")

    task = worker.loop.create_task(work())
    worker.loop.run_until_complete(asyncio.sleep(0))
    worker._shutdown_loop()
    assert task.cancelled()
    assert told == ["finished"]
    assert worker.loop.is_closed()


def test_what_the_worker_died_of_is_told_after_the_loop_is_closed(worker: ForegroundWorker) -> None:
    worker._crash_reason = KeyError("a bug")
    with pytest.raises(KeyError, match="a bug"):
        worker._shutdown_loop()
    assert worker.loop.is_closed()
