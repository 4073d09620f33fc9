"""Memory of real processes on this machine, and of scripted ones on machines that aren't here."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from shortcast.benchmarks.memory import MemoryWatch, thinned, watch_memory
from shortcast.benchmarks.nvml import open_nvml
from shortcast.benchmarks.nvml_fake import FakeDevice, FakeNvml
from shortcast.benchmarks.process_tree import own_peak_rss, process_tree
from shortcast.benchmarks.results import MemorySample
from shortcast.errors import EngineError

MIB = 1 << 20
NO_MEMORY = FakeNvml(FakeDevice(), missing=["nvmlDeviceGetMemoryInfo"])
linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")

# Says when it is ready, waits to be told, and holds what it is asked for.
_HOLDER = """
import subprocess, sys, time
print("ready", flush=True)
sys.stdin.readline()
begun = time.monotonic()
block = bytearray(b"x" * (int(sys.argv[1]) << 20))
child = subprocess.Popen([sys.executable, "-c", sys.argv[2]]) if len(sys.argv) > 2 else None
print(begun, flush=True)
sys.stdin.readline()
if child:
    child.wait()
"""


def start(*arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", _HOLDER, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("what was waited for did not come in 30 s")


@linux
def test_a_block_of_memory_is_seen_and_put_to_the_phase_that_took_it() -> None:
    process = start("64")
    with process, watch_memory(process.pid) as watch:
        tell(process)
        assert process.stdout is not None
        watch.mark("load-graphs", at=float(process.stdout.readline()))
        seen = len(watch._looks)
        wait_for(lambda: len(watch._looks) > seen + 3)
        tell(process)
        process.wait()
    trace = watch.trace(parts={"load-graphs": {"block": 64 * MIB}})
    parts = {entry.what: entry.bytes for entry in trace.ledger}
    assert 64 * MIB < trace.peak_rss_bytes < 200 * MIB
    assert parts["block"] == 64 * MIB
    assert 0 < parts["interpreter"] < 40 * MIB
    assert sum(parts.values()) == trace.peak_rss_bytes
    assert trace.rss_method.startswith("the kernel's high-water mark (VmHWM); timeline from another process every 8 ms (longest gap ")
    assert trace.peak_vram_bytes is None
    assert trace.vram_method == "not told: nobody asked for it"
    assert [name for name, _ in trace.marks] == ["load-graphs"]
    assert trace.samples[0].at_s < trace.marks[0][1] < trace.samples[-1].at_s


@linux
def test_children_are_counted_and_may_come_and_go() -> None:
    process = start("1", "block = bytearray(b'x' * (64 << 20)); input()")
    with process, watch_memory(process.pid) as watch:
        tell(process)
        wait_for(lambda: any(len(look.memory.pids) == 2 and look.memory.rss_bytes > 80 * MIB for look in watch._looks))
        assert process.stdin is not None
        process.stdin.close()  # ends the child, whose input it is too, and then the parent
        process.wait()
    trace = watch.trace()
    assert trace.peak_rss_bytes > 80 * MIB
    assert trace.rss_method.startswith("sum over up to 2 processes")


@linux
def test_a_process_that_was_killed_leaves_a_trace() -> None:
    process = start("8")
    with process, watch_memory(process.pid) as watch:
        process.kill()
        process.wait()
        wait_for(lambda: not watch._thread.is_alive())
    assert watch.trace().peak_rss_bytes > 4 * MIB


def test_a_process_that_is_not_there_cannot_be_watched() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with pytest.raises(EngineError, match=f"process {process.pid} has ended already"), watch_memory(process.pid):
        pass


def test_the_tree_of_this_process_has_memory_and_time() -> None:
    tree = process_tree(os.getpid())
    memory, before = tree.memory(), tree.cpu_s()
    while tree.cpu_s() - before < 0.05:
        sum(range(100_000))
    assert os.getpid() in memory.pids
    assert memory.rss_bytes > 10 * MIB
    assert (own_peak_rss() or 0) >= 10 * MIB
    tree.close()


def test_time_of_children_that_were_waited_for_is_kept() -> None:
    tree = process_tree(os.getpid())
    before = tree.cpu_s()
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass"], check=True)
    assert tree.cpu_s() - before >= 0.25


@pytest.mark.parametrize(
    ("compute", "peak", "method"),
    [
        (lambda turn: [(42, turn * 100 * MIB)], 300, "NVML, by process, "),
        (lambda turn: [(9000, turn * 100 * MIB)], 600, "(their numbers are hidden, as in a container)"),
        (lambda turn: [], 600, "(their numbers are hidden, as in a container)"),
        (lambda turn: [(42, None)], 600, "NVML names this run's process but not its memory"),
        (lambda turn: [(42, 0)], 600, "NVML says that this run's process holds 0 bytes"),
    ],
    ids=["visible pid", "hidden pid", "no pids", "memory kept back", "reads zero"],
)
def test_vram_by_process_where_it_can_be_told_else_by_device(
    scripted: ModuleType, compute: Callable[[int], list[tuple[int, int | None]]], peak: int, method: str
) -> None:
    tree = scripted.Scripted([10, 20, 30, 15])
    device = FakeDevice(compute=lambda: compute(tree.turn), used=lambda: (500 + 200 * tree.turn) * MIB)
    trace = scripted.watched(open_nvml(FakeNvml(device), {}), tree).trace()
    assert trace.peak_vram_bytes == peak * MIB
    assert method in trace.vram_method
    assert ("anyone's included" in trace.vram_method) == (peak == 600)
    assert sum(entry.bytes for entry in trace.ledger) == peak * MIB
    assert trace.ledger[0].source == "nvml"


def test_a_run_on_the_cpu_uses_no_vram_and_its_ledger_is_of_resident_memory(scripted: ModuleType) -> None:
    trace = scripted.watched(open_nvml(FakeNvml(FakeDevice()), {}), scripted.Scripted([10, 20, 15])).trace()
    assert trace.peak_vram_bytes == 0
    assert trace.vram_method == "NVML, by process: no process of this run is on a GPU, and no device holds more than before"
    assert sum(entry.bytes for entry in trace.ledger) == 20


@pytest.mark.parametrize(
    ("fake", "environ", "reason"),
    [
        (FakeNvml(problem="Driver Not Loaded"), {}, "not told: NVML does not start: Driver Not Loaded"),
        (FakeNvml(FakeDevice()), {"CUDA_VISIBLE_DEVICES": ""}, "not told: CUDA may use no GPU (CUDA_VISIBLE_DEVICES)"),
        (
            FakeNvml(FakeDevice(), missing=["nvmlDeviceGetMemoryInfo"]),
            {},
            "not told: NVML says neither what processes nor what devices hold",
        ),
    ],
)
def test_vram_that_cannot_be_told_is_none_and_says_why(scripted: ModuleType, fake: FakeNvml, environ: dict[str, str], reason: str) -> None:
    trace = scripted.watched(open_nvml(fake, environ), scripted.Scripted([10, 20])).trace()
    assert trace.peak_vram_bytes is None
    assert {sample.vram_bytes for sample in trace.samples} == {None}
    assert trace.vram_method == reason


def test_memory_of_two_gpus_is_summed_for_the_process(scripted: ModuleType) -> None:
    devices = [FakeDevice(compute=[(42, 10 * MIB)]), FakeDevice("GPU-b", compute=[(42, 5 * MIB), (9, MIB)])]
    assert scripted.watched(open_nvml(FakeNvml(*devices), {}), scripted.Scripted([1, 1])).trace().peak_vram_bytes == 15 * MIB


def test_what_the_process_says_of_itself_counts(scripted: ModuleType) -> None:
    watch = scripted.watched(open_nvml(FakeNvml(problem="none")), scripted.Scripted([10, 20, 15]))
    watch.peak(25)
    trace = watch.trace()
    assert trace.peak_rss_bytes == 25
    assert trace.ledger[-1].what == "rest"
    assert trace.ledger[-1].bytes == 5


def test_a_failure_while_watching_is_raised_where_the_watch_ends(scripted: ModuleType) -> None:
    tree = scripted.Scripted([1, 2, 3])
    device = FakeDevice(used=lambda: 1 // (1 - tree.turn))
    with pytest.raises(ZeroDivisionError), MemoryWatch(42, interval_s=0.0005, nvml=open_nvml(FakeNvml(device), {}), tree=tree) as watch:
        wait_for(lambda: not watch._thread.is_alive())


@pytest.mark.parametrize("count", [0, 1, 499, 500, 501, 5000])
def test_thinning_keeps_the_peaks(count: int) -> None:
    samples = [MemorySample(float(i), (i * 7919) % 1009, (i * 104729) % 997 if i % 3 else None) for i in range(count)]
    kept = thinned(samples)
    assert len(kept) <= 500
    assert [sample.at_s for sample in kept] == sorted(sample.at_s for sample in kept)
    if samples:
        assert max(sample.rss_bytes for sample in kept) == max(sample.rss_bytes for sample in samples)
        assert max(sample.vram_bytes or 0 for sample in kept) == max(sample.vram_bytes or 0 for sample in samples)
