"""When scores are settled, measured on the validation clips: clips that the weights were not fitted to, though they chose the epoch."""

from __future__ import annotations

from collections.abc import Sequence

from ..runtime.intervals import ConformalIntervals
from ..runtime.settling import Settling
from ..runtime.settling_fit import LEAST_CLIPS, ClipPath, fit_settling, lengths_of
from .evaluation import Prediction, with_margins


def settling_of(predictions: Sequence[Prediction], intervals: ConformalIntervals) -> Settling | None:
    """The settling table of a new model; None where there are too few clips to promise anything.

    Args:
        predictions: of the validation clips, as `predict` gives them.
        intervals: the margins that scores come with.
    """
    if len(predictions) < LEAST_CLIPS:
        return None
    paths = [
        ClipPath(said.score, said.quantiles[:, [0, -1]], said.class_probabilities, said.end_s)
        for said in with_margins(predictions, intervals)
    ]
    return fit_settling(paths, {"source": f"the {len(paths)} validation clips of its training", **lengths_of(paths)})
