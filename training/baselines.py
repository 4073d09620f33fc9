"""What a score has to beat: predictors fitted on the training split that look at little or nothing of a clip.

All of them predict in standardised units. None can see a held-out label: `predict` takes `UnlabelledClips`, which have none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from ..errors import DataError
from .labelled import EmbeddedClip, LabelledClips
from .metrics import RegressionMetrics

_ALPHAS = np.logspace(-2, 5, 29)
"""Ridge penalties tried on standardised features; the best by leave-one-out over the training clips is taken."""
_PICTURES, _SOUND = "pictures", "sound"

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class UnlabelledClips:
    """Clips and who posted each: what a baseline may look at."""

    clips: Sequence[EmbeddedClip]
    authors: Sequence[str | None]
    """None where the author is not known."""

    def __post_init__(self) -> None:
        if len(self.authors) != len(self.clips):
            raise DataError(f"baselines: {len(self.clips)} clips and {len(self.authors)} authors; expected one each, None if not known")


class Baseline(Protocol):
    """A fitted predictor."""

    @property
    def name(self) -> str: ...
    def predict(self, clips: UnlabelledClips) -> Numbers:
        """Scores in standardised units, float64 (clips,)."""


@dataclass(frozen=True, slots=True)
class BaselineFigures:
    """What a baseline is worth on one split."""

    predictor: str
    kind: str
    """What sort of predictor it is, in words; see `training.studies`."""
    metrics: list[RegressionMetrics]
    """One entry per space."""


@dataclass(frozen=True, slots=True)
class Constant:
    """The same score for every clip."""

    name: str
    value: float

    def predict(self, clips: UnlabelledClips) -> Numbers:
        return np.full(len(clips.clips), self.value)


@dataclass(frozen=True, slots=True)
class AuthorMean:
    """The mean of an author's training clips, drawn towards the training mean the fewer they are.

    An author of n clips counts n / (n + `prior_clips`), the best linear predictor of a one-way random effects model.
    """

    name: str
    train_mean: float
    by_author: Mapping[str, float]
    """Shrunken mean of every training author."""
    prior_clips: float
    """Variance within authors over variance between them; infinite where the training clips do not tell authors apart."""

    def predict(self, clips: UnlabelledClips) -> Numbers:
        return np.array([self._of(author) for author in clips.authors])

    def known(self, clips: UnlabelledClips) -> int:
        """Clips whose author is among the training authors; the others get the training mean."""
        return sum(author is not None and author in self.by_author for author in clips.authors)

    def _of(self, author: str | None) -> float:
        return self.train_mean if author is None else self.by_author.get(author, self.train_mean)


@dataclass(frozen=True, slots=True)
class Pooled:
    """What a ridge looks at: one row for a clip."""

    modalities: tuple[str, ...] = ()
    """Of `pictures` and `sound`: the mean embedding of the chunks that have it, and a flag that any has. None: the duration."""

    def rows(self, clips: Sequence[EmbeddedClip]) -> Numbers:
        """Features, float64 (clips, F); NaN where a clip lacks the modality."""
        return np.stack([self._row(clip) for clip in clips])

    def _row(self, clip: EmbeddedClip) -> Numbers:
        if not self.modalities:
            return np.array([np.log1p(clip.end_s[-1])])
        found = {_PICTURES: (clip.visual, clip.visual_mask), _SOUND: (clip.audio, clip.audio_mask)}
        return np.concatenate([_mean_of_present(*found[modality]) for modality in self.modalities])


@dataclass(frozen=True, slots=True)
class Ridge:
    """Linear regression with an L2 penalty on standardised features; what a clip lacks counts as the training clips' mean."""

    name: str
    inputs: Pooled
    mean: Numbers
    """float64 (F,), over the training clips that have the feature."""
    scale: Numbers
    """float64 (F,): standard deviation over the same clips; 1 where there is none."""
    coefficients: Numbers
    """float64 (F,)."""
    intercept: float
    alpha: float
    """The penalty that was chosen."""

    def predict(self, clips: UnlabelledClips) -> Numbers:
        if not clips.clips:
            return np.zeros(0)
        features = _standardised(self.inputs.rows(clips.clips), self.mean, self.scale)
        return np.asarray(features @ self.coefficients + self.intercept)


