"""The unsupervised part: a composite ConvLSTM autoencoder, its masked loss, and the two baselines it has to beat.

After Srivastava et al. 2015 (arXiv 1502.04681) one decoder reconstructs the chunk in reversed order and another predicts the
next chunk, both from the encoder's final state. A third, coarse decoder sees the embedding alone, so that the loss also trains
the embedding head: it must carry brightness, colour and layout, how they change, and how much moves where.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CheckpointError
from .convlstm import ConvLSTMCell, ConvLSTMEncoder, EncoderConfig, State, recomputed, runs


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """The decoder's dimensions; they travel inside the checkpoint."""

    hidden_channels: int = 32
    head_channels: int = 16
    """Channels at half the stem's stride, between the two pixel shuffles."""
    frame_stride: int = 2
    """Every frame_stride-th frame is decoded: half the cost at 2, and neighbours at 8 fps differ little."""
    coarse_windows: int = 4
    """Time steps of the thumbnails decoded from the embedding alone."""
    coarse_hidden: int = 256

    def __post_init__(self) -> None:
        if min(self.hidden_channels, self.head_channels, self.frame_stride, self.coarse_windows, self.coarse_hidden) < 1:
            raise CheckpointError(f"decoder: every dimension is at least 1, got {self}")


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Weight of each term in the total."""

    reconstruct: float = 1.0
    predict: float = 1.0
    coarse: float = 1.0


class Decoded(NamedTuple):
    """What the decoder makes of one chunk. Pixels are in [0, 1] units; K = T / frame_stride frames in the order of time."""

    reconstruct: Tensor
    """float32 (B, K, 3, H, W): this chunk."""
    predict: Tensor
    """float32 (B, K, 3, H, W): the next chunk."""
    coarse: Tensor
    """float32 (B, coarse_windows, 4, H / stride, W / stride): this chunk's thumbnails, three colours and movement."""


class AutoencoderOutput(NamedTuple):
    """One chunk through the autoencoder."""

    decoded: Decoded
    embedding: Tensor
    """float32 (B, D)."""
    state: State
    """The encoder's state after the chunk."""


class AutoencoderLoss(NamedTuple):
    """Mean squared errors in [0, 1] pixel units over real frames only; a term with no real frame is 0."""

    reconstruct: Tensor
    predict: Tensor
    coarse: Tensor
    total: Tensor


class LossFrames(NamedTuple):
    """How many real frames each term is a mean over, float32 (). Where a batch is cut into parts, those of the whole batch."""

    reconstruct: Tensor
    predict: Tensor
    coarse: Tensor


class CompositeDecoder(nn.Module):
    """Reconstructs the chunk, predicts the next one, and redraws thumbnails from the embedding."""

    def __init__(self, encoder: EncoderConfig, config: DecoderConfig = DecoderConfig()) -> None:
        super().__init__()
        if encoder.frames_per_chunk % config.frame_stride or encoder.frames_per_chunk % config.coarse_windows:
            raise CheckpointError(f"decoder: {encoder.frames_per_chunk} frames divide by frame_stride and by coarse_windows, or not at all")
        self.config = config
        self.reconstruct = _Branch(encoder, config, channels=3)
        self.predict = _Branch(encoder, config, channels=4)
        self.coarse = _Coarse(encoder, config)
        nn.init.constant_(self.predict.gate_bias(), 2.0)  # start near "the last frame stays"
        self.to(memory_format=torch.channels_last)

    def forward(self, embedding: Tensor, state: State, last_frame: Tensor, *, steps: int) -> Decoded:
        """Decodes one chunk.

        Args:
            embedding: float32 (B, D).
            state: the encoder's final state.
            last_frame: float32 (B, 3, H, W) in [0, 1], the last real picture: the prediction is this one, where a learned gate keeps
                it, and newly drawn content elsewhere.
            steps: frames to decode on each side.
        """
        drawn = self.predict(state, steps)
        gate = torch.sigmoid(drawn[:, :, 3:])
        predicted = gate * last_frame[:, None] + (1.0 - gate) * drawn[:, :, :3]
        return Decoded(self.reconstruct(state, steps).flip(1), predicted, self.coarse(embedding))


