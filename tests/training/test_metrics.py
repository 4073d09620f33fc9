"""Metrics against scikit-learn, scipy and hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau, pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from shortcast.errors import DataError
from shortcast.runtime.target import Target
from shortcast.training.metrics import (
    REGRESSION_METRICS,
    both_spaces,
    class_metrics,
    interval_metrics,
    quadratic_kappa,
    regression_metrics,
    spearman,
    standardised_space,
)


@pytest.fixture
def pairs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    truth = rng.normal(size=57).round(1)  # ties
    return truth, truth + rng.normal(size=57).round(1)


def test_regression_metrics_agree_with_scikit_learn_and_scipy(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    truth, predicted = pairs
    found = regression_metrics(truth, predicted, space="z")
    assert found.mse == pytest.approx(mean_squared_error(truth, predicted))
    assert found.mae == pytest.approx(mean_absolute_error(truth, predicted))
    assert found.r2 == pytest.approx(r2_score(truth, predicted))
    assert found.spearman == pytest.approx(spearmanr(truth, predicted).statistic)
    assert found.pearson == pytest.approx(pearsonr(truth, predicted).statistic)
    assert found.kendall == pytest.approx(kendalltau(truth, predicted).statistic)
    assert found.nmse == pytest.approx(mean_squared_error(truth, predicted) / np.var(truth))


def test_every_metric_by_name_is_the_figure_of_that_name(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    found = regression_metrics(*pairs, space="z")
    assert {name: metric(*pairs) for name, metric in REGRESSION_METRICS.items()} == {
        name: getattr(found, name) for name in ("mse", "mae", "nmse", "r2", "spearman", "pearson", "kendall")
    }


def test_the_figure_is_of_the_whole_split_and_not_of_its_batches(pairs: tuple[np.ndarray, np.ndarray]) -> None:
    truth, predicted = pairs
    halves = [spearman(truth[part], predicted[part]) for part in (slice(0, 28), slice(28, 57))]
    assert regression_metrics(truth, predicted, space="z").spearman != pytest.approx(np.mean(np.array(halves, dtype=float)), abs=1e-4)


def test_what_does_not_exist_for_a_constant_is_none() -> None:
    constant_truth = regression_metrics([1.0, 1.0], [0.0, 2.0], space="z")
    names = ("r2", "nmse", "spearman", "pearson", "kendall")
    assert [getattr(constant_truth, name) for name in names] == [None] * 5
    constant_guess = regression_metrics([0.0, 1.0], [0.1, 0.1], space="z")
    assert [getattr(constant_guess, name) for name in names[2:]] == [None] * 3


def test_two_clips_are_enough_for_every_metric() -> None:
    found = regression_metrics([1.0, 2.0], [1.0, 3.0], space="z")
    assert (found.spearman, found.pearson, found.kendall) == pytest.approx((1.0, 1.0, 1.0))


def test_predicting_the_mean_has_r2_zero_and_mse_of_the_variance() -> None:
    truth = np.array([1.0, 2.0, 6.0])
    found = regression_metrics(truth, np.full(3, truth.mean()), space="views")
    assert found.r2 == pytest.approx(0)
    assert found.mse == pytest.approx(truth.var())


def test_one_outlier_owns_the_squared_error_in_views_and_not_in_log_space() -> None:
    views = np.concatenate([np.geomspace(100, 10_000, 99), [5e7]])
    target = Target.fit(views, name="views")
    in_z, in_views = both_spaces(target, target.standardise(views), np.zeros(100))
    squared = (views - target.restore(0)) ** 2
    assert squared[-1] / squared.sum() > 0.999
    assert in_views.mse == pytest.approx(squared.mean())
    assert in_z.mse == pytest.approx(1.0)
    assert (in_z.space, in_views.space) == ("standardised log1p(views)", "views")


def test_the_space_of_an_untransformed_target_says_so() -> None:
    assert standardised_space(Target("rate", "none", 0.0, 1.0, (0.0, 1.0, 2.0))) == "standardised rate"


def test_quartiles() -> None:
    found = class_metrics([0, 0, 1, 2, 3, 3], [0, 1, 1, 2, 3, 0])
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.macro_f1 == pytest.approx((0.5 + 2 / 3 + 1 + 2 / 3) / 4)
    assert found.class_sizes == (2, 1, 1, 2)
    assert found.confusion == ((1, 1, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (1, 0, 0, 1))


def test_three_classes_one_of_which_no_clip_is_in() -> None:
    found = class_metrics([0, 0, 1, 1], [0, 1, 1, 1], classes=3)
    assert found.class_sizes == (2, 2, 0)
    assert found.confusion == ((1, 1, 0), (0, 2, 0), (0, 0, 0))
    assert found.macro_f1 == pytest.approx((2 / 3 + 4 / 5) / 2)


def test_quadratic_kappa_is_one_when_all_are_right_and_punishes_far_errors() -> None:
    truth = [0, 0, 1, 1, 2, 2, 3, 3]
    near, far = [1, 0, 1, 1, 2, 2, 3, 3], [3, 0, 1, 1, 2, 2, 3, 3]
    assert quadratic_kappa(truth, truth) == pytest.approx(1.0)
    expected = sum((i - j) ** 2 * truth.count(i) * near.count(j) for i in range(4) for j in range(4)) / 8
    assert quadratic_kappa(truth, near) == pytest.approx(1 - 1 / expected)
    assert quadratic_kappa(truth, far) < quadratic_kappa(truth, near)  # type: ignore[operator]
    assert quadratic_kappa([2, 2], [2, 2]) is None


def test_coverage_counts_both_ends_as_inside() -> None:
    found = interval_metrics([0.0, 1.0, 2.0, 9.0], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], nominal=0.9, space="z")
    assert (found.coverage, found.mean_width, found.nominal) == (0.5, 1.0, 0.9)


@pytest.mark.parametrize("predicted", [[1.0], [[1.0, 2.0]], [1.0, np.nan]])
def test_what_cannot_be_compared_is_refused(predicted: list[float]) -> None:
    with pytest.raises(DataError, match="metrics"):
        regression_metrics([1.0, 2.0], predicted, space="z")
