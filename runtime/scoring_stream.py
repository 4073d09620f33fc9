"""What is carried from chunk to chunk while a clip is scored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .engines.state import State
from .history import History
from .pace import PaceKeeper

if TYPE_CHECKING:
    from .transcript import Transcription


@dataclass(slots=True)
class Stream:
    """What is carried from chunk to chunk of one clip: the encoder's state and the embeddings so far. Bounded, if the model's window is."""

    clip: str
    state: State
    """On the host or on the GPU, wherever the engine computes; the stream owns it."""
    visual: History
    audio: History
    transcription: Transcription | None = None
    declared_s: float | None = None
    """How long the container says the clip is."""
    epoch: int = 0
    lost_packets: int = 0
    dropped_chunks: int = 0
    pace: PaceKeeper = field(default_factory=PaceKeeper)
    last_visual: NDArray[np.float32] | None = None
    """Of the last chunk, float32 (Dv,); None where it had no pictures."""
    last_audio: NDArray[np.float32] | None = None
    """Of the last chunk, float32 (Da,); None where it had no sound."""

    def close(self) -> None:
        """Gives back the state's place; one on the GPU is used again by the next stream."""
        self.state.close()
