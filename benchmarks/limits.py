"""The least time an engine could take on this machine, and how many times that it took.

The floor is the larger of two: what must be computed over the product ceiling, and what must be moved at least (weights once, inputs and
outputs; all else could stay in registers) over the copy ceiling. What fits in L2 may come from there, so it is held against that ceiling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..runtime.bundle import Bundle
from .ceilings import cache_bytes, measure_ceilings
from .graph_cost import bundle_costs
from .results import Ceiling, GraphCost, Limits

_QUICK_ROUNDS, _ROUNDS = 3, 7
_L2_BYTES = 1 << 20
"""Where the system does not tell its caches."""


@dataclass(frozen=True, slots=True)
class Floor:
    """The least time of one call of one graph."""

    compute_ms: float
    move_ms: float
    product: Ceiling
    copy: Ceiling

    @property
    def ms(self) -> float:
        return max(self.compute_ms, self.move_ms)

    @property
    def bound(self) -> Literal["compute", "memory"]:
        """Which side it is that cannot be faster."""
        return "compute" if self.compute_ms >= self.move_ms else "memory"

    def times(self, measured_ms: float) -> float:
        """How many floors a measured time is; 1 is as fast as can be."""
        return measured_ms / self.ms


def measure_limits(bundle: Bundle, precisions: Sequence[str], threads: Sequence[int], *, quick: bool = False) -> Limits:
    """Counts the bundle's graphs and measures the machine; about four seconds for each number of threads.

    Args:
        bundle: whose graphs are counted.
        precisions: of the graphs; one that the bundle doesn't hold has no cost of its own.
        threads: numbers of threads to measure ceilings for.
        quick: fewer rounds.

    Raises:
        EngineError: a graph cannot be counted or the machine not be measured.
    """
    return Limits(bundle_costs(bundle, precisions), measure_ceilings(threads, rounds=_QUICK_ROUNDS if quick else _ROUNDS))


def floor_of(cost: GraphCost, threads: int, limits: Limits) -> Floor | None:
    """The floor on this machine's CPU with so many threads; None where that number was not measured.

    A product in int8 is held against the best of all products, anything else against the best float32 one: ONNX Runtime computes
    float16 graphs in float32 on most CPUs.
    """
    measured = [ceiling for ceiling in limits.ceilings if ceiling.threads == threads]
    products = [ceiling for ceiling in measured if ceiling.unit == "FLOP/s" and (cost.precision == "int8" or "float32" in ceiling.name)]
    moved = cost.weight_bytes + cost.io_bytes
    fits = moved <= (cache_bytes(2) or _L2_BYTES)
    copies = [ceiling for ceiling in measured if ceiling.unit == "B/s" and (fits or "within" not in ceiling.name)]
    if not products or not copies:
        return None
    product, copy = (max(some, key=lambda ceiling: ceiling.value) for some in (products, copies))
    return Floor(1e3 * cost.flops / product.value, 1e3 * moved / copy.value, product, copy)
