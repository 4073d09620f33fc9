"""Sources: finds what is to be read, opens its container without trusting it, and says in one sentence why it does not open.

Whatever FFmpeg or the system says on the way becomes a `MediaError`. PyAV installs a silent log callback when it is imported, so
nothing is printed, and no log level is touched here.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from io import BytesIO, RawIOBase
from pathlib import Path
from typing import IO, Any, Literal, Protocol, TypeAlias
from urllib.parse import urlsplit

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.format import formats_available

from ..errors import MediaError
from .ahead import WhenFull
from .devices import Device, device_at, parse_device
from .pipes import PipeReader, pipe_descriptor
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

Kind: TypeAlias = Literal["file", "pipe", "http", "stream", "device"]
"""What a source is to whoever waits for it: all there (file), as fast as it is read (pipe), or with a clock of its own (stream, device).
`http` is not known to be one or another before it is open."""

LOCAL_PROTOCOLS = "file,crypto,data"
URL_PROTOCOLS = "http,https,httpproxy,tls,tcp,udp,rtp,rtsp,rtmp,rtmps,srt,crypto,data"
"""Never `file`: a remote playlist must not read local files."""
URL_SCHEMES = frozenset({"http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srt", "tcp", "tls", "udp"})
_BYTE_SCHEMES = frozenset({"tcp", "tls"})
"""Whoever sends waits for us, and that they end is the end: a pipe that happens to be far away."""
READ_TIMEOUT_S, HLS_READ_TIMEOUT_S = 10.0, 30.0

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

REFUSALS = (
    av.error.HTTPUnauthorizedError,
    av.error.HTTPForbiddenError,
    av.error.HTTPBadRequestError,
    av.error.ArgumentError,
    av.error.ProtocolNotFoundError,
    av.error.DemuxerNotFoundError,
    av.error.DecoderNotFoundError,
    av.error.PermissionError,
)
"""Answers that asking again will not change: no access, no such protocol, a format that is not taken."""

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
    kind: Kind = "file"
    path: Path | None = None
    spooled: IO[bytes] | None = None
    pipe: PipeReader | None = None
    device: Device | None = None

    @property
    def remote(self) -> bool:
        """Whether bytes come from a URL."""
        return self.kind in ("http", "stream") or (isinstance(self.target, str) and self.kind == "pipe")

    def check(self) -> None:
        if isinstance(self.target, _ByteReader):
            self.target.check()

    def close(self) -> None:
        for held in (self.spooled, self.pipe):
            if held is not None:
                held.close()

    def interrupt(self) -> None:
        """Makes a read of a pipe that waits end; what FFmpeg reads itself ends after its timeout."""
        if self.pipe is not None:
            self.pipe.interrupt()

    def read_timeout_s(self, options: ReadOptions) -> float | None:
        """How long FFmpeg's own reads may take."""
        if self.kind in ("file", "pipe") and not self.remote:
            return None
        if options.read_timeout_s is not None:
            return options.read_timeout_s
        playlist = isinstance(self.target, str) and urlsplit(self.target).path.endswith((".m3u8", ".m3u"))
        return HLS_READ_TIMEOUT_S if playlist else READ_TIMEOUT_S

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


