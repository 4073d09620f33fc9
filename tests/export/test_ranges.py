from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from shortcast.errors import EngineError
from shortcast.export.ranges import HALF_LIMIT, measure_ranges
from shortcast.runtime.engines import Tensors


def graph_file(folder: Path, *, second: str = "second") -> Path:
    """x (batch, 2) -> times 3 -> MatMul by [[10], [1]] -> minus 50 -> MatMul by [[0.5]] -> y (batch, 1)."""
    weights = {"three": 3.0, "fifty": 50.0, "weight": [[10.0], [1.0]], "halve": [[0.5]]}
    nodes = [
        helper.make_node("Mul", ["x", "three"], ["tripled"]),
        helper.make_node("MatMul", ["tripled", "weight"], ["summed"], "first"),
        helper.make_node("Sub", ["summed", "fifty"], ["shifted"]),
        helper.make_node("MatMul", ["shifted", "halve"], ["y"], second),
    ]
    graph = helper.make_graph(
        nodes,
        "ranges",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(np.array(values, np.float32), name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    path = folder / "graph.onnx"
    onnx.save(model, path)
    return path


def fed(*rows: list[float]) -> Tensors:
    return {"x": np.array(rows, np.float32)}


def test_a_range_spans_all_feeds_and_what_goes_in_as_well_as_what_comes_out(tmp_path: Path) -> None:
    feeds = [fed([1, 0]), fed([0, 0], [0, -20])]
    # first: fed 3 and -60, gives 30 and -60. second: fed -20, -50, -110, gives half of them.
    assert measure_ranges(graph_file(tmp_path), iter(feeds)) == {"first": 60.0, "second": 110.0}


def test_a_node_without_a_name_goes_by_its_output(tmp_path: Path) -> None:
    assert set(measure_ranges(graph_file(tmp_path, second=""), [fed([1, 1])])) == {"first", "y"}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, bad: float) -> None:
    with pytest.raises(EngineError, match="NaN or infinity"):
        measure_ranges(graph_file(tmp_path), [fed([1, 1]), fed([1, 1], [bad, 1])])


def test_no_feeds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no chunks at all"):
        measure_ranges(graph_file(tmp_path), [])


def test_two_nodes_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="two nodes of the graph are called first"):
        measure_ranges(graph_file(tmp_path, second="first"), [fed([1, 1])])


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"nowhere\.onnx cannot be read"):
        measure_ranges(tmp_path / "nowhere.onnx", [fed([1, 1])])


def test_the_limit_leaves_room_below_the_largest_float16() -> None:
    assert 5 < np.finfo(np.float16).max / HALF_LIMIT < 10
