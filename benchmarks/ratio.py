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
Statistic = Callable[[Sequence[Samples]], float]
"""From the samples of each run, float64 (samples,), to one positive figure."""

LEVEL = 0.95
"""Of the intervals that are shown."""
_DRAWS = 400
"""Resamples; the standard error itself is then known to some 4 %."""


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
        if self.log_error == 0:
            return 0.0 if distance > 0 else 1.0
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
    figures = statistic(first), statistic(second)
    if min(figures) <= 0:
        return None
    estimate = figures[1] / figures[0]
    if min(len(first), len(second)) < 2:
        return Ratio(estimate, None, 0.0)
    random = np.random.default_rng(seed)
    variances = [_log_variance(statistic, runs, random) for runs in (first, second)]
    return Ratio(estimate, math.sqrt(sum(variances)), _freedom(variances, [len(first) - 1, len(second) - 1]))


def percentile_of(percent: float) -> Statistic:
    """The plain percentile of the samples of all runs together."""

    def of(runs: Sequence[Samples]) -> float:
        return float(np.percentile(np.concatenate(runs), percent))

    return of


def geometric_mean(runs: Sequence[Samples]) -> float:
    """Of figures of which each run has one."""
    values = np.concatenate(runs)
    return float(np.exp(np.mean(np.log(values)))) if np.all(values > 0) else 0.0


def _measured(runs: Sequence[Samples]) -> bool:
    return bool(runs) and all(len(samples) for samples in runs)


def _log_variance(statistic: Statistic, runs: Sequence[Samples], random: np.random.Generator) -> float:
    """Variance of the logarithm of a figure: the larger of what redrawing whole runs gives and what redrawing within runs gives.

    Redrawn runs already differ by the noise within them, so the two are not added; the second guards against runs that came out
    alike by luck. The factor k / (k - 1) undoes the bias of a bootstrap over k runs.
    """
    between = [statistic([runs[pick] for pick in random.integers(len(runs), size=len(runs))]) for _ in range(_DRAWS)]
    variance = float(np.var(np.log(between))) * len(runs) / (len(runs) - 1)
    if max(len(samples) for samples in runs) == 1:
        return variance
    within = [statistic([_redrawn(samples, random) for samples in runs]) for _ in range(_DRAWS)]
    return max(variance, float(np.var(np.log(within))))


def _redrawn(samples: Samples, random: np.random.Generator) -> Samples:
    """Blocks of neighbours, as many as give the same count (a circular block bootstrap): neighbours in time are alike."""
    count = len(samples)
    block = math.isqrt(count)
    starts = random.integers(count, size=-(-count // block))
    places = (starts[:, None] + np.arange(block)).reshape(-1)[:count] % count
    redrawn: Samples = samples[places]
    return redrawn


def _freedom(variances: Sequence[float], freedoms: Sequence[int]) -> float:
    total = sum(variances)
    if total == 0:
        return float(min(freedoms))
    return total**2 / sum(variance**2 / freedom for variance, freedom in zip(variances, freedoms, strict=True))
