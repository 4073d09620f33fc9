"""The PyTorch modules again, from a bundle alone: no checkpoint travels with one, but its float32 ONNX files hold every weight.

Names survive the export, except where a matrix was transposed on the way: such a one is found by the bias that is added to its product.
Dimensions are read off shapes and constants. Whether all of it was understood is not believed but tried, on the bundle's golden data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from ..errors import CheckpointError, EngineError, ParityError
from ..models.convlstm import ConvLSTMEncoder, EncoderConfig
from ..models.dual_transformer import LEAST_GAP, DualTransformer, FusionConfig
from ..runtime.bundle import Bundle
from ..runtime.engines import Engine
from ..runtime.golden import Golden, load_golden
from ..runtime.parity import ParityRow, compare_tensors, require_parity
from ..runtime.tolerances import FLOAT32
from .torch_engine import fusion_engine, visual_engine

M = TypeVar("M", bound=nn.Module)
Arrays = Mapping[str, NDArray[Any]]


def modules_of(bundle: Bundle) -> tuple[ConvLSTMEncoder, DualTransformer]:
    """Both modules on the CPU in evaluation mode, proved on the bundle's golden data.

    Raises:
        EngineError: the graphs are not those this version exports, or what was rebuilt does not give the golden answers.
    """
    visual, fusion = (onnx.load(str(bundle.graph(name))).graph for name in ("visual", "fusion"))
    try:
        encoder, transformer = _encoder(visual, bundle), _fusion(fusion, bundle)
    except (CheckpointError, LookupError, RuntimeError, StopIteration, ValueError) as error:
        cause = (str(error) or "a node that every such graph has is not there").splitlines()[0]
        raise EngineError(f"PyTorch modules cannot be rebuilt from {bundle.path}: {cause}") from error
    golden = load_golden(bundle.golden)
    with visual_engine(encoder) as engine, fusion_engine(transformer) as other:
        try:
            require_parity([*_visual_rows(engine, golden), *_fusion_rows(other, golden, bundle.manifest.window_chunks)])
        except ParityError as error:
            raise EngineError(f"PyTorch modules rebuilt from {bundle.path} do not give its golden answers: {error}") from error
    return encoder, transformer


def _encoder(graph: onnx.GraphProto, bundle: Bundle) -> ConvLSTMEncoder:
    arrays, picture = _arrays(graph), bundle.contract.picture
    stem = sorted(
        (name for name in arrays if name.startswith("stem.") and name.endswith(".weight")), key=lambda name: int(name.split(".")[1])
    )
    gates = sorted((name for name in arrays if name.endswith(".gates.weight")), key=lambda name: int(name.split(".")[1]))
    mean = _constant(arrays, next(node for node in graph.node if node.op_type == "Sub"))
    deviation = _constant(arrays, [node for node in graph.node if node.op_type == "Div"][1])
    kernel = next(_attribute(node, "kernel_shape") for node in graph.node if node.op_type == "AveragePool")
    stride = 2 ** len(stem)
    config = EncoderConfig(
        frames_per_chunk=bundle.contract.frames_per_chunk,
        height=picture.height,
        width=picture.width,
        stem_channels=tuple(len(arrays[name]) for name in stem),
        hidden_channels=tuple(len(arrays[name]) // 4 for name in gates),
        pool_grid=(picture.height // stride // kernel[0], picture.width // stride // kernel[1]),
        embedding_dim=len(arrays["head.bias"]),
        pixel_mean=mean,
        pixel_std=deviation,
    )
    return _filled(ConvLSTMEncoder(config), arrays)


def _fusion(graph: onnx.GraphProto, bundle: Bundle) -> DualTransformer:
    arrays = dict(_arrays(graph))
    arrays |= _untransposed(graph, arrays)
    ordinal = "classify.bias" not in arrays
    if ordinal:
        arrays |= _ordinal(graph, arrays)
    cap = next(node for node in graph.node if node.op_type == "Clip" and not node.input[1])
    window = bundle.manifest.window_chunks
    config = FusionConfig(
        visual_dim=len(arrays["visual.norm.mean"]),
        audio_dim=len(arrays["audio.norm.mean"]),
        width=len(arrays["visual.null"]),
        heads=next(array.shape[1] for array in arrays.values() if array.ndim == 4),
        layers=sum(name.startswith("visual.blocks.") and name.endswith(".attention.query.bias") for name in arrays),
        feedforward=len(arrays["merge.0.bias"]),
        quantile_levels=tuple(bundle.manifest.quantile_levels),
        position_cap=round(float(arrays[cap.input[2]])),
        classes=bundle.manifest.target.classes,
        class_head="ordinal" if ordinal else "softmax",
        strategy={None: "pad", 1: "pool"}.get(window, "sequential"),
        **({"window_chunks": window} if window and window > 1 else {}),
    )
    return _filled(DualTransformer(config), arrays)


def _filled(module: M, arrays: Arrays) -> M:
    """The module with the weights of these names, all of which must be there."""
    wanted = module.state_dict()
    missing = sorted(set(wanted) - set(arrays))
    if missing:
        raise LookupError(f"the graph has no weights called {', '.join(missing[:3])}")
    module.load_state_dict({name: torch.from_numpy(np.array(arrays[name])).reshape(tensor.shape) for name, tensor in wanted.items()})
    module.eval()
    return module


def _arrays(graph: onnx.GraphProto) -> Arrays:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def _untransposed(graph: onnx.GraphProto, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Weights of linear layers: `Add(MatMul(x, W transposed), bias)`, under the bias's name."""
    made_by = {node.output[0]: node for node in graph.node if node.op_type == "MatMul"}
    found = {}
    for node in graph.node:
        if node.op_type == "Add":
            biases = [name for name in node.input if name in arrays and name.endswith(".bias")]
            products = [made_by[name] for name in node.input if name in made_by]
            if len(biases) == len(products) == 1 and products[0].input[1] in arrays:
                found[f"{biases[0].removesuffix('.bias')}.weight"] = arrays[products[0].input[1]].T
    return found


