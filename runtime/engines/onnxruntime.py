"""ONNX Runtime: the CPU default, and CUDA where onnxruntime-gpu is installed and its provider really loads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ...errors import EngineError
from ..cpu import available_cpus, cpu_model
from ..onnxruntime_packages import BROKEN, GPU, GPU_PACKAGE, clash, installed
from ..start_cache import StartCache
from . import Tensors, TensorSpec, check_feeds

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_MOST_THREADS = 4
"""Chunk-sized graphs stop gaining beyond this."""
_ERRORS_ONLY = 3
_FATAL_ONLY = 4
_GRAPH_KIND = "graph-ort-1"
"""What is kept between starts: graphs as ONNX Runtime optimised them for this processor, in its own format."""
_IDENTITY_GRAPH = (
    b'\x08\x08\x12\x00:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x12"
)
"""An ONNX model of one Identity node (IR 8, opset 18): the smallest thing a provider can be asked to run."""


class OnnxRuntimeEngine:
    """One ONNX graph in one inference session."""

    def __init__(self, path: Path, *, device: str = "cpu", threads: int | None = None, cache: StartCache | None = None) -> None:
        """Loads the graph.

        Args:
            path: the ONNX file.
            device: `cpu` or `cuda`.
            threads: intra-op threads; None takes the CPU quota, at most 4.
            cache: on the CPU, where the optimised graph is kept for the next start; None optimises it every time.

        Raises:
            EngineError: the file does not load, or the provider asked for is not the one in use.
        """
        if device not in _PROVIDERS:
            raise EngineError(f"device {device!r} is unknown to onnxruntime; it is one of {', '.join(_PROVIDERS)}")
        provider = _PROVIDERS[device]
        if problem := _missing(device):
            raise EngineError(_not_used(provider, problem))
        if device == "cuda":
            _preload()
        try:
            if cache and device == "cpu":
                self._session = _cached_session(path, threads, cache)
            else:
                # Without a fall-back an error of the provider is raised, where onnxruntime would print it and take the CPU.
                self._session = ort.InferenceSession(str(path), _session_options(threads), providers=[provider], enable_fallback=0)
        except Exception as error:  # onnxruntime raises its own classes and bare RuntimeErrors alike
            if device == "cuda" and (problem := _cuda_problem()):
                raise EngineError(_not_used(provider, problem)) from error
            raise EngineError(f"onnxruntime cannot load {path}: {_first_line(error)}") from error
        # A provider that is listed and cannot load its libraries is replaced by the CPU without a word.
        if self._session.get_providers()[0] != provider:
            raise EngineError(_not_used(provider, _NOT_LOADED))
        self.inputs = tuple(_spec(arg) for arg in self._session.get_inputs())
        self.outputs = tuple(_spec(arg) for arg in self._session.get_outputs())
        self._names = [spec.name for spec in self.outputs]

    def run(self, feeds: Mapping[str, NDArray[np.generic]]) -> Tensors:
        """Runs the graph once; see `Engine.run`."""
        check_feeds(self.inputs, feeds)
        try:
            values = self._session.run(self._names, dict(feeds))
        except Exception as error:
            raise EngineError(f"onnxruntime failed: {_first_line(error)}") from error
        return dict(zip(self._names, values, strict=True))

    def close(self) -> None:
        """Frees the session; the engine can't run afterwards."""
        del self._session

    def __enter__(self) -> OnnxRuntimeEngine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def usable_devices() -> dict[str, str]:
    """Each device onnxruntime could use, with what keeps it from doing so (empty: nothing).

    A provider that is listed may still fail to load its libraries, so `cuda` is tried with a graph of one node.
    """
    if not hasattr(ort, "InferenceSession"):
        return {"cpu": BROKEN}
    problems = {"cpu": ""}
    if _PROVIDERS["cuda"] in ort.get_available_providers():
        _preload()
        problems["cuda"] = _cuda_problem()
    return problems


def _cuda_problem() -> str:
    """Why a graph of one node does not run on the GPU; empty where it does."""
    try:
        session = ort.InferenceSession(_IDENTITY_GRAPH, _session_options(1), providers=[_PROVIDERS["cuda"]], enable_fallback=0)
    except Exception:  # whatever it is, the GPU is not usable
        return _NOT_LOADED
    return "" if session.get_providers()[0] == _PROVIDERS["cuda"] else _NOT_LOADED


_NOT_LOADED = "it is installed but its libraries do not load: no NVIDIA driver is here, or CUDA 12 and cuDNN 9 are not"


def _missing(device: str) -> str:
    """Why the provider of a device is not even listed; empty where it is."""
    if not hasattr(ort, "InferenceSession"):
        return BROKEN
    if _PROVIDERS[device] in ort.get_available_providers():
        return ""
    return clash() or f"{'the installed' if GPU in installed() else 'this'} onnxruntime has no CUDA; pip install '{GPU_PACKAGE}'"


def _preload() -> None:
    """Has onnxruntime load CUDA's libraries from the packages that pip installed, which no loader path leads to."""
    if hasattr(ort, "preload_dlls"):
        # What is missing it prints, and the session that is made next finds out for itself.
        with redirect_stdout(StringIO()):
            ort.preload_dlls()


def _not_used(provider: str, problem: str) -> str:
    return f"asked onnxruntime for {provider}, and it cannot use it: {problem}; run `shortcast doctor`, or use --device cpu"


def _session_options(threads: int | None) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads if threads else min(available_cpus(), _MOST_THREADS)
    options.inter_op_num_threads = 1
    # Spinning threads steal the cores that decode and Whisper need: 30 ms against 44-89 ms per chunk when measured.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _ERRORS_ONLY
    return options


def _cached_session(path: Path, threads: int | None, cache: StartCache) -> ort.InferenceSession:
    """A session of the graph as it was optimised by an earlier start, or of this one, which keeps it. Both give the same bits."""
    providers, content = [_PROVIDERS["cpu"]], path.read_bytes()
    key = _graph_key(content, providers)
    if kept := cache.get(_GRAPH_KIND, key):
        options = _session_options(threads)
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = _FATAL_ONLY
        try:
            return ort.InferenceSession(kept, options, providers=providers)
        except Exception:  # whole, and still of no use to this build of onnxruntime: made again below
            cache.drop(_GRAPH_KIND, key)
    options = _session_options(threads)
    with cache.scratch() as aside:
        if aside:
            options.optimized_model_filepath = str(aside)
            options.add_session_config_entry("session.save_model_format", "ORT")
        session = ort.InferenceSession(content, options, providers=providers)
        if aside:
            cache.put(_GRAPH_KIND, key, aside.read_bytes())
    return session


def _graph_key(content: bytes, providers: list[str]) -> str:
    """Everything an optimised graph depends on. Threads are not among it: they are chosen when it is loaded."""
    facts: dict[str, Any] = {
        "graph": hashlib.sha256(content).hexdigest(),
        "onnxruntime": [ort.__version__, ort.get_build_info()],
        "providers": providers,
        "level": str(ort.SessionOptions().graph_optimization_level),
        "cpu": cpu_model(),
    }
    return json.dumps(facts, sort_keys=True)


def _spec(arg: ort.NodeArg) -> TensorSpec:
    dtype = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(float16)": "float16"}.get(arg.type)
    if dtype is None:
        raise EngineError(f"graph tensor {arg.name} has type {arg.type}; shortcast graphs use float32, float16 and uint8 only")
    return TensorSpec(arg.name, dtype, tuple(arg.shape))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
