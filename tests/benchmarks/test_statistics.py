"""Percentiles against exact binomials and the published counts; stability of windows."""

from dataclasses import replace
from fractions import Fraction
from math import comb, inf
from random import Random
from types import ModuleType

import pytest

from shortcast.benchmarks.results import Series
from shortcast.benchmarks.statistics import (
    between_runs,
    drift,
    drifts,
    exceeds_by_chance,
    largest_tail,
    needed_samples,
    percentile,
    pooled,
    summarise,
    throughput,
)


@pytest.mark.parametrize(
    ("percent", "counts"),
    [
        (50, (11, 14, 22, 35)),
        (90, (64, 81, 127, 197)),
        (95, (130, 165, 259, 398)),
        (99, (662, 838, 1307, 2010)),
        (99.9, (6636, 8403, 13105, 20140)),
    ],
)
def test_the_published_counts(percent: float, counts: tuple[int, ...]) -> None:
    assert needed_samples(percent) == counts[0]
    for discarded, samples in zip((1, 2, 5, 10), counts, strict=True):
        assert largest_tail(samples, percent) == discarded
        assert largest_tail(samples - 1, percent) < discarded


@pytest.mark.parametrize(("samples", "percent", "discarded"), [(100, 50, 37), (1000, 50, 462), (100, 90, 3), (1000, 90, 78), (1000, 99, 2)])
def test_what_is_discarded_of_a_hundred_and_a_thousand(samples: int, percent: float, discarded: int) -> None:
    assert largest_tail(samples, percent) == discarded


@pytest.mark.parametrize(("samples", "percent"), [(64, 90), (197, 90), (130, 95), (37, 50)])
def test_the_tail_is_that_of_exact_binomials(samples: int, percent: int) -> None:
    share = Fraction(100 - percent, 100)

    def at_most(t: int) -> Fraction:
        return sum((comb(samples, k) * share**k * (1 - share) ** (samples - k) for k in range(t + 1)), Fraction(0))

    found = largest_tail(samples, percent)
    assert at_most(found) <= Fraction(1, 100) < at_most(found + 1)
    assert exceeds_by_chance(samples, found + 1, percent) == pytest.approx(float(1 - at_most(found)), abs=1e-9)


def test_no_number_without_enough_samples() -> None:
    found = percentile(range(1, 662), 99)
    assert (found.plain, found.guaranteed, found.said) == (655, None, "insufficient (needs 662)")
    assert percentile([], 50).plain is None


def test_the_plain_value_has_the_lower_index_and_the_other_is_at_least_it() -> None:
    hundred = list(range(1, 101))
    Random(1).shuffle(hundred)
    assert percentile(hundred, 50).plain == 50
    assert percentile(hundred, 90).plain == 90
    assert percentile(hundred, 99).plain == 99
    assert percentile(hundred, 90).guaranteed == 98
    assert percentile([*hundred, *range(101, 663)], 99).guaranteed == 662


def test_the_guarantee_holds_in_ninety_nine_of_a_hundred_benchmarks() -> None:
    random, below = Random(5), 0
    for _ in range(1000):
        estimate = percentile([random.expovariate(1.0) for _ in range(100)], 90).guaranteed
        assert estimate is not None
        below += estimate < 2.302585  # the 90th percentile of this distribution
    assert below <= 20  # 10 are expected at most; 20 or more come by chance once in some hundred such tests


def test_a_summary_leaves_no_sample_out() -> None:
    found = summarise([1.0, 1.0, 1.0, 97.0])
    assert found is not None
    assert (found.count, found.mean, found.median, found.most) == (4, 25.0, 1.0, 97.0)
    assert found.variation == pytest.approx(1.92)
    assert summarise([]) is None


@pytest.mark.parametrize(
    ("times", "apart"),
    [
        ([10.0] * 14, None),
        ([10.0] * 50, 0.0),
        ([30.0] * 20 + [10.0] * 30, 0.0),
        ([10.0] * 40 + [11.5] * 10, 0.15),
        ([10.0] * 49 + [30.0], 0.2),
        ([0.0] * 50, inf),
    ],
)
def test_how_far_the_last_three_windows_are_apart(times: list[float], apart: float | None) -> None:
    assert drift(times) == (apart if apart is None else pytest.approx(apart))


def test_clips_of_different_lengths_are_no_instability(fake: ModuleType) -> None:
    lengths = [2.0, 20.0, 7.0, 7.0] * 10
    run = fake.some_run(
        Series("clip", "ms", tuple(30 * length for length in lengths)),
        Series("media", "s", tuple(lengths)),
        Series("answer", "ms", tuple(float(k) for k in range(1, 100)), "schedule"),
    )
    assert drifts(run) == {}
    assert drifts(replace(run, series=(Series("visual", "ms", (1.0,) * 40 + (2.0,) * 10),))) == {"visual": 1.0}


def test_answers_are_judged_as_the_clips_they_are_of(fake: ModuleType) -> None:
    chunks = tuple(float(k) for k in range(1, 100))
    assert drifts(fake.some_run(Series("clip", "ms", (5.0,) * 20), Series("answer", "ms", chunks))) == {}


def test_clips_scored_at_once_that_are_finished_ever_slower_are_unstable(fake: ModuleType) -> None:
    even = [float(k) for k in range(1, 51)]
    assert drifts(fake.some_run(Series("finished", "s", tuple(even)))) == {}
    slower = (*even[:40], *(40 + 1.2 * k for k in range(1, 11)))
    assert drifts(fake.some_run(Series("finished", "s", slower))) == {"finished": pytest.approx(0.2)}
    assert drifts(fake.some_run(Series("finished", "s", slower), Series("media", "s", (1.0,) * 40 + (1.2,) * 10))) == {}


def test_figures_over_repeats(fake: ModuleType) -> None:
    runs = [fake.some_run(Series("visual", "ms", (1.0, 2.0, 3.0))), fake.some_run(Series("visual", "ms", (2.0, 2.2, 2.4)))]
    assert pooled(runs, "visual") == (1.0, 2.0, 3.0, 2.0, 2.2, 2.4)
    assert between_runs(runs, "visual") == pytest.approx(0.1)
    assert between_runs(runs[:1], "visual") is None
    assert throughput(replace(runs[0], clips=4, wall_s=2.0)) == 2.0
    assert throughput(replace(runs[0], clips=0, chunks=9, wall_s=3.0)) == 3.0
