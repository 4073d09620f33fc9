"""Small charts as inline SVG: lines with bands, points with whiskers. Colours come from the page, so that it can be light or dark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

WIDTH, HEIGHT = 460, 320
"""Of a chart, in SVG units; the page scales it."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 14, 12, 48
"""Margins around the plotted area."""
_PAD = 0.04
"""Share of the range left free beyond the outermost values."""

Numbers = Sequence["float | None"]


@dataclass(frozen=True, slots=True)
class Series:
    """One set of numbers to draw. Where x or y is None or no finite number, nothing is drawn."""

    label: str
    x: Numbers
    y: Numbers
    kind: Literal["line", "dashed", "points"] = "line"
    low: Numbers = ()
    """Lower end of an interval around each y: a band about a line, a whisker at a point. Empty: none."""
    high: Numbers = ()
    colour: int = 0
    """0 to 7, of the page's own; 4 is that of reference lines."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Axes, with units or the space named, and what is drawn on them."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    square: bool = False
    """Both axes have one range, so that equal values lie on the diagonal."""
    from_zero: bool = False
    """The y axis begins at 0."""


def figure(chart: Chart) -> str:
    """The chart as an HTML figure with its title and legend."""
    legend = "".join(f'<span class="key c{series.colour} {series.kind}">{escape(series.label)}</span>' for series in chart.series)
    return f'<figure><figcaption>{escape(chart.title)}</figcaption>{svg(chart)}<div class="legend">{legend}</div></figure>'


def svg(chart: Chart) -> str:
    """The chart alone; one with no finite number says so."""
    ranges = _ranges(chart)
    described = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(chart.title, quote=True)}">'
    if ranges is None:
        return f'{described}<text x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle">no figures</text></svg>'
    area = _Area(*ranges)
    drawn = "".join(part for series in chart.series for part in _draw(series, area))
    return f"{described}{_axes(chart, area)}{drawn}</svg>"


def ticks(low: float, high: float, *, most: int = 6) -> list[float]:
    """Round numbers from low to high, at most so many: steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(size * power for size in (1, 2, 5, 10, 20) if (high - low) / (size * power) <= most - 1)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True, slots=True)
class _Area:
    """From numbers to places in the picture."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return round(_LEFT + (value - low) / (high - low) * (WIDTH - _LEFT - _RIGHT), 2)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return round(HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM), 2)


def _ranges(chart: Chart) -> tuple[tuple[float, float], tuple[float, float]] | None:
    xs = [x for series in chart.series for x, y in zip(series.x, series.y, strict=True) if _known(x) and _known(y)]
    ys = [y for series in chart.series for numbers in (series.y, series.low, series.high) for y in numbers if _known(y)]
    if not xs or not ys:
        return None
    if chart.square:
        xs = ys = xs + ys
    return _padded(xs), _padded([*ys, 0.0] if chart.from_zero else ys, at_zero=chart.from_zero)


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _padded(values: Iterable[float | None], *, at_zero: bool = False) -> tuple[float, float]:
    numbers = [value for value in values if value is not None]
    low, high = min(numbers), max(numbers)
    pad = _PAD * (high - low) or 0.5 * abs(high) or 0.5
    return (low if at_zero and low == 0 else low - pad), high + pad


def _axes(chart: Chart, area: _Area) -> str:
    left, right, top, bottom = _LEFT, WIDTH - _RIGHT, _TOP, HEIGHT - _BOTTOM
    parts = [f'<path class="frame" d="M{left} {top}V{bottom}H{right}"/>']
    for value in ticks(*area.y_range):
        parts.append(f'<path class="grid" d="M{left} {area.y(value)}H{right}"/>')
        parts.append(f'<text x="{left - 7}" y="{area.y(value) + 4}" text-anchor="end">{_label(value)}</text>')
    for value in ticks(*area.x_range):
        parts.append(f'<path class="grid" d="M{area.x(value)} {top}V{bottom}"/>')
        parts.append(f'<text x="{area.x(value)}" y="{bottom + 17}" text-anchor="middle">{_label(value)}</text>')
    middle = (top + bottom) / 2
    parts.append(f'<text class="name" x="{(left + right) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(chart.x_label)}</text>')
    parts.append(
        f'<text class="name" x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">{escape(chart.y_label)}</text>'
    )
    return "".join(parts)


def _label(value: float) -> str:
    return f"{value:.6g}"


def _draw(series: Series, area: _Area) -> Iterator[str]:
    points = [(area.x(x), area.y(y)) for x, y in zip(series.x, series.y, strict=True) if x is not None and y is not None and _both(x, y)]
    around = [
        (area.x(x), area.y(low), area.y(high))
        for x, low, high in zip(series.x, series.low, series.high, strict=False)
        if x is not None and low is not None and high is not None and _both(low, high)
    ]
    style = f"c{series.colour}"
    if series.kind == "points":
        yield from (f'<path class="whisker {style}" d="M{x} {low}V{high}"/>' for x, low, high in around)
        yield from (f'<circle class="{style}" cx="{x}" cy="{y}" r="3"/>' for x, y in points)
        return
    if around:
        outline = [(x, high) for x, _, high in around] + [(x, low) for x, low, _ in reversed(around)]
        yield f'<polygon class="band {style}" points="{_path(outline)}"/>'
    yield f'<polyline class="{series.kind} {style}" points="{_path(points)}"/>'


def _both(first: float, second: float) -> bool:
    return math.isfinite(first) and math.isfinite(second)


def _path(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in points)
