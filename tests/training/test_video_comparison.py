"""Video networks beside a run: trained once, taken up after a kill, refused where the clips are others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shortcast.errors import DataError
from shortcast.models.video_baselines import VideoConfig
from shortcast.runtime.contract import Contract
from shortcast.training.compute import Compute
from shortcast.training.dataset import ClipFeatures, FeatureStore, ReadyClip
from shortcast.training.fit_video_baseline import VideoBaselineOptions
from shortcast.training.run import ProgressEvent
from shortcast.training.video_comparison import VideoClips, VideoPlan, load_video, plan_videos, train_video, trained_videos

PLAN = VideoPlan(VideoConfig("small3d", frames=4, height=16, width=16), VideoBaselineOptions(epochs=2, batch=4))


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "features", Contract())


def made_clips(store: FeatureStore, count: int, seed: int) -> VideoClips:
    draw = np.random.default_rng(seed)
    clips, nothing = [], np.zeros((1, 2), dtype=np.float32)
    for number in range(count):
        frames = draw.integers(256, size=(1, 4, 24, 16, 3), dtype=np.uint8)
        sha256 = f"{seed:032x}{number:032x}"
        mask = np.ones((1, 4), dtype=bool)
        store.save(sha256, ClipFeatures(frames, mask, np.zeros(1, np.int64), nothing, nothing[:, 0] > 0, np.array([0.5])))
        clips.append(ReadyClip(f"clip{number}", sha256, 1, 0.5))
    return VideoClips(store, clips, draw.normal(size=count))


def test_a_trained_network_is_loaded_and_not_trained_again(tmp_path: Path, store: FeatureStore) -> None:
    train, validation = made_clips(store, 8, 1), made_clips(store, 4, 2)
    first = train_video(tmp_path, PLAN, train, validation, seed=0)
    events: list[ProgressEvent] = []
    again = train_video(tmp_path, PLAN, train, validation, seed=0, progress=events.append)
    assert not events
    assert again.report == first.report
    assert np.array_equal(again.predict(store, train.clips), first.predict(store, train.clips))
    assert [found.name for found in trained_videos(tmp_path)] == ["small3d"]
    assert sorted(file.name for file in (tmp_path / "video-small3d").iterdir()) == [
        "config.json",
        "log.jsonl",
        "model.safetensors",
        "result.json",
    ]


def test_one_that_was_killed_goes_on_to_the_same_end(tmp_path: Path, store: FeatureStore) -> None:
    train, validation = made_clips(store, 8, 1), made_clips(store, 4, 2)
    whole = train_video(tmp_path / "whole", PLAN, train, validation, seed=0)

    def kill(event: ProgressEvent) -> None:
        if event.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_video(tmp_path / "cut", PLAN, train, validation, seed=0, progress=kill)
    assert not trained_videos(tmp_path / "cut")
    assert train_video(tmp_path / "cut", PLAN, train, validation, seed=0).report == whole.report


def test_other_clips_are_another_training(tmp_path: Path, store: FeatureStore) -> None:
    train, validation = made_clips(store, 8, 1), made_clips(store, 4, 2)
    train_video(tmp_path, PLAN, train, validation, seed=0)
    other = replace(train, z=train.z + 1.0)
    with pytest.raises(DataError, match="train_sha256"):
        train_video(tmp_path, PLAN, other, validation, seed=0)
    anew = train_video(tmp_path, PLAN, other, validation, seed=0, resume=False)
    assert anew.report != train_video(tmp_path / "first", PLAN, train, validation, seed=0).report


def test_a_damaged_one_is_named(tmp_path: Path, store: FeatureStore) -> None:
    train_video(tmp_path, PLAN, made_clips(store, 8, 1), made_clips(store, 4, 2), seed=0)
    (tmp_path / "video-small3d" / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(DataError, match="video-small3d"):
        load_video(tmp_path, "small3d")


def test_plans_follow_what_is_asked_for_all_and_for_one() -> None:
    plain = plan_videos(["small3d", "r3d_18", "small3d"], compute=Compute())
    assert [(plan.config.network, plan.config.frames, plan.config.height, plan.config.width) for plan in plain] == [
        ("small3d", 16, 112, 64),
        ("r3d_18", 16, 112, 64),
    ]
    assert [plan.options.epochs for plan in plain] == [20, 3]
    small, large = plan_videos(
        ["small3d", "r3d_18"], sizes=["r3d_18=8x56x32", "4x16x16"], epochs=["2", "r3d_18=1"], compute=Compute(precision="bf16")
    )
    assert (small.config, small.options.epochs) == (VideoConfig("small3d", 4, 16, 16), 2)
    assert (large.config, large.options.epochs) == (VideoConfig("r3d_18", 8, 56, 32), 1)
    assert small.options.compute.precision == "bf16"


@pytest.mark.parametrize(
    ("networks", "sizes", "epochs", "message"),
    [
        (["small3d"], ["16x112"], [], "expected a size such as 16x112x64"),
        (["small3d"], [], ["many"], "number of epochs"),
        (["small3d"], [], ["r3d_18=3"], "'r3d_18' is not among the video networks to train \\(small3d\\)"),
        ([], ["16x112x64"], [], "add --video-baseline"),
    ],
)
def test_plans_that_cannot_be_read_are_refused(networks: list[str], sizes: list[str], epochs: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        plan_videos(networks, sizes=sizes, epochs=epochs, compute=Compute())
