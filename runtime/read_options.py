"""What can be read, and how: the options of a source, in one value."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from .ahead import WhenFull
from .skips import DecodeMode


class Readable(Protocol):
    """A file-like object opened for reading bytes; `seek` and `tell` are used where it is seekable."""

    def read(self, size: int, /) -> bytes: ...


Source: TypeAlias = "str | os.PathLike[str] | Readable"
"""A path, a URL, `-` for standard input, or an object with `read`."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read a source, and where to stop."""

    decode_threads: int = 0
    """Threads for the video decoder; 0 lets FFmpeg choose by the number of cores. Pictures do not depend on it, save for how FFmpeg
    conceals damage."""
    open_timeout_s: float = 10.0
    """How long a URL may take to open. Files, pipes and objects wait for as long as their own reads do."""
    read_timeout_s: float | None = None
    """How long a source may send nothing. None is 10 s for a device and a URL, 30 s for an HLS playlist (a segment of it is often 10 s
    long), and for ever for standard input and a named pipe. Files and objects with `read` wait for as long as their own reads do."""
    max_pixels: int = 4096 * 4096
    """Larger pictures are refused before any is decoded: a 200 KB file can hold 8192x8192 of them."""
    max_seconds: float | None = None
    """Media beyond this is not read, and the stream says so. None is 3 hours of a file, and no limit for a live source."""
    max_consecutive_errors: int = 50
    """Packets in a row that may fail before a stream is given up."""
    decode: DecodeMode = "exact"
    """`fast` trades fidelity for time, see `skips`; what it does to scores is in docs/decode.md."""
    decode_budget: float | None = 30.0
    """Wall seconds of decoding for each second of media, after a minute that is free; media beyond is not read, and the stream says it is
    truncated. None: no limit."""
    use_pictures: bool = True
    use_sound: bool = True
    when_full: WhenFull | None = None
    """What happens to chunks of a source that is faster than the scorer. None lets the oldest go where a source keeps a clock of its own
    (a device, RTSP, RTMP, a live HLS playlist) and makes every other one wait."""
    deadline_s: float | None = None
    """How long after a chunk is ready its score is late; None is the length of a chunk."""
    reconnect: int | None = None
    """How often in a row a URL or a device that breaks off is opened again before it has ended. None is `DEFAULT_RECONNECTS` for a live
    URL, and never for anything else."""
    tell: Callable[[str], None] | None = None
    """Told in a sentence that a connection is lost, or back; called by the thread that reads."""
    hwaccel: str | None = None
    """Decode pictures on this hardware, `cuda` for NVDEC, or fail: software never takes its place. They may differ from the software
    decoder's where a stream is damaged."""


DEFAULT_RECONNECTS = 8
"""With the pauses between them about a minute and a half: a camera that starts again takes one."""
FREE_DECODE_S = 60.0
"""Wall seconds of decoding that no `decode_budget` takes away."""
