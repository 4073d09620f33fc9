import numpy as np
import pytest
import torch
from torch import Tensor

from shortcast.errors import CheckpointError
from shortcast.models.autoencoder import (
    ConvLSTMAutoencoder,
    Decoded,
    DecoderConfig,
    LossFrames,
    LossWeights,
    autoencoder_loss,
    copy_last_mse,
    decoded_frames,
    last_frame,
    loss_frames,
    mean_frame,
    mean_frame_mse,
    thumbnails,
)
from shortcast.models.convlstm import EncoderConfig

SMALL = EncoderConfig(
    frames_per_chunk=8, height=32, width=24, stem_channels=(8, 12), hidden_channels=(8, 8), pool_grid=(4, 3), embedding_dim=16
)
DECODER = DecoderConfig(hidden_channels=8, head_channels=8, frame_stride=2, coarse_windows=2, coarse_hidden=32)


@pytest.fixture
def autoencoder() -> ConvLSTMAutoencoder:
    torch.manual_seed(0)
    return ConvLSTMAutoencoder.from_configs(SMALL, DECODER)


def pictures(batch: int, *, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, 8, 32, 24, 3), dtype=torch.uint8, generator=generator)


def moving_squares(batch: int, steps: int, generator: torch.Generator) -> Tensor:
    """uint8 (batch, steps, 32, 24, 3): a square of its own colour slides down over a grey ground and wraps around."""
    frames = torch.full((batch, steps, 32, 24, 3), 60, dtype=torch.uint8)
    for i in range(batch):
        top, left, speed = (int(torch.randint(0, high, (1,), generator=generator)) for high in (32, 16, 3))
        colour = torch.randint(120, 256, (3,), generator=generator).to(torch.uint8)
        for t in range(steps):
            rows = (top + (speed + 1) * t + torch.arange(8)) % 32
            frames[i, t, rows, left : left + 8] = colour
    return frames


def targets_as_decoded(frames: Tensor, following: Tensor, mask: Tensor) -> Decoded:
    return Decoded(
        decoded_frames(frames, mask, 2)[0], decoded_frames(following, mask, 2)[0], thumbnails(frames, mask, torch.Size((2, 2, 4, 8, 6)))[0]
    )


def test_shapes(autoencoder: ConvLSTMAutoencoder) -> None:
    output = autoencoder(pictures(2), torch.ones(2, 8), autoencoder.encoder.initial_state(2))
    assert [tuple(t.shape) for t in output.decoded] == [(2, 4, 3, 32, 24), (2, 4, 3, 32, 24), (2, 2, 4, 8, 6)]
    assert output.embedding.shape == (2, 16)


def test_the_reconstruction_is_drawn_backwards_and_returned_in_order(autoencoder: ConvLSTMAutoencoder) -> None:
    output = autoencoder(pictures(1), torch.ones(1, 8), autoencoder.encoder.initial_state())
    drawn = autoencoder.decoder.reconstruct(output.state, 4)
    torch.testing.assert_close(output.decoded.reconstruct[:, -1], drawn[:, 0])
    assert not torch.allclose(output.decoded.reconstruct[:, 0], drawn[:, 0])


def test_a_perfect_drawing_has_no_loss_and_a_uniform_error_has_its_square() -> None:
    frames, following, mask = pictures(2), pictures(2, seed=2), torch.ones(2, 8)
    perfect = targets_as_decoded(frames, following, mask)
    loss = autoencoder_loss(perfect, frames, mask, next_frames=following, next_mask=mask)
    assert max(float(term) for term in loss) < 1e-12
    off = Decoded(*(t + 0.1 for t in perfect))
    loss = autoencoder_loss(off, frames, mask, next_frames=following, next_mask=mask, weights=LossWeights(1.0, 2.0, 3.0))
    torch.testing.assert_close(torch.stack(loss), torch.tensor([0.01, 0.01, 0.01, 0.06]), atol=1e-6, rtol=0)


def test_masked_frames_never_matter_to_the_loss(autoencoder: ConvLSTMAutoencoder) -> None:
    frames, following = pictures(2), pictures(2, seed=2)
    mask = torch.ones(2, 8)
    mask[0, 3:] = 0
    losses = []
    for pad in (0, 255):
        frames[0, 3:] = pad
        following[0, 3:] = pad
        output = autoencoder(frames, mask, autoencoder.encoder.initial_state(2))
        losses.append(torch.stack(autoencoder_loss(output.decoded, frames, mask, next_frames=following, next_mask=mask)))
    assert torch.equal(losses[0], losses[1])
    assert losses[0].gt(0).all()


