from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from shortcast.errors import EngineError, GateError
from shortcast.export.float16 import to_float16
from shortcast.export.half_rounding import emulate_float16
from shortcast.export.lint import lint_graph
from shortcast.export.parity import fusion_parity, visual_parity
from shortcast.runtime.engines import open_engine
from shortcast.runtime.tolerances import FLOAT16

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def node(op: str, inputs: str, outputs: str, name: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), name, **attributes)


def network() -> onnx.ModelProto:
    """Two convolutions with a Relu and a Reshape between them, their sum with a bias in float32, a product, and a head."""
    rng = np.random.default_rng(0)
    weights: dict[str, NDArray[Any]] = {
        "w0": rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "b0": rng.normal(size=4).astype(np.float32),
        "w1": rng.normal(size=(4, 4, 1, 1)).astype(np.float32),
        "shift": np.array(0.5, np.float32),
        "w2": rng.normal(size=(64, 8)).astype(np.float32),
        "w3": rng.normal(size=(8, 2)).astype(np.float32),
        "same": np.array([0, 0, 0, 0], np.int64),
        "flat": np.array([0, -1], np.int64),
    }
    nodes = [
        node("Conv", "x w0 b0", "a", "conv0", pads=[1, 1, 1, 1]),
        node("Relu", "a", "b", "relu"),
        node("Reshape", "b same", "c", "reshape"),
        node("Conv", "c w1", "d", "conv1"),
        node("Add", "d shift", "e", "add"),
        node("Reshape", "e flat", "f", "flatten"),
        node("MatMul", "f w2", "g", "product"),
        node("Sigmoid", "g", "h", "gate"),
        node("MatMul", "h w3", "y", "head"),
    ]
    return model_of(nodes, weights, [("x", ["batch", 3, 4, 4])], [("y", ["batch", 2])])


def model_of(
    nodes: list[onnx.NodeProto],
    weights: dict[str, NDArray[Any]],
    inputs: list[tuple[str, list[int | str]]],
    outputs: list[tuple[str, list[int | str]]],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in outputs],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def set_weight(model: onnx.ModelProto, name: str, change: Callable[[NDArray[Any]], None]) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    values = numpy_helper.to_array(tensor).copy()
    change(values)
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def run(model: onnx.ModelProto, folder: Path, x: NDArray[np.float32]) -> NDArray[Any]:
    onnx.save(model, folder / "ran.onnx")
    with open_engine(folder / "ran.onnx", threads=1) as engine:
        return np.asarray(engine.run({"x": x})["y"])


