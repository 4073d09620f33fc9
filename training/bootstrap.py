"""How sure a figure is: percentile intervals by resampling whole authors.

Clips of one author are alike, so they are drawn together (a cluster bootstrap: Davison and Hinkley 1997, section 3.8); drawing clips
one by one would give intervals that are too narrow. A clip whose author is not known is a cluster of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError
from .metrics import Metric

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ConfidenceInterval:
    """A figure and how far it might have been off."""

    estimate: float | None
    """Over the clips as they are; None where the metric does not exist for them."""
    low: float | None
    """None where fewer than two clusters or no resample give the metric."""
    high: float | None
    resamples: int
    """Resamples in which the metric exists: those of a single truth have no correlation."""


@dataclass(frozen=True, slots=True)
class Replicates:
    """One metric of one predictor over the clips as they are, and over every resample of them."""

    estimate: float | None
    drawn: NDArray[np.float64]
    """float64 (resamples,), NaN where a resample does not give the metric."""

    def __sub__(self, other: Replicates) -> Replicates:
        """The paired difference: both must be of the same draws."""
        known = self.estimate is not None and other.estimate is not None
        return Replicates(self.estimate - other.estimate if known else None, self.drawn - other.drawn)  # type: ignore[operator]


class Bootstrap:
    """Resamples of the same clips. Every metric and predictor is measured on the same draws, so that they can be compared."""

    def __init__(self, clusters: Sequence[str | None], *, resamples: int = 1000, level: float = 0.95, seed: int = 0) -> None:
        """Clusters clips for drawing.

        Args:
            clusters: author of each clip, None where not known.
            resamples: how many draws.
            level: share of the draws inside the interval.
            seed: decides the draws.

        Raises:
            DataError: there are no clips, no resamples, or the level is not between 0 and 1.
        """
        if not clusters or resamples < 1 or not 0 < level < 1:
            raise DataError(
                f"bootstrap: expected clips, resamples and a level between 0 and 1, got {len(clusters)}, {resamples}, {level:g}"
            )
        groups: dict[object, list[int]] = {}
        for row, cluster in enumerate(clusters):
            groups.setdefault(row if cluster is None else cluster, []).append(row)
        self.groups: list[Rows] = [np.array(rows, dtype=np.int64) for rows in groups.values()]
        self.resamples = resamples
        self.level = level
        self.seed = seed

    def interval(self, metric: Metric, truth: ArrayLike, predicted: ArrayLike) -> ConfidenceInterval:
        """The interval of one metric of one predictor; truth and prediction are (clips,)."""
        return self.summary(self._replicates_of(metric, truth, predicted))

    def difference(self, metric: Metric, truth: ArrayLike, first: ArrayLike, second: ArrayLike) -> ConfidenceInterval:
        """The interval of the first predictor's metric less the second's, paired: each draw measures both on the same clips."""
        return self.summary(self._replicates_of(metric, truth, first) - self._replicates_of(metric, truth, second))

    def replicates(self, metrics: Mapping[str, Metric], truth: ArrayLike, predicted: ArrayLike) -> dict[str, Replicates]:
        """Several metrics of one predictor, by name, from which `summary` makes intervals; truth and prediction are (clips,)."""
        true, guess = np.asarray(truth), np.asarray(predicted)
        drawn = np.full((len(metrics), self.resamples), np.nan)
        for place, rows in enumerate(self.draws() if len(self.groups) > 1 else ()):
            drawn_true, drawn_guess = true[rows], guess[rows]
            drawn[:, place] = [_or_nan(metric(drawn_true, drawn_guess)) for metric in metrics.values()]
        return {name: Replicates(metric(true, guess), values) for (name, metric), values in zip(metrics.items(), drawn, strict=True)}

    def summary(self, replicates: Replicates) -> ConfidenceInterval:
        """The percentile interval of a metric, or of a difference of two."""
        drawn = replicates.drawn[~np.isnan(replicates.drawn)]
        if replicates.estimate is None or not len(drawn):
            return ConfidenceInterval(replicates.estimate, None, None, 0)
        outside = (1 - self.level) / 2
        low, high = np.quantile(drawn, [outside, 1 - outside])
        return ConfidenceInterval(replicates.estimate, float(low), float(high), len(drawn))

    def draws(self) -> Iterator[Rows]:
        """Rows of each resample: as many clusters as there are, drawn with replacement."""
        random = np.random.default_rng(self.seed)
        for _ in range(self.resamples):
            yield np.concatenate([self.groups[pick] for pick in random.integers(len(self.groups), size=len(self.groups))])

    def _replicates_of(self, metric: Metric, truth: ArrayLike, predicted: ArrayLike) -> Replicates:
        return self.replicates({"": metric}, truth, predicted)[""]


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value
