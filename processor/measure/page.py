"""A report as one page of HTML: its figures and its plots as SVG, so that it opens without a network."""

import html
import json
from collections.abc import Iterator, Sequence
from typing import Final

from processor.measure.plot import Line, Points, plot
from processor.measure.report import Report, figures

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 900px; margin: 2rem auto; padding: 0 1rem; color: #1f2328; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.05rem; margin: 2rem 0 .3rem; }
table { border-collapse: collapse; } td { padding: .1rem 1.2rem .1rem 0; } td + td { text-align: right; }
svg { width: 100%; height: auto; } text { font: 11px system-ui, sans-serif; fill: #59636e; }
pre { background: #f6f8fa; padding: .8rem; overflow-x: auto; } .key { margin-right: 1.2rem; } .note { color: #59636e; }
"""


def page(report: Report) -> str:
    """Write the page."""
    plots = "".join(f"<h2>{html.escape(title)}</h2>{plot(lines)}" for title, lines in _plots(report))
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{value:,.10g}</td></tr>" for name, value in figures(report).items()
    )
    faults = "".join(f"<p><b>{html.escape(fault)}</b></p>" for fault in report.faults())
    made_on = html.escape(f"{report.at}; janela {report.janela}, Python {report.python}, {report.machine}")
    scenario = html.escape(json.dumps(report.scenario, indent=2))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>janela measure, {html.escape(report.at)}</title>'
        f"<style>{_STYLE}</style><h1>janela measure</h1><p class=note>{made_on}</p>{faults}"
        f"<p>Latency counts from a record's moment in the schedule until its output reached a read_committed consumer."
        f"</p><table>{rows}</table>{plots}<h2>Scenario</h2><pre>{scenario}</pre></html>\n"
    )


def _plots(report: Report) -> Iterator[tuple[str, list[Line]]]:
    samples = report.samples
    at_s = [sample.at_s for sample in samples]
    yield (
        "Events a second",
        [
            Line("sent", _rate(at_s, [sample.sent for sample in samples])),
            Line("outputs received", _rate(at_s, [sample.received for sample in samples])),
        ],
    )
    yield (
        "Latency of what came within each second, ms",
        [
            Line(name, [(sample.at_s, value) for sample in samples if (value := getattr(sample, field)) is not None])
            for name, field in (("p50", "p50_ms"), ("p99", "p99_ms"))
        ],
    )
    yield (
        "Lag, positions of the inputs that are not committed",
        [Line("lag", [(sample.at_s, sample.lag) for sample in samples])],
    )
    names = [worker.name for worker in report.workers]
    if names:
        yield (
            "CPU of the workers, cores",
            [Line(name, [(sample.at_s, sample.cpu[n]) for sample in samples]) for n, name in enumerate(names)],
        )
        yield (
            "Memory of the workers, MB",
            [Line(name, [(sample.at_s, sample.rss_mb[n]) for sample in samples]) for n, name in enumerate(names)],
        )
    for title, field in (
        ("Open windows, by the workers", "open_windows"),
        ("How far the workers' clocks are behind, s", "clock_lag_s"),
    ):
        if any(getattr(sample, field) is not None for sample in samples):
            told = [(sample.at_s, value) for sample in samples if (value := getattr(sample, field)) is not None]
            yield title, [Line(title.partition(",")[0].lower(), told)]


def _rate(at_s: Sequence[float], counts: Sequence[int]) -> Points:
    """Turn counts that grow into how much they grow a second."""
    points, before_s, before = [], 0.0, 0
    for now_s, count in zip(at_s, counts, strict=True):
        if now_s - before_s >= 0.1:
            points.append((now_s, (count - before) / (now_s - before_s)))
            before_s, before = now_s, count
    return points
