import numpy as np
import pytest

from shortcast.errors import DataError
from shortcast.runtime.target import Target

VIEWS = np.array([0.0, 3.0, 120.0, 4_000.0, 90_000.0, 2_500_000.0])


@pytest.mark.parametrize("transform", ["log1p", "none"])
def test_restore_is_the_exact_inverse(transform: str) -> None:
    target = Target.fit(VIEWS, name="views", transform=transform)
    np.testing.assert_allclose(target.restore(target.standardise(VIEWS)), VIEWS, rtol=1e-9, atol=1e-6)
    assert target.standardise(VIEWS).mean() == pytest.approx(0, abs=1e-12)
    assert target.standardise(VIEWS).std() == pytest.approx(1)


def test_quartiles_come_from_the_fitted_values() -> None:
    target = Target.fit(np.arange(8.0), name="likes", transform="none")
    assert target.quartile_edges == (1.75, 3.5, 5.25)
    np.testing.assert_array_equal(target.quartile_of([0, 1.75, 3, 5, 7, 100]), [0, 1, 1, 2, 3, 3])


def test_json_round_trip() -> None:
    target = Target.fit(VIEWS, name="views")
    assert Target.from_json(target.to_json()) == target


@pytest.mark.parametrize(
    ("values", "transform", "words"),
    [
        ([1.0, float("nan")], "log1p", "finite"),
        ([1.0, float("inf")], "none", "finite"),
        ([], "none", "finite"),
        ([-1.0, 2.0], "log1p", "at least 0"),
        ([5.0, 5.0], "log1p", "constant"),
        ([1.0, 2.0], "sqrt", "unknown"),
    ],
)
def test_targets_that_cannot_be_used_are_refused(values: list[float], transform: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Target.fit(values, name="views", transform=transform)


def test_a_damaged_description_is_refused() -> None:
    with pytest.raises(DataError, match="cannot be read"):
        Target.from_json({"name": "views"})
