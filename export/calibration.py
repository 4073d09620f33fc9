"""Calibration data: what the runtime would feed each graph for given clips, state carried and window applied as it does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from ..runtime.chunks import Chunk
from ..runtime.engines import Engine, Tensors
from ..runtime.history import fold, fusion_feeds

_PICTURES = ("frames", "frame_mask")


@dataclass(frozen=True, slots=True)
class EmbeddedChunks:
    """One clip, decoded, and its sound embedded."""

    chunks: tuple[Chunk, ...]
    audio: NDArray[np.float32]
    """float32 (N, Da): sound embeddings, zeros where a chunk has no sound."""
    audio_mask: NDArray[np.float32]
    """float32 (N,)."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The inputs of both graphs, one entry for each run, each a batch of one."""

    visual: tuple[Tensors, ...]
    fusion: tuple[Tensors, ...]


def calibration_from(clips: Sequence[EmbeddedChunks], visual: Engine, window: int | None) -> Calibration:
    """Scores clips as a stream does and keeps what each graph was given.

    Args:
        clips: decoded chunks and sound embeddings.
        visual: the float32 engine of the graph `visual`, which makes the embeddings and carries the state.
        window: most chunks that the fusion graph is shown; None shows them all.

    Raises:
        EngineError: a clip's embeddings do not belong to its chunks, or its chunks do not fit the engine.
    """
    seen: list[Tensors] = []
    fused: list[Tensors] = []
    for clip in clips:
        if not len(clip.chunks) == len(clip.audio) == len(clip.audio_mask):
            raise EngineError(
                f"a clip of {len(clip.chunks)} chunks: expected as many sound embeddings and mask entries, "
                f"got {len(clip.audio)} and {len(clip.audio_mask)}"
            )
        embeddings = _embed_pictures(clip.chunks, visual, seen)
        fused += _fusion_feeds(clip, embeddings, window)
    return Calibration(tuple(seen), tuple(fused))


def initial_state(engine: Engine, batch: int = 1) -> Tensors:
    """A stream's state before its first chunk: zeros, by input name."""
    return {
        spec.name: np.zeros([batch if isinstance(dim, str) else dim for dim in spec.shape], np.dtype(spec.dtype))
        for spec in engine.inputs
        if spec.name not in _PICTURES
    }


def carried_state(outputs: Mapping[str, NDArray[Any]]) -> Tensors:
    """The state that one run leaves to the next, by input name."""
    return {name.removesuffix("_out"): values for name, values in outputs.items() if name.endswith("_out")}


def visual_feeds(chunk: Chunk, state: Mapping[str, NDArray[Any]]) -> Tensors:
    """The inputs of the graph `visual` for one chunk, as a batch of one."""
    return {"frames": chunk.frames[None], "frame_mask": chunk.frame_mask[None].astype(np.float32), **state}


def _embed_pictures(chunks: Sequence[Chunk], visual: Engine, seen: list[Tensors]) -> NDArray[np.float32]:
    """Embeddings float32 (N, Dv) of one clip, zeros where a chunk has no pictures; adds to `seen` what the engine was given."""
    state, epoch = initial_state(visual), 0
    rows: list[NDArray[Any] | None] = []
    for chunk in chunks:
        if chunk.epoch != epoch:
            state, epoch = initial_state(visual), chunk.epoch
        if not chunk.has_pictures:
            rows.append(None)
            continue
        seen.append(visual_feeds(chunk, state))
        outputs = visual.run(seen[-1])
        state = carried_state(outputs)
        rows.append(outputs["embedding"][0])
    nothing = np.zeros(_features(visual), np.float32)
    return np.stack([nothing if row is None else row.astype(np.float32) for row in rows]) if rows else nothing[None][:0]


def _fusion_feeds(clip: EmbeddedChunks, visual: NDArray[np.float32], window: int | None) -> Iterator[Tensors]:
    """What the fusion graph is given after each chunk of a clip."""
    pictures = np.array([chunk.has_pictures for chunk in clip.chunks], dtype=np.bool_)
    sound = clip.audio_mask > 0
    for count in range(1, len(clip.chunks) + 1):
        yield fusion_feeds(fold(visual[:count], pictures[:count], window), fold(clip.audio[:count], sound[:count], window))


def _features(visual: Engine) -> int:
    return next(int(spec.shape[-1]) for spec in visual.outputs if spec.name == "embedding")
