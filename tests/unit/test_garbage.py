"""What the collector lets go of."""

import gc
import weakref

from processor import garbage


class Dropped:
    """An owner's shape: it is in a cycle, as an owner is with its latest round."""

    def __init__(self) -> None:
        self.itself = self


def test_state_that_was_frozen_and_then_dropped_is_collected_the_next_time() -> None:
    owner = Dropped()
    seen = weakref.ref(owner)
    try:
        garbage.settle()
        del owner
        gc.collect()
        assert seen() is not None  # it is frozen
        garbage.settle()
        assert seen() is None
    finally:
        gc.unfreeze()
