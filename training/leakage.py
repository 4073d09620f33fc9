"""What a random split would give away: repeated clips, authors on both sides, and how much better a model looks for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import GroupKFold, KFold
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from .clips import ClipRow
from .label_table import Keys, LabelTable, Numbers
from .metrics import spearman
from .splits import split_clips

FOLDS = 5
FEWEST_ROWS = 100
"""Below this a cross-validated figure is mostly noise."""
NEAR = 0.01
"""Counts that differ by less than this share are near-equal."""
_SHARED = ("author", "music", "sha256", "id", "pictures")
FEWEST_COUNTS, SMALLEST_COUNT = 3, 100
"""Near-equal counts mean something only if there are several and they aren't small."""


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Rows that are there more than once."""

    ids: int
    """Rows whose id an earlier row has."""
    media: int
    """Rows whose sha256 an earlier row has."""
    pictures: int
    """Rows whose clip shows what that of an earlier row shows, where somebody has looked."""
    near: int
    """Pairs of rows with different ids, the same author and length, and at least three counts within 1 %."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """What the parts of a split share."""

    key: str
    """`author`, `music`, `sha256`, `id`, or `pictures` for near-duplicates."""
    split: str
    """How the split came about, as `training.splits` says it."""
    groups: int
    """Authors (songs, files) that are in more than one part."""
    held_out: float
    """Share of the rows of val and test whose author is in train too."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Of predictions made out of fold, for every row, in log(1 + target)."""

    spearman: float | None
    nmse: float
    """Mean squared error over the target's variance: 1 is as good as predicting the mean."""


@dataclass(frozen=True, slots=True)
class Gap:
    """How a model does when whole groups are held out."""

    key: str
    groups: int
    grouped: Scores
    group_mean: Scores
    """Predicting a group's own mean under the random folds: what knowing the group alone is worth there."""


@dataclass(frozen=True, slots=True)
class Leakage:
    """Random folds against grouped ones, for one model on the same features."""

    features: tuple[str, ...]
    rows: int
    random: Scores
    gaps: tuple[Gap, ...]


def duplicates_of(table: LabelTable) -> Duplicates:
    """Counts rows that are there more than once."""
    ids, media, pictures = (_repeats(table.keys.get(key, ())) for key in ("id", "sha256", "pictures"))
    return Duplicates(ids, media, pictures, sum(1 for _ in _near_pairs(table)))


def overlaps_of(table: LabelTable, *, seed: int = 0) -> tuple[Overlap, ...]:
    """What the parts share, under the table's own split or else the one that training would make with this seed.

    Raises:
        DataError: some rows have a split and some don't, or a part is empty.
    """
    empty = (None,) * table.rows
    splits, authors = table.keys.get("split", empty), table.keys.get("author", empty)
    rows = [ClipRow(str(index), Path(), splits[index], authors[index], {}) for index in range(table.rows)]
    split = split_clips(rows, seed=seed)
    parts = [[int(index) for index in part] for part in (split.train, split.val, split.test)]
    return tuple(_overlap(key, split.kind, parts, table.keys[key]) for key in _SHARED if key in table.keys)


def leakage_of(table: LabelTable, target: str, *, seed: int = 0) -> Leakage | None:
    """Cross-validates gradient boosting on the table's own numbers and flags, over random and over grouped folds.

    Returns:
        None where there is too little to say anything: fewer than 100 known targets, no features, or no groups.
    """
    values = table.target(target)
    known = np.isfinite(values) & (values >= 0)
    features = {name: column[known] for name, column in table.features(target).items()}
    features = {name: column for name, column in features.items() if len(np.unique(column[np.isfinite(column)])) > 1}
    groups = {key: _groups(table.keys[key], known) for key in ("author", "id", "music") if key in table.keys}
    groups = {key: found for key, found in groups.items() if FOLDS <= len(set(found)) < 0.95 * len(found)}
    if known.sum() < FEWEST_ROWS or not features or not groups or np.ptp(values[known]) == 0:
        return None
    inputs, truth = np.stack(list(features.values()), axis=1), np.log1p(values[known])
    folds = list(KFold(FOLDS, shuffle=True, random_state=seed).split(inputs))
    gaps = tuple(_gap(key, found, inputs, truth, folds) for key, found in groups.items())
    return Leakage(tuple(features), len(truth), _scores(truth, _predict(inputs, truth, folds)), gaps)


