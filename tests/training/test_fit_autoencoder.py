"""The autoencoder's trainer on small made frames: it learns, it resumes, and it embeds as scoring does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from shortcast.errors import DataError
from shortcast.models.autoencoder import ConvLSTMAutoencoder, DecoderConfig
from shortcast.models.convlstm import ConvLSTMEncoder, EncoderConfig
from shortcast.training.dataset import ClipFeatures
from shortcast.training.fit_autoencoder import AutoencoderOptions, embed_clip, fit_autoencoder
from shortcast.training.run import ProgressEvent, RunDirectory

T, H, W = 4, 32, 16
ENCODER = EncoderConfig(
    frames_per_chunk=T, height=H, width=W, stem_channels=(4, 6, 8), hidden_channels=(6, 6), pool_grid=(2, 1), embedding_dim=8
)
DECODER = DecoderConfig(hidden_channels=6, head_channels=4, coarse_windows=2, coarse_hidden=16)
OPTIONS = AutoencoderOptions(epochs=3, chunks_per_epoch=16, window_chunks=2, batch=4, validation_chunks=8)


def made_clip(seed: int, chunks: int = 3, *, epochs: tuple[int, ...] | None = None) -> ClipFeatures:
    """A coloured bar that sweeps over a plain background."""
    draw = np.random.default_rng(seed)
    colours = draw.integers(30, 225, (2, 3))
    steps = (np.arange(chunks * T) * 2 + draw.integers(H)) % H
    rows = np.arange(H)[None, :, None, None]
    bar = (rows - steps[:, None, None, None]) % H < 8
    frames = np.broadcast_to(np.where(bar, colours[0], colours[1]), (chunks * T, H, W, 3)).astype(np.uint8)
    return ClipFeatures(
        frames=frames.reshape(chunks, T, H, W, 3),
        frame_mask=np.ones((chunks, T), dtype=bool),
        epochs=np.array(epochs or (0,) * chunks),
        sound=np.zeros((chunks, 4), dtype=np.float32),
        sound_mask=np.zeros(chunks, dtype=bool),
        end_s=np.arange(1.0, chunks + 1),
    )


def new_model(seed: int = 0) -> ConvLSTMAutoencoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ConvLSTMAutoencoder.from_configs(ENCODER, DECODER)


def test_losses_fall_and_beat_both_baselines(tmp_path: Path) -> None:
    options = AutoencoderOptions(epochs=6, chunks_per_epoch=96, batch=4, validation_chunks=16, learning_rate=1e-2)
    run = RunDirectory.open(tmp_path, {})
    train, val = [made_clip(seed) for seed in range(24)], [made_clip(seed) for seed in range(100, 108)]
    report = fit_autoencoder(new_model(), train, val, options=options, seed=1, run=run)
    first, last = report.history[0], report.history[-1]
    assert [line.epoch for line in report.history] == [1, 2, 3, 4, 5, 6]
    assert last.train.reconstruct < 0.8 * first.train.reconstruct
    assert last.validation.reconstruct < 0.9 * report.baselines.mean_frame
    assert last.validation.predict < 0.9 * report.baselines.copy_last
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 6


@pytest.mark.parametrize("stop_at", [1, 11])  # in the first epoch, and in the second
def test_a_stopped_run_goes_on_and_ends_as_if_it_had_not_stopped(tmp_path: Path, stop_at: int) -> None:
    train, val = [made_clip(seed) for seed in range(8)], [made_clip(100)]

    def stop(event: ProgressEvent) -> None:
        if event.done == stop_at:
            raise KeyboardInterrupt

    whole = new_model()
    expected = fit_autoencoder(whole, train, val, options=OPTIONS, seed=1, run=RunDirectory.open(tmp_path / "whole", {}))
    run = RunDirectory.open(tmp_path / "stopped", {})
    with pytest.raises(KeyboardInterrupt):
        fit_autoencoder(new_model(), train, val, options=OPTIONS, seed=1, run=run, progress=stop)
    seen: list[ProgressEvent] = []
    resumed = new_model()
    found = fit_autoencoder(resumed, train, val, options=OPTIONS, seed=1, run=run, progress=seen.append)
    assert seen[0].done == stop_at // 8 * 8  # 4 updates of 2 chunks an epoch; whole epochs are not repeated
    assert found == expected
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def test_the_seed_decides_the_run(tmp_path: Path) -> None:
    train, val = [made_clip(seed) for seed in range(8)], [made_clip(100)]
    one, same, other = (
        fit_autoencoder(new_model(), train, val, options=OPTIONS, seed=seed, run=RunDirectory.open(tmp_path / name, {}))
        for name, seed in (("one", 1), ("same", 1), ("other", 2))
    )
    assert one == same
    assert one != other


def test_nothing_is_predicted_across_a_timestamp_jump(tmp_path: Path) -> None:
    jumping = [made_clip(seed, epochs=(0, 1, 2)) for seed in range(4)]
    report = fit_autoencoder(new_model(), jumping, jumping, options=OPTIONS, seed=1, run=RunDirectory.open(tmp_path, {}))
    assert report.history[-1].train.predict == 0
    assert report.baselines.copy_last == 0
    assert report.baselines.mean_frame > 0


def test_a_clip_shorter_than_a_window_is_used(tmp_path: Path) -> None:
    short = [made_clip(seed, chunks=1) for seed in range(4)]
    report = fit_autoencoder(new_model(), short, short, options=OPTIONS, seed=1, run=RunDirectory.open(tmp_path, {}))
    assert 0 < report.history[-1].validation.reconstruct < 1


def test_options_that_make_no_update_are_refused() -> None:
    with pytest.raises(DataError, match="window"):
        AutoencoderOptions(chunks_per_epoch=1, window_chunks=2)


def stream(encoder: ConvLSTMEncoder, clip: ClipFeatures, start: int, stop: int) -> list[np.ndarray]:
    """Chunks [start, stop) with the state carried from zeros at `start`."""
    state, found = encoder.initial_state(), []
    with torch.inference_mode():
        for index in range(start, stop):
            frames = torch.from_numpy(clip.frames[index])[None]
            embedding, state = encoder(frames, torch.from_numpy(clip.frame_mask[index])[None].float(), state)
            found.append(embedding[0].numpy())
    return found


def test_embedding_a_clip_carries_the_state_and_resets_it_with_the_epoch() -> None:
    encoder = new_model().encoder.eval()
    clip = made_clip(1, chunks=4, epochs=(0, 0, 1, 1))
    found = embed_clip(encoder, clip)
    np.testing.assert_array_equal(found, [*stream(encoder, clip, 0, 2), *stream(encoder, clip, 2, 4)])
    carried = stream(encoder, clip, 0, 4)
    assert np.abs(found[2:] - carried[2:]).max() > 1e-5


def test_a_chunk_without_pictures_is_zero_and_the_state_passes_it_by() -> None:
    encoder = new_model().encoder.eval()
    clip = made_clip(1, chunks=3)
    clip.frame_mask[1] = False
    found = embed_clip(encoder, clip)
    first, _, last = stream(encoder, clip, 0, 3)
    np.testing.assert_array_equal(found[1], 0)
    np.testing.assert_array_equal(found[0], first)
    np.testing.assert_allclose(found[2], last, atol=1e-6)
