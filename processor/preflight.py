"""What is looked at before a worker joins its group: the broker, its version, our rights, and the topics."""

import asyncio
import time

from processor import features, rights, topics
from processor.settings import Settings

_AGAIN_S = 1.0


async def refusals(settings: Settings) -> list[str]:
    """Give the reasons not to start, one line each; none means that the worker may run.

    A broker that is away is tried again for `broker_wait_seconds`.
    """
    give_up_s = time.monotonic() + settings.broker_wait_seconds
    while True:
        try:
            found = topics.errors(await features.problems(settings)) or await rights.missing(settings)
            return found or topics.errors(await topics.check(settings))
        except topics.BrokerAwayError as error:
            if time.monotonic() >= give_up_s:
                return [f"{error} (tried for {settings.broker_wait_seconds} s, JANELA_BROKER_WAIT_SECONDS)"]
            await asyncio.sleep(_AGAIN_S)
        except topics.ClusterError as error:
            return [str(error)]