Fold = tuple[NDArray[np.int64], NDArray[np.int64]]


def _gap(key: str, groups: Sequence[Hashable], inputs: Numbers, truth: Numbers, folds: Sequence[Fold]) -> Gap:
    numbered = np.unique(np.array([str(group) for group in groups]), return_inverse=True)[1]
    apart = list(GroupKFold(FOLDS).split(inputs, truth, numbered))
    means = np.concatenate([_group_means(numbered, truth, *fold) for fold in folds])
    order = np.concatenate([held_out for _, held_out in folds])
    return Gap(key, len(set(groups)), _scores(truth, _predict(inputs, truth, apart)), _scores(truth[order], means))


def _predict(inputs: Numbers, truth: Numbers, folds: Sequence[Fold]) -> Numbers:
    predicted = np.empty_like(truth)
    # One thread: on a busy machine several wait for each other, and tables this small then take a hundred times as long.
    with threadpool_limits(1):
        for train, held_out in folds:
            predicted[held_out] = HistGradientBoostingRegressor(random_state=0).fit(inputs[train], truth[train]).predict(inputs[held_out])
    return predicted


def _group_means(groups: NDArray[np.int64], truth: Numbers, train: NDArray[np.int64], held_out: NDArray[np.int64]) -> Numbers:
    sums = np.bincount(groups[train], truth[train], minlength=groups.max() + 1)
    counts = np.bincount(groups[train], minlength=groups.max() + 1)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), truth[train].mean())
    return np.asarray(means[groups[held_out]])


def _scores(truth: Numbers, predicted: Numbers) -> Scores:
    return Scores(spearman(truth, predicted), float(((truth - predicted) ** 2).mean() / truth.var()))


def _groups(keys: Keys, known: NDArray[np.bool_]) -> list[Hashable]:
    """Groups of the known rows; a row whose key isn't known stands alone."""
    return [("row", index) if key is None else key for index, key in enumerate(keys) if known[index]]


def _repeats(keys: Keys) -> int:
    return sum(count - 1 for key, count in Counter(keys).items() if key is not None)


def _overlap(key: str, kind: str, parts: Sequence[Sequence[int]], keys: Keys) -> Overlap:
    members = [{keys[index] for index in part} - {None} for part in parts]
    shared = {one for number, part in enumerate(members) for one in part if any(one in other for other in members[:number])}
    held_out = [index for part in parts[1:] for index in part]
    return Overlap(key, kind, len(shared), float(np.mean([keys[index] in members[0] for index in held_out])))


def _near_pairs(table: LabelTable) -> Iterator[tuple[int, int]]:
    """Neighbours among rows of one author and length, in order of their first count."""
    if len(table.counts) < FEWEST_COUNTS:
        return
    counts = np.stack(list(table.counts.values()), axis=1)
    for rows in _alike(table).values():
        order = sorted(rows, key=lambda row: float(np.nan_to_num(counts[row, 0])))
        for one, other in pairwise(order):
            if _differ(table.keys, one, other) and _are_near(counts[one], counts[other]):
                yield one, other


def _alike(table: LabelTable) -> dict[Hashable, list[int]]:
    empty = (None,) * table.rows
    authors, lengths = table.keys.get("author", empty), table.numbers.get("duration_s", np.full(table.rows, np.nan))
    groups: dict[Hashable, list[int]] = {}
    for row in range(table.rows):
        length = round(float(lengths[row]), 1) if np.isfinite(lengths[row]) else None
        groups.setdefault((authors[row], length), []).append(row)
    return groups


def _differ(keys: Mapping[str, Keys], one: int, other: int) -> bool:
    """Whether two rows aren't known to be the same already."""
    found = [(keys[key][one], keys[key][other]) for key in ("id", "sha256") if key in keys]
    return all(first is None or first != second for first, second in found)


def _are_near(one: Numbers, other: Numbers) -> bool:
    both = np.isfinite(one) & np.isfinite(other) & (np.minimum(one, other) >= SMALLEST_COUNT)
    return bool(both.sum() >= FEWEST_COUNTS and (np.abs(one - other)[both] <= NEAR * np.maximum(one, other)[both]).all())
