"""Pictures of a clip beside what the autoencoder makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..models.autoencoder import ConvLSTMAutoencoder, decoded_frames
from .dataset import ClipFeatures

_PICTURES = 4
"""Of each example."""


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """Some pictures of one chunk and what the autoencoder makes of them."""

    clip: str
    start_s: float
    end_s: float
    mse: float
    """Over the pictures shown, in [0, 1] pixel units."""
    original: NDArray[np.uint8]
    """uint8 (K, H, W, 3)."""
    redrawn: NDArray[np.uint8]
    """uint8 (K, H, W, 3)."""

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures."""
        return {"clip": self.clip, "start_s": self.start_s, "end_s": self.end_s, "mse": self.mse}


def reconstruct(model: ConvLSTMAutoencoder, clip: str, features: ClipFeatures) -> Reconstruction | None:
    """The first chunk of a clip that has pictures where the decoder draws; None where there is none.

    Args:
        model: in evaluation mode.
        clip: the clip's id.
        features: its decoded chunks.
    """
    stride = model.decoder.config.frame_stride
    seen = np.flatnonzero(features.frame_mask[:, stride - 1 :: stride].any(axis=1))
    if not len(seen):
        return None
    index = int(seen[0])
    frames = torch.from_numpy(np.array(features.frames[index]))[None]
    mask = torch.from_numpy(features.frame_mask[index].astype(np.float32))[None]
    drawn = model(frames, mask, model.encoder.initial_state()).decoded.reconstruct[0]
    pictures, real = (tensor[0] for tensor in decoded_frames(frames, mask, stride))
    shown = torch.nonzero(real)[:, 0]
    shown = shown[torch.linspace(0, len(shown) - 1, min(_PICTURES, len(shown))).round().long()]
    return Reconstruction(
        clip=clip,
        start_s=float(features.end_s[index - 1]) if index else 0.0,
        end_s=float(features.end_s[index]),
        mse=float((drawn[shown] - pictures[shown]).square().mean()),
        original=_as_bytes(pictures[shown]),
        redrawn=_as_bytes(drawn[shown]),
    )


def _as_bytes(pictures: Tensor) -> NDArray[np.uint8]:
    """float32 (K, 3, H, W) in [0, 1] -> uint8 (K, H, W, 3)."""
    return (pictures.clamp(0, 1) * 255).round().permute(0, 2, 3, 1).to(torch.uint8).numpy()
