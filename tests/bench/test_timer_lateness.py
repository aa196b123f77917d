"""How late windows are closed by the wall clock, when very many of them end within seconds and nobody writes."""

import time
from pathlib import Path

import pytest

from processor.core.policy import DAY_MS
from tests.bench.clients import receiving
from tests.bench.report import load, tell
from tests.bench.scene import opened, progress, size
from tests.bench.traffic import Contact
from tests.kafka import Kafka

pytestmark = [pytest.mark.bench, pytest.mark.timeout(0)]

ENDS = size("ENDS", 100_000)
PARTITIONS = 4
SPAN_S = 20
LEAD_S = size("LEAD_SECONDS", 30)
"""From the making of the messages to the first end: all of them must have been consumed by then."""
GRACE_MS = 1000


async def test_no_window_of_very_many_is_closed_before_its_end(kafka: Kafka, topic_prefix: str, tmp_path: Path) -> None:
    contacts = [Contact(number, PARTITIONS) for number in range(ENDS)]
    async with opened(
        kafka, topic_prefix, tmp_path, partitions=PARTITIONS, clock="live", timer_grace_ms=GRACE_MS
    ) as bench:
        worker = bench.worker("w1")
        await bench.at_work(worker)
        async with receiving(bench, "window-closed", wanted=ENDS, quiet_s=LEAD_S + SPAN_S + 60) as receiver:
            first_end_ms = time.time_ns() // 1_000_000 + LEAD_S * 1000
            begins_ms = [first_end_ms - DAY_MS + SPAN_S * 1000 * n // ENDS for n in range(ENDS)]
            await bench.put([contacts[n].says("inbound", begins_ms[n], n) for n in range(ENDS)], ENDS)
            await bench.consumed()
            spare_s = first_end_ms / 1000 - time.time()
            assert spare_s > 0, f"the first end was {-spare_s:.1f} s ago: set BENCH_LEAD_SECONDS to more than {LEAD_S}"
            load_before, cpu_before_s = load(), worker.cpu_s()
            async with progress(f"ends {spare_s:.0f} to {spare_s + SPAN_S:.0f} s from now", ENDS):
                came = await receiver.received()
            cpu_s = worker.cpu_s() - cpu_before_s
        await worker.stopped()
    late = came.lateness
    tell(
        f"Closing {ENDS:,} windows that end within {SPAN_S} s, {PARTITIONS} partitions, grace {GRACE_MS} ms",
        {
            "late over the grace, p50, ms": round(late.p50 - GRACE_MS, 1),
            "p90, ms": round(late.p90 - GRACE_MS, 1),
            "p99, ms": round(late.p99 - GRACE_MS, 1),
            "max, ms": round(late.max - GRACE_MS, 1),
            "least, ms": round(came.least_late_ms - GRACE_MS, 1),
            "CPU, µs a close": round(cpu_s / ENDS * 1e6, 1),
            "consumed before the first end, s": round(spare_s, 1),
            "load average": f"{load_before} to {load()}",
        },
    )
    assert came.received == came.different == ENDS
    assert came.early == 0
