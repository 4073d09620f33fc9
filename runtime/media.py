"""Media: opens a source and, in one demux pass, yields its pictures and its sound on one continuous clock that starts at 0.

Reading goes through four steps, top to bottom in this file: find the source, open it, put every stream's timestamps on one clock,
decode. Whatever FFmpeg or the system says on the way becomes a `MediaError` here and nowhere else.

PyAV installs a silent log callback when it is imported, so nothing is printed, and no log level is touched here.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import sys
import tempfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Protocol, TypeAlias
from urllib.parse import urlsplit
from urllib.request import url2pathname

import av
import numpy as np
from av.container import InputContainer
from av.filter import Graph
from av.stream import Disposition
from numpy.typing import NDArray

from ..errors import MediaError
from .contract import SAMPLE_RATE_HZ
from .pictures import UPRIGHT, display_size, orientation_of, sane_pixel_aspect


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
    read_timeout_s: float = 10.0
    """How long a URL may send nothing."""
    max_pixels: int = 4096 * 4096
    """Larger pictures are refused before any is decoded: a 200 KB file can hold 8192x8192 of them."""
    max_seconds: float = 3 * 3600.0
    """Media beyond this is not read, and the stream says it is truncated."""
    max_consecutive_errors: int = 50
    """Packets in a row that may fail before a stream is given up."""
    use_pictures: bool = True
    use_sound: bool = True


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What a source holds: what its container declares and, as reading goes on, what really decoded."""

    has_video: bool
    """Until the end: a video stream is there and not given up. After the end: at least one picture decoded."""
    has_audio: bool
    """Until the end: an audio stream is there and not given up. After the end: some sound decoded."""
    width: int
    """Display size in square pixels, after rotation; 0 without video."""
    height: int
    rotation: int
    """Degrees counter-clockwise the coded pictures are turned to stand upright: 0, 90, 180 or 270."""
    video_codec: str | None
    audio_codec: str | None
    declared_s: float | None
    """What the container says it lasts; it can be wrong, or absent."""


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

# ---------------------------------------------------------------------------------------------------------------- find the source

LOCAL_PROTOCOLS = "file,crypto,data"
URL_PROTOCOLS = "http,https,httpproxy,tls,tcp,udp,rtp,rtsp,rtmp,rtmps,srt,crypto,data"
"""Never `file`: a remote playlist must not read local files."""
URL_SCHEMES = frozenset({"http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srt", "tcp", "tls", "udp"})

# Demuxers that open nothing but their own source: a text file named .mp4 is otherwise taken for an ffconcat or HLS playlist and
# plays other local files. Still images (image2, png_pipe, ...) are left out as well.
MEDIA_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,mpeg,mpegvideo,avi,flv,live_flv,ogg,wav,w64,mp3,aac,flac,gif,apng,asf,h264,hevc,"
    "vvc,av1,obu,ivf,m4v,amr,amrnb,amrwb,aiff,au,caf,ac3,eac3,mxf,nut,wv,dv,rm,mjpeg"
)
URL_FORMATS = f"{MEDIA_FORMATS},hls,rtsp,rtp,sdp"

MAX_BOXES = 1000
HEADER_BYTES = 64 * 1024
MAX_SPOOL_BYTES = 4 << 30

_ISO_BOXES = frozenset({b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"sidx", b"free", b"skip", b"wide", b"uuid", b"pnot"})

_FOREIGN = (av.FFmpegError, OSError, ValueError)
"""What PyAV raises for a source it cannot use; everything else is a bug, or the caller's own exception."""


