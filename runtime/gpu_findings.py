"""What the doctor finds of a GPU: driver, device, TensorRT, the CUDA majors of the libraries in one process, and NVML's view of it.

A machine without a GPU has no problem: clips are scored on the CPU. On one with a GPU, each thing that keeps an engine from running is
a problem with the line that cures it.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

from ..errors import EngineError
from .engine_record import FLAVOURS
from .engines.cuda import cuda_runtime, find_gpu
from .finding import Finding

_MIB = 2**20
_DRIVER_VERSION = Path("/proc/driver/nvidia/version")
_EXTRA = 'pip install "shortcast[tensorrt]"'
_LIBRARIES = ("libcublas.so.12", "libcudnn.so.9")
"""What CTranslate2 loads on a GPU, and the packages they come in."""
_LIBRARY_CURE = "pip install nvidia-cublas-cu12 'nvidia-cudnn-cu12>=9,<10'"


def examine_gpu() -> Iterator[Finding]:
    """Looks at the GPU without allocating on it; what can't be asked for want of a driver is left out."""
    driver = driver_version()
    if driver is None:
        yield Finding("gpu", "no NVIDIA driver here: clips are scored on the CPU")
        yield from _tensorrt_packages(needed=False)
        return
    yield Finding("nvidia driver", driver)
    yield from _device(driver)
    yield from _tensorrt_packages(needed=True)
    yield _cuda_majors()
    yield from _libraries()
    yield _nvml()


def driver_version() -> str | None:
    """The NVIDIA driver's version; None where there is no driver."""
    try:
        found = re.search(r"Kernel Module(?: for \S+)?\s+(\d[\d.]*)", _DRIVER_VERSION.read_text(errors="replace"))
        return found[1] if found else "loaded, version unknown"
    except OSError:
        pass
    try:
        ctypes.CDLL("libcuda.so.1")  # WSL2 and some containers have the library and no such file
    except OSError:
        return None
    return "libcuda.so.1 is here, version unknown"


def _device(driver: str) -> Iterator[Finding]:
    try:
        runtime = cuda_runtime()
        gpu = find_gpu(runtime)
    except EngineError as error:
        cure = (
            _EXTRA if "cuda-bindings" in str(error) else f"{error}; driver {driver} may be too old for the CUDA of cuda-bindings: update it"
        )
        yield Finding("gpu", "not usable", cure)
        return
    failed, free, total = runtime.cudaMemGetInfo()
    memory = "" if int(failed) else f", {free // _MIB:,} of {total // _MIB:,} MiB free"
    yield Finding("gpu", f"{gpu.name}, compute capability {gpu.capability}{memory}")
    _, takes = runtime.cudaDriverGetVersion()
    _, has = runtime.cudaRuntimeGetVersion()
    newer = has // 1000 > takes // 1000
    cure = "the driver is older than the CUDA major of cuda-bindings: update it, or pip install 'cuda-bindings>=12.8,<13'" if newer else ""
    yield Finding("cuda", f"driver takes {_dotted(takes)}, cuda-bindings is {_dotted(has)}", cure)


def _dotted(number: int) -> str:
    """12090 -> `12.9`."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _tensorrt_packages(*, needed: bool) -> Iterator[Finding]:
    """Each flavour that imports; on a machine with a GPU there should be one."""
    found = False
    for flavour in FLAVOURS:
        try:
            yield Finding(flavour, import_module(flavour).__version__)
            found = True
        except ModuleNotFoundError:
            continue
        except (ImportError, OSError, RuntimeError) as error:
            found = True
            yield Finding(flavour, "does not load", f"{error}; pip install --force-reinstall {flavour.replace('_', '-')}-cu12")
    if needed and not found:
        yield Finding("tensorrt", "not installed", f"engines can't be built or run: {_EXTRA}")


def _cuda_majors() -> Finding:
    """One process should not load the libraries of two CUDA majors: CTranslate2 4.x is for 12. cuda-bindings has what it needs inside."""
    majors = {name: major for name in _names() if (major := _major(name))}
    wanted = "12" if "ctranslate2" in majors else ""
    odd = sorted(name for name, major in majors.items() if wanted and major != wanted and name != "cuda-bindings")
    state = ", ".join(f"{name} {major}" for name, major in sorted(majors.items())) or "none"
    cure = f"CTranslate2 is for CUDA 12, and these are not: {', '.join(odd)}; install their CUDA 12 form: {_EXTRA}" if odd else ""
    return Finding("cuda majors", state, cure)


def _names() -> Iterator[str]:
    for found in distributions():
        name = (found.metadata["Name"] or "").lower().replace("_", "-")
        if name in ("ctranslate2", "onnxruntime-gpu", "cuda-bindings") or re.fullmatch(r"tensorrt(-rtx)?-cu\d\d", name):
            yield name


def _major(name: str) -> str:
    """The CUDA major of a library, by its name or version."""
    if by_name := re.search(r"-cu(\d\d)$", name):
        return by_name[1]
    numbers = [int(part) for part in re.findall(r"\d+", _version(name) or "0.0")[:2]]
    if name == "ctranslate2":
        return "12" if numbers[0] == 4 else ""
    if name == "onnxruntime-gpu":
        return "12" if numbers < [1, 27] else "13"
    return str(numbers[0])


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _libraries() -> Iterator[Finding]:
    for name in _LIBRARIES:
        found = _loads(name)
        yield Finding(name, "loads" if found else "does not load", "" if found else f"Whisper can't run on the GPU: {_LIBRARY_CURE}")


def _loads(name: str) -> bool:
    from .cuda_libraries import preload

    preload()
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _nvml() -> Finding:
    """Whether memory can be told by process: in containers pids are other ones, and under WSL2 there are no figures."""
    try:
        nvml: Any = import_module("pynvml")
    except ImportError:
        return Finding("nvml", "not installed", "memory by process can't be told: pip install nvidia-ml-py")
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return Finding(
            "nvml",
            f"does not start: {error}",
            "install the driver's NVML: it comes with nvidia-smi, in a container with the runtime's `utility`",
        )
    try:
        return Finding("nvml", _sees_this_process(nvml))
    finally:
        nvml.nvmlShutdown()


def _sees_this_process(nvml: Any) -> str:
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        seen = [process for handle in handles for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle)]
    except nvml.NVMLError as error:
        return f"starts, and tells nothing of processes: {error}"
    mine = [process for process in seen if process.pid == os.getpid()]
    if not mine:
        return "does not see this process (a container's pids, or WSL2): memory is told by device, not by process"
    return "sees this process" if mine[0].usedGpuMemory is not None else "sees this process and not its memory: memory is told by device"
