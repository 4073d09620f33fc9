"""Metrics over a whole split, each in a space that has a name.

An error in standardised units and one in views are different numbers with different stories (squared errors of raw counts are
almost all tail), so no figure leaves this module without its space, and none is an average of per-batch figures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kendalltau  # type: ignore[import-untyped]
from sklearn.metrics import cohen_kappa_score, confusion_matrix, f1_score

from ..errors import DataError
from ..runtime.target import QUARTILES, Target

Metric = Callable[[ArrayLike, ArrayLike], "float | None"]
"""Truth and prediction, float (clips,) each, to one figure; None where it does not exist for them."""


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
    nmse: float | None
    """MSE over the variance of this split's truth, both in this space: 1 is what the split's own mean gets. None where R2 is."""
    pearson: float | None
    kendall: float | None
    """Tau-b, which allows for ties; None where Spearman is."""


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """How often the class is right."""

    clips: int
    accuracy: float
    macro_f1: float
    class_sizes: tuple[int, ...]
    """Clips of this split in each of the K classes of the TRAINING split; far from that split's sizes means the splits differ."""
    quadratic_kappa: float | None
    """Cohen's kappa with quadratic weights: 1 all right, 0 as good as chance. None where truth and prediction are one same class."""
    confusion: tuple[tuple[int, ...], ...]
    """Clips by true class (row) and predicted class (column), K by K."""


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


def mse(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Mean squared error."""
    true, guess = _pair(truth, predicted)
    return float(((guess - true) ** 2).mean())


def mae(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Mean absolute error."""
    true, guess = _pair(truth, predicted)
    return float(np.abs(guess - true).mean())


def nmse(truth: ArrayLike, predicted: ArrayLike) -> float | None:
    """Mean squared error over the variance of the truth; None where the truth is constant."""
    true, guess = _pair(truth, predicted)
    spread = float(((true - true.mean()) ** 2).mean())
    return mse(true, guess) / spread if spread > 0 else None


def r2(truth: ArrayLike, predicted: ArrayLike) -> float | None:
    """Share of the truth's variance that the prediction explains; None where the truth is constant."""
    share = nmse(truth, predicted)
    return None if share is None else 1 - share


def spearman(truth: ArrayLike, predicted: ArrayLike) -> float | None:
    """Rank correlation with average ranks for ties; None where either side is constant."""
    first, second = _pair(truth, predicted)
    return _correlation(_ranks(first), _ranks(second))


def pearson(truth: ArrayLike, predicted: ArrayLike) -> float | None:
    """Linear correlation; None where either side is constant."""
    return _correlation(*_pair(truth, predicted))


def kendall(truth: ArrayLike, predicted: ArrayLike) -> float | None:
    """Kendall's tau-b; None where either side is constant."""
    first, second = _pair(truth, predicted)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(kendalltau(first, second).statistic)


REGRESSION_METRICS: dict[str, Metric] = {
    "mse": mse,
    "mae": mae,
    "nmse": nmse,
    "r2": r2,
    "spearman": spearman,
    "pearson": pearson,
    "kendall": kendall,
}
"""Every figure of `RegressionMetrics`, by its name there."""


def regression_metrics(truth: ArrayLike, predicted: ArrayLike, *, space: str) -> RegressionMetrics:
    """Every metric of float (clips,) against float (clips,), both in `space`."""
    true, guess = _pair(truth, predicted)
    return RegressionMetrics(
        space=space,
        clips=true.size,
        mse=mse(true, guess),
        mae=mae(true, guess),
        r2=r2(true, guess),
        spearman=spearman(true, guess),
        nmse=nmse(true, guess),
        pearson=pearson(true, guess),
        kendall=kendall(true, guess),
    )


def both_spaces(target: Target, truth_z: ArrayLike, predicted_z: ArrayLike) -> list[RegressionMetrics]:
    """The same predictions measured in standardised units and, through the exact inverse, in target units."""
    return [
        regression_metrics(truth_z, predicted_z, space=standardised_space(target)),
        regression_metrics(target.restore(truth_z), target.restore(predicted_z), space=target.name),
    ]


def class_metrics(truth: ArrayLike, predicted: ArrayLike, *, classes: int = QUARTILES) -> ClassMetrics:
    """Figures of classes 0..K-1, int (clips,); a class with no clip in truth or prediction is left out of macro F1."""
    true, guess = np.asarray(truth, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    _same_shape(true, guess)
    return ClassMetrics(
        clips=true.size,
        accuracy=float((true == guess).mean()),
        macro_f1=float(f1_score(true, guess, average="macro")),
        class_sizes=tuple(np.bincount(true, minlength=classes).tolist()),
        quadratic_kappa=quadratic_kappa(true, guess, classes=classes),
        confusion=tuple(tuple(row) for row in confusion_matrix(true, guess, labels=range(classes)).tolist()),
    )


def quadratic_kappa(truth: ArrayLike, predicted: ArrayLike, *, classes: int = QUARTILES) -> float | None:
    """Cohen's kappa with quadratic weights of classes 0..K-1; None where truth and prediction are one same class."""
    true, guess = np.asarray(truth, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    _same_shape(true, guess)
    if np.ptp(np.concatenate([true, guess])) == 0:
        return None
    return float(cohen_kappa_score(true, guess, weights="quadratic", labels=range(classes)))


def interval_metrics(truth: ArrayLike, low: ArrayLike, high: ArrayLike, *, nominal: float, space: str) -> IntervalMetrics:
    """Coverage of `[low, high]`, float (clips,) each, in `space`; `nominal` is the share it claims to cover."""
    true, bottom = _pair(truth, low)
    _, top = _pair(truth, high)
    inside = (true >= bottom) & (true <= top)
    return IntervalMetrics(space, true.size, nominal, float(inside.mean()), float((top - bottom).mean()))


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float | None:
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    both = np.stack([first, second])
    both -= both.mean(axis=1, keepdims=True)
    scale = np.sqrt((both**2).sum(axis=1)).prod()
    return float((both[0] * both[1]).sum() / scale) if scale > 0 else None


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
