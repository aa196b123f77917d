"""A report as files: Markdown, its drawings beside it, and both in one page of HTML that opens without a network."""

import html
import re
import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt

from processor.measure.plot import COLOURS, WIDTH, as_file

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; color: #1f2328; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .3rem; } svg { width: 100%; height: auto; }
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto; }
th, td { padding: .2rem .7rem .2rem 0; border-bottom: 1px solid #d1d9e0; text-align: left; vertical-align: top; }
"""
_IMAGE: Final = re.compile(r'<img src="([^"]+)" alt="[^"]*" ?/?>')
_BAR, _BETWEEN = 18, 10  # how tall
_HEAD: Final = 34
_NAMES, _FIGURES = 230, 190  # how wide, left and right of the bars


def command(target: str, options: Mapping[str, object]) -> str:
    """Give the command that makes a page, with those of its options that are not the usual ones."""
    said = " ".join(f"--{name.replace('_', '-')} {_as_option(value)}" for name, value in options.items())
    return f"make {target}" + (f' ARGS="{said}"' if said else "")


def _as_option(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else shlex.quote(str(value))


def write(folder: Path, name: str, markdown: str, drawings: Mapping[str, str]) -> None:
    """Write `name`.md, `name`.html and the drawings, by the names under which the Markdown shows them."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, svg in drawings.items():
        (folder / file).write_text(svg, "utf-8")
    (folder / f"{name}.md").write_text(markdown, "utf-8")
    (folder / f"{name}.html").write_text(as_html(markdown, drawings), "utf-8")


def as_html(markdown: str, drawings: Mapping[str, str]) -> str:
    """Give the page; raises KeyError for a drawing that it shows and that is not there."""
    body = MarkdownIt("commonmark").enable("table").render(markdown)
    body = _IMAGE.sub(lambda image: drawings[image[1]], body)
    title = html.escape(markdown.partition("\n")[0].lstrip("# "))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style>\n{body}</html>\n"
    )


def told(figures: Sequence[float]) -> str:
    """Give the median, and the range of more than one figure in brackets."""
    low, middle, high = min(figures), statistics.median(figures), max(figures)
    return f"{middle:,.0f}" if len(figures) == 1 else f"{middle:,.0f} ({low:,.0f} to {high:,.0f})"


def bars(title: str, found: Mapping[str, Sequence[float]]) -> str:
    """Draw a bar as long as the median for each name, and the range of its figures on it, as a file of SVG."""
    most = max((max(figures) for figures in found.values()), default=0) or 1
    wide = WIDTH - _NAMES - _FIGURES
    drawn: list[str] = []
    for n, (name, figures) in enumerate(found.items()):
        y = _HEAD + n * (_BAR + _BETWEEN)
        low, middle, high = (
            _NAMES + wide * each / most for each in (min(figures), statistics.median(figures), max(figures))
        )
        drawn += [
            f'<text x="{_NAMES - 8}" y="{y + 13}" text-anchor="end">{html.escape(name)}</text>',
            f'<rect x="{_NAMES}" y="{y}" width="{middle - _NAMES:.1f}" height="{_BAR}" fill="{COLOURS[0]}"/>',
            f'<path d="M{low:.1f} {y + _BAR / 2}H{high:.1f}" stroke="#1f2328" stroke-width="1.6"/>',
            f'<text x="{max(middle, high) + 8:.1f}" y="{y + 13}">{told(figures)}</text>',
        ]
    return as_file(title, "".join(drawn), _HEAD + len(found) * (_BAR + _BETWEEN))
