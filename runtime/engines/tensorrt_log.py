"""TensorRT's messages: kept for each build, handed on to `logging`, and rid of what says nothing to a user."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_LOGGER = logging.getLogger("shortcast.tensorrt")
_KEPT = ("INTERNAL_ERROR", "ERROR", "WARNING")
_NO_DRIVER = "cudaError 35"
"""On a machine without a GPU each error about something else drags this one along."""
_SOURCE_LINE = re.compile(r"\.?\s+In \S+ at /_src/[^)\s]*")


class BuildLog:
    """The one logger TensorRT is given in a process; a second one would be ignored with a warning."""

    def __init__(self, trt: Any) -> None:
        self._lock = threading.Lock()
        self._messages: list[tuple[str, str]] = []
        self.native = _native_logger(trt, self._take)

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """From here on, messages belong to one build; a second build in another thread waits."""
        with self._lock:
            self._messages = []
            yield

    def errors(self) -> str:
        """What went wrong, for a sentence; empty where TensorRT said nothing."""
        return "; ".join(readable(text for severity, text in self._messages if severity != "WARNING"))

    def warnings(self) -> tuple[str, ...]:
        return tuple(readable(text for severity, text in self._messages if severity == "WARNING"))

    def _take(self, severity: str, text: str) -> None:
        # Called from TensorRT's own threads; appending to a list is atomic.
        if severity in _KEPT:
            self._messages.append((severity, text))
        if severity != "VERBOSE":
            _LOGGER.debug("%s: %s", severity, text)


@cache
def build_log(trt: Any) -> BuildLog:
    """The log of one TensorRT module, made at first use and kept: the builder refers to it for as long as the process lives."""
    return BuildLog(trt)


def readable(messages: Iterable[str]) -> list[str]:
    """Messages without places in TensorRT's own sources, without repetition, and without the missing driver where that isn't all."""
    lines = [_SOURCE_LINE.sub("", line).strip() for message in messages for line in message.splitlines()]
    lines = list(dict.fromkeys(line for line in lines if line))
    return [line for line in lines if _NO_DRIVER not in line] or lines


def _native_logger(trt: Any, take: Any) -> Any:
    class Native(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            take(severity.name, msg)

    return Native()
