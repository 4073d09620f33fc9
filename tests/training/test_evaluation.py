"""Studies of predictions whose answer can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from shortcast.runtime.target import Target
from shortcast.training.bootstrap import Bootstrap
from shortcast.training.evaluation import (
    COMPARED,
    MODEL,
    TRAIN_MEAN,
    Prediction,
    Predictions,
    calibration,
    outlier_sensitivity,
    predictor_figures,
    prefix_figures,
)
from shortcast.training.metrics import REGRESSION_METRICS

TARGET = Target("views", "log1p", 5.0, 2.0, (20.0, 150.0, 600.0))


def prediction(scores: list[float], quantiles: list[float] | None = None) -> Prediction:
    """Chunks of 2 s."""
    count = len(scores)
    each = np.tile(quantiles if quantiles is not None else [-1.0, 0.0, 1.0], (count, 1))
    return Prediction(np.array(scores), each, np.zeros(count, dtype=np.int64), 2.0 * np.arange(1, count + 1))


def test_every_predictor_has_every_metric_in_both_spaces_beside_the_model() -> None:
    z = np.array([-1.0, 0.0, 0.5, 2.0])
    good, bad = [prediction([value]) for value in z * 0.9], [prediction([value]) for value in -z]
    finals = Predictions(good, bad, good).finals()
    found = predictor_figures(finals, z, TARGET, Bootstrap([None] * 4, resamples=20))
    assert [figures.space for figures in found] == ["standardised log1p(views)"] * 4 + ["views"] * 4
    by_name = {figures.predictor: figures for figures in found[:4]}
    assert set(by_name) == {MODEL, "pictures alone", "sound alone", TRAIN_MEAN}
    assert all(set(figures.metrics) == set(REGRESSION_METRICS) for figures in found)
    assert by_name[MODEL].less_model == {}
    assert set(by_name[TRAIN_MEAN].less_model) == set(COMPARED)
    assert by_name["sound alone"].less_model["mse"].estimate == 0
    assert by_name["pictures alone"].less_model["spearman"].estimate == pytest.approx(-2.0)
    assert by_name[TRAIN_MEAN].metrics["mse"].estimate == pytest.approx((z**2).mean())
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


def test_leaving_out_the_viral_clip_changes_the_error_in_views_by_orders_of_magnitude() -> None:
    z = np.concatenate([np.linspace(-1, 1, 99), [4.0]])
    found = {(row.space, row.percent): row for row in outlier_sensitivity(np.zeros(100), z, TARGET)}
    views, standard = found["views", 0], found["standardised log1p(views)", 0]
    assert (views.left_out, found["views", 1].left_out, found["views", 10].left_out) == (0, 1, 10)
    assert views.mse / found["views", 1].mse > 1000
    assert standard.mse / found["standardised log1p(views)", 1].mse == pytest.approx((z**2).mean() / (z[:-1] ** 2).mean())
    assert standard.mse == standard.train_mean_mse
    assert standard.mae == pytest.approx(np.abs(z).mean())


def test_no_clip_left_is_no_figure() -> None:
    assert [row.percent for row in outlier_sensitivity(np.zeros(1), np.ones(1), TARGET)] == [0, 0]
