"""Student's t against SciPy's."""

import pytest
from scipy import stats  # type: ignore[import-untyped]

from shortcast.benchmarks.student import critical, upper_tail


@pytest.mark.parametrize("freedom", [1, 2, 2.6, 4, 10, 60, 400])
@pytest.mark.parametrize("t", [-3.0, 0.0, 0.4, 2.5, 9.0])
def test_tails_and_quantiles_are_those_of_scipy(freedom: float, t: float) -> None:
    assert upper_tail(t, freedom) == pytest.approx(stats.t.sf(t, freedom), rel=1e-7, abs=1e-14)
    assert critical(0.95, freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-7)


def test_many_degrees_of_freedom_are_normal() -> None:
    assert critical(0.95, 1e7) == pytest.approx(1.96, abs=5e-3)


def test_less_than_one_degree_of_freedom_is_refused() -> None:
    with pytest.raises(ValueError, match="1 degree"):
        upper_tail(1.0, 0.5)
