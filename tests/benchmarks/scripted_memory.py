"""A process whose memory goes by a script, and a watch on it."""

import time

from shortcast.benchmarks.memory import MemoryWatch
from shortcast.benchmarks.nvml import Vram
from shortcast.benchmarks.process_tree import TreeMemory


class Scripted:
    """A tree whose one process holds what the script says, a look at a time."""

    def __init__(self, sizes: list[int], pid: int = 42) -> None:
        self.sizes = sizes
        self.pid = pid
        self.turn = -1

    def memory(self) -> TreeMemory:
        self.turn += 1
        alive = self.turn < len(self.sizes)
        return TreeMemory(self.sizes[self.turn] if alive else 0, None, (self.pid,) if alive else ())

    def cpu_s(self) -> float:
        return 0.0

    def pids(self) -> tuple[int, ...]:
        return (self.pid,)

    def close(self) -> None:
        pass


def watched(nvml: Vram, tree: Scripted) -> MemoryWatch:
    """A watch that has seen the script to its end."""
    with MemoryWatch(42, interval_s=0.0005, nvml=nvml, tree=tree) as watch:
        while watch._thread.is_alive():
            time.sleep(0.001)
    return watch
