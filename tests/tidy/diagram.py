"""The diagram of the window's state machine, made from its table: ``python -m tests.tidy.diagram`` prints it.

What it prints stands in ARCHITECTURE.md between two comments; a test of the window holds the two together.
"""

import sys
from pathlib import Path

from processor.core.window import TRANSITIONS

ARCHITECTURE = Path(__file__).parents[2] / "ARCHITECTURE.md"
BEGIN = "<!-- transitions:begin -->"
END = "<!-- transitions:end -->"


def diagram() -> str:
    """Draw every row of the table as an arrow, in mermaid, fenced for Markdown."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> absent"]
    for (before, trigger), (after, step) in TRANSITIONS.items():
        lines.append(f"    {before} --> {after}: {trigger} / {step.rstrip('_')}")
    return "\n".join([*lines, "```"])


if __name__ == "__main__":
    sys.stdout.write(f"{BEGIN}\n{diagram()}\n{END}\n")
