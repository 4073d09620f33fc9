"""Where training computes: what is asked for, what is there, and what is refused."""

from __future__ import annotations

import pytest
import torch

from shortcast.errors import EngineError
from shortcast.training.compute import Compute


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """PyTorch says that there is a CUDA device, and that it knows bf16."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "a test's device")
    return monkeypatch


@pytest.fixture
def _no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_cuda_is_taken_where_it_is(precision: str) -> None:
    assert Compute.choose("auto", precision) == Compute.choose("cuda", precision) == Compute("cuda", precision)
    assert Compute.choose("cpu").device == "cpu"


@pytest.mark.usefixtures("_no_cuda")
def test_the_cpu_is_taken_where_there_is_no_cuda_but_never_instead_of_one_that_was_asked_for() -> None:
    assert Compute.choose() == Compute("cpu", "fp32")
    assert Compute.choose("auto", "bf16") == Compute("cpu", "bf16")
    with pytest.raises(EngineError, match="no CUDA device"):
        Compute.choose("cuda")


@pytest.mark.usefixtures("_no_cuda")
def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(EngineError, match="fp32 or bf16"):
        Compute.choose("auto", "fp16")


def test_bf16_is_refused_on_a_device_that_would_only_emulate_it(cuda: pytest.MonkeyPatch) -> None:
    cuda.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: including_emulation)
    with pytest.raises(EngineError, match="a test's device has no bf16"):
        Compute.choose("cuda", "bf16")


@pytest.mark.parametrize(("device", "precision"), [("tpu", "fp32"), ("cpu", "int4")])
def test_what_is_not_known_is_refused(device: str, precision: str) -> None:
    with pytest.raises(EngineError, match="unknown; expected one of"):
        Compute.choose(device, precision)


def test_only_bf16_and_fp16_cast_and_only_fp16_scales(cuda: pytest.MonkeyPatch) -> None:
    x = torch.ones(2, 2)
    with Compute("cpu", "fp32").autocast():
        assert (x @ x).dtype is torch.float32
    with Compute("cpu", "bf16").autocast():
        assert (x @ x).dtype is torch.bfloat16
    assert not Compute("cpu", "bf16").scaler().is_enabled()
    assert not Compute("cuda", "bf16").scaler().is_enabled()
    scaler = Compute("cuda", "fp16").scaler()
    assert scaler.is_enabled()


def test_a_value_may_name_what_is_not_here_and_using_it_may_not() -> None:
    elsewhere = Compute("cpu", "fp16")
    with pytest.raises(EngineError, match="CUDA"), elsewhere.hosting():
        pass


def test_a_seed_holds_for_its_block_and_the_callers_numbers_go_on() -> None:
    torch.manual_seed(7)
    expected = torch.rand(2)
    torch.manual_seed(7)
    with Compute().seeded(3):
        first = torch.rand(2)
    with Compute().seeded(3):
        assert torch.equal(torch.rand(2), first)
    assert torch.equal(torch.rand(2), expected)


def test_a_module_is_where_it_is_computed_on_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    moves: list[str] = []
    module = torch.nn.Linear(2, 2)
    monkeypatch.setattr(module, "to", moves.append)
    monkeypatch.setattr(module, "cpu", lambda: moves.append("back"))

    def interrupted() -> None:
        with Compute("cpu").hosting(module):
            assert moves == ["cpu"]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert moves == ["cpu", "back"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_fp32_on_cuda_is_float32() -> None:
    x = torch.randn(1, 64, 32, 32, generator=torch.Generator().manual_seed(0))
    layer = torch.nn.Conv2d(64, 64, 3)
    with torch.no_grad():
        expected = layer(x)
        with Compute("cuda").hosting(layer):
            found = layer(x.cuda()).cpu()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert layer.weight.device.type == "cpu"
