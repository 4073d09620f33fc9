import json

import numpy as np
import pytest

from shortcast.errors import DataError
from shortcast.runtime.bundle import Bundle, demo_bundle
from shortcast.runtime.target import Target

VIEWS = np.array([0.0, 3.0, 120.0, 4_000.0, 90_000.0, 2_500_000.0])
EDGES = (31.0, 2060.0, 68500.0)
POWERED = Target("views", "yeo-johnson", 6.0, 2.0, EDGES, power=-0.1, span=(0.0, 2.5e6))
RANKED = Target(
    "views",
    "rank-gauss",
    0.0,
    0.9,
    EDGES,
    knots=tuple(zip(VIEWS.tolist(), np.linspace(-1.4, 1.4, 6).tolist(), strict=True)),
    span=(0.0, 2.5e6),
)


@pytest.mark.parametrize("transform", ["log1p", "none"])
def test_restore_is_the_exact_inverse(transform: str) -> None:
    target = Target.fit(VIEWS, name="views", transform=transform)
    np.testing.assert_allclose(target.restore(target.standardise(VIEWS)), VIEWS, rtol=1e-9, atol=1e-6)
    assert target.standardise(VIEWS).mean() == pytest.approx(0, abs=1e-12)
    assert target.standardise(VIEWS).std() == pytest.approx(1)


@pytest.mark.parametrize("power", [-0.5, -0.1, 0.0, 0.3, 1.0, 2.0, 2.2])
def test_yeo_johnson_and_its_inverse_for_every_power_and_sign(power: float) -> None:
    target = Target("change", "yeo-johnson", 0.5, 1.5, EDGES, power=power, span=(-1000.0, 1000.0))
    values = np.concatenate([-np.geomspace(1e-6, 1000, 60)[::-1], [0.0], np.geomspace(1e-6, 1000, 60)])
    np.testing.assert_allclose(target.restore(target.standardise(values)), values, rtol=1e-6, atol=1e-12)
    assert (np.diff(target.standardise(values)) > 0).all()


def test_yeo_johnson_is_the_published_formula() -> None:
    (up, down) = Target("x", "yeo-johnson", 0.0, 1.0, EDGES, power=0.5, span=(-9.0, 9.0)).standardise([3.0, -3.0])
    assert (up, down) == pytest.approx(((4**0.5 - 1) / 0.5, -(4**1.5 - 1) / 1.5))


def test_a_z_beyond_yeo_johnsons_ceiling_still_has_a_finite_value() -> None:
    z = np.array([0.0, 1.9, 5.0, 1e6])  # the ceiling of power -0.1 is 10, which is z = 2
    restored = POWERED.restore(z)
    assert np.isfinite(restored).all()
    assert (np.diff(restored) >= 0).all()
    assert restored[-1] == 2.5e6 + 100 * 2.5e6
    assert POWERED.restore([-1e6, -50.0]).tolist() == [0.0, 0.0]


def test_rank_gauss_runs_on_beyond_its_ends() -> None:
    values = np.array([0.0, 1.0, 120.0, 5e4, 2.5e6, 4e6, 1e7])
    np.testing.assert_allclose(RANKED.restore(RANKED.standardise(values)), values, rtol=1e-9)
    assert (np.diff(RANKED.standardise(values)) > 0).all()
    assert float(RANKED.restore(-3.0)) == 0
    assert RANKED.restore(1e9) == 2.5e6 + 100 * 2.5e6


def test_quartiles_come_from_the_fitted_values() -> None:
    target = Target.fit(np.arange(8.0), name="likes", transform="none")
    assert target.class_edges == (1.75, 3.5, 5.25)
    np.testing.assert_array_equal(target.class_of([-1, 0, 1.75, 3, 5, 7, 100]), [0, 0, 0, 1, 2, 3, 3])
    assert target.class_sizes(np.arange(8.0)) == (2, 2, 2, 2)


