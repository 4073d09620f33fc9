"""Grouped k-fold cross-validation of the whole pipeline: every clip is predicted once, by models that saw nothing of it or its like.

For every fold the autoencoder and the regressor are trained afresh on the other folds, a grouped sixth of which chooses the epoch. The
folds' predictions are pooled, so that there is one set of figures over all clips; what a fold alone would have said shows the spread.
Each fold has its own target (mean, deviation and class edges of its own training clips). Pooled figures in standardised units are in
those of the final model's target.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..runtime.target import Target
from .bootstrap import Bootstrap
from .clips import ClipRow
from .evaluation import Predictions, final_scores
from .metrics import (
    REGRESSION_METRICS,
    ClassMetrics,
    IntervalMetrics,
    RegressionMetrics,
    both_spaces,
    class_metrics,
    interval_metrics,
    standardised_space,
)
from .run import replace_file
from .splits import Near, Split, count_groups, grouped_folds
from .studies import MODEL, TRAIN_MEAN, Predictor, PredictorFigures, predictor_figures

REPORT_FORMAT = "shortcast-folds/1"
_KINDS = {
    MODEL: "the model of each fold",
    "pictures alone": "the same models, sound masked",
    "sound alone": "the same models, pictures masked",
    TRAIN_MEAN: "of each fold's own training clips",
}
_VALIDATION = 6
"""One in so many of a fold's training clips chooses the epoch."""


@dataclass(frozen=True, slots=True)
class FoldOptions:
    """How clips are dealt, and how sure figures are made."""

    folds: int
    kind: str
    """What is kept together, such as `author+duplicate`; or `random`."""
    seed: int = 0
    resamples: int = 1000
    level: float = 0.95


@dataclass(frozen=True, slots=True)
class FoldResult:
    """What the models of one fold say of the clips they have not seen."""

    target: Target
    """As fitted on the fold's own training clips."""
    levels: tuple[float, ...]
    """Of the predicted quantiles."""
    predictions: Predictions
    """Of the split's test clips, in their order; in the units of `target`."""


FitFold = Callable[[int, Split], FoldResult]
"""Trains one fold, numbered from 1: `train` to learn from, `val` to choose the epoch, `test` to predict."""


@dataclass(frozen=True, slots=True)
class FoldFigures:
    """One fold alone. Lists hold an entry for each space; standardised units are those of the final model's target."""

    fold: int
    """1-based."""
    train: int
    val: int
    held_out: int
    model: list[RegressionMetrics]
    train_mean: list[RegressionMetrics]
    """Every clip is given the mean of the fold's own training clips."""


