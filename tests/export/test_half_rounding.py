from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from shortcast.export.float16 import to_float16
from shortcast.export.half_rounding import emulate_float16
from shortcast.runtime.engines import open_engine

RNG = np.random.default_rng(0)
W0 = RNG.normal(size=(6, 6)).astype(np.float32)
W1 = RNG.normal(size=(6, 6)).astype(np.float32)


def half_graph() -> onnx.ModelProto:
    """x (batch, 6) -> MatMul, Relu, MatMul in float16 -> y in float32."""
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("MatMul", ["b", "w1"], ["c"], "second"),
        helper.make_node("Add", ["c", "zero"], ["y"], "add"),
        helper.make_node("MatMul", ["y", "w1"], ["z"], "head"),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 6])],
        [numpy_helper.from_array(np.asarray(values, np.float32), name) for name, values in (("w0", W0), ("w1", W1), ("zero", 0.0))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    made = to_float16(model)[0]
    made.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 6]))
    return made


def rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values.astype(np.float16).astype(np.float32)


def run(model: onnx.ModelProto, folder: Path, x: NDArray[np.float32]) -> NDArray[Any]:
    onnx.save(model, folder / "ran.onnx")
    with open_engine(folder / "ran.onnx", threads=1) as engine:
        return np.asarray(engine.run({"x": x})["y"])


def test_every_product_is_rounded_as_float16_rounds_it(tmp_path: Path) -> None:
    x = RNG.normal(size=(50, 6)).astype(np.float32)
    hidden = np.maximum(rounded(rounded(x) @ rounded(W0)), 0)
    expected = rounded(hidden @ rounded(W1))
    found = run(emulate_float16(half_graph()), tmp_path, x)
    assert np.array_equal(rounded(found), found)
    # Sums in another order land on the other side of a rounding now and then.
    assert np.mean(found == expected) > 0.98
    assert np.abs(found - expected).max() < 0.01


@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
def test_it_rounds_where_the_float16_graph_on_this_cpu_may_not(tmp_path: Path, scale: float) -> None:
    """The two must be near each other, and the emulated one is on the grid of float16 for certain."""
    x = (scale * RNG.normal(size=(8, 6))).astype(np.float32)
    model = half_graph()
    emulated, direct = run(emulate_float16(model), tmp_path, x), run(model, tmp_path, x)
    assert np.abs(emulated - direct).max() < 0.02 * scale
    assert np.array_equal(rounded(emulated), emulated)


def test_the_emulation_is_float32_throughout_and_keeps_inputs_and_outputs() -> None:
    model = half_graph()
    before = model.SerializeToString(deterministic=True)
    made = emulate_float16(model)
    onnx.checker.check_model(made, full_check=True)
    assert Counter(tensor.data_type for tensor in made.graph.initializer) == {TensorProto.FLOAT: len(made.graph.initializer)}
    assert [value.name for value in (*made.graph.input, *made.graph.output)] == ["x", "z", "y"]
    assert model.SerializeToString(deterministic=True) == before


def test_a_cast_from_bytes_and_a_sum_in_float16_are_rounded_too(tmp_path: Path) -> None:
    """Graphs of other tools hold those: pixels cast to float16, then 0.1 added in float16."""
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], to=TensorProto.FLOAT16),
        helper.make_node("Add", ["a", "tenth"], ["b"]),
        helper.make_node("Cast", ["b"], ["y"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "bytes",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["batch"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch"])],
        [numpy_helper.from_array(np.array(0.1, np.float16), "tenth")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(emulate_float16(model), tmp_path / "ran.onnx")
    x = np.arange(256, dtype=np.uint8)
    with open_engine(tmp_path / "ran.onnx", threads=1) as engine:
        assert np.array_equal(engine.run({"x": x})["y"], rounded(x.astype(np.float32) + np.float32(np.float16(0.1))))
