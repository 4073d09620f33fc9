"""What the fusion graph is shown of a clip: every chunk so far, or the last ones behind one that stands for all before them.

With a window of W chunks, a clip of up to W is shown as it is. From then on the first place is taken by the mean embedding of the
chunks that no longer fit, and the last W - 1 follow it: each new chunk costs the same however long the clip runs, and memory is
bounded. A window of 1 is the mean of everything so far.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Shown = tuple[NDArray[np.float32], NDArray[np.bool_]]
"""Embeddings float32 (N, D), and bool (N,): whether the chunk has the modality."""


class History:
    """One modality of one clip so far."""

    def __init__(self, features: int, window: int | None) -> None:
        """Begins with nothing.

        Args:
            features: D, of an embedding.
            window: most chunks that are shown; None shows them all.
        """
        self._window = window
        self._recent: deque[NDArray[np.float32] | None] = deque()
        self._nothing = np.zeros(features, dtype=np.float32)
        self._sum = np.zeros(features, dtype=np.float64)
        self._present = 0
        self._folded = 0

    def add(self, embedding: NDArray[np.float32] | None) -> None:
        """Takes in the next chunk: float32 (D,), or None where it lacks the modality."""
        self._recent.append(embedding)
        while self._window is not None and len(self._recent) + (self._folded > 0) > self._window:
            self._fold(self._recent.popleft())

    def shown(self) -> Shown:
        """What the graph is given."""
        first = [self._sum / self._present if self._present else None] if self._folded else []
        rows = [*first, *self._recent]
        return (
            np.stack([self._nothing if row is None else row.astype(np.float32) for row in rows]),
            np.array([row is not None for row in rows]),
        )

    def _fold(self, embedding: NDArray[np.float32] | None) -> None:
        self._folded += 1
        if embedding is not None:
            self._sum += embedding
            self._present += 1


def fold(embeddings: NDArray[np.float32], present: NDArray[np.bool_], window: int | None) -> Shown:
    """What `History` shows after these chunks, all at once.

    Args:
        embeddings: float32 (N, D).
        present: bool (N,).
        window: most chunks that are shown; None shows them all.
    """
    if window is None or len(embeddings) <= window:
        return embeddings, present
    before = len(embeddings) - window + 1
    old = embeddings[:before][present[:before]]
    mean = old.mean(axis=0, dtype=np.float64) if len(old) else np.zeros(embeddings.shape[1])
    return np.concatenate((mean[None].astype(np.float32), embeddings[before:])), np.append(len(old) > 0, present[before:])


def fusion_feeds(visual: Shown, audio: Shown) -> dict[str, NDArray[Any]]:
    """The fusion graph's inputs for one clip: both modalities as they are shown."""
    masks = {"visual_mask": visual[1], "audio_mask": audio[1], "chunk_mask": np.ones(len(visual[1]))}
    return {"visual": visual[0][None], "audio": audio[0][None], **{name: mask.astype(np.float32)[None] for name, mask in masks.items()}}


def padded_feeds(feeds: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Fusion inputs of clips of different lengths as one batch; what is padded has a chunk mask of 0."""
    longest = max(one["chunk_mask"].shape[1] for one in feeds)

    def pad(values: NDArray[np.generic]) -> NDArray[np.generic]:
        return np.pad(values, [(0, longest - size if axis == 1 else 0) for axis, size in enumerate(values.shape)])

    return {name: np.concatenate([pad(one[name]) for one in feeds]) for name in feeds[0]}


def clip_rows(outputs: Mapping[str, NDArray[Any]], lengths: Sequence[int]) -> list[dict[str, NDArray[Any]]]:
    """Each clip's own fusion outputs, cut to its length."""
    cut = {"chunk_weights": 2}  # (B, N, N); all others have one axis of chunks
    return [
        {name: values[(slice(row, row + 1), *[slice(length)] * cut.get(name, 1))] for name, values in outputs.items()}
        for row, length in enumerate(lengths)
    ]