def find_source(source: Source, options: ReadOptions | None = None) -> Place:
    """Where a source is, and of what kind; a pipe is begun to be read, nothing else is opened."""
    timeout_s = (options or ReadOptions()).read_timeout_s
    if isinstance(source, str) and source == "-":
        stdin = getattr(sys.stdin, "buffer", None)
        if stdin is None:
            raise MediaError("standard input is closed, or is no byte stream")
        # Below its buffer: a thread that sits in a read of the buffer holds a lock without which the interpreter cannot end.
        return _find_object(getattr(stdin, "raw", stdin), "standard input", timeout_s)
    if isinstance(source, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", source):
        return _find_url(source)
    if isinstance(source, str) and (device := parse_device(source, formats_available)):
        return Place(_printable(f"{device.form}:{device.address}"), device.address, kind="device", device=device)
    if isinstance(source, (str, os.PathLike)):
        return _find_path(Path(source), timeout_s)
    if not callable(getattr(source, "read", None)):
        raise MediaError(f"a source is a path, a URL, '-' or an object with read(), not {type(source).__name__}")
    name = getattr(source, "name", None)
    return _find_object(source, _printable(name) if isinstance(name, str) else "the file object", timeout_s)


def _find_url(url: str) -> Place:
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    if scheme == "file":
        from urllib.request import url2pathname  # brings HTTP, TLS and e-mail with it

        return _find_path(Path(url2pathname(parts.path)), None)
    # User names, passwords and signed queries stay out of messages.
    name = _printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")
    if scheme not in URL_SCHEMES:
        raise MediaError(f"{name} cannot be opened: {parts.scheme}:// is none of {', '.join(sorted(URL_SCHEMES))}")
    return Place(name, url, kind="http" if scheme in ("http", "https") else "pipe" if scheme in _BYTE_SCHEMES else "stream")


def _find_path(path: Path, timeout_s: float | None) -> Place:
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
    if stat.S_ISFIFO(status.st_mode) and hasattr(os, "O_NONBLOCK"):
        return _find_fifo(path, name, timeout_s)
    if stat.S_ISCHR(status.st_mode) and (device := device_at(path)):
        raise MediaError(f"{name} is a device, not a media file; to read from it give {_printable(device)}")
    regular = stat.S_ISREG(status.st_mode)
    # "file:" keeps FFmpeg from taking a name such as concat:a.mp4 for a protocol.
    return Place(name, f"file:{path}", path=path if regular else None)


def _find_fifo(path: Path, name: str, timeout_s: float | None) -> Place:
    try:
        pipe = PipeReader.of_path(path, timeout_s=timeout_s)
    except OSError as error:
        raise MediaError(f"{name} cannot be opened: {said(error)}") from error
    return _find_pipe(pipe, name)


def _find_object(raw: Any, name: str, timeout_s: float | None) -> Place:
    descriptor = pipe_descriptor(raw)
    if descriptor is not None and isinstance(raw, RawIOBase):
        return _find_pipe(PipeReader(descriptor, timeout_s=timeout_s, owned=False), name)
    place = _seekable(_ByteReader(raw, name))  # what has a buffer may hold bytes in it already
    place.kind = "file" if descriptor is None else "pipe"
    return place


def _find_pipe(pipe: PipeReader, name: str) -> Place:
    try:
        place = _seekable(_ByteReader(pipe, name))
    except BaseException:
        pipe.close()
        raise
    place.pipe, place.kind = pipe, "pipe"
    return place


def _seekable(reader: _ByteReader) -> Place:
    """A place that can be seeked, if it has to be."""
    try:
        if reader.seekable() or not _index_comes_last(reader):
            return Place(reader.name, reader)
        spooled = reader.spool()
    except (OSError, ValueError) as error:
        raise MediaError(f"{reader.name} cannot be read: {said(error)}") from error
    return Place(reader.name, _ByteReader(spooled, reader.name), spooled=spooled)


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
    timeout_s = place.read_timeout_s(options)
    # As codec options max_pixels also binds the decoders that FFmpeg opens while probing, where a bomb would already go off.
    limits = {"max_pixels": str(options.max_pixels)}
    try:
        container = av.open(
            place.target,
            mode="r",
            format=place.device.form if place.device else None,
            options=limits,
            container_options=_demuxer_options(place),
            metadata_errors="replace",
            timeout=None if timeout_s is None else (options.open_timeout_s, timeout_s),
            hwaccel=_hwaccel(options),
        )
        place.check()
        return _on_hardware(container, place, options)
    except (*FOREIGN, NotImplementedError) as error:
        if options.hwaccel and options.use_pictures and place.failure() is None and _is_of_hardware(error):
            raise MediaError(
                f"{place.name} cannot be decoded on {options.hwaccel}: its decoder does not start ({said(error)}); "
                "run `shortcast doctor` to see the GPU, or leave out --hwaccel"
            ) from error
        raise _refusal(place, place.failure() or error, options) from error


def _demuxer_options(place: Place) -> dict[str, str]:
    if place.device:
        # What a device opens is no protocol, and what it yields is decoded by codecs alone: nothing else may be opened in its name.
        return {**place.device.options, "protocol_whitelist": "data", "format_whitelist": place.device.form}
    whitelists = {
        "protocol_whitelist": URL_PROTOCOLS if place.remote else LOCAL_PROTOCOLS,
        "format_whitelist": URL_FORMATS if place.remote else MEDIA_FORMATS,
    }
    # RTP over UDP loses packets where nothing asks for them again; TCP is tried first, UDP where a server has no other.
    rtsp = isinstance(place.target, str) and place.target.lower().startswith(("rtsp:", "rtsps:"))
    return whitelists | ({"rtsp_flags": "prefer_tcp"} if rtsp else {})


def kind_of(container: InputContainer, place: Place) -> Kind:
    """What an open source has turned out to be: of HTTP, a playlist that goes on is a stream, and what has no length a pipe."""
    if place.kind != "http":
        return place.kind
    if container.format.name.startswith("hls"):
        return "file" if container.duration else "stream"
    return "file" if container.size > 0 else "pipe"


def is_refused(error: MediaError, *, missing_counts: bool) -> bool:
    """Whether it makes no sense to open a source again.

    Args:
        error: what opening it raised.
        missing_counts: whether an answer that there is no such thing is final.
    """
    cause = error.__cause__
    return isinstance(cause, REFUSALS) or (missing_counts and isinstance(cause, av.error.HTTPNotFoundError))


def _hwaccel(options: ReadOptions) -> HWAccel | None:
    """Frames come back to the host; a stream the hardware can't decode is an error."""
    if options.hwaccel is None or not options.use_pictures:
        return None
    return HWAccel(device_type=options.hwaccel, allow_software_fallback=False)


def _is_of_hardware(error: BaseException) -> bool:
    """Whether FFmpeg failed to set up a device or its decoder; it says "operation not permitted" where there is no driver."""
    codes = (errno.EPERM, errno.ENOSYS, errno.ENODEV, errno.ENOMEM)
    return isinstance(error, (NotImplementedError, av.error.ExternalError)) or getattr(error, "errno", None) in codes


def _on_hardware(container: InputContainer, place: Place, options: ReadOptions) -> InputContainer:
    """The container, once its pictures are known to be decoded where they are asked to be."""
    for stream in container.streams.video[:1] if _hwaccel(options) else ():
        if not stream.codec_context.is_hwaccel:
            container.close()
            codec = stream.codec_context.name
            raise MediaError(
                f"{place.name} cannot be decoded on {options.hwaccel}: it has no decoder for {codec} there; leave out --hwaccel"
            )
    return container


def said(error: BaseException) -> str:
    """The system's or FFmpeg's own words, on one line."""
    return _printable(getattr(error, "strerror", None) or str(error) or type(error).__name__)


def _refusal(place: Place, error: BaseException, options: ReadOptions) -> MediaError:
    """One sentence for a source that does not open."""
    if isinstance(error, av.error.ExitError):
        return MediaError(f"{place.name} did not answer within {options.open_timeout_s:g} s")
    if isinstance(error, av.error.ProtocolNotFoundError):
        return MediaError(f"{place.name} cannot be opened: its protocol is not in the FFmpeg of this PyAV, or not allowed here")
    if place.device:
        return MediaError(f"{place.name} cannot be opened as a device: {said(error)}")
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
