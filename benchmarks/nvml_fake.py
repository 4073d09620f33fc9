"""An NVML that answers what it is told to: pynvml's names over devices of plain values. It ships for tests, as the fake engine does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TypeAlias

Processes: TypeAlias = Sequence[tuple[int, "int | None"]]


class FakeNvmlError(Exception):
    """What NVML raises where it has no answer."""


@dataclass
class FakeDevice:
    """A device; its values may be changed between two questions, and a function stands for a value that moves."""

    uuid: str = "GPU-aaaa1111"
    name: str = "NVIDIA A"
    total: int = 8 << 30
    used: int | Callable[[], int] = 500 << 20
    compute: Processes | Callable[[], Processes] = ()
    """Process numbers and their bytes."""
    graphics: Processes = ()
    reasons: int | None = 0
    """Bits of what holds the clocks back; None: the driver doesn't say."""
    held_back_ns: int | None = 0
    clock_mhz: int = 1500
    mig: tuple[int, int] | None = None
    """Current and pending; None: not supported."""


class FakeNvml:
    """Takes the place of the module `pynvml`."""

    NVMLError = FakeNvmlError
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    NVML_PERF_POLICY_POWER, NVML_PERF_POLICY_THERMAL = 0, 1

    def __init__(
        self, *devices: FakeDevice, mig: Mapping[str, FakeDevice] | None = None, problem: str = "", missing: Sequence[str] = ()
    ) -> None:
        """Puts devices in the order of the bus.

        Args:
            devices: what `nvmlDeviceGetCount` counts.
            mig: parts of GPUs by UUID.
            problem: why NVML does not start; empty if it does.
            missing: questions that this driver doesn't know.
        """
        self._devices = devices
        self._mig = mig or {}
        self._problem = problem
        self._missing = missing

    def __getattr__(self, question: str) -> Callable[..., Any]:
        """A function for every name that pynvml has and `nvml` asks."""
        name = f"_{question.removeprefix('nvml').removeprefix('Device')}"
        if not question.startswith("nvml") or name not in _ANSWERS:
            raise AttributeError(question)

        def ask(*arguments: Any) -> Any:
            if question in self._missing:
                raise FakeNvmlError("Function Not Found")
            answer = _ANSWERS[name](self, *arguments)
            if answer is None and name not in _SILENT:
                raise FakeNvmlError("Not Supported")
            return answer

        return ask

    def _init(self) -> None:
        if self._problem:
            raise FakeNvmlError(self._problem)


_SILENT = {"_Init"}
"""Questions whose answer is nothing."""
_ANSWERS: dict[str, Callable[..., Any]] = {
    "_Init": lambda nvml: nvml._init(),
    "_GetCount": lambda nvml: len(nvml._devices),
    "_GetHandleByIndex": lambda nvml, index: nvml._devices[index],
    "_GetHandleByUUID": lambda nvml, uuid: nvml._mig.get(uuid),
    "_SystemGetDriverVersion": lambda nvml: b"550.54",
    "_SystemGetCudaDriverVersion": lambda nvml: 12040,
    "_GetUUID": lambda nvml, device: device.uuid.encode(),
    "_GetName": lambda nvml, device: device.name,
    "_GetMemoryInfo": lambda nvml, device: SimpleNamespace(total=device.total, used=_now(device.used)),
    "_GetComputeRunningProcesses": lambda nvml, device: _processes(_now(device.compute)),
    "_GetGraphicsRunningProcesses": lambda nvml, device: _processes(device.graphics),
    "_GetCurrentClocksEventReasons": lambda nvml, device: device.reasons,
    "_GetCurrentClocksThrottleReasons": lambda nvml, device: device.reasons,
    "_GetMigMode": lambda nvml, device: device.mig,
    "_GetEccMode": lambda nvml, device: (1, 1),
    "_GetPersistenceMode": lambda nvml, device: 0,
    "_GetCudaComputeCapability": lambda nvml, device: (8, 6),
    "_GetMaxClockInfo": lambda nvml, device, kind: 1980,
    "_GetClockInfo": lambda nvml, device, kind: device.clock_mhz,
    "_GetEnforcedPowerLimit": lambda nvml, device: 170_000,
    "_GetPowerUsage": lambda nvml, device: 35_500,
    "_GetUtilizationRates": lambda nvml, device: SimpleNamespace(gpu=7, memory=1),
    "_GetTemperature": lambda nvml, device, kind: 41,
    "_GetViolationStatus": lambda nvml, device, policy: (
        None if device.held_back_ns is None else SimpleNamespace(violationTime=device.held_back_ns)
    ),
}


def _now(value: Any) -> Any:
    return value() if callable(value) else value


def _processes(entries: Processes) -> list[SimpleNamespace]:
    return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in entries]
