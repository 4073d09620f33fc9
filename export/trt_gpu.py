"""The GPU that TensorRT would build for, asked of the CUDA runtime; TensorRT itself says its name nowhere."""

from __future__ import annotations

from ..errors import EngineError
from ..runtime.engines.cuda import Gpu, cuda_runtime, find_gpu
from .trt_network import RTX_HINT

__all__ = ["Gpu", "current_gpu"]


def current_gpu() -> Gpu:
    """The GPU in use.

    Raises:
        EngineError: there is none, its driver does not answer, or cuda-bindings is not installed.
    """
    runtime = cuda_runtime()
    try:
        return find_gpu(runtime)
    except EngineError as error:
        raise EngineError(f"target tensorrt builds for the GPU it runs on: {error}; {RTX_HINT}") from error
