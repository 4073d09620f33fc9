"""A float16 graph's rounding, done in float32: the honest way to measure float16 on a CPU.

ONNX Runtime has no float16 convolution on x86. It computes one in float32 between casts of its own, and removes those together with the
casts of the graph, so that results which a float16 graph rounds are never rounded there and every error measured is too small. Here
each of those roundings is spelt out in arithmetic that no backend takes away.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .float16 import PASSING
from .nodes import constants, element_types

_SPLIT = float(2**13 + 1)
"""Veltkamp's splitter: 24 bits of a float32 significand, less the 11 of a float16 one, is 13 (Dekker 1971)."""


def emulate_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Makes a float32 graph that rounds to 11 bits wherever a mixed float16 graph does.

    Sums inside one convolution or product stay float32, as tensor cores keep them. Below 6e-5 float16 has fewer than 11 bits, which is
    not copied: the difference is under 3e-8. Nothing becomes infinite at 65504; `measure_ranges` sees to that.

    Args:
        model: what `to_float16` made, or another mixed graph; it is not changed.

    Returns:
        The same inputs, outputs and nodes, with three nodes more for every rounding.

    Raises:
        EngineError: the graph is not valid ONNX.
    """
    types = element_types(model)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    for field in (graph.node, graph.initializer, graph.value_info):
        del field[:]
    graph.node.extend(emulated for node in model.graph.node for emulated in _emulated(node, types))
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    written = constants(model)
    graph.initializer.extend(
        numpy_helper.from_array(written[name].astype(np.float32), name) if tensor.data_type == TensorProto.FLOAT16 else tensor
        for name, tensor in weights.items()
    )
    graph.initializer.append(numpy_helper.from_array(np.array(_SPLIT, np.float32), _SPLITTER))
    return made


_SPLITTER = "half_rounding/splitter"


def _emulated(node: onnx.NodeProto, types: dict[str, int]) -> Iterator[onnx.NodeProto]:
    half_out = types.get(node.output[0]) == TensorProto.FLOAT16
    if node.op_type == "Cast" and types.get(node.input[0]) == TensorProto.FLOAT16:
        yield helper.make_node("Identity", [node.input[0]], [node.output[0]], node.name)
    elif node.op_type == "Cast" and half_out and types.get(node.input[0]) == TensorProto.FLOAT:
        yield from _rounding(node.input[0], node.output[0])
    elif half_out and node.op_type not in PASSING:
        yield from _rounded(node)
    else:
        yield node


def _rounded(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """The node in float32, and its first output rounded."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.output[0] = f"{node.output[0]}/exact"
    for attribute in copy.attribute:
        if copy.op_type == "Cast" and attribute.name == "to":
            attribute.i = TensorProto.FLOAT
    yield copy
    yield from _rounding(copy.output[0], node.output[0])


def _rounding(source: str, target: str) -> Iterator[onnx.NodeProto]:
    """The upper 11 bits of x, rounded to nearest: x * s - (x * s - x)."""
    scaled, rest = f"{target}/scaled", f"{target}/rest"
    yield helper.make_node("Mul", [source, _SPLITTER], [scaled], scaled)
    yield helper.make_node("Sub", [scaled, source], [rest], rest)
    yield helper.make_node("Sub", [scaled, rest], [target], f"{target}/rounded")
