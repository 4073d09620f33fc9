"""Decision parity: would another computation of the same clips lead to the same order, the same class and the same score?

Tensors may agree to some tolerance and a user's ranking still change, or differ visibly and change nothing. So a reduced precision is
judged by what is decided with it. Near ties are nobody's fault: a pair or a class counts as changed only outside a margin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .parity import ParityRow, Tolerance

MIN_RANKED = 3
"""Fewer clips than these have no rank correlation worth the name."""


@dataclass(frozen=True, slots=True)
class Decisions:
    """What was said of n clips."""

    z: NDArray[np.float64]
    """float64 (n,), standardised scores of whole clips."""
    class_probabilities: NDArray[np.float64]
    """float64 (n, K)."""


@dataclass(frozen=True, slots=True)
class DecisionGate:
    """How far decisions may differ."""

    score: float
    """Largest difference of any clip's standardised score."""
    spearman: float
    """Least rank correlation."""
    margin_z: float
    """Clips whose reference scores are closer than this may change places."""
    margin_probability: float
    """A clip whose two most probable classes are closer than this may change its class."""
    reason: str


@dataclass(frozen=True, slots=True)
class DecisionParity:
    """How decisions differ from the reference's."""

    clips: int
    worst_score_error: float
    """Standardised units."""
    spearman: float | None
    """None for fewer than three clips, or where all scores are equal."""
    largest_rank_change: int
    """Places, near ties included."""
    reordered_pairs: int
    """Pairs of clips in another order whose reference scores are further apart than the margin."""
    class_changes: int
    """Clips with another most probable class, near ties included."""
    class_changes_outside_margin: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> DecisionParity:
        """Reads what `to_json` wrote."""
        return cls(**plain)

    def rows(self, gate: DecisionGate, *, check: str = "decisions") -> Iterator[ParityRow]:
        """One row for each thing that is gated.

        Args:
            gate: the limits.
            check: what the rows are called.
        """
        found = {
            "score": (self.worst_score_error, gate.score),
            "1 - rank correlation": (None if self.spearman is None else 1 - self.spearman, 1 - gate.spearman),
            f"pairs reordered (over {gate.margin_z:g} apart)": (float(self.reordered_pairs), 0.0),
            f"classes changed (over {gate.margin_probability:g} apart)": (float(self.class_changes_outside_margin), 0.0),
        }
        for output, (error, limit) in found.items():
            if error is not None:
                tolerance = Tolerance(limit, 0.0, gate.reason)
                yield ParityRow(check, output, (self.clips,), error, tolerance, passed=bool(error <= limit))


def compare_decisions(reference: Decisions, candidate: Decisions, gate: DecisionGate) -> DecisionParity:
    """Compares what two computations say of the same clips, in the same order.

    Args:
        reference: what is right.
        candidate: what to judge.
        gate: the margins within which an order or a class may change.
    """
    changed = reference.class_probabilities.argmax(axis=1) != candidate.class_probabilities.argmax(axis=1)
    two = np.sort(reference.class_probabilities, axis=1)[:, -2:]
    clear = two[:, 1] - two[:, 0] > gate.margin_probability
    ranks = [_ranks(decisions.z) for decisions in (reference, candidate)]
    return DecisionParity(
        clips=len(reference.z),
        worst_score_error=float(np.abs(candidate.z - reference.z).max(initial=0.0)),
        spearman=_correlation(*ranks),
        largest_rank_change=int(np.ceil(np.abs(ranks[1] - ranks[0]).max(initial=0.0))),
        reordered_pairs=_reordered(reference.z, candidate.z, gate.margin_z),
        class_changes=int(changed.sum()),
        class_changes_outside_margin=int((changed & clear).sum()),
    )


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 to n, ties at their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    if len(a) < MIN_RANKED or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _reordered(reference: NDArray[np.float64], candidate: NDArray[np.float64], margin: float) -> int:
    apart = reference[:, None] - reference[None]
    return int(((apart > margin) & (candidate[:, None] <= candidate[None])).sum())