class ConvLSTMAutoencoder(nn.Module):
    """Encoder and decoder. Scoring needs only the encoder."""

    def __init__(self, encoder: ConvLSTMEncoder, decoder: CompositeDecoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    @classmethod
    def from_configs(cls, encoder: EncoderConfig, decoder: DecoderConfig) -> ConvLSTMAutoencoder:
        """Both halves, freshly initialised."""
        return cls(ConvLSTMEncoder(encoder), CompositeDecoder(encoder, decoder))

    def set_checkpointing(self, steps: int) -> None:
        """Turns gradient checkpointing on: training recomputes runs of this many frames instead of storing them; 0 turns it off."""
        stride = self.decoder.config.frame_stride
        self.encoder.checkpoint_steps = steps
        for branch in (self.decoder.reconstruct, self.decoder.predict):
            branch.checkpoint_steps = -(-steps // stride)

    def forward(self, frames: Tensor, frame_mask: Tensor, state: State) -> AutoencoderOutput:
        """Encodes and decodes one chunk.

        Args:
            frames: uint8 (B, T, H, W, 3).
            frame_mask: float32 (B, T).
            state: what the previous chunk returned (detached, between updates), or `encoder.initial_state`.
        """
        embedding, new_state = self.encoder(frames, frame_mask, state)
        steps = frames.shape[1] // self.decoder.config.frame_stride
        return AutoencoderOutput(self.decoder(embedding, new_state, last_frame(frames, frame_mask), steps=steps), embedding, new_state)


def autoencoder_loss(
    decoded: Decoded,
    frames: Tensor,
    frame_mask: Tensor,
    *,
    next_frames: Tensor,
    next_mask: Tensor,
    weights: LossWeights = LossWeights(),
    of: LossFrames | None = None,
) -> AutoencoderLoss:
    """Masked mean squared errors of the three decoders.

    Args:
        decoded: what the decoder made of the chunk.
        frames: uint8 (B, T, H, W, 3), the chunk.
        frame_mask: float32 (B, T).
        next_frames: uint8 (B, T, H, W, 3), the chunk after it; anything where there is none.
        next_mask: float32 (B, T); zeros where there is none.
        weights: weight of each term in the total.
        of: frames of the whole batch (`loss_frames`, summed) that this chunk is a part of: the parts' losses, and so their gradients,
            then add up to the whole's. None: the chunk is the whole.
    """
    stride = frames.shape[1] // decoded.reconstruct.shape[1]
    total_of = of or (None, None, None)
    reconstruct = masked_mse(decoded.reconstruct, *decoded_frames(frames, frame_mask, stride), of=total_of[0])
    predict = masked_mse(decoded.predict, *decoded_frames(next_frames, next_mask, stride), of=total_of[1])
    coarse = masked_mse(decoded.coarse, *thumbnails(frames, frame_mask, decoded.coarse.shape), of=total_of[2])
    total = weights.reconstruct * reconstruct + weights.predict * predict + weights.coarse * coarse
    return AutoencoderLoss(reconstruct, predict, coarse, total)


def loss_frames(frame_mask: Tensor, next_mask: Tensor, config: DecoderConfig) -> LossFrames:
    """The real frames behind each term of `autoencoder_loss`, from masks float32 (B, T)."""
    stride = config.frame_stride
    windows = frame_mask.reshape(len(frame_mask), config.coarse_windows, -1).sum(dim=2) > 0
    return LossFrames(frame_mask[:, stride - 1 :: stride].sum(), next_mask[:, stride - 1 :: stride].sum(), windows.sum().float())


def masked_mse(predicted: Tensor, target: Tensor, mask: Tensor, *, of: Tensor | None = None) -> Tensor:
    """Mean squared error over the frames whose mask is 1; 0 where there are none.

    Args:
        predicted: float32 (B, K, 3, H, W).
        target: float32, the same shape or broadcast to it.
        mask: float32 (B, K).
        of: float32 (), frames to divide by where these are some of more; None counts the mask.
    """
    per_frame = (predicted - target).square().mean(dim=(2, 3, 4))
    return (per_frame * mask).sum() / (mask.sum() if of is None else of).clamp(min=1.0)


def decoded_frames(frames: Tensor, frame_mask: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """The frames a decoder with this stride draws, as float32 (B, K, 3, H, W) in [0, 1], and their mask (B, K)."""
    return frames[:, stride - 1 :: stride].permute(0, 1, 4, 2, 3).to(torch.float32) / 255.0, frame_mask[:, stride - 1 :: stride]


def thumbnails(frames: Tensor, frame_mask: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """What the coarse decoder should draw: means over windows of real frames and over blocks of pixels.

    The fourth channel is movement: the square root of the mean absolute change from one real frame to the next. Without it the
    embedding tells colours apart and fast clips from slow ones hardly; the root brings it to the scale of the colours.

    Args:
        frames: uint8 (B, T, H, W, 3).
        frame_mask: float32 (B, T).
        shape: (B, windows, 4, h, w), with windows dividing T, h dividing H and w dividing W.

    Returns:
        float32 (B, windows, 4, h, w) in [0, 1], and a mask (B, windows) that is 1 where a window holds a real frame.
    """
    windows, blocks = shape[1], (shape[3], shape[4])
    pixels = frames.to(torch.float32).permute(0, 1, 4, 2, 3) / 255.0
    colours, count = _window_means(_blocks(pixels, blocks), frame_mask, windows)
    # No change is known for the first frame of a chunk, nor across a gap.
    change = F.pad((pixels[:, 1:] - pixels[:, :-1]).abs().mean(dim=2, keepdim=True), (0, 0, 0, 0, 0, 0, 1, 0))
    movement, _ = _window_means(_blocks(change, blocks), F.pad(frame_mask[:, 1:] * frame_mask[:, :-1], (1, 0)), windows)
    return torch.cat((colours, movement.sqrt()), dim=2), (count > 0).to(torch.float32)


def _blocks(pictures: Tensor, blocks: tuple[int, int]) -> Tensor:
    """(B, T, C, H, W) -> (B, T, C, h, w), means over blocks of pixels."""
    return F.adaptive_avg_pool2d(pictures.flatten(0, 1), blocks).reshape(*pictures.shape[:3], *blocks)


def _window_means(pictures: Tensor, mask: Tensor, windows: int) -> tuple[Tensor, Tensor]:
    """(B, T, C, h, w) and its mask (B, T) -> means (B, windows, C, h, w) over what is real, and how many pictures that is (B, windows)."""
    weights = mask.reshape(len(mask), windows, -1)
    count = weights.sum(dim=2)
    total = (pictures.reshape(len(mask), windows, -1, *pictures.shape[2:]) * weights[..., None, None, None]).sum(dim=2)
    return total / count.clamp(min=1.0)[..., None, None, None], count


def last_frame(frames: Tensor, frame_mask: Tensor) -> Tensor:
    """The last real picture of each chunk.

    Args:
        frames: uint8 (B, T, H, W, 3).
        frame_mask: float32 (B, T).

    Returns:
        float32 (B, 3, H, W) in [0, 1]; the first slot's pixels where no frame is real.
    """
    slots = torch.arange(frames.shape[1], device=frames.device)
    index = (frame_mask * slots).argmax(dim=1)
    return frames[torch.arange(len(frames), device=frames.device), index].permute(0, 3, 1, 2).to(torch.float32) / 255.0


def mean_frame(chunks: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """The mean of all real pictures, float32 (3, H, W) in [0, 1]: fit it on the training split.

    Args:
        chunks: pairs of frames uint8 (B, T, H, W, 3) and frame_mask float32 (B, T).
    """
    total, count = torch.zeros(()), torch.zeros(())
    for frames, mask in chunks:
        total = total + (frames.to(torch.float32) * mask[..., None, None, None]).sum(dim=(0, 1)) / 255.0
        count = count + mask.sum()
    return (total / count.clamp(min=1.0)).permute(2, 0, 1)


def mean_frame_mse(mean: Tensor, frames: Tensor, frame_mask: Tensor, *, stride: int) -> Tensor:
    """The reconstruction error of always drawing the training split's mean frame, over the frames a decoder of this stride draws."""
    target, mask = decoded_frames(frames, frame_mask, stride)
    return masked_mse(mean[None, None], target, mask)


def copy_last_mse(frames: Tensor, frame_mask: Tensor, next_frames: Tensor, next_mask: Tensor, *, stride: int) -> Tensor:
    """The prediction error of repeating the last real frame through the next chunk, over the frames a decoder of this stride draws."""
    target, mask = decoded_frames(next_frames, next_mask, stride)
    return masked_mse(last_frame(frames, frame_mask)[:, None], target, mask)


class _Branch(nn.Module):
    """A ConvLSTM that runs on from the encoder's state with no input, and draws a picture at every step."""

    def __init__(self, encoder: EncoderConfig, config: DecoderConfig, *, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.checkpoint_steps = 0
        self.start = nn.Conv2d(2 * sum(encoder.hidden_channels), 2 * config.hidden_channels, 1)
        self.cell = ConvLSTMCell(0, config.hidden_channels)
        fine = encoder.stride // 2
        self.widen = nn.Conv2d(config.hidden_channels, 4 * config.head_channels, 3, padding=1)
        self.draw = nn.Conv2d(config.head_channels, channels * fine * fine, 3, padding=1)
        self.fine = nn.PixelShuffle(fine)
        nn.init.constant_(self._draw_bias()[:3], encoder.pixel_mean)

    def gate_bias(self) -> Tensor:
        """A view of the biases of the fourth channel."""
        return self._draw_bias()[3:]

    def _draw_bias(self) -> Tensor:
        bias = self.draw.bias
        return bias.detach().view(self.channels, -1) if bias is not None else torch.empty(self.channels, 0)

    def forward(self, state: State, steps: int) -> Tensor:
        """State -> float32 (B, steps, channels, H, W)."""
        # The state stays float32 under torch.autocast, as the encoder's does.
        h, c = torch.chunk(self.start(torch.cat(state, dim=1)).to(state[0].dtype), 2, dim=1)
        h = torch.tanh(h)
        together = self.checkpoint_steps if self.training and torch.is_grad_enabled() else 0
        if not together:
            return self._run(h, c, steps)[0]
        pictures: list[Tensor] = []
        for there in runs(steps, together):
            picture, h, c = recomputed(self._run, h, c, there.stop - there.start)
            pictures.append(picture)
        return torch.cat(pictures, dim=1)

    def _run(self, h: Tensor, c: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draws some consecutive pictures, float32 (B, steps, channels, H, W); also gives the new state."""
        hidden: list[Tensor] = []
        for _ in range(steps):
            h, c = self.cell(None, h, c)
            hidden.append(h)
        wide = F.relu(F.pixel_shuffle(self.widen(torch.stack(hidden, dim=1).flatten(0, 1)), 2))
        picture: Tensor = self.fine(self.draw(wide))
        return picture.reshape(-1, steps, *picture.shape[1:]), h, c


class _Coarse(nn.Module):
    """The embedding alone -> thumbnails."""

    def __init__(self, encoder: EncoderConfig, config: DecoderConfig) -> None:
        super().__init__()
        rows, columns = encoder.grid
        self.shape = (config.coarse_windows, 4, rows, columns)
        self.hidden = nn.Linear(encoder.embedding_dim, config.coarse_hidden)
        self.draw = nn.Linear(config.coarse_hidden, config.coarse_windows * 4 * rows * columns)
        nn.init.constant_(self.draw.bias, encoder.pixel_mean)

    def forward(self, embedding: Tensor) -> Tensor:
        drawn: Tensor = self.draw(F.silu(self.hidden(embedding)))
        return drawn.reshape(-1, *self.shape)
