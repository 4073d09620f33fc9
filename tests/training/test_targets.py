"""Expressions of columns, and every transform over heavy-tailed numbers."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shortcast.errors import DataError
from shortcast.runtime.target import MOST_KNOTS, TRANSFORMS, Target
from shortcast.training.clips import ClipRow
from shortcast.training.targets import fit_target, target_values

DRAW = np.random.default_rng(5)
SAMPLES = {
    "log-normal": np.floor(DRAW.lognormal(8, 2, 3000)),
    "pareto": np.floor(100 * (1 + DRAW.pareto(0.8, 3000))),
    "many zeros": np.where(DRAW.random(2000) < 0.4, 0.0, np.floor(DRAW.lognormal(5, 2, 2000))),
    "few values": DRAW.integers(0, 5, 400).astype(float),
    "rates": DRAW.beta(2, 20, 1000),
    "two": np.array([3.0, 8.0]),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("sample", SAMPLES)
def test_there_and_back_in_order_and_through_json(sample: str, transform: str) -> None:
    values = SAMPLES[sample]
    fitted = fit_target(values, name="views", transform=transform)
    target = Target.from_json(json.loads(json.dumps(fitted.to_json(), allow_nan=False)))
    assert target == fitted
    z = target.standardise(values)
    np.testing.assert_allclose(target.restore(z), values, rtol=1e-6, atol=1e-6)
    assert (z.mean(), z.std()) == pytest.approx((0, 1), abs=1e-6)
    unseen = np.sort(DRAW.uniform(values.min(), values.max() * 2, 500))
    assert (np.diff(target.standardise(unseen)) > 0).all()
    np.testing.assert_allclose(target.restore(target.standardise(unseen)), unseen, rtol=1e-6, atol=1e-6)


def test_negative_values_need_a_transform_that_takes_them() -> None:
    values = DRAW.standard_t(2, 500) * 100
    for transform in ("yeo-johnson", "rank-gauss", "none"):
        target = fit_target(values, name="change", transform=transform)
        np.testing.assert_allclose(target.restore(target.standardise(values)), values, rtol=1e-6, atol=1e-6)
    with pytest.raises(DataError, match="at least 0"):
        fit_target(values, name="change", transform="log1p")


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize(("values", "words"), [([1.0, float("nan")], "finite"), ([4.0, 4.0, 4.0], "constant"), ([], "finite")])
def test_what_cannot_be_learned_is_refused(values: list[float], words: str, transform: str) -> None:
    with pytest.raises(DataError, match=words):
        fit_target(values, name="views", transform=transform)


def test_the_power_is_the_most_likely_one() -> None:
    values = SAMPLES["log-normal"]
    fitted = fit_target(values, name="views", transform="yeo-johnson")

    def likelihood(power: float) -> float:
        space = Target("views", "yeo-johnson", 0.0, 1.0, fitted.class_edges, power, span=fitted.span).apply(values)
        return float(-len(values) / 2 * np.log(space.var()) + (power - 1) * np.log1p(values).sum())

    assert fitted.power is not None
    best = likelihood(fitted.power)
    assert all(best >= likelihood(fitted.power + step) for step in (-0.05, -0.01, 0.01, 0.05))
    assert fitted.power == pytest.approx(0, abs=0.03)  # the logarithm of a log-normal is normal


def test_rank_gauss_is_normal_whatever_the_tail_and_its_table_is_small() -> None:
    values = 100 * (1 + DRAW.pareto(0.8, 3000))  # no ties
    target = fit_target(values, name="views", transform="rank-gauss")
    z = target.standardise(values)
    assert len(target.knots) <= MOST_KNOTS
    assert np.quantile(z, [0.025, 0.16, 0.5, 0.84, 0.975]) == pytest.approx([-1.96, -1, 0, 1, 1.96], abs=0.05)
    assert np.abs(z).max() < 4 < fit_target(values, name="views", transform="none").standardise(values).max()


def test_real_tails_lose_their_skew(shared_data: Path) -> None:
    with (shared_data / "labels" / "youtube_trending_us_2017.csv").open(encoding="utf-8") as lines:
        views = np.array([float(row["views"]) for row in csv.DictReader(lines)])
    skew = {
        transform: float((fit_target(views, name="views", transform=transform).standardise(views) ** 3).mean()) for transform in TRANSFORMS
    }
    assert skew["none"] == pytest.approx(8.1, abs=0.1)
    assert skew["log1p"] == pytest.approx(-0.75, abs=0.01)
    assert abs(skew["yeo-johnson"]) < 0.05
    assert abs(skew["rank-gauss"]) < 0.05


def row(**columns: Any) -> ClipRow:
    return ClipRow("c1", Path("c1.mp4"), None, None, columns)


@pytest.mark.parametrize(
    ("columns", "expression", "value"),
    [
        ({"likes": 30}, "likes", 30.0),
        ({"likes": 30, "views": 120}, "likes/views", 0.25),
        ({"likes": 0, "views": 0}, "likes/views", 0.0),
        ({"likes": 30, "views": 120, "likes/views": 7}, "likes/views", 7.0),
        ({"views": 90, "created_at": "2026-01-01T00:00:00Z", "crawled_at": "2026-01-31T00:00:00Z"}, "views/day", 3.0),
        ({"views": 90, "created_at": 1767225600, "crawled_at": 1767229200}, "views/day", 90.0),
    ],
)
def test_expressions(columns: dict[str, Any], expression: str, value: float) -> None:
    assert target_values([row(**columns)], expression) == {"c1": value}


@pytest.mark.parametrize(
    ("columns", "expression", "words"),
    [
        ({"likes": 1}, "views", "no column 'views'"),
        ({"likes": 1}, "likes/views", "no column 'views'"),
        ({"likes": None, "views": 3}, "likes/views", "finite number"),
        ({"likes": 3, "views": 0}, "likes/views", "has no value"),
        ({"likes": 3, "views": -2}, "likes/views", "has no value"),
        ({"likes": 1}, "likes/", "cannot be read"),
        ({"likes": 1}, "likes/views/day", "cannot be read"),
        ({"views": 1, "crawled_at": "2026-01-31"}, "views/day", "needs a time in 'created_at', got None"),
        ({"views": 1, "created_at": "soon", "crawled_at": "2026-01-31"}, "views/day", "got 'soon'"),
        ({"views": 1, "created_at": "2026-02-01", "crawled_at": "2026-01-31"}, "views/day", "crawled before"),
    ],
)
def test_expressions_without_a_value_are_refused(columns: dict[str, Any], expression: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        target_values([row(**columns)], expression)
