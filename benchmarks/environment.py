"""The machine and what runs on it, for reading: facts in words, and what makes figures doubtful in sentences.

A fact that cannot be told says `unknown` and why; none is left out. Of other processes only names are written down.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..runtime.cpu import available_cpus
from .machine_state import cpu_cgroups, cpu_mhz, throttled_periods
from .nvml import NoNvml, Vram
from .process_tree import process_tree
from .results import Environment

ABSENT = "not installed"
"""What stands for the version of a library that is not there."""
_LIBRARIES = (
    "shortcast numpy av onnxruntime onnxruntime-gpu ctranslate2 faster-whisper torch transformers onnx openvino tensorrt-cu12 "
    "tensorrt-rtx-cu12 cuda-bindings nvidia-ml-py pywhispercpp psutil"
)
_THREAD_SETTINGS = (
    "OMP_NUM_THREADS OMP_PROC_BIND OMP_PLACES KMP_AFFINITY GOMP_CPU_AFFINITY OPENBLAS_NUM_THREADS OPENBLAS_CORETYPE MKL_NUM_THREADS "
    "NUMEXPR_NUM_THREADS CT2_FORCE_CPU_ISA CUDA_VISIBLE_DEVICES CUDA_DEVICE_ORDER MALLOC_ARENA_MAX PYTHONMALLOC"
)
_FLAGS = (
    "avx avx2 fma f16c avx512f avx512bw avx512_vnni avx_vnni avx512_bf16 avx512_fp16 amx_tile amx_int8 amx_bf16 "
    "neon asimd asimddp asimdhp i8mm bf16 sve sve2"
)
"""Instructions that kernels of the engines are chosen by."""
_CONTAINER_MARKS = {".dockerenv": "Docker", "run/.containerenv": "Podman"}
_CONTAINER_WORDS = {"docker": "Docker", "kubepods": "Kubernetes", "containerd": "containerd", "lxc": "LXC"}
_BUSY_SHARE, _LOOK_S = 0.05, 0.25


@dataclass(frozen=True, slots=True)
class System:
    """Where the facts are read; a test gives folders of its own."""

    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @property
    def proc(self) -> Path:
        return self.root / "proc"

    @property
    def sys(self) -> Path:
        return self.root / "sys"

    def read(self, path: str) -> str:
        """A file's text without blanks around it; empty where it cannot be read."""
        try:
            return (self.root / path).read_text(errors="replace").strip()
        except OSError:
            return ""

    def value(self, path: str, key: str) -> str:
        """What follows `key:` in a file of such lines."""
        lines = (line.partition(":") for line in self.read(path).splitlines())
        return next((found.strip() for name, _, found in lines if name.strip() == key), "")


def describe_environment(*, nvml: Vram | None = None, threads: int | None = None, system: System | None = None) -> Environment:
    """Looks at everything once; takes about a third of a second, and never raises.

    Args:
        nvml: what `open_nvml` gave.
        threads: the number the benchmark was told to use; None where it chooses.
        system: where the facts are read.
    """
    here, gpus = system or System(), nvml or NoNvml("nobody asked for it")
    busy = _busy_processes(here)
    facts = {name: _told(look, here) for name, look in _FACTS.items()}
    facts |= {"threads asked for": str(threads) if threads else "as many as each part chooses", "busy processes": busy}
    facts |= {f"version of {name}": _version(name) for name in _LIBRARIES.split()} | gpus.facts()
    return Environment(facts, (*_doubts(here, threads, busy), *_gpu_doubts(here, gpus), *gpus.warnings))


def _told(look: Callable[[System], str], system: System) -> str:
    try:
        return look(system) or "unknown: the system does not say"
    except (OSError, ValueError) as error:
        return f"unknown: {error}"


def _cpu(system: System) -> str:
    names = [system.value("proc/cpuinfo", key) for key in ("model name", "Hardware", "CPU part")]
    return next(filter(None, names), "") or platform.processor()


def _cpu_flags(system: System) -> str:
    held = {*system.value("proc/cpuinfo", "flags").split(), *system.value("proc/cpuinfo", "Features").split()}
    if not held:
        return ""
    return " ".join(flag for flag in _FLAGS.split() if flag in held) or "none that kernels are chosen by"


