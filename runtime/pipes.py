"""Pipes: bytes as they come, waited for no longer than asked, and given up the moment nobody wants them.

A library that sits in `read` on a pipe hears neither of a timeout nor of Ctrl-C; so a pipe is read here, and FFmpeg is handed the bytes.
"""

from __future__ import annotations

import os
import select
import stat
from pathlib import Path
from time import monotonic
from typing import Any

_LOOK_S = 0.1
"""How often a wait for bytes looks whether it has been given up."""


class PipeReader:
    """The bytes of a pipe, a socket or a terminal, by its file descriptor."""

    def __init__(self, descriptor: int, *, timeout_s: float | None, owned: bool) -> None:
        """Reads from a descriptor.

        Args:
            descriptor: what to read.
            timeout_s: how long nothing may come; None waits for ever.
            owned: whether `close` closes the descriptor.
        """
        self._descriptor: int | None = descriptor
        self._timeout_s = timeout_s
        self._owned = owned
        self._stopped = False

    @classmethod
    def of_path(cls, path: Path, *, timeout_s: float | None) -> PipeReader:
        """A named pipe. That nobody writes to it yet is a pause like any other: opening it does not wait."""
        return cls(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), timeout_s=timeout_s, owned=True)

    def read(self, size: int) -> bytes:
        """At least one byte, or none at the end or once `interrupt` was called.

        Raises:
            TimeoutError: nothing came for too long.
        """
        descriptor = self._descriptor
        if descriptor is None or not self._wait(descriptor):
            return b""
        return os.read(descriptor, size)

    def interrupt(self) -> None:
        """Makes a read that waits, and every later one, end as at the end of the pipe. From any thread."""
        self._stopped = True

    def close(self) -> None:
        """Closes the descriptor if it is this object's own."""
        if self._owned and self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None

    def _wait(self, descriptor: int) -> bool:
        """True once there is something to read, the end included; False where it was given up."""
        poll = select.poll()
        poll.register(descriptor, select.POLLIN | select.POLLHUP)
        until_s = None if self._timeout_s is None else monotonic() + self._timeout_s
        while not self._stopped:
            left_s = _LOOK_S if until_s is None else min(_LOOK_S, until_s - monotonic())
            if left_s < 0:
                raise TimeoutError(f"it sent nothing for {self._timeout_s:g} s")
            if poll.poll(1e3 * left_s):
                return True
        return False


def pipe_descriptor(source: Any) -> int | None:
    """The file descriptor of an object that reads from a pipe, a socket or a character device; None of any other, and where the
    system cannot wait for one (Windows).
    """
    try:
        descriptor = int(source.fileno())
        mode = os.fstat(descriptor).st_mode
    except (AttributeError, OSError, ValueError, TypeError):
        return None
    is_pipe = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)
    return descriptor if is_pipe and hasattr(select, "poll") else None
