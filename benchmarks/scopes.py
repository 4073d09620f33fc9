"""What is timed: calls of one engine, the stages of the pipeline one by one, or everything from a file to its score."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from time import perf_counter
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..runtime.chunks import Chunk, read_chunks
from ..runtime.engines import Tensors
from ..runtime.engines.state import stepper
from ..runtime.history import History, fusion_feeds
from ..runtime.scorer import Scorer
from ..runtime.scoring_stream import Stream
from .contenders import Opened
from .recording import Record

T = TypeVar("T")


class EngineCalls:
    """The engines alone, one after the other, on chunks that were decoded before: `visual`, `fusion` and `sound`.

    The recurrent state and the embeddings so far are carried as in a clip of as many chunks as the model is shown, then begun anew, so
    that the fusion graph is called with every length a clip has.
    """

    counted = "visual"

    def __init__(self, opened: Opened, scorer: Scorer, chunks: Sequence[Chunk], seed: int) -> None:
        self._opened, self._scorer = opened, scorer
        self._seeing = stepper(opened.visual)
        self._inputs = [(chunk, opened.ears.features(chunk.samples)) for chunk in chunks if chunk.has_pictures]
        self._random = Random(seed)
        self._length = min(scorer.bundle.manifest.window_chunks or 32, max(2, len(self._inputs)))
        self._stream = scorer.new_stream()
        self._so_far = 0

    def once(self, record: Record) -> float:
        """One chunk through every engine; milliseconds of all."""
        if self._so_far == self._length:
            self._stream, self._so_far = self._scorer.new_stream(), 0
        self._so_far += 1
        record.chunks += 1
        return self._call(*self._unseen(), self._stream, record)

    def audit(self, record: Record, pairs: int) -> None:
        """The same input again and again beside inputs that never came before, in turn, both at the beginning of a clip: who answers
        from memory is found out here.
        """
        for _ in range(pairs):
            self._call(*self._unseen(), self._scorer.new_stream(), record, "audit unique ")
            self._call(*self._inputs[0], self._scorer.new_stream(), record, "audit same ")

    def _unseen(self) -> tuple[Chunk, NDArray[np.float32]]:
        """A chunk of the pool with a few values changed at random: no key of a cache fits it."""
        chunk, mel = self._random.choice(self._inputs)
        frames, other = chunk.frames.copy(), mel.copy()
        frames.reshape(-1)[[self._random.randrange(frames.size) for _ in range(8)]] ^= 1
        other.reshape(-1)[self._random.randrange(other.size)] += np.float32(1e-3)
        return replace(chunk, frames=frames), other

    def _call(self, chunk: Chunk, mel: NDArray[np.float32], stream: Stream, record: Record, prefix: str = "") -> float:
        times = {}
        feeds = visual_feeds(chunk)
        outputs, times["visual"] = _timed(lambda: self._seeing.step(feeds, stream.state))
        stream.visual.add(np.asarray(outputs["embedding"][0], dtype=np.float32))
        if chunk.has_sound:
            frames, times["sound"] = _timed(lambda: self._opened.ears.encode(mel))
            stream.audio.add(np.asarray(frames.mean(axis=0), dtype=np.float32))
        else:
            stream.audio.add(None)
        shown = fusion_feeds(stream.visual.shown(), stream.audio.shown())
        _, times["fusion"] = _timed(lambda: self._opened.fusion.run(shown))
        for name, spent in times.items():
            record.add(prefix + name, spent, unit="ms, audit" if prefix else "ms")
        return sum(times.values())


class Stages:
    """Every stage of the streaming path, in turn and with nothing beside it: `decode`, `features`, `audio`, `visual`, `fusion`."""

    counted = "visual"

    def __init__(self, opened: Opened, scorer: Scorer, clips: Iterator[Path]) -> None:
        self._opened, self._scorer, self._clips = opened, scorer, clips
        self._seeing = stepper(opened.visual)

    def once(self, record: Record) -> float:
        """One clip; milliseconds per second of it."""
        path = next(self._clips)
        stream, begun = self._scorer.new_stream(path.name), perf_counter()
        end_s = 0.0
        with read_chunks(path, self._scorer.bundle.contract) as chunks:
            for chunk in chunks:
                self._chunk(chunk, stream, record)
                end_s = chunk.end_s
        record.clips += 1
        record.media_s += end_s
        return 1e3 * (perf_counter() - begun) / max(end_s, 1e-9)

    def _chunk(self, chunk: Chunk, stream: Stream, record: Record) -> None:
        record.add("decode", 1e3 * chunk.decode_s)
        record.chunks += 1
        _hear(self._opened, chunk, stream.audio, record)
        if chunk.has_pictures:
            outputs, spent = _timed(lambda: self._seeing.step(visual_feeds(chunk), stream.state))
            record.add("visual", spent)
            stream.visual.add(np.asarray(outputs["embedding"][0], dtype=np.float32))
        else:
            stream.visual.add(None)
        _, spent = _timed(lambda: self._opened.fusion.run(fusion_feeds(stream.visual.shown(), stream.audio.shown())))
        record.add("fusion", spent)


class Files:
    """From a file to its score, as `shortcast score` does it, stages beside one another: `clip`, and `answer` of every chunk."""

    counted = "clip"

    def __init__(self, scorer: Scorer, clips: Iterator[Path]) -> None:
        self._scorer, self._clips = scorer, clips

    def once(self, record: Record) -> float:
        """One clip; milliseconds per second of it."""
        path, begun = next(self._clips), perf_counter()
        end_s = 0.0
        for score in self._scorer.stream(path):
            record.add("answer", score.latency.answer_ms)
            record.chunks += 1
            end_s = score.end_s
        spent = 1e3 * (perf_counter() - begun)
        record.add("clip", spent)
        record.add("media", end_s, unit="s")
        record.clips += 1
        record.media_s += end_s
        return spent / max(end_s, 1e-9)


def visual_feeds(chunk: Chunk) -> Tensors:
    """The visual graph's inputs for the next chunk of a stream, but for the state."""
    return {"frames": chunk.frames[None], "frame_mask": chunk.frame_mask[None].astype(np.float32)}


def _hear(opened: Opened, chunk: Chunk, history: History, record: Record) -> None:
    if not chunk.has_sound:
        history.add(None)
        return
    mel, spent = _timed(lambda: opened.ears.features(chunk.samples))
    record.add("features", spent)
    frames, spent = _timed(lambda: opened.ears.encode(mel))
    record.add("audio", spent)
    history.add(np.asarray(frames.mean(axis=0), dtype=np.float32))


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    begun = perf_counter()
    answer = call()
    return answer, 1e3 * (perf_counter() - begun)
