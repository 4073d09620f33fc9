"""Where each rule would have left clips that were scored whole, what that spares, and what it costs in accuracy. Nothing is scored here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DataError
from ..runtime.bundle import Bundle
from ..runtime.settling import KINDS
from ..runtime.settling_fit import ClipPath, FollowedPaths, Stopped
from ..training.bootstrap import Bootstrap, ConfidenceInterval
from ..training.metrics import mse, spearman

CONFIDENCES = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
PROBABILITIES = (0.5, 0.6, 0.7, 0.8)
PATIENCES = (1, 2, 3)
FIXED_CHUNKS = (1, 2, 4, 8, 12)


@dataclass(frozen=True, slots=True)
class ClipRun:
    """One clip, whole and until it was settled."""

    clip: str
    author: str | None
    truth_z: float | None
    """None where nobody knows it."""
    path: ClipPath
    whole_core_s: float | None = None
    settled_core_s: float | None = None
    settled_end_s: float | None = None
    """Where the real run stopped. None, as the two above, where the clip was scored once only."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Figures of the scores as they stood, and of whole clips, in standardised units."""

    mse: float
    mse_whole: float
    mse_difference: ConfidenceInterval
    spearman: float | None
    spearman_whole: float | None
    spearman_difference: ConfidenceInterval
    accuracy: float
    """Of the class, against the true one."""
    accuracy_whole: float
    accuracy_difference: ConfidenceInterval
    coverage: float
    """Share of truths inside the interval as it stood."""
    coverage_whole: float


@dataclass(frozen=True, slots=True)
class RuleResult:
    """What one rule would have done."""

    rule: str
    stopped: int
    """Clips it stops early."""
    kept: int
    """Of those, clips whose class (or interval, for an interval rule) was the same after the whole clip."""
    kept_share: ConfidenceInterval
    flips: int
    """Of all clips, those with another class than after the whole clip."""
    unread: ConfidenceInterval
    """Share of the seconds of all clips."""
    moved_z_median: float | None
    moved_z_p90: float | None
    """Over clips that stop early."""
    cost: Cost | None


def replay(runs: Sequence[ClipRun], bundle: Bundle, *, resamples: int = 1000) -> list[RuleResult]:
    """What every rule would have done."""
    paths = [run.path for run in runs]
    bootstrap = Bootstrap([run.author for run in runs], resamples=resamples)
    results = []
    for name, stopped in (*_own_rules(paths, bundle), *_plain_rules(paths), *_fixed(paths)):
        results.append(_result(name, runs, stopped, bundle, bootstrap))
    return results


def _own_rules(paths: Sequence[ClipPath], bundle: Bundle) -> Iterator[tuple[str, list[Stopped]]]:
    settling = bundle.manifest.settling
    for kind in KINDS if settling else ():
        for confidence in CONFIDENCES:
            try:
                stop = settling.stop(kind, confidence) if settling else None
            except DataError:
                continue
            if stop:
                yield f"{kind} settled at {confidence:g}", FollowedPaths(paths, stop.rule).stop(stop.row.threshold)


def _plain_rules(paths: Sequence[ClipPath]) -> Iterator[tuple[str, list[Stopped]]]:
    for patience in PATIENCES:
        for least in PROBABILITIES:
            yield f"probability {least:g} for {patience} chunks", [_left(path, _first(path, least, patience)) for path in paths]


def _fixed(paths: Sequence[ClipPath]) -> Iterator[tuple[str, list[Stopped]]]:
    for chunks in FIXED_CHUNKS:
        yield f"after {chunks} chunks", [_left(path, chunks - 1) for path in paths]


def _first(path: ClipPath, least: float, patience: int) -> int:
    """The first chunk up to which as many in a row had the same class, each of at least this probability; else the last."""
    classes, sure = path.class_probabilities.argmax(axis=1), path.class_probabilities.max(axis=1) >= least
    for at in range(patience - 1, len(classes)):
        last = slice(at - patience + 1, at + 1)
        if sure[last].all() and len(set(classes[last].tolist())) == 1:
            return at
    return len(classes) - 1


def _left(path: ClipPath, at: int) -> Stopped:
    at = min(at, len(path.z) - 1)
    classes = path.class_probabilities.argmax(axis=1)
    return Stopped(
        index=at,
        early=at < len(path.z) - 1,
        kept=bool(classes[at] == classes[-1]),
        moved_z=float(abs(path.z[-1] - path.z[at])),
        unread_s=float(path.end_s[-1] - path.end_s[at]),
    )


def _result(name: str, runs: Sequence[ClipRun], stopped: Sequence[Stopped], bundle: Bundle, bootstrap: Bootstrap) -> RuleResult:
    early = np.array([clip.early for clip in stopped])
    kept = np.array([clip.kept for clip in stopped])
    unread, whole = np.array([clip.unread_s for clip in stopped]), np.array([run.path.end_s[-1] for run in runs])
    classes = np.array([_classes(run.path)[[clip.index, -1]] for run, clip in zip(runs, stopped, strict=True)])
    moves = np.array([clip.moved_z for clip in stopped])[early]
    known = all(run.truth_z is not None for run in runs)
    return RuleResult(
        rule=name,
        stopped=int(early.sum()),
        kept=int((early & kept).sum()),
        kept_share=bootstrap.interval(ratio, early, early & kept),
        flips=int((classes[:, 0] != classes[:, 1]).sum()),
        unread=bootstrap.interval(ratio, whole, unread),
        moved_z_median=float(np.median(moves)) if len(moves) else None,
        moved_z_p90=float(np.quantile(moves, 0.9)) if len(moves) else None,
        cost=_cost(runs, stopped, bundle, bootstrap) if known else None,
    )


def _classes(path: ClipPath) -> NDArray[np.int64]:
    return np.asarray(path.class_probabilities.argmax(axis=1))


def ratio(of: ArrayLike, part: ArrayLike) -> float | None:
    """The share of a whole; None where there is no whole."""
    total = float(np.sum(of))
    return float(np.sum(part)) / total if total else None


def _cost(runs: Sequence[ClipRun], stopped: Sequence[Stopped], bundle: Bundle, bootstrap: Bootstrap) -> Cost:
    target = bundle.manifest.target
    truth = np.array([run.truth_z for run in runs], dtype=np.float64)
    then, whole = (np.array([run.path.z[at] for run, at in _at(runs, stopped, last)]) for last in (False, True))
    said, said_whole = (np.array([_classes(run.path)[at] for run, at in _at(runs, stopped, last)]) for last in (False, True))
    true_class = target.class_of(target.restore(truth))
    covered, covered_whole = (
        np.mean([run.path.interval_z[at, 0] <= run.truth_z <= run.path.interval_z[at, 1] for run, at in _at(runs, stopped, last)])
        for last in (False, True)
    )
    return Cost(
        mse(truth, then),
        mse(truth, whole),
        bootstrap.difference(mse, truth, then, whole),
        spearman(truth, then),
        spearman(truth, whole),
        bootstrap.difference(spearman, truth, then, whole),
        _accuracy(true_class, said),
        _accuracy(true_class, said_whole),
        bootstrap.difference(_accuracy, true_class, said, said_whole),
        float(covered),
        float(covered_whole),
    )


def _at(runs: Sequence[ClipRun], stopped: Sequence[Stopped], last: bool) -> Iterator[tuple[ClipRun, int]]:
    return ((run, -1 if last else clip.index) for run, clip in zip(runs, stopped, strict=True))


def _accuracy(truth: ArrayLike, said: ArrayLike) -> float:
    return float(np.mean(np.asarray(truth) == np.asarray(said)))
