"""Memory of a running process, sampled by a thread of another process: the one that is timed is never made to look at itself."""

from __future__ import annotations

import statistics
import threading
import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType

from ..errors import EngineError
from .ledger import Level, ledger
from .nvml import NoNvml, Vram, VramReading
from .process_tree import ProcessTree, TreeMemory, process_tree
from .results import MemorySample, MemoryTrace

INTERVAL_S = 0.008
"""125 Hz, so that a look that comes late still makes 100."""
MOST_SAMPLES = 500
"""Kept of a run; each is the largest of its span, so no peak is lost."""
_NOISE_BYTES = 4 << 20
"""A device's used memory moves by this much on its own."""


@dataclass(frozen=True, slots=True)
class _Look:
    at_s: float
    """By time.monotonic."""
    memory: TreeMemory
    vram: VramReading

    @property
    def own_vram(self) -> int | None:
        """What NVML has for the process and its children; None where it names none of them, or not how much."""
        sizes = [self.vram.processes[pid] for pid in self.memory.pids if pid in self.vram.processes]
        return sum(filter(None, sizes)) if sizes and None not in sizes else None


class MemoryWatch:
    """Samples until it is closed, then says what it saw. Marks may come late: they carry their own time."""

    def __init__(self, pid: int, *, interval_s: float = INTERVAL_S, nvml: Vram | None = None, tree: ProcessTree | None = None) -> None:
        self._pid = pid
        self._interval_s = interval_s
        self._nvml: Vram = nvml or NoNvml("nobody asked for it")
        self._tree = tree or process_tree(pid)
        self._looks: list[_Look] = []
        self._marks: list[tuple[str, float]] = []
        self._stated_peak = 0
        self._missed = 0
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._watch, name="memory-watch", daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._begun_s = time.monotonic()
        if not self._look():
            raise EngineError(f"process {self._pid} has ended already: there is no memory to watch")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        self._tree.close()
        if self._failure is not None and error is None:
            raise self._failure

    def mark(self, name: str, *, at: float | None = None) -> None:
        """A phase begins.

        Args:
            name: one of `ledger.PHASES`, or another.
            at: when, by `time.monotonic()`, which is one clock for all processes of a machine; None is now.
        """
        self._marks.append((name, time.monotonic() if at is None else at))

    def peak(self, rss_bytes: int) -> None:
        """Takes the high-water mark that the process read of itself at its end: the last look may be some milliseconds older."""
        self._stated_peak = max(self._stated_peak, rss_bytes)

    def trace(self, *, parts: Mapping[str, Mapping[str, int]] | None = None) -> MemoryTrace:
        """What was seen, with a ledger of the VRAM if the process used any, else of the resident memory.

        Args:
            parts: by phase, what the engines say they took in it, in bytes by name.
        """
        vram, vram_method = self._vram()
        peak_rss, rss_method = self._peak_rss()
        rss = [look.memory.rss_bytes for look in self._looks]
        if vram is not None and max(vram) > 0:
            entries = ledger(max(vram), self._levels(vram), parts, source="nvml")
        else:
            entries = ledger(peak_rss, self._levels(rss), parts)
        samples = [
            MemorySample(look.at_s - self._begun_s, size, None if vram is None else vram[index])
            for index, (look, size) in enumerate(zip(self._looks, rss, strict=True))
        ]
        return MemoryTrace(
            peak_rss_bytes=peak_rss,
            rss_method=rss_method,
            peak_vram_bytes=None if vram is None else max(vram),
            vram_method=vram_method,
            resolution_s=self._resolution_s(),
            samples=thinned(samples),
            marks=tuple((name, at - self._begun_s) for name, at in self._sorted_marks()),
            ledger=entries,
        )

    def _watch(self) -> None:
        """Looks at fixed times, so that a late look delays no other; a time that has passed is left out."""
        try:
            due_s = self._begun_s + self._interval_s
            while not self._over.wait(max(0.0, due_s - time.monotonic())):
                if not self._look():
                    return
                late = max(0, int((time.monotonic() - due_s) / self._interval_s))
                self._missed += late
                due_s += (1 + late) * self._interval_s
        except BaseException as error:  # shown where the watch is closed: a thread's own traceback would be lost
            self._failure = error

    def _look(self) -> bool:
        """False once every process has ended."""
        memory = self._tree.memory()
        if memory.pids:
            self._looks.append(_Look(time.monotonic(), memory, self._nvml.read()))
        return bool(memory.pids)

    def _peak_rss(self) -> tuple[int, str]:
        sampled = max(look.memory.rss_bytes for look in self._looks)
        kept = max((look.memory.high_water_bytes or 0 for look in self._looks), default=0)
        alone = all(len(look.memory.pids) == 1 for look in self._looks)
        how = self._how_often()
        if not kept and not self._stated_peak:
            return sampled, f"largest of the samples, {how}"
        peak = max(sampled, kept, self._stated_peak)
        if alone:
            return peak, f"the kernel's high-water mark (VmHWM); timeline {how}"
        most = max(len(look.memory.pids) for look in self._looks)
        return peak, f"sum over up to {most} processes, pages they share counted in each; {how}"

    def _how_often(self) -> str:
        gaps = [b.at_s - a.at_s for a, b in pairwise(self._looks)] or [0.0]
        missed = f", {self._missed} looks too late and left out" if self._missed else ""
        return f"from another process every {1e3 * self._interval_s:.0f} ms (longest gap {1e3 * max(gaps):.0f} ms{missed})"

    def _resolution_s(self) -> float:
        return statistics.median([b.at_s - a.at_s for a, b in pairwise(self._looks)] or [self._interval_s])

    def _vram(self) -> tuple[list[int] | None, str]:
        """VRAM at each look and how it was told; by process where NVML can, else by how much more the device holds than at first."""
        if self._nvml.reason or not self._nvml.gpus:
            return None, f"not told: {self._nvml.reason or 'CUDA may use no GPU (CUDA_VISIBLE_DEVICES)'}"
        own = [look.own_vram for look in self._looks]
        if any(own):
            return [size or 0 for size in own], f"NVML, by process, {self._how_often()}"
        device = [look.vram.device_bytes for look in self._looks]
        if None in device:
            return None, "not told: NVML says neither what processes nor what devices hold"
        used = [max(0, (size or 0) - (device[0] or 0)) for size in device]
        if max(used) <= _NOISE_BYTES and not self._named():
            return [0] * len(used), "NVML, by process: no process of this run is on a GPU, and no device holds more than before"
        return used, f"growth of the devices' used memory, anyone's included, {self._how_often()}: {self._why_not_by_process()}"

    def _named(self) -> bool:
        return any(pid in look.vram.processes for look in self._looks for pid in look.memory.pids)

    def _why_not_by_process(self) -> str:
        if not self._named():
            return "NVML names none of this run's processes (their numbers are hidden, as in a container)"
        unsaid = any(look.vram.processes.get(pid, 0) is None for look in self._looks for pid in look.memory.pids)
        return "NVML names this run's process but not its memory" if unsaid else "NVML says that this run's process holds 0 bytes"

    def _levels(self, sizes: Sequence[int]) -> list[Level]:
        """Memory at the last look of each phase that began before the peak; the peak ends the last one."""
        peak_at = max(range(len(sizes)), key=sizes.__getitem__)
        times = [look.at_s for look in self._looks]
        phases = [("start", self._begun_s), *(mark for mark in self._sorted_marks() if mark[1] <= times[peak_at])]
        ends = [max(0, bisect_right(times, following) - 1) for _, (_, following) in pairwise(phases)]
        return [Level(name, sizes[end]) for (name, _), end in zip(phases, [*ends, peak_at], strict=True)]

    def _sorted_marks(self) -> list[tuple[str, float]]:
        return sorted(self._marks, key=lambda mark: mark[1])


def watch_memory(pid: int, *, interval_s: float = INTERVAL_S, nvml: Vram | None = None) -> MemoryWatch:
    """A context manager that samples a process and its children until it ends or the block does.

    Args:
        pid: another process than the one that calls this.
        interval_s: between two looks.
        nvml: what `open_nvml` gave; None leaves VRAM out.

    Raises:
        EngineError: on entering, if there is no such process.
    """
    return MemoryWatch(pid, interval_s=interval_s, nvml=nvml)


def thinned(samples: Sequence[MemorySample], most: int = MOST_SAMPLES) -> tuple[MemorySample, ...]:
    """At most so many samples: of each span of equal count the largest resident size and the largest VRAM, at the time of the former."""
    span = -(-len(samples) // most)
    spans = [samples[start : start + span] for start in range(0, len(samples), span)] if samples else []
    return tuple(_largest(some) for some in spans)


def _largest(some: Sequence[MemorySample]) -> MemorySample:
    top = max(some, key=lambda sample: sample.rss_bytes)
    vram = [sample.vram_bytes for sample in some if sample.vram_bytes is not None]
    return MemorySample(top.at_s, top.rss_bytes, max(vram, default=None))
