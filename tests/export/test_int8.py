import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from shortcast.errors import EngineError, GateError
from shortcast.export.int8 import to_int8
from shortcast.export.lint import lint_graph, require_sound_graph
from shortcast.runtime.engines import Tensors, open_engine
from shortcast.runtime.golden import load_golden


def graph_file(folder: Path, *, heads_only: bool = False, name: str = "product", channels: int = 6) -> Path:
    """x uint8 (batch, channels, 6, 6) -> Cast, Conv, Relu, flat, MatMul, Softmax, and a MatMul as head."""
    rng = np.random.default_rng(0)
    weights: dict[str, NDArray[Any]] = {
        "w0": rng.normal(size=(4, channels, 3, 3)).astype(np.float32),
        "b0": rng.normal(size=4).astype(np.float32),
        "flat": np.array([0, -1], np.int64),
        "w1": (1e-3 * rng.normal(size=(64, 8))).astype(np.float32),
        "w2": rng.normal(size=(36 * channels if heads_only else 8, 2)).astype(np.float32),
    }
    cast = [helper.make_node("Cast", ["x"], ["a"], "cast", to=TensorProto.FLOAT)]
    body = [
        helper.make_node("Conv", ["a", "w0", "b0"], ["b"], "conv"),
        helper.make_node("Relu", ["b"], ["c"], "relu"),
        helper.make_node("Reshape", ["c", "flat"], ["d"], "flatten"),
        helper.make_node("MatMul", ["d", "w1"], ["e"], name),
        helper.make_node("Softmax", ["e"], ["f"], "softmax"),
        helper.make_node("MatMul", ["f", "w2"], ["y"], "head"),
    ]
    short = [helper.make_node("Reshape", ["a", "flat"], ["f"], "flatten"), helper.make_node("MatMul", ["f", "w2"], ["y"], "head")]
    graph = helper.make_graph(
        cast + (short if heads_only else body),
        "network",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["batch", channels, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(values, key) for key, values in weights.items()],
    )
    path = folder / "network.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def fed(batch: int, channels: int = 6) -> Tensors:
    return {"x": np.random.default_rng(batch).integers(0, 256, (batch, channels, 6, 6), dtype=np.uint8)}


def run(path: Path, feeds: Tensors) -> Tensors:
    with open_engine(path, threads=1) as engine:
        return engine.run(feeds)


def test_products_are_quantised_and_the_head_is_not(tmp_path: Path) -> None:
    report = to_int8(graph_file(tmp_path), tmp_path / "int8.onnx", [fed(2), fed(3)])
    assert report.quantised == ("conv", "product")
    assert [(node.name, node.reason) for node in report.kept] == [("head", "a head, the last product before y")]
    assert report.calibration_runs == 2
    assert report.weight_bytes["int8"] >= 4 * 54 + 64 * 8
    assert json.loads(json.dumps(report.to_json())) == report.to_json()
    require_sound_graph(tmp_path / "int8.onnx", precision="int8")


def test_a_stem_that_reads_colours_stays_float32(tmp_path: Path) -> None:
    report = to_int8(graph_file(tmp_path, channels=3), tmp_path / "int8.onnx", [fed(2, channels=3)])
    assert report.quantised == ("product",)
    assert next((node.name, node.reason) for node in report.kept) == ("conv", "it reads 3 channels, where int8 saves no time")


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_it_runs_at_any_batch_and_is_near_the_original(tmp_path: Path, batch: int) -> None:
    source = graph_file(tmp_path)
    to_int8(source, tmp_path / "int8.onnx", [fed(8), fed(9)])
    feeds = fed(batch)
    expected, found = run(source, feeds)["y"], run(tmp_path / "int8.onnx", feeds)["y"]
    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


def test_weights_leave_room_for_a_cpu_that_adds_in_16_bits(tmp_path: Path) -> None:
    """Two products of 255 * 64 fit 16 bits, two of 255 * 127 do not; and every channel has a scale of its own."""
    to_int8(graph_file(tmp_path), tmp_path / "int8.onnx", [fed(2)])
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(tmp_path / "int8.onnx").graph.initializer}
    weights = {name: values for name, values in tensors.items() if values.dtype == np.int8 and values.ndim > 1}
    assert len(weights) == 2
    assert all(32 < np.abs(values.astype(int)).max() <= 64 for values in weights.values())
    assert tensors["w0_scale"].shape == (4,)


def test_the_same_input_gives_the_same_bytes_and_no_noise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    source, feeds = graph_file(tmp_path), [fed(2)]
    with caplog.at_level(logging.WARNING):
        for name in ("first", "second"):
            to_int8(source, tmp_path / name, feeds)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_a_node_without_a_name_is_quantised_too(tmp_path: Path) -> None:
    assert to_int8(graph_file(tmp_path, name=""), tmp_path / "int8.onnx", [fed(2)]).quantised == ("conv", "e")


def test_a_graph_of_heads_alone_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"no node of network\.onnx could be quantised"):
        to_int8(graph_file(tmp_path, heads_only=True), tmp_path / "int8.onnx", [fed(2)])
    assert not (tmp_path / "int8.onnx").exists()


def test_no_calibration_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="needs calibration data"):
        to_int8(graph_file(tmp_path), tmp_path / "int8.onnx", [])


def test_feeds_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="cannot quantise the graph"):
        to_int8(graph_file(tmp_path), tmp_path / "int8.onnx", [{"x": np.zeros((1, 2), np.uint8)}])


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"nowhere.int8\.onnx cannot be written"):
        to_int8(graph_file(tmp_path), tmp_path / "nowhere" / "int8.onnx", [fed(2)])


def test_the_demo_encoder_keeps_its_embeddings(demo: Path, tmp_path: Path) -> None:
    """Calibrated on three golden chunks and judged on the fourth, which has a padded tail."""
    golden = load_golden(demo / "golden" / "golden.npz")
    states = [{name: np.zeros_like(values[:1]) for name, values in golden.states.items()}]
    states += [{name: values[k : k + 1] for name, values in golden.states.items()} for k in range(3)]
    feeds: list[Tensors] = [
        {"frames": chunk.frames[None], "frame_mask": chunk.frame_mask[None].astype(np.float32), **state}
        for chunk, state in zip(golden.chunks, states, strict=True)
    ]
    report = to_int8(demo / "onnx" / "visual.fp32.onnx", tmp_path / "int8.onnx", feeds[:3])
    assert len(report.quantised) == 34
    assert lint_graph(onnx.load(tmp_path / "int8.onnx"), precision="int8") == []
    expected, found = golden.visual[3], np.asarray(run(tmp_path / "int8.onnx", feeds[3])["embedding"])[0]
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
    assert found @ expected / np.linalg.norm(found) / np.linalg.norm(expected) > 0.999
