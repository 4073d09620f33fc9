"""A CUDA runtime and a TensorRT that run on the host, strict about how they are used: what a GPU would punish at random, they refuse.

Work on a stream is only done when the stream is waited for, so what is read too early is still poison. Memory that is freed, too small,
misaligned or on the wrong side is an error at the moment it is used. Captures refuse what CUDA refuses while capturing. Execution is
ONNX Runtime on the graph an engine was "built" from. Enums are the real ones, from cuda-bindings and tensorrt_rtx.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
from cuda.bindings import runtime as real_cuda

PLAN = b"fake plan of "
"""What a fake plan begins with; the ONNX file's path follows."""
CACHE = b"fake runtime cache"
POISON = 0xCB
GPU_BYTES = 256 * 2**20
CUDA_NAMES = frozenset(dir(real_cuda))
OK = real_cuda.cudaError_t.cudaSuccess


class MisuseError(AssertionError):
    """Something a real GPU would answer with garbage, a crash, or nothing at all."""


@dataclass
class Allocation:
    address: int
    nbytes: int
    on_gpu: bool
    storage: Any


@dataclass
class Stream:
    """Work that was asked for and is not done before someone waits."""

    number: int
    work: list[Callable[[], None]] = field(default_factory=list)
    capture: Capture | None = None

    def __int__(self) -> int:
        return self.number


@dataclass
class Capture:
    work: list[Callable[[], None]] = field(default_factory=list)
    invalid: bool = False


class Graph:
    def __init__(self, work: list[Callable[[], None]]) -> None:
        self.work = work


