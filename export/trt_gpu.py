"""The GPU that TensorRT would build for, asked of the CUDA runtime; TensorRT itself says its name nowhere."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ..errors import EngineError
from .trt_network import RTX_HINT


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU."""

    name: str
    capability: str
    """Its compute capability, such as `8.6`."""


def current_gpu() -> Gpu:
    """The GPU in use.

    Raises:
        EngineError: there is none, its driver does not answer, or cuda-bindings is not installed.
    """
    try:
        cuda = import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise EngineError("target tensorrt needs the package cuda-bindings; install it: pip install 'shortcast[tensorrt]'") from error
    if not _answer(cuda.cudaGetDeviceCount()):
        raise EngineError(f"target tensorrt builds for the GPU it runs on, and no GPU is here; {RTX_HINT}")
    properties = _answer(cuda.cudaGetDeviceProperties(_answer(cuda.cudaGetDevice())))
    return Gpu(properties.name.decode().rstrip("\x00"), f"{properties.major}.{properties.minor}")


def _answer(reply: tuple[Any, Any]) -> Any:
    """The value of a CUDA call; each returns its error beside it."""
    error, value = reply
    if int(error):
        raise EngineError(f"target tensorrt builds for the GPU it runs on, and CUDA finds none ({error.name}); {RTX_HINT}")
    return value
