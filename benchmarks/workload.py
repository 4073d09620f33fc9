"""The clips that are measured with: a pool, drawn from by seed with replacement, so that every contender gets the same ones in turn."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import DataError
from ..runtime.bundle import Bundle
from ..runtime.chunks import Chunk, read_chunks
from ..runtime.clip_list import list_clips
from .results import ClipFacts

SAMPLE = Path(__file__).parents[1] / "samples" / "sample.mp4"
_POOL_CHUNKS = 64
"""Decoded chunks kept for engine calls: some 50 MB of them."""


def find_clips(given: Sequence[Path]) -> tuple[Path, ...]:
    """The files named and those in folders named, or the sample that ships.

    Raises:
        DataError: a path does not exist, or there is no clip in them.
    """
    missing = [path for path in given if not path.exists()]
    if missing:
        raise DataError(f"{missing[0]} does not exist: give clips or folders of them")
    clips = tuple(Path(str(clip.source)) for clip in list_clips([str(path) for path in given], once=True)) if given else (SAMPLE,)
    if not clips:
        raise DataError(f"{given[0]} holds no clips")
    return clips


def describe_clip(path: Path, bundle: Bundle) -> ClipFacts:
    """What a clip is; it is decoded to its end, so one that cannot be scored is found before anything is measured.

    Raises:
        MediaError: it does not open, or nothing in it decodes.
    """
    with read_chunks(path, bundle.contract) as stream:
        *_, last = stream
        info = stream.info
    codecs = " and ".join(codec for codec in (info.video_codec, info.audio_codec) if codec)
    return ClipFacts(path.name, hashlib.sha256(path.read_bytes()).hexdigest(), last.end_s, info.width, info.height, codecs)


class Draw:
    """An endless, repeatable order of clips, drawn with replacement."""

    def __init__(self, clips: Sequence[Path], seed: int) -> None:
        self._clips = tuple(clips)
        self._random = random.Random(seed)

    def __iter__(self) -> Iterator[Path]:
        return self

    def __next__(self) -> Path:
        return self._random.choice(self._clips)


def chunk_pool(clips: Sequence[Path], bundle: Bundle) -> tuple[Chunk, ...]:
    """Decoded chunks for engine calls, the clips' first ones in turn."""
    streams = []
    for path in clips:
        with read_chunks(path, bundle.contract) as stream:
            streams.append([chunk for chunk, _ in zip(stream, range(_POOL_CHUNKS), strict=False)])
    depth = max(map(len, streams))
    turns = [stream[k] for k in range(depth) for stream in streams if k < len(stream)]
    return tuple(turns[:_POOL_CHUNKS])