class _ByteReader:
    """A file-like object as PyAV may see it.

    PyAV copies whatever `read` returns into a buffer of the size it asked for, and swallows KeyboardInterrupt; so reads are cut to
    size here, and an exception is kept, shown to FFmpeg as the end of the file, and raised by `check`.
    """

    def __init__(self, raw: Any, name: str) -> None:
        self.name = name
        self._raw = raw
        self._take = getattr(raw, "read1", None) or raw.read
        self._ahead = b""
        self._error: BaseException | None = None
        self.head = b""

    def read(self, size: int) -> bytes:
        try:
            data, self._ahead = (self._ahead or self._checked(size)), b""
        except BaseException as error:  # raised again by check()
            self._error = error
            return b""
        data, self._ahead = data[:size], data[size:]
        self.head = self.head or data
        return data

    def _checked(self, size: int) -> bytes:
        data = self._take(size)
        if data is None:
            raise BlockingIOError("it is non-blocking and has nothing to read")
        if isinstance(data, str):
            raise OSError("it is open as text; open it in binary mode")
        return bytes(data)

    def seekable(self) -> bool:
        if not (hasattr(self._raw, "seek") and hasattr(self._raw, "tell")):
            return False
        return bool(self._raw.seekable()) if hasattr(self._raw, "seekable") else True

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            self._ahead = b""
            self._raw.seek(offset, whence)
            return int(self._raw.tell())
        except BaseException as error:  # raised again by check()
            self._error = error
            return -1

    def tell(self) -> int:
        return int(self._raw.tell())

    def check(self) -> None:
        """Raises what reading raised."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def peek(self, size: int) -> bytes:
        """The next bytes, at least `size` of them unless the source ends; they stay to be read."""
        while len(self._ahead) < size and (data := self._checked(size - len(self._ahead))):
            self._ahead += data
        return self._ahead

    def spool(self) -> IO[bytes]:
        """Reads the source to its end into a temporary file that can be seeked."""
        spooled = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
        try:
            while data := self.read(1 << 20):
                spooled.write(data)
                if spooled.tell() > MAX_SPOOL_BYTES:
                    raise OSError("its index comes after more than 4 GiB of media; save it to a file first")
            self.check()
        except BaseException:
            spooled.close()
            raise
        spooled.seek(0)
        return spooled


@dataclass(slots=True)
class _Place:
    """Where a source was found: what to hand to FFmpeg, and how to speak of it."""

    name: str
    target: str | _ByteReader
    remote: bool = False
    path: Path | None = None
    spooled: IO[bytes] | None = None

    def check(self) -> None:
        if isinstance(self.target, _ByteReader):
            self.target.check()

    def close(self) -> None:
        if self.spooled is not None:
            self.spooled.close()

    def failure(self) -> BaseException | None:
        """What the source's own `read` raised, if it did; an exception that is no I/O error is raised."""
        try:
            self.check()
        except _FOREIGN as error:
            return error
        return None

    def is_encrypted(self) -> bool:
        with self.again() as file:
            return _is_encrypted(file)

    def again(self) -> AbstractContextManager[Any]:
        """The source's bytes once more, or as much of its head as was kept, to say what is wrong with it."""
        if self.path is not None:
            try:
                return self.path.open("rb")
            except OSError:  # gone since; FFmpeg's own words have to do
                return BytesIO()
        if isinstance(self.target, _ByteReader):
            return nullcontext(self.target if self.target.seekable() else BytesIO(self.target.head))
        return BytesIO()