class FakeCuda:
    """What `cuda.bindings.runtime` offers, as far as shortcast asks for it."""

    cudaMemcpyKind = real_cuda.cudaMemcpyKind  # noqa: N815
    cudaStreamCaptureMode = real_cuda.cudaStreamCaptureMode  # noqa: N815
    cudaStreamNonBlocking = real_cuda.cudaStreamNonBlocking  # noqa: N815
    cudaError_t = real_cuda.cudaError_t  # noqa: N815

    def __init__(self, *, gpus: int = 1, name: str = "Fake GPU", capability: tuple[int, int] = (8, 9)) -> None:
        self.gpus, self.name, self.capability = gpus, name, capability
        self.calls: list[str] = []
        self.failing: dict[tuple[str, int], str] = {}
        """(call, which time, from 0) -> the name of the error it answers with."""
        self.lost: Any = None
        self.allocations: dict[int, Allocation] = {}
        self.streams: dict[int, Stream] = {}
        self.live: Counter[str] = Counter()
        """Objects by kind that were made and not freed."""

    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if not name.startswith("cuda") or not callable(value) or isinstance(value, type):
            return value
        if name not in CUDA_NAMES:
            raise MisuseError(f"cuda.bindings.runtime has no {name}")
        return lambda *given: self._call(name, value, given)

    def _call(self, name: str, function: Callable[..., tuple[Any, ...]], given: tuple[Any, ...]) -> tuple[Any, ...]:
        count = self.calls.count(name)
        self.calls.append(name)
        errors = real_cuda.cudaError_t
        if self.lost is not None:
            return self._failed(name, self.lost)
        if (name, count) in self.failing:
            error = getattr(errors, self.failing[name, count])
            if error in (errors.cudaErrorIllegalAddress, errors.cudaErrorLaunchFailure):
                self.lost = error
            return self._failed(name, error)
        return function(*given)

    def _failed(self, name: str, error: Any) -> tuple[Any, ...]:
        if name == "cudaStreamEndCapture":
            for stream in self.streams.values():
                stream.capture = None
        answers = {"cudaMemGetInfo": 2, "cudaFree": 0, "cudaFreeHost": 0, "cudaMemcpyAsync": 0, "cudaMemsetAsync": 0, "cudaGraphLaunch": 0}
        return (error, *[None] * answers.get(name, 0 if name.startswith(("cudaStreamS", "cudaStreamD", "cudaStreamB")) else 1))

    # The device

    def cudaGetDeviceCount(self) -> tuple[Any, ...]:  # noqa: N802
        return OK, self.gpus

    def cudaGetDevice(self) -> tuple[Any, ...]:  # noqa: N802
        return OK, 0

    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, ...]:  # noqa: N802
        return OK, SimpleNamespace(
            name=self.name.encode(), major=self.capability[0], minor=self.capability[1], totalGlobalMem=GPU_BYTES, integrated=0
        )

    def cudaMemGetInfo(self) -> tuple[Any, ...]:  # noqa: N802
        return OK, GPU_BYTES - self.used, GPU_BYTES

    def cudaDriverGetVersion(self) -> tuple[Any, ...]:  # noqa: N802
        return OK, 13000

    def cudaRuntimeGetVersion(self) -> tuple[Any, ...]:  # noqa: N802
        return OK, 12090

    def cudaGetLastError(self) -> tuple[Any, ...]:  # noqa: N802
        return (OK,)

    # Memory

    @property
    def used(self) -> int:
        return sum(allocation.nbytes for allocation in self.allocations.values() if allocation.on_gpu)

    def cudaMalloc(self, nbytes: int) -> tuple[Any, ...]:  # noqa: N802
        return self._allocate(nbytes, on_gpu=True)

    def cudaHostAlloc(self, nbytes: int, flags: int) -> tuple[Any, ...]:  # noqa: N802
        assert flags == 0
        return self._allocate(nbytes, on_gpu=False)

    def _allocate(self, nbytes: int, *, on_gpu: bool) -> tuple[Any, ...]:
        assert isinstance(nbytes, int)
        assert nbytes > 0
        if self._capturing():
            return real_cuda.cudaError_t.cudaErrorStreamCaptureUnsupported, None
        if on_gpu and self.used + nbytes > GPU_BYTES:
            return real_cuda.cudaError_t.cudaErrorMemoryAllocation, None
        storage = (ctypes.c_ubyte * (nbytes + 512))()
        address = -(-ctypes.addressof(storage) // 256) * 256
        ctypes.memset(address, POISON, nbytes)
        self.allocations[address] = Allocation(address, nbytes, on_gpu, storage)
        return OK, address

    def cudaFree(self, address: int) -> tuple[Any, ...]:  # noqa: N802
        return self._free(address, on_gpu=True)

    def cudaFreeHost(self, address: int) -> tuple[Any, ...]:  # noqa: N802
        return self._free(address, on_gpu=False)

    def _free(self, address: int, *, on_gpu: bool) -> tuple[Any, ...]:
        if self._capturing():
            return (real_cuda.cudaError_t.cudaErrorStreamCaptureUnsupported,)
        if any(stream.work for stream in self.streams.values()):
            raise MisuseError("memory is freed while work is waiting")
        found = self.allocations.pop(address, None)
        if found is None or found.on_gpu != on_gpu:
            raise MisuseError(f"freed what was not allocated there: {address:#x}")
        return (OK,)

    def find(self, address: int, nbytes: int) -> Allocation | None:
        """The allocation that holds a range, which has to fit."""
        for allocation in self.allocations.values():
            if allocation.address <= address < allocation.address + allocation.nbytes:
                if address + nbytes > allocation.address + allocation.nbytes:
                    raise MisuseError(f"{nbytes} bytes do not fit behind {address:#x}")
                return allocation
        return None

    def on_gpu(self, address: int, nbytes: int) -> None:
        found = self.find(address, nbytes)
        if found is None or not found.on_gpu:
            raise MisuseError(f"{address:#x} is not memory of the GPU: freed, or the host's")

    # Streams and what is put on them

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:  # noqa: N802
        assert flags == real_cuda.cudaStreamNonBlocking
        stream = Stream(1000 + len(self.calls))
        self.streams[stream.number] = stream
        return OK, stream

    def cudaStreamDestroy(self, stream: Stream) -> tuple[Any, ...]:  # noqa: N802
        if stream.work:
            raise MisuseError("a stream is destroyed while work is waiting on it")
        del self.streams[stream.number]
        return (OK,)

    def cudaStreamSynchronize(self, stream: Stream) -> tuple[Any, ...]:  # noqa: N802
        if stream.capture:
            stream.capture.invalid = True
            return (real_cuda.cudaError_t.cudaErrorStreamCaptureUnsupported,)
        work, stream.work = stream.work, []
        for one in work:
            one()
        return (OK,)

    def put(self, stream: Stream, work: Callable[[], None]) -> tuple[Any, ...]:
        if stream.number not in self.streams:
            raise MisuseError("work is put on a stream that was destroyed")
        if stream.capture and stream.capture.invalid:
            return (real_cuda.cudaError_t.cudaErrorStreamCaptureInvalidated,)
        (stream.capture.work if stream.capture else stream.work).append(work)
        return (OK,)

    def cudaMemsetAsync(self, address: int, value: int, nbytes: int, stream: Stream) -> tuple[Any, ...]:  # noqa: N802
        def work() -> None:
            self.on_gpu(address, nbytes)
            ctypes.memset(address, value, nbytes)

        return self.put(stream, work)

    def cudaMemcpyAsync(self, to: int, origin: int, nbytes: int, kind: Any, stream: Stream) -> tuple[Any, ...]:  # noqa: N802
        captured = stream.capture is not None

        def work() -> None:
            kinds = real_cuda.cudaMemcpyKind
            for address, gpu in (
                (to, kind != kinds.cudaMemcpyDeviceToHost),
                (origin, kind != kinds.cudaMemcpyHostToDevice),
            ):
                if gpu:
                    self.on_gpu(address, nbytes)
                elif (host := self.find(address, nbytes)) is None and captured:
                    raise MisuseError("a captured copy has to be from or to pinned memory")
                elif host is not None and host.on_gpu:
                    raise MisuseError("a copy goes the wrong way")
            ctypes.memmove(to, origin, nbytes)

        return self.put(stream, work)

    # Capture

    def _capturing(self) -> bool:
        """Whether any stream is; what is not allowed meanwhile spoils its capture."""
        captures = [stream.capture for stream in self.streams.values() if stream.capture]
        for capture in captures:
            capture.invalid = True
        return bool(captures)

    def cudaStreamBeginCapture(self, stream: Stream, mode: Any) -> tuple[Any, ...]:  # noqa: N802
        assert mode == real_cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        if stream.capture or stream.work:
            raise MisuseError("a capture begins inside another, or before the stream was waited for")
        stream.capture = Capture()
        return (OK,)

    def cudaStreamEndCapture(self, stream: Stream) -> tuple[Any, ...]:  # noqa: N802
        capture, stream.capture = stream.capture, None
        if capture is None:
            raise MisuseError("a capture ends that was not begun")
        if capture.invalid:
            return real_cuda.cudaError_t.cudaErrorStreamCaptureInvalidated, None
        self.live["graph"] += 1
        return OK, Graph(capture.work)

    def cudaGraphInstantiate(self, graph: Graph, flags: int) -> tuple[Any, ...]:  # noqa: N802
        assert flags == 0
        self.live["executable graph"] += 1
        return OK, Graph(list(graph.work))

    def cudaGraphDestroy(self, graph: Graph) -> tuple[Any, ...]:  # noqa: N802
        self.live["graph"] -= 1
        return (OK,)

    def cudaGraphExecDestroy(self, graph: Graph) -> tuple[Any, ...]:  # noqa: N802
        self.live["executable graph"] -= 1
        graph.work = []
        return (OK,)

    def cudaGraphLaunch(self, graph: Graph, stream: Stream) -> tuple[Any, ...]:  # noqa: N802
        if stream.capture:
            raise MisuseError("a graph is launched into a capture")
        for work in graph.work:
            self.put(stream, work)
        return (OK,)

    def forget(self) -> None:
        """What a process does that ends: all is as if nothing had been made."""
        gc.collect()
        self.lost, self.failing = None, {}
        for kept in (self.streams, self.allocations, self.live):
            kept.clear()

    def leaks(self) -> dict[str, int]:
        """What was made and never freed."""
        gc.collect()
        counted = {"memory": len(self.allocations), "streams": len(self.streams), **self.live}
        return {kind: count for kind, count in counted.items() if count}


class FakeTensorRT:
    """What the module `tensorrt` or `tensorrt_rtx` offers; enums and logger are those of the real `tensorrt_rtx`."""

    def __init__(self, cuda: FakeCuda, real: ModuleType, flavour: str, version: str) -> None:
        self.cuda, self.real, self.flavour = cuda, real, flavour
        self.__name__, self.__version__ = flavour, version
        self.rtx = flavour == "tensorrt_rtx"
        self.calls: list[str] = []
        self.failing: set[tuple[str, int]] = set()
        """(call, which time, from 0): it answers None or False."""
        self.capturable = True
        self.scratch_bytes = 4096
        self.profiles = 1
        self.chosen: list[int] = []
        """Optimisation profiles that contexts were put in."""
        self.tensors_are: Callable[[str, tuple[int, ...]], tuple[int, ...]] = lambda name, shape: shape
        self.caches: list[FakeRuntimeCache] = []

    def __getattr__(self, name: str) -> Any:
        """Enums and `ILogger`."""
        return getattr(self.real, name)

    def Runtime(self, logger: Any) -> FakeRuntime:  # noqa: N802
        return FakeRuntime(self, logger)

    def works(self, name: str) -> bool:
        count = self.calls.count(name)
        self.calls.append(name)
        return (name, count) not in self.failing

    def living(self, thing: object, kind: str) -> None:
        """Counts an object until it is collected."""
        self.cuda.live[kind] += 1
        weakref.finalize(thing, self.cuda.live.subtract, [kind])


class FakeRuntime:
    def __init__(self, trt: FakeTensorRT, logger: Any) -> None:
        self._trt, self._logger = trt, logger
        trt.living(self, "runtime")

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> FakeEngine | None:
        if not self._trt.works("deserialize_cuda_engine") or not serialized_engine.startswith(PLAN):
            self._logger.log(self._trt.ILogger.Severity.ERROR, "the plan is malformed")
            return None
        return FakeEngine(self._trt, self, Path(serialized_engine.removeprefix(PLAN).decode()))


class FakeEngine:
    def __init__(self, trt: FakeTensorRT, runtime: FakeRuntime, graph: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._trt, self._runtime = trt, weakref.ref(runtime)
        self._session = ort.InferenceSession(str(graph), options)
        self._inputs = {arg.name: arg for arg in self._session.get_inputs()}
        self._tensors = {**self._inputs, **{arg.name: arg for arg in self._session.get_outputs()}}
        self.num_optimization_profiles = trt.profiles
        trt.living(self, "engine")

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    @property
    def device_memory_size_v2(self) -> int:
        return self._trt.scratch_bytes

    def __getattr__(self, name: str) -> Any:
        # In 10.16 and later, and in TensorRT-RTX.
        version = tuple(int(part) for part in self._trt.__version__.split(".")[:2])
        if name == "get_engine_stat" and (self._trt.rtx or version >= (10, 16)):
            return lambda stat: {self._trt.EngineStat.TOTAL_WEIGHTS_SIZE: 1_000_000}[stat]
        if name == "create_runtime_config" and self._trt.rtx:
            return lambda: FakeRuntimeConfig(self._trt)
        raise AttributeError(name)

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> Any:
        return self._trt.TensorIOMode.INPUT if name in self._inputs else self._trt.TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Any:
        kinds = {"tensor(float)": "FLOAT", "tensor(float16)": "HALF", "tensor(uint8)": "UINT8"}
        return self._trt.DataType.__members__[kinds[self._tensors[name].type]]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(-1 if isinstance(dim, str) else dim for dim in self._tensors[name].shape)

    def create_execution_context(self, how: Any) -> FakeContext | None:
        assert (how.allocation if self._trt.rtx else how) == self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if self._trt.rtx:
            assert how.cache is not None
            assert how.cuda_graph_strategy == self._trt.CudaGraphStrategy.DISABLED
            assert how.dynamic_shapes_kernel_specialization_strategy == self._trt.DynamicShapesKernelSpecializationStrategy.EAGER
        if self._runtime() is None:
            raise MisuseError("a context of an engine whose runtime is gone")
        return FakeContext(self._trt, self) if self._trt.works("create_execution_context") else None


class FakeRuntimeConfig:
    def __init__(self, trt: FakeTensorRT) -> None:
        self._trt = trt
        self.allocation: Any = None
        self.cache: FakeRuntimeCache | None = None
        self.cuda_graph_strategy: Any = None
        self.dynamic_shapes_kernel_specialization_strategy: Any = None

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self.allocation = strategy

    def create_runtime_cache(self) -> FakeRuntimeCache:
        self._trt.caches.append(FakeRuntimeCache())
        return self._trt.caches[-1]

    def set_runtime_cache(self, cache: FakeRuntimeCache) -> bool:
        self.cache = cache
        return self._trt.works("set_runtime_cache")


class FakeRuntimeCache:
    def __init__(self) -> None:
        self.content = b""
        self.loaded = False

    def deserialize(self, blob: bytes) -> bool:
        self.loaded = blob.startswith(CACHE)
        self.content = blob if self.loaded else b""
        return self.loaded

    def serialize(self) -> bytes:
        return self.content or CACHE + b" of one run"


class FakeContext:
    """One execution context: what it needs, in the order it needs it."""

    def __init__(self, trt: FakeTensorRT, engine: FakeEngine) -> None:
        self._trt, self._engine, self._cuda = trt, engine, trt.cuda
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._scratch: tuple[int, int] | None = None
        self._inferred = self._used = False
        trt.living(self, "context")

    def __getattr__(self, name: str) -> Any:
        if name == "is_stream_capturable" and self._trt.rtx:
            return lambda stream: self._trt.capturable
        raise AttributeError(name)

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if self._shapes:
            raise MisuseError("a profile is chosen after shapes were set, which it forgets")
        assert 0 <= profile_index < self._engine.num_optimization_profiles
        self._trt.chosen.append(profile_index)
        return self._trt.works("set_optimization_profile_async")

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        fixed = self._engine.get_tensor_shape(name)
        assert len(fixed) == len(shape)
        fits = all(want in (-1, have) for want, have in zip(fixed, shape, strict=True))
        self._shapes[name] = shape
        return self._trt.works("set_input_shape") and fits

    def infer_shapes(self) -> list[str]:
        self._inferred = True
        missing = [name for name in self._engine._inputs if name not in self._shapes]
        return missing if self._trt.works("infer_shapes") else ["frames"]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if not self._inferred:
            raise MisuseError("an output's shape is asked for before shapes were inferred")
        sizes = {
            dim: size
            for given, shape in self._shapes.items()
            for dim, size in zip(self._engine._inputs[given].shape, shape, strict=True)
            if isinstance(dim, str)
        }
        shape = tuple(sizes[dim] if isinstance(dim, str) else dim for dim in self._engine._tensors[name].shape)
        return self._trt.tensors_are(name, shape)

    def update_device_memory_size_for_shapes(self) -> int:
        assert self._inferred
        return self._trt.scratch_bytes

    def set_device_memory(self, memory: int, size: int) -> None:
        assert memory % 256 == 0
        assert size >= self._engine.device_memory_size_v2
        self._cuda.on_gpu(memory, size)
        self._scratch = (memory, size)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert name in self._engine._tensors
        if memory % 256:
            raise MisuseError(f"the address of {name} is not aligned: {memory:#x}")
        self._addresses[name] = memory
        return self._trt.works("set_tensor_address")

    def execute_async_v3(self, stream_handle: int) -> bool:
        if not stream_handle:
            raise MisuseError("runs on the default stream")
        stream = self._cuda.streams[stream_handle]
        if not self._trt.works("execute_async_v3"):
            return False
        if stream.capture and (not self._trt.capturable or not self._used):
            stream.capture.invalid = True  # a first run allocates
            return self._trt.flavour == "tensorrt_rtx"
        self._used = True
        self._cuda.put(stream, self._run(self._bound()))
        return True

    def _bound(self) -> dict[str, tuple[int, tuple[int, ...], np.dtype[Any]]]:
        """Where every tensor lies; none may lie on another or on the scratch memory."""
        if self._scratch is None:
            raise MisuseError("runs without scratch memory")
        bound, ranges = {}, [self._scratch]
        for name in self._engine._tensors:
            if name not in self._addresses:
                raise MisuseError(f"{name} has no address")
            shape, dtype = self._shape(name), np.dtype(self._trt.real.nptype(self._engine.get_tensor_dtype(name)))
            bound[name] = (self._addresses[name], shape, dtype)
            ranges.append((self._addresses[name], int(np.prod(shape)) * dtype.itemsize))
        ranges.sort()
        for (first, size), (second, _) in itertools.pairwise(ranges):
            if first + size > second:
                raise MisuseError("two tensors share memory")
        return bound

    def _shape(self, name: str) -> tuple[int, ...]:
        return self._shapes.get(name) or self.get_tensor_shape(name)

    def _run(self, bound: dict[str, tuple[int, tuple[int, ...], np.dtype[Any]]]) -> Callable[[], None]:
        context, scratch = weakref.ref(self), self._scratch
        session, cuda, inputs = self._engine._session, self._cuda, set(self._engine._inputs)
        assert scratch is not None

        def view(name: str) -> np.ndarray:
            address, shape, dtype = bound[name]
            nbytes = int(np.prod(shape)) * dtype.itemsize
            cuda.on_gpu(address, nbytes)
            return np.ctypeslib.as_array((ctypes.c_ubyte * nbytes).from_address(address)).view(dtype).reshape(shape)

        def work() -> None:
            if context() is None:
                raise MisuseError("a graph is launched whose context is gone")
            cuda.on_gpu(*scratch)
            ctypes.memset(scratch[0], POISON, scratch[1])
            outputs = [name for name in bound if name not in inputs]
            for name, values in zip(outputs, session.run(outputs, {name: view(name).copy() for name in inputs}), strict=True):
                view(name)[...] = values

        return work


def public_names(thing: object) -> Iterator[str]:
    """What a fake offers under a name of its own: it has to be a name of the real thing too."""
    return (name for name in vars(type(thing)) if not name.startswith("_"))
