"""Cluster bootstrap against cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from shortcast.errors import DataError
from shortcast.training.bootstrap import Bootstrap, ConfidenceInterval
from shortcast.training.metrics import mae, mse, spearman


def mean_of_truth(truth: np.ndarray, _predicted: np.ndarray) -> float:
    return float(truth.mean())


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    sample = np.random.default_rng(0).normal(size=400)
    found = Bootstrap([None] * 400, resamples=2000).interval(mean_of_truth, sample, sample)
    half = 1.96 * sample.std() / 20
    assert found.low == pytest.approx(sample.mean() - half, abs=0.015)
    assert found.high == pytest.approx(sample.mean() + half, abs=0.015)


def test_authors_are_drawn_whole() -> None:
    bootstrap = Bootstrap(["a", "b", "a", None, None], resamples=50)
    draws = list(bootstrap.draws())
    assert len(draws) == 50
    for rows in draws:
        counts = np.bincount(rows, minlength=5)
        assert counts[0] == counts[2]
        assert counts[0] + counts[1] + counts[3] + counts[4] == 4


def test_clips_that_repeat_their_author_do_not_narrow_the_interval() -> None:
    per_author = np.random.default_rng(1).normal(size=30)
    authors = [str(index) for index in range(30)]
    once = Bootstrap(authors).interval(mean_of_truth, per_author, per_author)
    ten = np.repeat(per_author, 10)
    clustered = Bootstrap(list(np.repeat(authors, 10))).interval(mean_of_truth, ten, ten)
    single = Bootstrap([None] * 300).interval(mean_of_truth, ten, ten)
    assert width(clustered) == pytest.approx(width(once))
    assert width(single) < 0.5 * width(clustered)


def width(found: ConfidenceInterval) -> float:
    assert found.low is not None
    assert found.high is not None
    return found.high - found.low


def test_the_same_seed_gives_the_same_interval_and_another_does_not() -> None:
    rng = np.random.default_rng(2)
    truth, guess = rng.normal(size=(2, 40))
    first, again, other = (Bootstrap([None] * 40, resamples=100, seed=seed).interval(mse, truth, guess) for seed in (7, 7, 8))
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)


def test_a_paired_difference_is_surer_than_two_intervals() -> None:
    rng = np.random.default_rng(3)
    truth = rng.standard_t(3, size=80)
    one, other = truth * 0.2, truth * 0.2 + 0.05
    bootstrap = Bootstrap([None] * 80)
    found = bootstrap.difference(mae, truth, one, other)
    assert found.estimate == pytest.approx(mae(truth, one) - mae(truth, other))
    assert width(found) < 0.2 * width(bootstrap.interval(mae, truth, one))
    assert bootstrap.difference(mae, truth, one, one) == ConfidenceInterval(0.0, 0.0, 0.0, 1000)


def test_resamples_without_the_metric_are_left_out_and_counted() -> None:
    found = Bootstrap([None] * 3, resamples=200).interval(spearman, [1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert (found.low, found.high) == pytest.approx((1.0, 1.0))
    assert 150 < found.resamples < 200


def test_one_author_says_nothing_of_how_sure_a_figure_is() -> None:
    assert Bootstrap(["a", "a"]).interval(mse, [0.0, 1.0], [1.0, 1.0]) == ConfidenceInterval(0.5, None, None, 0)
    assert Bootstrap([None, None]).interval(spearman, [1.0, 1.0], [1.0, 2.0]).estimate is None


@pytest.mark.parametrize(("clusters", "options"), [([], {}), (["a"], {"resamples": 0}), (["a"], {"level": 1.0})])
def test_what_cannot_be_drawn_is_refused(clusters: list[str], options: dict[str, float]) -> None:
    with pytest.raises(DataError, match="bootstrap"):
        Bootstrap(clusters, **options)  # type: ignore[arg-type]
