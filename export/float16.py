"""float32 graph -> mixed float16: convolutions and matrix products in half precision, everything else as it was.

Normalisation, softmax, gates and the cell state stay float32, and so do all inputs and outputs: what accumulates does so in full
precision, and a stream's state is the same data for every engine. Types are explicit in the graph (strong typing), which is the only
way recent TensorRT takes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ..errors import EngineError, GateError
from .lint import HALF_MAX
from .nodes import KeptNode, compute_nodes, constants, element_types, head_reason, heads, is_constant, node_name, weight_bytes
from .ranges import HALF_LIMIT

PASSING = frozenset(
    {"Concat", "Expand", "Flatten", "Gather", "Identity", "Relu", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Operators that hand values on unrounded, so that casting before or after them is the same to the last bit."""


@dataclass(frozen=True, slots=True)
class Float16Report:
    """What became of a graph."""

    half: tuple[str, ...]
    """Compute nodes in float16, in the graph's order."""
    passing: tuple[str, ...]
    """Nodes that hand float16 values on to them."""
    kept: tuple[KeptNode, ...]
    """Compute nodes in float32."""
    casts: int
    """Casts put in, either way."""
    weight_bytes: Mapping[str, int]
    """Bytes of constants by element type, of the new graph."""
    underflowed: int
    """Weights that were not zero and are zero in float16."""

    @property
    def reasons(self) -> dict[str, str]:
        """By node name, why it stays float32."""
        return {node.name: node.reason for node in self.kept}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "half": list(self.half), "passing": list(self.passing), "kept": [asdict(node) for node in self.kept]}


def to_float16(
    model: onnx.ModelProto, *, ranges: Mapping[str, float] | None = None, limit: float = HALF_LIMIT
) -> tuple[onnx.ModelProto, Float16Report]:
    """Makes the float16 variant of a float32 graph. The same input gives the same bytes.

    A Conv, ConvTranspose, Gemm or MatMul becomes float16 unless it is a head, a weight of it does not fit, or its numbers pass the limit.
    So does what hands values on between them (see `PASSING`) where nothing else reads them.

    Args:
        model: the float32 graph; it is not changed.
        ranges: by node name, the largest |x| around it, from `measure_ranges`; a node that is missing stays float32. None checks weights
            alone.
        limit: the largest |x| that a float16 node may meet.

    Returns:
        The graph and what became of it.

    Raises:
        EngineError: the graph is not valid ONNX.
        GateError: no node could become float16.
    """
    nodes = compute_nodes(model)
    reasons = _reasons(model, nodes, ranges, limit)
    half = [node_name(node) for node in nodes if node_name(node) not in reasons]
    if not half:
        raise GateError(f"no node of the graph could become float16: {_first(reasons.values())}; use --precision fp32")
    islands = _Islands(model, frozenset(half))
    made = islands.model()
    _require_valid(made)
    kept = tuple(KeptNode(node_name(node), node.op_type, reasons[node_name(node)]) for node in nodes if node_name(node) in reasons)
    return made, Float16Report(tuple(half), tuple(islands.passing), kept, islands.casts, weight_bytes(made), islands.underflowed)


def _reasons(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto], ranges: Mapping[str, float] | None, limit: float) -> dict[str, str]:
    """Why a compute node stays float32, for each that does."""
    outputs, written = heads(model), constants(model)
    reasons: dict[str, str] = {}
    for node in nodes:
        name = node_name(node)
        reason = head_reason(outputs[name]) if name in outputs else _weight_reason(node, written)
        if not reason and ranges is not None:
            reason = _range_reason(ranges.get(name), limit)
        if reason:
            reasons[name] = reason
    return reasons


def _weight_reason(node: onnx.NodeProto, written: Mapping[str, NDArray[np.generic]]) -> str:
    for name in node.input:
        largest = float(np.abs(written[name]).max(initial=0.0)) if name in written else 0.0
        # Written so that NaN is caught too.
        if not largest <= HALF_MAX:
            return f"{name} holds {largest:.4g}, and float16 ends at {HALF_MAX:.0f}"
    return ""


