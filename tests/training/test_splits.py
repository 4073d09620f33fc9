"""Splits: the manifest's own, at random, by time, and with authors, songs and near-duplicates kept together; what crosses them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from shortcast.errors import DataError
from shortcast.training.clips import ClipRow
from shortcast.training.splits import Crossing, crossings_of, grouped_folds, leakage_of_split, split_clips


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


def test_the_deal_of_a_seed_does_not_change_between_versions() -> None:
    assert split_clips(rows(authors=True, count=24), seed=3).test == ("c0", "c1", "c2")
    assert split_clips(rows(count=12), seed=3).test == ("c6", "c11")


def test_a_kind_that_is_asked_for_goes_before_the_manifests_own() -> None:
    some = rows(splits=True, authors=True)
    assert split_clips(some, seed=0, kind="manifest") == split_clips(some, seed=0)
    assert split_clips(some, seed=0, kind="random").kind == "random"
    assert split_clips(some, seed=0, kind="author") == split_clips(rows(authors=True), seed=0)


def test_by_time_the_test_clips_are_the_youngest() -> None:
    days = [(index * 7) % 20 for index in range(20)]
    some = [replace(row, columns={"created_at": f"2026-01-{days[index] + 1:02}"}) for index, row in enumerate(rows(count=20))]
    found = split_clips(some, seed=0, kind="time")
    assert found.kind == "by time"
    train, val, test = ([days[int(clip[1:])] for clip in part] for part in (found.train, found.val, found.test))
    assert (sorted(train), sorted(val), sorted(test)) == (list(range(14)), [14, 15, 16], [17, 18, 19])
    with pytest.raises(DataError, match="2 have none, clip 'c4' first"):
        split_clips([replace(row, columns={}) if row.id in ("c4", "c9") else row for row in some], seed=0, kind="time")


def with_columns(**columns: Sequence[object]) -> list[ClipRow]:
    """60 clips of 60 authors whose other columns are given; a shorter column is repeated."""
    return [
        replace(row, author=f"a{index}", columns={name: values[index % len(values)] for name, values in columns.items()})
        for index, row in enumerate(rows(count=60))
    ]


@pytest.mark.parametrize(
    "columns",
    [
        {"sha256": [f"hash{index}" for index in range(15)]},
        {"duration_s": [10 + index / 7 for index in range(15)], "width": [576], "height": [1024]},
    ],
)
def test_near_duplicates_stay_together(columns: dict[str, Sequence[object]]) -> None:
    some = with_columns(**columns)
    found = split_clips(some, seed=1, kind="duplicate")
    assert found.kind == "grouped by duplicate"
    clusters = [{int(clip[1:]) % 15 for clip in part} for part in (found.train, found.val, found.test)]
    assert sum(map(len, clusters)) == 15
    assert crossings_of(some, found) == (Crossing("author", 60, 0, 0), Crossing("duplicate", 60, 0, 0))


def test_a_length_that_many_share_joins_nobody() -> None:
    some = with_columns(duration_s=[15, 15, 15.21], width=[576], height=[1024])  # 15 s: 40 clips; 15.21 s: 20
    found = split_clips(some, seed=0, kind="duplicate")
    parts = [{int(clip[1:]) % 3 == 2 for clip in part} for part in (found.train, found.val, found.test)]
    assert sum(True in part for part in parts) == 1
    assert sum(False in part for part in parts) > 1
    (_, duplicates) = crossings_of(some, found)
    assert duplicates == Crossing("duplicate", 20, 0, 0)


def test_where_pictures_were_compared_they_decide_and_not_lengths_and_sizes() -> None:
    some = with_columns(duration_s=[10 + index / 7 for index in range(15)], width=[576], height=[1024])
    near = {f"c{index}": f"c{index // 3 * 3}" for index in range(60)}
    found = split_clips(some, seed=1, kind="duplicate", near=near)
    clusters = [{int(clip[1:]) // 3 for clip in part} for part in (found.train, found.val, found.test)]
    assert sum(map(len, clusters)) == 20
    assert crossings_of(some, found, near)[1] == Crossing("duplicate", 60, 0, 0)
    assert crossings_of(some, found)[1].groups > 0
    for fold in grouped_folds(some, folds=4, seed=0, kind="author+duplicate", near=near):
        assert not {near[clip] for clip in fold.train} & {near[clip] for clip in fold.held_out}
    # Nobody alike is an answer too: there is nothing to keep together, and no column is missed.
    assert len(split_clips(rows(), seed=0, kind="duplicate", near={}).train) == 84


def test_what_crosses_a_split_is_told_in_sentences() -> None:
    some = [replace(row, columns={"music": f"m{index % 3}"}) for index, row in enumerate(rows(splits=True, authors=True, count=12))]
    told = leakage_of_split(some, split_clips(some, seed=0), near={"c1": "c1", "c11": "c1", "c8": "c8", "c9": "c8"})
    assert told == [
        "1 of 4 held-out clips share their author with training clips; on two sides: 2 authors (a2, a3)",
        "4 of 4 held-out clips share their song with training clips; on two sides: 3 songs (m0, m1, m2)",
        "1 of 4 held-out clips share their near-duplicate cluster with training clips; on two sides: 1 near-duplicate cluster (c1)",
    ]
    many = rows(authors=True)
    assert leakage_of_split(many, split_clips(many, seed=0))[0] == "no author is on two sides of the split"


def test_links_of_several_kinds_chain() -> None:
    some = [
        replace(row, author=f"a{index // 2}", columns={"music": f"m{(index + 1) // 2}" if index < 40 else None})
        for index, row in enumerate(rows(count=200))
    ]
    found = split_clips(some, seed=0, kind="author+music")
    assert found.kind == "grouped by author and music"
    chained = {f"c{index}" for index in range(40)}
    assert sum(bool(chained & set(part)) for part in (found.train, found.val, found.test)) == 1
    assert [crossing.groups for crossing in crossings_of(some, found)] == [0, 0]


def test_crossings_are_counted() -> None:
    songs = ("m1", "m2", None, "m1", "m3", "m2", "m1", "m3", None, "m4", "m1", "m5")
    some = [
        replace(row, columns={"music": song, "sha256": f"h{index % 11}"})
        for index, (row, song) in enumerate(zip(rows(splits=True, authors=True, count=12), songs, strict=True))
    ]
    found = crossings_of(some, split_clips(some, seed=0))  # train c0..c7, val c8 c9, test c10 c11
    assert found == (Crossing("author", 12, 2, 1), Crossing("music", 10, 1, 1), Crossing("duplicate", 12, 1, 1))
    assert found[0].to_json() == {"key": "author", "known": 12, "groups": 2, "held_out": 1}
    assert crossings_of(rows(), split_clips(rows(), seed=0)) == ()


def test_folds_hold_every_clip_out_once_and_keep_groups_whole() -> None:
    some = rows(authors=True)
    folds = grouped_folds(some, folds=5, seed=0)
    assert sorted(clip for fold in folds for clip in fold.held_out) == sorted(row.id for row in some)
    assert [len(fold.held_out) for fold in folds] == [24] * 5
    for fold in folds:
        authors = [{int(clip[1:]) // 3 for clip in part} for part in (fold.train, fold.held_out)]
        assert not authors[0] & authors[1]
        assert len(fold.train) + len(fold.held_out) == 120
    assert folds == grouped_folds(some, folds=5, seed=0) != grouped_folds(some, folds=5, seed=1)
    assert [len(fold.held_out) for fold in grouped_folds(rows(count=10), folds=3, seed=0, kind="random")] == [4, 3, 3]
    with pytest.raises(DataError, match="41 folds of 40 groups"):
        grouped_folds(some, folds=41, seed=0)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("by-luck", "'by-luck' is unknown"),
        ("time+author", "unknown; it is one of"),
        ("manifest", "0 of 120 rows"),
        ("music", "needs the column `music`"),
        ("author", "needs the column `author`"),
        ("duplicate", "`sha256`, or `duration_s`"),
        ("time", "120 have none, clip 'c0' first"),
    ],
)
def test_a_kind_that_the_manifest_cannot_serve_is_refused(kind: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        split_clips(rows(), seed=0, kind=kind)
