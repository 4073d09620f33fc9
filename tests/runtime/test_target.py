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
    assert target.quartile_edges == (1.75, 3.5, 5.25)
    np.testing.assert_array_equal(target.quartile_of([0, 1.75, 3, 5, 7, 100]), [0, 1, 1, 2, 3, 3])


@pytest.mark.parametrize("target", [Target.fit(VIEWS, name="views"), POWERED, RANKED], ids=lambda target: target.transform)
def test_json_round_trip(target: Target) -> None:
    assert Target.from_json(json.loads(json.dumps(target.to_json(), allow_nan=False))) == target


def test_json_of_the_first_version_is_read_and_still_written() -> None:
    plain = {"name": "views", "transform": "log1p", "mean": 8.8, "std": 1.4, "quartile_edges": [2845.25, 5103.0, 16508.5]}
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
