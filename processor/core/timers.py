"""A calendar of timers: each key has one, at the time when its window must be looked at again.

Most timers are stale when their time comes, since each message of the customer moves the end of its window. So a timer
is only a reminder: it holds no due time that could be wrong. Far ones lie in buckets of four minutes, which costs a
list's slot each (9 bytes, where a heap of pairs takes 80); when the clock reaches a bucket, each of its keys is asked
for its due time, and either enters the small heap of near timers or goes into the bucket where it belongs by now.

A key may have a second reminder for a while (its window was opened again before the first one came up). Once both
have been asked they stand in the heap at the same due time, and `pop` drops the second.
"""

import heapq
from collections.abc import Callable

NEVER_MS = 1 << 62
_BUCKET_BITS = (
    18  # 262 s: at a million windows some 3,000 of them are near, and a bucket's overhead is spread over many
)


class Timers:
    """Timers of one partition, popped in the order of due time and, where equal, of key."""

    def __init__(self, due_of: Callable[[bytes], int | None]) -> None:
        """Take the function that tells a key's next due time after the clock, or None where it needs no timer."""
        self._due_of = due_of
        self._near: list[tuple[int, bytes]] = []
        self._buckets: dict[int, list[bytes]] = {}
        self._bucket_numbers: list[int] = []
        self._far_from_ms = 0
        self._last_popped = (0, b"")
        self.earliest_ms = NEVER_MS
        """No timer is due before this (a lower bound: what is due may come later)."""

    def arm(self, due_ms: int, key: bytes) -> None:
        """Remind of `key` at `due_ms`."""
        if due_ms < self._far_from_ms:
            heapq.heappush(self._near, (due_ms, key))
            self.earliest_ms = self._near[0][0]
        else:
            self._arm_far(due_ms, key)

    def pop(self, until_ms: int) -> tuple[int, bytes] | None:
        """Take the earliest timer that is due at or before `until_ms`, as (due time, key).

        Go on until it gives None (or put one back): only then is `earliest_ms` up to date.
        """
        near = self._near
        while True:
            while not near and self._bucket_numbers and self._bucket_numbers[0] << _BUCKET_BITS <= until_ms:
                self._open_bucket()
            if not near or near[0][0] > until_ms:
                self._look_ahead()
                return None
            timer = heapq.heappop(near)
            if timer != self._last_popped:
                self._last_popped = timer
                return timer

    def put_back(self, timer: tuple[int, bytes]) -> None:
        """Undo the last `pop`."""
        self._last_popped = (0, b"")
        heapq.heappush(self._near, timer)
        self._look_ahead()

    def count(self, until_ms: int) -> int:
        """Tell how many reminders lie at or before `until_ms`, stale ones too; of a bucket all that it has."""
        near = sum(due_ms <= until_ms for due_ms, _ in list(self._near))
        far = [keys for number, keys in list(self._buckets.items()) if number << _BUCKET_BITS <= until_ms]
        return near + sum(map(len, far))

    def _arm_far(self, due_ms: int, key: bytes) -> None:
        number = due_ms >> _BUCKET_BITS
        if (bucket := self._buckets.get(number)) is not None:
            bucket.append(key)
            return  # the bucket has been counted in `earliest_ms`
        self._buckets[number] = [key]
        heapq.heappush(self._bucket_numbers, number)
        self._look_ahead()

    def _open_bucket(self) -> None:
        number = heapq.heappop(self._bucket_numbers)
        near, due_of = self._near, self._due_of
        far_from_ms = self._far_from_ms = (number + 1) << _BUCKET_BITS
        for key in self._buckets.pop(number):
            due_ms = due_of(key)
            if due_ms is None:
                continue
            if due_ms < far_from_ms:
                near.append((due_ms, key))
            else:
                self._arm_far(due_ms, key)
        heapq.heapify(near)

    def _look_ahead(self) -> None:
        if self._near:  # near ones come before all buckets
            self.earliest_ms = self._near[0][0]
        else:
            self.earliest_ms = self._bucket_numbers[0] << _BUCKET_BITS if self._bucket_numbers else NEVER_MS
