"""A bundle's graphs as PyTorch models again."""

from pathlib import Path
from shutil import copytree

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from shortcast.errors import BundleError
from shortcast.export.from_bundle import rebuild_encoder, rebuild_fusion, torch_pipeline
from shortcast.export.parity import fusion_parity
from shortcast.runtime.bundle import Bundle, demo_bundle
from shortcast.runtime.engines import open_engine


@pytest.fixture(scope="module")
def demo() -> Bundle:
    return Bundle.open(demo_bundle())


def test_the_models_give_what_pytorch_gave_at_export(demo: Bundle) -> None:
    pipeline = torch_pipeline(demo)
    assert pipeline.parity
    assert max(row.max_abs_error or 0.0 for row in pipeline.parity) < 1e-5


def test_the_fusion_agrees_with_its_graph_at_other_shapes(demo: Bundle) -> None:
    with open_engine(demo.graph("fusion", precision="fp32")) as engine:
        assert [row for row in fusion_parity(torch_pipeline(demo).fusion, engine) if not row.passed] == []


def test_a_graph_that_is_not_the_models_is_refused(demo: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    fusion = demo.graph("fusion", precision="fp32")
    monkeypatch.setattr(Bundle, "graph", lambda self, name, *, precision: fusion)
    with pytest.raises(BundleError, match="does not hold the visual encoder's weights"):
        rebuild_encoder(demo)


def test_other_weights_are_refused_by_the_golden_data(demo: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "onnx"
    copytree(demo.path / "onnx", folder)
    model = onnx.load(folder / "fusion.fp32.onnx")
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "gate.bias")
    moved = numpy_helper.to_array(bias) + np.array([3, 0, 0], np.float32)
    bias.CopyFrom(numpy_helper.from_array(moved, bias.name))
    onnx.save(model, folder / "fusion.fp32.onnx")
    monkeypatch.setattr(Bundle, "graph", lambda self, name, *, precision: folder / f"{name}.{precision}.onnx")
    assert rebuild_fusion(demo).gate.bias is not None
    with pytest.raises(BundleError, match="differ from its golden data"):
        torch_pipeline(demo)
