"""Conformal margins on made data whose right answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from shortcast.runtime.intervals import ConformalIntervals, IntervalMargin
from shortcast.runtime.target import Target
from shortcast.training.conformal import conformal_margin, fit_intervals
from shortcast.training.evaluation import Prediction, Predictions, evaluate_predictions, with_margins
from shortcast.training.labelled import LabelledClips

LEVELS = (0.05, 0.5, 0.95)
NORMAL_90 = 1.6449
"""Half the width of the central 90 % of a standard normal."""


def a_prediction(centre: float, chunks: int, half: float) -> Prediction:
    """What is said narrows as the clip goes on, though the truth does not."""
    halves = half / np.sqrt(np.arange(1, chunks + 1))
    quantiles = centre + np.stack([-halves, np.zeros(chunks), halves], axis=1)
    return Prediction(np.full(chunks, centre), quantiles, np.zeros(chunks, dtype=np.int64), 2.0 * np.arange(1, chunks + 1))


def made(clips: int, seed: int, *, half: float) -> tuple[list[Prediction], np.ndarray]:
    """Exchangeable clips: truth is the centre and standard normal noise."""
    draw = np.random.default_rng(seed)
    centres, lengths = draw.normal(size=clips), draw.integers(1, 10, size=clips)
    return [a_prediction(c, int(n), half) for c, n in zip(centres, lengths, strict=True)], centres + draw.normal(size=clips)


@pytest.mark.parametrize("half", [0.3, 1.0, 4.0])
def test_every_bucket_covers_what_it_claims_and_the_quantiles_alone_do_not(half: float) -> None:
    intervals = fit_intervals(*made(3000, 1, half=half), LEVELS)
    said, z = made(20_000, 2, half=half)
    target = Target("likes", "none", 0.0, 1.0, (0.0,))
    figures = evaluate_predictions(Predictions(said, said, said), LabelledClips([], z, target.class_of(z)), target, LEVELS, intervals)
    assert [row.chunks for row in figures.coverage] == [1, 2, 3, 4, 6, 8, None]
    for row in figures.coverage:
        calibrated = next(margin.clips for margin in intervals.margins if margin.chunks == row.chunks)
        # Both the rank among the calibration clips and the share of the test clips vary, as binomials do; three deviations of each.
        slack = 3 * np.sqrt(0.9 * 0.1 * (1 / calibrated + 1 / row.conformal.clips))
        assert abs(row.conformal.coverage - 0.9) < slack
        assert row.conformal.mean_width == pytest.approx(2 * NORMAL_90, rel=0.2) or row.chunks is None
    first = figures.coverage[0]
    assert first.predicted.coverage < 0.75 if half < NORMAL_90 else first.predicted.coverage > 0.99
    assert (first.margin_z > 0) == (half < NORMAL_90)


def test_the_share_covered_over_many_calibrations_is_the_nominal_one() -> None:
    draw = np.random.default_rng(0)
    shares = []
    for _ in range(2000):
        noise = np.abs(draw.normal(size=20))
        margin = conformal_margin(noise, np.zeros(20), np.zeros(20), 0.9)
        shares.append(np.mean(np.abs(draw.normal(size=50)) <= margin))
    assert 0.9 - 0.005 < np.mean(shares) < 0.9 + 1 / 21 + 0.005  # at least nominal, at most 1 / (m + 1) above


def test_the_margin_is_the_rank_of_the_paper() -> None:
    truth = np.arange(1.0, 20.0)  # 19 clips: rank ceil(20 * 0.9) = 18
    assert conformal_margin(truth, np.zeros(19), np.zeros(19), 0.9) == 18.0
    assert conformal_margin([0.0] * 19, np.full(19, -3.0), np.full(19, 2.0), 0.9) == -2.0
    assert conformal_margin(-truth, np.zeros(19), np.zeros(19), 0.9) == 18.0


@pytest.mark.parametrize(("clips", "exists"), [(8, False), (9, True)])
def test_too_few_clips_for_the_rank_make_no_margin(clips: int, exists: bool) -> None:
    margin = conformal_margin(np.arange(clips), np.zeros(clips), np.zeros(clips), 0.9)
    assert margin == (clips - 1 if exists else None)


def test_a_bucket_with_too_few_clips_is_not_made_and_the_one_before_it_stands() -> None:
    lengths = [1] * 10 + [2] * 9 + [5] * 8
    said = [a_prediction(0.0, length, 1.0) for length in lengths]
    intervals = fit_intervals(said, np.linspace(-2, 2, len(said)), LEVELS)
    assert [(row.chunks, row.clips) for row in intervals.margins] == [(1, 27), (2, 17), (None, 27)]
    assert intervals.margin(5, final=False) == intervals.margin(2, final=False)
    assert fit_intervals(said[:8], np.zeros(8), LEVELS).margins == ()


def test_a_bucket_looks_at_its_own_prefix_alone() -> None:
    said = [a_prediction(0.0, 3, 1.0) for _ in range(30)]
    spoilt = [Prediction(p.score, np.vstack([p.quantiles[:2], [[-9.0, 0.0, 9.0]]]), p.predicted_class, p.end_s) for p in said]
    z = np.linspace(-2, 2, 30)
    before, after = fit_intervals(said, z, LEVELS).margins, fit_intervals(spoilt, z, LEVELS).margins
    assert before[:2] == after[:2]
    assert after[2].margin_z < -5 > after[3].margin_z
    assert isinstance(before[0], IntervalMargin)


def test_predictions_with_margins_have_the_ends_that_scores_come_with() -> None:
    intervals = ConformalIntervals(0.9, (IntervalMargin(1, 0.5, 9), IntervalMargin(2, -9.0, 9), IntervalMargin(None, 0.25, 9)))
    said = a_prediction(1.0, 3, 1.0)
    (moved,) = with_margins([said], intervals)
    np.testing.assert_allclose(moved.quantiles[:, 0], [-0.5, 1.0, 0.75 - 3**-0.5])
    np.testing.assert_allclose(moved.quantiles[:, 2], [2.5, 1.0, 1.25 + 3**-0.5])
    assert (moved.quantiles[:, 1] == 1.0).all()
    assert said.quantiles[0, 0] == 0.0
