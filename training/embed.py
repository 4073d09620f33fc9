"""Embeds the pictures of clips with a trained encoder."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..models.convlstm import ConvLSTMEncoder
from .dataset import ClipFeatures


def embed_clip(encoder: ConvLSTMEncoder, clip: ClipFeatures) -> NDArray[np.float32]:
    """Embeds the pictures of a whole clip exactly as scoring does: chunk by chunk, the state carried, and reset with the epoch.

    Args:
        encoder: in evaluation mode, on any device. It computes in float32, as the exported graph does.
        clip: N chunks.

    Returns:
        float32 (N, D). A chunk without pictures is not encoded: its row is 0 and the state passes it by.
    """
    embeddings = np.zeros((len(clip.epochs), encoder.config.embedding_dim), dtype=np.float32)
    state, epoch = encoder.initial_state(), clip.epochs[0]
    device = state[0].device
    with torch.inference_mode():
        for index, seen in enumerate(clip.picture_mask):
            if clip.epochs[index] != epoch:
                state, epoch = encoder.initial_state(), clip.epochs[index]
            if seen:
                frames = torch.from_numpy(np.array(clip.frames[index]))[None]
                mask = torch.from_numpy(clip.frame_mask[index].astype(np.float32))[None]
                embedding, state = encoder(frames.to(device), mask.to(device), state)
                embeddings[index] = embedding[0].cpu().numpy()
    return embeddings
