"""What was done to workers and brokers in one chaos test, and what came of it.

MINUTES and SEED in the environment say for how long each trial goes on and which one it is; without them it is short
and another one each time.
"""

import os
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from processor.audit.verdict import Kind, Verdict

MINUTES: Final = float(os.environ.get("MINUTES", "0"))
SEED: Final = int(os.environ.get("SEED", "0")) or random.randrange(1, 10**6)


@dataclass
class Trial:
    """One test, as it goes on record."""

    seed: int = SEED
    faults: Counter[str] = field(default_factory=Counter)
    """How often each thing was done, by a name that a reader of the table understands, such as "SIGKILL"."""
    notes: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    """Measured on the way, by name with the unit last, such as `replaced_s_max`."""
    verdict: Verdict | None = None

    @property
    def chance(self) -> random.Random:
        """A source of chance from the run's seed; each call begins anew."""
        return random.Random(self.seed)

    def judge(self, verdict: Verdict) -> None:
        """Put a verdict on record, and fail where anything is wrong."""
        self.verdict = verdict
        assert verdict.is_clean, verdict

    def entry(self, name: str, seconds: float) -> dict[str, Any]:
        """Give what goes into the record."""
        verdict = self.verdict
        wrong = {kind.value: verdict.faults[kind] for kind in Kind} if verdict else {}
        return {
            "trial": name,
            "seed": self.seed,
            "seconds": round(seconds, 1),
            "faults": dict(sorted(self.faults.items())),
            "events": verdict.counts.records if verdict else 0,
            "outputs": verdict.outputs if verdict else 0,
            "lost": wrong.pop("lost", 0),
            "doubled": wrong.pop("doubled", 0),
            "wrong": sum(wrong.values()),
            "is_judged": verdict is not None,
            "figures": self.figures,
            "notes": self.notes,
        }
