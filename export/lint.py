"""What a graph must be like so that every backend takes it, and the same way: structure, checked without running anything.

Each rule came from a backend that failed, or that agreed with the others only by luck. A rule yields sentences; none is good news.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, shape_inference

from ..errors import EngineError, GateError
from .nodes import load_graph

PRECISIONS = ("fp32", "fp16", "int8")
OPSETS = range(18, 23)
"""Below 18 reductions and normalisations are spelt otherwise; from 23 on attention is an operator that not every backend runs."""
DYNAMIC_DIMS = frozenset({"batch", "chunks"})
"""Every other size is static: state buffers and optimisation profiles are made for it."""
HALF_MAX = float(np.finfo(np.float16).max)
"""65504: beyond it a constant becomes infinite where a backend reads it as float16."""

FORBIDDEN = frozenset(
    {
        "Attention",  # refused for some masks, and without a kernel in float32
        "If",
        "Loop",
        "Scan",  # control flow on the device cannot be captured in a CUDA graph
        "IsInf",
        "IsNaN",  # guards that mean one thing in float32 and another in float16
        "NonZero",
        "Unique",  # sizes that depend on data, and no plugin to make them
        "Optional",
        "OptionalGetElement",
        "OptionalHasElement",
        "SequenceConstruct",
        "SequenceEmpty",
        "SequenceErase",
        "SequenceInsert",
        "SequenceLength",
        "SequenceMap",
        "ConcatFromSequence",
        "SplitToSequence",
    }
)
"""Operators that a TensorRT-family parser refuses, that it cannot capture, or on which backends differ."""

_QDQ = frozenset({"QuantizeLinear", "DequantizeLinear"})
_IO_TYPES = frozenset({TensorProto.FLOAT, TensorProto.UINT8})
_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE})
_STATE = re.compile(r"[hc]\d+")


def lint_graph(model: onnx.ModelProto, *, precision: str = "fp32") -> list[str]:
    """Says everything that is wrong with a graph.

    Args:
        model: the graph, with its weights inside.
        precision: what the file claims to be, one of `PRECISIONS`.

    Returns:
        One sentence for each fault; empty is good.

    Raises:
        EngineError: the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise EngineError(f"precision {precision!r} is unknown; it is one of {', '.join(PRECISIONS)}")
    by_precision: tuple[Rule, ...] = (_half_constants,) if precision == "fp16" else ()
    found = [sentence for rule in (*_RULES, *by_precision) for sentence in rule(model)]
    return [*found, *_declared_precision(model, precision)]


def require_sound_graph(path: Path, *, precision: str = "fp32") -> None:
    """Does nothing where `lint_graph` finds no fault in the file.

    Raises:
        EngineError: the file is not there, or is not ONNX.
        GateError: names the file and every fault.
    """
    faults = lint_graph(load_graph(path), precision=precision)
    if faults:
        raise GateError(f"{path.name} is not a graph that every backend takes: {'; '.join(faults)}")


def _validity(model: onnx.ModelProto) -> Iterator[str]:
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in model.graph.initializer):
        return  # has a sentence of its own, and the checker would go looking for the file
    try:
        onnx.checker.check_model(model, full_check=True)
        shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, shape_inference.InferenceError, ValueError) as error:
        yield f"it is not valid ONNX: {_first_line(error)}"


def _opset(model: onnx.ModelProto) -> Iterator[str]:
    found = {entry.domain: entry.version for entry in model.opset_import}
    version = found.get("", 0)
    if version not in OPSETS:
        yield f"opset: expected {OPSETS[0]} to {OPSETS[-1]}, got {version}"
    others = {*found, *(node.domain for node in model.graph.node)} - {"", "ai.onnx"}
    if others or model.functions:
        named = ", ".join(sorted(others)) or ", ".join(sorted(function.name for function in model.functions))
        yield f"only the default operator domain is allowed, got {named}"


def _operators(model: onnx.ModelProto) -> Iterator[str]:
    used = {node.op_type for node in model.graph.node} & FORBIDDEN
    if used:
        yield f"operators that not every backend runs: {', '.join(sorted(used))}"


def _weights_inside(model: onnx.ModelProto) -> Iterator[str]:
    outside = [tensor.name for tensor in model.graph.initializer if tensor.data_location == TensorProto.EXTERNAL]
    if outside:
        yield f"weights outside the file, {outside[0]} first: expected none, since a bundle's hashes cover one file for each graph"


