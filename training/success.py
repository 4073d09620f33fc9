"""The rule by which made clips succeed, and the most that anybody can predict of it.

    log(1 + views) = 9 + sum of w * u(factor) + 0.45 * u(motion) * u(energy)
                       + author + noise + outlier

where u centres a factor and divides by its standard deviation, 0.5 and 1/sqrt(12), or for `speech`, which is 1 in 65 %
of clips with sound and 0 in the others, 0.65 and 0.48:

    seen             motion 0.60, brightness 0.48, warmth 0.45
    heard            tempo 0.38, energy 0.50, speech 0.50, hook 0.40 (the share of sentences that are hooks, where somebody speaks)
    no effect        cuts, timbre, voice, length, size, frame rate
    not in the clip  author N(0, 0.25), noise N(0, 0.55), and for one clip in a hundred an outlier of +2.5

A factor that a clip doesn't have adds nothing: pictures of a black clip, sound of a clip without a track or with a silent one, hooks
where nobody speaks. A still picture has motion 0. So the median clip has some 7,600 views, the distribution is log-normal with a
heavy upper tail, and nobody who sees and hears a clip can explain more of log(1 + views) than `ceiling_r2` says: 0.80, or 0.37
from pictures alone and 0.34 from sound alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .clips import ClipRow
from .metrics import spearman
from .soundtrack import slots

SEEN = {"motion": 0.60, "brightness": 0.48, "warmth": 0.45}
HEARD = {"tempo": 0.38, "energy": 0.50, "speech": 0.50, "hook": 0.40}
"""Weights in log views per standard deviation of the factor."""
MOTION_X_ENERGY = 0.45
BASE_LOG_VIEWS = 9.0
AUTHOR_STD, NOISE_STD = 0.25, 0.55
OUTLIER_SHARE, OUTLIER_LOG_VIEWS = 0.01, 2.5

SHORTEST_S, LONGEST_S = 4.0, 20.0
"""Lengths are even on a logarithmic scale."""
SPEECH_SHARE = 0.65
"""Of the clips with sound."""
BLACK_SHARE, STILL_SHARE = 0.03, 0.04
NO_TRACK_SHARE, SILENT_SHARE = 0.08, 0.02
CLIPS_PER_AUTHOR = 6

Given = Literal["both", "seen", "heard"]
"""What a predictor has of a clip."""
Table = Mapping[str, NDArray[np.float64]]
"""Factors by name, each float64 (clips,), NaN where a clip doesn't have one."""


@dataclass(frozen=True, slots=True)
class Factors:
    """The latent factors of one clip, in [0, 1]; None where the clip doesn't have one."""

    motion: float | None
    brightness: float | None
    warmth: float | None
    cuts: float | None
    tempo: float | None
    energy: float | None
    timbre: float | None
    speech: float | None
    """1 where somebody speaks, 0 where nobody does."""
    hook: float | None
    """The share of sentences that are hooks."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The best any predictor can do that knows the rule but neither author, noise nor outliers."""

    r2: float
    """Expected share of the variance of log(1 + views) explained."""
    spearman: float
    """Expected rank correlation with views."""


def expected_log_views(factors: Table, given: Given = "both") -> NDArray[np.float64]:
    """The best guess of log(1 + views) that the rule allows.

    Args:
        factors: every factor of the rule, float64 (clips,), NaN where missing.
        given: what of the clip is known. What is not known averages to nothing, as every factor is centred.

    Returns:
        float64 (clips,).
    """
    weights = {**(SEEN if given != "heard" else {}), **(HEARD if given != "seen" else {})}
    guess = sum((weight * _centred(name, factors[name]) for name, weight in weights.items()), np.asarray(BASE_LOG_VIEWS))
    if given == "both":
        guess = guess + MOTION_X_ENERGY * _centred("motion", factors["motion"]) * _centred("energy", factors["energy"])
    return np.asarray(guess)


def ceiling_r2(given: Given = "both") -> float:
    """The R2 in log(1 + views) that no predictor can pass on endless data, from the rule's own variances."""
    pictures, track = 1 - BLACK_SHARE, 1 - NO_TRACK_SHARE - SILENT_SHARE
    # A still picture has motion 0, which is sqrt(3) standard deviations below the middle.
    motion_square = pictures - STILL_SHARE + 3 * STILL_SHARE
    motion_variance = motion_square - 3 * STILL_SHARE**2
    lengths = SHORTEST_S * (LONGEST_S / SHORTEST_S) ** ((np.arange(1000) + 0.5) / 1000)
    # k hooks of n sentences, k uniform over 0..n, so the share varies by (n + 2) / 12n and not by 1/12.
    hook_variance = float(np.mean([(slots(s) + 2) / slots(s) for s in lengths]))
    spread = {
        "motion": motion_variance,
        **dict.fromkeys(("brightness", "warmth"), pictures),
        **dict.fromkeys(("tempo", "energy", "speech"), track),
        "hook": track * SPEECH_SHARE * hook_variance,
    }
    seen, heard = (sum(weight**2 * spread[name] for name, weight in part.items()) for part in (SEEN, HEARD))
    signal = seen + heard + motion_square * track * MOTION_X_ENERGY**2
    return {"both": signal, "seen": seen, "heard": heard}[given] / (signal + _unseen_variance())


def ceiling(rows: Sequence[ClipRow], given: Given = "both") -> Ceiling:
    """The ceiling for these very clips, from their factors: what is expected over fresh draws of author, noise and outliers.

    Args:
        rows: made clips, as in their manifest.
        given: what of a clip the predictor has.

    Raises:
        DataError: fewer than two rows, or a row without factors.
    """
    if len(rows) < 2 or any("factors" not in row.columns for row in rows):
        raise DataError("a ceiling needs at least two made clips, each with its factors")
    factors = factor_table([row.columns["factors"] for row in rows])
    signal, guess = expected_log_views(factors), expected_log_views(factors, given)
    r2 = 1 - ((signal - guess).var() + _unseen_variance()) / (signal.var() + _unseen_variance())
    rng = np.random.default_rng(0)
    ranks = [spearman(signal + _unseen(rng, len(rows)), guess) or 0.0 for _ in range(64)]
    return Ceiling(float(r2), float(np.mean(ranks)))


def _centred(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    mean, variance = (SPEECH_SHARE, SPEECH_SHARE * (1 - SPEECH_SHARE)) if name == "speech" else (0.5, 1 / 12)
    return np.nan_to_num((values - mean) / math.sqrt(variance), nan=0.0)


def factor_table(factors: Sequence[Mapping[str, Any]]) -> Table:
    """The factors the rule reads, by name; None becomes NaN."""
    return {name: np.array([clip[name] for clip in factors], np.float64) for name in (*SEEN, *HEARD)}


def _unseen_variance() -> float:
    return AUTHOR_STD**2 + NOISE_STD**2 + OUTLIER_SHARE * (1 - OUTLIER_SHARE) * OUTLIER_LOG_VIEWS**2


def _unseen(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    authors = rng.normal(0, AUTHOR_STD, count // CLIPS_PER_AUTHOR + 1).repeat(CLIPS_PER_AUTHOR)[:count]
    return np.asarray(authors + rng.normal(0, NOISE_STD, count) + OUTLIER_LOG_VIEWS * (rng.random(count) < OUTLIER_SHARE))
