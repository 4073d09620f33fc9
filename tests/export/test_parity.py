import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from shortcast.errors import ParityError
from shortcast.export.onnx import export_visual
from shortcast.export.parity import SAME_MACHINE, fusion_parity, visual_parity
from shortcast.export.torch_engine import TorchEngine, fusion_engine, visual_engine
from shortcast.models.convlstm import ConvLSTMEncoder, EncoderConfig
from shortcast.models.dual_transformer import DualTransformer, FusionConfig
from shortcast.runtime.engines import Engine, Tensors
from shortcast.runtime.engines.onnxruntime import OnnxRuntimeEngine
from shortcast.runtime.parity import ParityRow, require_parity
from shortcast.runtime.tolerances import FLOAT16

ENCODER = EncoderConfig(
    frames_per_chunk=4, height=32, width=24, stem_channels=(8, 12), hidden_channels=(6, 5), pool_grid=(4, 3), embedding_dim=10
)
FUSION = FusionConfig(visual_dim=10, audio_dim=7, width=16, feedforward=16, layers=1)
Change = Callable[[dict[str, NDArray]], None]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Torch's threads spin at every small operator, which costs minutes where other work runs beside the tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Altered:
    """An engine that changes what goes into another, or what comes out of it."""

    def __init__(self, engine: Engine, *, before: Change | None = None, after: Change | None = None) -> None:
        self.engine, self.before, self.after = engine, before, after
        self.inputs, self.outputs = engine.inputs, engine.outputs

    def run(self, feeds: Mapping[str, NDArray[np.generic]]) -> Tensors:
        feeds = {name: values.copy() for name, values in feeds.items()}
        if self.before:
            self.before(feeds)
        outputs = self.engine.run(feeds)
        if self.after:
            self.after(outputs)
        return outputs

    def close(self) -> None: ...

    def __enter__(self) -> "Altered":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


@pytest.fixture(scope="module")
def encoder() -> ConvLSTMEncoder:
    torch.manual_seed(0)
    return ConvLSTMEncoder(ENCODER)


@pytest.fixture(scope="module")
def visual(encoder: ConvLSTMEncoder) -> TorchEngine:
    return visual_engine(encoder)


@pytest.fixture(scope="module")
def fusion() -> TorchEngine:
    torch.manual_seed(0)
    model = DualTransformer(FUSION)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return fusion_engine(model)


def failed(rows: list[ParityRow]) -> set[str]:
    return {row.check for row in rows if not row.passed}


def fill(name: str, value: float) -> Change:
    return lambda arrays: arrays[name].fill(value)


def poison(name: str, value: float) -> Change:
    def change(arrays: dict[str, NDArray]) -> None:
        arrays[name] = arrays[name].copy()
        arrays[name].flat[-1] = value

    return change


def swap(a: str, b: str) -> Change:
    def change(arrays: dict[str, NDArray]) -> None:
        arrays[a], arrays[b] = arrays[b], arrays[a]

    return change


def test_an_engine_agrees_with_itself(visual: TorchEngine, fusion: TorchEngine) -> None:
    for rows in (visual_parity(visual, visual), fusion_parity(fusion, fusion)):
        assert all(row.passed and row.max_abs_error == 0 for row in rows)
        require_parity(rows)


def test_every_output_is_compared_in_every_case(visual: TorchEngine, fusion: TorchEngine) -> None:
    for engine, rows in ((visual, visual_parity(visual, visual)), (fusion, fusion_parity(fusion, fusion))):
        names = {spec.name for spec in engine.outputs}
        checks = {row.check for row in rows if "signature" not in row.check}
        for check in checks:
            assert {row.output for row in rows if row.check == check} == names


def test_the_cases_cover_batches_masks_and_lengths(visual: TorchEngine, fusion: TorchEngine) -> None:
    seen: list[tuple[int, float]] = []
    visual_parity(visual, Altered(visual, before=lambda feeds: seen.append((len(feeds["frames"]), feeds["frame_mask"].sum(axis=1).min()))))
    assert {batch for batch, _ in seen} == {1, 2, 5}
    assert {(batch, 0.0) for batch in (1, 2, 5)} <= set(seen)
    shapes: list[tuple[int, ...]] = []
    empty: list[bool] = []

    def watch(feeds: dict[str, NDArray]) -> None:
        shapes.append(feeds["chunk_mask"].shape)
        empty.append(bool((feeds["chunk_mask"].sum(axis=1) == 0).any()))

    fusion_parity(fusion, Altered(fusion, before=watch))
    assert set(shapes) == {(batch, chunks) for batch in (1, 3) for chunks in (1, 8, 90)}
    assert any(empty)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, poison("embedding", np.nan)),
        (None, poison("c1_out", np.inf)),
        (None, swap("h0_out", "c0_out")),
        (None, lambda outputs: outputs.update(embedding=outputs["embedding"] + np.float32(1e-4))),
        (None, lambda outputs: outputs.update(embedding=outputs["embedding"].astype(np.float64))),
        (None, lambda outputs: outputs.update(embedding=outputs["embedding"][:1, :5])),
        (fill("frame_mask", 1), None),
        (fill("c0", 0), None),
    ],
    ids=["nan", "infinity", "swapped states", "off by 1e-4", "float64", "cut short", "mask ignored", "state ignored"],
)
def test_a_wrong_visual_engine_fails(visual: TorchEngine, before: Change | None, after: Change | None) -> None:
    rows = visual_parity(visual, Altered(visual, before=before, after=after))
    assert failed(rows)
    with pytest.raises(ParityError):
        require_parity(rows)


