"""The scorer: chunks in, a score after every chunk out. Here the parts of the runtime meet, and nowhere else.

While one chunk is scored, the next is decoded in a thread of its own; sound is heard beside the pictures being looked at; the fusion
engine waits for both. `ThreadPlan` says how many threads each has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from .ahead import Ahead, opened_apart
from .bundle import GRAPHS, Bundle
from .chunks import Chunk, read_chunks
from .engines import Engine, Tensors, home_device, open_engines
from .engines.device_memory import OnGpu
from .engines.state import stepper
from .history import History, clip_rows, fusion_feeds, padded_feeds
from .media import ReadOptions, Source
from .notes import with_notes
from .pace import PaceKeeper
from .score import Latency, Score
from .scoring_stream import Stream
from .sound_loader import Hearing, SoundLoader, weights_for, whisper_loader
from .start_cache import StartCache
from .threads import ThreadPlan

if TYPE_CHECKING:
    from .transcript import Transcriber


@dataclass(frozen=True, slots=True)
class Parts:
    """What a scorer computes with, where it isn't to open its own: PyTorch beside ONNX Runtime, another Whisper, a fake."""

    visual: Engine
    fusion: Engine
    open_sound: Callable[[], Hearing]
    """Called once, when a clip first has sound."""


@dataclass(frozen=True, slots=True)
class _Embedded:
    """What one modality of a chunk became."""

    embedding: NDArray[np.float32] | None
    milliseconds: float


@dataclass(frozen=True, slots=True)
class _Fused:
    """What the engines made of a chunk."""

    seen: _Embedded
    heard: _Embedded
    outputs: Tensors
    milliseconds: float
    """Of the fusion engine."""


