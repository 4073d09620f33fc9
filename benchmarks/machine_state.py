"""What may spoil a run: looked at before and after it, and put into words where it did."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .nvml import NoNvml, Vram
from .process_tree import process_tree
from .results import Label, MachineState

_PROC, _SYS = Path("/proc"), Path("/sys")
_SPIN_S = 0.03
"""Of work before a clock is read: that of an idle CPU says nothing."""
MOST_BUSY_SHARE = 0.10
MOST_CLOCK_DROP = 0.10


@dataclass(frozen=True, slots=True)
class _CpuTimes:
    """At one moment, in seconds: of the wall, of all CPUs together that was not idle, and of it what this benchmark used."""

    wall: float
    busy: float | None
    own: float


class Machine:
    """Remembers its last look, so that the next can say what others did meanwhile. Look while no run is going on."""

    def __init__(self, *, nvml: Vram | None = None, root_pid: int | None = None, proc: Path = _PROC, sys: Path = _SYS) -> None:
        """Looks at nothing yet.

        Args:
            nvml: what `open_nvml` gave.
            root_pid: whose process tree is not "others"; None is the calling process.
            proc: where the kernel tells of processes.
            sys: where the kernel tells of hardware and control groups.
        """
        self._nvml: Vram = nvml or NoNvml("nobody asked for it")
        self._tree = process_tree(root_pid or os.getpid())
        self._proc = proc
        self._sys = sys
        self._before: _CpuTimes | None = None

    def look(self) -> MachineState:
        """The state now; the share that others used is since the look before."""
        times = _CpuTimes(time.monotonic(), _busy_s(self._proc), self._tree.cpu_s())
        share, self._before = _others_share(self._before, times), times
        return MachineState(
            load_1m=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            busy_share=share,
            cpu_mhz=cpu_mhz(proc=self._proc, sys=self._sys),
            cpu_throttled=throttled_periods(proc=self._proc, sys=self._sys),
            gpu=self._nvml.state(self._tree.pids()),
        )


def labels_of(before: MachineState, after: MachineState) -> dict[Label, str]:
    """THROTTLED and SHARED where they hold, each with its reasons as sentences."""
    found: dict[Label, str] = {}
    if throttled := [*_cpu_throttling(before, after), *_gpu_throttling(before, after)]:
        found["THROTTLED"] = " ".join(throttled)
    if shared := [*_cpu_sharing(after), *_gpu_sharing(before, after)]:
        found["SHARED"] = " ".join(shared)
    return found


def cpu_mhz(*, proc: Path = _PROC, sys: Path = _SYS) -> float | None:
    """The fastest CPU's clock just after a short spin; on a virtual machine the host's nominal one. None where nobody tells."""
    until = time.perf_counter() + _SPIN_S
    while time.perf_counter() < until:
        pass
    khz = [_number(path) for path in sys.glob("devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")]
    if known := [value for value in khz if value]:
        return max(known) / 1000
    lines = _text(proc / "cpuinfo").splitlines()
    return max((float(line.rpartition(":")[2]) for line in lines if line.startswith("cpu MHz")), default=None)


def throttled_periods(*, proc: Path = _PROC, sys: Path = _SYS) -> int | None:
    """How often the control group of this process was held back by its CPU quota; None where there is no such count."""
    for folder in cpu_cgroups(proc=proc, sys=sys):
        for line in _text(folder / "cpu.stat").splitlines():
            if line.startswith("nr_throttled "):
                return int(line.split()[1])
    return None


def cpu_cgroups(*, proc: Path = _PROC, sys: Path = _SYS) -> Iterator[Path]:
    """Folders that may hold this process's CPU group, the likeliest first: its own path (versions 2 and 1), then what a container sees."""
    mount = sys / "fs" / "cgroup"
    for line in _text(proc / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield mount / path.lstrip("/")
        elif "cpu" in controllers.split(","):
            yield from (mount / controllers / path.lstrip("/"), mount / "cpu" / path.lstrip("/"))
    yield from (mount, mount / "cpu")


def _busy_s(proc: Path) -> float | None:
    """Time that all CPUs together were not idle, stolen time included; time spent waiting for disks is idle."""
    first = _text(proc / "stat").split("\n", 1)[0].split()
    if not first or first[0] != "cpu":
        return None
    user, nice, system, _, _, irq, softirq, steal = ([*map(int, first[1:]), *[0] * 8])[:8]
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _others_share(before: _CpuTimes | None, now: _CpuTimes) -> float | None:
    if before is None or before.busy is None or now.busy is None or now.wall <= before.wall:
        return None
    others = (now.busy - before.busy) - (now.own - before.own)
    return min(1.0, max(0.0, others / ((now.wall - before.wall) * (os.cpu_count() or 1))))


def _cpu_throttling(before: MachineState, after: MachineState) -> Iterator[str]:
    if None not in (before.cpu_throttled, after.cpu_throttled) and (grown := (after.cpu_throttled or 0) - (before.cpu_throttled or 0)) > 0:
        yield f"The control group's CPU quota held it back in {grown} periods."
    if before.cpu_mhz and after.cpu_mhz and after.cpu_mhz < (1 - MOST_CLOCK_DROP) * before.cpu_mhz:
        yield f"The CPU's clock fell from {before.cpu_mhz:.0f} to {after.cpu_mhz:.0f} MHz."


def _cpu_sharing(after: MachineState) -> Iterator[str]:
    if (after.busy_share or 0.0) > MOST_BUSY_SHARE:
        yield f"Others used {after.busy_share:.0%} of the CPUs' time meanwhile."


def _gpu_throttling(before: MachineState, after: MachineState) -> Iterator[str]:
    for old, new in _gpus(before, after):
        reasons = sorted({*(old.get("throttling") or ()), *(new.get("throttling") or ())})
        if reasons:
            yield f"{new['name']} was throttled: {', '.join(reasons)}."
        for what, key in (("its power limit", "power_held_back_ns"), ("heat", "heat_held_back_ns")):
            grown = (new[key] - old[key]) / 1e9 if old.get(key) is not None and new.get(key) is not None else 0.0
            if grown > 0:
                yield f"{new['name']} was held back by {what} for {grown:.2f} s."


def _gpu_sharing(before: MachineState, after: MachineState) -> Iterator[str]:
    for old, new in _gpus(before, after):
        others = {*old.get("other_pids", ()), *new.get("other_pids", ())}
        if others:
            yield f"{len(others)} other process(es) computed on {new['name']}."


def _gpus(before: MachineState, after: MachineState) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each device's state before and after, by UUID."""
    old = {gpu["uuid"]: gpu for gpu in before.gpu.get("gpus", ())}
    return ((old.get(gpu["uuid"], {}), gpu) for gpu in after.gpu.get("gpus", ()))


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None