def _bytes_into_cast(model: onnx.ModelProto) -> Iterator[str]:
    """TensorRT takes a uint8 tensor as the direct input of a Cast and of nothing else."""
    raw = {value.name for value in model.graph.input if value.type.tensor_type.elem_type == TensorProto.UINT8}
    misused = {node.op_type for node in model.graph.node if raw & set(node.input)} - {"Cast"}
    if misused:
        yield f"uint8 feeds {', '.join(sorted(misused))}: expected Cast alone"


def _io_types(model: onnx.ModelProto) -> Iterator[str]:
    for value in (*model.graph.input, *model.graph.output):
        found = value.type.tensor_type.elem_type
        if found not in _IO_TYPES:
            yield f"{value.name}: expected float32 or uint8, got {TensorProto.DataType.Name(found).lower()}"


def _sizes(model: onnx.ModelProto) -> Iterator[str]:
    for value in (*model.graph.input, *model.graph.output):
        named = set(_shape(value)) & DYNAMIC_DIMS
        unknown = [dim for dim in _shape(value) if dim not in named and not isinstance(dim, int)]
        if unknown:
            yield f"{value.name}: only {' and '.join(sorted(DYNAMIC_DIMS))} may vary, got {', '.join(map(str, unknown))}"
    given = {dim for value in model.graph.input for dim in _shape(value)}
    for value in model.graph.output:
        unfed = set(_shape(value)) & DYNAMIC_DIMS - given
        if unfed:
            yield f"{value.name}: {', '.join(map(str, unfed))} varies in no input"


def _state(model: onnx.ModelProto) -> Iterator[str]:
    """State goes in as `x` and comes out as `x_out`, and what came out must go back in as it is."""
    taken = {value.name: value for value in model.graph.input}
    given = {value.name.removesuffix("_out"): value for value in model.graph.output if value.name.endswith("_out")}
    for name in sorted({*given, *filter(_STATE.fullmatch, taken)}):
        if name not in taken or name not in given:
            yield f"state {name}: expected an input {name} and an output {name}_out, got one of them"
        elif _signature(taken[name]) != _signature(given[name]):
            yield f"state {name}: goes in as {_signature(taken[name])} and comes out as {_signature(given[name])}"


def _half_constants(model: onnx.ModelProto) -> Iterator[str]:
    for name, values in _float_constants(model.graph):
        # Written so that NaN is caught too.
        beyond = values[~(np.abs(values) <= HALF_MAX)]
        if beyond.size:
            yield f"{name} holds {beyond.flat[0]:g}: expected constants within {HALF_MAX:.0f}, the largest float16"


def _declared_precision(model: onnx.ModelProto, precision: str) -> Iterator[str]:
    """A file is what it says it is: float32 throughout, or some of it float16, or some of it quantised."""
    half = any(tensor.data_type == TensorProto.FLOAT16 for tensor in model.graph.initializer) or any(
        attribute.name == "to" and attribute.i == TensorProto.FLOAT16
        for node in model.graph.node
        if node.op_type == "Cast"
        for attribute in node.attribute
    )
    quantised = any(node.op_type in _QDQ for node in model.graph.node)
    for what, is_so, wanted in (("float16", half, precision == "fp16"), ("quantised tensors", quantised, precision == "int8")):
        if is_so != wanted:
            yield f"a graph declared {precision} {'has no' if wanted else 'has'} {what}"


Rule = Callable[[onnx.ModelProto], Iterator[str]]
_RULES: tuple[Rule, ...] = (_validity, _opset, _operators, _weights_inside, _bytes_into_cast, _io_types, _sizes, _state)


def _float_constants(graph: onnx.GraphProto) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Every float that is written in the graph: weights, and attributes of any kind."""
    for tensor in graph.initializer:
        if tensor.data_type in _FLOATS and tensor.data_location != TensorProto.EXTERNAL:
            yield tensor.name, numpy_helper.to_array(tensor).astype(np.float64)
    for node in graph.node:
        for attribute in node.attribute:
            yield f"{node.op_type} {node.name or node.output[0]} ({attribute.name})", _floats_of(attribute)


def _floats_of(attribute: onnx.AttributeProto) -> NDArray[np.float64]:
    if attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type in _FLOATS:
        return numpy_helper.to_array(attribute.t).astype(np.float64)
    return np.array([attribute.f, *attribute.floats], dtype=np.float64)


def _shape(value: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    """A dimension that is neither given nor named is `?`."""
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in dims)


def _signature(value: onnx.ValueInfoProto) -> str:
    return f"{helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name} ({', '.join(map(str, _shape(value)))})"


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
