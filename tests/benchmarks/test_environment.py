"""The environment of this machine, and of machines that a folder describes."""

from pathlib import Path

import pytest

from shortcast.benchmarks.environment import _FACTS, System, describe_environment
from shortcast.benchmarks.nvml import open_nvml
from shortcast.benchmarks.nvml_fake import FakeDevice, FakeNvml

CPU = "sys/devices/system/cpu"
LAPTOP = {
    "proc/cpuinfo": "model name\t: Some CPU 9000\nflags\t\t: fpu avx avx2 fma avx_vnni\n",
    "proc/meminfo": "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\nSwapTotal: 2097152 kB\nSwapFree: 1048576 kB\n",
    "proc/loadavg": "99.5 1.0 1.0 1/100 5\n",
    "proc/self/cgroup": "0::/kubepods/pod1\n",
    "sys/fs/cgroup/kubepods/pod1/cpu.max": "150000 100000\n",
    "sys/fs/cgroup/kubepods/pod1/cpu.stat": "nr_throttled 12\n",
    "sys/fs/cgroup/memory.max": str(4 << 30),
    f"{CPU}/cpu0/cpufreq/scaling_governor": "powersave\n",
    f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "1800000\n",
    f"{CPU}/cpu0/cpufreq/cpuinfo_min_freq": "400000\n",
    f"{CPU}/cpu0/cpufreq/cpuinfo_max_freq": "4700000\n",
    f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "3\n",
    f"{CPU}/intel_pstate/no_turbo": "0\n",
    f"{CPU}/smt/active": "1\n",
    "sys/class/power_supply/AC/online": "0\n",
    "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
}


def made(root: Path, files: dict[str, str], environ: dict[str, str] | None = None) -> System:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return System(root, environ or {})


def test_this_machine_is_described_without_a_gap() -> None:
    environment = describe_environment(nvml=open_nvml(), threads=10_000)
    assert set(_FACTS) <= set(environment.facts)
    assert all(isinstance(text, str) and text for text in environment.facts.values())
    assert environment.facts["version of numpy"][0].isdigit()
    assert any(warning.startswith("10000 threads were asked for") for warning in environment.warnings)


def test_a_laptop_on_its_battery_in_a_container(tmp_path: Path) -> None:
    system = made(tmp_path, LAPTOP, {"OMP_NUM_THREADS": "3", "LD_PRELOAD": "/secret/place/libjemalloc.so"})
    environment = describe_environment(system=system)
    expected = {
        "CPU": "Some CPU 9000",
        "CPU instructions": "avx avx2 fma avx_vnni",
        "CPU quota": "1.5 CPUs",
        "CPU held back by the quota": "12 periods so far",
        "CPU held back by heat": "3 times so far",
        "CPU governor": "powersave",
        "CPU boost": "on",
        "CPU clock": "1800 MHz, may be 400 to 4700 MHz",
        "memory": "16.0 GiB in all, 8.0 GiB available",
        "memory limit": "4.0 GiB",
        "swap": "2.0 GiB in all, 1.0 GiB free",
        "transparent huge pages": "madvise",
        "power": "battery",
        "container": "Kubernetes",
        "virtual machine": "no sign of it",
        "settings of threads and devices": "OMP_NUM_THREADS=3, LD_PRELOAD of libjemalloc.so",
    }
    assert {key: environment.facts[key] for key in expected} == expected
    assert [warning.split()[:3] for warning in environment.warnings] == [
        ["The", "CPU's", "governor"],
        ["The", "machine", "runs"],
        ["The", "load", "average"],
        ["The", "environment", "sets"],
    ]


def test_where_nothing_is_told_it_says_so(tmp_path: Path) -> None:
    environment = describe_environment(system=System(tmp_path, {}))
    untold = ["CPU instructions", "CPU quota", "CPU governor", "memory", "swap", "load average", "clock source", "busy processes"]
    assert [key for key in untold if not environment.facts[key].startswith("unknown: ")] == []
    assert environment.warnings == ()


@pytest.mark.parametrize("problem", ["NVML Shared Library Not Found", ""])
def test_a_gpu_without_nvml_is_warned_of(tmp_path: Path, problem: str) -> None:
    nvml = open_nvml(FakeNvml(FakeDevice(reasons=0x8), problem=problem), {})
    environment = describe_environment(nvml=nvml, system=made(tmp_path, {"dev/nvidia0": ""}))
    if problem:
        assert "GPU" in environment.facts
        assert environment.warnings == (
            "There is an NVIDIA GPU and NVML cannot be asked about it (NVML does not start: NVML Shared Library Not Found): its memory, "
            "clocks and neighbours are unknown.",
        )
    else:
        assert environment.facts["GPU 0"].startswith("NVIDIA A (GPU-aaaa1111)")
        assert environment.warnings == ("NVIDIA A is throttled: hardware slowdown.",)