def _find(source: Source) -> _Place:
    if isinstance(source, str) and source == "-":
        stdin = getattr(sys.stdin, "buffer", None)
        if stdin is None:
            raise MediaError("standard input is closed, or is no byte stream")
        return _find_object(stdin, "standard input")
    if isinstance(source, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", source):
        return _find_url(source)
    if isinstance(source, (str, os.PathLike)):
        return _find_path(Path(source))
    if not callable(getattr(source, "read", None)):
        raise MediaError(f"a source is a path, a URL, '-' or an object with read(), not {type(source).__name__}")
    name = getattr(source, "name", None)
    return _find_object(source, _printable(name) if isinstance(name, str) else "the file object")


def _find_url(url: str) -> _Place:
    parts = urlsplit(url)
    if parts.scheme == "file":
        return _find_path(Path(url2pathname(parts.path)))
    # User names, passwords and signed queries stay out of messages.
    name = _printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")
    if parts.scheme.lower() not in URL_SCHEMES:
        raise MediaError(f"{name} cannot be opened: {parts.scheme}:// is none of {', '.join(sorted(URL_SCHEMES))}")
    return _Place(name, url, remote=True)


def _find_path(path: Path) -> _Place:
    name = _printable(str(path))
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise MediaError(f"{name} does not exist") from error
    except (OSError, ValueError) as error:
        raise MediaError(f"{name} cannot be opened: {_said(error)}") from error
    if stat.S_ISDIR(status.st_mode):
        raise MediaError(f"{name} is a directory, not a media file")
    if stat.S_ISREG(status.st_mode) and status.st_size == 0:
        raise MediaError(f"{name} is empty")
    regular = stat.S_ISREG(status.st_mode)
    # "file:" keeps FFmpeg from taking a name such as concat:a.mp4 for a protocol.
    return _Place(name, f"file:{path}", path=path if regular else None)


def _find_object(raw: Any, name: str) -> _Place:
    reader = _ByteReader(raw, name)
    try:
        if reader.seekable() or not _index_comes_last(reader):
            return _Place(name, reader)
        spooled = reader.spool()
    except (OSError, ValueError) as error:
        raise MediaError(f"{name} cannot be read: {_said(error)}") from error
    return _Place(name, _ByteReader(spooled, name), spooled=spooled)


def _index_comes_last(reader: _ByteReader) -> bool:
    """True for an MP4 whose media comes before its index: FFmpeg reads all of such a pipe and then decodes nothing."""
    if reader.peek(8)[4:8] not in _ISO_BOXES:
        return False
    for kind, _ in _boxes(BytesIO(reader.peek(HEADER_BYTES))):
        if kind in (b"moov", b"moof", b"mdat"):
            return kind == b"mdat"
    return False


def _boxes(file: Any) -> Iterator[tuple[bytes, int]]:
    """Types and payload offsets of an MP4's top-level boxes, as far as they can be followed."""
    offset = 0
    for _ in range(MAX_BOXES):
        file.seek(offset)
        header = file.read(16)
        if len(header) < 8:
            return
        size, kind = struct.unpack(">I4s", header[:8])
        yield kind, offset + 8
        if size == 1 and len(header) == 16:
            size = struct.unpack(">Q", header[8:])[0]
        if size < 8:
            return
        offset += size


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


# ------------------------------------------------------------------------------------------------------------- say what is wrong


def _said(error: BaseException) -> str:
    """The system's or FFmpeg's own words, on one line."""
    return _printable(getattr(error, "strerror", None) or str(error) or type(error).__name__)


def _refusal(place: _Place, error: BaseException, options: ReadOptions) -> MediaError:
    """One sentence for a source that does not open."""
    if isinstance(error, av.error.ExitError):
        return MediaError(f"{place.name} did not answer within {options.open_timeout_s:g} s")
    if isinstance(error, av.error.ArgumentError):
        return MediaError(f"{place.name} is not in a media format shortcast opens (playlists and still images are not)")
    if isinstance(error, av.error.EOFError):
        return MediaError(f"{place.name} is truncated: it ends within its header")
    if isinstance(error, av.error.InvalidDataError) and not place.remote:
        with place.again() as file:
            return MediaError(f"{place.name} {_damage(file)}")
    return MediaError(f"{place.name} cannot be opened: {_said(error)}")


def _damage(file: Any) -> str:
    """What is wrong with a file in which FFmpeg finds no media."""
    file.seek(0)
    head = file.read(16)
    if not head:
        return "is empty"
    if head[4:8] not in _ISO_BOXES:
        return "is not a media file FFmpeg knows"
    kinds = [kind for kind, _ in _boxes(file)]
    if b"moov" in kinds:
        return "is encrypted, and there is no key for it" if _is_encrypted(file) else "has a damaged MP4 header (its moov atom)"
    if b"moof" in kinds:
        return "holds MP4 fragments without their moov atom: the initialisation segment is missing"
    return "is a truncated MP4: moov atom missing, so it was cut short or its recording never finished"


def _is_encrypted(file: Any) -> bool:
    """True where an MP4's moov box describes protected samples (ISO/IEC 23001-7 sample entries)."""
    for kind, offset in _boxes(file):
        if kind == b"moov":
            file.seek(offset)
            header = file.read(1 << 20)
            return b"encv" in header or b"enca" in header
    return False


# ----------------------------------------------------------------------------------------------------------------- one clock

BACKWARD_JUMP_S = 0.5
FORWARD_JUMP_S = 5.0
"""A stream that goes back further than the first, or ahead further than the second, has jumped: it is put where it left off."""
SAME_CLOCK_S = 60.0
"""A start time is believed, and a stream may begin late, within this of what is already known."""
MAX_PICTURE_S = 60.0


@dataclass(slots=True)
class _Track:
    """One stream on the clock: where its last unit began and ended, in continuous seconds."""

    shift: float | None = None
    start: float = 0.0
    end: float = 0.0


class Timeline:
    """Puts the timestamps of all streams on one continuous clock.

    The origin is the earliest start of the streams used. A stream that jumps (more than 0.5 s back, more than 5 s ahead) is a
    discontinuity: the epoch grows by one and the stream goes on where it left off. The stream beside it, which jumps a few packets
    later, adopts the same shift instead of making a second one, and so they stay in sync. A stream that merely begins late, or
    falls silent while the other goes on, has not jumped.
    """

    def __init__(self, starts: Sequence[float]) -> None:
        self.epoch = 0
        self._starts = starts
        self._origin: float | None = None
        self._shift = 0.0
        self._tracks: list[_Track] = []

    def track(self) -> _Track:
        """One more stream."""
        self._tracks.append(_Track())
        return self._tracks[-1]

    def place(self, track: _Track, pts_s: float | None, duration_s: float) -> float:
        """The continuous start, in seconds, of a unit with this timestamp; without one it follows the unit before it."""
        track.start = track.end if pts_s is None else self._settle(track, pts_s)
        track.end = track.start + duration_s
        return track.start

    def _settle(self, track: _Track, pts_s: float) -> float:
        if self._origin is None:
            self._origin = min([pts_s, *(s for s in self._starts if pts_s - SAME_CLOCK_S <= s <= pts_s)])
        raw = pts_s - self._origin
        if track.shift is None:
            return self._begin(track, raw)
        if self._jumped(track, raw + track.shift):
            self._rejoin(track, raw)
        return raw + track.shift

    def _begin(self, track: _Track, raw: float) -> float:
        front = self._front_beside(track) or 0.0
        believable = -SAME_CLOCK_S <= raw + self._shift <= front + SAME_CLOCK_S
        track.shift = self._shift if believable else front - raw
        return raw + track.shift

    def _jumped(self, track: _Track, at: float) -> bool:
        if at < track.start - BACKWARD_JUMP_S:
            return True
        beside = self._front_beside(track)
        # Landing where the other stream already is means a pause in this one, not a jump of the clock.
        return at > track.end + FORWARD_JUMP_S and (beside is None or at > beside + FORWARD_JUMP_S)

    def _rejoin(self, track: _Track, raw: float) -> None:
        if track.shift != self._shift and abs(raw + self._shift - track.end) <= FORWARD_JUMP_S:
            track.shift = self._shift
            return
        track.shift = self._shift = track.end - raw
        self.epoch += 1

    def _front_beside(self, track: _Track) -> float | None:
        return max((t.end for t in self._tracks if t is not track and t.shift is not None), default=None)


# ---------------------------------------------------------------------------------------------------------------------- decode

_Run: TypeAlias = "tuple[int, NDArray[np.float32]]"

SOUND_GAP_S = 0.020
"""Sound whose timestamps stray less than this from the sample count is contiguous: containers round to a millisecond or a tick."""
SOUND_GONE_S = 2.0
"""Sound is no longer waited for once video packets have advanced this far without one of sound."""
PICTURES_GONE_S = 5.0
"""Pictures are no longer waited for once sound has advanced this far without one video packet."""
MAX_GROUP_PACKETS = 600
MAX_GROUP_BYTES = 32 << 20


class _Decoder:
    """One stream's decoder. Packets that fail are counted and skipped; too many in a row and the stream is given up."""

    def __init__(self, stream: Any, *, max_errors: int) -> None:
        self.stream = stream
        self.index: int = stream.index
        self.lost = 0
        self.given_up = False
        self.drained = False
        self._codec = stream.codec_context
        self._time_base = float(stream.time_base)
        self._max_errors = max_errors
        self._failures = 0
        self._group: list[Any] = []
        self._group_bytes = 0
        self._last_pts: int | None = None
        self._repeated_until: int | None = None

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

    def drain(self) -> list[Any]:
        """The frames the decoder still holds. Decoding can go on afterwards."""
        self.drained = True
        return [] if self.given_up else self._fresh(self._attempt(None))

    def _attempt(self, packet: Any) -> list[Any]:
        try:
            frames: list[Any] = self._codec.decode(packet)
        except (av.FFmpegError, ValueError):
            self.lost += 1
            self._failures += 1
            self.given_up = self._failures > self._max_errors
            return []
        self._failures = 0
        return frames

    def _remember(self, packet: Any) -> None:
        """Keeps the packets since the last keyframe, which a drained decoder needs to go on."""
        if packet.is_keyframe or len(self._group) >= MAX_GROUP_PACKETS or self._group_bytes >= MAX_GROUP_BYTES:
            self._group, self._group_bytes = [], 0
        self._group.append(packet)
        self._group_bytes += packet.size

    def _resume(self) -> None:
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


class _PictureStream:
    """The video stream that is used: packets in, pictures on the clock out."""

    def __init__(self, stream: Any, *, timeline: Timeline, options: ReadOptions) -> None:
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
        codec.thread_type = "AUTO"
        codec.thread_count = options.decode_threads
        codec.options = {"max_pixels": str(options.max_pixels)}

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
        return self._placed(self.decoder.decode(packet))

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


class _SoundStream:
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


class Media:
    """An open source; `open_media` makes it. Iterate `events()` once, then close; `with` does the latter."""

    def __init__(self, container: InputContainer, place: _Place, options: ReadOptions) -> None:
        self.name = place.name
        self.truncated = False
        """Demuxing failed, a stream was given up, or `max_seconds` was reached."""
        self._container = container
        self._place = place
        self._options = options
        self._failure: BaseException | None = None
        self._finished = False
        video = _best(container, "video") if options.use_pictures else None
        audio = _best(container, "audio") if options.use_sound else None
        streams = [s for s in (video, audio) if s is not None]
        if not streams:
            raise MediaError(f"{self.name} {_absence(container, options)}")
        if video is not None and video.width * video.height > options.max_pixels:
            raise MediaError(f"{self.name} has pictures of {video.width}x{video.height}, over the limit of {options.max_pixels} pixels")
        timeline = Timeline([float(s.start_time * s.time_base) for s in streams if s.start_time is not None])
        self._pictures = _PictureStream(video, timeline=timeline, options=options) if video is not None else None
        self._sound = _SoundStream(audio, timeline=timeline, options=options) if audio is not None else None
        self._decoders = [side.decoder for side in (self._pictures, self._sound) if side]
        self._codecs = tuple(s.codec_context.codec.canonical_name if s is not None else None for s in (video, audio))
        self._declared_s = _declared_s(container, streams)
        self._sound_s_at_last_picture = 0.0
        self._pictures_gone = False
        self._sound_gone = False
        self._without_sound_s = 0.0

    def __enter__(self) -> Media:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Releases the source. A file object stays open: it is its owner's."""
        for decoder in self._decoders:
            decoder.close()
        self._container.close()
        self._place.close()

    @property
    def info(self) -> MediaInfo:
        """What is known so far; exact once `events` has ended."""
        pictures = self._pictures
        orientation = pictures.orientation if pictures else UPRIGHT
        size = (0, 0)
        if pictures and all(pictures.size):
            size = display_size(*pictures.size, pixel_aspect=pictures.pixel_aspect, orientation=orientation)
        return MediaInfo(
            has_video=self._has(pictures),
            has_audio=self._has(self._sound),
            width=size[0],
            height=size[1],
            rotation=orientation.rotation,
            video_codec=self._codecs[0],
            audio_codec=self._codecs[1],
            declared_s=self._declared_s,
        )

    def _has(self, side: _PictureStream | _SoundStream | None) -> bool:
        return side is not None and (side.count > 0 or (side.decoder.usable and not self._finished))

    @property
    def pixel_aspect(self) -> Fraction:
        """The video's sample aspect ratio."""
        return self._pictures.pixel_aspect if self._pictures else Fraction(1)

    @property
    def lost_packets(self) -> int:
        """Packets that did not decode so far."""
        return sum(decoder.lost for decoder in self._decoders)

    @property
    def awaits_pictures(self) -> bool:
        """False once no picture is to be waited for: no video, given up, or sound went on for 5 s without a video packet."""
        return self._pictures is not None and self._pictures.decoder.usable and not self._pictures_gone

    @property
    def awaits_sound(self) -> bool:
        """False once no sound is to be waited for: no audio, given up, or video went on for 2 s without an audio packet."""
        return self._sound is not None and self._sound.decoder.usable and not self._sound_gone

    def events(self) -> Generator[Event, None, None]:
        """Pictures and sound, in the order they decode.

        Raises:
            MediaError: nothing at all decoded.
        """
        for event in self._all_events():
            if event.start_s >= self._options.max_seconds:
                self.truncated = True
                break
            yield event
        self._finished = True
        if not any(side.count for side in (self._pictures, self._sound) if side):
            raise self._nothing_decoded()

    def _all_events(self) -> Iterator[Event]:
        for packet in self._packets():
            if self._pictures and packet.stream_index == self._pictures.decoder.index:
                yield from self._picture_events(self._pictures, packet)
            elif self._sound:
                yield from self._sound_events(self._sound, packet)
            if not any(decoder.usable for decoder in self._decoders):
                break
        self.truncated = self.truncated or any(decoder.given_up for decoder in self._decoders)
        for side in (self._pictures, self._sound):
            if side:
                yield from side.drain()

    def _picture_events(self, pictures: _PictureStream, packet: Any) -> Iterator[Event]:
        self._pictures_gone = False
        yield from pictures.accept(packet)
        if self._sound and not self._sound_gone:
            self._sound_s_at_last_picture = self._sound.end_s
            self._without_sound_s += pictures.step_s(packet)
            if self._without_sound_s > SOUND_GONE_S:
                yield from self._sound.settle()
                self._sound_gone = True

    def _sound_events(self, sound: _SoundStream, packet: Any) -> Iterator[Event]:
        self._sound_gone, self._without_sound_s = False, 0.0
        yield from sound.accept(packet)
        if self._pictures and self.awaits_pictures and sound.end_s - self._sound_s_at_last_picture > PICTURES_GONE_S:
            yield from self._pictures.drain()
            self._pictures_gone = True

    def _packets(self) -> Iterator[Any]:
        """Packets that carry data, up to the end or to the first error of the demuxer, which is kept."""
        packets = self._container.demux([decoder.stream for decoder in self._decoders])
        while True:
            try:
                packet = next(packets, None)
                self._place.check()
            except _FOREIGN as error:
                self.truncated, self._failure = True, error
                return
            if packet is None:
                return
            if packet.size:
                yield packet

    def _nothing_decoded(self) -> MediaError:
        """One sentence for a source that opened, but in which nothing decodes."""
        if isinstance(self._failure, av.error.ExitError):
            return MediaError(f"{self.name} sent nothing for {self._options.read_timeout_s:g} s")
        if self._place.is_encrypted():
            return MediaError(f"{self.name} is encrypted, and there is no key for it")
        codecs = " and ".join(codec for codec in self._codecs if codec)
        if self.lost_packets:
            failed = "1 packet" if self.lost_packets == 1 else f"{self.lost_packets} packets"
            return MediaError(f"{self.name}: nothing in it decodes ({codecs}, {failed} failed)")
        if self._failure:
            return MediaError(f"{self.name} cannot be read ({codecs}): {_said(self._failure)}")
        return MediaError(f"{self.name} ends after its header: it declares {codecs} but holds no media")


def _best(container: InputContainer, kind: Literal["video", "audio"]) -> Any:
    """FFmpeg's choice of a stream, or None; cover art is not video, and a stream without a decoder is of no use."""
    stream = container.streams.best(kind)
    if stream is None or stream.codec_context is None or stream.disposition & Disposition.attached_pic:
        return None
    return stream


def _absence(container: InputContainer, options: ReadOptions) -> str:
    kinds = {stream.type for stream in container.streams} & {"video", "audio"}
    if not kinds:
        return "has no video or audio stream"
    if options.use_pictures and options.use_sound:
        return f"has no stream FFmpeg can decode (only {' and '.join(sorted(kinds))} of an unknown codec, or a cover picture)"
    return f"has no {'video' if options.use_pictures else 'audio'} stream, and the other one is not to be used"


def _declared_s(container: InputContainer, streams: Sequence[Any]) -> float | None:
    """How long the used streams claim to last; where one does not say, what the container says."""
    if all(stream.duration for stream in streams):
        starts = [float((stream.start_time or 0) * stream.time_base) for stream in streams]
        ends = [start + float(stream.duration * stream.time_base) for start, stream in zip(starts, streams, strict=True)]
        return max(ends) - min(starts)
    return container.duration / av.time_base if container.duration else None


def open_media(source: Source, *, options: ReadOptions | None = None) -> Media:
    """Opens a source and chooses its streams; nothing is decoded yet.

    Args:
        source: a path, a URL, `-` for standard input, or an object with `read`. An MP4 whose index comes last is copied to a
            temporary file first if it cannot be seeked.
        options: limits and choices.

    Raises:
        MediaError: it cannot be opened, holds no usable stream, or exceeds `max_pixels`. The message is one sentence.
    """
    options = options or ReadOptions()
    place = _find(source)
    try:
        container = _open_container(place, options)
        try:
            return Media(container, place, options)
        except BaseException:
            container.close()
            raise
    except BaseException:
        place.close()
        raise


def _open_container(place: _Place, options: ReadOptions) -> InputContainer:
    try:
        container = av.open(
            place.target,
            mode="r",
            # As codec options these also bind the decoders that FFmpeg opens while probing, where a bomb would already go off.
            options={"max_pixels": str(options.max_pixels)},
            container_options={
                "protocol_whitelist": URL_PROTOCOLS if place.remote else LOCAL_PROTOCOLS,
                "format_whitelist": URL_FORMATS if place.remote else MEDIA_FORMATS,
            },
            metadata_errors="replace",
            timeout=(options.open_timeout_s, options.read_timeout_s) if place.remote else None,
        )
        place.check()
        return container
    except _FOREIGN as error:
        raise _refusal(place, place.failure() or error, options) from error
