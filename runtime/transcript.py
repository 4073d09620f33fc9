"""The words of a clip, through faster-whisper, in windows of their own.

A 2 s window is enough for an embedding and far too short for text: the decoder runs away in most of them. So the sound of many
chunks is gathered and decoded in windows of at most 28 s, cut where it is quietest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from faster_whisper import WhisperModel
from numpy.typing import NDArray

from ..errors import WeightsError
from .chunks import Chunk
from .contract import SAMPLE_RATE_HZ

_WINDOW_S = 28.0
"""Whisper decodes 30 s at a time; the rest is the silence it needs to find the end."""
MOST_SEGMENTS = 1000
"""Kept of a stream, the latest: of speech without a pause more than an hour."""
_CUT_WITHIN_S = 6.0
_CUT_STEP_S = 0.1


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech `[start_s, end_s)` in media time."""

    start_s: float
    end_s: float
    text: str


class Transcriber:
    """Holds the model; each clip gets a `Transcription` of its own."""

    def __init__(self, weights: Path, *, device: str = "cpu", threads: int = 1, workers: int = 1) -> None:
        """Loads the model.

        Args:
            weights: a directory with a Whisper model in CTranslate2 form, tokenizer included.
            device: `cpu` or `cuda`.
            threads: OpenMP threads.
            workers: windows of different clips that are decoded at once.

        Raises:
            WeightsError: the weights do not load.
        """
        try:
            self.model = WhisperModel(str(weights), device=device, compute_type="default", cpu_threads=threads, num_workers=workers)
        except (RuntimeError, ValueError, OSError) as error:
            raise WeightsError(f"faster-whisper cannot load {weights} on {device}: {error}") from error

    def begin(self) -> Transcription:
        """A clip of which nothing has been heard."""
        return Transcription(self.model)


class Transcription:
    """Gathers one clip's sound and turns it into text window by window."""

    def __init__(self, model: WhisperModel) -> None:
        self.segments: tuple[Segment, ...] = ()
        """Everything understood so far; of a stream that goes on for hours, the latest of it."""
        self._model = model
        self._start_s = 0.0
        self._sound: NDArray[np.float32] = np.zeros(0, dtype=np.float32)

    def add(self, chunk: Chunk) -> None:
        """Takes one more chunk, in order. Text is decoded when a window is full, and at the end of the clip."""
        real = round((chunk.end_s - chunk.start_s) * SAMPLE_RATE_HZ)
        self._sound = np.concatenate([self._sound, chunk.samples[:real]])
        if chunk.final:
            self._decode(self._sound.size)
        elif self._sound.size >= _WINDOW_S * SAMPLE_RATE_HZ:
            self._decode(_quietest(self._sound))

    def _decode(self, samples: int) -> None:
        window, self._sound = self._sound[:samples], self._sound[samples:]
        start_s, self._start_s = self._start_s, self._start_s + samples / SAMPLE_RATE_HZ
        if window.any():
            # Without voice detection silence is transcribed as speech; with text carried over one bad window poisons the next.
            found, _ = self._model.transcribe(window, vad_filter=True, condition_on_previous_text=False, no_repeat_ngram_size=3)
            self.segments = (*self.segments, *(_segment(segment, start_s) for segment in found))[-MOST_SEGMENTS:]


def _segment(found: Any, start_s: float) -> Segment:
    return Segment(start_s + found.start, start_s + found.end, found.text.strip())


def _quietest(sound: NDArray[np.float32]) -> int:
    """Where to cut: the sample index of the quietest step near the end of the window."""
    step = round(_CUT_STEP_S * SAMPLE_RATE_HZ)
    first = max(0, round((_WINDOW_S - _CUT_WITHIN_S) * SAMPLE_RATE_HZ))
    steps = sound[first : first + (sound.size - first) // step * step].reshape(-1, step)
    return first + int(np.square(steps).mean(axis=1).argmin()) * step + step // 2
