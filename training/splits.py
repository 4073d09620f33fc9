"""Which clips are learned from, which are watched while learning, and which are looked at once, at the end.

Kinds of split: `auto`, `manifest`, `random`, `time`, or what is kept together: `author`, `music`, `duplicate`, and any of these joined
by `+`. Whatever the kind, `crossings_of` counts what lies on both sides all the same.

Near-duplicates are clips with one `sha256` and those that show the same pictures (`training.near_duplicates`). Where nobody has looked
at the pictures, the same `duration_s` to a hundredth of a second, `width` and `height` stand in for them; a length and size that more
than 20 clips share (sources that write whole seconds) says nothing and joins nobody.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..errors import DataError
from .clips import SPLITS, ClipRow
from .values import parse_time

SHARES = (0.7, 0.15, 0.15)
"""Shares of the clips in train, val and test where shortcast makes the split."""
KEYS = ("author", "music", "duplicate")
"""What a split can keep together."""
_NOUNS = {
    "author": ("author", "authors"),
    "music": ("song", "songs"),
    "duplicate": ("near-duplicate cluster", "near-duplicate clusters"),
}
_NAMED = 3
"""Groups that a sentence on leakage names."""
_COMMON = 20
_SHAPE = ("duration_s", "width", "height")

Mark = tuple[str, str]
"""A kind of key and its value, such as `("author", "k7")`."""
Near = Mapping[str, str]
"""Clusters of near-duplicates by pictures: a cluster's name by clip id, see `near_duplicates.cluster_names`."""


@dataclass(frozen=True, slots=True)
class Split:
    """The three parts, as clip ids in manifest order, and how they came about."""

    kind: str
    """`given by the manifest`, `grouped by author` (or by others, or by several), `by time` or `random`."""
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fold:
    """One of k folds, as clip ids in manifest order."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Crossing:
    """What the parts of a split share."""

    key: str
    """`author`, `music` or `duplicate`."""
    known: int
    """Clips that have this key at all."""
    groups: int
    """Authors (songs, sets of near-duplicates) that are in more than one part."""
    held_out: int
    """Clips of val and test whose author is in train too."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def split_clips(rows: Sequence[ClipRow], *, seed: int, kind: str = "auto", near: Near | None = None) -> Split:
    """Splits a manifest.

    `auto` takes the manifest's own split where it has one; else one that keeps authors apart; else, with no authors known, a random
    one. `time` learns from the first 70 % by `created_at` and tests on the last 15 %, as a model in use does.

    Args:
        rows: the manifest.
        seed: decides who goes where, if neither the manifest nor time does.
        kind: see the module.
        near: which clips show the same pictures; None where nobody has looked.

    Raises:
        DataError: the kind is unknown or needs what the manifest has not; some rows have a split and some do not; or a part would be
            empty.
    """
    chosen = _automatic(rows) if kind == "auto" else kind
    places, name = _places(rows, seed, chosen, near)
    train, val, test = (tuple(row.id for row in rows if places[row.id] == part) for part in SPLITS)
    if not (train and val and test):
        raise DataError(f"split {name}: {len(train)} train, {len(val)} val and {len(test)} test clips; every part needs at least one")
    return Split(name, train, val, test)


def grouped_folds(rows: Sequence[ClipRow], *, folds: int, seed: int, kind: str = "author", near: Near | None = None) -> tuple[Fold, ...]:
    """Folds of whole groups, each clip held out once; the largest groups are dealt first, each to the smallest fold so far.

    Args:
        rows: the manifest.
        folds: how many, at least 2.
        seed: decides who goes where among groups of one size.
        kind: what is kept together, such as `author+duplicate`; or `random`.
        near: which clips show the same pictures; None where nobody has looked.

    Raises:
        DataError: the kind is unknown or needs what the manifest has not, or there are fewer groups than folds.
    """
    keys = () if kind == "random" else _keys(rows, kind, near)
    groups = list(_groups(rows, keys, near).values())
    if not 2 <= folds <= len(groups):
        raise DataError(f"{folds} folds of {len(groups)} groups ({kind}): expected 2 folds at least, and a group for each")
    shuffled = [groups[pick] for pick in np.random.default_rng(seed).permutation(len(groups))]
    sizes, places = [0] * folds, {}
    for members in sorted(shuffled, key=len, reverse=True):
        smallest = sizes.index(min(sizes))
        sizes[smallest] += len(members)
        places.update(dict.fromkeys(members, smallest))
    return tuple(
        Fold(tuple(row.id for row in rows if places[row.id] != fold), tuple(row.id for row in rows if places[row.id] == fold))
        for fold in range(folds)
    )