def _ordinal(graph: onnx.GraphProto, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """The ordinal head: a product to a single column from which its cut points, folded into one constant, are subtracted."""
    products = {node.output[0]: arrays[node.input[1]] for node in graph.node if node.op_type == "MatMul" and node.input[1] in arrays}
    latent, cuts = next(
        (products[node.input[0]], arrays[node.input[1]].astype(np.float64))
        for node in graph.node
        if node.op_type == "Sub" and node.input[0] in products and node.input[1] in arrays
    )
    gaps = np.log(np.expm1(np.diff(cuts) - LEAST_GAP))
    return {"classify.latent.weight": latent.T, "classify.cuts": np.concatenate((cuts[:1], gaps)).astype(np.float32)}


def _constant(arrays: Arrays, node: onnx.NodeProto) -> float:
    # float32 constants of a few decimals: 0.45 is stored as 0.44999998807907104.
    return float(f"{float(arrays[node.input[1]]):.6g}")


def _attribute(node: onnx.NodeProto, name: str) -> Any:
    return next(onnx.helper.get_attribute_value(attribute) for attribute in node.attribute if attribute.name == name)


def _visual_rows(engine: Engine, golden: Golden) -> Iterable[ParityRow]:
    """Every golden chunk, from the state the reference had reached."""
    for k, chunk in enumerate(golden.chunks):
        if chunk.has_pictures:
            mask = chunk.frame_mask[None].astype(np.float32)
            outputs = engine.run({"frames": chunk.frames[None], "frame_mask": mask, **golden.state_before(k)})
            reference = {"embedding": golden.visual[k : k + 1], **{f"{name}_out": x[k : k + 1] for name, x in golden.states.items()}}
            yield from compare_tensors(f"rebuilt visual, chunk {k}", reference, outputs, FLOAT32.of(reference))


def _fusion_rows(engine: Engine, golden: Golden, window: int | None) -> Iterable[ParityRow]:
    """The whole golden clip at once."""
    chunks = len(golden.chunks)
    tolerances = FLOAT32.of(name for name in golden.fusion if name != "chunk_weights")
    outputs = {name: values[0, -1:] for name, values in engine.run(golden.fusion_feeds(chunks, window)).items()}
    reference = {name: values[chunks - 1 :] for name, values in golden.fusion.items()}
    yield from compare_tensors("rebuilt fusion", reference, outputs, tolerances)
