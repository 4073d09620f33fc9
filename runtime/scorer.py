"""The scorer: chunks in, a score after every chunk out. Here the parts of the runtime meet, and nowhere else.

While one chunk is scored, the next is decoded in a thread of its own; sound is heard beside the pictures being looked at; the fusion
engine waits for both. `ThreadPlan` says how many threads each has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from .ahead import Ahead, WhenFull
from .bundle import GRAPHS, WHISPER, Bundle
from .chunks import Chunk, ChunkStream, read_chunks
from .engines import Engine, Tensors, open_engine
from .history import History, fusion_feeds
from .media import ReadOptions, Source
from .score import Latency, Score
from .threads import ThreadPlan

if TYPE_CHECKING:
    from .transcript import Transcriber, Transcription
    from .whisper import WhisperWeights


class Hearing(Protocol):
    """What turns the sound of a chunk into one vector, as `SoundEncoder` does."""

    def embed(self, samples: NDArray[np.float32], sample_mask: NDArray[np.bool_]) -> NDArray[np.float32] | None: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What a scorer computes with, where it isn't to open its own: PyTorch beside ONNX Runtime, another Whisper, a fake."""

    visual: Engine
    fusion: Engine
    open_sound: Callable[[], Hearing]
    """Called once, when a clip first has sound."""


@dataclass(slots=True)
class Stream:
    """What is carried from chunk to chunk of one clip: the encoder's state and the embeddings so far. Bounded, if the model's window is."""

    clip: str
    state: Tensors
    visual: History
    audio: History
    transcription: Transcription | None = None
    epoch: int = 0
    lost_packets: int = 0
    dropped_chunks: int = 0
    last_visual: NDArray[np.float32] | None = None
    """Of the last chunk, float32 (Dv,); None where it had no pictures."""
    last_audio: NDArray[np.float32] | None = None
    """Of the last chunk, float32 (Da,); None where it had no sound."""


@dataclass(frozen=True, slots=True)
class _Embedded:
    """What one modality of a chunk became."""

    embedding: NDArray[np.float32] | None
    milliseconds: float


