"""A process and all its descendants: the memory they hold and the CPU time they have used, read from outside of them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

_PROC = Path("/proc")
_PARENT, _USER, _CHILDREN_SYSTEM = 1, 11, 15
"""Places in /proc/PID/stat behind the name, whose bracket is the only safe mark: a name may hold blanks and brackets."""
_RESCAN_S = 0.25
"""A new child is seen within this, or later where looking for it would take more than `_SCAN_SHARE` of the time."""
_SCAN_SHARE = 0.01
"""Few kernels list a process's children: every process of the machine is asked for its parent, which takes 2 ms for a hundred."""


@dataclass(frozen=True, slots=True)
class TreeMemory:
    """Resident memory at one moment."""

    rss_bytes: int
    """Of all processes together; pages that two of them share count twice."""
    high_water_bytes: int | None
    """The largest resident size that any one of them ever had, as the kernel kept it; None where no kernel does."""
    pids: tuple[int, ...]
    """The processes that were alive; empty after the last has ended."""


class ProcessTree(Protocol):
    """What can be asked of a process and its descendants."""

    def memory(self) -> TreeMemory: ...

    def cpu_s(self) -> float:
        """User and system time of the living, and of the dead whom their parents have waited for."""
        ...

    def pids(self) -> tuple[int, ...]: ...

    def close(self) -> None: ...


def process_tree(pid: int, *, proc: Path = _PROC) -> ProcessTree:
    """The tree below a process: through /proc on Linux, else through psutil."""
    return _ProcTree(pid, proc) if (proc / "self" / "stat").exists() else _PsutilTree(pid)


class _ProcTree:
    """Reads /proc/PID/status through descriptors that stay open: cheap, and a number given to a new process is never mistaken."""

    def __init__(self, pid: int, proc: Path) -> None:
        self._root = pid
        self._proc = proc
        self._status: dict[int, int] = {}
        self._scan_due_s = 0.0
        self._ticks = os.sysconf("SC_CLK_TCK")

    def memory(self) -> TreeMemory:
        if time.monotonic() >= self._scan_due_s:
            self._scan()
        sizes = {pid: size for pid, descriptor in list(self._status.items()) if (size := self._size(pid, descriptor)) is not None}
        return TreeMemory(sum(rss for rss, _ in sizes.values()), max((peak for _, peak in sizes.values()), default=None), tuple(sizes))

    def cpu_s(self) -> float:
        return sum(sum(map(int, fields[_USER:_CHILDREN_SYSTEM])) for pid in self.pids() if (fields := self._stat(pid))) / self._ticks

    def pids(self) -> tuple[int, ...]:
        parents = {pid: int(fields[_PARENT]) for pid in self._everyone() if (fields := self._stat(pid))}
        found = [self._root] if self._root in parents else []
        for pid in found:  # grows while it is gone through
            found += [child for child, parent in parents.items() if parent == pid]
        return tuple(found)

    def close(self) -> None:
        for pid in list(self._status):
            os.close(self._status.pop(pid))

    def _scan(self) -> None:
        begun = time.monotonic()
        for pid in set(self.pids()) - set(self._status):
            with suppress(OSError):
                self._status[pid] = os.open(self._proc / str(pid) / "status", os.O_RDONLY)
        ended = time.monotonic()
        self._scan_due_s = ended + max(_RESCAN_S, (ended - begun) / _SCAN_SHARE)

    def _size(self, pid: int, descriptor: int) -> tuple[int, int] | None:
        """Resident bytes now and at most; None, and forgotten, where the process has ended (a zombie holds no memory)."""
        try:
            text = os.pread(descriptor, 8192, 0)
        except OSError:
            text = b""
        rss, peak = _kib(text, b"VmRSS:"), _kib(text, b"VmHWM:")
        if rss is None or peak is None:
            os.close(self._status.pop(pid))
            return None
        return rss, peak

    def _everyone(self) -> Iterator[int]:
        return (int(name) for name in os.listdir(self._proc) if name.isdigit())

    def _stat(self, pid: int) -> list[bytes]:
        try:
            with open(f"{self._proc}/{pid}/stat", "rb") as file:
                return file.read().rpartition(b")")[2].split()
        except OSError:
            return []


def _kib(status: bytes, key: bytes) -> int | None:
    at = status.find(b"\n" + key)
    return None if at < 0 else 1024 * int(status[at + 1 + len(key) :].split(maxsplit=1)[0])


class _PsutilTree:
    """The same through psutil, for systems with no /proc: no high-water mark, and times of ended children are lost on some."""

    def __init__(self, pid: int) -> None:
        import psutil

        self._psutil = psutil
        self._root = pid

    def memory(self) -> TreeMemory:
        sizes = {process.pid: size for process in self._processes() if (size := self._ask(process, "memory_info"))}
        peaks = [int(peak) for size in sizes.values() if (peak := getattr(size, "peak_wset", None))]
        return TreeMemory(sum(int(size.rss) for size in sizes.values()), max(peaks, default=None), tuple(sizes))

    def cpu_s(self) -> float:
        times = [found for process in self._processes() if (found := self._ask(process, "cpu_times"))]
        return float(sum(t.user + t.system + getattr(t, "children_user", 0.0) + getattr(t, "children_system", 0.0) for t in times))

    def pids(self) -> tuple[int, ...]:
        return tuple(process.pid for process in self._processes())

    def close(self) -> None:
        pass

    def _processes(self) -> list[Any]:
        try:
            root = self._psutil.Process(self._root)
            return [root, *root.children(recursive=True)]
        except self._psutil.Error:
            return []

    def _ask(self, process: Any, what: str) -> Any:
        try:
            return getattr(process, what)()
        except self._psutil.Error:
            return None


def own_peak_rss() -> int | None:
    """The kernel's high-water mark of this process's resident memory in bytes; None where it keeps none."""
    try:
        return _kib((_PROC / "self" / "status").read_bytes(), b"VmHWM:")
    except OSError:
        pass
    try:
        import resource
        import sys
    except ImportError:
        return None
    # Kibibytes everywhere but on macOS, which counts bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
