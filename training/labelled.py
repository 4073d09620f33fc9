"""Clips as the dual Transformer takes them: embeddings chunk by chunk, what is known of their success, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..runtime.history import fold


@dataclass(frozen=True, slots=True)
class EmbeddedClip:
    """A clip of N chunks as the dual Transformer takes it."""

    visual: NDArray[np.float32]
    """float32 (N, Dv)."""
    visual_mask: NDArray[np.bool_]
    """bool (N,)."""
    audio: NDArray[np.float32]
    """float32 (N, Da)."""
    audio_mask: NDArray[np.bool_]
    """bool (N,)."""
    end_s: NDArray[np.float64]
    """float64 (N,): seconds seen after each chunk."""

    def starting_at(self, chunk: int) -> EmbeddedClip:
        """The clip without its first chunks."""
        return EmbeddedClip(*(getattr(self, field.name)[chunk:] for field in fields(self)))

    def until(self, chunk: int) -> EmbeddedClip:
        """The clip's first chunks."""
        return EmbeddedClip(*(getattr(self, field.name)[:chunk] for field in fields(self)))

    def seen_through(self, window: int) -> EmbeddedClip:
        """The whole clip as a model with a window is shown it; see `runtime.history`."""
        visual, audio = fold(self.visual, self.visual_mask, window), fold(self.audio, self.audio_mask, window)
        return EmbeddedClip(*visual, *audio, self.end_s[-len(visual[0]) :])


@dataclass(frozen=True, slots=True)
class LabelledClips:
    """Clips and what is known of their success."""

    clips: Sequence[EmbeddedClip]
    z: NDArray[np.float64]
    """float64 (clips,): targets in standardised units."""
    classes: NDArray[np.int64]
    """int64 (clips,): classes 0..K-1 of the training split."""

    def present(self) -> tuple[Tensor, Tensor]:
        """Embeddings of every chunk that has pictures, and of every one that has sound: float32 (chunks, Dv) and (chunks, Da)."""
        visual = np.concatenate([clip.visual[clip.visual_mask] for clip in self.clips])
        audio = np.concatenate([clip.audio[clip.audio_mask] for clip in self.clips])
        return torch.from_numpy(visual), torch.from_numpy(audio)

    def labels(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """The targets of some of the clips: z float32 (B,) and classes int64 (B,)."""
        return torch.from_numpy(self.z[rows].astype(np.float32)), torch.from_numpy(self.classes[rows])


class Prefixes(NamedTuple):
    """What a model is shown in order to score some prefixes of a clip."""

    clip: EmbeddedClip
    scored: int
    """So many of the last rows are scores of prefixes of the clip; rows before them are of nothing that a stream ever shows."""


def prefixes(clip: EmbeddedClip, window: int | None) -> list[Prefixes]:
    """Everything that a model with this window is shown of a clip, so that each of its N prefixes is scored once, in order."""
    length = len(clip.end_s)
    if window is None or length <= window:
        return [Prefixes(clip, length)]
    later = (Prefixes(clip.until(end).seen_through(window), 1) for end in range(window + 1, length + 1))
    return [Prefixes(clip.until(window), window), *later]


class FusionInputs(NamedTuple):
    """A batch of clips, padded on the right; the fields are the model's arguments in their order."""

    visual: Tensor
    """float32 (B, N, Dv)."""
    audio: Tensor
    """float32 (B, N, Da)."""
    visual_mask: Tensor
    """float32 (B, N)."""
    audio_mask: Tensor
    """float32 (B, N)."""
    chunk_mask: Tensor
    """float32 (B, N)."""

    def split(self, rows: int) -> list[FusionInputs]:
        """Micro-batches of so many clips; the last may be smaller."""
        return [FusionInputs(*(tensor[first : first + rows] for tensor in self)) for first in range(0, len(self.visual), rows)]


def scored_rows(shown: Sequence[Prefixes]) -> Tensor:
    """float32 (B, N): 1 at the rows of a batch that score a prefix."""
    lengths = np.array([[len(one.clip.end_s)] for one in shown])
    rows = np.arange(lengths.max())[None]
    from_end = np.array([[one.scored] for one in shown])
    return torch.from_numpy(((rows < lengths) & (rows >= lengths - from_end)).astype(np.float32))


def collate(clips: Sequence[EmbeddedClip]) -> FusionInputs:
    """Pads clips on the right to the longest of them."""
    longest = max(len(clip.visual) for clip in clips)

    def padded(arrays: Sequence[NDArray[Any]]) -> Tensor:
        whole = np.zeros((len(arrays), longest, *arrays[0].shape[1:]), dtype=np.float32)
        for row, array in zip(whole, arrays, strict=True):
            row[: len(array)] = array
        return torch.from_numpy(whole)

    return FusionInputs(
        visual=padded([clip.visual for clip in clips]),
        audio=padded([clip.audio for clip in clips]),
        visual_mask=padded([clip.visual_mask for clip in clips]),
        audio_mask=padded([clip.audio_mask for clip in clips]),
        chunk_mask=padded([np.ones(len(clip.visual)) for clip in clips]),
    )
