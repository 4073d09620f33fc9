"""Comparing tensors that must agree: how far they may differ, how far they do, and one row of the report for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ParityError


@dataclass(frozen=True, slots=True)
class Tolerance:
    """An element may differ by `atol + rtol * |reference|`."""

    atol: float
    rtol: float
    reason: str
    """Why this much and no more."""


@dataclass(frozen=True, slots=True)
class ParityRow:
    """One output of one check."""

    check: str
    output: str
    shape: tuple[int, ...]
    max_abs_error: float | None
    """None where the outputs cannot be subtracted: a different shape or type, NaN or infinity."""
    tolerance: Tolerance
    passed: bool
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "shape": list(self.shape)}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> ParityRow:
        """Reads what `to_json` wrote."""
        return cls(**{**plain, "shape": tuple(plain["shape"]), "tolerance": Tolerance(**plain["tolerance"])})


def compare_tensors(
    check: str, reference: Mapping[str, NDArray[Any]], candidate: Mapping[str, NDArray[Any]], tolerances: Mapping[str, Tolerance]
) -> list[ParityRow]:
    """Compares every output named in `tolerances`.

    Args:
        check: what the rows are called.
        reference: outputs that are right.
        candidate: outputs to judge, of the same names, shapes and types.
        tolerances: by output name.
    """
    return [_row(check, name, reference[name], candidate.get(name), tolerance) for name, tolerance in tolerances.items()]


def _row(check: str, output: str, reference: NDArray[Any], candidate: NDArray[Any] | None, tolerance: Tolerance) -> ParityRow:
    problem = _problem(reference, candidate)
    if problem or candidate is None:
        return ParityRow(check, output, reference.shape, None, tolerance, passed=False, detail=problem)
    right = reference.astype(np.float64)
    error = np.abs(candidate.astype(np.float64) - right)
    within = bool((error <= tolerance.atol + tolerance.rtol * np.abs(right)).all())
    return ParityRow(check, output, reference.shape, float(error.max(initial=0.0)), tolerance, passed=within)


def _problem(reference: NDArray[Any], candidate: NDArray[Any] | None) -> str:
    if candidate is None:
        return "the candidate has no such output"
    if (candidate.shape, candidate.dtype) != (reference.shape, reference.dtype):
        return f"expected {reference.dtype} {reference.shape}, got {candidate.dtype} {candidate.shape}"
    if not (np.isfinite(reference).all() and np.isfinite(candidate).all()):
        return "NaN or infinity"
    return ""


def require_parity(rows: Iterable[ParityRow]) -> None:
    """Does nothing where every row passed.

    Raises:
        ParityError: names the worst row, its error and its tolerance.
    """
    failed = [row for row in rows if not row.passed]
    if failed:
        worst = max(failed, key=_excess)
        found = worst.detail or f"differs by {worst.max_abs_error:.3g}, allowed {worst.tolerance.atol:g}"
        raise ParityError(f"{len(failed)} of the outputs compared are outside their tolerance; {worst.check}, {worst.output}: {found}")


def _excess(row: ParityRow) -> float:
    """By how much a row's error is more than is allowed; what may not differ at all comes last, since its error has no unit."""
    if row.max_abs_error is None:
        return float("inf")
    return row.max_abs_error / row.tolerance.atol if row.tolerance.atol else 0.0
