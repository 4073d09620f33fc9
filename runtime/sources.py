"""Sources: finds what is to be read, opens its container without trusting it, and says in one sentence why it does not open.

Whatever FFmpeg or the system says on the way becomes a `MediaError`. PyAV installs a silent log callback when it is imported, so
nothing is printed, and no log level is touched here.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias
from urllib.parse import urlsplit
from urllib.request import url2pathname

import av
from av.container import InputContainer

from ..errors import MediaError
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
    read_timeout_s: float = 10.0
    """How long a URL may send nothing."""
    max_pixels: int = 4096 * 4096
    """Larger pictures are refused before any is decoded: a 200 KB file can hold 8192x8192 of them."""
    max_seconds: float = 3 * 3600.0
    """Media beyond this is not read, and the stream says it is truncated."""
    max_consecutive_errors: int = 50
    """Packets in a row that may fail before a stream is given up."""
    decode: DecodeMode = "exact"
    """`fast` trades fidelity for time, see `skips`; what it does to scores is in docs/decode.md."""
    decode_budget: float | None = 30.0
    """Wall seconds of decoding for each second of media, after a minute that is free; media beyond is not read, and the stream says it is
    truncated. None: no limit."""
    use_pictures: bool = True
    use_sound: bool = True


FREE_DECODE_S = 60.0
"""Wall seconds of decoding that no `decode_budget` takes away."""

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

FOREIGN = (av.FFmpegError, OSError, ValueError)
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
class Place:
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
        except FOREIGN as error:
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


def find_source(source: Source) -> Place:
    if isinstance(source, str) and source == "-":
        stdin = getattr(sys.stdin, "buffer", None)
        if stdin is None:
            raise MediaError("standard input is closed, or is no byte stream")
        # Below its buffer: a thread that sits in a read of the buffer holds a lock without which the interpreter cannot end.
        return _find_object(getattr(stdin, "raw", stdin), "standard input")
    if isinstance(source, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", source):
        return _find_url(source)
    if isinstance(source, (str, os.PathLike)):
        return _find_path(Path(source))
    if not callable(getattr(source, "read", None)):
        raise MediaError(f"a source is a path, a URL, '-' or an object with read(), not {type(source).__name__}")
    name = getattr(source, "name", None)
    return _find_object(source, _printable(name) if isinstance(name, str) else "the file object")


def _find_url(url: str) -> Place:
    parts = urlsplit(url)
    if parts.scheme == "file":
        return _find_path(Path(url2pathname(parts.path)))
    # User names, passwords and signed queries stay out of messages.
    name = _printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")
    if parts.scheme.lower() not in URL_SCHEMES:
        raise MediaError(f"{name} cannot be opened: {parts.scheme}:// is none of {', '.join(sorted(URL_SCHEMES))}")
    return Place(name, url, remote=True)


def _find_path(path: Path) -> Place:
    name = _printable(str(path))
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise MediaError(f"{name} does not exist") from error
    except (OSError, ValueError) as error:
        raise MediaError(f"{name} cannot be opened: {said(error)}") from error
    if stat.S_ISDIR(status.st_mode):
        raise MediaError(f"{name} is a directory, not a media file")
    if stat.S_ISREG(status.st_mode) and status.st_size == 0:
        raise MediaError(f"{name} is empty")
    regular = stat.S_ISREG(status.st_mode)
    # "file:" keeps FFmpeg from taking a name such as concat:a.mp4 for a protocol.
    return Place(name, f"file:{path}", path=path if regular else None)


def _find_object(raw: Any, name: str) -> Place:
    reader = _ByteReader(raw, name)
    try:
        if reader.seekable() or not _index_comes_last(reader):
            return Place(name, reader)
        spooled = reader.spool()
    except (OSError, ValueError) as error:
        raise MediaError(f"{name} cannot be read: {said(error)}") from error
    return Place(name, _ByteReader(spooled, name), spooled=spooled)


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


def open_container(place: Place, options: ReadOptions) -> InputContainer:
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
    except FOREIGN as error:
        raise _refusal(place, place.failure() or error, options) from error


def said(error: BaseException) -> str:
    """The system's or FFmpeg's own words, on one line."""
    return _printable(getattr(error, "strerror", None) or str(error) or type(error).__name__)


def _refusal(place: Place, error: BaseException, options: ReadOptions) -> MediaError:
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
    return MediaError(f"{place.name} cannot be opened: {said(error)}")


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
