"""Settling tables from validation predictions, as training makes them."""

from dataclasses import replace

import numpy as np

from shortcast.runtime.intervals import ConformalIntervals, IntervalMargin
from shortcast.training.evaluation import Prediction
from shortcast.training.settled import settling_of

INTERVALS = ConformalIntervals(0.9, (IntervalMargin(1, 0.5, 40), IntervalMargin(None, -0.25, 40)))


def predictions(clips: int) -> list[Prediction]:
    """Clips of eight chunks that say the same throughout; the margin of the whole clip alone moves the interval's ends."""
    quantiles = np.tile([-1.0, 0.0, 1.0], (8, 1))
    likely = np.tile([0.2, 0.8], (8, 1))
    one = Prediction(np.zeros(8), quantiles, np.ones(8, dtype=np.int64), 2.0 * np.arange(1, 9), likely)
    return [replace(one, score=np.full(8, number / 100)) for number in range(clips)]


def test_the_table_is_of_intervals_with_their_margins() -> None:
    made = settling_of(predictions(40), INTERVALS)
    assert made is not None
    assert made.provenance == {"source": "the 40 validation clips of its training", "shortest_s": 16.0, "median_s": 16.0, "longest_s": 16.0}
    by_kind = {rule.kind: rule.rows for rule in made.rules}
    assert [(row.stopped, row.kept) for row in by_kind["class"]] == [(40, 40)]
    # From [-1.5, 1.5] to [-0.75, 0.75]: a quarter of the width, which is more than a fifth.
    assert [(row.stopped, row.kept) for row in by_kind["interval"]] == [(40, 0)]


def test_too_few_clips_make_none() -> None:
    assert settling_of(predictions(29), INTERVALS) is None