class Scorer:
    """Scores clips with one bundle. Holds two engines and, once a clip has sound, the Whisper encoder.

    Not thread-safe as far as one stream goes; streams share nothing but the engines, so each thread may run its own.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        backend: str = "onnxruntime",
        precision: str = "fp32",
        device: str = "cpu",
        threads: int | None = None,
        whisper: Path | None = None,
        transcribe: bool = False,
    ) -> None:
        """Opens the engines.

        Args:
            bundle: the opened bundle.
            backend: engine backend, see `open_engine`.
            precision: which of the bundle's variants to run: `fp32`, `fp16` or `int8`.
            device: `cpu` or `cuda`; what is asked for is used, or it is an error.
            threads: CPUs for one stream, see `ThreadPlan`; None takes the CPU quota.
            whisper: a directory with the Whisper weights; None looks in the usual places (see `resolve_whisper`).
            transcribe: also turn speech into text.

        Raises:
            BundleError: the bundle has no such precision.
            EngineError: the backend or device is not available, or the graphs are not those of a shortcast bundle.
        """
        self.plan = ThreadPlan.fit(threads)
        self.bundle = bundle
        self._device = device
        self._whisper = whisper
        transcriber = self._open_transcriber() if transcribe else None
        visual, fusion = (
            open_engine(bundle.graph(name, precision=precision), backend=backend, device=device, threads=self.plan.graphs)
            for name in GRAPHS
        )
        self._assemble(Parts(visual, fusion, self._open_sound), transcriber)

    @classmethod
    def of_parts(cls, bundle: Bundle, parts: Parts, *, threads: int | None = None) -> Scorer:
        """A scorer that computes with parts opened elsewhere; it closes the engines.

        Args:
            bundle: the opened bundle.
            parts: its engines and what hears.
            threads: CPUs for one stream, see `ThreadPlan`; the parts have theirs already.

        Raises:
            EngineError: the graphs are not those of a shortcast bundle.
        """
        scorer = cls.__new__(cls)
        scorer.bundle, scorer.plan = bundle, ThreadPlan.fit(threads)
        scorer._assemble(parts, None)
        return scorer

    def _assemble(self, parts: Parts, transcriber: Transcriber | None) -> None:
        self._beside = ThreadPoolExecutor(thread_name_prefix="shortcast-beside")
        self._sound: Future[Hearing] | None = None
        self._sound_lock = Lock()
        self._transcriber = transcriber
        self._visual, self._fusion, self._opens_sound = parts.visual, parts.fusion, parts.open_sound
        self._state_specs = tuple(spec for spec in self._visual.inputs if spec.name not in ("frames", "frame_mask"))
        dims = {spec.name: spec.shape[-1] for spec in self._fusion.inputs}
        self._visual_dim, self._audio_dim = int(dims["visual"]), int(dims["audio"])
        promised = self.bundle.contract.sound.embedding_dim
        if self._audio_dim != promised:
            raise EngineError(f"the fusion graph wants {self._audio_dim} sound features, the contract {promised}")

    def stream(self, source: Source, *, options: ReadOptions | None = None, when_full: WhenFull = "wait") -> Iterator[Score]:
        """Scores a clip while it is read: one score after every chunk, the last of them the clip's.

        Args:
            source: a path, a URL, `-` for standard input, or an object with `read`.
            options: how to read it; see `ReadOptions`.
            when_full: what happens to chunks of a source that is faster than the scorer; those that are let go count as chunks of which
                nothing was seen or heard.

        Raises:
            MediaError: the source cannot be opened, or nothing in it decodes.
            WeightsError: it has sound and the Whisper weights are not found.
        """
        options = options or ReadOptions()
        chunks = read_chunks(
            source, self.bundle.contract, options=replace(options, decode_threads=options.decode_threads or self.plan.decode)
        )
        stream, hears = self.new_stream(chunks.name), options.use_sound and chunks.info.has_audio
        with Ahead(_with_notes(chunks, options), self.plan.ahead, when_full=when_full) as ahead:
            if hears:
                self._load_sound()  # before the first chunk, whose latency it would spoil
            for ready in ahead:
                for missed, _ in ready.dropped:
                    self.skip(stream, missed)
                chunk, notes = ready.item
                yield self.step(stream, chunk, notes=notes, ready_s=ready.ready_s)

    def score(self, source: Source, *, options: ReadOptions | None = None) -> Score:
        """Scores a whole clip: the last score of `stream`."""
        *_, last = self.stream(source, options=options)
        return last

    def preload_sound(self) -> None:
        """Begins to load the Whisper encoder before a clip asks for it; what is wrong with it, the first clip with sound will say."""
        self._begin_sound()

    def new_stream(self, clip: str = "") -> Stream:
        """The state of a clip of which nothing has been seen."""
        window = self.bundle.manifest.window_chunks
        visual, audio = History(self._visual_dim, window), History(self._audio_dim, window)
        return Stream(clip, self._zero_state(), visual, audio, self._transcriber.begin() if self._transcriber else None)

    def step(self, stream: Stream, chunk: Chunk, *, notes: tuple[str, ...] = (), ready_s: float | None = None) -> Score:
        """Scores one more chunk of a stream.

        Args:
            stream: the clip so far; updated in place.
            chunk: its next chunk.
            notes: sentences the score carries.
            ready_s: when the chunk was ready, by `perf_counter`; None: now.
        """
        started = perf_counter()
        self._follow(stream, chunk)
        listening = self._beside.submit(_embed_sound, self._load_sound(), chunk) if chunk.has_sound else None
        seen = self._embed_pictures(stream, chunk)
        heard = listening.result() if listening else _Embedded(None, 0.0)
        stream.last_visual, stream.last_audio = seen.embedding, heard.embedding
        stream.audio.add(stream.last_audio)
        stream.visual.add(stream.last_visual)
        known = perf_counter()
        outputs = self._fusion.run(fusion_feeds(stream.visual.shown(), stream.audio.shown()))
        fused = perf_counter()
        if stream.transcription:
            stream.transcription.add(chunk)
        ended = perf_counter()
        latency = Latency(
            decode_ms=1e3 * chunk.decode_s,
            sound_ms=heard.milliseconds,
            visual_ms=seen.milliseconds,
            fusion_ms=1e3 * (fused - known),
            transcript_ms=1e3 * (ended - fused),
            answer_ms=1e3 * (ended - (started if ready_s is None else ready_s)),
        )
        return self._as_score(outputs, stream, chunk, latency, notes)

    def skip(self, stream: Stream, chunk: Chunk) -> None:
        """Takes in a chunk that is let go: a chunk of which nothing was seen or heard."""
        self._follow(stream, chunk)
        stream.dropped_chunks += 1
        stream.audio.add(None)
        stream.visual.add(None)

    def _follow(self, stream: Stream, chunk: Chunk) -> None:
        if chunk.epoch != stream.epoch:
            stream.state, stream.epoch = self._zero_state(), chunk.epoch
        stream.lost_packets += chunk.lost_packets

    def close(self) -> None:
        """Frees the engines, once what runs beside them has ended."""
        self._beside.shutdown(cancel_futures=True)
        self._visual.close()
        self._fusion.close()

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _zero_state(self) -> Tensors:
        return {
            spec.name: np.zeros([1 if isinstance(dim, str) else dim for dim in spec.shape], dtype=spec.dtype) for spec in self._state_specs
        }

    def _load_sound(self) -> Hearing:
        """The sound encoder, loaded when a clip first needs it, or before: one without sound never waits for it."""
        return self._begin_sound().result()

    def _begin_sound(self) -> Future[Hearing]:
        with self._sound_lock:
            if self._sound is None:
                self._sound = self._beside.submit(self._opens_sound)
            return self._sound

    def _open_sound(self) -> Hearing:
        from .whisper import SoundEncoder

        return SoundEncoder(self._weights(), self.bundle.sound_contract, device=self._device, threads=self.plan.sound)

    def _open_transcriber(self) -> Transcriber:
        from .transcript import Transcriber

        return Transcriber(self._weights().path, device=self._device)

    def _weights(self) -> WhisperWeights:
        from .whisper import resolve_whisper

        return resolve_whisper(self.bundle.contract.sound.whisper, explicit=self._whisper, bundled=self.bundle.path / WHISPER)

    def _embed_pictures(self, stream: Stream, chunk: Chunk) -> _Embedded:
        if not chunk.has_pictures:
            return _Embedded(None, 0.0)
        started = perf_counter()
        feeds: Tensors = {"frames": chunk.frames[None], "frame_mask": chunk.frame_mask[None].astype(np.float32), **stream.state}
        outputs = self._visual.run(feeds)
        stream.state = {name: outputs[f"{name}_out"] for name in stream.state}
        embedding = np.asarray(outputs["embedding"][0], dtype=np.float32)
        return _Embedded(embedding, 1e3 * (perf_counter() - started))

    def _as_score(self, outputs: Tensors, stream: Stream, chunk: Chunk, latency: Latency, notes: tuple[str, ...]) -> Score:
        target = self.bundle.manifest.target
        latest = {name: np.asarray(values[0, -1], dtype=np.float64) for name, values in outputs.items()}
        low, high = target.restore(self._interval_z(latest["quantiles"], chunk))
        return Score(
            clip=stream.clip,
            index=chunk.index,
            start_s=chunk.start_s,
            end_s=chunk.end_s,
            final=chunk.final,
            target=target.name,
            value=float(target.restore(latest["score"])),
            z=float(latest["score"]),
            interval=(float(low), float(high)),
            interval_coverage=self.bundle.manifest.interval_coverage,
            class_probabilities=tuple(_softmax(latest["class_logits"]).tolist()),
            chunk_weights=tuple(latest["chunk_weights"].tolist()),
            has_pictures=stream.last_visual is not None,
            has_sound=stream.last_audio is not None,
            epoch=chunk.epoch,
            lost_packets=stream.lost_packets,
            dropped_chunks=stream.dropped_chunks,
            latency=latency,
            notes=notes,
            transcript=stream.transcription.segments if stream.transcription else None,
        )

    def _interval_z(self, quantiles: NDArray[np.float64], chunk: Chunk) -> tuple[float, float]:
        """The outermost quantiles with the conformal margin of what has been seen so far, in standardised units."""
        low, high = float(quantiles[0]), float(quantiles[-1])
        return self.bundle.manifest.intervals.apply(low, high, chunks=chunk.index + 1, final=chunk.final)


def _embed_sound(encoder: Hearing, chunk: Chunk) -> _Embedded:
    started = perf_counter()
    embedding = encoder.embed(chunk.samples, chunk.sample_mask)
    return _Embedded(embedding, 1e3 * (perf_counter() - started))


def _with_notes(chunks: ChunkStream, options: ReadOptions) -> Iterator[tuple[Chunk, tuple[str, ...]]]:
    """Each chunk with what its score lacks, said while the source stands there; the source is closed at the end."""
    with chunks:
        for chunk in chunks:
            yield chunk, _notes(chunks, chunk, options)


def _notes(chunks: ChunkStream, chunk: Chunk, options: ReadOptions) -> tuple[str, ...]:
    """What the score lacks, in sentences."""
    info = chunks.info
    notes = [
        (not options.use_pictures, "pictures left out on request"),
        (not options.use_sound, "sound left out on request"),
        (options.use_pictures and not info.has_video, "no pictures: scored from sound alone"),
        (options.use_sound and not info.has_audio, "no sound: scored from pictures alone"),
    ]
    if chunk.final:
        declared = "" if info.declared_s is None else f" of the {info.declared_s:.1f} s the container declares"
        notes += [
            (chunks.lost_packets > 0, f"packets that did not decode: {chunks.lost_packets}"),
            (chunks.truncated, f"truncated: {chunks.decoded_s:.1f} s decoded{declared}"),
            (chunk.epoch > 0, f"jumps of the clock: {chunk.epoch}"),
        ]
    return tuple(sentence for applies, sentence in notes if applies)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum())
