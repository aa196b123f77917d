"""How a figure is told: a table for people, with the machine beside it, and a line of JSON for machines."""

import json
import os
import platform
import re
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

OUT = os.environ.get("BENCH_OUT")
"""The file that results are appended to."""

Figures = dict[str, float | int | str]


def load() -> float:
    """Give how many processes wanted a core, on average over the last minute."""
    return round(os.getloadavg()[0], 1)


def tell(bench: str, *cases: Figures) -> None:
    """Print the cases of a bench side by side, and append each of them to the file that BENCH_OUT names."""
    on = machine()
    table = Table(title=f"{bench}\n{', '.join(f'{name} {what}' for name, what in on.items())}", title_style="bold")
    table.add_column("")
    for _ in cases:
        table.add_column(justify="right")
    for name in dict.fromkeys(name for case in cases for name in case):
        table.add_row(name, *(_readable(case.get(name, "")) for case in cases))
    Console(width=120, soft_wrap=True).print("", table)
    if OUT:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        with Path(OUT).open("a") as into:
            into.writelines(json.dumps({"bench": bench, "at": at, **case, "machine": on}) + "\n" for case in cases)


def _readable(figure: Any) -> str:
    return f"{figure:,}" if isinstance(figure, int | float) else str(figure)


@cache
def machine() -> dict[str, str]:
    """Give what the figures hang on: the machine and the versions."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    jars = (resources.files("processor.embedded") / "jars.lock").read_text()
    kafka = re.search(r"^org\.apache\.kafka:kafka_[\d.]+:(\S+)", jars, re.MULTILINE)
    return {
        "cores": f"{os.cpu_count()} x {cpu[1] if cpu else platform.machine()}",
        "Python": f"{platform.python_version()} ({platform.python_build()[1]}, {platform.python_compiler()})",
        "Kafka": kafka[1] if kafka else "?",
        **{name: version(name) for name in ("aiokafka", "faust-streaming")},
    }
