"""The target: what is predicted, how it was standardised on the training split, and the exact way back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError

TRANSFORMS = ("log1p", "yeo-johnson", "rank-gauss", "none")
QUARTILES = 4
"""Classes where nothing else is asked for."""
MOST_KNOTS = 256
_FARTHEST = 100.0
"""Spans of the training values that a fitted transform's restored value may lie outside of them."""
_LEAST_BASE = 1e-12
_LARGEST_EXPONENT = 700.0
"""exp of more is no longer a float64."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Target:
    """A named target and its standardisation `z = (transform(value) - mean) / std`, fitted on the training split alone.

    `log1p` and `none` need nothing more. `yeo-johnson` (Yeo and Johnson 2000) has a power; where that is below 0 (or above 2) the
    transform has a ceiling (a floor), and a z beyond it has no value. `rank-gauss` is a table of values and their normal scores, with
    straight lines between, and beyond its ends the line of the end segment. For these two, what is restored stays within 100 spans of
    the training values around them, and is not below 0 where no training value was.
    """

    name: str
    transform: str
    mean: float
    std: float
    class_edges: tuple[float, ...]
    """Rising boundaries between K classes of the training split, K - 1 of them, in target units; see `class_edges`."""
    power: float | None = None
    """Lambda of `yeo-johnson`."""
    knots: tuple[tuple[float, float], ...] = ()
    """Table of `rank-gauss`: 2 to 256 pairs of a value and its normal score, rising in both."""
    span: tuple[float, float] | None = None
    """Smallest and largest training value, for `yeo-johnson` and `rank-gauss`."""

    def __post_init__(self) -> None:
        if self.transform not in TRANSFORMS:
            raise DataError(f"target transform {self.transform!r} is unknown; it is one of {', '.join(TRANSFORMS)}")
        if not (np.isfinite(self.mean) and np.isfinite(self.std)):
            raise DataError(f"target {self.name!r}: mean {self.mean} and standard deviation {self.std} must be finite")
        if not self.std > 0:
            raise DataError(f"target {self.name!r} is constant on the training split; there is nothing to learn")
        _check_edges(self)
        _check_parameters(self)

    @classmethod
    def fit(cls, values: ArrayLike, *, name: str, transform: str = "log1p", classes: int = QUARTILES) -> Target:
        """Fits mean, standard deviation and class edges; `training.targets.fit_target` also fits the other two transforms.

        Args:
            values: float (clips,), the training split's targets in their own units.
            name: the column they came from.
            transform: `log1p` for counts (heavy tails), or `none`.
            classes: classes of equal share to cut the values into; ties make fewer of them, see `class_edges`.

        Raises:
            DataError: NaN, infinite, constant, or (for `log1p`) negative values, or fewer than two classes.
        """
        raw = np.asarray(values, dtype=np.float64)
        if raw.size == 0 or not np.isfinite(raw).all():
            raise DataError(f"target {name!r}: every value must be a finite number")
        if transform == "log1p" and (raw < 0).any():
            raise DataError(f"target {name!r}: log1p needs values of at least 0, got {raw.min():g}; use --transform yeo-johnson or none")
        space = np.log1p(raw) if transform == "log1p" else raw
        if np.ptp(raw) == 0:
            raise DataError(f"target {name!r} is constant on the training split; there is nothing to learn")
        return cls(name, transform, float(space.mean()), float(space.std()), class_edges(raw, classes))

    def standardise(self, values: ArrayLike) -> Numbers:
        """Target units -> standardised units, same shape."""
        return np.asarray((self.apply(values) - self.mean) / self.std)

    def restore(self, z: ArrayLike) -> Numbers:
        """Standardised units -> target units, same shape; the exact inverse of `standardise`."""
        space = np.asarray(z, dtype=np.float64) * self.std + self.mean
        if self.transform == "log1p":
            return np.asarray(np.expm1(space))
        if self.power is not None:
            return self._kept(_undo_yeo_johnson(space, self.power))
        return self._kept(_along(space, *self._table()[::-1])) if self.knots else space

    def apply(self, values: ArrayLike) -> Numbers:
        """Target units -> the transform's own units, before mean and standard deviation; same shape."""
        raw = np.asarray(values, dtype=np.float64)
        if self.transform == "log1p":
            return np.asarray(np.log1p(raw))
        if self.power is not None:
            return _yeo_johnson(raw, self.power)
        return _along(raw, *self._table()) if self.knots else raw

    @property
    def classes(self) -> int:
        """How many classes there are: K."""
        return len(self.class_edges) + 1

    def class_of(self, values: ArrayLike) -> NDArray[np.int64]:
        """Target units -> class 0..K-1, same shape; a value on an edge belongs to the class below it."""
        return np.searchsorted(np.asarray(self.class_edges), np.asarray(values, dtype=np.float64), side="left")

    def class_sizes(self, values: ArrayLike) -> tuple[int, ...]:
        """How many of float (clips,), in target units, fall into each of the K classes."""
        return tuple(np.bincount(self.class_of(values), minlength=self.classes).tolist())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` is the exact inverse. What a transform does not have is left out."""
        plain: dict[str, Any] = {"name": self.name, "transform": self.transform, "mean": self.mean, "std": self.std}
        plain["class_edges"] = list(self.class_edges)
        if self.power is not None:
            plain["power"] = self.power
        if self.knots:
            plain["knots"] = [list(knot) for knot in self.knots]
        if self.span is not None:
            plain["span"] = list(self.span)
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Target:
        """Reads what `to_json` wrote.

        Raises:
            DataError: a key is unknown or missing, or a value cannot be used.
        """
        try:
            knots = tuple((float(value), float(score)) for value, score in plain.get("knots", ()))
            span = plain.get("span")
            fitted: dict[str, Any] = {"knots": knots, "span": None if span is None else (float(span[0]), float(span[1]))}
            return cls(**{**plain, **fitted, "class_edges": tuple(float(edge) for edge in plain["class_edges"])})
        except (TypeError, LookupError, ValueError) as error:
            raise DataError(f"target description cannot be read: {error}") from error

    def _table(self) -> tuple[Numbers, Numbers]:
        values, scores = np.array(self.knots).T
        return values, scores

    def _kept(self, values: Numbers) -> Numbers:
        """Values no farther from the training values than they may be."""
        low, high = self.span or (-np.inf, np.inf)
        reach = _FARTHEST * (high - low)
        return np.clip(values, max(low - reach, 0.0) if low >= 0 else low - reach, high + reach)


def class_edges(values: Numbers, classes: int = QUARTILES) -> tuple[float, ...]:
    """Quantiles that cut values into classes of equal share, fewer where ties allow no more: every class holds at least one value.

    A class is the half-open (edge below, edge], so that a mass of equal values (37 % zeros, say) lies in one class and is the whole of
    the lowest one where it is the lowest value. Edges that would leave nothing between them are one edge. An edge at the
    largest value would leave nothing above it, and lies at the largest but one instead.

    Args:
        values: float64 (clips,), of which two differ.
        classes: how many are asked for.

    Returns:
        1 to `classes` - 1 rising edges.

    Raises:
        DataError: fewer than two classes are asked for, or all values are equal.
    """
    if classes < 2:
        raise DataError(f"a target is cut into at least 2 classes, got {classes}")
    ordered = np.sort(values)
    below_largest = ordered[ordered < ordered[-1]]
    if len(below_largest) == 0:
        raise DataError("a target with a single value has no classes")
    edges = np.minimum(np.quantile(ordered, np.arange(1, classes) / classes), below_largest[-1])
    _, first = np.unique(np.searchsorted(ordered, edges, side="right"), return_index=True)
    return tuple(edges[first].tolist())


def _check_edges(target: Target) -> None:
    edges = np.asarray(target.class_edges, dtype=np.float64)
    if len(edges) == 0 or not (np.isfinite(edges).all() and (np.diff(edges) > 0).all()):
        raise DataError(f"target {target.name!r}: expected class edges that are finite and rise, at least one, got {target.class_edges}")


def _check_parameters(target: Target) -> None:
    """Each transform has its own parameters, and no other's."""
    transform, scores = target.transform, np.array(target.knots, dtype=np.float64).reshape(-1, 2)
    fitted = transform in ("yeo-johnson", "rank-gauss")
    if (target.power is not None) != (transform == "yeo-johnson") or bool(target.knots) != (transform == "rank-gauss"):
        raise DataError(f"target {target.name!r}: {transform} has a parameter missing, or one too many")
    if (target.span is not None) != fitted:
        raise DataError(f"target {target.name!r}: {transform} {'needs' if fitted else 'has no'} span")
    if target.power is not None and not np.isfinite(target.power):
        raise DataError(f"target {target.name!r}: power {target.power} is no number")
    rises = np.isfinite(scores).all() and (np.diff(scores, axis=0) > 0).all()
    if target.knots and not (rises and 2 <= len(scores) <= MOST_KNOTS):
        raise DataError(f"target {target.name!r}: expected 2 to {MOST_KNOTS} finite knots that rise")


def _yeo_johnson(values: Numbers, power: float) -> Numbers:
    """Yeo and Johnson (2000), equation 2.1."""
    logs = np.log1p(np.abs(values))
    return np.where(values >= 0, _box_cox(logs, power), -_box_cox(logs, 2.0 - power))


def _undo_yeo_johnson(space: Numbers, power: float) -> Numbers:
    size = np.abs(space)
    return np.where(space >= 0, _undo_box_cox(size, power), -_undo_box_cox(size, 2.0 - power))


def _box_cox(logs: Numbers, power: float) -> Numbers:
    """((1 + x)^power - 1) / power from log(1 + x); where power is 0, its limit."""
    return logs if power == 0 else np.asarray(np.expm1(np.minimum(power * logs, _LARGEST_EXPONENT)) / power)


def _undo_box_cox(space: Numbers, power: float) -> Numbers:
    logs = space if power == 0 else np.log(np.maximum(1.0 + power * space, _LEAST_BASE)) / power
    return np.asarray(np.expm1(np.minimum(logs, _LARGEST_EXPONENT)))


def _along(x: Numbers, xs: Numbers, ys: Numbers) -> Numbers:
    """Straight lines through rising knots; beyond the ends the line of the end segment goes on."""
    below = ys[0] + (x - xs[0]) * ((ys[1] - ys[0]) / (xs[1] - xs[0]))
    above = ys[-1] + (x - xs[-1]) * ((ys[-1] - ys[-2]) / (xs[-1] - xs[-2]))
    return np.where(x < xs[0], below, np.where(x > xs[-1], above, np.interp(x, xs, ys)))
