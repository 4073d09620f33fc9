"""Two benchmarks side by side: which differences there is evidence for, and which there is not.

Every comparison has an interval of its own at 95 %. A verdict must also survive all the others: the Benjamini-Hochberg rule keeps the
expected share of false ones among all that name a difference at one in twenty, and where nothing changed the
chance that anything at all is called so (docs/decisions/0015 has the measured rates).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from .quantities import Quantity, quantities, words_of
from .ratio import LEVEL, Ratio, ratio_of
from .results import Results, Row
from .summary import withheld

NO_EVIDENCE = "no evidence"
_RATE = 1 - LEVEL
"""Expected share of false verdicts."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One quantity of one case in both."""

    case: str
    quantity: str
    series: str
    unit: str
    figures: tuple[float | None, float | None]
    ratio: Ratio | None
    """B over A; None where a side has too few samples."""
    verdict: str
    """`faster`, `slower`, `smaller`, `larger`, `fewer`, `more`, `no evidence`, or `insufficient (needs 662)`."""
    note: str = ""
    """Why there is no evidence, where it is not the interval alone."""

    @property
    def name(self) -> str:
        """The quantity, and of what: `p99 of clip`."""
        return f"{self.quantity} of {self.series}" if self.series else self.quantity


@dataclass(frozen=True, slots=True)
class Compared:
    """Everything that was found."""

    differences: tuple[tuple[str, str, str], ...]
    """Names of conditions that differ, with their values in A and in B: they may explain the rest."""
    warnings: tuple[str, ...]
    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def judged(self) -> int:
        """Comparisons that have an interval, and so could have had a verdict."""
        return sum(one.ratio is not None and one.ratio.log_error is not None for one in self.comparisons)


def compare(a: Results, b: Results, *, only: str = "") -> Compared:
    """Pairs the cases of two benchmarks and compares each quantity.

    Args:
        a: what is compared against.
        b: what is compared.
        only: take cases whose key has this in it.
    """
    rows_a, rows_b = _rows(a, only), _rows(b, only)
    pairs = [(key, rows_a[key], rows_b[key]) for key in rows_a if key in rows_b]
    found = [one for key, row_a, row_b in pairs for one in _comparisons(key, row_a, row_b)]
    return Compared(
        differences=tuple(_differences(a, b)),
        warnings=tuple(_warnings(a, b, pairs)),
        only_in_a=tuple(_unpaired(rows_a, b, only)),
        only_in_b=tuple(_unpaired(rows_b, a, only)),
        comparisons=tuple(_with_verdicts(found)),
    )


def established(chances: Sequence[float], rate: float) -> list[bool]:
    """Which of several findings hold at this rate of false ones (Benjamini and Hochberg 1995)."""
    order = sorted(range(len(chances)), key=chances.__getitem__)
    kept = max((place for place, index in enumerate(order, 1) if chances[index] <= rate * place / len(chances)), default=0)
    holding = set(order[:kept])
    return [index in holding for index in range(len(chances))]


def _rows(results: Results, only: str) -> dict[str, Row]:
    return {row.case.key: row for row in results.rows if only in row.case.key and withheld(row, results) is None}


def _unpaired(rows: dict[str, Row], other: Results, only: str) -> Iterator[str]:
    """Keys that only one side has, with the reason where the other was asked and refused."""
    others = _rows(other, only)
    for key in rows:
        if key not in others:
            row = other.row(key)
            yield key if row is None else f"{key}: in the other, {withheld(row, other)}"


def _comparisons(key: str, row_a: Row, row_b: Row) -> Iterator[Comparison]:
    theirs = {quantity.key: quantity for quantity in quantities(row_b)}
    for one in quantities(row_a):
        if one.key in theirs:
            yield _comparison(key, one, theirs[one.key])


def _comparison(key: str, a: Quantity, b: Quantity) -> Comparison:
    """With `no evidence` for a verdict; what verdicts survive is decided with all comparisons at hand."""
    figures = a.figure, b.figure
    if None in figures:
        return Comparison(key, a.name, a.series, a.unit, figures, None, f"insufficient (needs {a.needed:,})")
    ratio = ratio_of(a.statistic, a.runs, b.runs)
    note = "a side has one run, so how far runs differ is unknown" if ratio is not None and ratio.log_error is None else ""
    return Comparison(key, a.name, a.series, a.unit, figures, ratio, NO_EVIDENCE, note)


def _with_verdicts(found: Sequence[Comparison]) -> Iterator[Comparison]:
    chances = {place: _chance(one.ratio) for place, one in enumerate(found) if one.ratio is not None and one.ratio.log_error is not None}
    holding = dict(zip(chances, established(list(chances.values()), _RATE), strict=True))
    for place, one in enumerate(found):
        if one.ratio is not None and holding.get(place):
            yield replace(one, verdict=words_of(one.quantity)[one.ratio.estimate > 1])
        elif place in chances and chances[place] <= _RATE:
            yield replace(one, note=f"alone it would be; as one of {len(chances)} it may be chance")
        else:
            yield one


def _chance(ratio: Ratio) -> float:
    """Of a ratio as far from 1 on either side, were nothing different."""
    return min(1.0, 2 * min(ratio.chance_above(1.0), ratio.chance_below(1.0)))


def _differences(a: Results, b: Results) -> Iterator[tuple[str, str, str]]:
    facts_a, facts_b = a.environment.facts, b.environment.facts
    for name in dict.fromkeys((*facts_a, *facts_b)):
        if facts_a.get(name) != facts_b.get(name):
            yield name, facts_a.get(name, "not recorded"), facts_b.get(name, "not recorded")
    settings = (
        ("bundle", a.bundle["id"][:16], b.bundle["id"][:16]),
        ("clips", _clips(a), _clips(b)),
        ("--quick", str(a.quick), str(b.quick)),
    )
    yield from (setting for setting in settings if setting[1] != setting[2])


def _clips(results: Results) -> str:
    return ", ".join(f"{clip.name} ({clip.sha256[:8]})" for clip in results.clips)


def _warnings(a: Results, b: Results, pairs: Sequence[tuple[str, Row, Row]]) -> Iterator[str]:
    if a.bundle["id"] != b.bundle["id"]:
        yield "A and B measured different bundles: differences are of the models as well as of what runs them"
    if [clip.sha256 for clip in a.clips] != [clip.sha256 for clip in b.clips]:
        yield "A and B measured different clips: times of whole clips differ with their lengths"
    if a.quick or b.quick:
        yield "--quick was used: for a first look, not for claims"
    for name, rows in (("A", [row for _, row, _ in pairs]), ("B", [row for _, _, row in pairs])):
        marked = sorted({label for row in rows for label in row.labels if label != "QUICK"})
        if marked:
            yield f"{name} has rows that are labelled {', '.join(marked)}"
    if not pairs:
        yield "A and B have no case in common that both measured"
