"""Splits: the manifest's own, by author, or at random."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from shortcast.errors import DataError
from shortcast.training.clips import ClipRow
from shortcast.training.splits import split_clips


def rows(*, splits: bool = False, authors: bool = False, count: int = 120) -> list[ClipRow]:
    names = ("train",) * 8 + ("val",) * 2 + ("test",) * 2
    return [
        ClipRow(f"c{index}", Path(f"c{index}.mp4"), names[index % 12] if splits else None, f"a{index // 3}" if authors else None, {})
        for index in range(count)
    ]


def test_the_manifests_own_split_is_used() -> None:
    found = split_clips(rows(splits=True, authors=True, count=12), seed=0)
    assert (found.kind, len(found.train), found.val, found.test) == ("given by the manifest", 8, ("c8", "c9"), ("c10", "c11"))


def test_no_author_is_on_two_sides() -> None:
    found = split_clips(rows(authors=True), seed=0)
    assert found.kind == "grouped by author"
    authors = [{int(clip[1:]) // 3 for clip in part} for part in (found.train, found.val, found.test)]
    assert sum(len(part) for part in authors) == len(set.union(*authors)) == 40
    assert [len(part) for part in authors] == [28, 6, 6]


def test_with_no_authors_it_is_random_and_the_seed_decides() -> None:
    found = split_clips(rows(), seed=0)
    assert (found.kind, len(found.train), len(found.val), len(found.test)) == ("random", 84, 18, 18)
    assert found == split_clips(rows(), seed=0)
    assert found != split_clips(rows(), seed=1)


def test_clips_of_unknown_authors_stand_alone() -> None:
    some = [replace(row, author="prolific") if index < 40 else row for index, row in enumerate(rows())]
    found = split_clips(some, seed=0)
    assert sum(bool({f"c{index}" for index in range(40)} & set(part)) for part in (found.train, found.val, found.test)) == 1
    assert all((found.train, found.val, found.test))


def test_a_split_that_is_half_given_or_leaves_a_part_empty_is_refused() -> None:
    some = rows(splits=True, count=12)
    with pytest.raises(DataError, match="11 of 12 rows"):
        split_clips([replace(some[0], split=None), *some[1:]], seed=0)
    with pytest.raises(DataError, match="0 val and 0 test"):
        split_clips([row for row in some if row.split == "train"], seed=0)