def precision_of(model: onnx.ModelProto) -> dict[str, int]:
    """Element type of every node's first output, by node name."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}
    return {node.name: types[node.output[0]] for node in graph.node}


def test_products_are_half_and_everything_else_is_not() -> None:
    made, report = to_float16(network())
    precision = precision_of(made)
    assert {name for name, kind in precision.items() if kind == HALF and not name.startswith("cast/")} == {
        "conv0",
        "relu",
        "reshape",
        "conv1",
        "flatten",
        "product",
    }
    assert {precision[name] for name in ("add", "gate", "head")} == {FLOAT}
    assert report.half == ("conv0", "conv1", "product")
    assert report.passing == ("relu", "reshape", "flatten")
    assert report.reasons == {"head": "a head, the last product before y"}


def test_casts_stand_only_at_the_shores() -> None:
    """x, what follows conv1, what leads to the product, and what follows it: none around the Relu and the Reshape."""
    made, report = to_float16(network())
    assert report.casts == 4
    assert sum(node.op_type == "Cast" for node in made.graph.node) == 4


def test_inputs_and_outputs_stay_as_they_are_and_the_graph_is_sound() -> None:
    model = network()
    made, _ = to_float16(model)
    assert [value.SerializeToString() for value in (*made.graph.input, *made.graph.output)] == [
        value.SerializeToString() for value in (*model.graph.input, *model.graph.output)
    ]
    assert lint_graph(made, precision="fp16") == []


def test_the_same_graph_gives_the_same_bytes_and_is_not_changed() -> None:
    model = network()
    before = model.SerializeToString(deterministic=True)
    first, second = (to_float16(model)[0].SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_it_runs_and_is_off_by_float16_rounding_and_no_more(tmp_path: Path, batch: int) -> None:
    model = network()
    x = np.random.default_rng(batch).normal(size=(batch, 3, 4, 4)).astype(np.float32)
    expected = run(model, tmp_path, x)
    found = run(to_float16(model)[0], tmp_path, x)
    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected).max() < 0.02


@pytest.mark.parametrize(
    ("weight", "value", "name"), [("w0", 7e4, "conv0"), ("b0", -1e5, "conv0"), ("w2", np.inf, "product"), ("w2", np.nan, "product")]
)
def test_a_weight_that_does_not_fit_keeps_its_node(weight: str, value: float, name: str) -> None:
    model = network()
    set_weight(model, weight, lambda values: values.put(0, value))
    made, report = to_float16(model)
    assert precision_of(made)[name] == FLOAT
    assert f"{weight} holds {abs(value):.4g}, and float16 ends at 65504" == report.reasons[name]
    assert name not in report.half


def test_a_weight_that_two_nodes_share_is_there_in_both_types(tmp_path: Path) -> None:
    """The product is half and its twin, whose other weight does not fit, is not."""
    model = model_of(
        [
            node("Gemm", "x w big", "a", "kept"),
            node("MatMul", "x w", "b", "half"),
            node("Add", "a b", "c", "add"),
            node("MatMul", "c v", "y", "head"),
        ],
        {"w": np.eye(2, dtype=np.float32), "big": np.full(2, 1e5, np.float32), "v": np.ones((2, 1), np.float32)},
        [("x", ["batch", 2])],
        [("y", ["batch", 1])],
    )
    made, report = to_float16(model)
    assert report.half == ("half",)
    assert report.weight_bytes == {"float16": 8, "float32": 32}
    assert run(made, tmp_path, np.array([[1, 2]], np.float32)) == pytest.approx(2e5 + 6)


@pytest.mark.parametrize(
    ("ranges", "limit", "expected"),
    [
        ({"conv0": 9.0, "conv1": 9.0, "product": 2e4}, 1e4, {"product": "its numbers reach 2e+04, beyond the limit of 10000"}),
        ({"conv0": 9.0, "conv1": 9.5, "product": 1.0}, 9.0, {"conv1": "its numbers reach 9.5, beyond the limit of 9"}),
        ({"conv0": 9.0, "conv1": 9.0}, 1e4, {"product": "its range was not measured"}),
    ],
)
def test_a_node_whose_numbers_are_large_or_unknown_stays_and_says_why(
    ranges: dict[str, float], limit: float, expected: dict[str, str]
) -> None:
    made, report = to_float16(network(), ranges={**ranges, "head": 1.0}, limit=limit)
    assert {name: reason for name, reason in report.reasons.items() if name != "head"} == expected
    assert {precision_of(made)[name] for name in expected} == {FLOAT}


def test_a_value_that_float32_reads_too_is_cast_back() -> None:
    """conv0 feeds a Sigmoid beside the Relu, and is an output of the graph as well."""
    model = network()
    model.graph.node.append(node("Sigmoid", "a", "z", "beside"))
    model.graph.output.extend([helper.make_tensor_value_info(name, FLOAT, ["batch", 4, 4, 4]) for name in ("z", "a")])
    made, report = to_float16(model)
    assert report.casts == 5
    assert precision_of(made)["relu"] == HALF
    assert lint_graph(made, precision="fp16") == []


def test_integers_move_as_they_did() -> None:
    """A Gather of sizes beside the products is no business of theirs."""
    model = network()
    model.graph.node.insert(0, node("Shape", "x", "sizes", "shape"))
    model.graph.node.insert(1, node("Gather", "sizes zero", "first", "gather", axis=0))
    model.graph.node.insert(2, node("Concat", "first rest", "wanted", "concat", axis=0))
    model.graph.initializer.extend(
        [numpy_helper.from_array(np.array([0], np.int64), "zero"), numpy_helper.from_array(np.array([-1], np.int64), "rest")]
    )
    next(found for found in model.graph.node if found.name == "flatten").input[1] = "wanted"
    made, _ = to_float16(model)
    assert lint_graph(made, precision="fp16") == []


def test_weights_that_vanish_are_counted_and_weights_in_nodes_are_weights() -> None:
    model = network()

    def shrink(values: NDArray[Any]) -> None:
        values[0, :3] = (1e-9, 0.0, 1e-7)

    set_weight(model, "w2", shrink)
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "w2")
    constant = node("Constant", "", "w2", "constant", value=weight)
    model.graph.node.insert(0, constant)
    model.graph.initializer.remove(weight)
    made, report = to_float16(model)
    assert report.underflowed == 1
    assert not any(found.op_type == "Constant" for found in made.graph.node)
    assert report.weight_bytes["float16"] == 2 * (4 * 27 + 4 + 16 + 512)


def test_a_graph_with_nothing_to_gain_is_refused() -> None:
    ranges = dict.fromkeys(("conv0", "conv1", "product", "head"), 1e5)
    with pytest.raises(GateError, match=r"no node .*: its numbers reach 1e\+05.*--precision fp32"):
        to_float16(network(), ranges=ranges)


def test_a_graph_that_is_not_valid_is_refused() -> None:
    model = network()
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3
    with pytest.raises(EngineError, match="not valid ONNX"):
        to_float16(model)


def test_the_report_is_plain_json() -> None:
    import json

    _, report = to_float16(network())
    assert json.loads(json.dumps(report.to_json())) == report.to_json()


@pytest.mark.parametrize("graph", ["visual", "fusion"])
def test_the_demo_graphs_agree_with_float32_within_the_tolerances(demo: Path, tmp_path: Path, graph: str) -> None:
    """Trained weights, every batch, mask and length that a stream can have, and every rounding of float16 carried out."""
    source = demo / "onnx" / f"{graph}.fp32.onnx"
    made, report = to_float16(onnx.load(source))
    assert len(report.half) >= 35
    onnx.save(emulate_float16(made), tmp_path / "half.onnx")
    compare = visual_parity if graph == "visual" else fusion_parity
    with open_engine(source, threads=1) as reference, open_engine(tmp_path / "half.onnx", threads=1) as candidate:
        rows = compare(reference, candidate, tolerances=FLOAT16)
    assert [row for row in rows if not row.passed] == []
    assert max(row.max_abs_error or 0.0 for row in rows) > 1e-5


@pytest.mark.parametrize("graph", ["visual", "fusion"])
def test_the_demo_graphs_are_sound_in_float16_and_run_at_every_batch(demo: Path, tmp_path: Path, graph: str) -> None:
    made, _ = to_float16(onnx.load(demo / "onnx" / f"{graph}.fp32.onnx"))
    assert lint_graph(made, precision="fp16") == []
    onnx.save(made, tmp_path / "half.onnx")
    with open_engine(tmp_path / "half.onnx", threads=1) as engine:
        for batch in (1, 2, 5):
            sizes = {"batch": batch, "chunks": 3}
            outputs = engine.run({spec.name: np.ones([sizes.get(dim, dim) for dim in spec.shape], spec.dtype) for spec in engine.inputs})
            for values in outputs.values():
                assert values.dtype == np.float32
                assert np.isfinite(values).all()
                assert values.shape[0] == batch
                # Rows that are the same stay the same, whatever the batch.
                assert np.abs(values - values[:1]).max() < 1e-4
