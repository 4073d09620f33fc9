"""Settling: whether a clip's score has come so far that the rest of the clip need not be read, and how sure that is.

A rule watches the scores of one clip and says after each chunk how *firm* they are. Its table, made from clips that were scored whole
(`settling_fit`), says for a threshold of firmness how many of them would have stopped early and how many of those ended as they stood
when they stopped. So what is promised is of the rule as it is used, from a clip's first chunk to where it stops, and not of one prefix
at a time: to stop at the first sign is to choose, and a promise for each prefix would not hold for the chosen one. (Calibrating the
stopping rule itself: Schuster et al. 2022, "Confident Adaptive Language Modeling", arXiv 2207.07061; Angelopoulos et al. 2021, "Learn
then Test", arXiv 2110.01052.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import exp, inf, isfinite, lgamma, log, log1p, sqrt
from typing import Any, Literal

from ..errors import DataError

Kind = Literal["class", "interval"]
"""What is to be settled: the most probable class, or both ends of the interval."""
KINDS: tuple[Kind, ...] = ("class", "interval")
INTERVAL_SHARE = 0.2
"""An interval ended as it stood where neither end moved by more than this share of its width."""
_LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True, slots=True)
class SettlingRow:
    """What a threshold of firmness was found to be worth, on the clips of the table."""

    threshold: float
    """A clip stops at the first chunk, the last one excepted, after which it is at least as firm as this."""
    stopped: int
    """Clips that stop early."""
    kept: int
    """Clips of those whose class, or interval, was the same after the whole clip."""
    moved_z: float | None
    """How far nine in ten of those at most still moved, in standardised units; None for too few clips to say."""
    unread: float
    """Share of the seconds of all clips of the table that need not be read."""


@dataclass(frozen=True, slots=True)
class SettlingRule:
    """One way to tell that a clip is settled, with what was measured of it."""

    kind: Kind
    patience: int
    """Chunks, the latest included, that have to agree."""
    rows: tuple[SettlingRow, ...]
    """Strictest first: thresholds fall and more clips stop."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS or not isinstance(self.patience, int) or self.patience < 1:
            raise DataError(
                f"settling: expected one of {', '.join(KINDS)} and a patience of at least 1, got {self.kind!r}, {self.patience}"
            )
        if any(not (isfinite(row.threshold) and 0 <= row.kept <= row.stopped and row.stopped >= 1) for row in self.rows):
            raise DataError(f"settling: a row of the {self.kind} rule has no finite threshold, or more clips kept than stopped")
        stricter = list(zip(self.rows, self.rows[1:], strict=False))
        if any(a.threshold <= b.threshold or a.stopped >= b.stopped for a, b in stricter):
            raise DataError(f"settling: expected falling thresholds of the {self.kind} rule at which ever more clips stop")

    def watch(self) -> Firmness:
        """Begins to watch a clip."""
        return Firmness(self.kind, self.patience)


@dataclass(frozen=True, slots=True)
class Stop:
    """A rule with the threshold that was chosen for it, and what that promises."""

    rule: SettlingRule
    row: SettlingRow
    at_least: float
    """Share of clips that stop early which, with the table's certainty, at least end as they stood."""