def test_a_batch_with_nothing_real_costs_nothing_and_its_gradients_are_finite(autoencoder: ConvLSTMAutoencoder) -> None:
    frames, mask = pictures(2), torch.zeros(2, 8)
    output = autoencoder(frames, mask, autoencoder.encoder.initial_state(2))
    loss = autoencoder_loss(output.decoded, frames, mask, next_frames=frames, next_mask=mask)
    loss.total.backward()
    assert loss.total == 0
    assert all(p.grad.isfinite().all() for p in autoencoder.parameters() if p.grad is not None)


def test_the_losses_of_parts_of_a_batch_add_up_to_the_losses_of_the_whole(autoencoder: ConvLSTMAutoencoder) -> None:
    frames, following = pictures(3), pictures(3, seed=2)
    mask, next_mask = torch.ones(3, 8), torch.ones(3, 8)
    mask[0, 3:], next_mask[1] = 0, 0  # parts of different sizes
    output = autoencoder(frames, mask, autoencoder.encoder.initial_state(3))
    whole = autoencoder_loss(output.decoded, frames, mask, next_frames=following, next_mask=next_mask)
    of = loss_frames(mask, next_mask, DECODER)
    assert of == LossFrames(torch.tensor(9.0), torch.tensor(8.0), torch.tensor(5.0))
    parts = []
    for row in (slice(0, 1), slice(1, 3)):
        decoded = Decoded(*(drawn[row] for drawn in output.decoded))
        after = {"next_frames": following[row], "next_mask": next_mask[row]}
        parts.append(torch.stack(autoencoder_loss(decoded, frames[row], mask[row], **after, of=of)))
    torch.testing.assert_close(sum(parts), torch.stack(whole))


