"""Whom a worker tells what it does: nobody, unless it is given one (`processor.ops`)."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from processor.stream.engine import Engine
    from processor.stream.owner import Round


class Watcher:
    """Is told in the worker's own loop, and must not wait."""

    def on_start(self, engine: "Engine") -> None:
        """Nothing is joined yet; this is the engine that is watched."""

    def on_assigned(self) -> None:
        """The group has given an assignment, and there is a consumer."""

    def on_restore_read(self, partition: int, records: int) -> None:
        """So many state records of a partition have been read."""

    def on_restored(self, seconds: float) -> None:
        """All partitions of an assignment are at work, so long after it was given."""

    def on_round(self, rounds: "Iterable[Round]", seconds: float) -> None:
        """These were committed in one transaction, and it took so long."""

    def on_transaction_ended(self) -> None:
        """An open transaction of a dead worker was ended in its name."""
