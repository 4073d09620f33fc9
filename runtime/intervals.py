"""Conformal intervals: how far the predicted quantiles are moved apart so that intervals hold as often as they claim.

Conformalised quantile regression (Romano, Patterson and Candès 2019, arXiv 1905.03222): one margin for each length of prefix, because
quantiles after 2 s and after a whole clip are wrong by different amounts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from ..errors import DataError


@dataclass(frozen=True, slots=True)
class IntervalMargin:
    """What one bucket of prefixes was found to need."""

    chunks: int | None
    """Prefixes from this many chunks up to the next bucket's; None: whole clips, whatever their length."""
    margin_z: float
    """Added at both ends, in standardised units; negative where the quantiles were too far apart."""
    clips: int
    """Calibration clips at least this long."""


@dataclass(frozen=True, slots=True)
class ConformalIntervals:
    """The margins of every bucket. Where there is none for a prefix, its quantiles stand as they were predicted."""

    coverage: float
    """Nominal share of clips whose value lies in the interval: that of the outermost quantiles."""
    margins: tuple[IntervalMargin, ...]
    """Rising in chunks; whole clips last."""

    def __post_init__(self) -> None:
        lengths = [row.chunks for row in self.margins]
        prefixes = [length for length in lengths if length is not None]
        if not 0 < self.coverage < 1:
            raise DataError(f"intervals: expected a coverage between 0 and 1, got {self.coverage}")
        whole = all(isinstance(length, int) and length >= 1 for length in prefixes)
        if None in lengths[:-1] or not whole or prefixes != sorted(set(prefixes)):
            raise DataError(f"intervals: expected buckets of rising chunks and whole clips last, got {lengths}")
        if not all(isfinite(row.margin_z) and row.clips >= 1 for row in self.margins):
            raise DataError("intervals: expected finite margins, each of at least one clip")

    def margin(self, chunks: int, *, final: bool) -> float:
        """The margin in standardised units after so many chunks: that of the longest bucket not above it, or of whole clips."""
        if final:
            whole = [row for row in self.margins if row.chunks is None]
            return whole[0].margin_z if whole else 0.0
        reached = [row for row in self.margins if row.chunks is not None and row.chunks <= chunks]
        return reached[-1].margin_z if reached else 0.0

    def apply(self, low: float, high: float, *, chunks: int, final: bool) -> tuple[float, float]:
        """Moves the ends of an interval by the margin; ends that a negative margin would make cross meet half way.

        Args:
            low: lowest predicted quantile, in standardised units.
            high: highest predicted quantile.
            chunks: chunks seen.
            final: whether that was the whole clip.
        """
        margin = max(self.margin(chunks, final=final), (low - high) / 2)
        return low - margin, high + margin

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` is the exact inverse."""
        return {"coverage": self.coverage, "margins": [asdict(row) for row in self.margins]}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> ConformalIntervals:
        """Reads what `to_json` wrote; keys are strict.

        Raises:
            DataError: a key is unknown or missing, or a value cannot be used.
        """
        try:
            rows = tuple(IntervalMargin(**row) for row in plain["margins"])
            return cls(**{**plain, "margins": rows})
        except (TypeError, LookupError, ValueError) as error:
            raise DataError(f"intervals cannot be read: {error}") from error
