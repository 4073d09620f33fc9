"""Charts of a benchmark as inline SVG: lines, steps and points on plain or logarithmic axes, and bars that are stacked.

Colours come from the page, so that it can be light or dark; no chart relies on them alone: lines are dashed, points shaped and bars named.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal, TypeAlias

from ..training.plots import ticks

WIDTH, HEIGHT = 440, 300
"""Of a plot, in SVG units; the page scales it."""
COLOURS = 8
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 16, 46
_PAD = 0.04
_DASHES = ("", "7 3", "2 3", "9 3 2 3")
"""Beyond the colours of the page, lines of one colour differ in these."""
_SHAPES = (
    "M-4 0A4 4 0 1 0 4 0A4 4 0 1 0-4 0",
    "M-3.6-3.6H3.6V3.6H-3.6Z",
    "M0-4.6L4.4 3.6H-4.4Z",
    "M0-5L5 0L0 5L-5 0Z",
    "M0 4.6L4.4-3.6H-4.4Z",
)
"""Circle, square, triangle, diamond, triangle on its head."""


@dataclass(frozen=True, slots=True)
class Style:
    """How one thing looks in every chart of a page."""

    label: str
    colour: int
    """0 to 7, of the page's own."""
    variant: int = 0
    """Dash of its lines and shape of its points."""


Styles: TypeAlias = "dict[str, Style]"
"""By label."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One set of numbers in a plot; on a logarithmic axis, numbers that are not positive are left out."""

    style: Style
    x: Sequence[float]
    y: Sequence[float]
    kind: Literal["line", "step", "points"] = "line"
    low: Sequence[float] = ()
    """Lower end of a band about a line, or of a whisker at a point. Empty: none."""
    high: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Mark:
    """A named place on an axis, as a thin line across the plot."""

    at: float
    label: str
    axis: Literal["x", "y"] = "x"


@dataclass(frozen=True, slots=True)
class Plot:
    """Axes with their units, and what is drawn on them."""

    title: str
    x_label: str
    y_label: str
    drawn: tuple[Drawn, ...]
    x_log: bool = False
    y_log: bool = False
    y_from_zero: bool = False
    marks: tuple[Mark, ...] = ()


