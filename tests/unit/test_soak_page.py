"""The page about a soak says what its record says, be it good or bad."""

from pathlib import Path
from typing import Any

from tests.soak import story


def record(**faults: int) -> dict[str, Any]:
    slope = {"mean": 17.0, "growth": 0.5, "per_hour": 0.7}
    return {
        "at": "2026-11-27T20:00:00+00:00",
        "commit": "abc1234",
        "machine": {"cores": "2 x some"},
        "hours": 0.5,
        "rate": 2000,
        "events": 3_600_000,
        "lag_max": 900,
        "faults": {"SIGKILL": 7, "SIGTERM": 9},
        "warm_up_share": 0.3,
        "seed": 7,
        "rss_growth_max": 0.08,
        "blocks_growth_max": 0.05,
        "count_growth_max": 3.0,
        "slopes": dict.fromkeys(("descriptors", "threads", "tasks"), slope)
        | {"rss_kb": {"mean": 204_800.0, "growth": -1024.0, "per_hour": -2048.0}}
        | {"blocks": {"mean": 500_000.0, "growth": 24_900.0, "per_hour": 50_000.0}},
        "samples": [{"rss_kb": 100_000 + n} for n in range(10)],
        "verdict": {
            "consumed": {"records": 3_600_000},
            "due": {"outputs": 4_000_000},
            "faults": faults,
            "peak_kb": 102_400,
        },
    }


def test_the_page_tells_of_level_memory_and_of_a_clean_verdict(tmp_path: Path) -> None:
    story.write(tmp_path, record())
    page = (tmp_path / "soak.md").read_text()
    assert "SIGKILL 7 times, SIGTERM 9 times" in page
    assert (
        "3,600,000 records and 4,000,000 events that\nwere due: nothing lost, doubled or wrong. It took 100 MB at most."
        in page
    )
    assert "| memory, MB | 200.0 | -1.0 | 8% of the mean | met |" in page
    assert "| blocks of Python, thousands | 500.0 | +24.9 | 5% of the mean | met |" in page
    assert "`make soak HOURS=0.5 SEED=7`" in page
    assert "| tasks | 17.0 | +0.5 | 3 | met |" in page
    assert (tmp_path / "soak-memory.svg").read_text().count("<polyline") == 1
    assert "<svg" in (tmp_path / "soak.html").read_text()


def test_the_page_tells_of_memory_that_rises() -> None:
    rising = record()
    rising["slopes"]["rss_kb"]["growth"] = 20 * 1024.0
    assert "| memory, MB | 200.0 | +20.0 | 8% of the mean | not met |" in story.page(rising)


def test_the_page_tells_of_what_is_wrong() -> None:
    assert "were due: 2 lost, 1 wrong-state." in story.page(record(**{"lost": 2, "wrong-state": 1}))
