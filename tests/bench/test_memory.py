"""Memory of a million open windows, all included, beyond their keys: the bar is 250 bytes a window.

Each stands in a fresh process. What is measured is the process (its resident memory, before and after), what is counted
is every object that a window needs: its place in the dictionary, itself, its numbers, its timer. Every window has been
extended and answered, so that no number is shared and none is missing.
"""

import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from processor.core.decisions import Effects
from processor.core.events import Echo, Event, Message
from processor.core.partition import Partition
from processor.core.policy import HOUR_MS, Policy

WINDOWS = 1_000_000
BYTES_MAX = 250
T0 = 1_795_348_800_000
AT_ONCE = 1000


def keys_of(partitions: int) -> list[list[bytes]]:
    """Make the keys of each partition, all alive before anything is measured."""
    return [
        [f"whatsapp:106540352242922:5511{number:09d}".encode() for number in range(partition, WINDOWS, partitions)]
        for partition in range(partitions)
    ]


def fill(partition: Partition, keys: list[bytes]) -> None:
    """Open, extend and answer a window for each key, a thousand at a time; the messages come over 20 hours."""
    step_ms = 20 * HOUR_MS // len(keys) + 1
    for first in range(0, len(keys), AT_ONCE):
        events: list[Event] = []
        for number, key in enumerate(keys[first : first + AT_ONCE], first):
            said_ms = T0 + number * step_ms
            events.append(Message(key, said_ms, "m", "text"))
            events.append(Message(key, said_ms + 1000, "m", "text"))
            events.append(Echo(key, said_ms + 2000))
        partition.apply(events, Effects())


def resident_bytes() -> int:
    """Ask the system: it sees what an allocator rounds up and what a number keeps for a carry."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * 4096


def counted_bytes(partition: Partition) -> int:
    """Add up the objects: dictionary, windows, numbers, timers; each once, and no key."""
    windows, timers = partition.windows, partition.windows.timers
    total = sys.getsizeof(windows) + sys.getsizeof(timers._buckets) + sys.getsizeof(timers._near)
    total += sum(sys.getsizeof(bucket) for bucket in timers._buckets.values())
    total += sum(sys.getsizeof(timer) + sys.getsizeof(timer[0]) for timer in timers._near)
    for window in windows.values():
        numbers = {id(number): number for number in (getattr(window, name) for name in window.__struct_fields__)}
        total += sys.getsizeof(window) + sum(sys.getsizeof(each) for each in numbers.values() if each is not None)
    return total


def measure(partitions: int) -> dict[str, Any]:
    """Do the whole of it in this process."""
    all_keys = keys_of(partitions)
    held = [Partition(Policy()) for _ in all_keys]
    warm = Partition(Policy())
    fill(warm, [b"w:1:%d" % number for number in range(AT_ONCE)])
    gc.collect()
    before = resident_bytes()
    for partition, keys in zip(held, all_keys, strict=True):
        fill(partition, keys)
    gc.collect()
    resident = resident_bytes() - before
    known = sum(len(partition.windows) for partition in held)
    one = next(iter(held[0].windows.values()))
    assert known == WINDOWS
    assert None not in (one.opened_at, one.expires_at, one.last_inbound_at, one.last_answer_at)
    assert len({one.opened_at, one.expires_at, one.last_inbound_at, one.last_answer_at}) == 4
    return {"resident": resident / known, "counted": sum(map(counted_bytes, held)) / known}


@pytest.mark.bench
@pytest.mark.timeout(600)
@pytest.mark.parametrize("partitions", [1, 12])
def test_an_open_window_takes_at_most_250_bytes_beyond_its_key(partitions: int) -> None:
    command = [sys.executable, "-m", "tests.bench.test_memory", str(partitions)]
    root = Path(__file__).parents[2]
    ran = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    found = json.loads(ran.stdout)
    print(
        f"\nmemory of an open window beyond its key, {WINDOWS:,} in {partitions} partitions:"
        f" {found['resident']:.0f} bytes resident, {found['counted']:.0f} counted"
    )
    assert found["resident"] <= BYTES_MAX
    assert found["counted"] <= BYTES_MAX


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
