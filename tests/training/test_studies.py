"""Studies of predictions whose answer can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from shortcast.runtime.target import Target
from shortcast.training.bootstrap import Bootstrap
from shortcast.training.evaluation import Prediction
from shortcast.training.metrics import REGRESSION_METRICS
from shortcast.training.studies import COMPARED, Predictor, calibration, coverage_figures, predictor_figures, prefix_figures

TARGET = Target("views", "log1p", 5.0, 2.0, (20.0, 150.0, 600.0))


def prediction(scores: list[float], quantiles: list[float] | None = None) -> Prediction:
    """Chunks of 2 s."""
    count = len(scores)
    each = np.tile(quantiles if quantiles is not None else [-1.0, 0.0, 1.0], (count, 1))
    return Prediction(np.array(scores), each, np.zeros(count, dtype=np.int64), 2.0 * np.arange(1, count + 1))


def test_every_predictor_has_every_metric_in_both_spaces_beside_the_model() -> None:
    z = np.array([-1.0, 0.0, 0.5, 2.0])
    predictors = (
        Predictor("good", "a", 0.9 * z),
        Predictor("bad", "b", -z),
        Predictor("same", "a", 0.9 * z),
        Predictor("zero", "c", 0 * z),
    )
    found = predictor_figures(predictors, z, TARGET, Bootstrap([None] * 4, resamples=20))
    assert [figures.space for figures in found] == ["standardised log1p(views)"] * 4 + ["views"] * 4
    model, bad, same, zero = found[:4]
    assert [(figures.predictor, figures.kind) for figures in found[4:]] == [("good", "a"), ("bad", "b"), ("same", "a"), ("zero", "c")]
    assert all(set(figures.metrics) == set(REGRESSION_METRICS) for figures in found)
    assert model.model_less == {}
    assert set(zero.model_less) == set(COMPARED)
    assert (same.model_less["mse"].low, same.model_less["mse"].high) == (0, 0)
    assert bad.model_less["spearman"].estimate == pytest.approx(2.0)
    assert bad.model_less["mse"].estimate == pytest.approx((0.01 - 4) * (z**2).mean())
    assert zero.model_less["spearman"].estimate is None
    assert zero.metrics["mse"].estimate == pytest.approx((z**2).mean())
    assert found[4].metrics["mae"].estimate == pytest.approx(np.abs(TARGET.restore(z) - TARGET.restore(0.9 * z)).mean())


def test_error_against_seconds_takes_the_last_score_of_a_clip_that_is_over() -> None:
    z = np.array([1.0, -1.0])
    predictions = [prediction([0.0, 0.5, 1.0]), prediction([0.0])]
    found = prefix_figures(predictions, z, Bootstrap([None, None], resamples=5), chunk_s=2.0)
    assert [(row.seconds, row.clips_still_running) for row in found] == [(2.0, 1), (4.0, 1), (6.0, 0)]
    assert [row.mse.estimate for row in found] == pytest.approx([1.0, 0.625, 0.5])
    assert [row.mae.estimate for row in found] == pytest.approx([1.0, 0.75, 0.5])


def test_calibration_is_the_share_of_truths_at_or_below_each_quantile() -> None:
    z = np.array([-2.0, -1.0, 0.0, 0.5])
    found = calibration([prediction([0.0])] * 4, z, (0.05, 0.5, 0.95), Bootstrap([None] * 4, resamples=20))
    assert [(row.nominal, row.measured.estimate) for row in found] == [(0.05, 0.5), (0.5, 0.75), (0.95, 1.0)]


def test_coverage_against_seconds_is_that_of_the_interval_known_by_then() -> None:
    z = np.array([0.9, -3.0])
    early = prediction([0.0, 0.0, 0.0])
    early.quantiles[0] = [-0.5, 0.0, 0.5]
    found = coverage_figures(
        [early, prediction([0.0])], z, Bootstrap([None, None], resamples=5), intervals="as predicted", nominal=0.9, chunk_s=2.0
    )
    assert [(row.seconds, row.clips_still_running, row.nominal) for row in found] == [(2.0, 1, 0.9), (4.0, 1, 0.9), (6.0, 0, 0.9)]
    assert [row.measured.estimate for row in found] == [0.0, 0.5, 0.5]
    assert [row.mean_width for row in found] == [1.5, 2.0, 2.0]
