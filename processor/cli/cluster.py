"""What `watch` and `send` need to know of a cluster before they speak to it."""

from collections.abc import Iterable

from processor.settings import Settings
from processor.topics import ClusterError, survey


async def partitions_of(settings: Settings, topics: Iterable[str]) -> dict[str, int]:
    """Tell how many partitions each topic has; names are with the prefix.

    The client would create a missing topic that it is asked for, on brokers that allow it; so we look first.

    Raises:
        BrokerAwayError: No broker answers.
        ClusterError: A topic is missing.
    """
    found = (await survey(settings)).topics
    if missing := [topic for topic in topics if topic not in found]:
        raise ClusterError(
            f"topics: found none named {', '.join(missing)} at {settings.bootstrap_servers};"
            " create them with `janela topics apply`"
        )
    return {topic: found[topic].partitions for topic in topics}