def styles_of(labels: Iterable[str]) -> Styles:
    """A look for each label, in order; grey is left to reference lines."""
    usable = [colour for colour in range(COLOURS) if colour != 4]
    places = enumerate(dict.fromkeys(labels))
    return {label: Style(label, usable[place % len(usable)], place % len(usable) + place // len(usable)) for place, label in places}


def figure(plot: Plot, note: str = "") -> str:
    """The plot as an HTML figure with its title, its legend, and a note below it."""
    legend = "".join(_key(drawn) for drawn in {drawn.style.label: drawn for drawn in plot.drawn if drawn.style.label}.values())
    below = f'<p class="note">{escape(note)}</p>' if note else ""
    return f'<figure><figcaption>{escape(plot.title)}</figcaption>{svg(plot)}<ul class="legend">{legend}</ul>{below}</figure>'


def svg(plot: Plot) -> str:
    """The plot alone; one with nothing to draw says so."""
    described = (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(f"{plot.title}: {plot.y_label} against {plot.x_label}")}">'
    )
    area = _area(plot)
    if area is None:
        return f'{described}<text x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle">no figures</text></svg>'
    parts = (*_axes(plot, area), *(part for drawn in plot.drawn for part in _draw(drawn, area)), *_marks(plot, area))
    return f"{described}{''.join(parts)}</svg>"


@dataclass(frozen=True, slots=True)
class _Axis:
    """From numbers to places along one side."""

    low: float
    high: float
    log: bool
    begin: float
    end: float

    def place(self, value: float) -> float:
        low, high, at = (math.log10(number) if self.log else number for number in (self.low, self.high, value))
        return round(self.begin + (at - low) / (high - low) * (self.end - self.begin), 1)

    def shows(self, value: float) -> bool:
        return math.isfinite(value) and (value > 0 or not self.log)

    def ticks(self, most: int) -> list[float]:
        return log_ticks(self.low, self.high, most=most) if self.log else ticks(self.low, self.high, most=most)


def log_ticks(low: float, high: float, *, most: int = 6) -> list[float]:
    """Round numbers on a logarithmic axis: steps within powers of ten, powers of ten, or some of those; even steps on a short one."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        found = [step * 10.0**power for power in decades for step in steps if low * 0.999 <= step * 10.0**power <= high * 1.001]
        if len(found) <= most:
            return found if len(found) > 2 else ticks(low, high, most=most)
    return found[:: -(-len(found) // most)]


def _area(plot: Plot) -> tuple[_Axis, _Axis] | None:
    xs = [x for drawn in plot.drawn for x in drawn.x if math.isfinite(x) and (x > 0 or not plot.x_log)]
    ys = [y for drawn in plot.drawn for side in (drawn.y, drawn.low, drawn.high) for y in side if math.isfinite(y)]
    ys = [y for y in ys if y > 0 or not plot.y_log]
    xs += [mark.at for mark in plot.marks if mark.axis == "x"]
    ys += [mark.at for mark in plot.marks if mark.axis == "y"]
    if not xs or not ys:
        return None
    x_low, x_high = _range(xs, log=plot.x_log)
    y_low, y_high = _range([*ys, 0.0] if plot.y_from_zero else ys, log=plot.y_log)
    x = _Axis(x_low, x_high, plot.x_log, _LEFT, WIDTH - _RIGHT)
    return x, _Axis(0.0 if plot.y_from_zero else y_low, y_high, plot.y_log, HEIGHT - _BOTTOM, _TOP)


def _range(values: Sequence[float], *, log: bool) -> tuple[float, float]:
    low, high = min(values), max(values)
    if log:
        pad = (high / low) ** _PAD if high > low else 1.5
        return low / pad, high * pad
    pad = _PAD * (high - low) or 0.5 * abs(high) or 0.5
    return (0.0 if low == 0 else low - pad), high + pad


def _axes(plot: Plot, area: tuple[_Axis, _Axis]) -> Iterator[str]:
    x, y = area
    left, right, top, bottom = _LEFT, WIDTH - _RIGHT, _TOP, HEIGHT - _BOTTOM
    for value in y.ticks(6):
        yield f'<path class="grid" d="M{left} {y.place(value)}H{right}"/>'
        yield f'<text x="{left - 7}" y="{y.place(value) + 4}" text-anchor="end">{_label(value)}</text>'
    for value in x.ticks(7):
        yield f'<path class="grid" d="M{x.place(value)} {top}V{bottom}"/>'
        yield f'<text x="{x.place(value)}" y="{bottom + 17}" text-anchor="middle">{_label(value)}</text>'
    yield f'<path class="frame" d="M{left} {top}V{bottom}H{right}"/>'
    middle = (top + bottom) / 2
    yield f'<text class="name" x="{(left + right) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(plot.x_label)}</text>'
    yield f'<text class="name" x="13" y="{middle}" text-anchor="middle" transform="rotate(-90 13 {middle})">{escape(plot.y_label)}</text>'


def _label(value: float) -> str:
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.3g}{unit}"
    return f"{value:.4g}" if value == 0 or abs(value) >= 1e-3 else f"{value:.0e}".replace("e-0", "e-")


def _marks(plot: Plot, area: tuple[_Axis, _Axis]) -> Iterator[str]:
    """Names of marks on the x axis stand near the bottom, in turn on five lines, so that neighbours do not cover each other."""
    x, y = area
    for turn, mark in enumerate(sorted((mark for mark in plot.marks if mark.axis == "x"), key=lambda mark: mark.at)):
        at, line = x.place(mark.at), HEIGHT - _BOTTOM - 58 + 12 * (turn % 5)
        anchor, beside = ("end", -4) if at > WIDTH * 0.75 else ("start", 4)
        yield f'<path class="mark" d="M{at} {_TOP}V{HEIGHT - _BOTTOM}"/>'
        yield f'<text class="markname" x="{at + beside}" y="{line}" text-anchor="{anchor}">{escape(mark.label)}</text>'
    for mark in plot.marks:
        if mark.axis == "y":
            yield f'<path class="mark" d="M{_LEFT} {y.place(mark.at)}H{WIDTH - _RIGHT}"/>'
            yield (
                f'<text class="markname" x="{WIDTH - _RIGHT - 2}" y="{y.place(mark.at) - 4}" text-anchor="end">{escape(mark.label)}</text>'
            )


def _draw(drawn: Drawn, area: tuple[_Axis, _Axis]) -> Iterator[str]:
    x, y = area
    look, name = f"c{drawn.style.colour}", f"<title>{escape(drawn.style.label)}</title>"
    points = [(x.place(a), y.place(b)) for a, b in zip(drawn.x, drawn.y, strict=True) if x.shows(a) and y.shows(b)]
    around = [
        (x.place(a), y.place(low), y.place(high))
        for a, low, high in zip(drawn.x, drawn.low, drawn.high, strict=False)
        if x.shows(a) and y.shows(low) and y.shows(high)
    ]
    if drawn.kind == "points":
        yield from (f'<path class="whisker {look}" d="M{at} {low}V{high}"/>' for at, low, high in around)
        shape = _SHAPES[drawn.style.variant % len(_SHAPES)]
        yield from (f'<path class="point {look}" transform="translate({at} {up})" d="{shape}">{name}</path>' for at, up in points)
        return
    if around:
        outline = [(at, high) for at, _, high in around] + [(at, low) for at, low, _ in reversed(around)]
        yield f'<polygon class="band {look}" points="{_path(outline)}"/>'
    path = list(_steps(points)) if drawn.kind == "step" else points
    yield f'<polyline class="{look}"{_dash(drawn.style)} points="{_path(path)}">{name}</polyline>'


def _dash(style: Style) -> str:
    dash = _DASHES[style.variant % len(_DASHES)]
    return f' stroke-dasharray="{dash}"' if dash else ""


def _steps(points: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    for place, (x, y) in enumerate(points):
        if place:
            yield x, points[place - 1][1]
        yield x, y


def _path(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def _key(drawn: Drawn) -> str:
    """A line of the legend, with the very dash or shape that is drawn."""
    look = f"c{drawn.style.colour}"
    if drawn.kind == "points":
        sign = f'<path class="point {look}" transform="translate(12 6)" d="{_SHAPES[drawn.style.variant % len(_SHAPES)]}"/>'
    else:
        sign = f'<path class="stroke {look}"{_dash(drawn.style)} d="M0 6H24"/>'
    return f'<li><svg class="sign" viewBox="0 0 24 12" aria-hidden="true">{sign}</svg>{escape(drawn.style.label)}</li>'


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a bar."""

    label: str
    value: float


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar with a name, made of one part or of several."""

    label: str
    parts: tuple[Part, ...]
    said: str
    """Written beside its end."""
    interval: tuple[float, float] | None = None
    """A whisker about its end."""

    @property
    def total(self) -> float:
        """Its length."""
        return sum(part.value for part in self.parts)


_BAR, _GAP = 16, 36
"""Height of a bar and from one to the next: its name stands above it."""


def bars(title: str, unit: str, rows: Sequence[Bar], colours: dict[str, int]) -> str:
    """Horizontal bars as an HTML figure.

    Args:
        title: above them.
        unit: what their length is.
        rows: from top to bottom.
        colours: of parts, by label; parts of a stack also bear their number in this order.
    """
    if not rows:
        return ""
    reach = max(max(row.total, row.interval[1] if row.interval else 0.0) for row in rows)
    scale = _Axis(0.0, reach or 1.0, False, 0.0, WIDTH - 108.0)
    drawn = "".join(part for place, row in enumerate(rows) for part in _bar(row, scale, place * _GAP, colours))
    stacked = any(len(row.parts) > 1 for row in rows)
    numbered = enumerate(colours, 1) if stacked else ()
    legend = "".join(f'<li><span class="swatch c{colours[label]}">{number}</span>{escape(label)}</li>' for number, label in numbered)
    height = _GAP * len(rows) + 4
    return (
        f'<figure><figcaption>{escape(title)} <span class="unit">{escape(unit)}</span></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">{drawn}</svg>'
        f'<ul class="legend">{legend}</ul></figure>'
    )


def _bar(row: Bar, scale: _Axis, top: float, colours: dict[str, int]) -> Iterator[str]:
    yield f'<text class="name" x="0" y="{top + 12}">{escape(row.label)}</text>'
    begin, order = 0.0, list(colours)
    for part in row.parts:
        left, right = scale.place(begin), scale.place(begin + part.value)
        place = f'x="{left}" y="{top + 17}" width="{max(0.0, right - left):.1f}" height="{_BAR}"'
        yield f'<rect class="part c{colours[part.label]}" {place}><title>{escape(part.label)}</title></rect>'
        if len(row.parts) > 1 and right - left > 12:
            number, middle = order.index(part.label) + 1, (left + right) / 2
            yield f'<text class="inside" x="{middle:.1f}" y="{top + 29}" text-anchor="middle">{number}</text>'
        begin += part.value
    end = scale.place(begin)
    if row.interval:
        low, high = (scale.place(value) for value in row.interval)
        middle = top + 17 + _BAR / 2
        yield f'<path class="error" d="M{low} {middle}H{high}M{low} {middle - 4}V{middle + 4}M{high} {middle - 4}V{middle + 4}"/>'
        end = max(end, high)
    yield f'<text class="said" x="{end + 6}" y="{top + 29}">{escape(row.said)}</text>'
