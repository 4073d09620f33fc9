"""One stream: its packets in, pictures or 16 kHz sound on the clock out. Packets that fail are counted and skipped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeAlias

import av
import numpy as np
from av.filter import Graph
from numpy.typing import NDArray

from .contract import SAMPLE_RATE_HZ
from .pictures import UPRIGHT, orientation_of, sane_pixel_aspect
from .read_options import ReadOptions
from .skips import SkipPlan
from .timeline import FORWARD_JUMP_S, MAX_PICTURE_S, Timeline


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture, on screen from `start_s` to the next picture, or to `end_s` if it is the last."""

    frame: av.VideoFrame
    start_s: float
    end_s: float
    epoch: int


@dataclass(frozen=True, slots=True)
class Sound:
    """A run of decoded sound whose first sample lies at `first_sample / 16000` s."""

    first_sample: int
    samples: NDArray[np.float32]
    """float32 (n,) at 16 kHz mono in [-1, 1]."""
    valid: NDArray[np.bool_] | None
    """bool (n,): False where the decoder gave NaN or infinity, replaced by zero; None where all are good."""
    epoch: int

    @property
    def start_s(self) -> float:
        return self.first_sample / SAMPLE_RATE_HZ

    @property
    def end_s(self) -> float:
        return (self.first_sample + len(self.samples)) / SAMPLE_RATE_HZ


Event: TypeAlias = "Picture | Sound"


_Run: TypeAlias = "tuple[int, NDArray[np.float32]]"

SOUND_GAP_S = 0.020
"""Sound whose timestamps stray less than this from the sample count is contiguous: containers round to a millisecond or a tick."""
SOUND_GONE_S = 2.0
"""Sound is no longer waited for once video packets have advanced this far without one of sound."""
PICTURES_GONE_S = 5.0
"""Pictures are no longer waited for once sound has advanced this far without one video packet."""
MAX_GROUP_PACKETS = 600
MAX_GROUP_BYTES = 32 << 20


_FAST = {"skip_loop_filter": "all"}
"""The deblocking filter left out, which every picture built on such pictures sees; decoders without the option ignore it."""


class _Decoder:
    """One stream's decoder. Packets that fail are counted and skipped; too many in a row and the stream is given up."""

    def __init__(self, stream: Any, *, max_errors: int) -> None:
        self.stream = stream
        self.index: int = stream.index
        self.lost = 0
        self.given_up = False
        self.drained = False
        self.spent_s = 0.0
        """Wall seconds in the codec."""
        self._codec = stream.codec_context
        self._time_base = float(stream.time_base)
        self._max_errors = max_errors
        self._failures = 0
        self._group: list[Any] = []
        self._group_bytes = 0
        self._last_pts: int | None = None
        self._repeated_until: int | None = None
        self._leaves_out = False

    @property
    def usable(self) -> bool:
        return not self.given_up

    def seconds(self, ticks: int | None) -> float | None:
        return None if ticks is None else ticks * self._time_base

    def close(self) -> None:
        """Lets go of the codec and its threads."""
        self.stream = self._codec = None
        self._group = []

    def decode(self, packet: Any) -> list[Any]:
        """Frames that come out after this packet goes in."""
        if self.given_up:
            self.lost += 1
            return []
        if self.drained:
            self._resume()
        frames = self._fresh(self._attempt(packet))
        self._remember(packet)
        return frames

    def leave_out(self, disposable: bool) -> None:
        """Whether the next packet's picture is left out if no other is built on it."""
        if disposable != self._leaves_out:
            self._codec.skip_frame = "NONREF" if disposable else "DEFAULT"
            self._leaves_out = disposable

    def drain(self) -> list[Any]:
        """The frames the decoder still holds. Decoding can go on afterwards."""
        self.drained = True
        return [] if self.given_up else self._fresh(self._attempt(None))

    def _attempt(self, packet: Any) -> list[Any]:
        started = perf_counter()
        try:
            frames: list[Any] = self._codec.decode(packet)
        except (av.FFmpegError, ValueError):
            self.lost += 1
            self._failures += 1
            self.given_up = self._failures > self._max_errors
            return []
        finally:
            self.spent_s += perf_counter() - started
        self._failures = 0
        return frames

    def _remember(self, packet: Any) -> None:
        """Keeps the packets since the last keyframe, which a drained decoder needs to go on."""
        if packet.is_keyframe or len(self._group) >= MAX_GROUP_PACKETS or self._group_bytes >= MAX_GROUP_BYTES:
            self._group, self._group_bytes = [], 0
        self._group.append(packet)
        self._group_bytes += packet.size

    def _resume(self) -> None:
        self.leave_out(False)
        self._codec.flush_buffers()
        self.drained = False
        self._repeated_until = self._last_pts
        for packet in self._group:
            self._fresh(self._attempt(packet))

    def _fresh(self, frames: list[Any]) -> list[Any]:
        """Drops frames that came out once already, before the decoder was drained."""
        if self._repeated_until is not None:
            frames = [frame for frame in frames if frame.pts is None or frame.pts > self._repeated_until]
        if frames:
            self._last_pts, self._repeated_until = frames[-1].pts, None
        return frames


