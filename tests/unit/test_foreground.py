"""How the process of a worker ends once its services have stopped."""

import asyncio
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import faust
import mode
import pytest

from processor.foreground import ForegroundWorker


@pytest.fixture
def worker() -> Iterator[ForegroundWorker]:
    """Give a worker without services on a loop of its own, which it is to close."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    app = faust.App("ends", web_enabled=False)
    yield ForegroundWorker(app, loop=loop, quiet=True, redirect_stdouts=True, override_logging=False)
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


class Failing(mode.Service):
    """Does not even begin."""

    async def on_start(self) -> None:
        raise KeyError("a bug")


def test_nothing_of_faust_s_stands_between_the_worker_and_its_streams(worker: ForegroundWorker) -> None:
    """`faust worker` asks for a redirection and a spinner: a dump of all stacks needs the stream itself."""
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    worker.on_setup_root_logger(root, logging.DEBUG)
    assert (root.level, root.handlers) == before
    assert not worker.redirect_stdouts
    assert worker.spinner is None


def test_what_fails_at_the_start_or_crashes_later_is_the_engine_s_to_tell(worker: ForegroundWorker) -> None:
    told: list[BaseException] = []
    cast(Any, worker.app).engine = SimpleNamespace(fail=told.append)
    worker.services = [Failing()]
    worker.loop.run_until_complete(worker.start())
    worker.loop.run_until_complete(worker.services[0].crash(LookupError("later")))
    worker._shutdown_loop()
    assert [repr(it) for it in told] == ["KeyError('a bug')", "LookupError('later')"]
