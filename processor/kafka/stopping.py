"""Consumers that can be stopped at any moment.

aiokafka's fetcher, when it is closed, awaits the requests that it has cancelled, and is cancelled itself where one of
them was waiting between two tries: after a broker that was away, or a loop that was busy for longer than a request may
take. And it may take the cancellation for that of a request, and go on for ever.
"""

# mypy: disable-error-code="misc"
# aiokafka carries no types, and a class of unknown type is a base that mypy's strict mode refuses.

import asyncio
from typing import Final

from aiokafka.consumer.fetcher import Fetcher

AGAIN_S: Final = 0.1


class StoppableFetcher(Fetcher):
    """A fetcher whose end nothing holds up."""

    async def close(self) -> None:
        """End what is under way, and let go whoever waits for it."""
        self._closed = True
        while not self._fetch_task.done():
            self._fetch_task.cancel()
            await asyncio.wait([self._fetch_task], timeout=AGAIN_S)
        for waiter in self._fetch_waiters:
            self._notify(waiter)
        for request in self._pending_tasks:
            request.cancel()
        await asyncio.gather(self._fetch_task, *self._pending_tasks, return_exceptions=True)
