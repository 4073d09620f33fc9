"""One made clip, from its plan to a whole MP4 file: H.264 pictures and AAC sound."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .scenes import Look, Picture, black, film, still
from .soundtrack import Band, Line, soundtrack
from .speech import RATE_HZ, Voice
from .success import Factors

PictureKind = Literal["film", "still", "black"]
SoundKind = Literal["track", "silent", "none"]


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """Everything about one clip before it is rendered."""

    seed: int
    index: int
    factors: Factors
    picture: PictureKind
    sound: SoundKind
    lines: tuple[Line, ...]
    voice: Voice
    width: int
    height: int
    """Both as shown, after rotation."""
    rotation: int
    """Degrees counter-clockwise a player turns the coded picture."""
    fps: Fraction
    frames: int
    track_rate_hz: int
    channels: int

    @property
    def duration_s(self) -> float:
        return float(self.frames / self.fps)


def render(plan: ClipPlan, target: Path) -> None:
    """Renders a clip beside its place and renames it whole.

    Args:
        plan: what to render; the same plan gives the same pictures and sound.
        target: the MP4 file; replaced where it exists.

    Raises:
        DataError: the file cannot be written, or there are lines to speak and eSpeak NG is missing.
    """
    aside = target.with_suffix(".part")
    try:
        _encode(aside, plan, _pictures(plan), _sound(plan))
        if plan.rotation:
            _write_rotation(aside, plan.rotation)
        os.replace(aside, target)
    except (OSError, av.FFmpegError) as error:
        raise DataError(f"{target} cannot be written: {error}") from error
    finally:
        aside.unlink(missing_ok=True)


def _pictures(plan: ClipPlan) -> Iterator[Picture]:
    """Coded pictures: turned so that a player's rotation sets them upright."""
    rng, size = np.random.default_rng((plan.seed, plan.index, 3)), {"height": plan.height, "width": plan.width}
    if plan.picture == "black":
        shown = black(**size, frames=plan.frames)
    else:
        f = plan.factors
        look = Look(f.motion or 0.0, f.brightness or 0.0, f.warmth or 0.0, f.cuts or 0.0)
        if plan.picture == "still":
            shown = still(look, **size, frames=plan.frames, rng=rng)
        else:
            shown = film(look, **size, fps=plan.fps, frames=plan.frames, rng=rng)
    return (np.ascontiguousarray(np.rot90(picture, -plan.rotation // 90)) for picture in shown)


def _sound(plan: ClipPlan) -> NDArray[np.float32] | None:
    """float32 (S,) at `RATE_HZ`, or None for a clip without a track."""
    if plan.sound == "none":
        return None
    if plan.sound == "silent":
        return np.zeros(round(plan.duration_s * RATE_HZ), np.float32)
    f = plan.factors
    band = Band(f.tempo or 0.0, f.energy or 0.0, f.timbre or 0.0)
    rng = np.random.default_rng((plan.seed, plan.index, 4))
    return soundtrack(band, plan.lines, voice=plan.voice, duration_s=plan.duration_s, rng=rng)


def _encode(path: Path, plan: ClipPlan, pictures: Iterator[Picture], sound: NDArray[np.float32] | None) -> None:
    """H.264 and AAC in MP4; sound is muxed as the pictures advance, so that a reader finds them side by side."""
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as out:
        video = out.add_stream("libx264", rate=plan.fps, options={"preset": "superfast", "crf": "30", "threads": "1"})
        video.height, video.width = (plan.width, plan.height) if plan.rotation % 180 else (plan.height, plan.width)
        video.pix_fmt = "yuv420p"
        track = None if sound is None else _Track(out, sound, plan)
        scaler = av.video.reformatter.VideoReformatter()
        for index, picture in enumerate(pictures):
            frame = scaler.reformat(av.VideoFrame.from_ndarray(picture, format="rgb24"), format="yuv420p")
            frame.pts, frame.time_base = index, 1 / plan.fps
            out.mux(video.encode(frame))
            if track:
                track.advance(float((index + 1) / plan.fps))
        out.mux(video.encode(None))
        if track:
            track.finish()


class _Track:
    """The sound of one clip on its way into the file."""

    def __init__(self, out: av.container.OutputContainer, sound: NDArray[np.float32], plan: ClipPlan) -> None:
        layout = "stereo" if plan.channels == 2 else "mono"
        self._out, self._sound, self._sent = out, sound, 0
        self._stream = out.add_stream("aac", rate=plan.track_rate_hz, layout=layout)
        self._stream.bit_rate = 32_000 + 16_000 * plan.channels
        self._resampler = av.AudioResampler(format="fltp", layout=layout, rate=plan.track_rate_hz)

    def advance(self, until_s: float) -> None:
        """Encodes what sounds before a time, in seconds."""
        until = min(self._sound.size, round(until_s * RATE_HZ))
        if until > self._sent:
            frame = av.AudioFrame.from_ndarray(self._sound[None, self._sent : until], format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, self._sent, Fraction(1, RATE_HZ)
            self._mux(frame)
            self._sent = until

    def finish(self) -> None:
        """Encodes what is left in the resampler and in the encoder."""
        self._mux(None)
        self._out.mux(self._stream.encode(None))

    def _mux(self, frame: av.AudioFrame | None) -> None:
        for resampled in self._resampler.resample(frame):
            self._out.mux(self._stream.encode(resampled))


def _write_rotation(path: Path, degrees: int) -> None:
    """Sets the display matrix of the first track, the pictures; PyAV before 18 has no call for it.

    ISO 14496-12: `tkhd` version 0 keeps nine 32-bit numbers 40 bytes after its version field, 16.16 fixed point but for the last column.
    """
    turn = {90: (0, -1, 1, 0), 270: (0, 1, -1, 0)}[degrees]
    a, b, c, d = (part << 16 for part in turn)
    matrix = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], ">i4").tobytes()
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40
    content[at : at + len(matrix)] = matrix
    path.write_bytes(content)
