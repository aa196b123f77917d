"""What the garbage collector does in a worker: little, and at chosen moments.

Most objects of a worker live as long as their window. The collector would go through them again and again to find
nothing, so it comes seldom, and what stands is taken out of its sight. A replay's live for a moment, and none of them
in a cycle: there it comes as seldom.
"""

import gc


def come_seldom() -> None:
    """Look at young objects alone, more or less: what is old and dropped waits for `settle`."""
    gc.set_threshold(50_000, 20, 100)  # 59,000 to 112,000 events/s in the prototype


def settle() -> None:
    """Free what was dropped, and take what stands out of the collector's sight until the next time.

    To be called whenever owners were dropped: nothing else ever frees them.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
