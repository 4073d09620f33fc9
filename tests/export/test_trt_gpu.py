"""Which GPU is here, asked of a CUDA that answers as told."""

import sys
from enum import IntEnum
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from shortcast.errors import EngineError
from shortcast.export.trt_gpu import Gpu, current_gpu


class Error(IntEnum):
    cudaSuccess = 0  # noqa: N815
    cudaErrorInsufficientDriver = 35  # noqa: N815


def cuda(count: tuple[Any, Any]) -> ModuleType:
    module = ModuleType("cuda.bindings.runtime")
    properties = SimpleNamespace(name=b"NVIDIA H100 80GB HBM3", major=9, minor=0)
    vars(module).update(
        cudaGetDeviceCount=lambda: count,
        cudaGetDevice=lambda: (Error.cudaSuccess, 0),
        cudaGetDeviceProperties=lambda device: (Error.cudaSuccess, properties),
    )
    return module


def test_the_gpu_in_use_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda((Error.cudaSuccess, 1)))
    assert current_gpu() == Gpu("NVIDIA H100 80GB HBM3", "9.0")


@pytest.mark.parametrize("count", [(Error.cudaErrorInsufficientDriver, None), (Error.cudaSuccess, 0)])
def test_no_gpu_is_an_error_that_names_the_way_without_one(count: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda(count))
    with pytest.raises(EngineError, match=r"builds for the GPU it runs on.*--target tensorrt-rtx"):
        current_gpu()


def test_without_cuda_bindings_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(EngineError, match=r"cuda-bindings; install it: pip install 'shortcast\[tensorrt\]'"):
        current_gpu()


def test_the_real_bindings_have_the_calls_used() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    assert int(runtime.cudaGetDeviceCount()[0]) >= 0
    assert {"name", "major", "minor"} <= set(dir(runtime.cudaDeviceProp))
