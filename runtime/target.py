"""The target: what is predicted, how it was standardised on the training split, and the exact way back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError

TRANSFORMS = ("log1p", "none")


@dataclass(frozen=True, slots=True)
class Target:
    """A named target and its standardisation `z = (transform(value) - mean) / std`, fitted on the training split alone."""

    name: str
    transform: str
    mean: float
    std: float
    quartile_edges: tuple[float, float, float]
    """Quartile boundaries of the training split, in target units."""

    def __post_init__(self) -> None:
        if self.transform not in TRANSFORMS:
            raise DataError(f"target transform {self.transform!r} is unknown; it is one of {', '.join(TRANSFORMS)}")
        if not self.std > 0:
            raise DataError(f"target {self.name!r} is constant on the training split; there is nothing to learn")

    @classmethod
    def fit(cls, values: ArrayLike, *, name: str, transform: str = "log1p") -> Target:
        """Fits mean, standard deviation and quartile edges.

        Args:
            values: float (clips,), the training split's targets in their own units.
            name: the column they came from.
            transform: `log1p` for counts (heavy tails), or `none`.

        Raises:
            DataError: NaN, infinite, constant, or (for `log1p`) negative values.
        """
        raw = np.asarray(values, dtype=np.float64)
        if raw.size == 0 or not np.isfinite(raw).all():
            raise DataError(f"target {name!r}: every value must be a finite number")
        if transform == "log1p" and (raw < 0).any():
            raise DataError(f"target {name!r}: log1p needs values of at least 0, got {raw.min():g}; use --transform none")
        space = np.log1p(raw) if transform == "log1p" else raw
        low, middle, high = np.quantile(raw, [0.25, 0.5, 0.75])
        return cls(name, transform, float(space.mean()), float(space.std()), (float(low), float(middle), float(high)))

    def standardise(self, values: ArrayLike) -> NDArray[np.float64]:
        """Target units -> standardised units, same shape."""
        raw = np.asarray(values, dtype=np.float64)
        space = np.log1p(raw) if self.transform == "log1p" else raw
        return np.asarray((space - self.mean) / self.std)

    def restore(self, z: ArrayLike) -> NDArray[np.float64]:
        """Standardised units -> target units, same shape; the exact inverse of `standardise`."""
        space = np.asarray(z, dtype=np.float64) * self.std + self.mean
        return np.asarray(np.expm1(space) if self.transform == "log1p" else space)

    def quartile_of(self, values: ArrayLike) -> NDArray[np.int64]:
        """Target units -> quartile 0..3 of the training split; a value on an edge belongs to the upper side."""
        return np.searchsorted(np.asarray(self.quartile_edges), np.asarray(values, dtype=np.float64), side="right")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` is the exact inverse."""
        return {**asdict(self), "quartile_edges": list(self.quartile_edges)}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Target:
        """Reads what `to_json` wrote.

        Raises:
            DataError: a key is unknown or missing, or a value cannot be used.
        """
        try:
            return cls(**{**plain, "quartile_edges": tuple(plain["quartile_edges"])})
        except (TypeError, KeyError) as error:
            raise DataError(f"target description cannot be read: {error}") from error
