"""What keeps workers running in production, Kubernetes or systemd: a worker that could not go on is started again."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from processor.stream.engine import EXIT_FAILED
from tests.chaos.harness import POLL_S, Stage, Worker


class Supervisor:
    """Starts a worker again, under its name, when it ends with "could not go on"; any other end is a failure."""

    def __init__(self, stage: Stage, *instance_ids: str) -> None:
        """Start the workers."""
        self.restarts = 0
        """How often a worker had ended by itself and was started again."""
        self._stage, self._instance_ids = stage, instance_ids
        self.workers: list[Worker] = []
        """Those that are to run."""
        self.start()

    @classmethod
    @asynccontextmanager
    async def open(cls, stage: Stage, *instance_ids: str) -> AsyncIterator[Self]:
        """Look after workers until the end of the block; a wrong end of one is raised there."""
        supervisor = cls(stage, *instance_ids)
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(supervisor._look_after())
            yield supervisor
            looking.cancel()

    def start(self) -> None:
        """Start all workers, which do not run."""
        self.workers = [self._stage.worker(instance_id) for instance_id in self._instance_ids]

    def kill(self) -> None:
        """End all workers by SIGKILL; none is started again before `start`."""
        workers, self.workers = self.workers, []
        for worker in workers:
            worker.kill()

    async def stop(self, within_s: float) -> None:
        """Ask all workers to end (SIGTERM); one that could not go on just then may say so."""
        workers, self.workers = self.workers, []
        for worker in workers:
            worker.signal(signal.SIGTERM)
        for worker in workers:
            assert await worker.ended(within_s) in (0, EXIT_FAILED), worker.told()

    async def _look_after(self) -> None:
        while True:
            for n, worker in enumerate(self.workers):
                if worker.code is not None:
                    assert worker.code == EXIT_FAILED, f"a worker is not to be started again: {worker.told()}"
                    self.workers[n] = self._stage.worker(worker.instance_id)
                    self.restarts += 1
            await asyncio.sleep(POLL_S)
