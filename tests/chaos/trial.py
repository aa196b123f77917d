"""What was done to workers and brokers in one chaos test, and what came of it.

Without a word a trial is short, and another one each time. In the environment, SEED says which one it is, MINUTES for
how long it goes on, and PROOF which share of the whole proof it does at least: 1 is what docs/proof.md is made from.
CLUSTER is a settings file (`janela.toml`) that says how to reach a cluster, which then takes the place of the run's own
Kafka, save where something befalls the brokers. Trials keep to topics under a prefix of their own, and delete them.
"""

import itertools
import math
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from processor.audit.findings import Kind
from processor.audit.verdict import Verdict

MINUTES: Final = float(os.environ.get("MINUTES", "0"))
PROOF: Final = float(os.environ.get("PROOF", "0"))
SEED: Final = int(os.environ.get("SEED") or os.environ.setdefault("TRIAL_SEED", str(random.randrange(1, 10**6))))
"""One that is drawn is the same in all processes of a run, which inherit it."""
IS_LONG: Final = bool(MINUTES or PROOF)
CLUSTER: Final = os.environ.get("CLUSTER", "")


def asked(count: int, short: int = 1) -> int:
    """Give how often a trial does a thing at least: `count` times in the whole proof, `short` times in a short run."""
    return max(short, math.ceil(PROOF * count))


def size(short: int, a_minute: int, proof: int) -> int:
    """Give the size of a backlog: so many more for each minute, and for the whole proof."""
    return int(short + a_minute * MINUTES + proof * PROOF)


def rounds(least: int = 1) -> Iterator[int]:
    """Count rounds from 0: as many as there must be, and on until MINUTES are over."""
    until_s = time.monotonic() + 60 * MINUTES
    for n in itertools.count():
        if n >= least and time.monotonic() >= until_s:
            return
        yield n


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

    def judge(self, verdict: Verdict, events_put: int) -> None:
        """Put a verdict on record, and fail where anything is wrong, or where it is not of all that was put there."""
        self.verdict = verdict
        assert verdict.is_clean, verdict
        assert verdict.counts.records == events_put, f"{events_put} records were put on the inputs; {verdict}"

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
