"""What is made from catalogues, contract and settings: pages for people, and a dashboard for Grafana.

`PAGES` has each page that is kept in the repository; a tidy test holds the kept ones to what is made.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from processor.logs import BURST, PERIOD_S
from processor.ops.contract_page import contract_page
from processor.ops.events import EVENTS
from processor.ops.metrics import PROCESS, Entry, catalogue
from processor.ops.settings_page import settings_page

WIDTH: Final = 12
HEIGHT: Final = 8
"""Of a panel, in Grafana's grid of 24 columns."""
_GRAFANAS: Final = {"seconds": "s", "bytes": "bytes"}
"""Our units -> Grafana's; the others are numbers."""

_PAGE: Final = """\
# Metrics

What `/metrics` on a worker's `JANELA_OPS_ADDRESS` tells, beside more of the process's own (`process_*`). Made from the
catalogue (`processor/ops/metrics.py`) by `make docs`, as is the dashboard, `deploy/grafana/janela.json`.

| name | kind | unit | labels | meaning | what to do |
|---|---|---|---|---|---|
"""

_LOG_PAGE: Final = """\
# Log lines

What a worker logs by itself, one event a line (JSON with `JANELA_LOG_FORMAT=json`). A line never holds a payload, a
contact or a message id. Of one kind at most {burst} lines go out in {period:g} s; the next one says how many were held
back (`suppressed`); each `worker.refused` goes out. Libraries log beside it, under their loggers' names; of their
exceptions the type is told, and a text only where brokers or the system speak. Made from the catalogue
(`processor/ops/events.py`) by `make docs`.

| event | level | meaning | what to do |
|---|---|---|---|
"""


def page() -> str:
    """Write the catalogue as a page of Markdown."""
    return _PAGE + "".join(
        f"| `{entry.name}` | {entry.kind} | {entry.unit} | {', '.join(f'`{label}`' for label in entry.labels)} |"
        f" {entry.meaning} | {entry.remedy} |\n"
        for entry in (*catalogue(), *PROCESS)
    )


def log_page() -> str:
    """Write the catalogue of log lines as a page of Markdown."""
    rows = (f"| `{name}` | {event.level} | {event.meaning} | {event.remedy} |\n" for name, event in EVENTS.items())
    return _LOG_PAGE.format(burst=BURST, period=PERIOD_S) + "".join(rows)


def dashboard() -> str:
    """Write a dashboard with a panel for each metric, as Grafana imports it."""
    panels = [_panel(number, entry) for number, entry in enumerate((*catalogue(), *PROCESS))]
    source = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    whole = {
        "title": "janela",
        "uid": "janela",
        "schemaVersion": 39,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [source]},
        "panels": panels,
    }
    return json.dumps(whole, indent=1) + "\n"


def _panel(number: int, entry: Entry) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + place), "expr": query, "legendFormat": legend}
        for place, (query, legend) in enumerate(_queries(entry))
    ]
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": entry.name.partition("_")[2].removesuffix("_total").replace("_", " "),
        "description": f"{entry.meaning}\n\n{entry.remedy}",
        "datasource": {"type": "prometheus", "uid": "${source}"},
        "gridPos": {"h": HEIGHT, "w": WIDTH, "x": number % 2 * WIDTH, "y": number // 2 * HEIGHT},
        "fieldConfig": {"defaults": {"unit": _GRAFANAS.get(entry.unit, "short")}, "overrides": []},
        "targets": targets,
    }


def _queries(entry: Entry) -> Iterator[tuple[str, str]]:
    """Give what to ask Prometheus, and what to call each answer."""
    labels = ", ".join(entry.labels)
    legend = " ".join(f"{{{{{label}}}}}" for label in entry.labels) or "all workers"
    if entry.kind == "histogram":
        by = ", ".join(("le", *entry.labels))
        for share in (0.5, 0.99):
            quantile = f"histogram_quantile({share}, sum by ({by}) (rate({entry.name}_bucket[$__rate_interval])))"
            yield quantile, f"p{share * 100:g} {legend if entry.labels else ''}".strip()
        return
    if entry in PROCESS:
        yield f'{entry.name}{{job="janela"}}', "{{instance}}"  # every program has it
        return
    if entry.kind == "gauge" and not labels:
        yield entry.name, "{{instance}}"  # of a machine: a sum would say nothing
        return
    series = f"rate({entry.name}[$__rate_interval])" if entry.kind == "counter" else entry.name
    yield f"sum by ({labels}) ({series})" if labels else f"sum({series})", legend


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "docs/contract.md": contract_page,
    "docs/logs.md": log_page,
    "docs/metrics.md": page,
    "docs/settings.md": settings_page,
    "deploy/grafana/janela.json": dashboard,
}
"""File of the repository -> what makes it."""


def main() -> None:
    """Write all, in the repository that this is run in (`make docs`)."""
    for file, made in PAGES.items():
        Path(file).write_text(made(), "utf-8")


if __name__ == "__main__":
    main()