def count_groups(rows: Sequence[ClipRow], kind: str, near: Near | None = None) -> int:
    """How many groups `grouped_folds` would deal; as many as there are clips where the kind is `random`."""
    return len(_groups(rows, () if kind == "random" else _keys(rows, kind, near), near))


def crossings_of(rows: Sequence[ClipRow], split: Split, near: Near | None = None) -> tuple[Crossing, ...]:
    """What lies on both sides of a split, for every key that the manifest has."""
    parts = {clip: part for part, clips in enumerate((split.train, split.val, split.test)) for clip in clips}
    return tuple(_crossing(rows, parts, key, near) for key in KEYS if any(_marks(rows, key, near)))


def leakage_of_split(rows: Sequence[ClipRow], split: Split, near: Near | None = None) -> list[str]:
    """What is on both sides of a split, in sentences: how many held-out clips have something in train, and the largest groups by name."""
    parts = {clip: part for part, clips in enumerate((split.train, split.val, split.test)) for clip in clips}
    held_out = len(split.val) + len(split.test)
    return [_sentence(crossing, _shared_groups(rows, parts, crossing.key, near), held_out) for crossing in crossings_of(rows, split, near)]


def _automatic(rows: Sequence[ClipRow]) -> str:
    if any(row.split is not None for row in rows):
        return "manifest"
    return "author" if any(row.author is not None for row in rows) else "random"


def _places(rows: Sequence[ClipRow], seed: int, kind: str, near: Near | None) -> tuple[Mapping[str, str | None], str]:
    """The part of every clip, and how it came about."""
    if kind == "manifest":
        return _given(rows), "given by the manifest"
    if kind == "time":
        return _by_time(rows), "by time"
    if kind == "random":
        return _dealt(rows, seed, (), near), "random"
    keys = _keys(rows, kind, near)
    return _dealt(rows, seed, keys, near), f"grouped by {' and '.join(keys)}"


def _given(rows: Sequence[ClipRow]) -> dict[str, str | None]:
    given = sum(row.split is not None for row in rows)
    if given < len(rows):
        raise DataError(f"{given} of {len(rows)} rows of the manifest have a split; give every row one, or none")
    return {row.id: row.split for row in rows}


def _by_time(rows: Sequence[ClipRow]) -> dict[str, str | None]:
    created = {row.id: parse_time(row.columns.get("created_at")).value for row in rows}
    times = {clip: moment for clip, moment in created.items() if moment is not None}
    if len(times) < len(rows):
        first = next(clip for clip in created if clip not in times)
        raise DataError(f"a split by time needs `created_at` of every clip; {len(rows) - len(times)} have none, clip {first!r} first")
    order = sorted(times, key=lambda clip: (times[clip], clip))
    return {clip: _place(index + 0.5, len(rows)) for index, clip in enumerate(order)}


def _dealt(rows: Sequence[ClipRow], seed: int, keys: Sequence[str], near: Near | None) -> dict[str, str | None]:
    """Deals whole groups, in random order; a clip that shares no key stands alone."""
    groups = _groups(rows, keys, near)
    names = sorted(groups)
    places: dict[str, str | None] = {}
    for pick in np.random.default_rng(seed).permutation(len(names)):
        members = groups[names[pick]]
        # A group belongs where its middle falls, so that one prolific author does not push a whole part out.
        place = _place(len(places) + len(members) / 2, len(rows))
        places.update(dict.fromkeys(members, place))
    return places


def _place(position: float, clips: int) -> str:
    return SPLITS[int(np.searchsorted(np.cumsum(SHARES)[:-1] * clips, position, side="right"))]


