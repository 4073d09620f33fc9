"""Building blocks of a page in HTML: tables, numbers with their intervals, definition lists; everything is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Literal

from .bootstrap import ConfidenceInterval
from .plots import Chart, Series, figure

METRIC_NAMES = {
    "mse": "MSE",
    "mae": "MAE",
    "nmse": "nMSE",
    "r2": "R²",
    "spearman": "Spearman",
    "pearson": "Pearson",
    "kendall": "Kendall τ-b",
}
REFERENCE = 4
"""Colour of reference lines."""


def banded(
    label: str, x: Sequence[float], found: Sequence[ConfidenceInterval], colour: int, kind: Literal["line", "points"] = "line"
) -> Series:
    """Estimates with their intervals, as a band or as whiskers."""
    y, low, high = ([getattr(one, name) for one in found] for name in ("estimate", "low", "high"))
    return Series(label, x, y, kind, low=low, high=high, colour=colour)


def chart_row(charts: Iterable[Chart], beside: str = "") -> str:
    """Charts side by side where the page is wide enough, and HTML beside them."""
    return f'<div class="charts">{"".join(map(figure, charts))}{beside}</div>'


def figure_with_note(shown: str, note: str) -> Cell:
    """A figure, and a smaller one below it."""
    return Cell(f"{escape(shown)}<small>{escape(note)}</small>")


class Cell(str):
    """HTML that is safe as it is."""


def with_interval(found: ConfidenceInterval, *, percent: bool = False) -> Cell:
    """An estimate, and its interval below it."""
    if found.estimate is None:
        return Cell("-")
    form = "{:.1%}".format if percent else short_number
    around = "" if found.low is None or found.high is None else f"<small>{form(found.low)} to {form(found.high)}</small>"
    return Cell(f"{form(found.estimate)}{around}")


def short_number(value: float) -> str:
    """Three digits for what is small; thousands and above with k, M and so on."""
    for limit, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= limit * 0.9995:
            return f"{value / limit if unit != ' k' else value / 1e3:.3g}{unit}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{round(value, 3) + 0.0:.3f}" if abs(value) < 10 else f"{value:.1f}"


def data_table(heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "", *, words: bool = False) -> str:
    """A table that scrolls sideways on a narrow page; the first column names the row, the others hold numbers, or words."""
    top = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    body = "".join(f"<tr>{''.join(f'<td>{_safe(cell)}</td>' for cell in row)}</tr>" for row in rows)
    named = f"<caption>{escape(caption)}</caption>" if caption else ""
    kind = "words" if words else "numbers"
    return f'<div class="wide"><table class="{kind}">{named}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _safe(cell: str) -> str:
    return cell if isinstance(cell, Cell) else escape(cell)


def definitions(rows: Mapping[str, str]) -> str:
    """Names and what they mean."""
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(value)}</dd>' for name, value in rows.items())}</dl>"


def details(title: str, content: str) -> str:
    """What is only shown when asked for."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"
