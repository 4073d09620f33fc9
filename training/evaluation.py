"""What a trained dual Transformer is worth on clips it has never seen, beside what knowing nothing is worth.

Everything is computed over the whole split. The pictures-alone and sound-alone figures mask the other modality of the same model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ..models.dual_transformer import DualTransformer
from ..runtime.target import Target
from .bootstrap import Bootstrap, ConfidenceInterval
from .fit_regressor import EmbeddedClip, LabelledClips, collate
from .metrics import (
    REGRESSION_METRICS,
    ClassMetrics,
    IntervalMetrics,
    RegressionMetrics,
    both_spaces,
    class_metrics,
    interval_metrics,
    mae,
    mse,
    regression_metrics,
    spearman,
    standardised_space,
)

MODEL = "pictures and sound"
TRAIN_MEAN = "the training mean"
"""Names of predictors; the other two are `pictures alone` and `sound alone`."""
COMPARED = ("mse", "mae", "spearman")
"""Metrics whose paired difference to the whole model is given."""
OUTLIER_PERCENTS = (0, 1, 5, 10)
_BATCH = 32
_STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Chunks seen, where the error against seconds seen is measured."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one clip after each of its N chunks, in standardised units."""

    score: NDArray[np.float64]
    """float64 (N,)."""
    quantiles: NDArray[np.float64]
    """float64 (N, Q)."""
    predicted_class: NDArray[np.int64]
    """int64 (N,): the most probable one."""
    end_s: NDArray[np.float64]
    """float64 (N,): seconds seen."""

    def index_at(self, seconds: float) -> int:
        """The last chunk that has ended when so many seconds have been seen; the first chunk where none has."""
        return max(0, int(np.searchsorted(self.end_s, seconds + 1e-6)) - 1)


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model says of the same clips, whole and with one of the modalities masked."""

    whole: Sequence[Prediction]
    pictures_alone: Sequence[Prediction]
    sound_alone: Sequence[Prediction]

    def finals(self) -> dict[str, NDArray[np.float64]]:
        """Scores after the whole clip by name of the predictor, the training mean included: float64 (clips,), standardised units."""
        return {
            MODEL: _final(self.whole),
            "pictures alone": _final(self.pictures_alone),
            "sound alone": _final(self.sound_alone),
            TRAIN_MEAN: np.zeros(len(self.whole)),
        }


@dataclass(frozen=True, slots=True)
class PrefixMetrics:
    """How good the score is after the first seconds of every clip; a clip that is over by then gives its last score."""

    seconds: float
    clips_still_running: int
    """Clips longer than this: the figures of a late prefix are mostly those of whole clips."""
    metrics: RegressionMetrics


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One split's figures. Lists of regression metrics hold one entry per space."""

    clips: int
    whole_clip: list[RegressionMetrics]
    train_mean_baseline: list[RegressionMetrics]
    """Every clip is given the training mean, which is 0 in standardised units."""
    pictures_alone: list[RegressionMetrics]
    sound_alone: list[RegressionMetrics]
    classes: ClassMetrics
    majority_class_accuracy: float
    """Accuracy of always naming the split's most frequent class."""
    interval: IntervalMetrics
    by_seconds: list[PrefixMetrics]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def predict(model: DualTransformer, clips: Sequence[EmbeddedClip], *, pictures: bool = True, sound: bool = True) -> list[Prediction]:
    """Scores every prefix of every clip.

    Args:
        model: in evaluation mode.
        clips: what to score.
        pictures: False masks them.
        sound: False masks it.
    """
    predictions = []
    with torch.inference_mode():
        for first in range(0, len(clips), _BATCH):
            part = clips[first : first + _BATCH]
            batch = collate(part)
            seen, heard = batch.visual_mask * float(pictures), batch.audio_mask * float(sound)
            output = model(*batch._replace(visual_mask=seen, audio_mask=heard))
            for row, clip in enumerate(part):
                there = slice(len(clip.end_s))
                score, quantiles = (tensor[row, there].double().numpy() for tensor in (output.score, output.quantiles))
                predicted_class = output.class_logits[row, there].argmax(dim=-1).numpy()
                predictions.append(Prediction(score, quantiles, predicted_class, clip.end_s))
    return predictions


def predict_all(model: DualTransformer, clips: Sequence[EmbeddedClip]) -> Predictions:
    """Scores every prefix of every clip by pictures and sound, by pictures alone and by sound alone; `model` in evaluation mode."""
    return Predictions(predict(model, clips), predict(model, clips, sound=False), predict(model, clips, pictures=False))


def evaluate(model: DualTransformer, labelled: LabelledClips, target: Target) -> Evaluation:
    """Every figure of one split.

    Args:
        model: in evaluation mode.
        labelled: the split's clips.
        target: as fitted on the training split.
    """
    return evaluate_predictions(predict_all(model, labelled.clips), labelled, target, model.config.quantile_levels)


