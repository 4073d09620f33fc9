"""The visual encoder: a strided stem, two ConvLSTM layers whose state is data, and one embedding for every chunk.

ConvLSTM is Shi et al. 2015 (arXiv 1506.04214), without its peephole terms. There is no normalisation inside the recurrence:
with one, an untrained network amplifies a rounding error from chunk to chunk, and without one it contracts it.

Under torch.autocast the convolutions are computed in the lower precision and the state stays float32: it is added to at every step
of a clip. Gradient checkpointing (Chen et al. 2016, arXiv 1604.06174) recomputes runs of time steps in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..errors import CheckpointError

Result = TypeVar("Result")
State = tuple[Tensor, ...]
"""(h0, c0, h1, c1, ...): hidden and cell state of every ConvLSTM layer, each float32 (B, hidden, H / stride, W / stride)."""


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """The encoder's dimensions; they travel inside the checkpoint."""

    frames_per_chunk: int = 16
    """T of the exported graph. The PyTorch module takes any T."""
    height: int = 160
    width: int = 96
    stem_channels: tuple[int, ...] = (16, 32, 48)
    """One stride-2 convolution each."""
    hidden_channels: tuple[int, ...] = (32, 32)
    """One ConvLSTM layer each."""
    pool_grid: tuple[int, int] = (5, 3)
    """Rows and columns the top hidden state is averaged to before the embedding: where in the picture is kept, coarsely."""
    embedding_dim: int = 128
    pixel_mean: float = 0.45
    pixel_std: float = 0.25

    def __post_init__(self) -> None:
        sizes = (self.frames_per_chunk, self.height, self.width, self.embedding_dim, *self.pool_grid)
        if not self.stem_channels or not self.hidden_channels or min(*sizes, *self.stem_channels, *self.hidden_channels) < 1:
            raise CheckpointError(f"encoder: every dimension is at least 1, got {self}")
        rows, columns = self.grid
        if (rows * self.stride, columns * self.stride) != (self.height, self.width):
            raise CheckpointError(f"encoder: {self.height}x{self.width} pictures do not divide by the stem's stride {self.stride}")
        if rows % self.pool_grid[0] or columns % self.pool_grid[1]:
            raise CheckpointError(f"encoder: a {rows}x{columns} state does not divide into a pool grid of {self.pool_grid}")

    @property
    def stride(self) -> int:
        """Pixels behind one cell of the state, along each side."""
        return int(2 ** len(self.stem_channels))

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the state."""
        return self.height // self.stride, self.width // self.stride


class ConvLSTMCell(nn.Module):
    """One step of a ConvLSTM: a single convolution over input and hidden state gives all four gates."""

    def __init__(self, input_channels: int, hidden_channels: int, *, kernel: int = 3) -> None:
        super().__init__()
        self.gates = nn.Conv2d(input_channels + hidden_channels, 4 * hidden_channels, kernel, padding=kernel // 2)
        bias = torch.zeros(4, hidden_channels)
        bias[1] = 1.0  # the forget gate starts open (Jozefowicz et al. 2015), else early gradients die within a chunk
        self.gates.bias = nn.Parameter(bias.flatten())

    def forward(self, x: Tensor | None, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Advances the state by one step.

        Args:
            x: float32 (B, input_channels, H, W), or None for a cell built with no input channels.
            h: float32 (B, hidden_channels, H, W), hidden state.
            c: float32 (B, hidden_channels, H, W), cell state.

        Returns:
            The new hidden and cell state.
        """
        i, f, o, g = torch.chunk(self.gates(h if x is None else torch.cat((x, h), dim=1)), 4, dim=1)
        c_new = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c_new), c_new


