"""The table of docs/guards.md, made from the table of mutants: ``python -m tests.mutants.guards`` prints it.

What it prints stands there between two comments; a test holds the two together.
"""

import sys
from typing import Final

from tests.mutants.table import MUTANTS
from tests.mutants.workshop import ROOT

PAGE: Final = ROOT / "docs/guards.md"
BEGIN: Final = "<!-- guards:begin -->"
END: Final = "<!-- guards:end -->"


def guards() -> str:
    """Write a row for each guard."""
    lines = ["| without its guard | the guard is in | and this test fails |", "|---|---|---|"]
    for mutant in MUTANTS:
        place, _, test = mutant.caught_by.partition("::")
        lines.append(f"| {mutant.without} | `{mutant.file}` | `{place}` `{test}` |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(f"{BEGIN}\n{guards()}\n{END}\n")
