"""Makes a settling table from clips that were scored whole, chunk by chunk. No truth is needed: a clip is compared with itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .settling import INTERVAL_SHARE, KINDS, Kind, Settling, SettlingRow, SettlingRule, moved

PATIENCE: Mapping[Kind, int] = {"class": 2, "interval": 5}
"""Chunks that have to agree: for each kind what left most unread at nine in ten, on clips that nothing else was measured on."""
CERTAINTY = 0.95
ROWS = 10
"""Thresholds of a rule. The doubt is shared among them, so more of them promise less each."""
MOVED_SHARE = 0.9
LEAST_CLIPS = 30
"""Fewer could hardly promise eight in ten, whatever came of them."""


@dataclass(frozen=True, slots=True)
class ClipPath:
    """What was said of one clip after each of its N chunks."""

    z: NDArray[np.float64]
    """float64 (N,), standardised units."""
    interval_z: NDArray[np.float64]
    """float64 (N, 2): both ends with their conformal margin, standardised units."""
    class_probabilities: NDArray[np.float64]
    """float64 (N, K)."""
    end_s: NDArray[np.float64]
    """float64 (N,): seconds seen."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """A clip as it stood where a rule stopped it."""

    index: int
    """The chunk it stopped after; the last one where it did not stop early."""
    early: bool
    kept: bool
    """Whether what the rule is about was the same after the whole clip."""
    moved_z: float
    unread_s: float


class FollowedPaths:
    """Clips with the firmness of each of their chunks by one rule, which any threshold can be tried on."""

    def __init__(self, paths: Sequence[ClipPath], rule: SettlingRule) -> None:
        self.paths = paths
        self._kind = rule.kind
        self._firmness = [_firmness(path, rule) for path in paths]

    def peaks(self) -> NDArray[np.float64]:
        """How firm each clip ever was before its last chunk: float64 (clips,), minus infinity where it never was."""
        return np.array([firmness.max(initial=-inf) for firmness in self._firmness])

    def stop(self, threshold: float) -> list[Stopped]:
        """Each clip where it stops."""
        return [_stopped(path, firmness, threshold, self._kind) for path, firmness in zip(self.paths, self._firmness, strict=True)]


def fit_settling(
    paths: Sequence[ClipPath], provenance: Mapping[str, Any], *, patience: Mapping[Kind, int] = PATIENCE, rows: int = ROWS
) -> Settling:
    """The table of both kinds of rule.

    Thresholds are chosen by how many clips they stop, and never by how those ended, so that a bound on the latter holds.

    Args:
        paths: of clips that the weights were not fitted to.
        provenance: what is to be known of them.
        patience: chunks that have to agree, by kind.
        rows: thresholds of each rule.
    """
    rules = (_fit_rule(paths, SettlingRule(kind, patience[kind], ()), rows) for kind in KINDS)
    return Settling(len(paths), CERTAINTY, tuple(rules), dict(provenance))


def lengths_of(paths: Sequence[ClipPath]) -> dict[str, float]:
    """How long the clips of a table are: what it says is of clips of such lengths."""
    shortest, median, longest = np.quantile([path.end_s[-1] for path in paths], [0, 0.5, 1]).round(1).tolist()
    return {"shortest_s": shortest, "median_s": median, "longest_s": longest}


def _fit_rule(paths: Sequence[ClipPath], rule: SettlingRule, rows: int) -> SettlingRule:
    followed = FollowedPaths(paths, rule)
    seconds = sum(float(path.end_s[-1]) for path in paths)
    found = (_row(followed.stop(threshold), threshold, seconds) for threshold in _thresholds(followed.peaks(), rows))
    return SettlingRule(rule.kind, rule.patience, tuple(found))


def _thresholds(peaks: NDArray[np.float64], rows: int) -> Iterable[float]:
    """Falling thresholds at which ever more clips stop, in even steps up to all that can."""
    able = np.unique(peaks[np.isfinite(peaks)])[::-1]
    ranks = sorted({ceil(len(able) * step / rows) - 1 for step in range(1, rows + 1)}) if len(able) else []
    return (float(able[rank]) for rank in ranks)


def _row(stopped: Sequence[Stopped], threshold: float, seconds: float) -> SettlingRow:
    early = [clip for clip in stopped if clip.early]
    rank = ceil(round((len(early) + 1) * MOVED_SHARE, 9))
    moves = sorted(clip.moved_z for clip in early)
    return SettlingRow(
        threshold=threshold,
        stopped=len(early),
        kept=sum(clip.kept for clip in early),
        moved_z=moves[rank - 1] if rank <= len(moves) else None,
        unread=sum(clip.unread_s for clip in early) / seconds,
    )


def _firmness(path: ClipPath, rule: SettlingRule) -> NDArray[np.float64]:
    """float64 (N - 1,): of every chunk but the last, after which there is nothing to save."""
    watch = rule.watch()
    ends = [(float(low), float(high)) for low, high in path.interval_z]
    return np.array([watch.after(said, end) for said, end in zip(path.class_probabilities.tolist(), ends, strict=True)][:-1])


def _stopped(path: ClipPath, firmness: NDArray[np.float64], threshold: float, kind: Kind) -> Stopped:
    last = len(path.z) - 1
    firm = np.flatnonzero(firmness >= threshold)
    at = int(firm[0]) if len(firm) else last
    return Stopped(at, at < last, _kept(path, at, kind), float(abs(path.z[-1] - path.z[at])), float(path.end_s[-1] - path.end_s[at]))


def _kept(path: ClipPath, at: int, kind: Kind) -> bool:
    if kind == "class":
        return bool(path.class_probabilities[at].argmax() == path.class_probabilities[-1].argmax())
    then, whole = ((float(low), float(high)) for low, high in path.interval_z[[at, -1]])
    return moved(whole, then) <= INTERVAL_SHARE