class _Resampler:
    """Sound frames of any format -> contiguous runs of 16 kHz mono, each placed by the time its first frame has.

    A new run begins where the format changes or the timestamps leave the sample count by more than 20 ms. `av.AudioResampler` does
    the same work but starts one thread per core for every run.
    """

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._format: tuple[str, str, int] | None = None
        self._next = 0
        self._origin_s = 0.0
        self._heard = 0

    def push(self, frame: av.AudioFrame, at_s: float) -> list[_Run]:
        """Runs as (first sample, float32 (n,)) that are ready once this frame is in."""
        parts: list[_Run] = []
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        expected_s = self._origin_s + self._heard / frame.sample_rate
        if form != self._format or abs(at_s - expected_s) > SOUND_GAP_S:
            parts = self.drain()
            self._begin(form, at_s)
        self._heard += frame.samples
        frame.pts = None
        return parts + self._filtered(frame)

    def drain(self) -> list[_Run]:
        """What the filter still holds; the next frame begins a new run."""
        parts = self._filtered(None) if self._graph else []
        self._graph = self._format = None
        return parts

    def _begin(self, form: tuple[str, str, int], at_s: float) -> None:
        sample_fmt, layout, rate = form
        graph = Graph()
        graph.threads = 1
        source = graph.add("abuffer", sample_rate=str(rate), sample_fmt=sample_fmt, channel_layout=layout, time_base=f"1/{rate}")
        mono = graph.add("aformat", sample_rates=str(SAMPLE_RATE_HZ), sample_fmts="flt", channel_layouts="mono")
        sink = graph.add("abuffersink")
        source.link_to(mono)
        mono.link_to(sink)
        graph.configure()
        self._graph, self._format = graph, form
        self._origin_s, self._heard = at_s, 0
        self._next = round(at_s * SAMPLE_RATE_HZ)

    def _filtered(self, frame: av.AudioFrame | None) -> list[_Run]:
        assert self._graph is not None
        self._graph.push(frame)
        parts: list[_Run] = []
        while True:
            try:
                samples = np.asarray(self._graph.pull().to_ndarray(), np.float32).reshape(-1)
            except (av.error.EOFError, av.error.BlockingIOError):
                return parts
            parts.append((self._next, samples))
            self._next += len(samples)