@pytest.mark.parametrize("classes", [2, 3, 5, 10])
def test_any_number_of_classes_of_equal_share(classes: int) -> None:
    values = np.random.default_rng(0).permutation(30.0 * np.arange(1, 31))
    target = Target.fit(values, name="likes", transform="none", classes=classes)
    assert target.class_sizes(values) == (30 // classes,) * classes


ZEROS_37 = np.concatenate([np.zeros(37), np.arange(1.0, 64.0)])


@pytest.mark.parametrize(
    ("values", "classes", "edges", "sizes"),
    [
        (ZEROS_37, 4, (0.0, 13.5, 38.25), (37, 13, 25, 25)),
        (ZEROS_37, 2, (13.5,), (50, 50)),
        (ZEROS_37, 10, None, (37, 3, 10, 10, 10, 10, 10, 10)),
        (np.concatenate([np.zeros(60), np.arange(1.0, 41.0)]), 4, (0.0, 15.25), (60, 15, 25)),
        (np.concatenate([np.zeros(95), np.arange(1.0, 6.0)]), 4, (0.0,), (95, 5)),
        (np.repeat([0.0, 1.0], [90, 10]), 4, (0.0,), (90, 10)),
        (np.repeat([0.0, 1.0], [10, 90]), 4, (0.0,), (10, 90)),
        (np.concatenate([np.arange(40.0), np.full(60, 99.0)]), 4, (24.75, 39.0), (25, 15, 60)),
        (np.array([1.0, 2.0, 3.0]), 8, None, (1, 1, 1)),
        (np.repeat([1.0, 2.0, 3.0], [20, 60, 20]), 4, (2.0,), (80, 20)),
    ],
    ids=["zeros", "zeros-2", "zeros-10", "most-zero", "nearly-all-zero", "few-ones", "few-zeros", "capped", "three-values", "tied-middle"],
)
def test_ties_make_fewer_classes_and_never_an_empty_one(
    values: np.ndarray, classes: int, edges: tuple[float, ...] | None, sizes: tuple[int, ...]
) -> None:
    target = Target.fit(values, name="likes", transform="none", classes=classes)
    assert target.class_sizes(values) == sizes
    assert edges is None or target.class_edges == edges
    assert target.classes == len(sizes)


def test_classes_hold_what_their_edges_say_for_any_values() -> None:
    draw = np.random.default_rng(5)
    for _ in range(200):
        values = draw.poisson(draw.choice([0.3, 2.0, 50.0]), size=int(draw.integers(3, 60))).astype(float)
        if np.ptp(values) == 0:
            continue
        target = Target.fit(values, name="likes", transform="none", classes=int(draw.integers(2, 9)))
        assert min(target.class_sizes(values)) > 0
        assert sum(target.class_sizes(values)) == len(values)
        low, high = (-np.inf, *target.class_edges), (*target.class_edges, np.inf)
        for value, index in zip(values, target.class_of(values), strict=True):
            assert low[index] < value <= high[index]


def test_fewer_than_two_classes_are_refused() -> None:
    with pytest.raises(DataError, match="at least 2 classes, got 1"):
        Target.fit(VIEWS, name="views", classes=1)


@pytest.mark.parametrize("target", [Target.fit(VIEWS, name="views"), POWERED, RANKED], ids=lambda target: target.transform)
def test_json_round_trip(target: Target) -> None:
    assert Target.from_json(json.loads(json.dumps(target.to_json(), allow_nan=False))) == target


def test_the_json_is_what_it_was() -> None:
    plain = {"name": "views", "transform": "log1p", "mean": 8.8, "std": 1.4, "class_edges": [2845.25, 5103.0, 16508.5]}
    assert Target.from_json(plain).to_json() == plain


def test_the_demo_bundles_target_is_read() -> None:
    target = Bundle.open(demo_bundle()).manifest.target
    assert (target.transform, target.power, target.knots) == ("log1p", None, ())


@pytest.mark.parametrize(
    ("values", "transform", "words"),
    [
        ([1.0, float("nan")], "log1p", "finite"),
        ([1.0, float("inf")], "none", "finite"),
        ([], "none", "finite"),
        ([-1.0, 2.0], "log1p", "at least 0"),
        ([5.0, 5.0], "log1p", "constant"),
        ([0.1, 0.1, 0.1], "none", "constant"),
        ([1.0, 2.0], "sqrt", "unknown"),
        ([1.0, 2.0], "rank-gauss", "missing"),
    ],
)
def test_targets_that_cannot_be_used_are_refused(values: list[float], transform: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Target.fit(values, name="views", transform=transform)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"class_edges": []}, "at least one"),
        ({"class_edges": [1.0, 1.0]}, "finite and rise"),
        ({"class_edges": [2.0, 1.0]}, "finite and rise"),
        ({"class_edges": [1.0, float("inf")]}, "finite and rise"),
        ({"class_edges": [float("nan")]}, "finite and rise"),
        ({"class_edges": ["much"]}, "cannot be read"),
        ({"class_edges": 3.0}, "cannot be read"),
        ({"quartile_edges": [1.0, 2.0, 3.0]}, "cannot be read"),
        ({"mean": float("nan")}, "must be finite"),
        ({"std": float("inf")}, "must be finite"),
        ({"power": 0.5}, "one too many"),
        ({"transform": "yeo-johnson", "span": [0, 1]}, "missing"),
        ({"transform": "yeo-johnson", "power": float("nan"), "span": [0, 1]}, "no number"),
        ({"transform": "yeo-johnson", "power": 0.5}, "needs span"),
        ({"span": [0, 1]}, "has no span"),
        ({"transform": "rank-gauss", "knots": [[0, 0], [0, 1]], "span": [0, 1]}, "that rise"),
        ({"transform": "rank-gauss", "knots": [[0, 0], [1]], "span": [0, 1]}, "cannot be read"),
        ({"transform": "rank-gauss", "knots": [[i, i] for i in range(257)], "span": [0, 1]}, "2 to 256"),
    ],
)
def test_parameters_that_do_not_fit_the_transform_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(DataError, match=words):
        Target.from_json({**Target.fit(VIEWS, name="views").to_json(), **change})


def test_a_damaged_description_is_refused() -> None:
    with pytest.raises(DataError, match="cannot be read"):
        Target.from_json({"name": "views"})
