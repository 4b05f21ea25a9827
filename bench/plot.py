"""Horizontal bars as SVG, drawn without a library."""

from collections.abc import Iterable
from html import escape
from math import floor, log10
from typing import NamedTuple

# Okabe and Ito's colours, which people with colour blindness tell apart.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#000000")
LABEL_WIDTH, PLOT_WIDTH, RIGHT = 300, 560, 70
BAR, GAP, TOP, LEGEND = 11, 7, 34, 22
TICKS = 5


class Bar(NamedTuple):
    """A bar: the group that it stands in, the series that gives its colour, its length."""

    group: str
    series: str
    value: float


def bars(title: str, values: Iterable[Bar]) -> str:
    """Returns a chart with a group of bars for each `group`, one colour for each `series`."""
    found = list(values)
    series = list(dict.fromkeys(bar.series for bar in found))
    groups: dict[str, list[Bar]] = {}
    for bar in found:
        groups.setdefault(bar.group, []).append(bar)
    top = TOP + LEGEND
    height = top + sum(len(group) * BAR + GAP for group in groups.values()) + 24
    width = LABEL_WIDTH + PLOT_WIDTH + RIGHT
    step = tick_step(max((bar.value for bar in found), default=0.0))
    scale = PLOT_WIDTH / (step * TICKS)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(10, 20, title, 'font-size="14"'),
        *_legend(series),
        *_grid(step, scale, top, height - 20),
    ]
    y = top
    for name, group in groups.items():
        parts.append(
            _text(LABEL_WIDTH - 6, y + len(group) * BAR / 2 + 4, name, 'text-anchor="end"')
        )
        for bar in group:
            parts += _bar(bar, y, scale, COLOURS[series.index(bar.series) % len(COLOURS)])
            y += BAR
        y += GAP
    return "\n".join([*parts, "</svg>"]) + "\n"


def tick_step(largest: float) -> float:
    """Returns 1, 2 or 5 times a power of ten, such that `TICKS` steps hold the largest value."""
    if largest <= 0:
        return 1.0
    power = 10.0 ** floor(log10(largest / TICKS))
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit * TICKS >= largest)


def _legend(series: list[str]) -> list[str]:
    parts: list[str] = []
    x = float(LABEL_WIDTH)
    for place, name in enumerate(series):
        colour = COLOURS[place % len(COLOURS)]
        parts.append(f'<rect x="{x:.0f}" y="{TOP - 4}" width="10" height="10" fill="{colour}"/>')
        parts.append(_text(x + 14, TOP + 5, name))
        x += 30 + 6.5 * len(name)
    return parts


def _grid(step: float, scale: float, top: float, bottom: float) -> list[str]:
    parts: list[str] = []
    for tick in range(TICKS + 1):
        x = LABEL_WIDTH + tick * step * scale
        parts.append(f'<path d="M{x:.1f} {top}V{bottom}" stroke="#ddd"/>')
        parts.append(_text(x, bottom + 14, f"{tick * step:g}", 'text-anchor="middle"'))
    return parts


def _bar(bar: Bar, y: float, scale: float, colour: str) -> list[str]:
    length = max(bar.value * scale, 0.5)
    number = f"{bar.value:.0f}" if bar.value >= 100 else f"{bar.value:.3g}"
    return [
        f'<rect x="{LABEL_WIDTH}" y="{y}" width="{length:.1f}" height="{BAR - 1}" '
        f'fill="{colour}"/>',
        _text(LABEL_WIDTH + length + 3, y + BAR - 2, number, 'font-size="9"'),
    ]


def _text(x: float, y: float, text: str, style: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" {style}>{escape(text)}</text>'
