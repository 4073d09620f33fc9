"""Making proof clips: the first chunks of a user's clips, encoded small, and what PyTorch says of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np
from av.container import OutputContainer
from numpy.typing import NDArray

from ..errors import MediaError
from ..runtime.chunks import Chunk, read_chunks
from ..runtime.contract import SAMPLE_RATE_HZ, Contract

if TYPE_CHECKING:
    AnyPacket = av.Packet[Any]

MAX_CLIPS = 24
"""More clips than these are thinned out evenly: they travel in every bundle."""
MAX_CALIBRATION_CLIPS = 16
CLIP_CHUNKS = 4
"""Chunks of each clip that are kept."""
MEDIA_SUFFIXES = frozenset({".mp4", ".mov", ".webm", ".mkv", ".m4v", ".avi", ".flv", ".ts", ".3gp"})
_TAIL = 0.6
"""Share of the golden clip's last chunk that is kept: every bundle proves its masks on a padded tail."""
_SCALE = 2
"""Proof clips are so many times larger than the model's pictures, so that scaling is proved as well."""
_EXCERPT_CHUNKS = 2
_AUDIO_FRAME = 1024
_AUDIO_BITS_PER_S = 32_000
_VIDEO_OPTIONS = {"libx264": {"preset": "slow", "crf": "30", "threads": "1"}, "mpeg4": {"qscale": "8", "threads": "1"}}
"""One thread, so that encodings of the same clip are alike, if not always byte for byte; FFmpeg without x264 has MPEG-4 part 2."""


@dataclass(frozen=True, slots=True)
class ClipChoice:
    """Which of a user's clips serve for what. No clip serves for both, where there are enough."""

    proof: tuple[Path, ...]
    """Decisions are compared on them."""
    calibration: tuple[Path, ...]
    """Ranges are measured on them."""


def choose_clips(paths: Sequence[Path]) -> ClipChoice:
    """Picks clips, evenly spread, among these files and those in these folders.

    Raises:
        MediaError: a path does not exist, or a folder holds no media.
    """
    found = [clip for path in paths for clip in _media(path)]
    proof = _spread(found, MAX_CLIPS)
    rest = [clip for clip in found if clip not in set(proof)]
    return ClipChoice(tuple(proof), tuple(_spread(rest, MAX_CALIBRATION_CLIPS) or _spread(proof, MAX_CALIBRATION_CLIPS)))


def _media(path: Path) -> list[Path]:
    if not path.exists():
        raise MediaError(f"{path}: no such file")
    inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in MEDIA_SUFFIXES) if path.is_dir() else [path]
    if not inside:
        raise MediaError(f"{path}: a folder with no media in it")
    return inside


def _spread(clips: Sequence[Path], most: int) -> list[Path]:
    chosen = np.linspace(0, len(clips) - 1, min(len(clips), most)).round().astype(int)
    return [clips[k] for k in chosen]


def write_proof_clips(golden: Path, others: Sequence[Path], contract: Contract, folder: Path) -> list[Path]:
    """Encodes the golden clip, and others or else excerpts of it, into `000.mp4`, `001.mp4`, ...

    Args:
        golden: the clip the golden data are made from: the first file, its last chunk cut short as a clip's tail is.
        others: clips to compare decisions on; with none, excerpts of the golden clip, each as it is and mirrored.
        contract: how clips are read.
        folder: an existing directory to write to.

    Raises:
        MediaError: a clip does not decode, or this build of FFmpeg cannot encode.
    """
    large = replace(
        contract, picture=replace(contract.picture, height=_SCALE * contract.picture.height, width=_SCALE * contract.picture.width)
    )
    whole = _read(golden, large)
    first = whole[:CLIP_CHUNKS]
    made = [[*first[:-1], _cut(first[-1], large)]]
    made += [_read(clip, large)[:CLIP_CHUNKS] for clip in others] if others else _excerpts(whole)
    paths = [folder / f"{k:03d}.mp4" for k in range(len(made))]
    for chunks, path in zip(made, paths, strict=True):
        _encode(chunks, large, path)
    return paths


def _read(clip: Path, contract: Contract) -> list[Chunk]:
    with read_chunks(clip, contract) as stream:
        return list(stream)