def _cleaned(samples: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Samples clipped to [-1, 1]; NaN and infinity (float codecs can hold them) zeroed and marked, for they would poison a model."""
    valid = np.isfinite(samples)
    if valid.all():
        return np.clip(samples, -1.0, 1.0), None
    return np.clip(np.where(valid, samples, np.float32(0)), -1.0, 1.0), valid


class PictureStream:
    """The video stream that is used: packets in, pictures on the clock out."""

    def __init__(self, stream: Any, *, timeline: Timeline, options: ReadOptions, prompt: bool = False, fps: float | None = None) -> None:
        """Prepares the decoder; `prompt` has every picture come out as soon as it can."""
        self.decoder = _Decoder(stream, max_errors=options.max_consecutive_errors)
        self.count = 0
        self.size = (stream.width, stream.height)
        self.orientation = UPRIGHT
        self.pixel_aspect = sane_pixel_aspect(stream.sample_aspect_ratio)
        self._timeline = timeline
        self._track = timeline.track()
        self._max_pixels = options.max_pixels
        self._sent_s: float | None = None
        rate = stream.guessed_rate or stream.average_rate
        self._usual_s = float(1 / rate) if rate else 1 / 25
        codec = stream.codec_context
        # Threads that each take a frame hold back as many pictures as there are threads; those that share one hold back none.
        codec.thread_type = "SLICE" if prompt else "AUTO"
        codec.thread_count = options.decode_threads
        codec.options = {"max_pixels": str(options.max_pixels), **(_FAST if options.decode == "fast" else {})}
        self._skips = SkipPlan(codec, fps=fps, mode=options.decode) if fps else None

    def step_s(self, packet: Any) -> float:
        """How far this packet was sent after the one before it; 0 across a jump of the clock.

        Told by packets and not by pictures, so that it does not depend on how many of those the decoder's threads hold.
        """
        sent_s = self.decoder.seconds(packet.pts if packet.dts is None else packet.dts)
        if sent_s is None:
            return 0.0
        step_s, self._sent_s = sent_s - (sent_s if self._sent_s is None else self._sent_s), sent_s
        return step_s if 0 < step_s <= FORWARD_JUMP_S else 0.0

    def accept(self, packet: Any) -> Iterator[Picture]:
        if self._skips:
            resuming = self.decoder.drained
            leave_out = self._skips.leaves_out(packet, self._clock_s(packet), self._track.end)
            self.decoder.leave_out(leave_out and not resuming)
        return self._placed(self.decoder.decode(packet))

    def _clock_s(self, packet: Any) -> float | None:
        """Where a packet's picture will be on the clock, if nothing jumps; None before the first picture."""
        return self._timeline.foresee(self._track, self.decoder.seconds(packet.pts)) if self.count else None

    @property
    def end_s(self) -> float:
        """Where the latest picture ends."""
        return self._track.end

    def drain(self) -> Iterator[Picture]:
        return self._placed(self.decoder.drain())

    def _placed(self, frames: Iterable[av.VideoFrame]) -> Iterator[Picture]:
        for frame in frames:
            if frame.width * frame.height > self._max_pixels:  # it can change in mid-stream
                self.decoder.lost += 1
                continue
            if not self.count:
                self.size, self.orientation = (frame.width, frame.height), orientation_of(frame)
            self.count += 1
            duration_s = min(self.decoder.seconds(frame.duration) or self._usual_s, MAX_PICTURE_S)
            start_s = self._timeline.place(self._track, self.decoder.seconds(frame.pts), duration_s)
            yield Picture(frame, start_s, start_s + duration_s, self._timeline.epoch)


class SoundStream:
    """The audio stream that is used: packets in, 16 kHz mono on the clock out."""

    def __init__(self, stream: Any, *, timeline: Timeline, options: ReadOptions) -> None:
        self.decoder = _Decoder(stream, max_errors=options.max_consecutive_errors)
        self.count = 0
        self.end_s = 0.0
        self._timeline = timeline
        self._track = timeline.track()
        self._resampler = _Resampler()

    def accept(self, packet: Any) -> Iterator[Sound]:
        return self._placed(self.decoder.decode(packet))

    def drain(self) -> Iterator[Sound]:
        yield from self._placed(self.decoder.drain())
        yield from self.settle()

    def settle(self) -> Iterator[Sound]:
        """The few samples the resampler holds; it goes on afterwards."""
        return self._cleaned(self._resampler.drain())

    def _placed(self, frames: Iterable[av.AudioFrame]) -> Iterator[Sound]:
        for frame in frames:
            start_s = self._timeline.place(self._track, self.decoder.seconds(frame.pts), frame.samples / frame.sample_rate)
            try:
                runs = self._resampler.push(frame, start_s)
            except (av.FFmpegError, ValueError):  # a channel layout that cannot be mixed down
                self.decoder.lost += 1
                continue
            yield from self._cleaned(runs)

    def _cleaned(self, runs: Iterable[_Run]) -> Iterator[Sound]:
        for first_sample, samples in runs:
            sound = Sound(first_sample, *_cleaned(samples), self._timeline.epoch)
            self.count += len(samples)
            self.end_s = max(self.end_s, sound.end_s)
            yield sound
