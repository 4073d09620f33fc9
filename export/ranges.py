"""How large the numbers get that a float16 graph would have to hold, measured on real chunks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import TensorProto, helper

from ..errors import EngineError
from ..runtime.engines import Tensors, open_engine
from .nodes import compute_nodes, constants, element_types, load_graph, node_name

HALF_LIMIT = 1e4
"""A sixth of the largest float16: room for chunks that were not measured."""

_PROBED = ("max", "sum")
"""The sum is there for NaN, which a maximum may pass over."""


def measure_ranges(graph: Path, feeds: Iterable[Tensors]) -> dict[str, float]:
    """Measures the numbers around every Conv, ConvTranspose, Gemm and MatMul of a float32 graph.

    The magnitudes are reduced inside the graph, so that memory does not grow with the number of nodes.

    Args:
        graph: an ONNX file.
        feeds: the graph's inputs, one run after the other.

    Returns:
        By node name, the largest |x| of its output and of what it is fed, weights aside: both are float16 where the node is.

    Raises:
        EngineError: the graph does not run, there are no feeds, or a number is NaN or infinite.
    """
    model = load_graph(graph)
    around = _values_around(model)
    values = sorted({name for names in around.values() for name in names})
    largest = dict.fromkeys(values, 0.0)
    with TemporaryDirectory() as folder:
        probed = Path(folder) / "probed.onnx"
        onnx.save(_probed(model, values), probed)
        for outputs in _runs(probed, feeds):
            for name in values:
                largest[name] = max(largest[name], _finite(outputs, name))
    return {node: max(largest[name] for name in names) for node, names in around.items()}


def _values_around(model: onnx.ModelProto) -> dict[str, list[str]]:
    """Each compute node's output and float32 operands that are not weights."""
    types, written = element_types(model), constants(model)
    return {
        node_name(node): [
            *node.output[:1],
            *(name for name in node.input if name not in written and types.get(name) == TensorProto.FLOAT),
        ]
        for node in compute_nodes(model)
    }


def _probed(model: onnx.ModelProto, values: Iterable[str]) -> onnx.ModelProto:
    """A copy whose only outputs are the reduced magnitudes of these values."""
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    graph = probed.graph
    del graph.output[:]
    for name in values:
        graph.node.append(helper.make_node("Abs", [name], [f"{name}/magnitude"]))
        for kind in _PROBED:
            reduced = f"{name}/{kind}"
            graph.node.append(helper.make_node(f"Reduce{kind.title()}", [f"{name}/magnitude"], [reduced], keepdims=0))
            graph.output.append(helper.make_tensor_value_info(reduced, TensorProto.FLOAT, []))
    return probed


def _runs(graph: Path, feeds: Iterable[Tensors]) -> Iterable[Tensors]:
    ran = False
    with open_engine(graph) as engine:
        for feed in feeds:
            ran = True
            yield engine.run(feed)
    if not ran:
        raise EngineError("ranges cannot be measured on no chunks at all; give a calibration clip that decodes")


def _finite(outputs: Tensors, name: str) -> float:
    found = {kind: float(np.asarray(outputs[f"{name}/{kind}"], dtype=np.float64)) for kind in _PROBED}
    if not np.isfinite(list(found.values())).all():
        raise EngineError(f"{name} of the float32 graph holds NaN or infinity on calibration data: expected finite numbers; train again")
    return found["max"]
