"""Fixed windows of media time: pictures on the PTS grid and 16 kHz sound, cut into chunks, padded and masked at the tail."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Chunk:
    """One window of media time. Shapes are fixed by the contract; the masks say what is real."""

    index: int
    start_s: float
    end_s: float
    """End of the media inside the window: `start_s + chunk_s`, or earlier where the clip ends. Half-open."""
    frames: NDArray[np.uint8]
    """uint8 (T, H, W, 3) RGB. A slot with no picture holds zeros."""
    frame_mask: NDArray[np.bool_]
    """bool (T,): True where a picture was on screen at the slot's time."""
    samples: NDArray[np.float32]
    """float32 (S,) at 16 kHz mono in [-1, 1]; zeros where there is no sound."""
    sample_mask: NDArray[np.bool_]
    """bool (S,): True where the sound is decoded, False where it is padding or a gap."""
    epoch: int
    """Counts timestamp discontinuities; recurrent state is reset where it changes."""
    final: bool
    """True exactly once, on the last chunk of a source."""
    decode_s: float
    """Wall seconds spent demuxing, decoding and scaling for this chunk."""
    lost_packets: int
    """Packets that did not decode since the previous chunk."""

    @property
    def has_pictures(self) -> bool:
        return bool(self.frame_mask.any())

    @property
    def has_sound(self) -> bool:
        return bool(self.sample_mask.any())
