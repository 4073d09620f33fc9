"""Engines: one protocol, interchangeable backends. An engine runs one graph, numpy in and numpy out, and owns no state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import EngineError
from ..start_cache import StartCache

BACKENDS = ("onnxruntime", "tensorrt")
"""Backends `open_engine` can open from a bundle's ONNX file."""

Tensors = dict[str, NDArray[np.generic]]
Feeds = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, element type and shape of one graph input or output."""

    name: str
    dtype: str
    """numpy's name for it: `float32`, `uint8`."""
    shape: tuple[int | str, ...]
    """A string names a dimension that may vary from call to call."""

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype} ({', '.join(map(str, self.shape))})"


class Engine(Protocol):
    """What every backend offers. Recurrent state is data: it goes in and comes out, and the stream owns it.

    A backend that can keep state on its device is a `Stepper` as well (`state.py`).
    """

    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...

    def run(self, feeds: Mapping[str, NDArray[np.generic]]) -> Tensors:
        """Runs the graph once.

        Args:
            feeds: one array for every input, of the input's type and shape.

        Returns:
            One array for every output, by name.

        Raises:
            EngineError: `feeds` do not fit `inputs`, or the backend failed.
        """
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Engine: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


def check_feeds(inputs: tuple[TensorSpec, ...], feeds: Mapping[str, NDArray[np.generic]]) -> None:
    """Checks names, types and shapes, also that a named dimension has one size in all inputs.

    Raises:
        EngineError: says which tensor, what was expected and what came.
    """
    expected = {spec.name for spec in inputs}
    if set(feeds) != expected:
        raise EngineError(f"feeds: expected {sorted(expected)}, got {sorted(feeds)}")
    sizes: dict[str, int] = {}
    for spec in inputs:
        array = feeds[spec.name]
        fits = array.dtype.name == spec.dtype and array.ndim == len(spec.shape)
        if fits:
            wanted = (
                sizes.setdefault(dim, size) if isinstance(dim, str) else dim for dim, size in zip(spec.shape, array.shape, strict=True)
            )
            fits = all(want == size for want, size in zip(wanted, array.shape, strict=True))
        if not fits:
            raise EngineError(f"expected {spec}, got {array.dtype.name} {array.shape}")


def open_engine(
    path: Path, *, backend: str = "onnxruntime", device: str | None = None, threads: int | None = None, cache: StartCache | None = None
) -> Engine:
    """Opens the graph at `path` with the backend and on the device asked for, or fails: nothing falls back silently.

    Args:
        path: an ONNX file; for `tensorrt` that of a bundle, whose engine for it is opened.
        backend: one of `BACKENDS`.
        device: `cpu` or `cuda`; None is where the backend is at home: the GPU for `tensorrt`, else the CPU.
        threads: threads for one call; None takes the CPU quota.
        cache: where what a start prepares is kept for the next one; None prepares it every time.

    Raises:
        EngineError: the backend is unknown, not installed, or can't use the device.
    """
    (engine,) = open_engines([path], backend=backend, device=device, threads=threads, cache=cache)
    return engine


def open_engines(
    paths: Sequence[Path],
    *,
    backend: str = "onnxruntime",
    device: str | None = None,
    threads: int | None = None,
    cache: StartCache | None = None,
) -> tuple[Engine, ...]:
    """Opens several graphs that never run at once: on a GPU they share one stream and one block of scratch memory.

    See `open_engine` for the arguments and what it raises; where one engine doesn't open, none stays open.
    """
    device = device or home_device(backend)
    if backend == "onnxruntime":
        from .onnxruntime import OnnxRuntimeEngine

        return tuple(OnnxRuntimeEngine(path, device=device, threads=threads, cache=cache) for path in paths)
    if backend == "tensorrt":
        if device != "cuda":
            raise EngineError(f"TensorRT engines run on the GPU, and the device asked for is {device}; leave it out, or say cuda")
        from .tensorrt import open_tensorrt

        return open_tensorrt(paths)
    raise EngineError(f"engine {backend!r} is unknown; this version has {', '.join(BACKENDS)}")


def home_device(backend: str) -> str:
    """The device of a backend when none is asked for."""
    return "cuda" if backend == "tensorrt" else "cpu"
