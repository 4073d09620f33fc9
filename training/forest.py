"""Forest plots as inline SVG: one line for each predictor or comparison, its figure as a point and its interval as a bar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from .bootstrap import ConfidenceInterval
from .plots import ticks

_WIDTH, _LINE = 520, 24
"""Of the picture and of each line, in SVG units; the page scales it."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 252, 14, 12, 48
"""Margins around the plotted area; the names stand in the left one."""
_PAD = 0.05
_PLAIN, _MODEL, _OTHER, _OPEN = 0, 2, 1, 4
"""Colours of the page: nothing is compared, the model is better, the other is, neither is established."""


@dataclass(frozen=True, slots=True)
class ForestRow:
    """One predictor, or one comparison."""

    label: str
    figure: ConfidenceInterval


def forest(title: str, x_label: str, rows: Sequence[ForestRow], *, less_is_better: bool) -> str:
    """An HTML figure; a difference without an interval is a point alone, and one that does not exist leaves its line empty.

    Args:
        title: above the plot.
        x_label: what the differences are, with their space.
        rows: from top to bottom.
        less_is_better: a difference below 0 speaks for the model.
    """
    legend = "".join(
        f'<span class="key points c{colour}">{label}</span>'
        for colour, label in (
            (_MODEL, "the model is better"),
            (_OTHER, "the other is better"),
            (_OPEN, "not established: the interval holds 0"),
        )
    )
    colours = [_verdict(row.figure, less_is_better) for row in rows]
    return _figure(title, x_label, rows, colours, f'<div class="legend">{legend}</div>')


def dots(title: str, x_label: str, rows: Sequence[ForestRow]) -> str:
    """An HTML figure of figures that are not compared; the axis begins or ends at 0."""
    return _figure(title, x_label, rows, [_PLAIN] * len(rows), "")


def _figure(title: str, x_label: str, rows: Sequence[ForestRow], colours: Sequence[int], legend: str) -> str:
    ends = [value for row in rows for value in _numbers(row.figure)]
    if not ends:
        return f"<figure><figcaption>{escape(title)}</figcaption><p>no figures</p></figure>"
    low, high = min(0.0, *ends), max(0.0, *ends)
    pad = _PAD * (high - low) or 0.5
    scale = _Scale(low - pad if low < 0 else 0.0, high + pad if high > 0 else 0.0, _TOP + _LINE * len(rows))
    lines = "".join(
        _line(row, scale, _TOP + _LINE * (place + 0.5), colour) for place, (row, colour) in enumerate(zip(rows, colours, strict=True))
    )
    drawn = f'<svg viewBox="0 0 {_WIDTH} {scale.bottom + _BOTTOM}" role="img" aria-label="{escape(title, quote=True)}">'
    axis = "".join(_axis(scale, x_label))
    return f"<figure><figcaption>{escape(title)}</figcaption>{drawn}{axis}{lines}</svg>{legend}</figure>"


@dataclass(frozen=True, slots=True)
class _Scale:
    """From figures to places in the picture."""

    low: float
    high: float
    bottom: float

    def x(self, value: float) -> float:
        return round(_LEFT + (value - self.low) / (self.high - self.low) * (_WIDTH - _LEFT - _RIGHT), 2)


def _numbers(found: ConfidenceInterval) -> list[float]:
    return [value for value in (found.estimate, found.low, found.high) if value is not None]


def _axis(scale: _Scale, x_label: str) -> Iterator[str]:
    for value in ticks(scale.low, scale.high):
        yield f'<path class="grid" d="M{scale.x(value)} {_TOP}V{scale.bottom}"/>'
        yield f'<text x="{scale.x(value)}" y="{scale.bottom + 17}" text-anchor="middle">{value:.6g}</text>'
    yield f'<path class="frame" d="M{_LEFT} {scale.bottom}H{_WIDTH - _RIGHT}"/>'
    yield f'<path class="zero" d="M{scale.x(0.0)} {_TOP}V{scale.bottom}"/>'
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    yield f'<text class="name" x="{middle}" y="{scale.bottom + _BOTTOM - 8}" text-anchor="middle">{escape(x_label)}</text>'


def _line(row: ForestRow, scale: _Scale, y: float, colour: int) -> str:
    found = row.figure
    name = f'<text class="name" x="{_LEFT - 10}" y="{y + 4}" text-anchor="end">{escape(row.label)}</text>'
    if found.estimate is None:
        return f'{name}<text x="{_WIDTH - _RIGHT}" y="{y + 4}" text-anchor="end">does not exist</text>'
    bar = ""
    if found.low is not None and found.high is not None:
        bar = f'<path class="whisker c{colour}" d="M{scale.x(found.low)} {y}H{scale.x(found.high)}"/>'
    return f'{name}{bar}<circle class="solid c{colour}" cx="{scale.x(found.estimate)}" cy="{y}" r="4.5"/>'


def _verdict(found: ConfidenceInterval, less_is_better: bool) -> int:
    if found.low is None or found.high is None or found.low <= 0 <= found.high:
        return _OPEN
    return _MODEL if (found.high < 0) == less_is_better else _OTHER
