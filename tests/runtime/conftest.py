"""Clips made on the spot: pictures of one grey level each at chosen times, sound from an array, muxed by PyAV."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from shortcast.runtime.score import Latency, Score
from shortcast.runtime.transcript import Segment

MILLISECOND = Fraction(1, 1000)
_NOBODY = 65534


@dataclass(frozen=True)
class ClipRecipe:
    """What a made clip holds. Times are seconds."""

    pictures: Sequence[tuple[float, int | NDArray[np.uint8]]] = ()
    """(start, grey level or uint8 (h, w, 3) RGB)."""
    sound: NDArray[np.float32] | None = None
    """float32 (n,) mono."""
    sound_start_s: float = 0.0
    rate_hz: int = 16_000
    size: tuple[int, int] = (72, 128)
    fps: int = 25
    video_codec: str = "libx264"
    audio_codec: str = "aac"
    pixel_format: str = "yuv420p"
    pixel_aspect: Fraction | None = None
    rotation: tuple[float, bool] | None = None
    """Degrees counter-clockwise, and whether the picture is mirrored from left to right."""
    options: dict[str, str] = field(default_factory=dict)
    offset_s: float = 0.0
    """Added to every timestamp."""
    sound_delay_s: float = 0.0
    """How much later than its pictures sound is written to the file."""


@pytest.fixture
def ordinary_users_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder whose owner runs the test, and is not root, who may read and write everything: where root runs it, somebody else does."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, _NOBODY, _NOBODY)
        os.seteuid(_NOBODY)
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)


@pytest.fixture
def make_clip(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, **recipe: object) -> Path:
        path = tmp_path / name
        write_clip(path, ClipRecipe(**recipe))  # type: ignore[arg-type]
        return path

    return make


def write_clip(path: Path, recipe: ClipRecipe) -> None:
    # PyAV's muxer sorts by time as well, within this much; 1 µs leaves the order to us.
    with av.open(str(path), "w", options={"max_interleave_delta": "1", **recipe.options}) as out:
        video = _video_stream(out, recipe) if recipe.pictures else None
        audio = out.add_stream(recipe.audio_codec, rate=recipe.rate_hz, layout="mono") if recipe.sound is not None else None
        packets: list[av.Packet] = []
        if video is not None:
            packets += _encoded(video, _video_frames(recipe))
        if audio is not None:
            packets += _encoded(audio, _audio_frames(audio, recipe))
        packets.sort(key=lambda packet: packet.dts * packet.time_base + (recipe.sound_delay_s if packet.stream is audio else 0))
        for packet in packets:
            out.mux(packet)


def _video_stream(out: av.container.OutputContainer, recipe: ClipRecipe) -> av.VideoStream:
    stream = out.add_stream(recipe.video_codec, rate=recipe.fps)
    stream.width, stream.height = recipe.size
    stream.pix_fmt = recipe.pixel_format
    stream.codec_context.time_base = MILLISECOND
    if recipe.video_codec == "libx264":
        stream.codec_context.options = {"preset": "veryfast", "bf": "2", "crf": "12", "g": "250"}
    if recipe.pixel_aspect:
        stream.codec_context.sample_aspect_ratio = recipe.pixel_aspect
    if recipe.rotation:
        stream.set_display_rotation(recipe.rotation[0], hflip=recipe.rotation[1])
    return stream


def _video_frames(recipe: ClipRecipe) -> Iterable[av.VideoFrame]:
    width, height = recipe.size
    for start_s, content in recipe.pictures:
        rgb = np.full((height, width, 3), content, np.uint8) if isinstance(content, int) else content
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=recipe.pixel_format)
        frame.time_base, frame.pts = MILLISECOND, round((start_s + recipe.offset_s) * 1000)
        frame.pict_type = 0
        yield frame


def _audio_frames(stream: av.AudioStream, recipe: ClipRecipe) -> Iterable[av.AudioFrame]:
    assert recipe.sound is not None
    wanted = stream.codec_context.format.name
    resampler = av.AudioResampler(format=wanted, layout="mono", rate=recipe.rate_hz)
    first = round((recipe.sound_start_s + recipe.offset_s) * recipe.rate_hz)
    for start in range(0, len(recipe.sound), 1024):
        frame = av.AudioFrame.from_ndarray(recipe.sound[None, start : start + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = recipe.rate_hz, Fraction(1, recipe.rate_hz), first + start
        yield from resampler.resample(frame)


def _encoded(stream: av.VideoStream | av.AudioStream, frames: Iterable[av.VideoFrame | av.AudioFrame]) -> list[av.Packet]:
    packets = [packet for frame in frames for packet in stream.encode(frame)]  # type: ignore[arg-type]
    return packets + list(stream.encode(None))


@pytest.fixture
def tone() -> Callable[..., NDArray[np.float32]]:
    """A 440 Hz tone: float32 (seconds * rate_hz,)."""

    def make(seconds: float, *, rate_hz: int = 16_000, level: float = 0.5) -> NDArray[np.float32]:
        time_s = np.arange(round(seconds * rate_hz)) / rate_hz
        return (level * np.sin(2 * np.pi * 440 * time_s)).astype(np.float32)

    return make


@pytest.fixture(scope="session")
def data_clips(shared_data: Path) -> Path:
    """The folder of real clips; tests that need it skip where it is absent."""
    return shared_data / "clips"


@pytest.fixture(scope="session")
def made_score() -> Callable[..., Score]:
    """Scores that nothing computed: `z` is a tenth of the chunk's index, everything else is given or plain."""

    def make(*, index: int = 0, **given: Any) -> Score:
        plain: dict[str, Any] = {
            "clip": "clip",
            "index": index,
            "start_s": 2.0 * index,
            "end_s": 2.0 * (index + 1),
            "final": False,
            "target": "views",
            "value": 2.0,
            "z": index / 10,
            "interval": (1.0, 3.0),
            "interval_coverage": 0.9,
            "class_probabilities": (0.1, 0.2, 0.3, 0.4),
            "chunk_weights": (0.25, 0.75),
            "has_pictures": True,
            "has_sound": False,
            "epoch": 0,
            "lost_packets": 0,
            "latency": Latency(1.0, 2.0, 3.0, 4.0),
            "notes": ("one", "two"),
            "transcript": (Segment(0.0, 1.0, "hello"), Segment(1.0, 2.0, "there")),
        }
        return Score(**plain | given)

    return make
