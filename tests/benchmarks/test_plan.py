"""What is planned: everything that was asked for, in an order that a seed repeats."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from shortcast.benchmarks.contenders import Contender, contender
from shortcast.benchmarks.plan import REFERENCE, Wishes, cases_of, contenders_of, fit_of, order_of, pace_of, within
from shortcast.errors import EngineError
from shortcast.runtime.bundle import Bundle


@pytest.fixture(scope="module")
def bundle(demo: Path) -> Bundle:
    return Bundle.open(demo)


def test_all_contenders_have_a_place_installed_or_not(bundle: Bundle) -> None:
    found = [(what.backend, what.precision, what.whisper, what.device) for what in contenders_of(Wishes(), bundle)]
    own = "ctranslate2 float32"
    assert found[0] == ("onnxruntime", "fp32", own, "cpu")
    assert {(backend, precision, device) for backend, precision, whisper, device in found if whisper == own} == {
        ("onnxruntime", "fp32", "cpu"),
        ("onnxruntime", "int8", "cpu"),
        ("torch-eager", "fp32", "cpu"),
        ("torch-eager", "bf16", "cpu"),
        ("torch-compile", "fp32", "cpu"),
        ("torch-compile", "bf16", "cpu"),
        ("openvino", "fp32", "cpu"),
        ("tensorrt", "fp16", "cuda"),
    }
    others = {whisper for backend, _, whisper, _ in found if backend == "onnxruntime"} - {own}
    assert others == {"ctranslate2 int8", "transformers float32", "transformers float32 padded to 30 s", "whisper.cpp"}
    assert (*REFERENCE, "cpu") in found
    assert len(found) == len(set(found))


def test_what_is_asked_for_is_what_is_planned(bundle: Bundle) -> None:
    wishes = Wishes(
        backends=("torch-eager",),
        precisions=("bf16",),
        whispers=("whisper.cpp",),
        scopes=("engine", "file"),
        scenarios=("single-stream", "live"),
    )
    (only,) = contenders_of(wishes, bundle)
    assert only == Contender("torch-eager", "bf16", "whisper.cpp")
    cases = [(case.scope, case.scenario) for _, case in cases_of(wishes, [only])]
    assert cases == [("engine", "single-stream"), ("file", "single-stream"), ("file", "live")]


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(EngineError, match="'onnx' is unknown; it is one of onnxruntime, torch-eager"):
        contender("onnx", "fp32", "ctranslate2 float32", "cpu")


@pytest.mark.parametrize(
    ("what", "lean"),
    [
        (Contender("onnxruntime", "int8", "ctranslate2 float32"), True),
        (Contender("tensorrt", "fp16", "ctranslate2 int8"), True),
        (Contender("torch-eager", "fp32", "ctranslate2 float32"), False),
        (Contender("onnxruntime", "fp32", "transformers float32"), False),
        (Contender("my.module:open", "fp32", "ctranslate2 float32"), False),
    ],
)
def test_who_is_to_run_without_torch(what: Contender, lean: bool) -> None:
    assert what.lean is lean


def test_what_is_not_installed_is_known_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shortcast.benchmarks.contenders.find_spec", lambda name: None)
    assert Contender("onnxruntime", "fp32", "whisper.cpp").missing() == "pywhispercpp is not installed: pip install pywhispercpp"
    assert Contender("torch-compile", "bf16", "ctranslate2 int8").missing() == "torch is not installed: pip install 'shortcast[export]'"
    assert Contender("onnxruntime", "fp32", "ctranslate2 float32").missing() == ""


def test_the_order_is_shuffled_in_blocks(bundle: Bundle) -> None:
    cases = cases_of(Wishes(), contenders_of(Wishes(), bundle))
    runs = order_of(cases, repeats=3, seed=5)
    assert runs == order_of(cases, repeats=3, seed=5)
    assert runs != order_of(cases, repeats=3, seed=6)
    assert set(Counter(planned.case for planned in runs).values()) == {3}
    blocks = [runs[k * len(cases) : (k + 1) * len(cases)] for k in range(3)]
    assert [{planned.repeat for planned in block} for block in blocks] == [{0}, {1}, {2}]
    assert [planned.case for planned in blocks[0]] != [planned.case for planned in blocks[1]]
    assert [planned.case for planned in blocks[0]] != [case for _, case in cases]


@pytest.mark.parametrize(
    ("wishes", "runs", "least_s"), [(Wishes(), 3, 6.0), (Wishes(budget_s=600.0), 90, 3.0), (Wishes(quick=True), 6, 1.5)]
)
def test_time_is_shared_among_the_runs(wishes: Wishes, runs: int, least_s: float) -> None:
    pace = pace_of(wishes, runs, chunk_s=2.0)
    assert least_s <= pace.rule.least_s <= 6.0
    assert pace.rule.least_s < pace.rule.most_s < pace.timeout_s
    assert pace.load.period_s == 2.0
    assert pace.rule.least_samples * wishes.runs_each >= (64 if wishes.quick else 662)


def test_a_budget_of_gpu_memory_shapes_the_contenders_on_a_gpu_alone(bundle: Bundle) -> None:
    wishes = Wishes(backends=("onnxruntime", "tensorrt"), vram_budget_bytes=8 << 30)
    contenders = contenders_of(wishes, bundle)
    fit = fit_of(wishes, contenders, bundle, None)
    assert fit is not None
    found = within(fit, contenders)
    assert found[:2] == contenders[:2]
    assert found[2] == Contender("tensorrt", "fp16", "ctranslate2 float32", "cuda", "cuda")
    tight = fit_of(replace(wishes, vram_budget_bytes=fit.option.need_bytes - 1), contenders, bundle, None)
    assert tight is not None
    assert within(tight, contenders)[2] != found[2]