@dataclass(frozen=True, slots=True)
class Spread:
    """One metric of the whole model over the folds in which it exists."""

    space: str
    metric: str
    folds: int
    mean: float
    std: float
    """Sample standard deviation; 0 where only one fold has the metric."""
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """One clip, in target units."""

    id: str
    fold: int
    truth: float
    predicted: float


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """Figures over every clip, each predicted by models that did not see it."""

    kind: str
    """`grouped by author and duplicate`, or `random`."""
    clips: int
    authors: int
    """Clusters that the bootstrap drew from: authors, and clips whose author is not known."""
    resamples: int
    level: float
    seed: int
    predictors: tuple[PredictorFigures, ...]
    """Pooled: every predictor in both spaces, with intervals by author."""
    classes: ClassMetrics | None
    """Pooled: true and predicted classes by the edges of each fold's own training clips. None where ties gave some folds fewer classes."""
    interval: IntervalMetrics
    folds: tuple[FoldFigures, ...]
    spread: tuple[Spread, ...]
    out_of_fold: tuple[OutOfFold, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain JSON with a version."""
        return {"format": REPORT_FORMAT, **asdict(self)}

    def to_card(self) -> dict[str, Any]:
        """Everything but the single clips."""
        return {name: value for name, value in self.to_json().items() if name != "out_of_fold"}


def fold_kind(split: str, rows: Sequence[ClipRow]) -> str:
    """What folds keep together under a `--split`: its own keys, or authors (where known) and near-duplicates for one without keys."""
    if split not in ("auto", "manifest", "time"):
        return split
    return "author+duplicate" if any(row.author is not None for row in rows) else "duplicate"


def fold_splits(rows: Sequence[ClipRow], options: FoldOptions, near: Near | None = None) -> tuple[Split, ...]:
    """One split for each fold: it is the test part, and a sixth of the rest, of whole groups again, the validation part.

    Raises:
        DataError: the kind needs what the manifest has not, or there are too few groups.
    """
    name = options.kind if options.kind == "random" else f"grouped by {' and '.join(dict.fromkeys(options.kind.split('+')))}"
    splits = []
    for fold in grouped_folds(rows, folds=options.folds, seed=options.seed, kind=options.kind, near=near):
        others = {*fold.train}
        rest = [row for row in rows if row.id in others]
        parts = min(_VALIDATION, count_groups(rest, options.kind, near))
        if parts < 2:
            raise DataError(f"{options.folds} folds leave one group ({options.kind}) to train and validate with; it takes two")
        inner = grouped_folds(rest, folds=parts, seed=options.seed, kind=options.kind, near=near)[-1]
        splits.append(Split(name, inner.train, inner.held_out, fold.held_out))
    return tuple(splits)


def cross_validate(
    rows: Sequence[ClipRow],
    *,
    options: FoldOptions,
    values: Mapping[str, float],
    target: Target,
    fit: FitFold,
    report: Path,
    near: Near | None = None,
) -> CrossValidation:
    """Trains and predicts fold after fold, and writes the pooled figures.

    Args:
        rows: clips that can be read.
        options: see `FoldOptions`.
        values: the target of every clip, in its own units.
        target: gives the standardised units of the pooled figures.
        fit: trains a fold; it resumes by itself what was interrupted.
        report: the JSON file to write, whole.
        near: which clips show the same pictures.

    Raises:
        DataError: the clips cannot be dealt like that, or the report cannot be written.
    """
    splits = fold_splits(rows, options, near)
    results = [fit(number, split) for number, split in enumerate(splits, start=1)]
    found = pooled(rows, splits, results, options=options, values=values, target=target)
    try:
        report.parent.mkdir(parents=True, exist_ok=True)
        replace_file(report, (json.dumps(found.to_json(), indent=2, allow_nan=False) + "\n").encode())
    except OSError as error:
        raise DataError(f"{report} cannot be written: {error.strerror}") from error
    return found


def pooled(
    rows: Sequence[ClipRow],
    splits: Sequence[Split],
    results: Sequence[FoldResult],
    *,
    options: FoldOptions,
    values: Mapping[str, float],
    target: Target,
) -> CrossValidation:
    """The figures of all folds together, and of each; see `cross_validate`."""
    ids = [clip for split in splits for clip in split.test]
    truth = np.array([values[clip] for clip in ids])
    authors = {row.id: row.author for row in rows}
    bootstrap = Bootstrap([authors[clip] for clip in ids], resamples=options.resamples, level=options.level, seed=options.seed)
    finals = [_in_units_of(target, result) for result in results]
    together = [Predictor(name, _KINDS[name], np.concatenate([one[name] for one in finals])) for name in finals[0]]
    folds = tuple(
        _fold_figures(number, split, one, values, target) for number, (split, one) in enumerate(zip(splits, finals, strict=True), 1)
    )
    return CrossValidation(
        kind=splits[0].kind,
        clips=len(ids),
        authors=len(bootstrap.groups),
        resamples=options.resamples,
        level=options.level,
        seed=options.seed,
        predictors=tuple(predictor_figures(together, target.standardise(truth), target, bootstrap)),
        classes=_classes(splits, results, values),
        interval=_interval(splits, results, values, target),
        folds=folds,
        spread=tuple(_spread(folds)),
        out_of_fold=tuple(_single_clips(splits, results, values)),
    )


def _in_units_of(target: Target, result: FoldResult) -> dict[str, NDArray[np.float64]]:
    """Final scores by predictor, the model first, from the fold's standardised units to those of another target."""
    said = result.predictions
    finals = {
        MODEL: final_scores(said.whole),
        "pictures alone": final_scores(said.pictures_alone),
        "sound alone": final_scores(said.sound_alone),
        TRAIN_MEAN: np.zeros(len(said.whole)),
    }
    return {name: target.standardise(result.target.restore(scores)) for name, scores in finals.items()}


def _truth(split: Split, values: Mapping[str, float]) -> NDArray[np.float64]:
    return np.array([values[clip] for clip in split.test])


def _fold_figures(
    number: int, split: Split, finals: Mapping[str, NDArray[np.float64]], values: Mapping[str, float], target: Target
) -> FoldFigures:
    z = target.standardise(_truth(split, values))
    model, mean = (both_spaces(target, z, finals[name]) for name in (MODEL, TRAIN_MEAN))
    return FoldFigures(number, len(split.train), len(split.val), len(split.test), model, mean)


def _classes(splits: Sequence[Split], results: Sequence[FoldResult], values: Mapping[str, float]) -> ClassMetrics | None:
    counts = {result.target.classes for result in results}
    if len(counts) > 1:
        return None
    truth = np.concatenate([result.target.class_of(_truth(split, values)) for split, result in zip(splits, results, strict=True)])
    predicted = [one.predicted_class[-1] for result in results for one in result.predictions.whole]
    return class_metrics(truth, predicted, classes=counts.pop())


def _interval(splits: Sequence[Split], results: Sequence[FoldResult], values: Mapping[str, float], target: Target) -> IntervalMetrics:
    low, high = (
        np.concatenate(
            [target.standardise(result.target.restore([one.quantiles[-1, at] for one in result.predictions.whole])) for result in results]
        )
        for at in (0, -1)
    )
    truth = target.standardise(np.concatenate([_truth(split, values) for split in splits]))
    levels = results[0].levels
    return interval_metrics(truth, low, high, nominal=levels[-1] - levels[0], space=standardised_space(target))


def _spread(folds: Sequence[FoldFigures]) -> Iterator[Spread]:
    for space, entries in enumerate(zip(*(fold.model for fold in folds), strict=True)):
        for metric in REGRESSION_METRICS:
            found = [number for entry in entries if (number := getattr(entry, metric)) is not None]
            if found:
                std = float(np.std(found, ddof=1)) if len(found) > 1 else 0.0
                yield Spread(folds[0].model[space].space, metric, len(found), float(np.mean(found)), std, min(found), max(found))


def _single_clips(splits: Sequence[Split], results: Sequence[FoldResult], values: Mapping[str, float]) -> Iterator[OutOfFold]:
    for number, (split, result) in enumerate(zip(splits, results, strict=True), start=1):
        predicted = result.target.restore(final_scores(result.predictions.whole))
        for clip, score in zip(split.test, predicted, strict=True):
            yield OutOfFold(clip, number, values[clip], float(score))
