"""The CUDA runtime as engines use it: one stream, buffers on the GPU and pinned ones beside them, captured graphs.

Every call goes through `Device.call`, where CUDA's errors become `EngineError`. Nothing here needs more than cuda-bindings, which
imports without a driver.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from math import prod
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import EngineError

ALIGNMENT = 256
"""Of tensor and scratch addresses, as TensorRT wants them; cudaMalloc gives it."""
INSTALL = "pip install 'shortcast[tensorrt]'"
_MIB = 2**20
_NO_MEMORY = "cudaErrorMemoryAllocation"
_FATAL = frozenset(
    f"cudaError{name}"
    for name in (
        "IllegalAddress",
        "LaunchFailure",
        "LaunchTimeout",
        "HardwareStackError",
        "IllegalInstruction",
        "MisalignedAddress",
        "InvalidAddressSpace",
        "InvalidPc",
        "Assert",
        "ECCUncorrectable",
        "NvlinkUncorrectable",
        "ExternalDevice",
        "Unknown",
    )
)
"""After one of these a process can use the GPU no more: CUDA answers every later call with it."""


class _LostError(EngineError):
    """The GPU can't be used by this process any more."""


class _NoMemoryError(EngineError):
    """The GPU's memory, or pinned memory beside it, does not suffice."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU."""

    name: str
    capability: str
    """Its compute capability, such as `8.6`."""


def cuda_runtime() -> Any:
    """The module `cuda.bindings.runtime`.

    Raises:
        EngineError: it is not installed or does not load.
    """
    try:
        return import_module("cuda.bindings.runtime")
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineError(f"the GPU is reached through the package cuda-bindings; install it: {INSTALL}") from error


def find_gpu(runtime: Any) -> Gpu:
    """The GPU in use.

    Args:
        runtime: what `cuda_runtime` returned.

    Raises:
        EngineError: there is none, or its driver does not answer.
    """
    if not _answer(runtime.cudaGetDeviceCount()):
        raise EngineError("no GPU is here; run `shortcast doctor` for what was found")
    properties = _answer(runtime.cudaGetDeviceProperties(_answer(runtime.cudaGetDevice())))
    return Gpu(properties.name.decode().rstrip("\x00"), f"{properties.major}.{properties.minor}")


def _answer(reply: tuple[Any, Any]) -> Any:
    error, value = reply
    if int(error):
        raise EngineError(f"CUDA finds no GPU ({error.name}); run `shortcast doctor` for the cause")
    return value


