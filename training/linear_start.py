"""Where training of the dual Transformer starts: at the ridge regressions of its linear paths, so that attention learns what they miss."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from torch import Tensor

from ..models.dual_transformer import DualTransformer
from .labelled import LabelledClips

_PENALTIES = np.logspace(0, 5, 21)
"""Ridge penalties tried; the best by leave-one-out over the training clips is taken."""


def start_at_ridge(model: DualTransformer, train: LabelledClips) -> None:
    """Sets the model's input norms and linear paths from the training clips.

    Args:
        model: freshly initialised, on the CPU.
        train: clips to learn from; with fewer than two, the linear paths stay at 0.
    """
    model.standardise_inputs(*train.present())
    if len(train.clips) < 2:
        return
    visual = _means(model.visual.norm, ((clip.visual, clip.visual_mask) for clip in train.clips))
    audio = _means(model.audio.norm, ((clip.audio, clip.audio_mask) for clip in train.clips))
    model.start_linear(*(_ridge(rows, train.z) for rows in (visual, audio, np.concatenate((visual, audio), axis=1))))


def _means(norm: torch.nn.Module, clips: Iterable[tuple[NDArray[np.float32], NDArray[np.bool_]]]) -> NDArray[np.float32]:
    """Mean standardised embedding of each clip, float32 (clips, D); 0, the mean of all, where a clip lacks the modality."""
    with torch.inference_mode():
        chunks = [(norm(torch.from_numpy(embeddings)).numpy(), mask) for embeddings, mask in clips]
    return np.stack([rows[mask].mean(axis=0) if mask.any() else np.zeros(rows.shape[1], np.float32) for rows, mask in chunks])


def _ridge(rows: NDArray[np.float32], z: NDArray[np.float64]) -> Tensor:
    """Weights and last the constant, float32 (D + 1,)."""
    fitted = RidgeCV(alphas=_PENALTIES).fit(rows.astype(np.float64), z)
    return torch.from_numpy(np.append(fitted.coef_, fitted.intercept_).astype(np.float32))
