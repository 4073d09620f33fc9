"""Video networks that score a clip from its frames alone: what the ConvLSTM and the dual Transformer are compared with.

Every network is given the same input: 16 frames spread evenly over the real frames of the whole clip, each scaled to fit inside
112x112, or another size, and letterboxed. A 160x96 picture becomes 112x67, whole, between bars of the mean colour. Cost for one clip at
112x112 and at 112x64 (2 FLOP a multiply-add, convolutions and matrix products only; torchvision's networks are counted with a head of
one output):

    network     parameters   MFLOP    112x64   what
    small3d        292,209     434       248   four strided 3x3x3 convolutions, group normalisation, mean over what is left
    r3d_18      33,166,785   81393     46510   torchvision's 3D ResNet (Tran et al. 2018, arXiv 1711.11248)
    swin3d_t    27,851,239   22726     13630   torchvision's Video Swin (Liu et al. 2022, arXiv 2106.13230)

They start from random weights, unless a file of pretrained ones is at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.video import r3d_18, swin3d_t

from ..errors import CheckpointError

_SMALL_CHANNELS = (16, 32, 64, 128)
_GROUPS = 8

Colour = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class _Network:
    """How a backbone is built, and the pixels it was made for."""

    build: Callable[[], nn.Module]
    head: str
    """Name of its last layer, a Linear."""
    mean: Colour
    std: Colour


@dataclass(frozen=True, slots=True)
class VideoConfig:
    """Which network, and what it is shown."""

    network: str = "small3d"
    """A key of `VIDEO_NETWORKS`."""
    frames: int = 16
    height: int = 112
    width: int = 112

    def __post_init__(self) -> None:
        if self.network not in VIDEO_NETWORKS:
            raise CheckpointError(f"video network {self.network!r} is not known; expected one of {', '.join(VIDEO_NETWORKS)}")
        if min(self.frames, self.height, self.width) < 1:
            raise CheckpointError(f"video network: every dimension is at least 1, got {self}")


class VideoRegressor(nn.Module):
    """Frames of a clip -> a score in standardised units."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: VideoConfig, *, weights: Path | None = None) -> None:
        """Builds the network.

        Args:
            config: which network, and what it is shown.
            weights: a local safetensors file with a state dict of the same torchvision network; its head is not taken. None starts
                from PyTorch's random generator.

        Raises:
            CheckpointError: the file cannot be read, or holds the weights of something else.
        """
        super().__init__()
        self.config = config
        network = _NETWORKS[config.network]
        self.backbone = network.build()
        setattr(self.backbone, network.head, nn.Linear(getattr(self.backbone, network.head).in_features, 1))
        self.register_buffer("mean", torch.tensor(network.mean), persistent=False)
        self.register_buffer("std", torch.tensor(network.std), persistent=False)
        if weights is not None:
            _load(self.backbone, network.head, weights)

    def forward(self, frames: Tensor, frame_mask: Tensor) -> Tensor:
        """Scores clips.

        Args:
            frames: uint8 (B, T, H, W, 3), RGB; the whole clip, or frames that were sampled from it.
            frame_mask: float32 (B, T), 1 where a frame is real. Frames where it is 0 are never looked at.

        Returns:
            float32 (B,), in standardised units. A clip with no real frame is shown nothing but the mean colour.
        """
        picked = sample_frames(frames, frame_mask, self.config.frames)
        pixels = (picked.float() / 255.0 - self.mean) / self.std
        seen = (frame_mask.sum(dim=1) > 0)[:, None, None, None, None]
        pixels = torch.where(seen, pixels, torch.zeros_like(pixels))
        boxed = letterbox(pixels.flatten(0, 1).permute(0, 3, 1, 2), self.config.height, self.config.width)
        clips = boxed.reshape(*picked.shape[:2], *boxed.shape[1:]).transpose(1, 2)
        score: Tensor = self.backbone(clips)
        return score.squeeze(1)


class Small3D(nn.Sequential):
    """A small 3D convolution network: every layer halves height and width, every one but the first halves time."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for a, b in pairwise((3, *_SMALL_CHANNELS)):
            convolution = nn.Conv3d(a, b, 3, stride=(1 if a == 3 else 2, 2, 2), padding=1, bias=False)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            layers += [convolution, nn.GroupNorm(_GROUPS, b), nn.ReLU()]
        super().__init__(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten())
        self.head = nn.Linear(_SMALL_CHANNELS[-1], 1)


def evenly(frame_mask: NDArray[np.bool_], count: int, *, at: float = 0.5) -> NDArray[np.int64]:
    """Frames spread evenly over the real ones: one from each of `count` equal spans; some twice where there are too few.

    Args:
        frame_mask: bool (T,).
        count: how many.
        at: where in its span a frame is taken, in [0, 1).

    Returns:
        int64 (count,), indices into the T frames, ascending; zeros where no frame is real.
    """
    real = np.flatnonzero(frame_mask)
    if not len(real):
        return np.zeros(count, dtype=np.int64)
    return np.asarray(real[((np.arange(count) + at) * len(real) / count).astype(np.int64)])


def sample_frames(frames: Tensor, frame_mask: Tensor, count: int) -> Tensor:
    """Takes `count` real frames of every clip, evenly: uint8 (B, T, H, W, 3) and (B, T) -> uint8 (B, count, H, W, 3)."""
    masks = (frame_mask > 0).cpu().numpy()
    picked = torch.from_numpy(np.stack([evenly(mask, count) for mask in masks])).to(frames.device)
    return frames[torch.arange(len(frames), device=frames.device)[:, None], picked]


def letterbox(pixels: Tensor, height: int, width: int) -> Tensor:
    """Scales pictures to fit inside, whole and in their proportions, between bars of zeros: (B, C, H, W) -> (B, C, height, width)."""
    scale = min(height / pixels.shape[2], width / pixels.shape[3])
    rows, columns = max(1, round(scale * pixels.shape[2])), max(1, round(scale * pixels.shape[3]))
    scaled = F.interpolate(pixels, (rows, columns), mode="bilinear", antialias=True)
    top, left = (height - rows) // 2, (width - columns) // 2
    return F.pad(scaled, (left, width - columns - left, top, height - rows - top))


def _load(backbone: nn.Module, head: str, path: Path) -> None:
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"video weights {path} cannot be read ({error}); expected a safetensors file") from error
    tensors = {name: tensor for name, tensor in found.items() if not name.startswith(f"{head}.")}
    own = {name: tensor for name, tensor in backbone.state_dict().items() if name.startswith(f"{head}.")}
    try:
        backbone.load_state_dict(tensors | own)
    except RuntimeError as error:
        raise CheckpointError(f"video weights {path} are not those of this network: {error}") from error


def _torchvision(build: Any) -> Callable[[], nn.Module]:
    def built() -> nn.Module:
        network: nn.Module = build(weights=None)
        return network

    return built


_NETWORKS = {
    "small3d": _Network(Small3D, "head", (0.45, 0.45, 0.45), (0.25, 0.25, 0.25)),
    # Mean and deviation of the pretrained weights in torchvision's metadata.
    "r3d_18": _Network(_torchvision(r3d_18), "fc", (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)),
    "swin3d_t": _Network(_torchvision(swin3d_t), "head", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
VIDEO_NETWORKS = tuple(_NETWORKS)