def fit_baselines(train: LabelledClips, authors: Sequence[str | None]) -> tuple[Baseline, ...]:
    """Fits every baseline on the training split.

    Args:
        train: the training split.
        authors: who posted each of its clips; None where that is not known.

    Returns:
        Training mean and median, author mean (only where an author is known), ridge on the logarithm of the duration, and ridge on
        pooled embeddings: pictures, sound, and both.

    Raises:
        DataError: there are fewer than 2 clips, a target is not finite, or the authors are not one for each clip.
    """
    if len(train.clips) < 2 or train.z.shape != (len(train.clips),) or not np.isfinite(train.z).all():
        raise DataError(f"baselines: expected 2 training clips or more and a finite target each, got {len(train.clips)} clips")
    clips = UnlabelledClips(train.clips, authors)
    ridges = {
        "ridge on duration": Pooled(),
        "ridge on pooled pictures": Pooled((_PICTURES,)),
        "ridge on pooled sound": Pooled((_SOUND,)),
        "ridge on pooled pictures and sound": Pooled((_PICTURES, _SOUND)),
    }
    return (
        Constant("the training mean", float(train.z.mean())),
        Constant("the training median", float(np.median(train.z))),
        *([_fit_author_mean(clips, train.z)] if any(author is not None for author in authors) else []),
        *(_fit_ridge(name, inputs, train) for name, inputs in ridges.items()),
    )


def _fit_author_mean(clips: UnlabelledClips, z: Numbers) -> AuthorMean:
    groups: dict[str, list[float]] = defaultdict(list)
    for author, value in zip(clips.authors, z, strict=True):
        if author is not None:
            groups[author].append(float(value))
    mean, prior = float(z.mean()), _prior_clips([np.array(group) for group in groups.values()])
    shrunken = {
        author: mean if np.isinf(prior) else mean + len(group) / (len(group) + prior) * (float(np.mean(group)) - mean)
        for author, group in groups.items()
    }
    return AuthorMean("author mean", mean, shrunken, prior)


def _prior_clips(groups: Sequence[Numbers]) -> float:
    """Variance within groups over variance between them, both by the method of moments for groups of unequal size."""
    sizes = np.array([len(group) for group in groups])
    count, spare = int(sizes.sum()), int(sizes.sum()) - len(groups)
    if len(groups) < 2 or spare < 1:
        return float("inf")  # every author has one clip, or all clips have one author: nothing tells the two variances apart
    whole = float(np.concatenate(groups).mean())
    within = sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / spare
    around = sum(len(group) * (float(group.mean()) - whole) ** 2 for group in groups) / (len(groups) - 1)
    typical = (count - float((sizes**2).sum()) / count) / (len(groups) - 1)
    between = (around - within) / typical
    return within / between if between > 0 else float("inf")


def _fit_ridge(name: str, inputs: Pooled, train: LabelledClips) -> Ridge:
    rows = inputs.rows(train.clips)
    mean, scale = _moments(rows)
    model = RidgeCV(alphas=_ALPHAS).fit(_standardised(rows, mean, scale), train.z)
    return Ridge(name, inputs, mean, scale, np.asarray(model.coef_), float(model.intercept_), float(model.alpha_))


def _mean_of_present(embeddings: NDArray[np.float32], mask: NDArray[np.bool_]) -> Numbers:
    """Embeddings (N, D), mask (N,) -> float64 (D + 1,): the mean of the chunks present, or NaN, and a flag that there are any."""
    if not mask.any():
        return np.append(np.full(embeddings.shape[1], np.nan), 0.0)
    return np.append(embeddings[mask].mean(axis=0, dtype=np.float64), 1.0)


def _moments(rows: Numbers) -> tuple[Numbers, Numbers]:
    present = ~np.isnan(rows)
    count = np.maximum(present.sum(axis=0), 1)
    mean = np.where(present, rows, 0.0).sum(axis=0) / count
    deviation = np.sqrt(np.where(present, (rows - mean) ** 2, 0.0).sum(axis=0) / count)
    return mean, np.where(deviation > 1e-12 * (1.0 + np.abs(mean)), deviation, 1.0)


def _standardised(rows: Numbers, mean: Numbers, scale: Numbers) -> Numbers:
    return np.asarray(np.where(np.isnan(rows), 0.0, (rows - mean) / scale))
