"""What NVML says, or why it says nothing, all the way from a fake driver into the report that is read."""

from dataclasses import replace
from itertools import count
from pathlib import Path
from types import ModuleType

import pytest

from shortcast.benchmarks import runner
from shortcast.benchmarks.isolation import Finished
from shortcast.benchmarks.nvml import Vram, open_nvml
from shortcast.benchmarks.nvml_fake import FakeDevice, FakeNvml
from shortcast.benchmarks.plan import Wishes
from shortcast.benchmarks.report_html import page
from shortcast.benchmarks.report_markdown import markdown
from shortcast.benchmarks.results import ColdStart, MemoryTrace, Parity, Results, Series, WarmUp
from shortcast.benchmarks.task import Answer, Task
from shortcast.runtime.bundle import Bundle

MIB = 1 << 20
HOT = FakeDevice(compute=[(42, 300 * MIB)], reasons=0x40)
CROWDED = FakeDevice(compute=[(42, 300 * MIB), (999_999, MIB)])


def measured(memory: MemoryTrace) -> Finished:
    series = (Series("visual", "ms", (10.0,) * 50),)
    answer = Answer(
        Parity("", 1, 1e-6, 1e-3, 0, True), ColdStart(1, 2, 3), WarmUp(15, 1.0, True), 1.0, 1.0, 0, 50, 0.0, series, {}, None, {}
    )
    return Finished(answer, memory)


def report(monkeypatch: pytest.MonkeyPatch, demo: Path, sample: Path, scripted: ModuleType, nvml: FakeNvml) -> tuple[str, str, Results]:
    """A benchmark whose one case ran in process 42, on the machine as `nvml` has it."""
    bundle, opened = Bundle.open(demo), open_nvml(nvml, {})

    def run_task(task: Task, *, nvml: Vram, **_: object) -> Finished:
        finished = measured(scripted.watched(nvml, scripted.Scripted([10 * MIB, 20 * MIB, 15 * MIB])).trace())
        return replace(finished, answer=replace(finished.answer, parity=replace(finished.answer.parity, bundle=bundle.manifest.id)))

    monkeypatch.setattr(runner, "open_nvml", lambda: opened)
    monkeypatch.setattr(runner, "run_task", run_task)
    monkeypatch.setattr(runner, "measure_limits", lambda *_, **__: None)
    wishes = Wishes(backends=("onnxruntime",), precisions=("fp32",), scopes=("engine",), repeats=1)
    found = runner.Benchmark(bundle, (sample,), wishes).run(command="shortcast bench")
    return page(found), markdown(found), found


@pytest.mark.parametrize(
    ("nvml", "said"),
    [
        (FakeNvml(problem="Driver Not Loaded"), "VRAM: not told: NVML does not start: Driver Not Loaded"),
        (FakeNvml(problem="Driver Not Loaded"), "none that can be asked: NVML does not start: Driver Not Loaded"),
        (FakeNvml(FakeDevice(compute=[(42, 300 * MIB)])), "NVML, by process, from another process every "),
        (
            FakeNvml(FakeDevice(compute=[(9000, 300 * MIB)], used=(100 * MIB * turn for turn in count(1)).__next__)),
            "(their numbers are hidden, as in a container)",
        ),
        (FakeNvml(HOT, FakeDevice("GPU-b")), "CUDA may use 2 GPUs: memory is the sum over them"),
        (FakeNvml(HOT), "NVIDIA A was throttled: thermal slowdown by hardware."),
        (FakeNvml(HOT), "thermal slowdown by hardware</td>"),
        (FakeNvml(CROWDED), "other process(es) computed on NVIDIA A."),
    ],
    ids=["absent", "absent, in the facts", "visible pid", "hidden pid", "two GPUs", "throttled", "throttled, in the states", "shared"],
)
def test_the_page_says_it(
    monkeypatch: pytest.MonkeyPatch, demo: Path, sample: Path, scripted: ModuleType, nvml: FakeNvml, said: str
) -> None:
    html, _, _ = report(monkeypatch, demo, sample, scripted, nvml)
    assert said in html


def test_a_throttled_row_is_labelled_everywhere(monkeypatch: pytest.MonkeyPatch, demo: Path, sample: Path, scripted: ModuleType) -> None:
    html, text, found = report(monkeypatch, demo, sample, scripted, FakeNvml(HOT))
    assert found.rows[0].labels["THROTTLED"] == "NVIDIA A was throttled: thermal slowdown by hardware."
    assert ">THROTTLED</abbr>" in html
    assert "**THROTTLED**. NVIDIA A was throttled: thermal slowdown by hardware." in text


def test_memory_of_the_gpu_has_its_column_and_its_ledger(
    monkeypatch: pytest.MonkeyPatch, demo: Path, sample: Path, scripted: ModuleType
) -> None:
    html, text, found = report(monkeypatch, demo, sample, scripted, FakeNvml(FakeDevice(compute=[(42, 300 * MIB)])))
    assert "VRAM, MiB" in html
    assert "VRAM MiB" in text
    memory = found.rows[0].runs[0].memory
    assert memory.peak_vram_bytes == 300 * MIB == sum(entry.bytes for entry in memory.ledger)
