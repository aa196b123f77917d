"""Consumers that can be stopped at any moment.

aiokafka awaits the requests that it has cancelled, and is cancelled itself where one of them was waiting between two
tries (a broker that was away, or a loop that was busy for longer than a request may take): what came after the stop,
and the connections, were left to chance.
"""

# mypy: disable-error-code="misc"
# aiokafka carries no types, and a class of unknown type is a base that mypy's strict mode refuses.

import asyncio

from aiokafka.consumer import consumer as aiokafka_consumer
from aiokafka.consumer.fetcher import Fetcher


class StoppableFetcher(Fetcher):
    """Stands where aiokafka has its own, in every consumer of this process."""

    async def close(self) -> None:
        """End what is under way."""
        try:
            await super().close()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # it is we who are cancelled
            for request in self._pending_tasks:
                request.cancel()
            await asyncio.gather(*self._pending_tasks, return_exceptions=True)


aiokafka_consumer.Fetcher = StoppableFetcher