def test_an_ignored_frame_mask_fails_the_masked_steps_alone(visual: TorchEngine) -> None:
    checks = failed(visual_parity(visual, Altered(visual, before=fill("frame_mask", 1))))
    assert checks
    assert all("step 1" in check or "step 2" in check for check in checks)


def test_a_nan_on_both_sides_fails_too(visual: TorchEngine) -> None:
    broken = Altered(visual, after=poison("embedding", np.nan))
    assert failed(visual_parity(broken, broken))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (fill("chunk_mask", 1), None),
        (fill("audio_mask", 1), None),
        (fill("visual_mask", 1), None),
        (swap("visual_mask", "audio_mask"), None),
        (None, poison("score", np.nan)),
        (None, lambda outputs: outputs.update(score=outputs["score"] * np.float32(1.001))),
        (None, lambda outputs: outputs.update(head_scores=outputs["head_scores"][..., ::-1])),
        (None, lambda outputs: outputs.update(chunk_weights=outputs["chunk_weights"].swapaxes(1, 2))),
    ],
    ids=[
        "padding ignored",
        "no null sound",
        "no null picture",
        "masks swapped",
        "nan",
        "0.1 % off",
        "heads reversed",
        "weights transposed",
    ],
)
def test_a_wrong_fusion_engine_fails(fusion: TorchEngine, before: Change | None, after: Change | None) -> None:
    assert failed(fusion_parity(fusion, Altered(fusion, before=before, after=after)))


@pytest.mark.parametrize("change", [{"name": "other"}, {"dtype": "float16"}, {"shape": ("batch", 11)}, {"shape": (1, 10)}], ids=str)
def test_another_signature_fails_before_anything_runs(visual: TorchEngine, change: dict[str, object]) -> None:
    other = Altered(visual)
    other.outputs = (replace(visual.outputs[0], **change), *visual.outputs[1:])
    rows = visual_parity(visual, other)
    assert [(row.output, row.passed) for row in rows] == [("inputs", True), ("outputs", False)]
    assert "embedding" in rows[1].detail


def test_a_missing_output_fails(fusion: TorchEngine) -> None:
    other = Altered(fusion)
    other.outputs = fusion.outputs[:-1]
    assert failed(fusion_parity(fusion, other)) == {"fusion, signature"}


def test_backends_may_name_a_dynamic_dimension_as_they_like(visual: TorchEngine) -> None:
    other = Altered(visual)
    other.inputs = tuple(replace(spec, shape=("n", *spec.shape[1:])) for spec in visual.inputs)
    assert not failed(visual_parity(visual, other))


def test_float16_tolerances_are_wider(visual: TorchEngine) -> None:
    rounded = Altered(visual, after=lambda outputs: outputs.update(embedding=outputs["embedding"].astype(np.float16).astype(np.float32)))
    assert failed(visual_parity(visual, rounded, tolerances=SAME_MACHINE))
    assert not failed(visual_parity(visual, rounded, tolerances=FLOAT16))


def test_a_contracting_encoder_keeps_the_strict_tolerance_in_its_free_run(visual: TorchEngine) -> None:
    free = {row.output: row.tolerance for row in visual_parity(visual, visual) if "free run" in row.check}
    assert {name: tolerance.atol for name, tolerance in free.items()} == {
        "embedding": 1e-5,
        "h0_out": 1e-4,
        "c0_out": 1e-4,
        "h1_out": 1e-4,
        "c1_out": 1e-4,
    }


def test_rows_are_plain_json(visual: TorchEngine) -> None:
    rows = visual_parity(visual, Altered(visual, after=poison("embedding", np.nan)))
    plain = json.loads(json.dumps([row.to_json() for row in rows], allow_nan=False))
    assert set(plain[0]) == {"check", "output", "shape", "max_abs_error", "tolerance", "passed", "detail"}


@pytest.fixture(scope="module")
def graph(encoder: ConvLSTMEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_visual(encoder, tmp_path_factory.mktemp("graph") / "visual.onnx").path


@pytest.mark.parametrize("change", [0.0, 2e-3])
def test_a_perturbed_graph_fails_and_the_exported_one_passes(graph: Path, visual: TorchEngine, tmp_path: Path, change: float) -> None:
    path, model = tmp_path / "visual.onnx", onnx.load(graph)
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "cells.1.gates.weight")
    values = numpy_helper.to_array(weights)
    weights.CopyFrom(numpy_helper.from_array(values * np.float32(1 + change), weights.name))
    onnx.save(model, path)
    with OnnxRuntimeEngine(path, threads=1) as engine:
        assert bool(failed(visual_parity(visual, engine))) == bool(change)