def _cpus(system: System) -> str:
    smt = {"1": ", hyperthreads on", "0": ", hyperthreads off"}.get(system.read("sys/devices/system/cpu/smt/active"), "")
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{os.cpu_count()} of the system, {allowed} allowed to this process, {available_cpus()} usable with its quota{smt}"


def _quota(system: System) -> str:
    for folder in cpu_cgroups(proc=system.proc, sys=system.sys):
        for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
            if all((folder / name).is_file() for name in names):
                limit, period = " ".join((folder / name).read_text().strip() for name in names).split()
                return "none" if limit in ("max", "-1") else f"{float(limit) / float(period):g} CPUs"
    return "unknown: no control group of CPUs is seen"


def _throttled(system: System) -> str:
    periods = throttled_periods(proc=system.proc, sys=system.sys)
    return "unknown: the control group has no such count" if periods is None else f"{periods} periods so far"


def _heat(system: System) -> str:
    counts = [int(path.read_text()) for path in system.sys.glob("devices/system/cpu/cpu[0-9]*/thermal_throttle/*_throttle_count")]
    return f"{max(counts)} times so far" if counts else "unknown: this CPU or virtual machine does not count it"


def _governor(system: System) -> str:
    found = {path.read_text().strip() for path in system.sys.glob("devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")}
    return ", ".join(sorted(found)) or "unknown: clocks are not this system's to set, as in a virtual machine"


def _boost(system: System) -> str:
    told = system.read("sys/devices/system/cpu/cpufreq/boost") or {"0": "1", "1": "0"}.get(
        system.read("sys/devices/system/cpu/intel_pstate/no_turbo"), ""
    )
    return {"1": "on", "0": "off"}.get(told, "unknown: the system has no switch for it")


def _clock(system: System) -> str:
    limits = [system.read(f"sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_{end}_freq") for end in ("min", "max")]
    span = f", may be {int(limits[0]) / 1000:.0f} to {int(limits[1]) / 1000:.0f} MHz" if all(limits) else ""
    now = cpu_mhz(proc=system.proc, sys=system.sys)
    return f"{now:.0f} MHz{span}" if now else ""


def _caches(system: System) -> str:
    folders = sorted((system.sys / "devices/system/cpu/cpu0/cache").glob("index*"))
    parts = [[(folder / name).read_text().strip() for name in ("level", "type", "size")] for folder in folders]
    return ", ".join(f"L{level} {size}" for level, kind, size in parts if kind != "Instruction")


def _memory(system: System) -> str:
    total, free = (system.value("proc/meminfo", key) for key in ("MemTotal", "MemAvailable"))
    return f"{_gib(total)} in all, {_gib(free)} available" if total and free else ""


def _memory_limit(system: System) -> str:
    for path in ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"):
        if limit := system.read(path):
            return "none" if limit == "max" or int(limit) > 1 << 60 else f"{int(limit) / 2**30:.1f} GiB"
    return "unknown: no control group of memory is seen"


def _swap(system: System) -> str:
    total, free = (system.value("proc/meminfo", key) for key in ("SwapTotal", "SwapFree"))
    if not total or not free:
        return ""
    return "none" if total.startswith("0 ") else f"{_gib(total)} in all, {_gib(free)} free"


def _gib(text: str) -> str:
    return f"{int(text.split()[0]) / 2**20:.1f} GiB"


def _huge_pages(system: System) -> str:
    chosen = system.read("sys/kernel/mm/transparent_hugepage/enabled")
    return chosen[chosen.find("[") + 1 : chosen.find("]")] if "[" in chosen else ""


def _container(system: System) -> str:
    for mark, name in _CONTAINER_MARKS.items():
        if (system.root / mark).exists():
            return name
    groups = system.read("proc/self/cgroup") + system.read("proc/1/cgroup")
    named = next((name for word, name in _CONTAINER_WORDS.items() if word in groups), "")
    return named or ("yes, of an unknown kind" if system.environ.get("container") else "none seen")


def _virtual(system: System) -> str:
    maker, product = (system.read(f"sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name"))
    hypervisor = system.read("sys/hypervisor/type")
    guest = "hypervisor" in system.value("proc/cpuinfo", "flags").split()
    what = " ".join(filter(None, (maker, product, hypervisor)))
    return f"yes{f' ({what})' if what else ', of an unknown kind'}" if guest else f"no sign of it{f' ({what})' if what else ''}"


