"""Studies of what predictors say of one split: every metric with its interval, paired comparisons, error against seconds, calibration.

All of it is computed over the whole split, in a space that is named, and never averaged per batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..runtime.target import Target
from .bootstrap import Bootstrap, ConfidenceInterval
from .evaluation import STEPS, Prediction
from .metrics import REGRESSION_METRICS, mae, mse, spearman, standardised_space

MODEL = "pictures and sound"
TRAIN_MEAN = "the training mean"
"""Names of two predictors that every evaluation has."""
COMPARED = ("mse", "mae", "r2", "spearman")
"""Metrics in which the model is compared with every other predictor."""
FITTED = "fitted on the training split"
"""Kind of the predictors in `baselines.json`."""
VIDEO = "a video network trained on the pictures of the training split"
"""Kind of the networks of `video_comparison`."""
WHOLE, MASKED, ONE_MODALITY = "the model", "the same model, one modality masked", "trained on one modality"
ABLATION = (WHOLE, MASKED, ONE_MODALITY)
"""Kinds of predictors that show what each modality is worth."""
LENGTH = "length strategy"
"""Kind of the model's variants that treat clips of unequal length in another way."""


@dataclass(frozen=True, slots=True)
class Predictor:
    """What one predictor says of the clips after the whole of each."""

    name: str
    kind: str
    """What sort of predictor it is and what it was trained on, in words: one of `ABLATION`, or another."""
    scores: NDArray[np.float64]
    """float64 (clips,), in standardised units."""


@dataclass(frozen=True, slots=True)
class PredictorFigures:
    """Every metric of one predictor in one space, with its interval."""

    predictor: str
    kind: str
    space: str
    metrics: Mapping[str, ConfidenceInterval]
    """By the names of `metrics.REGRESSION_METRICS`."""
    model_less: Mapping[str, ConfidenceInterval]
    """The model's metric less that of this predictor, paired, for `COMPARED`; empty for the model itself."""


@dataclass(frozen=True, slots=True)
class PrefixFigures:
    """How good the score is after some seconds, in standardised units; a clip that is over by then gives its last score."""

    seconds: float
    clips_still_running: int
    mse: ConfidenceInterval
    mae: ConfidenceInterval
    spearman: ConfidenceInterval


@dataclass(frozen=True, slots=True)
class LevelFigures:
    """How often the truth lies at or below a predicted quantile; the same in every space, for transforms keep order."""

    nominal: float
    measured: ConfidenceInterval


@dataclass(frozen=True, slots=True)
class CoverageFigures:
    """How often the predicted interval holds the truth after some seconds; a clip that is over by then gives its last interval."""

    intervals: str
    """Which ones: `as predicted`, or with what was added to them."""
    seconds: float
    clips_still_running: int
    nominal: float
    measured: ConfidenceInterval
    mean_width: float
    """In standardised units."""


def predictor_figures(
    predictors: Sequence[Predictor], z: NDArray[np.float64], target: Target, bootstrap: Bootstrap
) -> list[PredictorFigures]:
    """Every metric of every predictor in both spaces, each beside the first predictor, which is the model.

    Args:
        predictors: the model, then what it is compared with.
        z: float64 (clips,), the truth in standardised units.
        target: as fitted on the training split.
        bootstrap: of the same clips; every predictor is measured on the same draws.
    """
    found = []
    for space, restore in ((standardised_space(target), np.asarray), (target.name, target.restore)):
        truth = restore(z)
        measured = [bootstrap.replicates(REGRESSION_METRICS, truth, restore(predictor.scores)) for predictor in predictors]
        for predictor, own in zip(predictors, measured, strict=True):
            metrics = {name: bootstrap.summary(replicates) for name, replicates in own.items()}
            compared = COMPARED if own is not measured[0] else ()
            less = {name: bootstrap.summary(measured[0][name] - own[name]) for name in compared}
            found.append(PredictorFigures(predictor.name, predictor.kind, space, metrics, less))
    return found


def prefix_figures(
    predictions: Sequence[Prediction], z: NDArray[np.float64], bootstrap: Bootstrap, *, chunk_s: float
) -> list[PrefixFigures]:
    """Errors after 1, 2, 3, 4, 6, 8, 12, ... chunks and at last after the longest clip, in standardised units."""
    lengths = np.array([prediction.end_s[-1] for prediction in predictions])
    found = []
    for seconds in moments(lengths, chunk_s=chunk_s):
        scores = np.array([prediction.score[prediction.index_at(seconds)] for prediction in predictions])
        intervals = (bootstrap.interval(metric, z, scores) for metric in (mse, mae, spearman))
        found.append(PrefixFigures(seconds, int((lengths > seconds).sum()), *intervals))
    return found


def coverage_figures(
    predictions: Sequence[Prediction],
    z: NDArray[np.float64],
    bootstrap: Bootstrap,
    *,
    intervals: str,
    nominal: float,
    chunk_s: float,
) -> list[CoverageFigures]:
    """Coverage and width of the interval from the lowest to the highest quantile, at the moments of `prefix_figures`.

    Args:
        predictions: of the clips, with their outermost quantiles where the interval ends.
        z: float64 (clips,), the truth in standardised units.
        bootstrap: of the same clips.
        intervals: what these intervals are called in the report.
        nominal: share of the clips that the interval claims to hold.
        chunk_s: length of a chunk.
    """
    lengths = np.array([prediction.end_s[-1] for prediction in predictions])
    found = []
    for seconds in moments(lengths, chunk_s=chunk_s):
        ends = np.stack([prediction.quantiles[prediction.index_at(seconds), [0, -1]] for prediction in predictions])
        inside = ((z >= ends[:, 0]) & (z <= ends[:, 1])).astype(np.float64)
        measured = bootstrap.interval(_share, inside, inside)
        width = float((ends[:, 1] - ends[:, 0]).mean())
        found.append(CoverageFigures(intervals, seconds, int((lengths > seconds).sum()), nominal, measured, width))
    return found


def moments(lengths: NDArray[np.float64], *, chunk_s: float) -> list[float]:
    """Seconds seen at which figures are given: the ends of chunks, ever farther apart, and the end of the longest clip."""
    return [*(steps * chunk_s for steps in STEPS if steps * chunk_s < lengths.max()), float(lengths.max())]


def calibration(
    predictions: Sequence[Prediction], z: NDArray[np.float64], levels: Sequence[float], bootstrap: Bootstrap
) -> list[LevelFigures]:
    """Nominal and measured level of every quantile predicted after the whole clip."""
    last = np.stack([prediction.quantiles[-1] for prediction in predictions])
    return [LevelFigures(level, bootstrap.interval(_share_below, z, last[:, column])) for column, level in enumerate(levels)]


def _share_below(truth: ArrayLike, quantile: ArrayLike) -> float:
    return float((np.asarray(truth) <= np.asarray(quantile)).mean())


def _share(inside: ArrayLike, _same: ArrayLike) -> float:
    return float(np.asarray(inside).mean())
