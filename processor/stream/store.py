"""The Faust table's store: the windows that the owners hold, to look at.

It exists so that the table's changelog topic is assigned together with the inputs. The state is restored by
`processor.stream.restore`: Faust's own recovery reads uncommitted records, and slowly, and finds nothing to do here
(`processor.stream.transport.Consumer.highwaters`).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from faust.stores import STORES, memory
from faust.tables import TableManager
from faust.types import TP

from processor.core.window import Window

SCHEME = "owners"


class OwnersView(Mapping[bytes, Window]):
    """The windows of all owners at work, by key. Only their state machine changes them."""

    def __init__(self, store: "Store") -> None:
        """Look at the owners of the engine of the store's app."""
        self._store = store

    def __getitem__(self, key: bytes) -> Window:
        """Find a key's window."""
        for windows in self._partitions():
            if key in windows:
                return windows[key]
        raise KeyError(key)

    def __iter__(self) -> Iterator[bytes]:
        """Go through all keys."""
        for windows in self._partitions():
            yield from windows

    def __len__(self) -> int:
        """Count the windows, open and closed."""
        return sum(map(len, self._partitions()))

    def _partitions(self) -> list[dict[bytes, Window]]:
        engine = self._store.app.engine  # type: ignore[attr-defined]
        return [owner.windows for owner in engine.owners.values()]


class Store(memory.Store[bytes, Any]):
    """A read-only store; Faust finds nothing to reset or to write in it."""

    def __post_init__(self) -> None:
        self.data = OwnersView(self)  # type: ignore[assignment]
        self._key_partition = {}

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Keep what is there: the owners decide what they keep over a rebalance."""

    def reset_state(self) -> None:
        """Keep what is there."""


class Tables(TableManager):
    """Faust's tables, begun at once: it waits a second for some to be declared late, in which no worker is at work."""

    async def on_start(self) -> None:
        """Do the rest of what Faust does here."""
        await self._update_channels()
        await self.recovery.start()


STORES.aliases[SCHEME] = f"{__name__}:Store"
