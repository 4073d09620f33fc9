"""What a few outliers do to every error figure: each loss of simple predictors with and without the rows farthest out.

A row is far out if it is far from the mean of its space. A space is a transform of one column of labels, standardised; `none` is raw
counts in standard deviations, where one viral clip can be most of the squared error. Everything is in sample: the question is which
rows the figures consist of, not what a model is worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import DataError
from ..runtime.target import TRANSFORMS, Numbers, Target
from .label_table import read_table
from .losses import LOSSES, Loss
from .metrics import standardised_space
from .targets import fit_target

CURVE_REACH = 8.0
"""Influence curves run this many standard deviations to either side."""
CURVE_POINTS = 161


@dataclass(frozen=True, slots=True)
class LossFigure:
    """One loss of one predictor, a mean over rows, in standardised units."""

    loss: str
    whole: float
    """Over all rows."""
    without_top: float
    """Over all but those farthest out; the predictor is the same."""
    top_share: float
    """Share of the sum over all rows that those farthest out carry."""


@dataclass(frozen=True, slots=True)
class PredictorFigures:
    """How one predictor does."""

    predictor: str
    """`mean` or `median` of all rows, `linear` (least squares on the given features), or either refitted without the rows far out."""
    losses: tuple[LossFigure, ...]

    def of(self, loss: str) -> LossFigure:
        """The figure of one loss."""
        return next(figure for figure in self.losses if figure.loss == loss)


@dataclass(frozen=True, slots=True)
class SpaceFigures:
    """One transform of the column."""

    transform: str
    space: str
    """For example `standardised log1p(views)`."""
    skew: float
    max_z: float
    predictors: tuple[PredictorFigures, ...]

    def of(self, predictor: str) -> PredictorFigures:
        """The figures of one predictor."""
        return next(figures for figures in self.predictors if figures.predictor == predictor)


@dataclass(frozen=True, slots=True)
class InfluenceCurve:
    """How hard an error pulls under one loss: data for a plot."""

    loss: str
    error: tuple[float, ...]
    """In standard deviations."""
    value: tuple[float, ...]
    influence: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class OutlierStudy:
    """One column of labels under every transform and every loss."""

    column: str
    rows: int
    hidden: int
    """Rows left out because the column is not known."""
    top: float
    """Share of the rows that count as farthest out."""
    top_rows: int
    spaces: tuple[SpaceFigures, ...]
    """Transforms that the column allows, raw first."""
    refused: Mapping[str, str]
    """Transforms that it does not allow, and why: log1p where a value is negative."""
    curves: tuple[InfluenceCurve, ...]

    def of(self, transform: str) -> SpaceFigures:
        """The figures of one transform.

        Raises:
            DataError: the column does not allow it.
        """
        for figures in self.spaces:
            if figures.transform == transform:
                return figures
        raise DataError(
            f"outlier study of {self.column!r} has no {transform!r}; it has {', '.join(each.transform for each in self.spaces)}"
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def outlier_study(
    values: Numbers, *, column: str, features: Mapping[str, Numbers] | None = None, top: float = 0.01, losses: Sequence[str] = LOSSES
) -> OutlierStudy:
    """Studies one column of labels, such as `LabelTable.target` gives.

    Args:
        values: float64 (rows,), NaN where hidden.
        column: its name.
        features: float64 (rows,) each, such as `LabelTable.features` gives; None or none: no linear predictor. NaN counts as the mean.
        top: share of the rows that count as farthest out, between 0 and 1; a part of a row counts as one.
        losses: as `Loss.parse` reads them, `huber` or `huber:2`.

    Raises:
        DataError: `top` or a loss cannot be used, fewer than two known values, or all the same.
    """
    known = np.isfinite(values)
    raw = values[known]
    count = int(np.ceil(top * len(raw))) if 0 < top < 1 else 0
    if not 0 < count < len(raw):
        raise DataError(
            f"outlier study of {column!r}: expected a share between 0 and 1 that leaves rows over, got {top:g} of {len(raw)} rows"
        )
    inputs = _inputs({name: feature[known] for name, feature in (features or {}).items()}, len(raw))
    parsed = {name: Loss.parse(name) for name in losses}
    targets, refused = _targets(raw, column)
    return OutlierStudy(
        column=column,
        rows=len(raw),
        hidden=int((~known).sum()),
        top=top,
        top_rows=count,
        spaces=tuple(_space(raw, inputs, target, count, parsed) for target in targets),
        refused=refused,
        curves=tuple(influence_curve(name) for name in losses),
    )


def study_file(labels: Path, *, target: str, columns: Mapping[str, str] | None = None, top: float = 0.01) -> OutlierStudy:
    """Studies a column of a manifest or of any table that `shortcast data audit` reads; the linear predictor has its features.

    Args:
        labels: the file.
        target: the column to study.
        columns: role -> column, for columns whose names say nothing.
        top: share of the rows that count as farthest out.

    Raises:
        DataError: the file or the column cannot be used.
    """
    table = read_table(labels, columns)
    return outlier_study(table.target(target), column=target, features=table.features(target), top=top)


def influence_curve(loss: str, *, reach: float = CURVE_REACH, points: int = CURVE_POINTS) -> InfluenceCurve:
    """Value and influence of a loss from -reach to reach standard deviations."""
    error = torch.linspace(-reach, reach, points, dtype=torch.float64)
    chosen = Loss.parse(loss)
    return InfluenceCurve(loss, *(tuple(numbers.tolist()) for numbers in (error, chosen.value(error), chosen.influence(error))))


def loss_figure(name: str, loss: Loss, error: Numbers, kept: NDArray[np.bool_]) -> LossFigure:
    """One loss of errors, float64 (rows,), with and without the rows that are not `kept`, bool (rows,)."""
    each = loss.value(torch.from_numpy(error)).numpy()
    whole = float(each.sum())
    return LossFigure(name, float(each.mean()), float(each[kept].mean()), float(each[~kept].sum()) / whole if whole > 0 else 0.0)


def _targets(raw: Numbers, column: str) -> tuple[list[Target], dict[str, str]]:
    targets, refused = [Target.fit(raw, name=column, transform="none")], {}
    for transform in (name for name in TRANSFORMS if name != "none"):
        try:
            targets.append(fit_target(raw, name=column, transform=transform))
        except DataError as error:
            refused[transform] = str(error)
    return targets, refused


def _space(raw: Numbers, inputs: Numbers | None, target: Target, top_rows: int, losses: Mapping[str, Loss]) -> SpaceFigures:
    z = target.standardise(raw)
    kept = np.ones(len(z), dtype=bool)
    kept[np.argsort(np.abs(z), kind="stable")[len(z) - top_rows :]] = False
    predicted: dict[str, Numbers] = {}
    for suffix, rows in (("", slice(None)), (" without the top", kept)):
        predicted[f"mean{suffix}"] = np.full_like(z, z[rows].mean())
        predicted[f"median{suffix}"] = np.full_like(z, np.median(z[rows]))
        if inputs is not None:
            predicted[f"linear{suffix}"] = np.asarray(inputs @ np.linalg.lstsq(inputs[rows], z[rows], rcond=None)[0])
    figures = tuple(
        PredictorFigures(name, tuple(loss_figure(label, loss, guess - z, kept) for label, loss in losses.items()))
        for name, guess in predicted.items()
    )
    return SpaceFigures(target.transform, standardised_space(target), float((z**3).mean()), float(z.max()), figures)


def _inputs(features: Mapping[str, Numbers], rows: int) -> Numbers | None:
    """A constant and every feature that varies, standardised, with NaN at the mean: float64 (rows, 1 + features)."""
    columns = [np.ones(rows)]
    for feature in features.values():
        there = np.isfinite(feature)
        if there.any() and np.ptp(feature[there]) > 0:
            columns.append(np.where(there, (feature - feature[there].mean()) / feature[there].std(), 0.0))
    return np.stack(columns, axis=1) if len(columns) > 1 else None