def _keys(rows: Sequence[ClipRow], kind: str, near: Near | None) -> tuple[str, ...]:
    keys = tuple(dict.fromkeys(kind.split("+")))
    for key in keys:
        if key not in KEYS:
            made = "auto, manifest, random and time"
            raise DataError(
                f"split {kind!r} is unknown; it is one of {made}, or keeps together {', '.join(KEYS)} or several, as author+music"
            )
        if not any(_marks(rows, key, near)) and (key != "duplicate" or near is None):
            needs = "`sha256`, or `duration_s`, `width` and `height`" if key == "duplicate" else f"`{key}`"
            raise DataError(f"a split by {key} needs the column {needs}, and no row of the manifest has it")
    return keys


def _groups(rows: Sequence[ClipRow], keys: Sequence[str], near: Near | None) -> dict[Mark, list[str]]:
    """Clips that share a mark, or that others link, in manifest order; a group is named by its first mark."""
    marks = [[mark for key_marks in every for mark in key_marks] for every in zip(*(_marks(rows, key, near) for key in keys), strict=True)]
    linked = [own or [("clip", row.id)] for own, row in zip(marks or [[] for _ in rows], rows, strict=True)]
    names = _Names()
    for own in linked:
        names.join(own)
    groups: dict[Mark, list[str]] = defaultdict(list)
    for own, row in zip(linked, rows, strict=True):
        groups[names.of(own[0])].append(row.id)
    return dict(groups)


class _Names:
    """Disjoint sets of marks; a set is named by the first of its marks in order."""

    def __init__(self) -> None:
        self._parent: dict[Mark, Mark] = {}

    def of(self, mark: Mark) -> Mark:
        while (parent := self._parent.setdefault(mark, mark)) != mark:
            mark = parent
        return mark

    def join(self, marks: Sequence[Mark]) -> None:
        roots = sorted(self.of(mark) for mark in marks)
        for root in roots[1:]:
            self._parent[root] = roots[0]


def _marks(rows: Sequence[ClipRow], key: str, near: Near | None) -> list[list[Mark]]:
    """For every clip, what it has of a key; none where it is not known."""
    if key == "author":
        return [[] if row.author is None else [("author", row.author)] for row in rows]
    if key == "music":
        return [[] if row.columns.get("music") in (None, "") else [("music", str(row.columns["music"]))] for row in rows]
    marks = [list(_duplicate_marks(row, near)) for row in rows]
    common = Counter(mark for own in marks for mark in own)
    return [[mark for mark in own if mark[0] != "shape" or common[mark] <= _COMMON] for own in marks]


def _duplicate_marks(row: ClipRow, near: Near | None) -> Iterator[Mark]:
    if row.columns.get("sha256"):
        yield "sha256", str(row.columns["sha256"])
    if near is not None:
        if row.id in near:
            yield "near", near[row.id]
        return
    shape = [row.columns.get(name) for name in _SHAPE]
    if all(isinstance(number, (int, float)) and number > 0 for number in shape):
        yield "shape", " ".join(f"{number:.2f}" for number in shape)


def _crossing(rows: Sequence[ClipRow], parts: Mapping[str, int], key: str, near: Near | None) -> Crossing:
    known = sum(bool(own) for own in _marks(rows, key, near))
    shared = _shared_groups(rows, parts, key, near)
    return Crossing(key, known, len(shared), sum(place > 0 for places in shared.values() if 0 in places for place in places))


def _shared_groups(rows: Sequence[ClipRow], parts: Mapping[str, int], key: str, near: Near | None) -> dict[str, list[int]]:
    """The parts (0 train, 1 val, 2 test) of the clips of every group that is in more than one, by the group's name."""
    groups = {name: [parts[clip] for clip in clips] for (_, name), clips in _groups(rows, (key,), near).items()}
    return {name: places for name, places in groups.items() if len(set(places)) > 1}


def _sentence(crossing: Crossing, shared: Mapping[str, Sequence[int]], held_out: int) -> str:
    one, many = _NOUNS[crossing.key]
    if not shared:
        return f"no {one} is on two sides of the split"
    largest = sorted(shared, key=lambda name: (-len(shared[name]), name))
    named = ", ".join(largest[:_NAMED]) + (", ..." if len(largest) > _NAMED else "")
    groups = f"{len(shared)} {one if len(shared) == 1 else many} ({named})"
    return f"{crossing.held_out} of {held_out} held-out clips share their {one} with training clips; on two sides: {groups}"
