"""Metrics over a whole split, each in a space that has a name.

An error in standardised units and one in views are different numbers with different stories (squared errors of raw counts are
almost all tail), so no figure leaves this module without its space, and none is an average of per-batch figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import f1_score

from ..errors import DataError
from ..runtime.target import Target

QUARTILES = 4


@dataclass(frozen=True, slots=True)
class RegressionMetrics:
    """How far predictions are from the truth, in one space."""

    space: str
    """For example `standardised log1p(views)` or `views`."""
    clips: int
    mse: float
    mae: float
    r2: float | None
    """None where the truth is constant, for which R2 does not exist."""
    spearman: float | None
    """None where truth or prediction is constant, for which a rank correlation does not exist."""


@dataclass(frozen=True, slots=True)
class QuartileMetrics:
    """How often the quartile is right."""

    clips: int
    accuracy: float
    macro_f1: float
    class_sizes: tuple[int, int, int, int]
    """Clips of this split in each quartile of the TRAINING split; far from even means the splits differ."""


@dataclass(frozen=True, slots=True)
class IntervalMetrics:
    """How often the truth falls inside a predicted interval, and how wide that is."""

    space: str
    clips: int
    nominal: float
    coverage: float
    mean_width: float


def standardised_space(target: Target) -> str:
    """The name of z: `standardised log1p(views)`, or `standardised views` where there is no transform."""
    inner = target.name if target.transform == "none" else f"{target.transform}({target.name})"
    return f"standardised {inner}"


def spearman(truth: ArrayLike, predicted: ArrayLike) -> float | None:
    """Rank correlation with average ranks for ties; None where either side is constant."""
    first, second = _pair(truth, predicted)
    ranks = np.stack([_ranks(first), _ranks(second)])
    ranks -= ranks.mean(axis=1, keepdims=True)
    scale = np.sqrt((ranks**2).sum(axis=1).prod())
    return float((ranks[0] * ranks[1]).sum() / scale) if scale > 0 else None


def regression_metrics(truth: ArrayLike, predicted: ArrayLike, *, space: str) -> RegressionMetrics:
    """MSE, MAE, R2 and Spearman of float (clips,) against float (clips,), both in `space`."""
    true, guess = _pair(truth, predicted)
    error = guess - true
    spread = float(((true - true.mean()) ** 2).mean())
    mse = float((error**2).mean())
    return RegressionMetrics(
        space=space,
        clips=true.size,
        mse=mse,
        mae=float(np.abs(error).mean()),
        r2=1 - mse / spread if spread > 0 else None,
        spearman=spearman(true, guess),
    )


def both_spaces(target: Target, truth_z: ArrayLike, predicted_z: ArrayLike) -> list[RegressionMetrics]:
    """The same predictions measured in standardised units and, through the exact inverse, in target units."""
    return [
        regression_metrics(truth_z, predicted_z, space=standardised_space(target)),
        regression_metrics(target.restore(truth_z), target.restore(predicted_z), space=target.name),
    ]


def quartile_metrics(truth: ArrayLike, predicted: ArrayLike) -> QuartileMetrics:
    """Accuracy and macro F1 of quartiles 0..3, int (clips,); a quartile with no clip in truth or prediction is left out of macro F1."""
    true, guess = np.asarray(truth, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    _same_shape(true, guess)
    sizes = np.bincount(true, minlength=QUARTILES)
    return QuartileMetrics(
        clips=true.size,
        accuracy=float((true == guess).mean()),
        macro_f1=float(f1_score(true, guess, average="macro")),
        class_sizes=(int(sizes[0]), int(sizes[1]), int(sizes[2]), int(sizes[3])),
    )


def interval_metrics(truth: ArrayLike, low: ArrayLike, high: ArrayLike, *, nominal: float, space: str) -> IntervalMetrics:
    """Coverage of `[low, high]`, float (clips,) each, in `space`; `nominal` is the share it claims to cover."""
    true, bottom = _pair(truth, low)
    _, top = _pair(truth, high)
    inside = (true >= bottom) & (true <= top)
    return IntervalMetrics(space, true.size, nominal, float(inside.mean()), float((top - bottom).mean()))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((counts.cumsum() - (counts - 1) / 2)[inverse])


def _pair(truth: ArrayLike, other: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = np.asarray(truth, dtype=np.float64), np.asarray(other, dtype=np.float64)
    _same_shape(first, second)
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise DataError("metrics: every truth and prediction must be a finite number")
    return first, second


def _same_shape(first: NDArray[Any], second: NDArray[Any]) -> None:
    if first.ndim != 1 or first.shape != second.shape or first.size == 0:
        raise DataError(f"metrics: expected two equal non-empty shapes (clips,), got {first.shape} and {second.shape}")
