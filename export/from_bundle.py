"""A bundle's float32 graphs -> the PyTorch models they were exported from, proved equal on the bundle's own golden data.

The graphs keep the weights under their PyTorch names, but for matrices, which the exporter turned around: those are found at the product
whose sum takes the bias of the same name. Everything else about a model is read off its weights and the graph. A model that does not give
what PyTorch gave when the bundle was made is refused, so a graph written some other way cannot pass for one of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from ..errors import BundleError, ShortcastError
from ..models.convlstm import ConvLSTMEncoder, EncoderConfig
from ..models.dual_transformer import DualTransformer, FusionConfig
from ..runtime.bundle import GOLDEN, Bundle
from ..runtime.engines import Engine, TensorSpec
from ..runtime.golden import Golden, load_golden
from ..runtime.parity import ParityRow, compare_tensors
from ..runtime.tolerances import FLOAT32
from .torch_engine import TorchEngine, fusion_engine, visual_engine

Model = TypeVar("Model", bound=nn.Module)
Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class TorchPipeline:
    """Both models of a bundle, in PyTorch."""

    visual: TorchEngine
    fusion: TorchEngine
    parity: tuple[ParityRow, ...]
    """Every output against the golden data."""


def torch_pipeline(bundle: Bundle, *, device: str = "cpu") -> TorchPipeline:
    """Rebuilds a bundle's models as eager PyTorch.

    Args:
        bundle: the opened bundle.
        device: `cpu` or `cuda`.

    Raises:
        BundleError: its graphs are not those of these models, or what comes of them is outside the float32 tolerances.
        EngineError: the device is not there.
    """
    visual = visual_engine(rebuild_encoder(bundle), device=device)
    fusion = fusion_engine(rebuild_fusion(bundle), device=device)
    golden = load_golden(bundle.path / GOLDEN)
    rows = (*_visual_rows(visual, golden), *_fusion_rows(fusion, golden, bundle.manifest.window_chunks))
    failed = [row for row in rows if not row.passed]
    if failed:
        where = f"{failed[0].check} ({failed[0].output})"
        raise BundleError(f"{bundle.path}: the PyTorch models rebuilt from it differ from its golden data at {where}")
    return TorchPipeline(visual, fusion, rows)


def rebuild_encoder(bundle: Bundle) -> ConvLSTMEncoder:
    """The visual encoder, with its pixel normalisation as the default configuration has it.

    Raises:
        BundleError: the graph is not one of such an encoder.
    """
    path, inputs = bundle.graph("visual", precision="fp32"), bundle.manifest.graphs["visual"]["fp32"].inputs
    weights = _named_weights(path)
    try:
        frames = _spec(inputs, "frames").shape
        hidden = [int(_spec(inputs, f"h{layer}").shape[1]) for layer in range(_count(weights, "cells."))]
        config = EncoderConfig(
            frames_per_chunk=int(frames[1]),
            height=int(frames[2]),
            width=int(frames[3]),
            stem_channels=tuple(len(weights[f"stem.{2 * k}.bias"]) for k in range(_count(weights, "stem."))),
            hidden_channels=tuple(hidden),
            pool_grid=(1, 1),
            embedding_dim=len(weights["head.bias"]),
        )
        pooled = weights["head.weight"].shape[1] // ConvLSTMEncoder(config).head.in_features
        return _filled(ConvLSTMEncoder(replace(config, pool_grid=_pool_grid(pooled, config.grid))), weights)
    except (ShortcastError, LookupError, ValueError, RuntimeError) as error:
        raise BundleError(f"{path} does not hold the visual encoder's weights: {error}") from error


def rebuild_fusion(bundle: Bundle) -> DualTransformer:
    """The dual Transformer.

    Raises:
        BundleError: the graph is not one of such a model.
    """
    path = bundle.graph("fusion", precision="fp32")
    weights = _named_weights(path)
    window = bundle.manifest.window_chunks
    try:
        config = FusionConfig(
            visual_dim=len(weights["visual.norm.mean"]),
            audio_dim=len(weights["audio.norm.mean"]),
            width=len(weights["visual.null"]),
            heads=_heads(path),
            layers=_count(weights, "visual.blocks."),
            feedforward=len(weights["visual.blocks.0.feedforward.1.bias"]),
            quantile_levels=bundle.manifest.quantile_levels,
            classes=bundle.manifest.target.classes,
            class_head="softmax" if "classify.bias" in weights else "ordinal",
            **({"strategy": "pad"} if window is None else {"strategy": "pool"} if window == 1 else {"window_chunks": window}),
        )
        return _filled(DualTransformer(config), weights)
    except (ShortcastError, LookupError, ValueError, RuntimeError) as error:
        raise BundleError(f"{path} does not hold the dual Transformer's weights: {error}") from error


def _named_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """Weights by their PyTorch names; matrices as PyTorch has them."""
    graph = onnx.load(path).graph
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    named = {name: values for name, values in held.items() if "." in name}
    made_by = {node.output[0]: node for node in graph.node}
    for node in graph.node:
        bias = next((name for name in node.input if name.endswith(".bias") and name in held), None)
        product = next((made_by[name] for name in node.input if name in made_by and made_by[name].op_type == "MatMul"), None)
        if node.op_type == "Add" and bias and product is not None and product.input[1] in held:
            named.setdefault(bias.removesuffix("bias") + "weight", held[product.input[1]].T)
    return named


def _heads(path: Path) -> int:
    """Attention heads, by the slopes of the recency bias: the one float constant of shape (1, heads, 1, 1)."""
    shapes = [tuple(tensor.dims) for tensor in onnx.load(path).graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    heads = [shape[1] for shape in shapes if len(shape) == 4 and (shape[0], *shape[2:]) == (1, 1, 1)]
    if len(heads) != 1:
        raise BundleError("the graph has no recency bias of its own")
    return int(heads[0])


def _pool_grid(cells: int, grid: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of so many cells that the state divides into, with cells as square as can be."""
    pairs = [(rows, cells // rows) for rows in range(1, cells + 1) if cells % rows == 0]
    fitting = [(rows, columns) for rows, columns in pairs if grid[0] % rows == 0 and grid[1] % columns == 0]
    return min(fitting, key=lambda pair: abs(grid[0] // pair[0] - grid[1] // pair[1]))


def _count(weights: Mapping[str, object], prefix: str) -> int:
    """How many layers there are under a name."""
    return len({name.removeprefix(prefix).split(".")[0] for name in weights if name.startswith(prefix)})


def _filled(model: Model, weights: Mapping[str, NDArray[np.float32]]) -> Model:
    wanted = model.state_dict()
    model.load_state_dict({name: torch.from_numpy(np.array(weights[name], order="C")) for name in wanted})
    return model.eval()


def _spec(specs: tuple[TensorSpec, ...], name: str) -> TensorSpec:
    return next(spec for spec in specs if spec.name == name)


def _visual_rows(engine: Engine, golden: Golden) -> list[ParityRow]:
    rows: list[ParityRow] = []
    for k, chunk in enumerate(golden.chunks):
        if not golden.visual_mask[k]:
            continue
        mask = chunk.frame_mask[None].astype(np.float32)
        outputs = engine.run({"frames": chunk.frames[None], "frame_mask": mask, **golden.state_before(k)})
        expected: Arrays = {"embedding": golden.visual[k : k + 1]}
        rows += compare_tensors(f"visual, chunk {k}", expected, {"embedding": outputs["embedding"]}, FLOAT32.of(["embedding"]))
    return rows


def _fusion_rows(engine: Engine, golden: Golden, window: int | None) -> list[ParityRow]:
    rows: list[ParityRow] = []
    for chunks in range(1, len(golden.chunks) + 1):
        outputs = engine.run(golden.fusion_feeds(chunks, window))
        names = [name for name in golden.fusion if name in outputs and name != "chunk_weights"]
        expected: Arrays = {name: golden.fusion[name][chunks - 1] for name in names}
        found: Arrays = {name: outputs[name][0, -1] for name in names}
        rows += compare_tensors(f"fusion, {chunks} chunks", expected, found, FLOAT32.of(names))
    return rows
