"""What NVIDIA's management library says of the GPUs: memory by process or device, clocks and what holds them back, and who else is there.

Nothing is guessed. A driver that doesn't answer a question gives `None` or a sentence, and how memory was told is said beside it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, TypeAlias

_HARMLESS = {
    0x1: "idle",
    0x2: "clocks set by an application",
    0x100: "display clock setting",
}
"""Reasons for clocks below the highest that are no throttling: nothing to do, or someone's wish."""
_THROTTLING = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "kept in step with another GPU",
    0x20: "thermal slowdown by software",
    0x40: "thermal slowdown by hardware",
    0x80: "power brake",
}


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device that CUDA may use, and NVML's handle of it."""

    index: int | None
    """NVML's number, which is the order on the PCI bus; None for a part of a GPU (MIG)."""
    uuid: str
    name: str
    memory_bytes: int | None
    handle: Any = field(compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.name} ({self.uuid})"


@dataclass(frozen=True, slots=True)
class VramReading:
    """Memory of the GPUs that CUDA may use, at one moment."""

    device_bytes: int | None
    """Used on the devices, by whomever."""
    processes: Mapping[int, int | None]
    """By process number as NVML has it; None where the driver keeps a process's share to itself."""


@dataclass(frozen=True, slots=True)
class NoNvml:
    """Stands where there is no NVML: answers nothing and says why."""

    reason: str
    gpus: tuple[Gpu, ...] = ()
    warnings: tuple[str, ...] = ()

    def read(self) -> VramReading:
        return VramReading(None, {})

    def state(self, own_pids: Collection[int] = ()) -> dict[str, Any]:
        return {}

    def facts(self) -> dict[str, str]:
        return {"GPU": f"none that can be asked: {self.reason}"}