class Device:
    """The GPU for engines that never run at once: a stream of their own, a lock, and one block of scratch memory.

    Thread-safe as far as its users hold `lock` while they use the stream. Freed when the last of them has left.
    """

    def __init__(self, runtime: Any) -> None:
        """Begins to use the GPU.

        Args:
            runtime: what `cuda_runtime` returned.

        Raises:
            EngineError: there is no GPU, or it makes no stream.
        """
        self.gpu = find_gpu(runtime)
        self.lock = RLock()
        self.lost = False
        """Whether the GPU failed in a way that this process can't recover from."""
        self._cuda = runtime
        self._users = 0
        self.scratch: DeviceBuffer | None = None
        # A stream that does not wait for the default one, which other libraries use.
        self._stream = self.call("make a stream", runtime.cudaStreamCreateWithFlags(runtime.cudaStreamNonBlocking))

    @property
    def stream(self) -> int:
        """The stream's handle, as TensorRT takes it."""
        return int(self._stream)

    def call(self, doing: str, reply: tuple[Any, ...]) -> Any:
        """What a CUDA call returned beside its error.

        Raises:
            _NoMemoryError, _LostError, EngineError: the call failed.
        """
        error, *values = reply
        if int(error):
            raise self._failure(doing, getattr(error, "name", str(error)))
        return values[0] if values else None

    def _failure(self, doing: str, name: str) -> EngineError:
        self._cuda.cudaGetLastError()  # or the next call that asks for it is blamed
        if name in _FATAL:
            self.lost = True
            return _LostError(
                f"the GPU could not {doing} ({name}) and answers this process no more: start again; where it comes back, "
                "`shortcast verify BUNDLE --engine tensorrt` shows by which graph"
            )
        if name == _NO_MEMORY:
            return _NoMemoryError(
                f"the GPU has not the memory to {doing}{self._free()}; end what else uses it, or build engines for less: "
                "`shortcast export --engines-only BUNDLE --target tensorrt --max-batch 1`"
            )
        return EngineError(f"CUDA could not {doing} ({name}); run `shortcast doctor`")

    def _free(self) -> str:
        error, free, total = self._cuda.cudaMemGetInfo()
        return "" if int(error) else f": {free // _MIB} of its {total // _MIB} MiB are free"

    def allocate(self, nbytes: int, what: str) -> DeviceBuffer:
        """Memory on the GPU; `what` it is for is said where there is none."""
        return DeviceBuffer(self, nbytes, what)

    def pinned(self, shape: tuple[int, ...], dtype: str, what: str) -> PinnedArray:
        """An array on the host that the GPU copies from and to without a detour."""
        return PinnedArray(self, shape, dtype, what)

    def reserve(self, nbytes: int) -> None:
        """Makes the scratch block, once, before anything is captured: a graph keeps its address."""
        if self.scratch is not None:
            raise EngineError("the scratch block is made once, for the largest of the engines opened together")
        self.scratch = self.allocate(nbytes, "hold the engines' scratch memory")

    def to_gpu(self, address: int, array: NDArray[np.generic]) -> None:
        """Copies an array to the GPU, on the stream."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(address, array.ctypes.data, array.nbytes, kind)

    def to_host(self, array: NDArray[np.generic], address: int) -> None:
        """Copies from the GPU into an array, on the stream."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(array.ctypes.data, address, array.nbytes, kind)

    def within(self, to: int, origin: int, nbytes: int) -> None:
        """Copies from one place on the GPU to another, on the stream."""
        self._copy(to, origin, nbytes, self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToDevice)

    def _copy(self, to: int, origin: int, nbytes: int, kind: Any) -> None:
        if nbytes:
            self.call(f"copy {nbytes} bytes", self._cuda.cudaMemcpyAsync(to, origin, nbytes, kind, self._stream))

    def zero(self, address: int, nbytes: int) -> None:
        """Fills with zeros, on the stream."""
        self.call(f"clear {nbytes} bytes", self._cuda.cudaMemsetAsync(address, 0, nbytes, self._stream))

    def synchronise(self) -> None:
        """Waits for everything on the stream."""
        self.call("finish its work", self._cuda.cudaStreamSynchronize(self._stream))

    def settle(self) -> None:
        """Waits before something is freed that work on the stream may use; who put that work there was told what became of it."""
        if self._stream is not None:
            with suppress(EngineError):
                self.synchronise()

    def capture(self, enqueue: Callable[[], None]) -> CapturedGraph | str:
        """Records what `enqueue` puts on the stream, without running it.

        Args:
            enqueue: has run outside of a capture before, so that nothing lazy is left to be done; allocates and waits for nothing.

        Returns:
            The graph, or a sentence saying why the work can't be one. The stream is usable either way.

        Raises:
            _LostError, _NoMemoryError: the GPU failed, which no other way of launching would mend.
        """
        # Of this thread alone: others, such as CTranslate2's, go on allocating.
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.call("begin a capture", self._cuda.cudaStreamBeginCapture(self._stream, mode))
        refused: EngineError | None = None
        try:
            enqueue()
        except EngineError as error:
            refused = error
        # Always, or the stream stays in capture and nothing on it ever runs.
        ended, graph = self._cuda.cudaStreamEndCapture(self._stream)
        if refused or int(ended):
            self._cuda.cudaGetLastError()
            if graph is not None and not int(ended):
                self._cuda.cudaGraphDestroy(graph)
            if isinstance(refused, (_LostError, _NoMemoryError)):
                raise refused
            return str(refused or f"CUDA ended the capture with {getattr(ended, 'name', ended)}")
        try:
            return CapturedGraph(self, self.call("make a graph of what was captured", self._cuda.cudaGraphInstantiate(graph, 0)))
        finally:
            self._cuda.cudaGraphDestroy(graph)

    def launch(self, graph: Any) -> None:
        self.call("launch a graph", self._cuda.cudaGraphLaunch(graph, self._stream))

    def release(self, doing: str, free: Callable[[Any], tuple[Any, ...]], thing: Any) -> None:
        """Frees something, once nothing uses it. A GPU that is lost has freed everything already, and only repeats why it was lost."""
        self.settle()
        if self.lost:
            with suppress(EngineError):
                self.call(doing, free(thing))
        else:
            self.call(doing, free(thing))

    def join(self) -> None:
        """One more engine uses this device."""
        self._users += 1

    def leave(self) -> None:
        """One engine fewer; the last one frees the scratch block and the stream."""
        self._users -= 1
        if self._users <= 0:
            self.close()

    def close(self) -> None:
        """Frees the scratch block and the stream."""
        scratch, self.scratch = self.scratch, None
        stream, self._stream = self._stream, None
        try:
            if scratch is not None:
                scratch.close()
        finally:
            if stream is not None:
                self.release("free its stream", self._cuda.cudaStreamDestroy, stream)


class DeviceBuffer:
    """Memory on the GPU."""

    def __init__(self, device: Device, nbytes: int, what: str) -> None:
        self.nbytes = max(1, nbytes)
        self._device = device
        cuda = device._cuda
        self.address = int(device.call(f"{what} ({self.nbytes / _MIB:.1f} MiB)", cuda.cudaMalloc(self.nbytes)))

    def close(self) -> None:
        address, self.address = self.address, 0
        if address:
            self._device.release("free memory", self._device._cuda.cudaFree, address)


class PinnedArray:
    """Page-locked memory on the host, seen as an array."""

    def __init__(self, device: Device, shape: tuple[int, ...], dtype: str, what: str) -> None:
        size = prod(shape) * np.dtype(dtype).itemsize
        self._device = device
        doing = f"{what} on the host ({size / _MIB:.1f} MiB, pinned)"
        self._address = int(device.call(doing, device._cuda.cudaHostAlloc(max(1, size), 0)))
        raw = (ctypes.c_ubyte * max(1, size)).from_address(self._address)
        # As bytes first: ctypes has no float16.
        self.array: NDArray[Any] = np.ctypeslib.as_array(raw)[:size].view(dtype).reshape(shape)
        self.array[...] = 0

    def close(self) -> None:
        address, self._address = self._address, 0
        if address:
            self.array = np.empty(0)
            self._device.release("free pinned memory", self._device._cuda.cudaFreeHost, address)


class CapturedGraph:
    """Work that was recorded once and is launched in one call: shapes and addresses are part of it."""

    def __init__(self, device: Device, handle: Any) -> None:
        self._device = device
        self._handle = handle

    def launch(self) -> None:
        self._device.launch(self._handle)

    def close(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            self._device.release("free a graph", self._device._cuda.cudaGraphExecDestroy, handle)
