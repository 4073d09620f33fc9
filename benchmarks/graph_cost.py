"""What a graph must compute and move for one call, counted operator by operator from its ONNX file.

A multiplication and an addition count as two. Products (convolutions and matrix products) are exact; what is done to each element counts
by `_PER_ELEMENT`; moving, casting and reshaping computes nothing. Bytes are those of every node's inputs and outputs, were nothing fused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
from onnx import helper, shape_inference

from ..errors import EngineError
from ..export.nodes import constants, load_graph, weight_bytes
from ..runtime.bundle import GRAPHS, Bundle
from .results import GraphCost
from .whisper_cost import sound_cost

Shape: TypeAlias = tuple[int, ...]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MOVES = _names(
    "Cast CastLike Concat Constant ConstantOfShape DepthToSpace Dropout Expand Flatten Gather GatherElements GatherND Identity Pad Range "
    "Reshape ScatterElements ScatterND Shape Size Slice SpaceToDepth Split Squeeze Tile Transpose Unsqueeze"
)
_ONCE = _names(
    "Abs Add And BitShift Ceil Cos Div Elu Equal Erf Exp Floor Greater GreaterOrEqual LeakyRelu Less LessOrEqual Log Max Mean Min Mod "
    "Mul Neg Not Or Pow PRelu Reciprocal Relu Round Sigmoid Sign Sin Softplus Sqrt Sub Sum Tanh Where Xor"
)
_PER_ELEMENT = (
    dict.fromkeys(_ONCE, 1)
    | {"Clip": 2, "HardSigmoid": 3, "HardSwish": 4, "Gelu": 4, "Mish": 4}
    # Scale, shift, and of the quantising round and saturate.
    | {"DequantizeLinear": 2, "QuantizeLinear": 4, "DynamicQuantizeLinear": 6}
    # Largest, subtract, exponential, sum, divide; a logarithm more.
    | {"Softmax": 5, "LogSoftmax": 6}
    # Mean (1), variance (3), subtract, multiply, scale, shift.
    | {"LayerNormalization": 8, "InstanceNormalization": 8, "GroupNormalization": 8, "BatchNormalization": 4, "RMSNormalization": 5}
)
"""Operations for each element of the first output; a function such as tanh counts as one, as it does in most published counts."""
_REDUCTIONS = _names("ReduceSum ReduceMax ReduceMin ReduceMean ReduceProd ReduceL1 CumSum ArgMax ArgMin GlobalAveragePool GlobalMaxPool")
_PER_INPUT_ELEMENT = dict.fromkeys(_REDUCTIONS, 1) | {"ReduceL2": 2, "ReduceSumSquare": 2, "ReduceLogSumExp": 3}


@dataclass(frozen=True, slots=True)
class OperatorCost:
    """All nodes of one operator together."""

    op: str
    nodes: int
    flops: int
    bytes: int
    product: bool
    """Whether it sums many products: what a matrix product ceiling is the ceiling of."""


def count_graph(path: Path, *, graph: str, precision: str, batch: int = 1, chunks: int = 1) -> GraphCost:
    """Counts a whole graph.

    Args:
        path: the ONNX file.
        graph: its name in the result.
        precision: its precision in the result.
        batch: size of the dimension `batch`.
        chunks: size of the dimension `chunks`.

    Raises:
        EngineError: the file is not ONNX, a shape cannot be told, or an operator's cost is not known.
    """
    model = _with_sizes(path, {"batch": batch, "chunks": chunks})
    operators = _by_operator(model, path)
    values = _values(model)
    ends = [value.name for value in (*model.graph.input, *model.graph.output)]
    return GraphCost(
        graph=graph,
        precision=precision,
        flops=sum(one.flops for one in operators),
        weight_bytes=sum(weight_bytes(model).values()),
        activation_bytes=sum(one.bytes for one in operators),
        io_bytes=sum(_bytes(values[name]) for name in ends),
    )


def by_operator(path: Path, *, batch: int = 1, chunks: int = 1) -> tuple[OperatorCost, ...]:
    """The same by operator, the most FLOPs first; raises what `count_graph` does."""
    return _by_operator(_with_sizes(path, {"batch": batch, "chunks": chunks}), path)


def bundle_costs(bundle: Bundle, precisions: Sequence[str], *, chunks: int = 8) -> tuple[GraphCost, ...]:
    """What a chunk costs: the visual and fusion graphs of each precision, and the Whisper encoder.

    Args:
        bundle: whose graphs are counted; each file once, though two precisions may share one.
        precisions: variants of the bundle; one it doesn't hold is left out, as PyTorch's bf16.
        chunks: how many chunks the fusion graph is shown.

    Raises:
        EngineError: as `count_graph`.
    """
    variants = bundle.manifest.variants
    held = [(name, precision) for precision in precisions if precision in variants for name in GRAPHS]
    counted = {
        (name, precision): count_graph(bundle.graph(name, precision=precision), graph=name, precision=precision, chunks=chunks)
        for name, precision in held
    }
    return (*counted.values(), *sound_cost(bundle.contract))


def _by_operator(model: onnx.ModelProto, path: Path) -> tuple[OperatorCost, ...]:
    values, found = _values(model), dict[str, OperatorCost]()
    for node in model.graph.node:
        flops, product = _flops(node, values, path)
        size = sum(_bytes(values[name]) for name in (*node.input, *node.output) if name)
        before = found.get(node.op_type, OperatorCost(node.op_type, 0, 0, 0, product))
        found[node.op_type] = OperatorCost(node.op_type, before.nodes + 1, before.flops + flops, before.bytes + size, product)
    return tuple(sorted(found.values(), key=lambda one: (-one.flops, -one.bytes, one.op)))


def _flops(node: onnx.NodeProto, values: Mapping[str, tuple[str, Shape]], path: Path) -> tuple[int, bool]:
    shapes_in = [values[name][1] if name else () for name in node.input]
    shapes_out = [values[name][1] for name in node.output if name]
    if node.op_type in _PRODUCTS:
        return _PRODUCTS[node.op_type](node, shapes_in, shapes_out[0]), True
    if node.op_type in _MOVES:
        return 0, False
    if node.op_type in _PER_ELEMENT:
        return _PER_ELEMENT[node.op_type] * prod(shapes_out[0]), False
    if node.op_type in _PER_INPUT_ELEMENT:
        return _PER_INPUT_ELEMENT[node.op_type] * prod(shapes_in[0]), False
    if node.op_type in ("AveragePool", "MaxPool"):
        return prod(helper.get_node_attr_value(node, "kernel_shape")) * prod(shapes_out[0]), False
    raise EngineError(f"{path}: what the operator {node.op_type} costs is not known, so the graph cannot be counted")


def _conv(node: onnx.NodeProto, weight: Shape, out: Shape, bias: bool) -> int:
    """Each output element: a product with one filter, (C / groups) x kernel."""
    return prod(out) * (2 * prod(weight[1:]) + bias)


def _conv_transpose(node: onnx.NodeProto, shapes: list[Shape], out: Shape) -> int:
    """Each input element is multiplied with one filter, (M / groups) x kernel."""
    return 2 * prod(shapes[0]) * prod(shapes[1][1:]) + (prod(out) if len(shapes) > 2 else 0)


def _matmul(left: Shape, out: Shape) -> int:
    return 2 * prod(out) * left[-1]


def _gemm(node: onnx.NodeProto, shapes: list[Shape], out: Shape) -> int:
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    inner = shapes[0][0 if transposed else 1]
    return prod(out) * (2 * inner + (len(shapes) > 2))


_PRODUCTS: dict[str, Callable[[onnx.NodeProto, list[Shape], Shape], int]] = {
    "Conv": lambda node, shapes, out: _conv(node, shapes[1], out, len(shapes) > 2),
    "ConvInteger": lambda node, shapes, out: _conv(node, shapes[1], out, False),
    # Input, its scale and zero, weight, its scale and zero, output's scale and zero, bias.
    "QLinearConv": lambda node, shapes, out: _conv(node, shapes[3], out, len(shapes) > 8),
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": lambda node, shapes, out: _matmul(shapes[0], out),
    "MatMulInteger": lambda node, shapes, out: _matmul(shapes[0], out),
    "QLinearMatMul": lambda node, shapes, out: _matmul(shapes[0], out),
}


def _with_sizes(path: Path, sizes: Mapping[str, int]) -> onnx.ModelProto:
    """The graph with every dimension a number, and the shape of every value written into it."""
    model = load_graph(path)
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                if dim.dim_param not in sizes:
                    raise EngineError(f"{path}: the size of the dimension {dim.dim_param!r} is not known, only of {', '.join(sizes)}")
                dim.dim_value = sizes[dim.dim_param]
    del model.graph.value_info[:]
    try:
        model = shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (shape_inference.InferenceError, ValueError) as error:
        raise EngineError(f"{path}: shapes cannot be told: {str(error).splitlines()[0]}") from error
    values = _values(model)
    unknown = next((name for node in model.graph.node for name in node.output if name and name not in values), None)
    if unknown is not None:
        raise EngineError(f"{path}: the shape of {unknown!r} cannot be told, so the graph cannot be counted")
    return model


def _values(model: onnx.ModelProto) -> dict[str, tuple[str, Shape]]:
    """Type and shape of every value whose shape is all numbers."""
    graph = model.graph
    found = {name: (array.dtype.name, array.shape) for name, array in constants(model).items()}
    return found | dict(_described((*graph.value_info, *graph.input, *graph.output)))


def _described(values: Sequence[onnx.ValueInfoProto]) -> Iterator[tuple[str, tuple[str, Shape]]]:
    for value in values:
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            yield value.name, (helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, tuple(dim.dim_value for dim in tensor.shape.dim))


def _bytes(value: tuple[str, Shape]) -> int:
    kind, shape = value
    return np.dtype(kind).itemsize * prod(shape)


def live_bytes(path: Path, *, batch: int = 1, chunks: int = 1) -> int:
    """The most that values between nodes take at once when nodes run in the file's order and each value goes after its last reader.

    What a backend needs as scratch, planned: fusing needs less, padding and work space of kernels more.

    Raises:
        EngineError: as `count_graph`.
    """
    model = _with_sizes(path, {"batch": batch, "chunks": chunks})
    values, kept = _values(model), constants(model).keys() | {value.name for value in (*model.graph.input, *model.graph.output)}
    last = {name: at for at, node in enumerate(model.graph.node) for name in node.input}
    live, most = 0, 0
    for at, node in enumerate(model.graph.node):
        live += sum(_bytes(values[name]) for name in node.output if name and name not in kept)
        most = max(most, live)
        gone = {name for name in (*node.input, *node.output) if name and name not in kept and last.get(name, at) == at}
        live -= sum(_bytes(values[name]) for name in gone)
    return most
