"""Commands on a GPU that is not there, in this process: what a user with one types, and what one without is told."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from shortcast.cli import app
from shortcast.errors import EngineError, WeightsError
from shortcast.runtime import gpu_findings, whisper
from shortcast.runtime.bundle import Bundle
from shortcast.runtime.engine_choice import choose_engine
from shortcast.runtime.scorer import Scorer
from shortcast.runtime.verify import VerifyOptions, verify

Bundles = Callable[..., Path]


def scores(arguments: list[str]) -> tuple[list[float], str]:
    result = CliRunner().invoke(app, ["score", "--no-sound", "--format", "jsonl", "--every-chunk", *arguments], catch_exceptions=False)
    return [json.loads(line)["z"] for line in result.stdout.splitlines()], result.stderr


@pytest.mark.parametrize("flavour", ["tensorrt", "tensorrt_rtx"])
def test_a_clip_is_scored_by_the_engines_asked_for(gpu: Any, bundle_with_engines: Bundles, sample: Path, flavour: str) -> None:
    bundle = str(bundle_with_engines(flavour))
    wanted, _ = scores([str(sample), "-b", bundle, "--engine", "onnxruntime"])
    got, said = scores([str(sample), "-b", bundle, "--engine", "tensorrt"])
    assert got == pytest.approx(wanted, abs=1e-5)
    assert said == ""
    assert gpu.cuda.calls.count("cudaGraphLaunch") > 2 * len(got)
    assert gpu.cuda.leaks() == {}


def test_auto_takes_an_engine_that_fits_and_says_so(gpu: Any, bundle_with_engines: Bundles, sample: Path) -> None:
    bundle = str(bundle_with_engines("tensorrt", ("fp16",)))
    _, said = scores([str(sample), "-b", bundle, "--precision", "fp16"])
    assert "--engine auto took tensorrt 10.16.1.11 on Fake GPU, fp16" in said
    gpu.cuda.calls.clear()
    _, said = scores([str(sample), "-b", bundle])
    assert "--engine auto took ONNX Runtime on the cpu: " in said
    assert "has no fp32 TensorRT engine" in said
    assert not gpu.cuda.calls.count("cudaMalloc")
    _, said = scores([str(sample), "-b", bundle, "--precision", "fp16", "--device", "cpu"])
    assert said == ""


@pytest.mark.parametrize(
    ("given", "backend", "device"),
    [
        ({}, "tensorrt", "cuda"),
        ({"device": "cuda"}, "tensorrt", "cuda"),
        ({"device": "cpu"}, "onnxruntime", "cpu"),
        ({"engine": "onnxruntime"}, "onnxruntime", "cpu"),
        ({"engine": "onnxruntime", "device": "cuda"}, "onnxruntime", "cuda"),
        ({"engine": "tensorrt"}, "tensorrt", "cuda"),
    ],
)
def test_what_is_chosen(gpu: Any, bundle_with_engines: Bundles, given: dict[str, str], backend: str, device: str) -> None:
    choice = choose_engine(Bundle.open(bundle_with_engines()), **given)
    assert (choice.backend, choice.device) == (backend, device)


def test_without_engines_auto_looks_for_no_gpu(gpu: Any, demo: Path) -> None:
    assert choose_engine(Bundle.open(demo)).reason == ""
    assert gpu.cuda.calls == []


def test_the_gpu_is_not_the_cpu(demo: Path) -> None:
    result = CliRunner().invoke(app, ["score", "x.mp4", "--engine", "tensorrt", "--device", "cpu"])
    assert result.exit_code == 2
    assert "runs on the GPU" in " ".join(result.stderr.replace("│", " ").split())


@pytest.fixture
def whisper_on_gpu(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """CTranslate2 as it would be with a GPU: what is asked of the GPU, the CPU does. Returns the devices that were asked for."""
    asked = []
    real = whisper.ctranslate2.models.Whisper

    def load(path: str, *, device: str, **given: Any) -> Any:
        asked.append(device)
        return real(path, device="cpu", **given)

    monkeypatch.setattr(whisper.ctranslate2.models, "Whisper", load)
    return asked


def test_one_command_proves_an_engine(gpu: Any, bundle_with_engines: Bundles, whisper_on_gpu: list[str]) -> None:
    bundle = bundle_with_engines("tensorrt_rtx")
    result = CliRunner().invoke(app, ["verify", str(bundle), "--engine", "tensorrt", "--precision", "fp16"], catch_exceptions=False)
    assert result.exit_code == 0, result.stdout
    assert "visual: tensorrt_rtx 1.7.1.116 on Fake GPU (8.9); captured graphs" in result.stderr
    assert "MiB on the GPU: weights 1.9, scratch 0.0" in result.stderr
    assert whisper_on_gpu == ["cuda"]


def test_a_whole_clip_with_its_sound_is_scored_alike(
    gpu: Any, bundle_with_engines: Bundles, sample: Path, whisper_on_gpu: list[str]
) -> None:
    bundle = Bundle.open(bundle_with_engines())
    with Scorer(bundle, threads=1) as scorer:
        wanted = scorer.score(sample)
    with Scorer(bundle, backend="tensorrt", threads=1) as scorer:
        got = scorer.score(sample)
    assert got.has_sound
    assert got.z == pytest.approx(wanted.z, abs=1e-5)
    assert got.interval == pytest.approx(wanted.interval, rel=1e-4)
    assert whisper_on_gpu == ["cpu", "cuda"]


def test_a_scorer_that_finds_no_memory_leaves_none_taken(gpu: Any, bundle_with_engines: Bundles) -> None:
    gpu.cuda.failing = {("cudaMalloc", 20): "cudaErrorMemoryAllocation"}
    with pytest.raises(EngineError, match="has not the memory"):
        Scorer(Bundle.open(bundle_with_engines()), backend="tensorrt")
    assert gpu.cuda.leaks() == {}


def test_whisper_on_a_gpu_that_is_not_there_is_an_error(gpu: Any, bundle_with_engines: Bundles, sample: Path) -> None:
    if not gpu_findings.driver_version():
        with (
            Scorer(Bundle.open(bundle_with_engines()), backend="tensorrt", threads=1) as scorer,
            pytest.raises(WeightsError, match="on cuda"),
        ):
            scorer.score(sample)


def test_an_engine_that_computes_something_else_fails_the_proof(
    gpu: Any, bundle_with_engines: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle.open(bundle_with_engines())
    proof = verify(bundle, VerifyOptions(backend="tensorrt", sound=False))
    assert all(row.passed for row in proof.rows)
    assert (proof.backend, proof.device) == ("tensorrt", "cuda")
    assert any("carried state, second of two streams" in row.check for row in proof.rows)
    copy = gpu.cuda.cudaMemcpyAsync
    kind = gpu.cuda.cudaMemcpyKind.cudaMemcpyDeviceToDevice

    def forgetful(to: int, origin: int, nbytes: int, how: Any, stream: Any) -> Any:
        return copy(to, origin, nbytes, how, stream) if how != kind else gpu.cuda.cudaMemsetAsync(to, 0, nbytes, stream)

    monkeypatch.setattr(gpu.cuda, "cudaMemcpyAsync", forgetful, raising=False)
    failed = [row.check for row in verify(bundle, VerifyOptions(backend="tensorrt", sound=False)).rows if not row.passed]
    assert failed
    assert all("carried state" in check for check in failed)


def test_a_plan_that_was_altered_is_not_loaded(gpu: Any, bundle_with_engines: Bundles, sample: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "b.shortcast"
    shutil.copytree(bundle_with_engines(), bundle)
    opened = Bundle.open(bundle)
    next(bundle.glob("engines/*fp32/visual/engine.plan")).write_bytes(b"fake plan of something else")
    with pytest.raises(EngineError, match="was altered"):
        verify(opened, VerifyOptions(backend="tensorrt", sound=False))


# The doctor


def found(monkeypatch: pytest.MonkeyPatch, driver: str | None = "580.65.06") -> dict[str, Any]:
    monkeypatch.setattr(gpu_findings, "driver_version", lambda: driver)
    monkeypatch.setattr(gpu_findings, "_loads", lambda name: True)
    return {finding.topic: finding for finding in gpu_findings.examine_gpu()}


def test_the_doctor_reports_a_gpu(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = found(monkeypatch)
    assert findings["nvidia driver"].state == "580.65.06"
    assert findings["gpu"].state == "Fake GPU, compute capability 8.9, 256 of 256 MiB free"
    assert findings["cuda"].state == "driver takes 13.0, cuda-bindings is 12.9"
    assert findings["tensorrt"].state == "10.16.1.11"
    assert findings["tensorrt_rtx"].state == "1.7.1.116"
    assert "ctranslate2 12" in findings["cuda majors"].state
    assert not any(findings[topic].problem for topic in ("gpu", "cuda", "tensorrt", "libcublas.so.12"))


def test_no_driver_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    findings = found(monkeypatch, None)
    assert "scored on the CPU" in findings["gpu"].state
    assert not any(finding.problem for finding in findings.values())


def test_each_thing_that_is_wrong_has_its_cure(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu.cuda.gpus = 0
    assert "update it" in found(monkeypatch)["gpu"].problem
    gpu.cuda.gpus = 1
    monkeypatch.setattr(gpu.fake.FakeCuda, "cudaRuntimeGetVersion", lambda self: (gpu.fake.OK, 14000))
    assert "older than the CUDA major" in found(monkeypatch)["cuda"].problem
    for flavour in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, flavour, None)
    assert 'pip install "shortcast[tensorrt]"' in found(monkeypatch)["tensorrt"].problem
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    assert "shortcast[tensorrt]" in found(monkeypatch)["gpu"].problem
    monkeypatch.setattr(gpu_findings, "_names", lambda: iter(["ctranslate2", "tensorrt-cu13"]))
    assert "these are not: tensorrt-cu13" in found(monkeypatch)["cuda majors"].problem
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "pip install nvidia-ml-py" in found(monkeypatch)["nvml"].problem


@pytest.mark.parametrize(
    ("processes", "words"),
    [
        ([], "does not see this process"),
        ([("me", None)], "sees this process and not its memory"),
        ([("me", 5)], "sees this process"),
        ([(1, 5)], "does not see this process"),
    ],
)
def test_nvml_sees_this_process_or_not(processes: list[tuple[Any, Any]], words: str) -> None:
    nvml = SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetComputeRunningProcesses=lambda handle: [
            SimpleNamespace(pid=os.getpid() if pid == "me" else pid, usedGpuMemory=used) for pid, used in processes
        ],
    )
    assert gpu_findings._sees_this_process(nvml).startswith(words)
