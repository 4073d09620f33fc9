"""The baselines on made clips whose answers are known, and that no held-out label reaches them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from shortcast.errors import DataError
from shortcast.training.baselines import AuthorMean, Baseline, Ridge, UnlabelledClips, fit_baselines
from shortcast.training.labelled import EmbeddedClip, LabelledClips

DV, DA = 4, 3


def made_clip(seen: float, heard: float, *, chunks: int = 3, sound: bool = True, draw: np.random.Generator | None = None) -> EmbeddedClip:
    """The first feature of each modality has the mean given; the chunk that is masked holds nonsense that must not be pooled."""
    draw = draw or np.random.default_rng(0)
    visual, audio = draw.normal(size=(chunks + 1, DV)), draw.normal(size=(chunks + 1, DA))
    visual[:, 0], audio[:, 0] = seen, heard
    visual[-1], audio[-1] = 1e3, -1e3
    present = np.arange(chunks + 1) < chunks
    end_s = 2.0 * np.arange(1, chunks + 2)
    return EmbeddedClip(visual.astype(np.float32), present, audio.astype(np.float32), present & sound, end_s)


def made_split(count: int, seed: int, *, silent_every: int = 5) -> LabelledClips:
    """z = 0.8 seen + 0.5 heard (heard counts as 0 in a silent clip)."""
    draw = np.random.default_rng(seed)
    clips, z = [], []
    for index in range(count):
        seen, heard = draw.normal(size=2)
        sound = index % silent_every > 0
        clips.append(made_clip(seen, heard, chunks=int(draw.integers(1, 6)), sound=sound, draw=draw))
        z.append(0.8 * seen + 0.5 * heard * sound)
    return LabelledClips(clips, np.array(z), np.zeros(count, dtype=np.int64))


def labelled(z: Sequence[float]) -> LabelledClips:
    return LabelledClips([made_clip(0.0, 0.0) for _ in z], np.array(z), np.zeros(len(z), dtype=np.int64))


def unlabelled(split: LabelledClips, authors: Sequence[str | None] | None = None) -> UnlabelledClips:
    return UnlabelledClips(split.clips, authors or [None] * len(split.clips))


def by_name(baselines: tuple[Baseline, ...]) -> dict[str, Baseline]:
    return {baseline.name: baseline for baseline in baselines}


def test_mean_and_median_of_the_training_split() -> None:
    found = by_name(fit_baselines(labelled([0.0, 1.0, 8.0]), [None] * 3))
    others = unlabelled(labelled([5.0, 5.0]))
    np.testing.assert_array_equal(found["the training mean"].predict(others), [3.0, 3.0])
    np.testing.assert_array_equal(found["the training median"].predict(others), [1.0, 1.0])
    assert "author mean" not in found


def test_an_authors_mean_is_shrunken_and_the_unknown_get_the_training_mean() -> None:
    # two authors of two clips: within = (2 + 2) / 2 = 2, around = 2 * (16 + 16) = 64, between = (64 - 2) / 2 = 31, prior = 2 / 31
    found = by_name(fit_baselines(labelled([3.0, 5.0, -5.0, -3.0]), ["a", "a", "b", "b"]))["author mean"]
    assert isinstance(found, AuthorMean)
    assert found.prior_clips == pytest.approx(2 / 31)
    others = unlabelled(labelled([0.0] * 4), ["b", "new", None, "a"])
    shrunken = 4 * 2 / (2 + 2 / 31)
    np.testing.assert_allclose(found.predict(others), [-shrunken, 0.0, 0.0, shrunken])
    assert found.known(others) == 2


def test_the_fewer_clips_the_nearer_to_the_training_mean() -> None:
    z, authors = [2.0, 3.0, 4.0, 3.0, -3.0, -2.0, -4.0, -3.0, 3.0], [*"aaaa", *"bbbb", "c"]
    found = by_name(fit_baselines(labelled(z), authors))["author mean"].predict(unlabelled(labelled([0.0] * 2), ["a", "c"]))
    assert 0 < found[1] < found[0] < 3.0


@pytest.mark.parametrize("authors", [["a", "b", "c", "d"], ["a", "a", "a", "a"], ["a", "b", "a", "b"]])
def test_authors_that_tell_nothing_are_the_training_mean(authors: list[str]) -> None:
    train = labelled([1.0, 1.0, 3.0, 3.0])  # one clip each; one author; and no difference between the two
    found = by_name(fit_baselines(train, authors))["author mean"]
    np.testing.assert_array_equal(found.predict(unlabelled(train, authors)), 2.0)


def test_ridge_finds_a_duration_that_says_all() -> None:
    chunks = [1, 2, 3, 5, 8, 13, 21, 34]
    clips = [made_clip(0.0, 0.0, chunks=count) for count in chunks]
    z = np.log1p([clip.end_s[-1] for clip in clips])
    train = LabelledClips(clips, z, np.zeros(len(z), dtype=np.int64))
    found = by_name(fit_baselines(train, [None] * len(z)))["ridge on duration"]
    np.testing.assert_allclose(found.predict(unlabelled(train)), z, atol=0.02)


def test_ridges_find_what_their_modality_says() -> None:
    baselines = by_name(fit_baselines(made_split(200, 1), [None] * 200))
    held_out = made_split(200, 2)
    r2 = {name: 1 - ((one.predict(unlabelled(held_out)) - held_out.z) ** 2).mean() / held_out.z.var() for name, one in baselines.items()}
    assert r2["ridge on pooled pictures and sound"] > 0.99
    assert 0.6 < r2["ridge on pooled pictures"] < 0.85  # the pictures' share of the variance is 0.64 / (0.64 + 0.8 * 0.25) = 0.76
    assert 0.1 < r2["ridge on pooled sound"] < 0.4
    assert r2["ridge on duration"] < 0.05
    assert r2["the training mean"] <= 0


def test_a_modality_that_no_training_clip_has_says_nothing() -> None:
    train = made_split(30, 1, silent_every=1)
    found = by_name(fit_baselines(train, [None] * 30))["ridge on pooled sound"]
    assert isinstance(found, Ridge)
    np.testing.assert_allclose(found.predict(unlabelled(made_split(10, 2))), train.z.mean())


def test_the_presence_of_sound_is_a_feature() -> None:
    draw = np.random.default_rng(1)
    clips = [made_clip(0.0, float(draw.normal()), sound=index % 2 > 0, draw=draw) for index in range(40)]
    z = np.arange(40) % 2 * 2.0 - 1.0
    train = LabelledClips(clips, z, np.zeros(40, dtype=np.int64))
    np.testing.assert_allclose(by_name(fit_baselines(train, [None] * 40))["ridge on pooled sound"].predict(unlabelled(train)), z, atol=0.1)


def test_held_out_labels_and_neighbours_change_no_prediction() -> None:
    authors = [f"author {index % 7}" for index in range(60)]
    baselines = fit_baselines(made_split(60, 1), authors)
    held_out = made_split(20, 2)
    permuted = LabelledClips(held_out.clips, np.random.default_rng(3).permutation(held_out.z), held_out.classes)
    again = fit_baselines(made_split(60, 1), authors)
    for one, same in zip(baselines, again, strict=True):
        found = one.predict(unlabelled(held_out, authors[:20]))
        np.testing.assert_array_equal(found, same.predict(unlabelled(permuted, authors[:20])))
        alone = one.predict(UnlabelledClips(held_out.clips[:1], authors[:1]))
        np.testing.assert_allclose(alone, found[:1], rtol=1e-12)
        assert found.shape == (20,)
        assert one.predict(UnlabelledClips([], [])).shape == (0,)


def test_training_labels_do_change_the_predictions() -> None:
    train, held_out = made_split(60, 1), unlabelled(made_split(20, 2))
    shifted = LabelledClips(train.clips, train.z + 1.0, train.classes)
    for one, other in zip(fit_baselines(train, [None] * 60), fit_baselines(shifted, [None] * 60), strict=True):
        np.testing.assert_allclose(other.predict(held_out), one.predict(held_out) + 1.0, atol=1e-9)


@pytest.mark.parametrize(
    ("train", "authors"),
    [(labelled([1.0]), [None]), (labelled([1.0, np.nan]), [None, None]), (labelled([1.0, 2.0]), [None])],
    ids=["one clip", "a target that is not finite", "one author for two clips"],
)
def test_what_cannot_be_fitted_is_refused(train: LabelledClips, authors: list[None]) -> None:
    with pytest.raises(DataError, match="baselines"):
        fit_baselines(train, authors)
