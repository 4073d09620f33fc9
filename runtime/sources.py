"""Sources: finds what is to be read, without opening more of it than is needed to know what it is.

Whatever the system says on the way becomes a `MediaError` of one sentence.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from io import BytesIO, RawIOBase
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias
from urllib.parse import urlsplit

import av
from av.format import formats_available

from ..errors import MediaError
from .byte_reader import ByteReader
from .devices import Device, device_at, parse_device
from .iso_boxes import HEAD_BYTES, index_comes_last, is_encrypted, is_iso
from .pipes import PipeReader, pipe_descriptor
from .read_options import ReadOptions, Source

Kind: TypeAlias = Literal["file", "pipe", "http", "stream", "device"]
"""What a source is to whoever waits for it: all there (file), as fast as it is read (pipe), or with a clock of its own (stream, device).
`http` is not known to be one or another before it is open."""

URL_SCHEMES = frozenset({"http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srt", "tcp", "tls", "udp"})
_BYTE_SCHEMES = frozenset({"tcp", "tls"})
"""Whoever sends waits for us, and that they end is the end: a pipe that happens to be far away."""
READ_TIMEOUT_S, HLS_READ_TIMEOUT_S = 10.0, 30.0

FOREIGN = (av.FFmpegError, OSError, ValueError)
"""What PyAV raises for a source it cannot use; everything else is a bug, or the caller's own exception."""


@dataclass(slots=True)
class Place:
    """Where a source was found: what to hand to FFmpeg, and how to speak of it."""

    name: str
    target: str | ByteReader
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
        if isinstance(self.target, ByteReader):
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
            return is_encrypted(file)

    def again(self) -> AbstractContextManager[Any]:
        """The source's bytes once more, or as much of its head as was kept, to say what is wrong with it."""
        if self.path is not None:
            try:
                return self.path.open("rb")
            except OSError:  # gone since; FFmpeg's own words have to do
                return BytesIO()
        if isinstance(self.target, ByteReader):
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
        return Place(printable(f"{device.form}:{device.address}"), device.address, kind="device", device=device)
    if isinstance(source, (str, os.PathLike)):
        return _find_path(Path(source), timeout_s)
    if not callable(getattr(source, "read", None)):
        raise MediaError(f"a source is a path, a URL, '-' or an object with read(), not {type(source).__name__}")
    name = getattr(source, "name", None)
    return _find_object(source, printable(name) if isinstance(name, str) else "the file object", timeout_s)


def _find_url(url: str) -> Place:
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    if scheme == "file":
        from urllib.request import url2pathname  # brings HTTP, TLS and e-mail with it

        return _find_path(Path(url2pathname(parts.path)), None)
    # User names, passwords and signed queries stay out of messages.
    name = printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")
    if scheme not in URL_SCHEMES:
        raise MediaError(f"{name} cannot be opened: {parts.scheme}:// is none of {', '.join(sorted(URL_SCHEMES))}")
    return Place(name, url, kind="http" if scheme in ("http", "https") else "pipe" if scheme in _BYTE_SCHEMES else "stream")


def _find_path(path: Path, timeout_s: float | None) -> Place:
    name = printable(str(path))
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
        raise MediaError(f"{name} is a device, not a media file; to read from it give {printable(device)}")
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
    place = _seekable(ByteReader(raw, name))  # what has a buffer may hold bytes in it already
    place.kind = "file" if descriptor is None else "pipe"
    return place


def _find_pipe(pipe: PipeReader, name: str) -> Place:
    try:
        place = _seekable(ByteReader(pipe, name))
    except BaseException:
        pipe.close()
        raise
    place.pipe, place.kind = pipe, "pipe"
    return place


def _seekable(reader: ByteReader) -> Place:
    """A place that can be seeked, if it has to be."""
    try:
        if reader.seekable() or not _index_comes_last(reader):
            return Place(reader.name, reader)
        spooled = reader.spool()
    except (OSError, ValueError) as error:
        raise MediaError(f"{reader.name} cannot be read: {said(error)}") from error
    return Place(reader.name, ByteReader(spooled, reader.name), spooled=spooled)


def _index_comes_last(reader: ByteReader) -> bool:
    """No more is read ahead than it takes to tell: a live source that is no MP4 is not waited for."""
    return is_iso(reader.peek(8)) and index_comes_last(reader.peek(HEAD_BYTES))


def said(error: BaseException) -> str:
    """The system's or FFmpeg's own words, on one line."""
    return printable(getattr(error, "strerror", None) or str(error) or type(error).__name__)


def printable(text: str) -> str:
    """On one line, and nothing in it that a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in text)
