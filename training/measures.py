"""Everything an audit measures of a table of labels, without judging any of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from .label_table import LabelTable, Numbers
from .leakage import Duplicates, Leakage, Overlap, duplicates_of, leakage_of, overlaps_of
from .metrics import spearman
from .tails import Quartiles, Rounding, Tail, quartiles_of, rounding_of, tail_of

YOUNG_DAYS = 7
"""Counts of a clip that was crawled earlier than this still grow fast."""
FEWEST_VALUES = 4


@dataclass(frozen=True, slots=True)
class Ages:
    """How old clips were when their counts were read, over the rows where both times are known."""

    known: int
    median_days: float
    young: float
    """Share younger than a week."""
    negative: int
    """Rows that were crawled before they were created."""
    spearman: float | None
    """Rank correlation of age and target."""


@dataclass(frozen=True, slots=True)
class Measures:
    """What was measured."""

    source: str
    rows: int
    target: str
    columns: Mapping[str, str]
    """Which column was taken for which role."""
    fewer_views_than_likes: int
    written: Mapping[str, Mapping[str, int]]
    """By count: values that were hidden, rounded, ambiguous or unreadable as written."""
    tails: tuple[Tail, ...]
    """The target first."""
    roundings: tuple[Rounding, ...]
    quartiles: Quartiles
    ages: Ages | None
    """None where the table doesn't have both times."""
    duplicates: Duplicates
    overlaps: tuple[Overlap, ...]
    split_fault: str | None
    """Why the table's split cannot be used."""
    leakage: Leakage | None
    """None where there is too little to say anything."""


def measure(table: LabelTable, target: str, *, seed: int) -> Measures:
    """Measures a table.

    Raises:
        DataError: the table has no such target, or fewer than four different values of it are known.
    """
    values = table.target(target)
    if _different(values) < FEWEST_VALUES:
        raise DataError(f"{table.source}: column {target!r} has fewer than {FEWEST_VALUES} different values; there is nothing to predict")
    others = {name: column for name, column in table.counts.items() if name != target and _different(column) > 1}
    overlaps, split_fault = _overlaps(table, seed)
    return Measures(
        source=table.source,
        rows=table.rows,
        target=target,
        columns=table.columns,
        fewer_views_than_likes=_fewer_views_than_likes(table),
        written=table.written,
        tails=tuple(tail_of(name, column) for name, column in {target: values, **others}.items()),
        roundings=tuple(rounding_of(name, column) for name, column in table.counts.items()),
        quartiles=quartiles_of(values),
        ages=_ages(table, values),
        duplicates=duplicates_of(table),
        overlaps=overlaps,
        split_fault=split_fault,
        leakage=leakage_of(table, target, seed=seed),
    )


def _different(values: Numbers) -> int:
    return len(np.unique(values[np.isfinite(values)]))


def _fewer_views_than_likes(table: LabelTable) -> int:
    if not {"views", "likes"} <= table.counts.keys():
        return 0
    return int((table.counts["views"] < table.counts["likes"]).sum())


def _ages(table: LabelTable, values: Numbers) -> Ages | None:
    if not {"created_at", "crawled_at"} <= table.times_s.keys():
        return None
    days = (table.times_s["crawled_at"] - table.times_s["created_at"]) / 86400
    known = days[np.isfinite(days)]
    if not len(known):
        return None
    both = np.isfinite(days) & np.isfinite(values)
    rank = spearman(values[both], days[both]) if both.sum() > 1 else None
    return Ages(len(known), float(np.median(known)), float((known < YOUNG_DAYS).mean()), int((known < 0).sum()), rank)


def _overlaps(table: LabelTable, seed: int) -> tuple[tuple[Overlap, ...], str | None]:
    try:
        return overlaps_of(table, seed=seed), None
    except DataError as error:
        return (), str(error)