class ConvLSTMEncoder(nn.Module):
    """Pictures of one chunk and the state of the stream -> an embedding and the next state."""

    def __init__(self, config: EncoderConfig = EncoderConfig()) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_steps = 0
        """Frames, stem and all, that are recomputed together in the backward pass of training; 0 stores what that pass needs."""
        self.stem = _stem(config.stem_channels)
        sizes = (config.stem_channels[-1], *config.hidden_channels)
        self.cells = nn.ModuleList(ConvLSTMCell(a, b) for a, b in pairwise(sizes))
        cells = config.pool_grid[0] * config.pool_grid[1]
        self.head = nn.Linear(3 * config.hidden_channels[-1] * cells, config.embedding_dim)
        self.to(memory_format=torch.channels_last)  # pictures come as (H, W, C), and training on a CPU is four times faster so

    def initial_state(self, batch: int = 1) -> State:
        """The state at the start of a stream: zeros, on the module's device."""
        rows, columns = self.config.grid
        device = self.head.weight.device
        return tuple(torch.zeros(batch, n, rows, columns, device=device) for n in self.config.hidden_channels for _ in "hc")

    def forward(self, frames: Tensor, frame_mask: Tensor, state: State) -> tuple[Tensor, State]:
        """Encodes one chunk.

        Args:
            frames: uint8 (B, T, H, W, 3), RGB.
            frame_mask: float32 (B, T), 1 where a picture is real. Where it is 0 the state stays exactly as it was.
            state: what the previous chunk returned, or `initial_state`.

        Returns:
            embedding float32 (B, D), and the new state. A chunk whose frames are all masked returns the state it was given and a
            finite embedding.
        """
        steps = self.checkpoint_steps if self.training and torch.is_grad_enabled() else 0
        before = state[-2]
        tops, state = self._checkpointed(frames, frame_mask, state, steps) if steps else self._run(frames, frame_mask, *state)
        return self._embed([before, *tops], frame_mask), state

    def _run(self, frames: Tensor, frame_mask: Tensor, *state: Tensor) -> tuple[list[Tensor], State]:
        """Goes through consecutive pictures: the top hidden state after each of them, and the new state."""
        features = self._features(frames)
        real = frame_mask[:, :, None, None, None] > 0
        tops: list[Tensor] = []
        for t in range(frames.shape[1]):
            state = self._step(features[:, t], real[:, t], state)
            tops.append(state[-2])
        return tops, state

    def _checkpointed(self, frames: Tensor, frame_mask: Tensor, state: State, steps: int) -> tuple[list[Tensor], State]:
        tops: list[Tensor] = []
        for there in runs(frames.shape[1], steps):
            new, state = recomputed(self._run, frames[:, there], frame_mask[:, there], *state)
            tops += new
        return tops, state

    def _features(self, frames: Tensor) -> Tensor:
        # TensorRT accepts a uint8 input only straight into a Cast, so the cast comes before any reshape or transpose.
        pixels = frames.to(torch.float32).flatten(0, 1).permute(0, 3, 1, 2)
        stemmed: Tensor = self.stem((pixels / 255.0 - self.config.pixel_mean) / self.config.pixel_std)
        return stemmed.reshape(-1, frames.shape[1], *stemmed.shape[1:])

    def _step(self, x: Tensor, real: Tensor, state: State) -> State:
        new: list[Tensor] = []
        for layer, cell in enumerate(self.cells):
            h, c = state[2 * layer], state[2 * layer + 1]
            h_new, c_new = cell(x, h, c)
            x = torch.where(real, h_new, h)
            new += [x, torch.where(real, c_new, c)]
        return tuple(new)

    def _embed(self, tops: list[Tensor], frame_mask: Tensor) -> Tensor:
        """What was there (mean), what is there now (final) and how much moved (mean absolute change), pooled to the grid."""
        weights = (frame_mask / frame_mask.sum(dim=1, keepdim=True).clamp(min=1.0))[:, :, None, None, None]
        steps = [weights[:, t] for t in range(len(tops) - 1)]
        mean = _sum([w * h for w, h in zip(steps, tops[1:], strict=True)])
        change = _sum([w * (h - before).abs() for w, before, h in zip(steps, tops[:-1], tops[1:], strict=True)])
        rows, columns = self.config.grid
        cell = (rows // self.config.pool_grid[0], columns // self.config.pool_grid[1])
        embedding: Tensor = self.head(F.avg_pool2d(torch.cat((mean, tops[-1], change), dim=1), cell).flatten(1))
        return embedding


def runs(length: int, steps: int) -> list[slice]:
    """Cuts `length` time steps into runs of `steps`; the last may be shorter."""
    return [slice(start, min(start + steps, length)) for start in range(0, length, steps)]


def recomputed(function: Callable[..., Result], *arguments: Any) -> Result:
    """Calls a function without storing what its backward pass needs; only its arguments are kept, and it is called again then."""
    # Nothing in these models draws random numbers, so none need to be put back for the second call.
    result: Result = checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
    return result


def _sum(terms: list[Tensor]) -> Tensor:
    """The sum of tensors of one shape, in order."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _stem(channels: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in zip((3, *channels[:-1]), channels, strict=True):
        convolution = nn.Conv2d(a, b, 3, stride=2, padding=1)
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        layers += [convolution, nn.ReLU()]
    return nn.Sequential(*layers)
