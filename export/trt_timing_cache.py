"""TensorRT's timing cache: how long each kernel took on this GPU, so that the next build need not time it again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import EngineError


class TimingCache:
    """A timing cache file: read before a build, written after one that worked. It has to outlive the build that uses it."""

    def __init__(self, config: Any, path: Path | None) -> None:
        self.notes: tuple[str, ...] = ()
        self._config = config
        self._path = path

    def __enter__(self) -> TimingCache:
        if self._path:
            self._cache = self._load(self._path)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._path and kind is None:
            self._save(self._path)

    def _load(self, path: Path) -> Any:
        try:
            content = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise EngineError(f"timing cache {path} cannot be read: {error}") from error
        cache = self._config.create_timing_cache(content)
        # The second argument would have it take timings from another GPU or TensorRT.
        if cache is None or not self._config.set_timing_cache(cache, False):
            self.notes = (f"the timing cache {path.name} is of another GPU or TensorRT and was begun anew",)
            cache = self._config.create_timing_cache(b"")
            self._config.set_timing_cache(cache, False)
        return cache

    def _save(self, path: Path) -> None:
        aside = path.with_name(f".{path.name}.writing-{os.getpid()}")
        try:
            aside.write_bytes(bytes(self._config.get_timing_cache().serialize()))
            aside.replace(path)
        except OSError as error:
            raise EngineError(f"timing cache {path} cannot be written: {error}") from error
        finally:
            aside.unlink(missing_ok=True)
