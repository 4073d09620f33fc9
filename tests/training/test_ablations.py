"""Variants of the model: shown what they are said to be shown, trained once, taken up after a kill, refused on other clips."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from shortcast.errors import DataError
from shortcast.models.dual_transformer import FusionConfig
from shortcast.training.ablations import TrainingClips, Variant, load_variant, train_variant, variant_identity, variants
from shortcast.training.evaluation import final_scores
from shortcast.training.fit_regressor import RegressorOptions
from shortcast.training.labelled import EmbeddedClip, LabelledClips
from shortcast.training.run import ProgressEvent

FUSION = FusionConfig(visual_dim=6, audio_dim=5, width=8, heads=2, layers=1, feedforward=8)
OPTIONS = RegressorOptions(epochs=3, batch=4)


def made_clips(count: int, seed: int) -> LabelledClips:
    draw = np.random.default_rng(seed)
    clips = []
    for number in range(count):
        chunks = 1 + number % 4
        visual, audio = (draw.normal(size=(chunks, size)).astype(np.float32) for size in (6, 5))
        there = np.ones(chunks, dtype=bool)
        clips.append(EmbeddedClip(visual, there, audio, there, 2.0 * np.arange(1, chunks + 1)))
    return LabelledClips(clips, draw.normal(size=count), np.arange(count, dtype=np.int64) % 4)


CLIPS = TrainingClips(made_clips(12, 1), made_clips(6, 2))


def variant(name: str) -> Variant:
    return next(one for one in variants(FUSION) if one.name == name)


@pytest.mark.parametrize("name", [one.name for one in variants(FUSION)])
def test_a_variant_hears_and_sees_only_what_it_is_said_to(name: str, tmp_path: Path) -> None:
    one = variant(name)
    trained = train_variant(tmp_path, one, CLIPS, options=OPTIONS, seed=0)
    clips = CLIPS.validation.clips
    deaf = [replace(clip, audio=clip.audio + 7.0) for clip in clips]
    blind = [replace(clip, visual=clip.visual - 7.0) for clip in clips]
    plain = final_scores(trained.predict(clips))
    assert np.array_equal(final_scores(trained.predict(deaf)), plain) == (not one.sound)
    assert np.array_equal(final_scores(trained.predict(blind)), plain) == (not one.pictures)
    assert [len(said.score) for said in trained.predict(clips)] == [len(clip.end_s) for clip in clips]
    assert trained.parameters == sum(weights.numel() for weights in trained.model.parameters()) > 0


def test_names_are_of_no_two_variants_and_survive_json() -> None:
    found = variants(FUSION)
    assert len({one.name for one in found}) == len({one.predictor for one in found}) == len(found)
    assert all(Variant.from_json(asdict(one)) == one for one in found)


def test_a_finished_variant_is_loaded_and_not_trained_again(tmp_path: Path) -> None:
    first = train_variant(tmp_path, variant("sound"), CLIPS, options=OPTIONS, seed=0)
    events: list[ProgressEvent] = []
    again = train_variant(tmp_path, variant("sound"), CLIPS, options=OPTIONS, seed=0, progress=events.append)
    assert not events
    assert (again.variant, again.report, again.seconds) == (first.variant, first.report, first.seconds)
    clips = CLIPS.validation.clips
    assert np.array_equal(final_scores(again.predict(clips)), final_scores(first.predict(clips)))
    assert sorted(file.name for file in (tmp_path / "ablation-sound").iterdir()) == [
        "config.json",
        "log.jsonl",
        "model.safetensors",
        "result.json",
    ]
    assert variant_identity(tmp_path, "sound") != variant_identity(tmp_path, "pictures")


def test_one_that_was_killed_goes_on_to_the_same_end(tmp_path: Path) -> None:
    whole = train_variant(tmp_path / "whole", variant("pictures"), CLIPS, options=OPTIONS, seed=0)

    def kill(event: ProgressEvent) -> None:
        assert event.stage == "pictures"
        if event.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_variant(tmp_path / "cut", variant("pictures"), CLIPS, options=OPTIONS, seed=0, progress=kill)
    assert variant_identity(tmp_path / "cut", "pictures") is None
    torch.rand(3)
    assert train_variant(tmp_path / "cut", variant("pictures"), CLIPS, options=OPTIONS, seed=0).report == whole.report


def test_other_embeddings_are_another_training(tmp_path: Path) -> None:
    train_variant(tmp_path, variant("sound"), CLIPS, options=OPTIONS, seed=0)
    other = replace(CLIPS, train=made_clips(12, 3))
    with pytest.raises(DataError, match="train_sha256"):
        train_variant(tmp_path, variant("sound"), other, options=OPTIONS, seed=0)
    train_variant(tmp_path, variant("sound"), other, options=OPTIONS, seed=0, resume=False)


def test_a_damaged_one_is_named(tmp_path: Path) -> None:
    train_variant(tmp_path, variant("sound"), CLIPS, options=OPTIONS, seed=0)
    (tmp_path / "ablation-sound" / "result.json").write_text("{}")
    with pytest.raises(DataError, match="ablation-sound"):
        load_variant(tmp_path, "sound")
