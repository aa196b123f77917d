"""What a worker takes, sampled as it runs: memory and descriptors from the system, tasks from inside."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.chaos.harness import Worker

TELL_S: Final = 1.0

WORKER: Final = """
import asyncio, json, os, sys, threading
from pathlib import Path
from processor.settings import Settings
from processor.stream.app import create_app

app = create_app(Settings.load())

@app.task
async def tell():
    while True:
        await asyncio.sleep({tell_s})
        status = Path("/proc/self/status").read_text()
        thread = getattr(app.consumer, "_thread", None)
        loops = [asyncio.get_running_loop(), *([thread.thread_loop] if thread is not None else [])]
        seen = {
            "rss_kb": int(status.partition("VmRSS:")[2].split()[0]),
            "blocks": sys.getallocatedblocks(),  # what Python holds, whatever its allocator keeps beside it
            "descriptors": len(os.listdir("/proc/self/fd")),
            "threads": threading.active_count(),
            "tasks": sum(len(asyncio.all_tasks(loop)) for loop in loops),
            "partitions": len(app.engine.owners),
        }
        print("SEEN " + json.dumps(seen), flush=True)

worker = app.Worker(loglevel="WARN", quiet=True)
worker.execute_from_commandline()
""".replace("{tell_s}", str(TELL_S))


class Slope(NamedTuple):
    """A straight line through samples, by least squares."""

    mean: float
    growth: float
    """How much the line rises from the first sample to the last."""
    per_hour: float

    @classmethod
    def through(cls, samples: Sequence[float], apart_s: float) -> "Slope":
        """Lay it through samples that are so many seconds apart."""
        count = len(samples)
        assert count > 2, "too few samples for a line"
        mean, middle = sum(samples) / count, (count - 1) / 2
        rise = sum((n - middle) * sample for n, sample in enumerate(samples))
        a_sample = rise / sum((n - middle) ** 2 for n in range(count))
        return cls(mean, a_sample * (count - 1), a_sample / apart_s * 3600)


def samples_of(worker: Worker) -> list[dict[str, Any]]:
    """Give all that a worker has said of itself, a line a second."""
    marked = (line for line in worker.lines() if line.startswith("SEEN "))
    return [json.loads(line.removeprefix("SEEN ")) for line in marked]


def peak_kb_of(pid: int) -> int:
    """Give the most memory that a process has held so far; 0 where it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return 0
    return int(status.partition("VmHWM:")[2].partition("kB")[0] or 0)


def write(folder: Path, name: str, record: dict[str, Any]) -> None:
    """Put a record where results go."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(record, indent=1) + "\n", "utf-8")
