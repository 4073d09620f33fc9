"""Making golden data: a short clip through the PyTorch models, every stage kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..models.checkpoint import Checkpoint
from ..models.convlstm import ConvLSTMEncoder
from ..models.dual_transformer import DualTransformer
from ..runtime.chunks import Chunk, read_chunks
from ..runtime.contract import Contract
from ..runtime.golden import Golden
from ..runtime.whisper import SoundEncoder

Kind = TypeVar("Kind", bound=np.generic)

GOLDEN_CHUNKS = 4
_TAIL = 0.6
"""Share of the last golden chunk that is kept: every bundle proves its masks on a padded tail."""


def make_golden(checkpoint: Checkpoint, chunks: tuple[Chunk, ...], sound: SoundEncoder) -> Golden:
    """Runs chunks of one clip through the PyTorch reference.

    Args:
        checkpoint: the trained models.
        chunks: what `read_golden_chunks` gave.
        sound: the Whisper encoder the model was trained with.
    """
    audio, audio_mask = embed_sound(chunks, sound, checkpoint.contract.sound.embedding_dim)
    visual, visual_mask, states = embed_pictures(chunks, checkpoint.autoencoder.encoder)
    golden = Golden(chunks, audio, audio_mask, visual, visual_mask, states, {})
    return replace(golden, fusion=_fused(checkpoint.fusion, golden))


def _fused(model: DualTransformer, golden: Golden) -> dict[str, NDArray[np.float32]]:
    """The last row of every output after each chunk; weights are padded with zeros to one length."""
    rows: list[dict[str, NDArray[np.float32]]] = []
    for k in range(len(golden.chunks)):
        feeds = golden.fusion_feeds(k + 1, model.config.window)
        with torch.inference_mode():
            said = model(**{name: torch.from_numpy(values) for name, values in feeds.items()})
        rows.append({name: values[0, -1].numpy() for name, values in said._asdict().items()})
    longest = max(len(row["chunk_weights"]) for row in rows)
    for row in rows:
        row["chunk_weights"] = np.pad(row["chunk_weights"], (0, longest - len(row["chunk_weights"])))
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def read_golden_chunks(clip: Path, contract: Contract) -> tuple[Chunk, ...]:
    """The first four chunks of a clip, the last of them cut short as a clip's tail is.

    Raises:
        MediaError: the clip does not decode.
    """
    with read_chunks(clip, contract) as stream:
        chunks = list(islice(stream, GOLDEN_CHUNKS))
    return (*chunks[:-1], _cut(chunks[-1], contract))


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


def _cut(chunk: Chunk, contract: Contract) -> Chunk:
    frames, samples = round(contract.frames_per_chunk * _TAIL), round(contract.samples_per_chunk * _TAIL)
    end_s = min(chunk.end_s, chunk.start_s + contract.chunk_s * _TAIL)
    return replace(
        chunk,
        end_s=end_s,
        final=True,
        frames=_only_first(chunk.frames, frames),
        frame_mask=_only_first(chunk.frame_mask, frames),
        samples=_only_first(chunk.samples, samples),
        sample_mask=_only_first(chunk.sample_mask, samples),
    )


def _only_first(values: NDArray[Kind], count: int) -> NDArray[Kind]:
    kept = np.zeros_like(values)
    kept[:count] = values[:count]
    return kept
