"""Parts of the evaluated clips: who is in which, and what is not scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shortcast.errors import DataError
from shortcast.training.bootstrap import Bootstrap
from shortcast.training.clips import ClipRow
from shortcast.training.labelled import EmbeddedClip
from shortcast.training.subsets import FEWEST, Subset, subset_figures, subsets


def clip(chunks: int, *, sound: bool = True, pictures: bool = True) -> EmbeddedClip:
    end_s = 2.0 * np.arange(1, chunks + 1)
    embeddings = np.zeros((chunks, 2), dtype=np.float32)
    return EmbeddedClip(embeddings, np.full(chunks, pictures), embeddings, np.full(chunks, sound), end_s)


def row(index: int, author: str | None = None, **columns: Any) -> ClipRow:
    return ClipRow(f"c{index}", Path("x.mp4"), None, author, columns)


def named(found: tuple[Subset, ...]) -> dict[tuple[str, str], list[int]]:
    return {(one.by, one.name): np.flatnonzero(one.rows).tolist() for one in found}


def test_modalities_speech_and_length() -> None:
    clips = [clip(index + 1, sound=index != 1) for index in range(6)]
    rows = [row(index, factors={"speech": (0.0, 1.0, None)[index % 3]}) for index in range(6)]
    assert named(subsets(clips, rows)) == {
        ("sound", "with sound"): [0, 2, 3, 4, 5],
        ("sound", "without sound"): [1],
        ("speech", "with speech"): [1, 4],
        ("speech", "without speech"): [0, 3],
        ("speech", "not known"): [2, 5],
        ("length", "up to 5.333 s"): [0, 1],
        ("length", "over 5.333 to 8.667 s"): [2, 3],
        ("length", "over 8.667 s"): [4, 5],
    }


def test_what_does_not_vary_has_no_parts() -> None:
    assert subsets([clip(2)] * 4, [row(index) for index in range(4)]) == ()


def test_values_of_a_column_are_parts_and_numbers_are_cut_in_three() -> None:
    clips = [clip(1)] * 30
    rows = [row(index, "ab"[index % 2], language=("en", "de", None)[index % 3], likes=index) for index in range(30)]
    found = named(subsets(clips, rows, ("language", "likes", "author")))
    assert found["language", "en"] == list(range(0, 30, 3))
    assert found["language", "not known"] == list(range(2, 30, 3))
    assert [len(members) for (by, _), members in found.items() if by == "likes"] == [10, 10, 10]
    assert found["author", "b"] == list(range(1, 30, 2))


def test_rare_values_are_one_part() -> None:
    rows = [row(index, tag=f"t{min(index, 12)}" if index < 14 else "t0") for index in range(30)]
    found = named(subsets([clip(1)] * 30, rows, ("tag",)))
    assert len(found) == 13
    assert found["tag", "t0"] == [0, *range(14, 30)]
    assert len(found["tag", "all other values"]) == 1


def test_a_column_that_no_clip_has_is_refused() -> None:
    with pytest.raises(DataError, match="--by colour: no evaluated clip has that column; the first has likes"):
        subsets([clip(1)], [row(0, likes=3)], ("colour",))


def test_a_part_is_scored_on_its_own_clips_and_a_small_one_is_only_counted() -> None:
    z = np.random.default_rng(0).normal(size=40)
    scores = np.where(np.arange(40) < 20, z, -z)
    parts = (
        Subset("half", "right", np.arange(40) < 20),
        Subset("half", "wrong", np.arange(40) >= 20),
        Subset("few", "nine", np.arange(40) < FEWEST - 1),
    )
    right, wrong, few = subset_figures(parts, scores, z, lambda kept: Bootstrap([None] * int(kept.sum()), resamples=20))
    assert right.metrics["mse"].estimate == 0
    assert right.metrics["spearman"].estimate == pytest.approx(1)
    assert wrong.metrics["mse"].estimate == pytest.approx(4 * (z[20:] ** 2).mean())
    assert wrong.model_less_mean is not None
    assert wrong.model_less_mean.estimate == pytest.approx(3 * (z[20:] ** 2).mean())
    assert (few.clips, few.authors, few.metrics, few.model_less_mean) == (9, 9, {}, None)
