"""Which clips are learned from, which are watched while learning, and which are looked at once, at the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from .clips import SPLITS, ClipRow

SHARES = (0.7, 0.15, 0.15)
"""Shares of the clips in train, val and test where shortcast makes the split."""


@dataclass(frozen=True, slots=True)
class Split:
    """The three parts, as clip ids in manifest order, and how they came about."""

    kind: str
    """`given by the manifest`, `grouped by author` or `random`."""
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


def split_clips(rows: Sequence[ClipRow], *, seed: int) -> Split:
    """The manifest's own split where it has one; else one that keeps authors apart; else, with no authors known, a random one.

    Args:
        rows: the manifest.
        seed: decides who goes where, if the manifest does not.

    Raises:
        DataError: some rows have a split and some do not, or a part would be empty.
    """
    given = sum(row.split is not None for row in rows)
    if given not in (0, len(rows)):
        raise DataError(f"{given} of {len(rows)} rows of the manifest have a split; give every row one, or none")
    authors = any(row.author is not None for row in rows)
    kind = "given by the manifest" if given else "grouped by author" if authors else "random"
    places = {row.id: row.split for row in rows} if given else _grouped(rows, seed)
    train, val, test = (tuple(row.id for row in rows if places[row.id] == name) for name in SPLITS)
    if not (train and val and test):
        raise DataError(f"split {kind}: {len(train)} train, {len(val)} val and {len(test)} test clips; every part needs at least one")
    return Split(kind, train, val, test)


def _grouped(rows: Sequence[ClipRow], seed: int) -> dict[str, str | None]:
    """Deals whole authors, in random order; a clip whose author is not known stands alone."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        groups[("clip", row.id) if row.author is None else ("author", row.author)].append(row.id)
    names = sorted(groups)
    edges = np.cumsum(SHARES)[:-1] * len(rows)
    places: dict[str, str | None] = {}
    for pick in np.random.default_rng(seed).permutation(len(names)):
        members = groups[names[pick]]
        # A group belongs where its middle falls, so that one prolific author does not push a whole part out.
        place = SPLITS[int(np.searchsorted(edges, len(places) + len(members) / 2, side="right"))]
        places.update(dict.fromkeys(members, place))
    return places
