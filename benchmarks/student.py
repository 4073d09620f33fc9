"""Student's t distribution, for intervals that rest on three or five runs; SciPy is not in a lean installation.

With t = sqrt(n) tan(angle), the density becomes a power of a cosine over a finite range, which Gauss and Legendre's rule integrates to
some ten digits (held against SciPy in the tests).
"""

from __future__ import annotations

import math

import numpy as np

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(96)
_MOST_FREEDOM = 1000.0
"""Beyond it the distribution is the normal one to three digits, and the integrand too narrow for so many nodes."""


def upper_tail(t: float, freedom: float) -> float:
    """Chance of more than `t` with so many degrees of freedom.

    Raises:
        ValueError: fewer than 1 degree of freedom.
    """
    if freedom < 1:
        raise ValueError(f"Student's t: expected 1 degree of freedom or more, got {freedom:g}")
    if t < 0:
        return 1.0 - upper_tail(-t, freedom)
    freedom = min(freedom, _MOST_FREEDOM)
    begin = math.atan(t / math.sqrt(freedom))
    half = (math.pi / 2 - begin) / 2
    angles = begin + half * (_NODES + 1)
    integral = half * float(np.sum(_WEIGHTS * np.cos(angles) ** (freedom - 1)))
    return integral * math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)


def critical(level: float, freedom: float) -> float:
    """The t that |T| stays below with chance `level`, such as 2.776 for 0.95 and 4 degrees of freedom."""
    outside = (1 - level) / 2
    low, high = 0.0, 1.0
    while upper_tail(high, freedom) > outside:
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if upper_tail(middle, freedom) > outside else (low, middle)
    return high
