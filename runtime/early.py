"""Early exit: a scorer that stops reading a clip once its score is settled, and keeps account of what that saved."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from threading import Lock
from time import process_time
from typing import Any, Protocol

import numpy as np

from ..errors import DataError
from .bundle import Bundle
from .energy import EnergyMeter
from .media import ReadOptions, Source
from .score import Score
from .settling import Kind, Stop


@dataclass(frozen=True, slots=True)
class Until:
    """When to stop."""

    kind: Kind = "class"
    """What is to be settled."""
    confidence: float = 0.9
    """Share of the clips that stop early which is to end as it stood."""

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise DataError(f"expected a confidence between 0 and 1, got {self.confidence:g}")


@dataclass(frozen=True, slots=True)
class Savings:
    """What stopping early saved so far."""

    clips: int
    """Clips that were scored to their end or to where they were settled."""
    settled: int
    """Clips of those that stopped early."""
    seen_s: float
    """Media seconds that were scored."""
    unread_s: float
    """Media seconds that the containers of settled clips declare and that were not scored."""
    undeclared: int
    """Settled clips of which nobody says how long they are: what they saved is not in `unread_s`."""
    core_s_per_s: float | None
    """Core-seconds of this process for a media second, counted from the first score on; None before the second score."""
    joules_per_s: float | None
    """Joules of the whole machine for a media second, in the same time; None where its counters cannot be read."""

    @property
    def core_s(self) -> float | None:
        """Core-seconds saved: an estimate, as if the rest had cost what was seen cost."""
        return None if self.core_s_per_s is None else self.core_s_per_s * self.unread_s

    @property
    def joules(self) -> float | None:
        """Joules saved, estimated likewise."""
        return None if self.joules_per_s is None else self.joules_per_s * self.unread_s


class BundleScorer(Protocol):
    """What is needed of a `Scorer`."""

    @property
    def bundle(self) -> Bundle: ...

    def stream(self, source: Source, *, options: ReadOptions | None = None) -> Iterator[Score]: ...


class UntilSettled:
    """Takes a scorer's place, for `score_many` and `AsyncScorer` too: its streams end where the clip is settled.

    The last score of such a stream is `final` and `settled`. The source is closed before it is handed over. Like a scorer it may be used
    by several threads at once, each with streams of its own. The scorer stays its owner's.
    """

    def __init__(self, scorer: BundleScorer, until: Until | None = None) -> None:
        """Looks up what the bundle can promise.

        Raises:
            DataError: the bundle has no settling table, or cannot promise so much.
        """
        self.until = until or Until()
        self.stop = stop_of(scorer.bundle, self.until)
        self._scorer = scorer
        self._account = _Account()

    def stream(self, source: Source, *, options: ReadOptions | None = None, **how: Any) -> Generator[Score, None, None]:
        """Scores a clip while it is read, until it is settled; see `Scorer.stream`, which all arguments are for."""
        watch = self.stop.rule.watch()
        scores = self._scorer.stream(source, options=options, **how)
        try:
            for score in scores:
                settled = watch.after(score.class_probabilities, self._interval_z(score)) >= self.stop.row.threshold and not score.final
                self._account.add(score, settled=settled)
                if settled:
                    break
                yield score
            else:
                return
        finally:
            if isinstance(scores, Generator):
                scores.close()
        yield _settled(score)

    def score(self, source: Source, *, options: ReadOptions | None = None) -> Score:
        """Scores a clip as far as it needs to be read: the last score of `stream`."""
        *_, last = self.stream(source, options=options)
        return last

    @property
    def savings(self) -> Savings:
        """What was saved so far."""
        return self._account.savings()

    def _interval_z(self, score: Score) -> tuple[float, float]:
        with np.errstate(all="ignore"):  # an end that has no value in standardised units is no sign of being settled
            low, high = self._scorer.bundle.manifest.target.standardise(score.interval).tolist()
        return low, high


def stop_of(bundle: Bundle, until: Until) -> Stop:
    """The rule and the threshold that a bundle has for what is asked.

    Raises:
        DataError: it has no settling table, or cannot promise so much.
    """
    if bundle.manifest.settling is None:
        raise DataError(
            f"{bundle.path} has no settling table, so nobody knows when its scores are settled; "
            f"make one from clips it was not trained on: shortcast settle {bundle.path} CLIPS"
        )
    return bundle.manifest.settling.stop(until.kind, until.confidence)


def _settled(score: Score) -> Score:
    """The score of a clip that is not read any further."""
    of = "" if score.declared_s is None else f" of {score.declared_s:.1f} s"
    return replace(score, final=True, settled=True, notes=(*score.notes, f"settled after {score.end_s:.1f} s{of}"))


class _Account:
    """Counts what streams of several threads see and leave unread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._clips = self._settled = self._undeclared = 0
        self._seen_s = self._unread_s = 0.0
        self._first: tuple[float, float, EnergyMeter] | None = None
        """Core-seconds and media seconds when the first score was known, and a meter that began then."""
        self._core_s = 0.0
        self._joules: float | None = None

    def add(self, score: Score, *, settled: bool) -> None:
        """Takes in one more score."""
        with self._lock:
            self._seen_s += score.end_s - score.start_s
            if self._first is None:
                self._first = process_time(), self._seen_s, EnergyMeter()
            self._core_s = process_time() - self._first[0]
            self._joules = self._first[2].joules()
            self._clips += settled or score.final
            self._settled += settled
            if settled and score.unread_s is None:
                self._undeclared += 1
            self._unread_s += (score.unread_s or 0.0) if settled else 0.0

    def savings(self) -> Savings:
        with self._lock:
            measured_s = self._seen_s - self._first[1] if self._first else 0.0
            return Savings(
                clips=self._clips,
                settled=self._settled,
                seen_s=self._seen_s,
                unread_s=self._unread_s,
                undeclared=self._undeclared,
                core_s_per_s=self._core_s / measured_s if measured_s > 0 else None,
                joules_per_s=self._joules / measured_s if measured_s > 0 and self._joules is not None else None,
            )