def evaluate_predictions(predictions: Predictions, labelled: LabelledClips, target: Target, levels: Sequence[float]) -> Evaluation:
    """Every figure of one split from what was predicted for it; `levels` are those of the predicted quantiles."""
    whole = predictions.whole
    last = np.stack([prediction.quantiles[-1] for prediction in whole])
    counts = np.bincount(labelled.classes)
    return Evaluation(
        clips=len(whole),
        whole_clip=both_spaces(target, labelled.z, _final(whole)),
        train_mean_baseline=both_spaces(target, labelled.z, np.zeros(len(whole))),
        pictures_alone=both_spaces(target, labelled.z, _final(predictions.pictures_alone)),
        sound_alone=both_spaces(target, labelled.z, _final(predictions.sound_alone)),
        classes=class_metrics(labelled.classes, [prediction.predicted_class[-1] for prediction in whole], classes=target.classes),
        majority_class_accuracy=float(counts.max() / counts.sum()),
        interval=interval_metrics(labelled.z, last[:, 0], last[:, -1], nominal=levels[-1] - levels[0], space=standardised_space(target)),
        by_seconds=_by_seconds(whole, labelled.z, target),
    )


@dataclass(frozen=True, slots=True)
class PredictorFigures:
    """Every metric of one predictor in one space, with its interval."""

    predictor: str
    space: str
    metrics: Mapping[str, ConfidenceInterval]
    """By the names of `metrics.REGRESSION_METRICS`."""
    less_model: Mapping[str, ConfidenceInterval]
    """This predictor's metric less that of the whole model, paired, for `COMPARED`; empty for the model itself."""


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
class OutlierFigures:
    """Errors without the clips whose truth is farthest from the training mean, in one space; the predictors stay as they are."""

    space: str
    percent: float
    left_out: int
    mse: float
    mae: float
    train_mean_mse: float
    train_mean_mae: float


def predictor_figures(
    finals: Mapping[str, NDArray[np.float64]], z: NDArray[np.float64], target: Target, bootstrap: Bootstrap
) -> list[PredictorFigures]:
    """Every metric of every predictor in both spaces.

    Args:
        finals: as `Predictions.finals` gives them.
        z: float64 (clips,), the truth in standardised units.
        target: as fitted on the training split.
        bootstrap: of the same clips.
    """
    found = []
    for space, restore in ((standardised_space(target), np.asarray), (target.name, target.restore)):
        truth = restore(z)
        model = restore(finals[MODEL])
        for name, scores in finals.items():
            guess = restore(scores)
            metrics = {key: bootstrap.interval(metric, truth, guess) for key, metric in REGRESSION_METRICS.items()}
            compared = () if name == MODEL else COMPARED
            less = {key: bootstrap.difference(REGRESSION_METRICS[key], truth, guess, model) for key in compared}
            found.append(PredictorFigures(name, space, metrics, less))
    return found


def prefix_figures(
    predictions: Sequence[Prediction], z: NDArray[np.float64], bootstrap: Bootstrap, *, chunk_s: float
) -> list[PrefixFigures]:
    """Errors after 1, 2, 3, 4, 6, 8, 12, ... chunks and at last after the longest clip, in standardised units."""
    lengths = np.array([prediction.end_s[-1] for prediction in predictions])
    moments = [steps * chunk_s for steps in _STEPS if steps * chunk_s < lengths.max()]
    found = []
    for seconds in (*moments, float(lengths.max())):
        scores = np.array([prediction.score[prediction.index_at(seconds)] for prediction in predictions])
        intervals = (bootstrap.interval(metric, z, scores) for metric in (mse, mae, spearman))
        found.append(PrefixFigures(seconds, int((lengths > seconds).sum()), *intervals))
    return found


def calibration(
    predictions: Sequence[Prediction], z: NDArray[np.float64], levels: Sequence[float], bootstrap: Bootstrap
) -> list[LevelFigures]:
    """Nominal and measured level of every quantile predicted after the whole clip."""
    last = np.stack([prediction.quantiles[-1] for prediction in predictions])
    return [LevelFigures(level, bootstrap.interval(_share_below, z, last[:, column])) for column, level in enumerate(levels)]


def outlier_sensitivity(
    scores: NDArray[np.float64], z: NDArray[np.float64], target: Target, percents: Sequence[float] = OUTLIER_PERCENTS
) -> list[OutlierFigures]:
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
        order = np.argsort(np.abs(truth - mean), kind="stable")
        for percent in percents:
            left_out = int(np.ceil(percent / 100 * len(z)))
            kept = order[: len(z) - left_out]
            if len(kept):
                errors = (metric(truth[kept], guesses[kept]) for guesses in (guess, mean) for metric in (mse, mae))
                found.append(OutlierFigures(space, percent, left_out, *errors))
    return found


def _share_below(truth: ArrayLike, quantile: ArrayLike) -> float:
    return float((np.asarray(truth) <= np.asarray(quantile)).mean())


def _final(predictions: Sequence[Prediction]) -> NDArray[np.float64]:
    return np.array([prediction.score[-1] for prediction in predictions])


def _by_seconds(predictions: Sequence[Prediction], z: NDArray[np.float64], target: Target) -> list[PrefixMetrics]:
    """After 2, 4, 8, 16, ... seconds, until no clip is still running."""
    lengths = np.array([prediction.end_s[-1] for prediction in predictions])
    found, seconds = [], 2.0
    while seconds < lengths.max():
        scores = [prediction.score[prediction.index_at(seconds)] for prediction in predictions]
        metrics = regression_metrics(z, scores, space=standardised_space(target))
        found.append(PrefixMetrics(seconds, int((lengths > seconds).sum()), metrics))
        seconds *= 2
    return found
