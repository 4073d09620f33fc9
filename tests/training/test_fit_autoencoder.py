"""The autoencoder's trainer on small made frames: it learns, it resumes, and it embeds as scoring does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from shortcast.errors import DataError
from shortcast.models.autoencoder import ConvLSTMAutoencoder, DecoderConfig, autoencoder_loss
from shortcast.models.convlstm import ConvLSTMEncoder, EncoderConfig
from shortcast.training.compute import Compute
from shortcast.training.dataset import ClipFeatures
from shortcast.training.embed import embed_clip
from shortcast.training.fit_autoencoder import AutoencoderOptions, fit_autoencoder, plan_autoencoder
from shortcast.training.memory import peak_bytes, weights_of
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


def uneven_clips() -> list[ClipFeatures]:
    """Micro-batches of these have different numbers of real frames: some clips end inside a window, and some frames are masked."""
    clips = [made_clip(seed, chunks=1 + seed % 4) for seed in range(8)]
    for clip in clips[::3]:
        clip.frame_mask[-1, 1:] = False
    return clips


def gradients(
    monkeypatch: pytest.MonkeyPatch, folder: Path, options: AutoencoderOptions, clips: list[ClipFeatures]
) -> list[dict[str, torch.Tensor]]:
    """The gradients of every update of a training that leaves the weights as they are, before they are clipped."""
    found: list[dict[str, torch.Tensor]] = []
    model = new_model()

    def keep(_parameters: object, _norm: float) -> None:
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})

    with monkeypatch.context() as patch:
        patch.setattr("torch.nn.utils.clip_grad_norm_", keep)
        patch.setattr("torch.optim.AdamW.step", lambda *_: None)
        fit_autoencoder(model, clips, clips, options=options, seed=1, run=RunDirectory.open(folder, {}))
    return found


ONE_BATCH = AutoencoderOptions(epochs=1, chunks_per_epoch=15, window_chunks=3, batch=5, validation_chunks=3)


@pytest.mark.parametrize("change", [{"accumulate": 2}, {"accumulate": 5}, {"checkpoint_steps": 2}, {"accumulate": 3, "backprop_chunks": 2}])
def test_less_memory_gives_the_gradients_of_the_whole_batch(
    change: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = replace(ONE_BATCH, backprop_chunks=change.get("backprop_chunks", 1))
    expected = gradients(monkeypatch, tmp_path / "plain", plain, uneven_clips())
    found = gradients(monkeypatch, tmp_path / "less", replace(plain, **change), uneven_clips())
    assert len(found) == len(expected) == (2 if "backprop_chunks" in change else 3)
    for mine, theirs in zip(found, expected, strict=True):
        assert max(gradient.abs().max() for gradient in theirs.values()) > 1e-3
        for name, gradient in theirs.items():
            torch.testing.assert_close(mine[name], gradient, atol=1e-6, rtol=0)


def test_the_micro_batch_does_not_decide_the_loss_curve(tmp_path: Path) -> None:
    train, val = uneven_clips(), uneven_clips()
    whole, parts = (
        fit_autoencoder(new_model(), train, val, options=options, seed=1, run=RunDirectory.open(tmp_path / str(options.accumulate), {}))
        for options in (OPTIONS, replace(OPTIONS, accumulate=3))
    )
    for mine, theirs in zip(parts.history, whole.history, strict=True):
        assert mine.train.reconstruct == pytest.approx(theirs.train.reconstruct, rel=1e-3)
        assert mine.validation.reconstruct == pytest.approx(theirs.validation.reconstruct, rel=1e-3)
        assert mine.validation.predict == pytest.approx(theirs.validation.predict, rel=1e-3)


def written_down(*, truncated: bool) -> dict[str, torch.Tensor]:
    """The gradient of a clip of two chunks, with no trainer: the mean error of both, and of the one prediction that can be checked."""
    model, clip = new_model(), made_clip(3, chunks=2)
    frames, mask = torch.from_numpy(clip.frames)[:, None], torch.ones(1, T)
    first = model(frames[0], mask, model.encoder.initial_state())
    second = model(frames[1], mask, tuple(tensor.detach() for tensor in first.state) if truncated else first.state)
    loss = autoencoder_loss(first.decoded, frames[0], mask, next_frames=frames[1], next_mask=mask)
    last = autoencoder_loss(second.decoded, frames[1], mask, next_frames=frames[1], next_mask=torch.zeros(1, T))
    ((loss.reconstruct + last.reconstruct + loss.coarse + last.coarse) / 2 + loss.predict).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_gradients_flow_from_a_chunk_to_the_one_before_it_where_they_are_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = AutoencoderOptions(epochs=1, chunks_per_epoch=2, window_chunks=2, batch=1, validation_chunks=2, backprop_chunks=2)
    (found,) = gradients(monkeypatch, tmp_path, options, [made_clip(3, chunks=2)])
    whole, truncated = written_down(truncated=False), written_down(truncated=True)
    for name, expected in whole.items():
        torch.testing.assert_close(found[name], expected, atol=1e-6, rtol=0)
    assert (whole["encoder.cells.0.gates.weight"] - truncated["encoder.cells.0.gates.weight"]).abs().max() > 1e-4


def test_training_in_bf16_learns_and_keeps_its_weights_in_float32(tmp_path: Path) -> None:
    options = replace(OPTIONS, compute=Compute("cpu", "bf16"), chunks_per_epoch=48, learning_rate=1e-2)
    model, run = new_model(), RunDirectory.open(tmp_path / "bf16", {})
    train, val = [made_clip(seed) for seed in range(8)], [made_clip(100)]
    report = fit_autoencoder(model, train, val, options=options, seed=1, run=run)
    assert report.history[-1].train.reconstruct < 0.9 * report.history[0].train.reconstruct
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    exact = fit_autoencoder(
        new_model(), train, val, options=replace(options, compute=Compute()), seed=1, run=RunDirectory.open(tmp_path / "fp32", {})
    )
    assert report.history != exact.history
    assert report.history[-1].validation.reconstruct == pytest.approx(exact.history[-1].validation.reconstruct, rel=0.2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_cuda_trains_what_the_cpu_trains_and_gives_the_model_back(tmp_path: Path, precision: str) -> None:
    train, val = [made_clip(seed) for seed in range(8)], [made_clip(100)]
    options = replace(OPTIONS, compute=Compute("cuda", precision), accumulate=2, checkpoint_steps=2)
    model = new_model()
    found = fit_autoencoder(model, train, val, options=options, seed=1, run=RunDirectory.open(tmp_path / "cuda", {}))
    exact = fit_autoencoder(new_model(), train, val, options=OPTIONS, seed=1, run=RunDirectory.open(tmp_path / "cpu", {}))
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    tolerance = 1e-3 if precision == "fp32" else 0.1
    assert found.history[-1].validation.reconstruct == pytest.approx(exact.history[-1].validation.reconstruct, rel=tolerance)


def held_while_training(options: AutoencoderOptions, folder: Path) -> int:
    model, train = new_model(), [made_clip(seed) for seed in range(8)]
    run = RunDirectory.open(folder, {})
    return peak_bytes(lambda: fit_autoencoder(model, train, train[:1], options=options, seed=1, run=run), held=weights_of(model))


@pytest.mark.parametrize(("share", "micro_batch", "checkpointed"), [(1.0, 8, False), (0.5, 2, False), (0.29, 1, True)])
def test_training_holds_what_the_plan_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, micro_batch: int, checkpointed: bool
) -> None:
    monkeypatch.setattr(RunDirectory, "save_state", lambda *_: None)  # copies the weights, which is much in so small a model
    options = AutoencoderOptions(epochs=1, chunks_per_epoch=16, batch=8, validation_chunks=2)
    most = plan_autoencoder(new_model(), options, 10**12).peak_bytes
    plan = plan_autoencoder(new_model(), options, round(share * most))
    assert (plan.micro_batch, plan.checkpoint_steps > 0) == (micro_batch, checkpointed)
    kept = replace(options, accumulate=plan.accumulate, checkpoint_steps=plan.checkpoint_steps)
    assert plan.peak_bytes <= plan.budget_bytes
    assert held_while_training(kept, tmp_path) == pytest.approx(plan.peak_bytes, rel=0.05)


def test_a_budget_that_nothing_fits_is_refused() -> None:
    with pytest.raises(DataError, match="too small"):
        plan_autoencoder(new_model(), OPTIONS, 10**4)


@pytest.mark.parametrize(
    ("wrong", "message"), [({"accumulate": 5}, "accumulate"), ({"backprop_chunks": 3}, "backprop_chunks"), ({"checkpoint_steps": -1}, "0")]
)
def test_micro_batches_and_truncation_that_do_not_fit_are_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        replace(OPTIONS, **wrong)
