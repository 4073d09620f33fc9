"""What samples say, and whether there are enough of them to say it. No sample is ever left out.

Percentiles are given twice: as the value that is found there, and as the early-stopping estimate of MLPerf's LoadGen, which is at least
the true percentile with 99 % confidence, whatever the distribution. Where there are too few samples for the second there is no number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from statistics import fmean, median, stdev

from .results import Run, Series

CONFIDENCE = 0.99
"""That the early-stopping estimate isn't below the true percentile."""
PERCENTS = (50.0, 90.0, 95.0, 99.0)
"""Those that are shown."""
STABLE_WITHIN = 0.10
"""How far a run's last windows may be apart: largest over smallest, less 1."""
_NOT_QUERIES = ("audit", "tried")
_WINDOWS, _COMPARED = 5, 3
_LEAST_IN_WINDOW = 3


@dataclass(frozen=True, slots=True)
class Percentile:
    """One percentile of n samples."""

    percent: float
    plain: float | None
    """The sample that has this share of all at or below it, by the lower index, not interpolated; None where there are no samples."""
    guaranteed: float | None
    """At least the true percentile with 99 % confidence; None where there are fewer samples than `needed`."""
    needed: int

    @property
    def said(self) -> str:
        """`12.3`, or `insufficient (needs 662)`."""
        return f"insufficient (needs {self.needed:,})" if self.guaranteed is None else f"{self.guaranteed:.4g}"


@dataclass(frozen=True, slots=True)
class Summary:
    """Samples in a few numbers."""

    count: int
    mean: float
    median: float
    least: float
    most: float
    variation: float | None
    """Standard deviation over mean; None for a single sample."""


def percentile(samples: Sequence[float], percent: float) -> Percentile:
    """Both estimates of one percentile.

    Args:
        samples: in any order.
        percent: 50, 90, 99 or 99.9: inside (0, 100).
    """
    ordered, needed = sorted(samples), needed_samples(percent)
    if not ordered:
        return Percentile(percent, None, None, needed)
    above = int(_share_above(percent) * len(ordered) + 1e-9)
    discarded = largest_tail(len(ordered), percent)
    guaranteed = ordered[len(ordered) - discarded] if discarded else None
    return Percentile(percent, ordered[max(0, len(ordered) - 1 - above)], guaranteed, needed)


@lru_cache(maxsize=4096)
def largest_tail(samples: int, percent: float) -> int:
    """The largest t with P[Binomial(n, 1 - p) <= t] <= 1 %, or 0 where not even 1 is that unlikely.

    Were the t-th largest sample below the percentile, at most t - 1 samples would be above it, and so few are that improbable.
    """
    share, total, tail = _share_above(percent), 0.0, -1
    for count in range(samples + 1):
        total += math.exp(_log_binomial(samples, count, share))
        if total > 1 - CONFIDENCE + 1e-12:
            break
        tail = count
    return max(0, tail)


@lru_cache(maxsize=4096)
def exceeds_by_chance(samples: int, over: int, percent: float) -> float:
    """How probable so many samples or more are above a bound that really is the percentile."""
    share = _share_above(percent)
    return 1.0 - math.fsum(math.exp(_log_binomial(samples, count, share)) for count in range(over)) if over else 1.0


@lru_cache(maxsize=64)
def needed_samples(percent: float) -> int:
    """The fewest samples for which there's an early-stopping estimate: 11, 64, 130, 662 for the 50th, 90th, 95th and 99th percentile."""
    low, high = 1, 2
    while not largest_tail(high, percent):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if largest_tail(middle, percent) else (middle, high)
    return high


def summarise(samples: Sequence[float]) -> Summary | None:
    """None where there are no samples."""
    if not samples:
        return None
    mean = fmean(samples)
    variation = stdev(samples) / mean if len(samples) > 1 and mean else None
    return Summary(len(samples), mean, median(samples), min(samples), max(samples), variation)


def pooled(runs: Iterable[Run], name: str) -> tuple[float, ...]:
    """The samples of all repeats, in order."""
    return tuple(value for run in runs for value in run.samples(name))


def between_runs(runs: Iterable[Run], name: str) -> float | None:
    """How far repeats are apart: largest over smallest of their medians, less 1; None for fewer than two repeats."""
    medians = [median(samples) for run in runs if (samples := run.samples(name))]
    return max(medians) / min(medians) - 1 if len(medians) > 1 and min(medians) > 0 else None


def throughput(run: Run) -> float:
    """Clips a second by the wall; chunks a second where no whole clips were scored."""
    return (run.clips or run.chunks) / run.wall_s if run.wall_s > 0 else 0.0


def drift(times: Sequence[float], work: Sequence[float] = ()) -> float | None:
    """How far the last three of five windows are apart, in time for the same work: largest over smallest, less 1.

    None for too few samples to say; a window that took no time is infinitely far from the others.

    Args:
        times: in the order they were taken: how long each took, or how long after the one before it was done.
        work: how much each was; left out where all are alike.
    """
    size = len(times) // _WINDOWS
    if size < _LEAST_IN_WINDOW:
        return None
    spent, done = (_windows(values, size) for values in (times, work or [1.0] * len(times)))
    last = [sum(taken) / sum(of) for taken, of in zip(spent, done, strict=True)][-_COMPARED:]
    return max(last) / min(last) - 1 if min(last) > 0 else math.inf


def drifts(run: Run) -> dict[str, float]:
    """The queries of a run whose last windows are further apart than is stable, and how far.

    What is judged is what was asked, one after the other: engines, stages, whole clips, these per second of theirs. Of clips scored at once
    it is how fast they were finished. Where queries come at random, waiting times vary by right; and the answer to one chunk depends on its
    place in the clip, which is judged as a whole.
    """
    media, found = run.samples("media"), {}
    for series in run.series:
        values: Sequence[float] = series.values
        if series.name == "finished":
            values = [after - before for before, after in pairwise((0.0, *values))]
        elif series.unit != "ms" or series.measured_from == "schedule" or series.name == "answer" or series.name.startswith(_NOT_QUERIES):
            continue
        whole = series.name in ("clip", "finished") and len(media) == len(values)
        apart = drift(values, media if whole else ())
        if apart is not None and apart > STABLE_WITHIN:
            found[series.name] = apart
    return found


def named(series: Iterable[Series], name: str) -> Series | None:
    """The series with this name."""
    return next((one for one in series if one.name == name), None)


def _windows(values: Sequence[float], size: int) -> list[Sequence[float]]:
    """The last windows that can be filled, in order; what is left over is at the beginning."""
    start = len(values) - _WINDOWS * size
    return [values[start + k * size : start + (k + 1) * size] for k in range(_WINDOWS)]


def _share_above(percent: float) -> float:
    return (100.0 - percent) / 100.0


def _log_binomial(n: int, k: int, share: float) -> float:
    """The logarithm of P[Binomial(n, share) = k]."""
    choose = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return choose + k * math.log(share) + (n - k) * math.log1p(-share)