class Scorer:
    """Scores clips with one bundle. Holds two engines and, once a clip has sound, the Whisper encoder.

    Not thread-safe as far as one stream goes; streams share nothing but the engines, so each thread may run its own.
    """

    def __init__(  # noqa: PLR0913 (each of them is the user's to say)
        self,
        bundle: Bundle,
        *,
        backend: str = "onnxruntime",
        precision: str = "fp32",
        device: str | None = None,
        threads: int | None = None,
        whisper: Path | None = None,
        transcribe: bool = False,
        cache: StartCache | None = None,
        sound: SoundLoader | None = None,
    ) -> None:
        """Opens the engines.

        Args:
            bundle: the opened bundle.
            backend: engine backend, see `open_engine`.
            precision: which of the bundle's variants to run: `fp32`, `fp16` or `int8`.
            device: `cpu` or `cuda`; what is asked for is used, or it is an error. None: the GPU for `tensorrt`, else the CPU.
            threads: CPUs for one stream, see `ThreadPlan`; None takes the CPU quota.
            whisper: a directory with the Whisper weights; None looks in the usual places (see `resolve_whisper`).
            transcribe: also turn speech into text.
            cache: where what a start prepares is kept for the next one, see `user_cache`; None prepares it every time. Scores are the
                same to the last bit.
            sound: what loads the Whisper encoder, where somebody has begun with that already, see `whisper_loader`; the scorer closes
                it. None: one of its own, once a clip has sound or at `preload_sound`.

        Raises:
            BundleError: the bundle has no such precision.
            EngineError: the backend or device is not available, or the graphs are not those of a shortcast bundle.
        """
        self.plan = ThreadPlan.fit(threads)
        self.bundle = bundle
        device = device or home_device(backend)
        self._hear_with(
            sound or whisper_loader(bundle, device=device, whisper=whisper, cache=cache),
            _transcriber(bundle, whisper, device) if transcribe else None,
        )
        graphs = [bundle.graph(name, precision=precision) for name in GRAPHS]
        self._see_with(*open_engines(graphs, backend=backend, device=device, threads=self.plan.graphs, cache=cache))

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
        scorer._hear_with(SoundLoader(lambda _: parts.open_sound()), None)
        scorer._see_with(parts.visual, parts.fusion)
        return scorer

    def _hear_with(self, sound: SoundLoader, transcriber: Transcriber | None) -> None:
        self._beside = ThreadPoolExecutor(thread_name_prefix="shortcast-beside")
        self._sound, self._transcriber = sound, transcriber

    def _see_with(self, visual: Engine, fusion: Engine) -> None:
        self._visual, self._fusion = visual, fusion
        self._seeing = stepper(visual)
        self._prepare()
        dims = {spec.name: spec.shape[-1] for spec in self._fusion.inputs}
        self._visual_dim, self._audio_dim = int(dims["visual"]), int(dims["audio"])
        promised = self.bundle.contract.sound.embedding_dim
        if self._audio_dim != promised:
            raise EngineError(f"the fusion graph wants {self._audio_dim} sound features, the contract {promised}")

    def _prepare(self) -> None:
        """On a GPU, does what the first clip would otherwise wait for at every new shape."""
        try:
            for engine in (self._visual, self._fusion):
                if isinstance(engine, OnGpu):
                    engine.prepare(chunks=self.bundle.manifest.window_chunks or 1)
        except EngineError:
            self.close()
            raise

    def stream(self, source: Source, *, options: ReadOptions | None = None) -> Iterator[Score]:
        """Scores a clip while it is read: one score after every chunk, the last of them the clip's.

        Where a live source ends without a chunk that could be the last, the last score is given once more, now `final`.

        Args:
            source: a path, a URL, `-` for standard input, a device such as `v4l2:/dev/video0`, or an object with `read`.
            options: how to read it, and what happens to chunks of a source that is faster than the scorer; see `ReadOptions`. Those
                that are let go count as chunks of which nothing was seen or heard.

        Raises:
            MediaError: the source cannot be opened, or nothing in it decodes.
            WeightsError: it has sound and the Whisper weights are not found.
        """
        options = options or ReadOptions()
        threads = options.decode_threads or self.plan.decode
        chunks = opened_apart(lambda: read_chunks(source, self.bundle.contract, options=replace(options, decode_threads=threads)))
        stream, hears = self.new_stream(chunks.name), options.use_sound and chunks.info.has_audio
        stream.declared_s = chunks.info.declared_s
        deadline_s = self.bundle.contract.chunk_s if options.deadline_s is None else options.deadline_s
        stream.pace = PaceKeeper(chunks.live, deadline_s)
        ahead = Ahead(
            with_notes(chunks, options),
            self.plan.ahead,
            when_full=options.when_full or chunks.usually,
            lighten=_emptied,
            on_close=chunks.interrupt,
        )
        with closing(stream), ahead:
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
        self._sound.begin(self.plan.sound)

    def new_stream(self, clip: str = "") -> Stream:
        """The state of a clip of which nothing has been seen. Close it when the clip is done."""
        window = self.bundle.manifest.window_chunks
        visual, audio = History(self._visual_dim, window), History(self._audio_dim, window)
        return Stream(clip, self._seeing.begin(), visual, audio, self._transcriber.begin() if self._transcriber else None)

    def step(self, stream: Stream, chunk: Chunk, *, notes: tuple[str, ...] = (), ready_s: float | None = None) -> Score:
        """Scores one more chunk of a stream.

        Args:
            stream: the clip so far; updated in place.
            chunk: its next chunk.
            notes: sentences the score carries.
            ready_s: when the chunk was ready, by `perf_counter`; None: now.
        """
        started = perf_counter()
        ready_s = started if ready_s is None else ready_s
        self._follow(stream, chunk)
        seen, heard = self._embed(stream, chunk)
        known = perf_counter()
        outputs = self._fusion.run(fusion_feeds(stream.visual.shown(), stream.audio.shown()))
        fused = _Fused(seen, heard, outputs, 1e3 * (perf_counter() - known))
        score = self._finish(stream, chunk, fused, since_s=ready_s, notes=notes)
        media_s = 0.0 if chunk.again else chunk.end_s - chunk.start_s
        pace = stream.pace.scored(media_s, ready_s=ready_s, taken_s=started, scored_s=perf_counter())
        return replace(score, pace=pace)

    def _embed(self, stream: Stream, chunk: Chunk) -> tuple[_Embedded, _Embedded]:
        """What is seen and heard of a chunk, added to the history; nothing is new of one that is given again."""
        if chunk.again:
            return _Embedded(stream.last_visual, 0.0), _Embedded(stream.last_audio, 0.0)
        listening = self._beside.submit(_embed_sound, self._load_sound(), chunk) if chunk.has_sound else None
        seen = self._embed_pictures(stream, chunk)
        heard = listening.result() if listening else _Embedded(None, 0.0)
        stream.last_visual, stream.last_audio = seen.embedding, heard.embedding
        stream.audio.add(stream.last_audio)
        stream.visual.add(stream.last_visual)
        return seen, heard

    def step_many(self, streams: Sequence[Stream], chunks: Sequence[Chunk]) -> list[Score]:
        """Scores the next chunk of each of several streams, in one call of each engine: equal to one `step` after the other.

        Worth it on a GPU, where a call costs nearly the same for one clip as for several. Latencies are those of the whole.

        Args:
            streams: different ones; updated in place. As many as the engine was built for: `--max-batch`, 8 unless told otherwise.
            chunks: the next chunk of each.
        """
        started = perf_counter()
        for stream, chunk in zip(streams, chunks, strict=True):
            self._follow(stream, chunk)
        listening = [self._beside.submit(_embed_sound, self._load_sound(), chunk) if chunk.has_sound else None for chunk in chunks]
        seen = self._embed_pictures_of(streams, chunks)
        heard = [future.result() if future else _Embedded(None, 0.0) for future in listening]
        for stream, saw, hears in zip(streams, seen, heard, strict=True):
            stream.last_visual, stream.last_audio = saw.embedding, hears.embedding
            stream.audio.add(stream.last_audio)
            stream.visual.add(stream.last_visual)
        known = perf_counter()
        shown = [fusion_feeds(stream.visual.shown(), stream.audio.shown()) for stream in streams]
        fused = clip_rows(self._fusion.run(padded_feeds(shown)), [feeds["chunk_mask"].shape[1] for feeds in shown])
        fusion_ms = 1e3 * (perf_counter() - known)
        return [
            self._finish(stream, chunk, _Fused(saw, hears, outputs, fusion_ms), since_s=started)
            for stream, chunk, saw, hears, outputs in zip(streams, chunks, seen, heard, fused, strict=True)
        ]

    def skip(self, stream: Stream, chunk: Chunk) -> None:
        """Takes in a chunk that is let go: a chunk of which nothing was seen or heard."""
        self._follow(stream, chunk)
        stream.dropped_chunks += 1
        stream.pace.miss(chunk.end_s - chunk.start_s)
        stream.last_visual = stream.last_audio = None
        stream.audio.add(None)
        stream.visual.add(None)

    def _follow(self, stream: Stream, chunk: Chunk) -> None:
        if chunk.epoch != stream.epoch:
            stream.state.reset()
            stream.epoch = chunk.epoch
        stream.lost_packets += chunk.lost_packets
        stream.pace.miss(chunk.gap_s, reconnects=chunk.reconnects)

    def close(self) -> None:
        """Frees the engines, once what runs beside them has ended."""
        self._sound.close()
        self._beside.shutdown(cancel_futures=True)
        self._visual.close()
        self._fusion.close()

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _load_sound(self) -> Hearing:
        return self._sound.begin(self.plan.sound).result()

    def _embed_pictures(self, stream: Stream, chunk: Chunk) -> _Embedded:
        if not chunk.has_pictures:
            return _Embedded(None, 0.0)
        started = perf_counter()
        outputs = self._seeing.step(_visual_feeds(chunk), stream.state)
        embedding = np.asarray(outputs["embedding"][0], dtype=np.float32)
        return _Embedded(embedding, 1e3 * (perf_counter() - started))

    def _embed_pictures_of(self, streams: Sequence[Stream], chunks: Sequence[Chunk]) -> list[_Embedded]:
        rows = [row for row, chunk in enumerate(chunks) if chunk.has_pictures]
        found = [_Embedded(None, 0.0)] * len(chunks)
        if rows:
            started = perf_counter()
            outputs = self._seeing.step_many([_visual_feeds(chunks[row]) for row in rows], [streams[row].state for row in rows])
            milliseconds = 1e3 * (perf_counter() - started)
            for row, output in zip(rows, outputs, strict=True):
                found[row] = _Embedded(np.asarray(output["embedding"][0], dtype=np.float32), milliseconds)
        return found

    def _finish(self, stream: Stream, chunk: Chunk, fused: _Fused, *, since_s: float, notes: tuple[str, ...] = ()) -> Score:
        """The score of a chunk, with the words said until then where they are wanted; `since_s`: when it was to be scored."""
        begun = perf_counter()
        if stream.transcription:
            stream.transcription.add(chunk)
        ended = perf_counter()
        latency = Latency(
            decode_ms=1e3 * chunk.decode_s,
            sound_ms=fused.heard.milliseconds,
            visual_ms=fused.seen.milliseconds,
            fusion_ms=fused.milliseconds,
            transcript_ms=1e3 * (ended - begun),
            answer_ms=1e3 * (ended - since_s),
        )
        return self._as_score(fused.outputs, stream, chunk, latency, notes)

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
            declared_s=stream.declared_s,
        )

    def _interval_z(self, quantiles: NDArray[np.float64], chunk: Chunk) -> tuple[float, float]:
        """The outermost quantiles with the conformal margin of what has been seen so far, in standardised units."""
        low, high = float(quantiles[0]), float(quantiles[-1])
        return self.bundle.manifest.intervals.apply(low, high, chunks=chunk.index + 1, final=chunk.final)


def _transcriber(bundle: Bundle, whisper: Path | None, device: str) -> Transcriber:
    from .transcript import Transcriber

    return Transcriber(weights_for(bundle, whisper).path, device=device)


def _visual_feeds(chunk: Chunk) -> Tensors:
    return {"frames": chunk.frames[None], "frame_mask": chunk.frame_mask[None].astype(np.float32)}


def _embed_sound(encoder: Hearing, chunk: Chunk) -> _Embedded:
    started = perf_counter()
    embedding = encoder.embed(chunk.samples, chunk.sample_mask)
    return _Embedded(embedding, 1e3 * (perf_counter() - started))


def _emptied(item: tuple[Chunk, tuple[str, ...]]) -> tuple[Chunk, tuple[str, ...]]:
    """A chunk that is let go, without its pictures and its sound."""
    chunk, notes = item
    frames, samples = chunk.frames[:0].copy(), chunk.samples[:0].copy()
    return replace(
        chunk, frames=frames, frame_mask=chunk.frame_mask[:0].copy(), samples=samples, sample_mask=chunk.sample_mask[:0].copy()
    ), notes


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum())
