"""PyTorch modules rebuilt from a bundle alone."""

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from onnx import numpy_helper

from shortcast.errors import EngineError
from shortcast.export.from_bundle import modules_of
from shortcast.export.onnx import export_fusion
from shortcast.models.dual_transformer import DualTransformer, FusionConfig
from shortcast.runtime.bundle import Bundle


@pytest.fixture(scope="module")
def bundle(demo: Path) -> Bundle:
    return Bundle.open(demo)


def test_the_modules_are_rebuilt_with_their_dimensions(bundle: Bundle) -> None:
    encoder, fusion = modules_of(bundle)
    assert not encoder.training
    assert not fusion.training
    assert (encoder.config.stem_channels, encoder.config.hidden_channels, encoder.config.pool_grid) == ((16, 32, 48), (32, 32), (5, 3))
    assert (encoder.config.pixel_mean, encoder.config.pixel_std) == (0.45, 0.25)
    assert (fusion.config.heads, fusion.config.layers, fusion.config.position_cap) == (4, 2, 90)
    assert fusion.config.window == bundle.manifest.window_chunks


def test_graphs_with_other_weights_do_not_pass_for_the_bundles(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnx.load(str(bundle.graph("fusion")))
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "spread.bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 0.01, "spread.bias"))
    altered = tmp_path / "fusion.onnx"
    onnx.save(model, str(altered))
    graphs = {"visual": bundle.graph("visual"), "fusion": altered}
    monkeypatch.setattr(Bundle, "graph", lambda _, name: graphs[name])
    with pytest.raises(EngineError, match="do not give its golden answers"):
        modules_of(bundle)


def test_a_graph_that_is_no_fusion_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    visual = bundle.graph("visual")
    monkeypatch.setattr(Bundle, "graph", lambda _, name: visual)
    with pytest.raises(EngineError, match="cannot be rebuilt"):
        modules_of(bundle)


ORDINAL = FusionConfig(width=32, heads=2, layers=1, feedforward=48, classes=3, class_head="ordinal", position_cap=7)


@pytest.fixture(scope="module")
def ordinal(tmp_path_factory: pytest.TempPathFactory) -> tuple[DualTransformer, Path]:
    """A model with an ordinal head and other dimensions, and its graph, which a length strategy leaves no trace in."""
    torch.manual_seed(1)
    fusion = DualTransformer(ORDINAL).eval()
    for parameter in fusion.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return fusion, export_fusion(fusion, tmp_path_factory.mktemp("ordinal") / "fusion.onnx").path


@pytest.mark.parametrize("strategy", ["pad", "pool", "sequential"])
def test_an_ordinal_head_and_other_dimensions_come_back(bundle: Bundle, ordinal: tuple[DualTransformer, Path], strategy: str) -> None:
    from shortcast.export.from_bundle import _fusion

    fusion, path = ordinal
    config = replace(ORDINAL, strategy=strategy)
    target = replace(bundle.manifest.target, class_edges=bundle.manifest.target.class_edges[:2])
    manifest = replace(bundle.manifest, target=target, window_chunks=config.window)
    rebuilt = _fusion(onnx.load(str(path)).graph, replace(bundle, manifest=manifest))
    assert rebuilt.config == config
    told = DualTransformer(config).eval()
    told.load_state_dict(fusion.state_dict())
    feeds = torch.randn(1, 4, 128), torch.randn(1, 4, 384), torch.ones(1, 4), torch.ones(1, 4), torch.ones(1, 4)
    with torch.inference_mode():
        for expected, found in zip(told(*feeds), rebuilt(*feeds), strict=True):
            torch.testing.assert_close(found, expected)
