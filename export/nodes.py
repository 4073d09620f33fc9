"""The nodes of a graph that precision is about: where the sums of products are, and which of them are heads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper, shape_inference

from ..errors import EngineError

COMPUTE = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that sum many products: the ones that reduced precision makes faster."""

_HEADS = frozenset({"Gemm", "MatMul"})


@dataclass(frozen=True, slots=True)
class KeptNode:
    """A compute node that stays float32 where others do not."""

    name: str
    op: str
    reason: str


def load_graph(path: Path) -> onnx.ModelProto:
    """Reads an ONNX file, and no file beside it.

    Raises:
        EngineError: it is not there, or is not ONNX.
    """
    try:
        return onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's errors, the file system's, and onnx's own
        raise EngineError(f"{path} cannot be read as an ONNX file: {error}") from error


def node_name(node: onnx.NodeProto) -> str:
    """The node's name, or where it has none that of its first output, which is unique in a graph."""
    return node.name or node.output[0]


def compute_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes of `COMPUTE` that work in float32, in the graph's order.

    Raises:
        EngineError: the graph is not valid ONNX, or two of these nodes have one name.
    """
    types = element_types(model)
    nodes = [node for node in model.graph.node if node.op_type in COMPUTE and types.get(node.output[0]) == TensorProto.FLOAT]
    names = [node_name(node) for node in nodes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise EngineError(f"two nodes of the graph are called {twice[0]}: expected names that tell them apart; export it again")
    return nodes


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of every value and initializer by name, as `onnx.TensorProto` numbers them.

    Raises:
        EngineError: the graph is not valid ONNX.
    """
    try:
        graph = shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True).graph
    except (shape_inference.InferenceError, ValueError) as error:
        raise EngineError(f"the graph is not valid ONNX: {error}") from error
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def constants(model: onnx.ModelProto) -> dict[str, NDArray[np.generic]]:
    """Every value that is written in the graph: initializers, and tensors of Constant nodes."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    tensors |= {node.output[0]: node.attribute[0].t for node in model.graph.node if is_constant(node)}
    return {name: numpy_helper.to_array(tensor) for name, tensor in tensors.items()}


def weight_bytes(model: onnx.ModelProto) -> dict[str, int]:
    """Bytes of constants by element type: what the graph is, not what was asked for."""
    total: dict[str, int] = {}
    for values in constants(model).values():
        total[values.dtype.name] = total.get(values.dtype.name, 0) + values.nbytes
    return dict(sorted(total.items()))


def is_constant(node: onnx.NodeProto) -> bool:
    """True for a Constant node that holds a tensor."""
    return node.op_type == "Constant" and node.attribute[0].name == "value"


def heads(model: onnx.ModelProto) -> dict[str, str]:
    """The Gemm and MatMul nodes with no other compute node between them and an output, each with the first output that it feeds.

    What they round is rounded in the answer itself, and they are too small for it to save any time.
    """
    maker = {output: node for node in model.graph.node for output in node.output}
    return {name: output.name for output in reversed(model.graph.output) for name in _last_compute(output.name, maker)}


def head_reason(output: str) -> str:
    """Why a head stays float32."""
    return f"a head, the last product before {output}"


def _last_compute(value: str, maker: dict[str, onnx.NodeProto]) -> Iterator[str]:
    waiting, seen = [value], {value}
    while waiting:
        node = maker.get(waiting.pop())
        if node is None:
            continue
        if node.op_type in COMPUTE:
            if node.op_type in _HEADS:
                yield node_name(node)
            continue
        waiting += [name for name in node.input if name not in seen]
        seen.update(node.input)
