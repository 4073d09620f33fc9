"""What outliers do to the errors of predictors: every loss with and without the clips farthest out; the predictors stay as they are.

A clip is far out if its truth is far from the training mean in the space that is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..runtime.target import Target
from .losses import LOSSES, Loss
from .metrics import mae, mse, standardised_space
from .outliers import InfluenceCurve, LossFigure, influence_curve, loss_figure
from .studies import Predictor

OUTLIER_PERCENTS = (0, 1, 5, 10)
"""Where the share of the error that is left is measured."""
TOP_PERCENTS = (1.0, 5.0, 10.0)
_REACH = 4.0
"""Influence curves of the report run this many standard deviations to either side: farther out, the squared error hides the others."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OutlierFigures:
    """Errors without the clips whose truth is farthest from the training mean, in one space."""

    space: str
    percent: float
    left_out: int
    mse: float
    mae: float
    train_mean_mse: float
    train_mean_mae: float


@dataclass(frozen=True, slots=True)
class LossesWithoutTop:
    """Every loss of one predictor with and without the clips farthest out, in one space."""

    predictor: str
    kind: str
    space: str
    unit: str
    """One unit of error, in which the losses' own parameters are given."""
    percent: float
    left_out: int
    losses: tuple[LossFigure, ...]


@dataclass(frozen=True, slots=True)
class OutlierErrors:
    """The whole study."""

    rows: tuple[LossesWithoutTop, ...]
    curves: tuple[InfluenceCurve, ...]
    """How hard an error pulls under each loss."""


def outlier_sensitivity(scores: Numbers, z: Numbers, target: Target, percents: Sequence[float] = OUTLIER_PERCENTS) -> list[OutlierFigures]:
    """MSE and MAE without the clips farthest out, in both spaces.

    Args:
        scores: float64 (clips,), predictions in standardised units.
        z: float64 (clips,), the truth in standardised units.
        target: as fitted on the training split.
        percents: of the clips left out, rounded up to whole clips; one that would leave none is passed over.
    """
    found = []
    for space, restore in ((standardised_space(target), np.asarray), (target.name, target.restore)):
        truth, guess, mean = restore(z), restore(scores), restore(np.zeros_like(z))
        for percent in percents:
            kept = _kept(truth - mean, percent)
            if kept.any():
                errors = (metric(truth[kept], guesses[kept]) for guesses in (guess, mean) for metric in (mse, mae))
                found.append(OutlierFigures(space, percent, int((~kept).sum()), *errors))
    return found


def outlier_errors(
    predictors: Sequence[Predictor], z: Numbers, target: Target, *, percents: Sequence[float] = TOP_PERCENTS
) -> OutlierErrors:
    """Every loss of every predictor, in standardised units and raw, with and without the clips farthest out.

    Raw errors are given in standard deviations of the raw truth of these clips, for a loss such as Huber's needs a unit.

    Args:
        predictors: on the same clips.
        z: float64 (clips,), the truth in standardised units.
        target: as fitted on the training split.
        percents: of the clips left out, rounded up to whole clips.

    Raises:
        DataError: a percentage is not between 0 and 100, or leaves no clip.
    """
    for percent in percents:
        if not 0 < percent < 100 or not _kept(z, percent).any():
            raise DataError(f"outliers: expected percentages above 0 that leave clips over, got {percent:g} of {len(z)} clips")
    losses = {name: Loss.parse(name) for name in LOSSES}
    raw = target.restore(z)
    spread = float(raw.std()) or 1.0
    spaces = (
        (standardised_space(target), "standard deviations of the training split", np.asarray, 1.0),
        (target.name, f"standard deviations of these clips ({_readable(spread)} {target.name})", target.restore, spread),
    )
    rows = []
    for space, unit, restore, scale in spaces:
        truth, mean = restore(z), restore(np.zeros_like(z))
        for predictor in predictors:
            error = (restore(predictor.scores) - truth) / scale
            for percent in percents:
                kept = _kept(truth - mean, percent)
                figures = tuple(loss_figure(name, loss, error, kept) for name, loss in losses.items())
                rows.append(LossesWithoutTop(predictor.name, predictor.kind, space, unit, percent, int((~kept).sum()), figures))
    return OutlierErrors(tuple(rows), tuple(influence_curve(name, reach=_REACH) for name in LOSSES))


def _kept(distance: Numbers, percent: float) -> NDArray[np.bool_]:
    """All but the given percentage of clips that are farthest out, rounded up to whole clips: bool (clips,)."""
    kept = np.ones(len(distance), dtype=bool)
    left_out = int(np.ceil(percent / 100 * len(distance)))
    kept[np.argsort(np.abs(distance), kind="stable")[len(distance) - left_out :]] = False
    return kept


def _readable(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.4g}"
