"""A file-like object as PyAV may see it."""

from __future__ import annotations

import tempfile
from typing import IO, Any

MAX_SPOOL_BYTES = 4 << 30


class ByteReader:
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