@dataclass(frozen=True, slots=True)
class Settling:
    """The rules of one model. Their bounds hold all at once with `certainty`, so a row may be chosen by what it promises."""

    clips: int
    """How many clips the tables were made from, those included that are too short to stop early."""
    certainty: float
    rules: tuple[SettlingRule, ...]
    provenance: dict[str, Any]
    """Free JSON: which clips, how long, when."""

    def __post_init__(self) -> None:
        if not 0 < self.certainty < 1 or not isinstance(self.clips, int) or self.clips < 1:
            raise DataError(f"settling: expected clips and a certainty between 0 and 1, got {self.clips} and {self.certainty}")
        kinds = [rule.kind for rule in self.rules]
        if len(set(kinds)) != len(kinds) or any(row.stopped > self.clips for rule in self.rules for row in rule.rows):
            raise DataError("settling: expected rules of different kinds, in which no more clips stop than there are")

    def at_least(self, rule: SettlingRule, row: SettlingRow) -> float:
        """The lower bound of the share of stopped clips that end as they stood; the doubt is shared among the rule's rows (Bonferroni)."""
        return least_share(row.kept, row.stopped, doubt=(1 - self.certainty) / len(rule.rows))

    def stop(self, kind: Kind, confidence: float) -> Stop:
        """The loosest threshold that promises so much.

        Args:
            kind: what is to be settled.
            confidence: share of the clips that stop early which is to end as it stood, between 0 and 1.

        Raises:
            DataError: there is no such rule, or it is never that sure.
        """
        rule = next((rule for rule in self.rules if rule.kind == kind), None)
        if rule is None or not rule.rows:
            raise DataError(f"the bundle's settling table has no rule for the {kind}: its {self.clips} clips were too short or too few")
        bounds = [(self.at_least(rule, row), row) for row in rule.rows]
        able = [(bound, row) for bound, row in bounds if bound >= confidence]
        if not able:
            best = max(bound for bound, _ in bounds)
            raise DataError(
                f"no settled {kind} can be promised with {confidence:.0%}: the most that the {self.clips} clips of the bundle's settling "
                f"table allow is {_floor_percent(best)}; ask for less, or calibrate on more clips with `shortcast settle`"
            )
        bound, row = able[-1]
        return Stop(rule, row, bound)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` is the exact inverse."""
        return {**asdict(self), "rules": [{**asdict(rule), "rows": [asdict(row) for row in rule.rows]} for rule in self.rules]}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Settling:
        """Reads what `to_json` wrote; keys are strict.

        Raises:
            DataError: a key is unknown or missing, or a value cannot be used.
        """
        try:
            rules = tuple(SettlingRule(**{**rule, "rows": tuple(SettlingRow(**row) for row in rule["rows"])}) for rule in plain["rules"])
            return cls(**{**plain, "rules": rules, "provenance": dict(plain["provenance"])})
        except (AttributeError, TypeError, LookupError, ValueError) as error:
            raise DataError(f"settling cannot be read: {error}") from error


class Firmness:
    """How firm the scores of one clip are, chunk by chunk: minus infinity until `patience` chunks agree.

    Class: the log odds of the most probable class against the next, times the root of the n chunks seen, because what is seen later
    changes a mean over n chunks by about 1/sqrt(n). Interval: how far its ends have moved over the last chunks at most, in widths;
    negative, as less is firmer.
    """

    def __init__(self, kind: Kind, patience: int) -> None:
        self._kind = kind
        self._patience = patience
        self._chunks = 0
        self._classes: deque[int] = deque(maxlen=patience)
        self._ends: deque[tuple[float, float]] = deque(maxlen=patience)

    def after(self, class_probabilities: Sequence[float], interval_z: tuple[float, float]) -> float:
        """Takes in one more chunk.

        Args:
            class_probabilities: of each class, after this chunk.
            interval_z: low and high end after this chunk, in standardised units.
        """
        self._chunks += 1
        self._classes.append(class_probabilities.index(max(class_probabilities)))
        self._ends.append(interval_z)
        if self._chunks < self._patience:
            return -inf
        return self._class_firmness(class_probabilities) if self._kind == "class" else self._interval_firmness()

    def _class_firmness(self, class_probabilities: Sequence[float]) -> float:
        if len(set(self._classes)) > 1:
            return -inf
        *_, second, first = sorted(class_probabilities)
        return log(first / max(second, _LEAST_PROBABILITY)) * sqrt(self._chunks)

    def _interval_firmness(self) -> float:
        return -max(moved(ends, self._ends[-1]) for ends in self._ends)


def moved(before: tuple[float, float], now: tuple[float, float]) -> float:
    """How far the ends of an interval moved at most, in widths of it as it is now."""
    width = now[1] - now[0]
    far = max(abs(before[0] - now[0]), abs(before[1] - now[1]))
    return far / width if isfinite(far) and width > 0 else inf


def least_share(kept: int, of: int, *, doubt: float) -> float:
    """The lower bound of Clopper and Pearson (1934): the least probability under which so many successes or more have a chance of `doubt`.

    Args:
        kept: successes.
        of: trials, at least 1.
        doubt: how often such a bound may be too high.
    """
    if kept == 0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_least(kept, of, middle) < doubt else (low, middle)
    return low


def _at_least(kept: int, of: int, share: float) -> float:
    """P(X >= kept) of a binomial X."""
    odds, none = log(share) - log1p(-share), of * log1p(-share) + lgamma(of + 1)
    return sum(exp(none + count * odds - lgamma(count + 1) - lgamma(of - count + 1)) for count in range(kept, of + 1))


def _floor_percent(share: float) -> str:
    """Rounded down: what is printed can be asked for."""
    return f"{int(1000 * share) / 10:g} %"
