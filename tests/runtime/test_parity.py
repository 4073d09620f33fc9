import numpy as np
import pytest

from shortcast.errors import ParityError
from shortcast.runtime.parity import Tolerance, compare_tensors, require_parity

TIGHT = {"score": Tolerance(1e-5, 0.0, "test")}
RIGHT = {"score": np.array([[1.0, 2.0]], np.float32)}


def test_equal_tensors_pass() -> None:
    (row,) = compare_tensors("same", RIGHT, RIGHT, TIGHT)
    assert row.passed
    assert row.max_abs_error == 0
    require_parity([row])


def test_an_error_beyond_the_tolerance_fails_and_is_named() -> None:
    (row,) = compare_tensors("off", RIGHT, {"score": RIGHT["score"] + np.float32(1e-3)}, TIGHT)
    assert not row.passed
    with pytest.raises(ParityError, match=r"off, score: differs by 0\.001"):
        require_parity([row])


def test_relative_tolerance_scales_with_the_reference() -> None:
    big = {"score": np.array([1e4], np.float32)}
    (row,) = compare_tensors("big", big, {"score": big["score"] + np.float32(0.5)}, {"score": Tolerance(1e-5, 1e-4, "test")})
    assert row.passed


@pytest.mark.parametrize(
    ("candidate", "detail"),
    [
        ({}, "no such output"),
        ({"score": np.array([[1.0, np.nan]], np.float32)}, "NaN"),
        ({"score": np.array([[1.0, np.inf]], np.float32)}, "NaN or infinity"),
        ({"score": np.array([1.0, 2.0], np.float32)}, "expected float32"),
        ({"score": np.array([[1.0, 2.0]], np.float64)}, "got float64"),
    ],
)
def test_what_cannot_be_subtracted_fails(candidate: dict[str, np.ndarray], detail: str) -> None:
    (row,) = compare_tensors("odd", RIGHT, candidate, TIGHT)
    assert not row.passed
    assert row.max_abs_error is None
    assert detail in row.detail
    with pytest.raises(ParityError):
        require_parity([row])


def test_nan_in_both_still_fails() -> None:
    broken = {"score": np.array([np.nan], np.float32)}
    (row,) = compare_tensors("nan", broken, broken, TIGHT)
    assert not row.passed
