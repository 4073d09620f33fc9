from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from shortcast.export.nodes import compute_nodes, constants, heads, node_name, weight_bytes


def node(op: str, inputs: str, output: str, name: str = "", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], name, **attributes)


def network() -> onnx.ModelProto:
    """Two branches that meet in `score`; a gate that also is an output by way of a Softmax; a state that a convolution makes."""
    nodes = [
        node("MatMul", "x w", "a", "body"),
        node("MatMul", "a w", "b", "left"),
        node("MatMul", "a w", "c", "right"),
        node("Add", "b c", "score", "meet"),
        node("Softmax", "b", "weights", "softmax"),
        node("Unsqueeze", "a axes", "d", "unsqueeze"),
        node("Conv", "d kernel", "h0_out", "state"),
        node("Cast", "a", "whole", "cast", to=TensorProto.INT32),
        node("MatMul", "whole whole", "e", "integers"),
        node("Cast", "e", "f", "back", to=TensorProto.FLOAT),
        node("MatMul", "f w", "second"),
    ]
    weights: dict[str, Any] = {
        "w": np.eye(2, dtype=np.float32),
        "axes": np.array([1], np.int64),
        "kernel": np.ones((1, 1, 1), np.float32),
    }
    outputs = {"score": [2, 2], "weights": [2, 2], "h0_out": [2, 1, 2], "second": [2, 2]}
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 2])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_heads_are_the_last_products_on_every_way_to_an_output() -> None:
    """The body is behind both branches, and the convolution that makes a state is no head."""
    assert heads(network()) == {"left": "score", "right": "score", "second": "second"}


def test_compute_nodes_are_those_in_float32_and_go_by_name_or_output() -> None:
    assert [node_name(found) for found in compute_nodes(network())] == ["body", "left", "right", "state", "second"]


def test_constants_are_counted_wherever_they_are_written() -> None:
    model = network()
    held = numpy_helper.from_array(np.zeros(3, np.float16), "held")
    model.graph.node.insert(0, node("Constant", "", "half", "constant", value=held))
    assert set(constants(model)) == {"w", "axes", "kernel", "half"}
    assert weight_bytes(model) == {"float16": 6, "float32": 20, "int64": 8}