def test_gradient_checkpointing_of_the_whole_autoencoder_gives_the_same_gradients(autoencoder: ConvLSTMAutoencoder) -> None:
    frames, mask = pictures(2), torch.ones(2, 8)

    def gradients() -> list[Tensor]:
        output = autoencoder(frames, mask, autoencoder.encoder.initial_state(2))
        loss = autoencoder_loss(output.decoded, frames, mask, next_frames=frames, next_mask=mask)
        return list(torch.autograd.grad(loss.total, list(autoencoder.parameters())))

    plain = gradients()
    autoencoder.set_checkpointing(3)
    assert (autoencoder.encoder.checkpoint_steps, autoencoder.decoder.predict.checkpoint_steps) == (3, 2)
    for found, expected in zip(gradients(), plain, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


def test_the_embedding_head_learns_from_the_coarse_term_and_from_no_other(autoencoder: ConvLSTMAutoencoder) -> None:
    frames, mask = pictures(2), torch.ones(2, 8)
    output = autoencoder(frames, mask, autoencoder.encoder.initial_state(2))
    loss = autoencoder_loss(output.decoded, frames, mask, next_frames=frames, next_mask=mask)
    head = autoencoder.encoder.head.weight
    assert torch.autograd.grad(loss.reconstruct + loss.predict, head, retain_graph=True, allow_unused=True)[0] is None
    assert torch.autograd.grad(loss.coarse, head)[0].abs().max() > 0


def test_the_prediction_starts_near_the_last_frame(autoencoder: ConvLSTMAutoencoder) -> None:
    frames, mask = pictures(2), torch.ones(2, 8)
    output = autoencoder(frames, mask, autoencoder.encoder.initial_state(2))
    last = last_frame(frames, mask)
    assert (output.decoded.predict - last[:, None]).square().mean() < 0.25 * last.var()


def test_last_frame_is_the_last_real_one() -> None:
    frames = pictures(3)
    mask = torch.zeros(3, 8)
    mask[0, :8], mask[1, :3] = 1, 1
    last = last_frame(frames, mask)
    for row, slot in ((0, 7), (1, 2), (2, 0)):
        assert torch.equal(last[row], frames[row, slot].permute(2, 0, 1) / 255.0)


def test_thumbnails_are_means_over_real_frames_and_blocks() -> None:
    frames, mask = pictures(2), torch.ones(2, 8)
    mask[1, 2:] = 0
    small, small_mask = thumbnails(frames, mask, torch.Size((2, 2, 4, 8, 6)))
    pixels = frames.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(small[0, 1, 2, 3, 4], pixels[0, 4:8, 12:16, 16:20, 2].mean(), atol=1e-6)
    np.testing.assert_allclose(small[1, 0, 0, 0, 0], pixels[1, 0:2, 0:4, 0:4, 0].mean(), atol=1e-6)
    assert small_mask.tolist() == [[1, 1], [1, 0]]


def test_thumbnails_show_movement_between_neighbouring_real_frames() -> None:
    frames, mask = pictures(2), torch.ones(2, 8)
    mask[1, [1, 5, 6, 7]] = 0
    movement = thumbnails(frames, mask, torch.Size((2, 2, 4, 8, 6)))[0][:, :, 3]
    change = np.abs(np.diff(frames.numpy() / 255.0, axis=1))[:, :, 4:8, 8:12].mean(axis=(2, 3, 4))
    np.testing.assert_allclose(movement[0, :, 1, 2], np.sqrt([change[0, :3].mean(), change[0, 3:].mean()]), atol=1e-6)
    np.testing.assert_allclose(movement[1, :, 1, 2], np.sqrt([change[1, 2], change[1, 3]]), atol=1e-6)
    frames[:] = frames[:, :1]
    assert thumbnails(frames, mask, torch.Size((2, 2, 4, 8, 6)))[0][:, :, 3].abs().max() == 0


def test_baselines_match_numpy() -> None:
    frames, following = pictures(2), pictures(2, seed=2)
    mask, next_mask = torch.ones(2, 8), torch.ones(2, 8)
    mask[1, 5:], next_mask[1, 4:] = 0, 0
    pixels, after = frames.numpy() / 255.0, following.numpy() / 255.0
    mean = mean_frame([(frames[:1], mask[:1]), (frames[1:], mask[1:])])
    expected = np.concatenate((pixels[0], pixels[1, :5])).mean(axis=0)
    np.testing.assert_allclose(mean.permute(1, 2, 0), expected, atol=1e-6)
    drawn = np.concatenate((pixels[0, 1::2], pixels[1, 1:5:2]))
    np.testing.assert_allclose(mean_frame_mse(mean, frames, mask, stride=2), ((drawn - expected) ** 2).mean(), rtol=1e-5)
    errors = np.concatenate((after[0, 1::2] - pixels[0, 7], after[1, 1:4:2] - pixels[1, 4]))
    np.testing.assert_allclose(copy_last_mse(frames, mask, following, next_mask, stride=2), (errors**2).mean(), rtol=1e-5)


def test_training_beats_both_baselines_on_held_out_moving_squares(autoencoder: ConvLSTMAutoencoder) -> None:
    generator = torch.Generator().manual_seed(3)
    optimiser = torch.optim.Adam(autoencoder.parameters(), lr=5e-3)
    mask = torch.ones(16, 8)
    for _ in range(150):
        clip = moving_squares(16, 16, generator)
        output = autoencoder(clip[:, :8], mask, autoencoder.encoder.initial_state(16))
        loss = autoencoder_loss(output.decoded, clip[:, :8], mask, next_frames=clip[:, 8:], next_mask=mask)
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
    clip = moving_squares(16, 16, generator)
    with torch.no_grad():
        output = autoencoder(clip[:, :8], mask, autoencoder.encoder.initial_state(16))
    loss = autoencoder_loss(output.decoded, clip[:, :8], mask, next_frames=clip[:, 8:], next_mask=mask)
    assert loss.reconstruct < 0.6 * mean_frame_mse(mean_frame([(clip, torch.ones(16, 16))]), clip[:, :8], mask, stride=2)
    assert loss.predict < 0.8 * copy_last_mse(clip[:, :8], mask, clip[:, 8:], mask, stride=2)


@pytest.mark.parametrize("override", [{"frame_stride": 3}, {"coarse_windows": 5}], ids=lambda override: str(override))
def test_strides_that_do_not_divide_the_chunk_are_refused(override: dict[str, int]) -> None:
    with pytest.raises(CheckpointError, match="divide"):
        ConvLSTMAutoencoder.from_configs(SMALL, DecoderConfig(**override))
