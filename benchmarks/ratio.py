"""The ratio of one figure of two sets of runs, and how sure it is.

Runs differ from each other by more than their samples tell (another memory layout, another neighbour on the machine), so the runs are what
is resampled. A percentile interval over three runs cannot be trusted: three runs on each side all lie on one side of the other three
in one A/A comparison of ten, and no resampling of them can look beyond their range. So the bootstrap gives a standard error only, and
Student's t with the degrees of freedom of the runs gives the interval (docs/decisions/0015 has the measured rates).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .student import critical, upper_tail

Samples = NDArray[np.float64]
Statistic = Callable[[Samples], Samples]
"""From samples of all runs together, float64 (..., samples), to one positive figure of each row of them, float64 (...)."""

LEVEL = 0.95
"""Of the intervals that are shown."""
_DRAWS = 400
"""Resamples of whole runs; the standard error itself is then known to some 4 %."""
_DRAWS_WITHIN = 100
"""Resamples within runs, which only guard against too small an error."""
_LEAST_VARIANCE = 1e-12
"""Of a logarithm: runs that are equal to the last digit leave no doubt, but the rounding of their mean must not be evidence."""
_AT_ONCE = 1 << 20
"""Samples that are resampled at once: 8 MiB."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """Second over first."""

    estimate: float
    log_error: float | None
    """Standard error of its natural logarithm; None where a side has fewer than two runs."""
    freedom: float
    """Degrees of freedom of that error (Welch and Satterthwaite); 0 where there is none."""

    def interval(self, level: float = LEVEL) -> tuple[float, float] | None:
        """Lower and upper end; None where the runs cannot tell."""
        if self.log_error is None:
            return None
        reach = critical(level, self.freedom) * self.log_error
        return self.estimate * math.exp(-reach), self.estimate * math.exp(reach)

    def chance_above(self, bound: float) -> float:
        """How likely a ratio this large or larger is found, were the true one `bound`: small is evidence for more than it."""
        return self._tail(math.log(self.estimate / bound))

    def chance_below(self, bound: float) -> float:
        """How likely a ratio this small or smaller is found, were the true one `bound`: small is evidence for less than it."""
        return self._tail(-math.log(self.estimate / bound))

    def _tail(self, distance: float) -> float:
        if self.log_error is None:
            return 1.0
        return upper_tail(distance / self.log_error, self.freedom)


def ratio_of(statistic: Statistic, first: Sequence[Samples], second: Sequence[Samples], *, seed: int = 0) -> Ratio | None:
    """Estimates the ratio of a figure of two sets of runs.

    Args:
        statistic: the figure, of all runs of a side at once.
        first: samples of each run of what is compared against.
        second: those of what is compared.
        seed: decides the resamples.

    Returns:
        None where a side has no samples or its figure is not positive.
    """
    if not _measured(first) or not _measured(second):
        return None
    figures = figure_of(statistic, first), figure_of(statistic, second)
    if min(figures) <= 0:
        return None
    estimate = figures[1] / figures[0]
    if min(len(first), len(second)) < 2:
        return Ratio(estimate, None, 0.0)
    random = np.random.default_rng(seed)
    variances = [_log_variance(statistic, runs, random) for runs in (first, second)]
    return Ratio(estimate, math.sqrt(sum(variances)), _freedom(variances, [len(first) - 1, len(second) - 1]))


def figure_of(statistic: Statistic, runs: Sequence[Samples]) -> float:
    """The figure of all runs."""
    return float(statistic(np.concatenate(runs)))


def percentile_of(percent: float) -> Statistic:
    """The plain percentile, interpolated."""

    def of(samples: Samples) -> Samples:
        place = (samples.shape[-1] - 1) * percent / 100
        below = math.floor(place)
        # Not numpy.percentile: this is the innermost loop, and partitioning alone is several times as fast.
        parted = np.partition(samples, below, axis=-1)
        lower = parted[..., below]
        if place == below:
            return np.asarray(lower)
        return np.asarray(lower + (place - below) * (parted[..., below + 1 :].min(axis=-1) - lower))

    return of


def geometric_mean(samples: Samples) -> Samples:
    """Of figures of which each run has one; 0 where one of them is not positive."""
    positive = np.all(samples > 0, axis=-1)
    mean: Samples = np.where(positive, np.exp(np.mean(np.log(np.where(samples > 0, samples, 1.0)), axis=-1)), 0.0)
    return mean


def _measured(runs: Sequence[Samples]) -> bool:
    return bool(runs) and all(len(samples) for samples in runs)


def _log_variance(statistic: Statistic, runs: Sequence[Samples], random: np.random.Generator) -> float:
    """Variance of the logarithm of a figure: the larger of what redrawing whole runs gives and what redrawing within runs gives.

    Redrawn runs already differ by the noise within them, so the two are not added; the second guards against runs that came out
    alike by luck. The factor k / (k - 1) undoes the bias of a bootstrap over k runs.
    """
    between = _redrawn_runs(statistic, runs, random)
    variance = float(np.var(np.log(between))) * len(runs) / (len(runs) - 1)
    if max(len(samples) for samples in runs) == 1:
        return max(variance, _LEAST_VARIANCE)
    at_once = max(1, _AT_ONCE // sum(map(len, runs)))
    parts = [min(at_once, _DRAWS_WITHIN - done) for done in range(0, _DRAWS_WITHIN, at_once)]
    within = [statistic(np.concatenate([_redrawn(samples, part, random) for samples in runs], axis=1)) for part in parts]
    return max(variance, float(np.var(np.log(np.concatenate(within)))), _LEAST_VARIANCE)


def _redrawn_runs(statistic: Statistic, runs: Sequence[Samples], random: np.random.Generator) -> Samples:
    """The figure of each resample of whole runs; of three runs there are but ten different ones, so none is worked out twice."""
    picks = np.sort(random.integers(len(runs), size=(_DRAWS, len(runs))), axis=1)
    drawn, which = np.unique(picks, axis=0, return_inverse=True)
    figures = np.array([figure_of(statistic, [runs[place] for place in pick]) for pick in drawn])
    every: Samples = figures[which.reshape(-1)]
    return every


def _redrawn(samples: Samples, draws: int, random: np.random.Generator) -> Samples:
    """float64 (draws, samples): blocks of neighbours (a circular block bootstrap), for neighbours in time are alike."""
    count = len(samples)
    block = math.isqrt(count)
    starts = random.integers(count, size=(draws, -(-count // block), 1))
    places = (starts + np.arange(block)).reshape(draws, -1)[:, :count] % count
    redrawn: Samples = samples[places]
    return redrawn


def _freedom(variances: Sequence[float], freedoms: Sequence[int]) -> float:
    total = sum(variances)
    return total**2 / sum(variance**2 / freedom for variance, freedom in zip(variances, freedoms, strict=True))
