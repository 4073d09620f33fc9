"""NVML, through a fake of it: what is asked, what is believed, and what is said where there is no answer."""

import re
from pathlib import Path

import pynvml
import pytest

from shortcast.benchmarks import nvml as module
from shortcast.benchmarks.nvml import NoNvml, Nvml, open_nvml
from shortcast.benchmarks.nvml_fake import _ANSWERS, FakeDevice, FakeNvml

MIB = 1 << 20
A, B = FakeDevice(), FakeDevice("GPU-bbbb2222", "NVIDIA B", used=100 * MIB)


def test_where_there_is_no_nvml_it_says_why_and_answers_nothing() -> None:
    absent = open_nvml(FakeNvml(problem="NVML Shared Library Not Found"))
    assert isinstance(absent, NoNvml)
    assert absent.reason == "NVML does not start: NVML Shared Library Not Found"
    assert absent.facts() == {"GPU": f"none that can be asked: {absent.reason}"}
    assert absent.read().device_bytes is None
    assert absent.state() == {}


def test_the_real_library_opens_or_says_why_not() -> None:
    found = open_nvml()
    assert found.reason or isinstance(found, Nvml)


def test_every_name_that_is_asked_for_is_one_of_pynvmls_and_of_the_fakes() -> None:
    source = Path(module.__file__).read_text(encoding="utf-8")
    asked = set(re.findall(r"nvml[A-Z]\w+", source)) | {"nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"}
    asked.discard("nvmlDeviceGet")  # the beginning of the two above
    asked = {name for name in asked if not name.startswith("nvmlDeviceGet{")}
    assert [name for name in sorted(asked) if not hasattr(pynvml, name)] == []
    assert [name for name in sorted(asked) if not hasattr(FakeNvml(), name)] == []
    assert len(_ANSWERS) == len(asked)
    for constant in re.findall(r"NVML_[A-Z_]+", source):
        assert getattr(pynvml, constant) == getattr(FakeNvml, constant)


def test_the_bits_are_pynvmls() -> None:
    named = {name: getattr(pynvml, name) for name in dir(pynvml) if name.startswith("nvmlClocksEventReason")}
    known = set(module._HARMLESS) | set(module._THROTTLING)
    ours = {bit for name, bit in named.items() if name not in ("nvmlClocksEventReasonAll", "nvmlClocksEventReasonNone")}
    assert ours == known


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (None, ["NVIDIA A", "NVIDIA B"]),
        ("1", ["NVIDIA B"]),
        ("1,0", ["NVIDIA B", "NVIDIA A"]),
        ("GPU-bbbb", ["NVIDIA B"]),
        ("GPU-", []),
        ("0,7,1", ["NVIDIA A"]),
        ("-1", []),
        ("", []),
        ("0,0", []),
        ("MIG-part", ["a part of B"]),
        ("MIG-other", []),
    ],
)
def test_the_devices_are_those_that_cuda_may_use(wanted: str | None, names: list[str]) -> None:
    fake = FakeNvml(A, B, mig={"MIG-part": FakeDevice("MIG-part", "a part of B")})
    found = open_nvml(fake, {} if wanted is None else {"CUDA_VISIBLE_DEVICES": wanted})
    assert [gpu.name for gpu in found.gpus] == names


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, ["There are GPUs of 2 kinds", "CUDA may use 2 GPUs"]),
        ({"CUDA_VISIBLE_DEVICES": "1"}, ["There are GPUs of 2 kinds"]),
        ({"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, []),
        ({"CUDA_VISIBLE_DEVICES": "GPU-bbbb2222"}, []),
        ({"CUDA_VISIBLE_DEVICES": ""}, ["CUDA_VISIBLE_DEVICES='' hides every GPU"]),
    ],
)
def test_two_gpus_are_said_to_be_two(environ: dict[str, str], said: list[str]) -> None:
    warnings = open_nvml(FakeNvml(A, B), environ).warnings
    assert len(warnings) == len(said)
    assert all(warning.startswith(beginning) for warning, beginning in zip(warnings, said, strict=True))


@pytest.mark.parametrize(
    ("device", "said"),
    [
        (FakeDevice(reasons=0x1), ""),
        (FakeDevice(reasons=0x4 | 0x40), "NVIDIA A is throttled: power cap, thermal slowdown by hardware."),
        (FakeDevice(reasons=0x4000), "NVIDIA A is throttled: reason 0x4000."),
        (FakeDevice(reasons=None), "NVIDIA A's driver does not say whether clocks are held back, so throttling would go unseen."),
        (FakeDevice(compute=[(7, MIB)]), "NVIDIA A is shared: 1 other process(es) compute on it."),
        (FakeDevice(mig=(1, 1)), "NVIDIA A is cut into parts (MIG), and figures of the whole are not those of the part that is used."),
        (FakeDevice(mig=(0, 1)), ""),
    ],
)
def test_what_makes_a_gpu_doubtful_is_said(device: FakeDevice, said: str) -> None:
    assert open_nvml(FakeNvml(device), {}).warnings == ((said,) if said else ())


def test_an_older_driver_is_asked_by_the_older_name() -> None:
    old = FakeNvml(FakeDevice(reasons=0x20), missing=["nvmlDeviceGetCurrentClocksEventReasons"])
    assert open_nvml(old, {}).state()["gpus"][0]["throttling"] == ["thermal slowdown by software"]


def test_the_state_of_a_gpu_is_plain_values() -> None:
    device = FakeDevice(compute=[(10, MIB), (11, MIB)], graphics=[(5, None)], reasons=0x1, held_back_ns=12)
    (state,) = open_nvml(FakeNvml(device), {}).state({10})["gpus"]
    assert state == {
        "name": "NVIDIA A",
        "uuid": "GPU-aaaa1111",
        "sm_clock_mhz": 1500,
        "memory_clock_mhz": 1500,
        "clock_reasons": ["idle"],
        "throttling": [],
        "power_held_back_ns": 12,
        "heat_held_back_ns": 12,
        "temperature_c": 41,
        "power_w": 35.5,
        "busy_percent": 7,
        "used_bytes": 500 * MIB,
        "other_pids": [11],
        "graphics_pids": [5],
    }


def test_a_driver_that_answers_little_gives_none_and_not_zero() -> None:
    silent = [f"nvmlDeviceGet{what}" for what in ("UtilizationRates", "PowerUsage", "MemoryInfo", "Temperature", "ViolationStatus")]
    (state,) = open_nvml(FakeNvml(A, missing=silent), {}).state()["gpus"]
    assert {key for key, value in state.items() if value is None} == {
        "power_w",
        "busy_percent",
        "temperature_c",
        "used_bytes",
        "power_held_back_ns",
        "heat_held_back_ns",
    }


def test_memory_is_summed_over_devices_and_unknown_stays_unknown() -> None:
    one = FakeDevice(used=3, compute=[(1, 10), (2, None)])
    two = FakeDevice("GPU-b", used=4, compute=[(1, 5), (2, 7)])
    reading = open_nvml(FakeNvml(one, two), {}).read()
    assert reading.device_bytes == 7
    assert reading.processes == {1: 15, 2: None}


def test_the_facts_name_driver_and_device() -> None:
    facts = open_nvml(FakeNvml(A), {}).facts()
    assert facts["GPU driver"] == "550.54"
    assert facts["CUDA of the driver"] == "12.4"
    assert facts["GPU 0"] == (
        "NVIDIA A (GPU-aaaa1111), NVML index 0, compute capability 8.6, 8.0 GiB, SM clock to 1980 MHz, power limit 170 W, "
        "ECC on, MIG not supported, persistence off"
    )
