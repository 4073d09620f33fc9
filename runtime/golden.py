"""Golden data: a short clip's chunks and what PyTorch made of them, stage by stage, so that any device can prove itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError
from .chunks import Chunk
from .history import fold, fusion_feeds

_CHUNK_ARRAYS = ("frames", "frame_mask", "samples", "sample_mask")
_STATE, _FUSION = "state.", "fusion."


@dataclass(frozen=True, slots=True)
class Golden:
    """N chunks of one clip and the reference's outputs for them."""

    chunks: tuple[Chunk, ...]
    audio: NDArray[np.float32]
    """float32 (N, Da): sound embeddings, by CTranslate2 on the exporting machine; zeros where a chunk has no sound."""
    audio_mask: NDArray[np.float32]
    """float32 (N,)."""
    mel: NDArray[np.float32]
    """float32 (N, M, S / 160): the log-mel spectrogram of each chunk, as the exporting machine computed it."""
    visual: NDArray[np.float32]
    """float32 (N, Dv): embeddings by the PyTorch encoder, state carried; zeros where a chunk has no pictures."""
    visual_mask: NDArray[np.float32]
    """float32 (N,)."""
    states: Mapping[str, NDArray[np.float32]]
    """By name, float32 (N, C, h, w): the PyTorch encoder's state after each chunk."""
    fusion: Mapping[str, NDArray[np.float32]]
    """By output name, float32 (N, ...): what the PyTorch fusion says after each chunk, which knows chunks 0..k alone."""

    def state_before(self, chunk: int) -> dict[str, NDArray[np.float32]]:
        """The PyTorch encoder's state at the start of a chunk, by name, as a batch of one."""
        return {name: values[chunk - 1 : chunk] if chunk else np.zeros_like(values[:1]) for name, values in self.states.items()}

    def fusion_feeds(self, chunks: int, window: int | None) -> dict[str, NDArray[Any]]:
        """The fusion graph's inputs after so many chunks, seen through a window, as a batch of one."""
        visual = fold(self.visual[:chunks], self.visual_mask[:chunks] > 0, window)
        return fusion_feeds(visual, fold(self.audio[:chunks], self.audio_mask[:chunks] > 0, window))


def save_golden(golden: Golden, path: Path) -> None:
    """Writes one compressed `.npz`; no object arrays, so reading it unpickles nothing."""
    arrays: dict[str, NDArray[Any]] = {name: np.stack([getattr(chunk, name) for chunk in golden.chunks]) for name in _CHUNK_ARRAYS}
    arrays["window_s"] = np.array([(chunk.start_s, chunk.end_s) for chunk in golden.chunks])
    arrays |= {name: getattr(golden, name) for name in ("audio", "audio_mask", "mel", "visual", "visual_mask")}
    arrays |= {_STATE + name: values for name, values in golden.states.items()}
    arrays |= {_FUSION + name: values for name, values in golden.fusion.items()}
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def load_golden(path: Path) -> Golden:
    """Reads what `save_golden` wrote.

    Raises:
        BundleError: the file is missing, damaged, or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return Golden(
            chunks=_chunks(arrays),
            **{name: arrays[name] for name in ("audio", "audio_mask", "mel", "visual", "visual_mask")},
            states=_below(arrays, _STATE),
            fusion=_below(arrays, _FUSION),
        )
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise BundleError(f"{path} is not golden data this version reads: {error}") from error


def _chunks(arrays: Mapping[str, NDArray[Any]]) -> tuple[Chunk, ...]:
    windows = arrays["window_s"]
    last = len(windows) - 1
    return tuple(
        Chunk(
            index=k,
            start_s=float(start_s),
            end_s=float(end_s),
            **{name: arrays[name][k] for name in _CHUNK_ARRAYS},
            epoch=0,
            final=k == last,
            decode_s=0.0,
            lost_packets=0,
        )
        for k, (start_s, end_s) in enumerate(windows)
    )


def _below(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}
