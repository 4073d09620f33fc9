"""Fits the conformal margins of the outermost quantiles on clips that the weights were not fitted to.

Split conformal: were calibration and later clips exchangeable, intervals would cover at least the nominal share of them. Here that is
approximate. The validation clips calibrate and have also chosen the epoch; and what is exchangeable is the clip, while clips of one
author are alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..runtime.intervals import ConformalIntervals, IntervalMargin
from .evaluation import STEPS, Prediction


def fit_intervals(predictions: Sequence[Prediction], z: NDArray[np.float64], levels: Sequence[float]) -> ConformalIntervals:
    """The margin of every prefix length, and of whole clips.

    A bucket of n chunks is calibrated on what was said after n chunks of each clip that has as many. One with too few clips for its
    rank to exist (90 % needs 9) is not made: the bucket before it stands.

    Args:
        predictions: of the calibration clips.
        z: float64 (clips,), their targets in standardised units.
        levels: the quantile levels; the outermost two are the interval's ends.
    """
    coverage = round(levels[-1] - levels[0], 9)
    lengths = [len(prediction.score) for prediction in predictions]
    rows = []
    for chunks in (*(step for step in STEPS if step <= max(lengths)), None):
        reached = [(said, truth) for said, truth in zip(predictions, z, strict=True) if chunks is None or len(said.score) >= chunks]
        ends = np.array([said.quantiles[-1 if chunks is None else chunks - 1, [0, -1]] for said, _ in reached])
        margin = conformal_margin([truth for _, truth in reached], ends[:, 0], ends[:, 1], coverage)
        if margin is not None:
            rows.append(IntervalMargin(chunks, margin, len(reached)))
    return ConformalIntervals(coverage, tuple(rows))


def conformal_margin(truth: ArrayLike, low: ArrayLike, high: ArrayLike, coverage: float) -> float | None:
    """The ceil((m + 1) coverage)-th smallest of how far each of m truths lies outside its interval, inside counting as negative.

    Args:
        truth: float (m,).
        low: float (m,), the interval's lower ends.
        high: float (m,), its upper ends.
        coverage: the share that is to be covered.

    Returns:
        What to add at both ends; None where m is too small for that rank to exist.
    """
    true = np.asarray(truth, dtype=np.float64)
    outside = np.sort(np.maximum(np.asarray(low) - true, true - np.asarray(high)))
    rank = ceil(round((len(outside) + 1) * coverage, 9))
    return float(outside[rank - 1]) if rank <= len(outside) else None