def _range_reason(largest: float | None, limit: float) -> str:
    if largest is None:
        return "its range was not measured"
    return "" if largest <= limit else f"its numbers reach {largest:.4g}, beyond the limit of {limit:g}"


class _Islands:
    """A graph being rewritten: what is float16 so far, and under which name."""

    def __init__(self, model: onnx.ModelProto, half: frozenset[str]) -> None:
        self._source = model
        self._types = element_types(model)
        self._constants = constants(model)
        self._readers = _readers(model)
        self._outputs = {output.name for output in model.graph.output}
        self._taken = {*self._types, *(name for node in model.graph.node for name in (node.name, *node.output))}
        self._half_of: dict[str, str] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self.casts = 0
        self.underflowed = 0
        self._inside = self._spread(half)
        self.passing = [node_name(node) for node in model.graph.node if node_name(node) in self._inside - half]
        for node in model.graph.node:
            self._add(node)

    def model(self) -> onnx.ModelProto:
        """The rewritten graph, without what nothing reads any more."""
        made = onnx.ModelProto()
        made.CopyFrom(self._source)
        graph = made.graph
        read = self._outputs | {name for node in self._nodes for name in node.input}
        weights = [tensor for tensor in (*self._source.graph.initializer, *self._weights) if tensor.name in read]
        nodes = [node for node in self._nodes if not is_constant(node) or node.output[0] in read]
        for field in (graph.node, graph.initializer, graph.value_info):
            del field[:]
        graph.node.extend(nodes)
        graph.initializer.extend(weights)
        return made

    def _spread(self, half: frozenset[str]) -> frozenset[str]:
        """Adds every passing node whose values only float16 nodes read; read backwards, a node's readers are settled before it is."""
        inside = set(half)
        for node in reversed(self._source.graph.node):
            readers = [reader for output in node.output for reader in self._readers.get(output, ())]
            private = not self._outputs.intersection(node.output)
            is_float = all(self._types.get(output) == TensorProto.FLOAT for output in node.output)
            if node.op_type in PASSING and is_float and private and readers and all(node_name(reader) in inside for reader in readers):
                inside.add(node_name(node))
        return frozenset(inside)

    def _add(self, node: onnx.NodeProto) -> None:
        if node_name(node) not in self._inside:
            self._nodes.append(node)
            return
        inputs = [self._half(name) if self._types.get(name) == TensorProto.FLOAT else name for name in node.input]
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        del copy.input[:], copy.output[:]
        copy.input.extend(inputs)
        self._nodes.append(copy)
        for output in node.output:
            self._half_of[output] = self._fresh(output)
            copy.output.append(self._half_of[output])
            if output in self._outputs or any(node_name(reader) not in self._inside for reader in self._readers.get(output, ())):
                self._cast(self._half_of[output], output, TensorProto.FLOAT)

    def _half(self, name: str) -> str:
        """The float16 twin of a value, made where there is none yet."""
        if name not in self._half_of:
            self._half_of[name] = self._fresh(name)
            if name in self._constants:
                self._weights.append(self._rounded(self._constants[name], self._half_of[name]))
            else:
                self._cast(name, self._half_of[name], TensorProto.FLOAT16)
        return self._half_of[name]

    def _rounded(self, values: NDArray[np.generic], name: str) -> onnx.TensorProto:
        rounded = values.astype(np.float16)
        self.underflowed += int(((values != 0) & (rounded == 0)).sum())
        return numpy_helper.from_array(rounded, name)

    def _cast(self, source: str, target: str, kind: int) -> None:
        self._nodes.append(helper.make_node("Cast", [source], [target], name=self._fresh(f"cast/{target}"), to=kind))
        self.casts += 1

    def _fresh(self, name: str) -> str:
        fresh = f"{name}_half"
        while fresh in self._taken:
            fresh += "_"
        self._taken.add(fresh)
        return fresh


def _readers(model: onnx.ModelProto) -> dict[str, list[onnx.NodeProto]]:
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return readers


def _require_valid(model: onnx.ModelProto) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        raise EngineError(f"the float16 graph is not valid ONNX: {error}") from error


def _first(sentences: Iterable[str]) -> str:
    return next(iter(sentences), "it has no convolution and no matrix product in float32")
