"""How many CPUs this process may really use."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")
_CGROUP = Path("/sys/fs/cgroup")


def available_cpus(cgroup: Path = _CGROUP) -> int:
    """The smaller of the scheduler's affinity mask and the container's CPU quota, rounded up; at least 1.

    Args:
        cgroup: where the control group filesystem is mounted (version 1 or 2).
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    quota = _quota(cgroup)
    return max(1, allowed if quota is None else min(allowed, math.ceil(quota)))


def cpu_model(cpu_info: Path = _CPU_INFO) -> str:
    """What kernels are chosen by: architecture, model and instruction sets of the first processor.

    Args:
        cpu_info: where Linux describes the processors.
    """
    named = [platform.machine(), platform.system()]
    try:
        with cpu_info.open(encoding="ascii", errors="replace") as lines:
            for line in lines:
                if not line.strip():  # the next processor
                    break
                name, _, value = line.partition(":")
                if name.strip() in _TELLING:
                    named.append(value.strip())
    except OSError:
        named.append(platform.processor())
    return "\n".join(named)


_TELLING = frozenset({"vendor_id", "cpu family", "model", "model name", "stepping", "flags", "Features", "CPU implementer", "CPU part"})


def _quota(cgroup: Path) -> float | None:
    """CPUs' worth of time per period, or None where none is set."""
    try:
        if (cgroup / "cpu.max").exists():
            limit, period = (cgroup / "cpu.max").read_text().split()
        else:
            limit = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text()
        return float(limit) / float(period) if limit != "max" and float(limit) > 0 else None
    except (OSError, ValueError):
        return None
