"""How sure a figure is: percentile intervals by resampling whole authors.

Clips of one author are alike, so they are drawn together (a cluster bootstrap: Davison and Hinkley 1997, section 3.8); drawing clips
one by one would give intervals that are too narrow. A clip whose author is not known is a cluster of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
        true, guess = np.asarray(truth), np.asarray(predicted)
        return self._interval(lambda rows: metric(true[rows], guess[rows]))

    def difference(self, metric: Metric, truth: ArrayLike, first: ArrayLike, second: ArrayLike) -> ConfidenceInterval:
        """The interval of the first predictor's metric less the second's, paired: each draw measures both on the same clips."""
        true, one, other = np.asarray(truth), np.asarray(first), np.asarray(second)
        return self._interval(lambda rows: _less(metric(true[rows], one[rows]), metric(true[rows], other[rows])))

    def draws(self) -> Iterator[Rows]:
        """Rows of each resample: as many clusters as there are, drawn with replacement."""
        random = np.random.default_rng(self.seed)
        for _ in range(self.resamples):
            yield np.concatenate([self.groups[pick] for pick in random.integers(len(self.groups), size=len(self.groups))])

    def _interval(self, statistic: Callable[[Rows], float | None]) -> ConfidenceInterval:
        estimate = statistic(np.arange(sum(len(rows) for rows in self.groups)))
        if estimate is None or len(self.groups) < 2:
            return ConfidenceInterval(estimate, None, None, 0)
        drawn = [found for found in map(statistic, self.draws()) if found is not None]
        if not drawn:
            return ConfidenceInterval(estimate, None, None, 0)
        outside = (1 - self.level) / 2
        low, high = np.quantile(drawn, [outside, 1 - outside])
        return ConfidenceInterval(estimate, float(low), float(high), len(drawn))


def _less(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second
