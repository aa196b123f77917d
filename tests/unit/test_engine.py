"""What the engine keeps, and what it lets go of."""

import gc
import weakref

from processor.settings import Settings
from processor.stream.engine import Engine


class Dropped:
    """An owner's shape: it is in a cycle, as an owner is with its latest round."""

    def __init__(self) -> None:
        self.itself = self


async def test_state_that_was_frozen_and_then_dropped_is_collected_with_the_next_restore() -> None:
    engine = Engine(Settings())
    owner = Dropped()
    seen = weakref.ref(owner)
    try:
        engine.on_restored(0.0)
        del owner
        gc.collect()
        assert seen() is not None  # it is frozen
        engine.on_restored(0.0)
        assert seen() is None
    finally:
        gc.unfreeze()
