"""How counts are distributed: tails, zeros, quartiles that collapse, and the marks of rounding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..runtime.target import class_edges

Numbers = NDArray[np.float64]
TOP_SHARE = 0.01
HILL_SHARE = 0.05
ROUNDED_FROM = 10_000
"""Web pages write smaller counts in full."""


@dataclass(frozen=True, slots=True)
class Tail:
    """The distribution of one column, over the rows where it is known."""

    name: str
    known: int
    hidden: int
    zeros: float
    """Share of zeros."""
    skew: float
    skew_log1p: float | None
    """None where log1p has no meaning: a value is negative."""
    top_share: float
    """Share of the squared error that the 1 % of rows farthest from the mean carry when the mean is predicted for all."""
    top_share_log1p: float | None
    mean_over_median: float | None
    """None where the median is 0."""
    max_z: float
    """The largest value in standard deviations from the mean."""
    hill: float | None
    """Tail index by Hill's estimator over the top 5 %: below 2 the variance isn't finite, below 1 the mean neither."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """How many large values look like a web page's `12.3K` and `1.2M`."""

    name: str
    large: int
    """Values of at least 10,000."""
    share: float
    """Of those, how many have three digits at most before the zeros; by chance some 1 % have."""


@dataclass(frozen=True, slots=True)
class Quartiles:
    """The classes that the target's quartiles make: four, or fewer where ties allow no more."""

    edges: tuple[float, ...]
    sizes: tuple[int, ...]
    """Rows in each; a value on an edge belongs to the class below it, as in `runtime.target`."""

    @property
    def smallest(self) -> float:
        """The smallest class as a share of all rows; 0.25 is even."""
        return min(self.sizes) / sum(self.sizes)


def tail_of(name: str, values: Numbers) -> Tail:
    """Describes float64 (rows,), NaN where hidden; at least one is known and not all are equal."""
    known = values[np.isfinite(values)]
    logs = np.log1p(known) if known.min() >= 0 else None
    middle = float(np.median(known))
    return Tail(
        name=name,
        known=len(known),
        hidden=int((~np.isfinite(values)).sum()),
        zeros=float((known == 0).mean()),
        skew=_skew(known),
        skew_log1p=None if logs is None else _skew(logs),
        top_share=_top_share(known),
        top_share_log1p=None if logs is None else _top_share(logs),
        mean_over_median=float(known.mean() / middle) if middle else None,
        max_z=float(_z(known).max()),
        hill=_hill(known),
    )


def rounding_of(name: str, values: Numbers) -> Rounding:
    """How many of float64 (rows,) are multiples of 100 from 10,000 on, or of 100,000 from a million on."""
    large = values[np.isfinite(values) & (values >= ROUNDED_FROM)]
    step = np.where(large >= 1_000_000, 100_000, 100)
    return Rounding(name, len(large), float((large % step == 0).mean()) if len(large) else 0.0)


def quartiles_of(values: Numbers) -> Quartiles:
    """Edges and class sizes of the known values of float64 (rows,)."""
    known = values[np.isfinite(values)]
    edges = class_edges(known)
    return Quartiles(edges, tuple(np.bincount(np.searchsorted(edges, known), minlength=len(edges) + 1).tolist()))


def _z(values: Numbers) -> Numbers:
    return np.asarray((values - values.mean()) / values.std())


def _skew(values: Numbers) -> float:
    return float((_z(values) ** 3).mean()) if values.std() > 0 else 0.0


def _top_share(values: Numbers) -> float:
    squares = np.sort(_z(values) ** 2)[::-1]
    return float(squares[: int(np.ceil(TOP_SHARE * len(squares)))].sum() / squares.sum())


def _hill(values: Numbers) -> float | None:
    ordered = np.sort(values[values > 0])[::-1]
    count = int(HILL_SHARE * len(ordered))
    if count < 10 or ordered[0] == ordered[count]:
        return None
    return float(1 / np.log(ordered[:count] / ordered[count]).mean())
