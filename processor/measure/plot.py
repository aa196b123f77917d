"""Lines over one pair of axes, as SVG: within a page of HTML, or as a file of its own."""

import html
from collections.abc import Callable, Sequence
from math import ceil, floor, log10
from typing import Final, NamedTuple

WIDTH: Final = 860
HEIGHT: Final = 220
LEFT, RIGHT, TOP, BOTTOM = 70, 24, 14, 26
COLOURS: Final = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#bf3989")
TICKS: Final = 5
LETTER: Final = 6.5
"""How wide a letter is, more or less."""
HEAD: Final = 48
"""Above the axes of a file: its title, and what each line is."""

Points = Sequence[tuple[float, float]]


class Line(NamedTuple):
    """A line of a plot: what it is, and where it goes."""

    name: str
    points: Points


class Across(NamedTuple):
    """The axis across: linear from 0, or from the first point where that is below; or by powers of ten."""

    unit: str = " s"
    is_log: bool = False
    ticks: Sequence[float] = ()
    """Where they stand; by themselves where nothing is said."""


def plot(lines: Sequence[Line], across: Across | None = None) -> str:
    """Draw lines as an SVG element of HTML, with what each one is below it."""
    keys = "".join(
        f'<span class="key" style="color:{colour}">&#9632; {html.escape(line.name)}</span>'
        for line, colour in zip(lines, _colours(lines), strict=False)
    )
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{_drawn(lines, across or Across())}</svg><div>{keys}</div>'


def drawing(title: str, lines: Sequence[Line], across: Across) -> str:
    """Draw the same as a file, with a title."""
    keys, x = "", float(LEFT)
    for line, colour in zip(lines, _colours(lines), strict=False):
        keys += f'<text x="{x}" y="40"><tspan fill="{colour}">&#9632;</tspan> {html.escape(line.name)}</text>'
        x += 30 + LETTER * len(line.name)
    return as_file(title, f'{keys}<g transform="translate(0 {HEAD})">{_drawn(lines, across)}</g>', HEIGHT + HEAD)


def as_file(title: str, drawn: str, height: int) -> str:
    """Put what is drawn, `WIDTH` wide, into a file of its own; the title takes the upper 24 points."""
    style = "<style>text { font: 11px system-ui, sans-serif; fill: #59636e; } .title { font-size: 14px; }</style>"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">{style}'
        f'<rect width="100%" height="100%" fill="#fff"/>'
        f'<text class="title" x="{LEFT}" y="20">{html.escape(title)}</text>{drawn}</svg>\n'
    )


def _colours(lines: Sequence[Line]) -> Sequence[str]:
    return COLOURS * (len(lines) // len(COLOURS) + 1)


def _drawn(lines: Sequence[Line], across: Across) -> str:
    """Draw axes and lines, from 0 up to a round number above what there is."""
    step = _round_step(max((y for line in lines for _, y in line.points), default=0))
    x_of, ticks = _across(across, [x for line in lines for x, _ in line.points])

    def y_of(y: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - max(y, 0) / (step * TICKS))

    drawn = [
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_of(step * n):.1f}" y2="{y_of(step * n):.1f}" stroke="#d1d9e0"/>'
        f'<text x="{LEFT - 8}" y="{y_of(step * n) + 4:.1f}" text-anchor="end">{step * n:,.10g}</text>'
        for n in range(TICKS + 1)
    ]
    for x in ticks:
        label = f"{x:,.10g}{across.unit}"
        middle = min(x_of(x), WIDTH - len(label) * LETTER / 2)  # none runs over the edge
        drawn.append(f'<text x="{middle:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{label}</text>')
    for line, colour in zip(lines, _colours(lines), strict=False):
        points = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in line.points)
        drawn.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        if across.ticks:  # a few figures, each of them measured by itself
            drawn += [f'<circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="3" fill="{colour}"/>' for x, y in line.points]
    return "".join(drawn)


def _across(across: Across, found: Sequence[float]) -> tuple[Callable[[float], float], Sequence[float]]:
    """Give where each x stands, and where the ticks do."""
    wide = WIDTH - LEFT - RIGHT
    if across.is_log:
        low, high = log10(min(found, default=1)), log10(max(found, default=10))
        return lambda x: LEFT + wide * (log10(x) - low) / ((high - low) or 1), across.ticks
    first = min(0, *found, *across.ticks) if found else 0
    end = max(0, *found, *across.ticks) if found else 0
    span = (end - first) or 1
    step = _round_step(span)
    ticks = across.ticks or [step * n for n in range(ceil(first / step), floor(end / step) + 1)]
    return lambda x: LEFT + wide * (x - first) / span, ticks


def _round_step(most: float) -> float:
    """Give the step of 1, 2 or 5 times a power of ten of which five reach up to `most`."""
    if most <= 0:
        return 1.0
    power = 10.0 ** (len(f"{most / TICKS:.0f}") - 1) if most / TICKS >= 1 else 10.0**-3
    while True:
        for step in (1, 2, 5):
            if step * power * TICKS >= most:
                return step * power
        power *= 10
