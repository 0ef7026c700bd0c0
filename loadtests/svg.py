"""Small plots as SVG text, for a page that loads nothing: lines over time, and bars. Pure functions."""

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, log10
from typing import Final

WIDTH, HEIGHT = 720, 230
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 26, 34
COLOURS: Final = ("#1f5fa8", "#c1571a", "#2a7d46", "#7a4aa3")
"""Told apart without colour vision by their lightness; the legend names them, and a table stands beside."""
TICKS: Final = 5


def _nice(highest: float) -> float:
    """Round up to 1, 2 or 5 times a power of ten."""
    if highest <= 0:
        return 1.0
    power = 10.0 ** floor(log10(highest))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= highest * 0.999)


def _number(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ") if value >= 10 or value == int(value) else f"{value:.2g}".replace(".", ",")


def _frame(title: str, unit: str, highest: float, parts: Sequence[str]) -> str:
    inner = HEIGHT - TOP - BOTTOM
    grid = []
    for tick in range(TICKS + 1):
        y = TOP + inner * (1 - tick / TICKS)
        grid.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" class="grid"/>')
        text = _number(highest * tick / TICKS)
        grid.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)} ({escape(unit)})">'
        f'<text x="{LEFT}" y="15" class="title">{escape(title)} <tspan class="unit">({escape(unit)})</tspan></text>'
        + "".join(grid)
        + "".join(parts)
        + "</svg>"
    )


def lines(title: str, unit: str, series: Mapping[str, Sequence[tuple[float, float]]], seconds: float) -> str:
    """Plot series of (seconds since the beginning, value)."""
    highest = _nice(max((y for points in series.values() for _, y in points), default=0.0))
    inner_w, inner_h = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    parts = []
    for step in range(TICKS + 1):
        x = LEFT + inner_w * step / TICKS
        when = seconds * step / TICKS
        text = f"{when / 60:.0f} min" if seconds >= 300 else f"{when:.0f} s"
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 14}" text-anchor="middle">{text}</text>')
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        at = [(min(1.0, max(0.0, x / seconds)), min(y, highest) / highest) for x, y in points]
        path = " ".join(f"{LEFT + inner_w * x:.1f},{TOP + inner_h * (1 - y):.1f}" for x, y in at)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        x = WIDTH - RIGHT - 150 * (len(series) - number)
        parts.append(f'<rect x="{x}" y="6" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{x + 14}" y="15">{escape(name)}</text>')
    return _frame(title, unit, highest, parts)


def bars(title: str, unit: str, values: Mapping[str, float], highest: float = 0.0) -> str:
    """Plot one bar a name."""
    top = highest or _nice(max(values.values(), default=0.0))
    inner_w, inner_h = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    room = inner_w / max(1, len(values))
    parts = []
    for number, (name, value) in enumerate(values.items()):
        height = inner_h * min(value, top) / top
        x, y = LEFT + room * (number + 0.2), TOP + inner_h - height
        parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{room * 0.6:.1f}" height="{height:.1f}" class="bar"/>')
        middle = LEFT + room * (number + 0.5)
        parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - 14}" text-anchor="middle">{escape(name)}</text>')
        parts.append(f'<text x="{middle:.1f}" y="{y - 4:.1f}" text-anchor="middle">{_number(ceil(value))}</text>')
    return _frame(title, unit, top, parts)
