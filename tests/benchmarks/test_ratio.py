"""The ratio of two sets of runs: its interval holds what it promises, and runs count, not samples."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest

from shortcast.benchmarks.compare_rates import WORLDS, Pair, measure, pairs_of, rates_of, report_rates, run_of, split_pairs
from shortcast.benchmarks.ratio import figure_of, geometric_mean, percentile_of, ratio_of


def runs_about(*middles: float, count: int = 60) -> list[np.ndarray]:
    random = np.random.default_rng(3)
    return [middle * np.exp(0.05 * random.normal(size=count)) for middle in middles]


@pytest.mark.parametrize("percent", [0.0, 13.0, 50.0, 90.0, 99.0, 100.0])
def test_the_percentile_is_numpys(percent: float) -> None:
    runs = runs_about(10.0, 30.0)
    assert figure_of(percentile_of(percent), runs) == pytest.approx(np.percentile(np.concatenate(runs), percent))
    both = np.stack([runs[0], runs[1]])
    assert percentile_of(percent)(both) == pytest.approx(np.percentile(both, percent, axis=1))


def test_figures_of_runs_have_a_geometric_mean_unless_one_is_not_positive() -> None:
    assert figure_of(geometric_mean, [np.array([2.0]), np.array([8.0])]) == pytest.approx(4.0)
    assert figure_of(geometric_mean, [np.array([2.0]), np.array([0.0])]) == 0.0


def test_the_ratio_is_second_over_first_and_its_interval_is_about_it() -> None:
    ratio = ratio_of(percentile_of(50), runs_about(10, 10.2, 9.9), runs_about(20, 20.5, 19.8))
    assert ratio is not None
    low, high = ratio.interval() or (0.0, 0.0)
    assert low < ratio.estimate < high
    assert ratio.estimate == pytest.approx(2.0, rel=0.05)
    assert ratio.chance_above(1.0) < 0.01 < ratio.chance_below(1.0)


def test_figures_of_runs_give_welchs_interval() -> None:
    a, b = [np.array([value]) for value in (10.0, 11.0, 10.4)], [np.array([value]) for value in (12.0, 12.9, 12.1, 13.0)]
    ratio = ratio_of(geometric_mean, a, b)
    assert ratio is not None
    variances = [np.var(np.log(np.concatenate(side)), ddof=1) / len(side) for side in (a, b)]
    assert ratio.log_error == pytest.approx(math.sqrt(sum(variances)), rel=0.1)
    assert ratio.freedom == pytest.approx(sum(variances) ** 2 / (variances[0] ** 2 / 2 + variances[1] ** 2 / 3), rel=0.2)


def test_one_run_gives_a_ratio_and_no_interval() -> None:
    ratio = ratio_of(percentile_of(50), runs_about(10), runs_about(20, 20))
    assert ratio is not None
    assert ratio.interval() is None
    assert ratio.chance_above(1.0) == 1.0


@pytest.mark.parametrize(("a", "b"), [([], [np.ones(3)]), ([np.ones(3), np.array([])], [np.ones(3)]), ([np.zeros(3)], [np.ones(3)])])
def test_what_has_no_samples_or_no_positive_figure_has_no_ratio(a: list[np.ndarray], b: list[np.ndarray]) -> None:
    assert ratio_of(percentile_of(50), a, b) is None


def test_runs_that_never_differ_leave_no_doubt_and_rounding_is_no_evidence() -> None:
    four, five = ([np.array([value])] * 3 for value in (4.0, 5.0))
    ratio = ratio_of(geometric_mean, four, five)
    assert ratio is not None
    assert ratio.chance_above(1.0) < 1e-9
    assert ratio.chance_above(1.25) == pytest.approx(0.5, abs=0.01)
    same = ratio_of(geometric_mean, [np.array([0.1])] * 3, [np.array([0.1])] * 7)
    assert same is not None
    assert same.chance_above(1.0) == pytest.approx(0.5, abs=0.01)


def test_more_samples_do_not_hide_that_runs_differ() -> None:
    """Three runs 20 % apart on each side: however many samples they have, a difference of 5 % cannot be told."""
    few, many = (ratio_of(percentile_of(50), runs_about(10, 12, 11, count=n), runs_about(10.5, 12.5, 11.6, count=n)) for n in (50, 5000))
    for ratio in (few, many):
        assert ratio is not None
        low, high = ratio.interval() or (1.0, 1.0)
        assert low < 1 < high


def test_the_same_seed_gives_the_same_interval() -> None:
    a, b = runs_about(10, 11, 12), runs_about(13, 14, 15)
    assert ratio_of(percentile_of(90), a, b, seed=4) == ratio_of(percentile_of(90), a, b, seed=4)


def test_false_alarms_and_power_are_what_is_promised() -> None:
    """A fast version of `compare_rates`: 60 A/A pairs; 3 in 60 are promised, more than 8 have a chance of 1 in 100."""
    pairs = [pair for world in WORLDS[1:] for pair in pairs_of(world, 5, 30, seed=1, percents=(50.0,))]
    assert sum(pair.excludes() for pair in pairs) <= 8
    quiet = next(rates_of(pairs))
    assert quiet.world == "runs differ by 2 %"
    assert quiet.found_10 > 0.8
    assert report_rates(pairs, reports=100)["any_false_verdict"] <= report_rates(pairs, reports=100)["any_interval_without_1"]


def test_splits_of_measured_runs_share_none() -> None:
    random = np.random.default_rng(0)
    runs = [run_of(WORLDS[0], random) for _ in range(6)]
    pairs = list(split_pairs(runs, 3, 4, seed=0))
    assert len(pairs) == 4 * 3
    assert {pair.repeats for pair in pairs} == {3}


def test_what_is_written_has_every_pair_and_the_shares_made_of_them() -> None:
    found = measure(count=3, splits=0, repeats=[3], runs=0, calls=0, seed=2)
    pairs = [Pair(*values) for values in found["pairs"]]  # type: ignore[attr-defined]
    assert len(pairs) == 3 * len(WORLDS) * 3
    assert [asdict(rates) for rates in rates_of(pairs)] == found["rates"]
    assert list(found["reports"]) == ["3 repeats"]  # type: ignore[call-overload]