def _excerpts(chunks: Sequence[Chunk]) -> list[list[Chunk]]:
    """Every pair of neighbouring chunks, as it is and mirrored: poor in variety, but another clip to the model."""
    pairs = [list(chunks[k : k + _EXCERPT_CHUNKS]) for k in range(max(1, len(chunks) - 1))]
    mirrored = [[replace(chunk, frames=np.ascontiguousarray(chunk.frames[:, :, ::-1])) for chunk in pair] for pair in pairs]
    return [*pairs, *mirrored][: MAX_CLIPS - 1]


def _cut(chunk: Chunk, contract: Contract) -> Chunk:
    frames, samples = round(contract.frames_per_chunk * _TAIL), round(contract.samples_per_chunk * _TAIL)
    frame_mask, sample_mask = chunk.frame_mask.copy(), chunk.sample_mask.copy()
    frame_mask[frames:], sample_mask[samples:] = False, False
    return replace(chunk, frame_mask=frame_mask, sample_mask=sample_mask)


def _encode(chunks: Sequence[Chunk], contract: Contract, path: Path) -> None:
    """Pictures on the contract's grid and mono sound at 16 kHz; what the masks say is not real is left out."""
    pictures = np.concatenate([chunk.frames for chunk in chunks]), np.concatenate([chunk.frame_mask for chunk in chunks])
    sound = np.concatenate([chunk.samples for chunk in chunks]), np.concatenate([chunk.sample_mask for chunk in chunks])
    try:
        with av.open(str(path), "w", options={"fflags": "+bitexact"}) as out:
            encoders = []
            if pictures[1].any():
                encoders.append(_encoded_video(_video_stream(out, contract), _video_frames(*pictures, contract.picture.fps)))
            if sound[1].any():
                encoders.append(_encoded_audio(_audio_stream(out), _audio_frames(*sound)))
            for packet in sorted(chain(*encoders), key=_decoding_time):
                out.mux(packet)
    except av.FFmpegError as error:
        raise MediaError(f"a proof clip cannot be encoded: {error}") from error


def _video_stream(out: OutputContainer, contract: Contract) -> av.VideoStream:
    codec = next((name for name in _VIDEO_OPTIONS if name in av.codecs_available), "mpeg4")
    stream = cast(av.VideoStream, out.add_stream(codec, rate=contract.picture.fps))
    stream.width, stream.height, stream.pix_fmt = contract.picture.width, contract.picture.height, "yuv420p"
    stream.codec_context.options = _VIDEO_OPTIONS[codec]
    return stream


def _audio_stream(out: OutputContainer) -> av.AudioStream:
    stream = out.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono")
    stream.codec_context.bit_rate = _AUDIO_BITS_PER_S
    return stream


def _video_frames(frames: NDArray[np.uint8], mask: NDArray[np.bool_], fps: Fraction) -> Iterator[av.VideoFrame]:
    for slot in np.flatnonzero(mask):
        frame = av.VideoFrame.from_ndarray(frames[slot], format="rgb24")
        frame.time_base, frame.pts = 1 / fps, int(slot)
        yield frame


def _audio_frames(samples: NDArray[np.float32], mask: NDArray[np.bool_]) -> Iterator[av.AudioFrame]:
    first, last = np.flatnonzero(mask)[[0, -1]].tolist()
    for start in range(first, last + 1, _AUDIO_FRAME):
        frame = av.AudioFrame.from_ndarray(samples[None, start : min(start + _AUDIO_FRAME, last + 1)], format="fltp", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = SAMPLE_RATE_HZ, Fraction(1, SAMPLE_RATE_HZ), int(start)
        yield frame


def _encoded_video(stream: av.VideoStream, frames: Iterable[av.VideoFrame]) -> list[AnyPacket]:
    return [packet for frame in (*frames, None) for packet in stream.encode(frame)]


def _encoded_audio(stream: av.AudioStream, frames: Iterable[av.AudioFrame]) -> list[AnyPacket]:
    return [packet for frame in (*frames, None) for packet in stream.encode(frame)]


def _decoding_time(packet: AnyPacket) -> Fraction:
    return (packet.dts or 0) * (packet.time_base or Fraction(0))