def _settings(system: System) -> str:
    held = [f"{name}={system.environ[name]}" for name in _THREAD_SETTINGS.split() if name in system.environ]
    preloaded = [Path(part).name for part in system.environ.get("LD_PRELOAD", "").split(":") if part]
    return ", ".join([*held, *(f"LD_PRELOAD of {name}" for name in preloaded)]) or "none set"


def _load(system: System) -> str:
    return " ".join(system.read("proc/loadavg").split()[:3])


def _power(system: System) -> str:
    mains = [path.read_text().strip() for path in system.sys.glob("class/power_supply/A*/online")]
    return "" if not mains else "mains" if "1" in mains else "battery"


_FACTS: dict[str, Callable[[System], str]] = {
    "CPU": _cpu,
    "CPU instructions": _cpu_flags,
    "CPUs": _cpus,
    "CPU quota": _quota,
    "CPU held back by the quota": _throttled,
    "CPU held back by heat": _heat,
    "CPU governor": _governor,
    "CPU boost": _boost,
    "CPU clock": _clock,
    "CPU caches": _caches,
    "memory": _memory,
    "memory limit": _memory_limit,
    "swap": _swap,
    "transparent huge pages": _huge_pages,
    "power": _power,
    "system": lambda system: platform.platform(),
    "container": _container,
    "virtual machine": _virtual,
    "clock source": lambda system: system.read("sys/devices/system/clocksource/clocksource0/current_clocksource"),
    "Python": lambda system: f"{platform.python_implementation()} {platform.python_version()}, {platform.python_compiler()}",
    "settings of threads and devices": _settings,
    "load average": _load,
}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ABSENT


def _busy_processes(system: System) -> str:
    """Names of the others that use CPU time just now, with their share of one CPU."""
    before = _times(system.proc)
    if not before:
        return "unknown: the system does not list processes"
    time.sleep(_LOOK_S)
    own = {*process_tree(os.getpid()).pids(), os.getpid()}
    per_tick = 1 / (os.sysconf("SC_CLK_TCK") * _LOOK_S)
    used = [(pid, name, (ticks - before[pid][1]) * per_tick) for pid, (name, ticks) in _times(system.proc).items() if pid in before]
    others = sorted((share, name) for pid, name, share in used if pid not in own and share > _BUSY_SHARE)
    return ", ".join(f"{name} ({share:.0%} of a CPU)" for share, name in reversed(others)) or "none"


def _times(proc: Path) -> dict[int, tuple[str, int]]:
    """Name and CPU time of every process, in clock ticks."""
    found = {}
    for path in proc.glob("[0-9]*/stat"):
        try:
            head, _, rest = path.read_text(errors="replace").rpartition(")")
        except OSError:
            continue
        found[int(path.parent.name)] = head.partition("(")[2], sum(map(int, rest.split()[11:13]))
    return found


def _doubts(system: System, threads: int | None, busy: str) -> Iterator[str]:
    governor, load = _told(_governor, system), _told(_load, system)
    usable = available_cpus()
    if "unknown" not in governor and governor != "performance":
        yield f"The CPU's governor is {governor}: clocks follow the load, so short runs may be slower; `performance` is steadier."
    if _told(_power, system) == "battery":
        yield "The machine runs on its battery, and may save power."
    if _told(_virtual, system).startswith("yes"):
        yield "This is a virtual machine: its neighbours and the host's clocks cannot be seen."
    if not load.startswith("unknown") and float(load.split()[0]) > 0.5 * usable:
        yield f"The load average was {load.split()[0]} before the benchmark began, for {usable} usable CPUs: something else is running."
    if busy != "none" and not busy.startswith("unknown"):
        yield f"Other processes were busy before the benchmark began: {busy}."
    if threads is not None and threads > usable:
        yield f"{threads} threads were asked for and {usable} CPUs are usable."
    settings = [part for part in _settings(system).split(", ") if "THREADS" in part or "CORETYPE" in part or "_ISA" in part]
    if settings:
        yield f"The environment sets {', '.join(settings)}, which libraries obey."


def _gpu_doubts(system: System, nvml: Vram) -> Iterator[str]:
    there = (system.root / "dev/nvidia0").exists() or (system.proc / "driver/nvidia/version").exists()
    if nvml.reason and there:
        yield f"There is an NVIDIA GPU and NVML cannot be asked about it ({nvml.reason}): its memory, clocks and neighbours are unknown."
