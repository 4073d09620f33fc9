"""What a trained dual Transformer is worth on clips it has never seen, beside what knowing nothing is worth.

Everything is computed over the whole split. The pictures-alone and sound-alone figures mask the other modality of the same model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..models.dual_transformer import DualTransformer, FusionOutput
from ..runtime.intervals import ConformalIntervals
from ..runtime.target import Target
from .labelled import EmbeddedClip, LabelledClips, collate, prefixes
from .metrics import (
    ClassMetrics,
    IntervalMetrics,
    RegressionMetrics,
    both_spaces,
    class_metrics,
    interval_metrics,
    regression_metrics,
    standardised_space,
)

_BATCH = 32
STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
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
    class_probabilities: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    """float64 (N, K); `predict` gives them, most figures do without."""

    def index_at(self, seconds: float) -> int:
        """The last chunk that has ended when so many seconds have been seen; the first chunk where none has."""
        return max(0, int(np.searchsorted(self.end_s, seconds + 1e-6)) - 1)


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model says of the same clips, whole and with one of the modalities masked."""

    whole: Sequence[Prediction]
    pictures_alone: Sequence[Prediction]
    sound_alone: Sequence[Prediction]


@dataclass(frozen=True, slots=True)
class PrefixMetrics:
    """How good the score is after the first seconds of every clip; a clip that is over by then gives its last score."""

    seconds: float
    clips_still_running: int
    """Clips longer than this: the figures of a late prefix are mostly those of whole clips."""
    metrics: RegressionMetrics


@dataclass(frozen=True, slots=True)
class PrefixCoverage:
    """How often the interval holds after so many chunks, over the clips that have as many."""

    chunks: int | None
    """None: whole clips."""
    margin_z: float
    """The conformal margin, in standardised units."""
    predicted: IntervalMetrics
    """Between the outermost predicted quantiles."""
    conformal: IntervalMetrics
    """With the margin, as it is given with a score."""


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
    """Between the outermost predicted quantiles, after the whole clip."""
    coverage: list[PrefixCoverage]
    """With and without the conformal margin; a bucket that no clip of the split reaches is left out."""
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
    shown = [(number, one) for number, clip in enumerate(clips) for one in prefixes(clip, model.config.window)]
    said: list[list[FusionOutput]] = [[] for _ in clips]
    with torch.inference_mode():
        for first in range(0, len(shown), _BATCH):
            part = shown[first : first + _BATCH]
            batch = collate([one.clip for _, one in part])
            seen, heard = batch.visual_mask * float(pictures), batch.audio_mask * float(sound)
            output = model(*batch._replace(visual_mask=seen, audio_mask=heard))
            for row, (number, one) in enumerate(part):
                there = slice(len(one.clip.end_s) - one.scored, len(one.clip.end_s))
                said[number].append(FusionOutput(*(tensor[row, there] for tensor in output)))
    return [_prediction(outputs, clip.end_s) for outputs, clip in zip(said, clips, strict=True)]


def _prediction(outputs: Sequence[FusionOutput], end_s: NDArray[np.float64]) -> Prediction:
    """Joins what was said of a clip's prefixes, in order."""
    score, quantiles, logits = (torch.cat([getattr(output, name) for output in outputs]) for name in ("score", "quantiles", "class_logits"))
    probabilities = logits.double().softmax(dim=-1).numpy()
    return Prediction(score.double().numpy(), quantiles.double().numpy(), logits.argmax(dim=-1).numpy(), end_s, probabilities)


def predict_all(model: DualTransformer, clips: Sequence[EmbeddedClip]) -> Predictions:
    """Scores every prefix of every clip by pictures and sound, by pictures alone and by sound alone; `model` in evaluation mode."""
    return Predictions(predict(model, clips), predict(model, clips, sound=False), predict(model, clips, pictures=False))


def evaluate(model: DualTransformer, labelled: LabelledClips, target: Target, intervals: ConformalIntervals | None = None) -> Evaluation:
    """Every figure of one split.

    Args:
        model: in evaluation mode.
        labelled: the split's clips.
        target: as fitted on the training split.
        intervals: as fitted on the validation split; None measures no coverage by prefix.
    """
    return evaluate_predictions(predict_all(model, labelled.clips), labelled, target, model.config.quantile_levels, intervals)


def evaluate_predictions(
    predictions: Predictions,
    labelled: LabelledClips,
    target: Target,
    levels: Sequence[float],
    intervals: ConformalIntervals | None = None,
) -> Evaluation:
    """Every figure of one split from what was predicted for it; `levels` are those of the predicted quantiles."""
    whole = predictions.whole
    last = np.stack([prediction.quantiles[-1] for prediction in whole])
    counts = np.bincount(labelled.classes)
    return Evaluation(
        clips=len(whole),
        whole_clip=both_spaces(target, labelled.z, final_scores(whole)),
        train_mean_baseline=both_spaces(target, labelled.z, np.zeros(len(whole))),
        pictures_alone=both_spaces(target, labelled.z, final_scores(predictions.pictures_alone)),
        sound_alone=both_spaces(target, labelled.z, final_scores(predictions.sound_alone)),
        classes=class_metrics(labelled.classes, [prediction.predicted_class[-1] for prediction in whole], classes=target.classes),
        majority_class_accuracy=float(counts.max() / counts.sum()),
        interval=interval_metrics(labelled.z, last[:, 0], last[:, -1], nominal=levels[-1] - levels[0], space=standardised_space(target)),
        coverage=[] if intervals is None else list(_coverage(whole, labelled.z, intervals, standardised_space(target))),
        by_seconds=_by_seconds(whole, labelled.z, target),
    )


def final_scores(predictions: Sequence[Prediction]) -> NDArray[np.float64]:
    """Scores after the whole of each clip: float64 (clips,), standardised units."""
    return np.array([prediction.score[-1] for prediction in predictions])


def with_margins(predictions: Sequence[Prediction], intervals: ConformalIntervals) -> list[Prediction]:
    """The same predictions with their outermost quantiles where a score's interval has them, after every chunk."""
    return [replace(said, quantiles=_moved(said.quantiles, intervals)) for said in predictions]


def _moved(quantiles: NDArray[np.float64], intervals: ConformalIntervals) -> NDArray[np.float64]:
    moved = quantiles.copy()
    for index, row in enumerate(moved):
        row[[0, -1]] = intervals.apply(float(row[0]), float(row[-1]), chunks=index + 1, final=index + 1 == len(moved))
    return moved


def _coverage(
    predictions: Sequence[Prediction], z: NDArray[np.float64], intervals: ConformalIntervals, space: str
) -> Iterator[PrefixCoverage]:
    for row in intervals.margins:
        reached = [(said, truth) for said, truth in zip(predictions, z, strict=True) if len(said.score) >= (row.chunks or 1)]
        if not reached:
            continue
        seen, final = row.chunks or 1, row.chunks is None
        ends = [said.quantiles[-1 if final else seen - 1, [0, -1]].tolist() for said, _ in reached]
        moved = [intervals.apply(low, high, chunks=seen, final=final) for low, high in ends]
        truth = [value for _, value in reached]
        predicted, conformal = (
            interval_metrics(truth, *zip(*pairs, strict=True), nominal=intervals.coverage, space=space) for pairs in (ends, moved)
        )
        yield PrefixCoverage(row.chunks, row.margin_z, predicted, conformal)


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
