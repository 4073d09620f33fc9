"""What others did to a run: from the real /proc, and from made ones."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shortcast.benchmarks.machine_state import Machine, cpu_mhz, labels_of, throttled_periods
from shortcast.benchmarks.nvml import open_nvml
from shortcast.benchmarks.nvml_fake import FakeDevice, FakeNvml
from shortcast.benchmarks.results import MachineState

QUIET = MachineState(0.1, 0.02, 2600.0, 5)
SPIN = "import time\nuntil = time.monotonic() + 1.0\nwhile time.monotonic() < until: pass"


def files(root: Path, **texts: str) -> Path:
    for name, text in texts.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="needs /proc")
def test_others_time_is_told_from_our_own() -> None:
    ours = Machine()
    theirs = Machine(root_pid=999_999_999)
    assert (ours.look().busy_share, theirs.look().busy_share) == (None, None)
    begun = time.process_time(), os.times().children_user
    subprocess.run([sys.executable, "-c", SPIN], check=True)
    mine, seen = ours.look(), theirs.look()
    used = time.process_time() - begun[0] + os.times().children_user - begun[1]
    assert mine.busy_share is not None
    assert seen.busy_share is not None
    assert 0 <= mine.busy_share <= seen.busy_share <= 1
    # The child's time is ours in one account and others' in the other; /proc/stat counts in hundredths of a second.
    assert used < 0.1 or seen.busy_share - mine.busy_share > 0.02


def stat(busy: int, idle: int) -> str:
    return f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 2 3 4\n"


def test_a_busy_machine_is_shared(tmp_path: Path) -> None:
    machine = Machine(proc=files(tmp_path, stat=stat(100, 100)))
    before = machine.look()
    files(tmp_path, stat=stat(100_000_000, 100))
    after = machine.look()
    assert after.busy_share == 1.0
    assert labels_of(before, after) == {"SHARED": "Others used 100% of the CPUs' time meanwhile."}


def test_where_nothing_is_told_it_is_none(tmp_path: Path) -> None:
    machine = Machine(proc=tmp_path / "no", sys=tmp_path / "no")
    machine.look()
    state = machine.look()
    assert (state.busy_share, state.cpu_mhz, state.cpu_throttled, state.gpu) == (None, None, None, {})


@pytest.mark.parametrize(
    ("cgroup", "where"),
    [
        ("0::/\n", "fs/cgroup"),
        ("0::/user/me\n", "fs/cgroup/user/me"),
        ("3:memory:/x\n2:cpu,cpuacct:/docker/1\n", "fs/cgroup/cpu,cpuacct/docker/1"),
        ("2:cpu:/docker/1\n0::/\n", "fs/cgroup/cpu"),
        ("", "fs/cgroup/cpu"),
    ],
)
def test_throttled_periods_are_found_wherever_the_group_is(tmp_path: Path, cgroup: str, where: str) -> None:
    files(tmp_path, proc__self__cgroup=cgroup)
    folder = tmp_path / "sys" / where
    folder.mkdir(parents=True)
    (folder / "cpu.stat").write_text("nr_periods 9\nnr_throttled 7\nthrottled_usec 3\n")
    assert throttled_periods(proc=tmp_path / "proc", sys=tmp_path / "sys") == 7


def test_the_clock_is_the_governors_where_there_is_one(tmp_path: Path) -> None:
    cpus = {f"sys__devices__system__cpu__cpu{i}__cpufreq__scaling": str(1000_000 * (i + 1)) for i in range(2)}
    for name, text in cpus.items():
        path = tmp_path / (name.replace("__", "/") + "_cur_freq")
        path.parent.mkdir(parents=True)
        path.write_text(text + "\n")
    files(tmp_path, proc__cpuinfo="cpu MHz\t\t: 3100.5\n")
    assert cpu_mhz(proc=tmp_path / "proc", sys=tmp_path / "sys") == 2000.0
    assert cpu_mhz(proc=tmp_path / "proc", sys=tmp_path / "none") == 3100.5


@pytest.mark.parametrize(
    ("after", "labels"),
    [
        (QUIET, {}),
        (MachineState(0.1, None, None, None), {}),
        (MachineState(9.0, 0.10, 2340.0, 5), {}),
        (MachineState(0.1, 0.23, 2600.0, 5), {"SHARED": "Others used 23% of the CPUs' time meanwhile."}),
        (MachineState(0.1, 0.0, 2600.0, 9), {"THROTTLED": "The control group's CPU quota held it back in 4 periods."}),
        (MachineState(0.1, 0.0, 2300.0, 5), {"THROTTLED": "The CPU's clock fell from 2600 to 2300 MHz."}),
    ],
)
def test_labels_have_reasons(after: MachineState, labels: dict[str, str]) -> None:
    assert labels_of(QUIET, after) == labels


def test_a_gpu_throttles_between_two_looks_and_is_shared() -> None:
    device = FakeDevice(compute=[(os.getpid(), 1)])
    machine = Machine(nvml=open_nvml(FakeNvml(device), {}))
    before = machine.look()
    assert labels_of(before, before) == {}
    device.held_back_ns = 1_500_000_000
    device.reasons = 0x1
    assert "NVIDIA A was held back by its power limit for 1.50 s." in labels_of(before, machine.look())["THROTTLED"]
    device.held_back_ns, device.reasons = None, 0x40
    device.compute = [(os.getpid(), 1), (999_999_999, 1)]
    labels = labels_of(before, machine.look())
    assert labels["THROTTLED"] == "NVIDIA A was throttled: thermal slowdown by hardware."
    assert "1 other process(es) computed on NVIDIA A." in labels["SHARED"]
