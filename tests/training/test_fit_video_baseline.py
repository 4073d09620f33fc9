"""The video baselines' trainer on tiny clips whose brightness is their target: it learns, it resumes, and it reads what it shows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from shortcast.errors import DataError
from shortcast.models.video_baselines import VideoConfig, VideoRegressor
from shortcast.runtime.contract import Contract
from shortcast.training.compute import Compute, decisive
from shortcast.training.dataset import ClipFeatures, FeatureStore, ReadyClip, StoredClips
from shortcast.training.fit_video_baseline import (
    LabelledVideos,
    VideoBaselineOptions,
    fit_video_baseline,
    predict_videos,
    shown_frames,
    stage_of,
)
from shortcast.training.run import ProgressEvent, RunDirectory

T, H, W = 4, 24, 16
SMALL = VideoConfig("small3d", frames=4, height=16, width=16)
OPTIONS = VideoBaselineOptions(epochs=3, batch=4, learning_rate=3e-3)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made_clip(z: float, draw: np.random.Generator) -> ClipFeatures:
    """Noise around a grey that rises with z; the last frame of every clip is masked nonsense."""
    chunks = int(draw.integers(1, 4))
    frames = np.clip(draw.normal(128 + 40 * z, 10, (chunks, T, H, W, 3)), 0, 255).astype(np.uint8)
    mask = np.ones((chunks, T), dtype=bool)
    mask[-1, -1] = False
    frames[-1, -1] = draw.integers(256, size=(H, W, 3))
    nothing = np.zeros((chunks, 2), dtype=np.float32)
    return ClipFeatures(frames, mask, np.zeros(chunks, dtype=np.int64), nothing, nothing[:, 0] > 0, np.arange(1.0, chunks + 1))


def made_videos(count: int, seed: int) -> LabelledVideos:
    draw = np.random.default_rng(seed)
    z = draw.normal(size=count)
    return LabelledVideos([made_clip(float(value), draw) for value in z], z)


def new_model() -> VideoRegressor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VideoRegressor(SMALL)


def test_the_loss_falls_and_held_out_clips_are_ranked(tmp_path: Path) -> None:
    options = replace(OPTIONS, epochs=12, batch=8)
    model, run = new_model(), RunDirectory.open(tmp_path, {})
    report = fit_video_baseline(model, made_videos(48, 1), made_videos(24, 2), options=options, seed=1, run=run)
    assert report.history[-1].train_loss < 0.5 * report.history[0].train_loss
    best = report.history[report.best_epoch - 1]
    assert best.validation_loss == min(line.validation_loss for line in report.history) < 0.2
    assert (best.validation_spearman or 0) > 0.8
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == len(report.history)
    held_out = made_videos(24, 2)
    one_at_a_time = predict_videos(model, held_out.clips, batch=1)
    np.testing.assert_allclose(predict_videos(model, held_out.clips, batch=5), one_at_a_time, atol=1e-5)
    assert report.to_json()["best_epoch"] == report.best_epoch


def new_model_like_torchvisions() -> VideoRegressor:
    """Small, with what r3d_18 and swin3d_t have and small3d has not: running statistics and chance."""
    model = new_model()
    model.backbone = torch.nn.Sequential(torch.nn.BatchNorm3d(3), torch.nn.Dropout3d(0.3), model.backbone)
    return model


@pytest.mark.parametrize("new", [new_model, new_model_like_torchvisions])
def test_a_stopped_run_goes_on_and_ends_as_if_it_had_not_stopped(tmp_path: Path, new: Callable[[], VideoRegressor]) -> None:
    train, validation = made_videos(8, 1), made_videos(4, 2)
    options = replace(OPTIONS, epochs=2)

    def stop(event: ProgressEvent) -> None:
        if event.done == 3:  # in the second epoch of two updates
            raise KeyboardInterrupt

    whole = new()
    expected = fit_video_baseline(whole, train, validation, options=options, seed=1, run=RunDirectory.open(tmp_path / "whole", {}))
    run = RunDirectory.open(tmp_path / "stopped", {})
    with pytest.raises(KeyboardInterrupt):
        fit_video_baseline(new(), train, validation, options=options, seed=1, run=run, progress=stop)
    seen: list[ProgressEvent] = []
    resumed = new()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)  # another process has another generator
        found = fit_video_baseline(resumed, train, validation, options=options, seed=1, run=run, progress=seen.append)
    assert (seen[0].stage, seen[0].done, seen[-1].done) == (stage_of(SMALL), 2, 4)
    assert found == expected
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def test_the_seed_decides_the_run(tmp_path: Path) -> None:
    train, validation = made_videos(8, 1), made_videos(4, 2)
    one, same, other = (
        fit_video_baseline(new_model(), train, validation, options=OPTIONS, seed=seed, run=RunDirectory.open(tmp_path / name, {}))
        for name, seed in (("one", 1), ("same", 1), ("other", 2))
    )
    assert one == same
    assert one != other


def test_training_stops_when_validation_does_not_improve_and_the_best_weights_are_kept(tmp_path: Path) -> None:
    train, upside_down = made_videos(16, 1), made_videos(16, 2)
    upside_down = LabelledVideos(upside_down.clips, -upside_down.z)
    options = replace(OPTIONS, epochs=30, patience=2, learning_rate=1e-3)
    model = new_model()
    report = fit_video_baseline(model, train, upside_down, options=options, seed=1, run=RunDirectory.open(tmp_path, {}))
    assert len(report.history) == report.best_epoch + 2 < 30
    mse = ((predict_videos(model, upside_down.clips, batch=options.batch) - upside_down.z) ** 2).mean()
    assert mse == pytest.approx(report.history[report.best_epoch - 1].validation_mse, rel=1e-6)
    assert mse != pytest.approx(report.history[-1].validation_mse, rel=1e-3)


def test_only_the_frames_that_are_shown_are_read_from_the_store(tmp_path: Path) -> None:
    store, clip = FeatureStore(tmp_path, Contract()), made_clip(0.0, np.random.default_rng(1))
    store.save("abc", clip)
    stored = StoredClips(store, [ReadyClip("a", "abc", len(clip.epochs), float(clip.end_s[-1]))])
    read: list[int] = []

    class Watched(np.memmap):  # type: ignore[type-arg]
        def __getitem__(self, index: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
            read.append(len(index[0]))
            return np.asarray(super().__getitem__(index))

    opened = stored[0]
    watched = replace(opened, frames=opened.frames.view(Watched))
    frames, mask = shown_frames(watched, 3)
    assert read == [3]
    assert mask.all()
    flat, real = clip.frames.reshape(-1, H, W, 3), np.flatnonzero(clip.frame_mask)
    np.testing.assert_array_equal(frames, flat[real[[int((index + 0.5) * len(real) / 3) for index in range(3)]]])
    assert predict_videos(new_model(), stored).shape == (1,)


def test_a_clip_without_pictures_is_shown_as_such() -> None:
    clip = made_clip(0.0, np.random.default_rng(1))
    empty = replace(clip, frame_mask=np.zeros_like(clip.frame_mask))
    assert not shown_frames(empty, 4)[1].any()
    other = replace(empty, frames=255 - empty.frames)
    model = new_model()
    np.testing.assert_array_equal(predict_videos(model, [empty]), predict_videos(model, [other]))


def test_micro_batches_give_the_gradients_of_the_whole_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[dict[str, torch.Tensor]] = []

    def keep(_parameters: object, _norm: float) -> None:
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})

    monkeypatch.setattr("torch.nn.utils.clip_grad_norm_", keep)
    monkeypatch.setattr("torch.optim.AdamW.step", lambda *_: None)
    for accumulate in (1, 3):
        model, options = new_model(), replace(OPTIONS, epochs=1, accumulate=accumulate)
        run = RunDirectory.open(tmp_path / str(accumulate), {})
        fit_video_baseline(model, made_videos(7, 1), made_videos(4, 2), options=options, seed=1, run=run)
    whole, parts = found[:2], found[2:]
    assert len(parts) == 2
    for mine, theirs in zip(parts, whole, strict=True):
        for name, gradient in theirs.items():
            torch.testing.assert_close(mine[name], gradient, atol=1e-6, rtol=0)


def test_micro_batches_of_a_network_that_normalises_over_the_batch_are_refused(tmp_path: Path) -> None:
    videos, run = made_videos(4, 1), RunDirectory.open(tmp_path, {})
    with pytest.raises(DataError, match="normalises over the batch"):
        fit_video_baseline(new_model_like_torchvisions(), videos, videos, options=replace(OPTIONS, accumulate=2), seed=1, run=run)


def test_it_trains_in_bf16_and_options_come_back_from_json(tmp_path: Path) -> None:
    options = replace(OPTIONS, compute=Compute("cpu", "bf16"), accumulate=2)
    plain = json.loads(json.dumps(decisive(options)))
    assert VideoBaselineOptions.from_json(plain) == replace(options, accumulate=1)
    report = fit_video_baseline(
        new_model(), made_videos(16, 1), made_videos(8, 2), options=options, seed=1, run=RunDirectory.open(tmp_path, {})
    )
    assert report.history[-1].train_loss < report.history[0].train_loss


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_trains_and_gives_the_model_back(tmp_path: Path) -> None:
    options, model = replace(OPTIONS, compute=Compute("cuda")), new_model()
    videos = made_videos(8, 1)
    expected = predict_videos(model, videos.clips)
    with options.compute.hosting(model):
        np.testing.assert_allclose(predict_videos(model, videos.clips), expected, atol=1e-4)
    report = fit_video_baseline(model, made_videos(16, 1), videos, options=options, seed=1, run=RunDirectory.open(tmp_path, {}))
    assert report.history[-1].train_loss < report.history[0].train_loss
    assert {p.device.type for p in model.parameters()} == {"cpu"}


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(DataError, match="at least 1"):
        VideoBaselineOptions(epochs=0)
    with pytest.raises(DataError, match="one each"):
        LabelledVideos(made_videos(2, 1).clips, np.zeros(3))
    with pytest.raises(DataError, match="and some"):
        LabelledVideos([], np.zeros(0))