class Nvml:
    """NVML, once it has been initialised."""

    reason = ""

    def __init__(self, module: Any, environ: Mapping[str, str] = os.environ) -> None:
        """Finds the devices that CUDA may use.

        Args:
            module: `pynvml`, or one with its names.
            environ: where `CUDA_VISIBLE_DEVICES` and `CUDA_DEVICE_ORDER` are looked up.
        """
        self._module = module
        everything = [self._gpu(module.nvmlDeviceGetHandleByIndex(index), index) for index in range(module.nvmlDeviceGetCount())]
        wanted = environ.get("CUDA_VISIBLE_DEVICES")
        self.gpus = tuple(everything) if wanted is None else self._chosen(everything, wanted)
        self.warnings = tuple(self._doubts(everything, environ))

    def read(self) -> VramReading:
        """Memory now; called a hundred times a second, so it asks for nothing else."""
        used = [self._memory(gpu, "used") for gpu in self.gpus]
        processes: dict[int, int | None] = {}
        for gpu in self.gpus:
            for pid, size in self._processes(gpu, "Compute").items():
                before = processes.get(pid, 0)
                processes[pid] = None if size is None or before is None else before + size
        return VramReading(sum(filter(None, used)) if used and None not in used else None, processes)

    def state(self, own_pids: Collection[int] = ()) -> dict[str, Any]:
        """Clocks, throttle reasons, temperature, power and other processes of each device, as JSON values.

        Args:
            own_pids: processes that are not others.
        """
        return {"gpus": [self._state(gpu, own_pids) for gpu in self.gpus]}

    def facts(self) -> dict[str, str]:
        """What does not change while a benchmark runs, for reading."""
        driver = self._ask("nvmlSystemGetDriverVersion")
        cuda = self._ask("nvmlSystemGetCudaDriverVersion")
        facts = {
            "GPU driver": _text(driver) or "unknown: NVML does not say",
            "CUDA of the driver": f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else "unknown: NVML does not say",
        }
        if not self.gpus:
            return {"GPU": "none that CUDA may use (CUDA_VISIBLE_DEVICES hides all)", **facts}
        for position, gpu in enumerate(self.gpus):
            facts[f"GPU {position}"] = self._description(gpu)
        return facts

    def _description(self, gpu: Gpu) -> str:
        capability = self._ask("nvmlDeviceGetCudaComputeCapability", gpu.handle)
        highest = self._ask("nvmlDeviceGetMaxClockInfo", gpu.handle, self._module.NVML_CLOCK_SM)
        limit = self._ask("nvmlDeviceGetEnforcedPowerLimit", gpu.handle)
        parts = [
            str(gpu),
            f"NVML index {gpu.index}" if gpu.index is not None else "part of a GPU (MIG)",
            f"compute capability {capability[0]}.{capability[1]}" if capability else "compute capability unknown",
            f"{gpu.memory_bytes / 2**30:.1f} GiB" if gpu.memory_bytes else "memory unknown",
            f"SM clock to {highest} MHz" if highest else "highest clock unknown",
            f"power limit {limit / 1000:.0f} W" if limit else "power limit unknown",
            f"ECC {self._switch('nvmlDeviceGetEccMode', gpu)}",
            f"MIG {self._switch('nvmlDeviceGetMigMode', gpu)}",
            f"persistence {self._switch('nvmlDeviceGetPersistenceMode', gpu)}",
        ]
        return ", ".join(parts)

    def _switch(self, question: str, gpu: Gpu) -> str:
        answer = self._ask(question, gpu.handle)
        current = answer[0] if isinstance(answer, (list, tuple)) else answer
        return "not supported" if current is None else "on" if current else "off"

    def _state(self, gpu: Gpu, own_pids: Collection[int]) -> dict[str, Any]:
        module, handle = self._module, gpu.handle
        power = self._ask("nvmlDeviceGetPowerUsage", handle)
        busy = self._ask("nvmlDeviceGetUtilizationRates", handle)
        reasons = self._clock_reasons(handle)
        return {
            "name": gpu.name,
            "uuid": gpu.uuid,
            "sm_clock_mhz": self._ask("nvmlDeviceGetClockInfo", handle, module.NVML_CLOCK_SM),
            "memory_clock_mhz": self._ask("nvmlDeviceGetClockInfo", handle, module.NVML_CLOCK_MEM),
            "clock_reasons": None if reasons is None else _words(reasons, _HARMLESS | _THROTTLING),
            "throttling": None if reasons is None else _words(reasons, _THROTTLING),
            "power_held_back_ns": self._held_back(handle, "NVML_PERF_POLICY_POWER"),
            "heat_held_back_ns": self._held_back(handle, "NVML_PERF_POLICY_THERMAL"),
            "temperature_c": self._ask("nvmlDeviceGetTemperature", handle, module.NVML_TEMPERATURE_GPU),
            "power_w": None if power is None else power / 1000,
            "busy_percent": None if busy is None else busy.gpu,
            "used_bytes": self._memory(gpu, "used"),
            "other_pids": sorted(set(self._processes(gpu, "Compute")) - set(own_pids)),
            "graphics_pids": sorted(set(self._processes(gpu, "Graphics")) - set(own_pids)),
        }

    def _clock_reasons(self, handle: Any) -> int | None:
        """Drivers before 535 know the question by its older name."""
        for name in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"):
            if (found := self._ask(name, handle)) is not None:
                return int(found)
        return None

    def _held_back(self, handle: Any, policy: str) -> int | None:
        """Time that clocks were held back since the driver was loaded: unlike reasons, it misses nothing between two looks."""
        answer = self._ask("nvmlDeviceGetViolationStatus", handle, getattr(self._module, policy, None))
        return None if answer is None else int(answer.violationTime)

    def _memory(self, gpu: Gpu, what: str) -> int | None:
        answer = self._ask("nvmlDeviceGetMemoryInfo", gpu.handle)
        return None if answer is None else int(getattr(answer, what))

    def _processes(self, gpu: Gpu, kind: str) -> dict[int, int | None]:
        return {int(entry.pid): entry.usedGpuMemory for entry in self._ask(f"nvmlDeviceGet{kind}RunningProcesses", gpu.handle) or ()}

    def _gpu(self, handle: Any, index: int | None) -> Gpu:
        uuid, name = (_text(self._ask(question, handle)) for question in ("nvmlDeviceGetUUID", "nvmlDeviceGetName"))
        memory = self._ask("nvmlDeviceGetMemoryInfo", handle)
        return Gpu(index, uuid or "UUID unknown", name or "name unknown", None if memory is None else int(memory.total), handle)

    def _chosen(self, everything: list[Gpu], wanted: str) -> tuple[Gpu, ...]:
        """As CUDA reads the list: numbers or beginnings of UUIDs; the first that names no device ends it, and one named twice voids it."""
        chosen: list[Gpu] = []
        for entry in map(str.strip, wanted.split(",")):
            gpu = self._named(everything, entry)
            if gpu is None:
                break
            chosen.append(gpu)
        uuids = [gpu.uuid for gpu in chosen]
        return tuple(chosen) if len(set(uuids)) == len(uuids) else ()

    def _named(self, everything: list[Gpu], entry: str) -> Gpu | None:
        if entry.isdigit():
            return everything[int(entry)] if int(entry) < len(everything) else None
        if entry.startswith("MIG-"):
            part = self._ask("nvmlDeviceGetHandleByUUID", entry)
            return None if part is None else self._gpu(part, None)
        matching = [gpu for gpu in everything if entry.startswith("GPU-") and gpu.uuid.startswith(entry)]
        return matching[0] if len(matching) == 1 else None

    def _doubts(self, everything: list[Gpu], environ: Mapping[str, str]) -> list[str]:
        doubts = []
        kinds = {gpu.name for gpu in everything}
        numbered = any(part.strip().isdigit() for part in environ.get("CUDA_VISIBLE_DEVICES", "0").split(","))
        if len(kinds) > 1 and numbered and environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
            doubts.append(
                f"There are GPUs of {len(kinds)} kinds and CUDA numbers the fastest first, NVML by the bus: figures may be of another one; "
                "set CUDA_DEVICE_ORDER=PCI_BUS_ID or name the GPU by its UUID in CUDA_VISIBLE_DEVICES."
            )
        if len(self.gpus) > 1:
            doubts.append(f"CUDA may use {len(self.gpus)} GPUs: memory is the sum over them; CUDA_VISIBLE_DEVICES narrows it to one.")
        if not self.gpus and everything:
            doubts.append(f"CUDA_VISIBLE_DEVICES={environ.get('CUDA_VISIBLE_DEVICES', '')!r} hides every GPU of this machine.")
        for gpu in self.gpus:
            doubts += self._doubts_about(gpu)
        return doubts

    def _doubts_about(self, gpu: Gpu) -> list[str]:
        state, doubts = self._state(gpu, ()), []
        if state["throttling"]:
            doubts.append(f"{gpu.name} is throttled: {', '.join(state['throttling'])}.")
        if state["clock_reasons"] is None:
            doubts.append(f"{gpu.name}'s driver does not say whether clocks are held back, so throttling would go unseen.")
        if state["other_pids"]:
            doubts.append(f"{gpu.name} is shared: {len(state['other_pids'])} other process(es) compute on it.")
        if self._switch("nvmlDeviceGetMigMode", gpu) == "on" and gpu.index is not None:
            doubts.append(f"{gpu.name} is cut into parts (MIG), and figures of the whole are not those of the part that is used.")
        return doubts

    def _ask(self, question: str, *arguments: Any) -> Any:
        """An answer, or None where this driver, library or device has none."""
        function: Callable[..., Any] | None = getattr(self._module, question, None)
        if function is None or None in arguments:
            return None
        try:
            return function(*arguments)
        except self._module.NVMLError:
            return None


Vram: TypeAlias = "Nvml | NoNvml"


def open_nvml(module: Any = None, environ: Mapping[str, str] = os.environ) -> Vram:
    """NVML where there is one, else what stands in its place and says why. Never raises.

    Args:
        module: `pynvml`, or one with its names; None imports it.
        environ: where CUDA's choice of devices is looked up.
    """
    if module is None:
        try:
            module = import_module("pynvml")
        except ImportError:
            return NoNvml('the package nvidia-ml-py is not installed: pip install "shortcast[bench]"')
    try:
        module.nvmlInit()
        return Nvml(module, environ)
    except module.NVMLError as error:
        return NoNvml(f"NVML does not start: {error}")


def _words(bits: int, known: Mapping[int, str]) -> list[str]:
    words = [word for bit, word in known.items() if bits & bit]
    unknown = bits & ~(sum(_HARMLESS) | sum(_THROTTLING))
    return [*words, f"reason {unknown:#x}"] if unknown else words


def _text(value: Any) -> str:
    """Old versions of pynvml answer in bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""
