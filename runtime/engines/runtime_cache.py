"""TensorRT-RTX's runtime cache: kernels it compiled for this GPU when a shape was first used, kept between runs.

It lies in the user's cache directory, one file for each plan, version and GPU. TensorRT-RTX checks what it is given and refuses what was
made elsewhere; then it is made anew. Losing it costs time and nothing else, so what goes wrong on disk is told to `logging` alone.
"""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from .cuda import Gpu

_LOGGER = logging.getLogger("shortcast.tensorrt")


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/shortcast/tensorrt-rtx`, or below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "shortcast" / "tensorrt-rtx"


class RuntimeCache:
    """One plan's cache."""

    def __init__(self, native: Any, plan_sha256: str, version: str, gpu: Gpu) -> None:
        """Reads the file, if it is there.

        Args:
            native: an empty `IRuntimeCache`.
            plan_sha256: of the plan.
            version: TensorRT-RTX's.
            gpu: the GPU in use.
        """
        self.native = native
        key = hashlib.sha256("\n".join((plan_sha256, version, gpu.name, gpu.capability)).encode()).hexdigest()
        self.path = cache_folder() / f"{key[:32]}.cache"
        self._known = b""
        try:
            content = self.path.read_bytes()
        except OSError:
            return
        if native.deserialize(content):
            self._known = content
        else:
            _LOGGER.debug("%s was made elsewhere or is damaged; it is made anew", self.path)

    def save(self) -> None:
        """Writes what is new, aside and renamed into place; another process may do the same, and the last one counts."""
        content = bytes(self.native.serialize() or b"")
        if content in (b"", self._known):
            return
        aside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(content)
            aside.replace(self.path)
            self._known = content
        except OSError as error:
            with suppress(OSError):
                aside.unlink()
            _LOGGER.debug("%s cannot be written: %s", self.path, error)
