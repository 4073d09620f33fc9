"""From a manifest's columns to the numbers that are predicted, and from those to a standardised target.

    likes          a column
    likes/views    a rate of two columns; 0 of 0 is 0, and anything of 0 is refused
    views/day      a count over the days from created_at to crawled_at; under one day counts as one

A column whose name has a stroke in it, as `a/b`, is that column.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike
from sklearn.preprocessing import PowerTransformer

from ..errors import DataError
from ..runtime.target import MOST_KNOTS, QUARTILES, Numbers, Target
from .clips import ClipRow
from .values import parse_time

DAY = "day"
_DAY_S = 86_400.0
_TOLERANCE = 1e-6
"""Share of a training value that the way there and back may change it by."""


def target_values(rows: Iterable[ClipRow], expression: str) -> dict[str, float]:
    """The target of every clip, by clip id.

    Args:
        rows: the manifest.
        expression: `likes`, `likes/views` or `views/day`, see the module.

    Raises:
        DataError: the expression cannot be read, or a clip has no such value; the message names the clip.
    """
    return {row.id: _value(row, expression) for row in rows}


def fit_target(values: ArrayLike, *, name: str, transform: str = "log1p", classes: int = QUARTILES) -> Target:
    """Fits any of `runtime.target.TRANSFORMS` to the training split.

    The power of `yeo-johnson` is the most likely one; `rank-gauss` takes the normal score of every value's middle rank (ties share
    one), thinned to 256 knots that are even in normal score, so that the tails keep theirs.

    Args:
        values: float (clips,), the training split's targets in their own units.
        name: the column or expression they came from.
        transform: `log1p`, `yeo-johnson`, `rank-gauss` or `none`.
        classes: classes asked for; ties make fewer, see `runtime.target.class_edges`.

    Raises:
        DataError: NaN, infinite, constant or (for `log1p`) negative values, or a transform under which they cannot be told apart.
    """
    if transform not in ("yeo-johnson", "rank-gauss"):
        return Target.fit(values, name=name, transform=transform, classes=classes)
    plain = Target.fit(values, name=name, transform="none", classes=classes)  # refuses what no transform can use
    raw = np.asarray(values, dtype=np.float64)
    power = _most_likely_power(raw) if transform == "yeo-johnson" else None
    knots = _normal_scores(raw) if transform == "rank-gauss" else ()
    span = (float(raw.min()), float(raw.max()))
    space = Target(name, transform, 0.0, 1.0, plain.class_edges, power, knots, span).apply(raw)
    target = Target(name, transform, float(space.mean()), float(space.std()), plain.class_edges, power, knots, span)
    worst = np.abs(target.restore(target.standardise(raw)) - raw) / np.maximum(np.abs(raw), 1.0)
    if not worst.max() <= _TOLERANCE:
        raise DataError(f"target {name!r}: {transform} cannot tell its values apart; use --transform log1p or rank-gauss")
    return target


def _value(row: ClipRow, expression: str) -> float:
    if expression in row.columns or "/" not in expression:
        return row.value(expression)
    over, _, under = expression.partition("/")
    if not over or not under or "/" in under:
        raise DataError(f"target {expression!r} cannot be read; expected a column, or two as in likes/views, or views/{DAY}")
    count = row.value(over)
    if under == DAY:
        return count / max(_age_days(row), 1.0)
    whole = row.value(under)
    if whole < 0 or (whole == 0 and count != 0):
        raise DataError(
            f"clip {row.id!r}: {over} is {count:g} and {under} {whole:g}, so {expression} has no value; correct or drop the clip"
        )
    return count / whole if whole else 0.0


def _age_days(row: ClipRow) -> float:
    created, crawled = (_time(row, column) for column in ("created_at", "crawled_at"))
    days = (crawled - created).total_seconds() / _DAY_S
    if days < 0:
        raise DataError(f"clip {row.id!r} was crawled before it was created; a count per {DAY} needs the right times")
    return days


def _time(row: ClipRow, column: str) -> datetime:
    found = parse_time(row.columns.get(column)).value
    if found is None:
        raise DataError(f"clip {row.id!r}: a count per {DAY} needs a time in {column!r}, got {row.columns.get(column)!r}")
    return found


def _most_likely_power(raw: Numbers) -> float:
    fitted = PowerTransformer(method="yeo-johnson", standardize=False).fit(raw[:, None])
    return float(fitted.lambdas_[0])


def _normal_scores(raw: Numbers) -> tuple[tuple[float, float], ...]:
    values, counts = np.unique(raw, return_counts=True)
    middles = (counts.cumsum() - counts / 2) / len(raw)
    scores = np.array([NormalDist().inv_cdf(share) for share in middles])
    if len(values) > MOST_KNOTS:
        even = np.searchsorted(scores, np.linspace(scores[0], scores[-1], MOST_KNOTS))
        kept = np.unique(np.minimum(even, len(values) - 1))
        values, scores = values[kept], scores[kept]
    return tuple((float(value), float(score)) for value, score in zip(values, scores, strict=True))
