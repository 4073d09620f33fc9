"""Errors with and without the clips farthest out, where the answer can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from shortcast.errors import DataError
from shortcast.runtime.target import Target
from shortcast.training.losses import LOSSES
from shortcast.training.outlier_errors import outlier_errors, outlier_sensitivity
from shortcast.training.studies import Predictor

TARGET = Target("views", "log1p", 5.0, 2.0, (20.0, 150.0, 600.0))


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


def test_every_loss_of_every_predictor_with_and_without_the_top() -> None:
    z = np.concatenate([np.linspace(-1, 1, 99), [4.0]])
    found = outlier_errors((Predictor("zero", "a", np.zeros(100)), Predictor("all right", "b", z)), z, TARGET, percents=(1.0, 5.0))
    assert [(row.space, row.predictor, row.percent, row.left_out) for row in found.rows[:4]] == [
        ("standardised log1p(views)", "zero", 1.0, 1),
        ("standardised log1p(views)", "zero", 5.0, 5),
        ("standardised log1p(views)", "all right", 1.0, 1),
        ("standardised log1p(views)", "all right", 5.0, 5),
    ]
    assert [row.space for row in found.rows[4:]] == ["views"] * 4
    first = {figure.loss: figure for figure in found.rows[0].losses}
    assert set(first) == set(LOSSES)
    assert first["mae"].whole == pytest.approx(np.abs(z).mean())
    assert first["mae"].without_top == pytest.approx(np.abs(z[:-1]).mean())
    assert first["mse"].top_share == pytest.approx(16 / (z**2).sum())
    assert all(figure.whole == 0 for figure in found.rows[2].losses)
    assert {curve.loss for curve in found.curves} == set(LOSSES)


def test_raw_errors_are_in_deviations_of_the_raw_truth() -> None:
    z = np.linspace(-1, 1, 20)
    found = outlier_errors((Predictor("zero", "a", np.zeros(20)),), z, TARGET, percents=(5.0,))
    raw = TARGET.restore(z)
    mae = next(figure for figure in found.rows[-1].losses if figure.loss == "mae")
    assert mae.whole == pytest.approx((np.abs(raw - TARGET.restore(np.zeros(1))) / raw.std()).mean())
    assert "views)" in found.rows[-1].unit


@pytest.mark.parametrize("percent", [0.0, -1.0, 99.0, 100.0])
def test_a_share_that_leaves_nothing_or_everything_is_refused(percent: float) -> None:
    with pytest.raises(DataError, match="leave clips over"):
        outlier_errors((Predictor("zero", "a", np.zeros(4)),), np.arange(4.0), TARGET, percents=(percent,))
