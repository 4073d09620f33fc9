"""Making golden data and proof clips' answers: short clips through the PyTorch models, every stage kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..models.checkpoint import Checkpoint
from ..models.convlstm import ConvLSTMEncoder
from ..models.dual_transformer import DualTransformer
from ..runtime.chunks import Chunk
from ..runtime.features import log_mel
from ..runtime.golden import Golden
from ..runtime.history import fold, fusion_feeds
from ..runtime.proof import ProofClip
from ..runtime.whisper import SoundEncoder


def make_golden(checkpoint: Checkpoint, chunks: tuple[Chunk, ...], sound: SoundEncoder) -> Golden:
    """Runs chunks of one clip through the PyTorch reference.

    Args:
        checkpoint: the trained models.
        chunks: a whole short clip.
        sound: the Whisper encoder the model was trained with.
    """
    contract = checkpoint.contract.sound
    audio, audio_mask = embed_sound(chunks, sound, contract.embedding_dim)
    visual, visual_mask, states = embed_pictures(chunks, checkpoint.autoencoder.encoder)
    mel = np.stack([log_mel(chunk.samples, mel_bins=contract.mel_bins) for chunk in chunks])
    fused = fuse(checkpoint.fusion, visual, visual_mask, audio, audio_mask)
    return Golden(chunks, audio, audio_mask, mel, visual, visual_mask, states, fused)


def make_proof_clip(checkpoint: Checkpoint, file: str, chunks: Sequence[Chunk], sound: SoundEncoder) -> ProofClip:
    """Runs one clip through the PyTorch reference.

    Args:
        checkpoint: the trained models.
        file: the clip's path in the bundle.
        chunks: the whole clip.
        sound: the Whisper encoder the model was trained with.
    """
    audio, audio_mask = embed_sound(chunks, sound, checkpoint.contract.sound.embedding_dim)
    visual, visual_mask, _ = embed_pictures(chunks, checkpoint.autoencoder.encoder)
    fused = fuse(checkpoint.fusion, visual, visual_mask, audio, audio_mask)
    return ProofClip(file, visual, visual_mask, audio, audio_mask, fused["score"], fused["class_logits"])


def fuse(
    model: DualTransformer,
    visual: NDArray[np.float32],
    visual_mask: NDArray[np.float32],
    audio: NDArray[np.float32],
    audio_mask: NDArray[np.float32],
) -> dict[str, NDArray[np.float32]]:
    """What the model says after each of N chunks, knowing no later one.

    Args:
        model: the dual Transformer.
        visual: float32 (N, Dv).
        visual_mask: float32 (N,).
        audio: float32 (N, Da).
        audio_mask: float32 (N,).

    Returns:
        By output, float32 (N, ...): its last row after each chunk; chunk weights are padded with zeros to one length.
    """
    rows: list[dict[str, NDArray[np.float32]]] = []
    for k in range(1, len(visual) + 1):
        window = model.config.window
        feeds = fusion_feeds(fold(visual[:k], visual_mask[:k] > 0, window), fold(audio[:k], audio_mask[:k] > 0, window))
        with torch.inference_mode():
            said = model(**{name: torch.from_numpy(values) for name, values in feeds.items()})
        rows.append({name: values[0, -1].numpy() for name, values in said._asdict().items()})
    longest = max(len(row["chunk_weights"]) for row in rows)
    for row in rows:
        row["chunk_weights"] = np.pad(row["chunk_weights"], (0, longest - len(row["chunk_weights"])))
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def embed_sound(chunks: Sequence[Chunk], sound: SoundEncoder, features: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Whisper embeddings float32 (N, Da), zeros where there is no sound, and their mask (N,)."""
    found = [sound.embed(chunk.samples, chunk.sample_mask) for chunk in chunks]
    rows = [np.zeros(features, np.float32) if row is None else row for row in found]
    return np.stack(rows), np.array([row is not None for row in found], dtype=np.float32)


def embed_pictures(
    chunks: Sequence[Chunk], encoder: ConvLSTMEncoder
) -> tuple[NDArray[np.float32], NDArray[np.float32], dict[str, NDArray[np.float32]]]:
    """The PyTorch encoder over a clip, its state carried and reset where the epoch changes.

    Returns:
        Embeddings float32 (N, Dv) with zeros where there are no pictures, their mask (N,), and the state after each chunk by name.
    """
    state, epoch = encoder.initial_state(), 0
    rows: list[NDArray[np.float32]] = []
    states: list[tuple[torch.Tensor, ...]] = []
    for chunk in chunks:
        if chunk.epoch != epoch:
            state, epoch = encoder.initial_state(), chunk.epoch
        with torch.inference_mode():
            mask = torch.from_numpy(chunk.frame_mask.astype(np.float32))[None]
            embedding, state = encoder(torch.from_numpy(chunk.frames)[None], mask, state)
        rows.append(embedding[0].numpy() * np.float32(chunk.has_pictures))
        states.append(state)
    names = [f"{kind}{layer}" for layer in range(len(states[0]) // 2) for kind in "hc"]
    by_name = {name: torch.cat([step[i] for step in states]).numpy() for i, name in enumerate(names)}
    return np.stack(rows), np.array([chunk.has_pictures for chunk in chunks], dtype=np.float32), by_name
