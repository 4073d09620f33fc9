"""Parsing on the real TensorRT-RTX: what is refused is refused with the node it is about, and nothing empty passes for a network."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from shortcast.errors import EngineError
from shortcast.export import trt_network
from shortcast.export.trt_network import ParsedNetwork, add_profiles, import_tensorrt, parse_network, restricted_profiles
from shortcast.runtime.engine_record import Profile
from shortcast.runtime.engines.tensorrt_log import build_log

FLOAT, HALF, UINT8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8
MakeGraph = Callable[..., Path]


def parsed(trt: Any, graph: Path) -> ParsedNetwork:
    log = build_log(trt)
    with log.collecting():
        return parse_network(trt, log, graph)


def test_a_graph_becomes_a_network(trt: Any, product_graph: MakeGraph) -> None:
    found = parsed(trt, product_graph("visual.fp16.onnx", half=True))
    assert found.name == "visual"
    assert found.network.num_layers == 4
    assert len(found.onnx_sha256) == 64


def test_strong_typing_is_asked_for(trt: Any, product_graph: MakeGraph) -> None:
    """TensorRT-RTX has no other way and doesn't look at the flag; TensorRT 10 does."""
    flags: list[int] = []

    class Builder:
        def __init__(self, logger: Any) -> None:
            self.real = trt.Builder(logger)

        def create_network(self, flag: int) -> Any:
            flags.append(flag)
            return self.real.create_network(flag)

    watched = ModuleType("tensorrt")
    vars(watched).update({**vars(trt), "Builder": Builder})
    parsed(watched, product_graph())
    assert flags == [1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)]


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08\x08", bytes(100)])
def test_what_is_no_graph_is_refused_before_tensorrt_sees_it(
    trt: Any, tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty input, and some garbage, parse without an error."""
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    monkeypatch.setattr(trt, "Builder", None)
    with pytest.raises(EngineError, match=r"x\.onnx"):
        parsed(trt, path)


def test_the_empty_network_of_an_empty_input_is_refused(trt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt_network, "_checked_onnx", lambda path: b"")
    with pytest.raises(EngineError, match="0 layers and 0 outputs"):
        parsed(trt, tmp_path / "x.onnx")


def test_a_missing_file_is_an_error(trt: Any, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"none\.onnx"):
        parsed(trt, tmp_path / "none.onnx")


def test_weights_in_another_file_are_refused(trt: Any, product_graph: MakeGraph, tmp_path: Path) -> None:
    model = onnx.load(product_graph())
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((4, 3), np.float32), "w"))
    path = tmp_path / "outside.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(EngineError, match="external_data=False"):
        parsed(trt, path)


def test_uint8_goes_only_into_cast(trt: Any, make_graph: MakeGraph) -> None:
    turned = helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0], name="turned")
    cast = helper.make_node("Cast", ["t"], ["y"], to=FLOAT, name="cast")
    with pytest.raises(EngineError, match=r"node 'turned' \(Transpose\).*UInt8") as caught:
        parsed(trt, make_graph("x.onnx", [turned, cast], {"x": (UINT8, [2, 4])}, {"y": (FLOAT, [4, 2])}))
    assert "cudaError" not in str(caught.value)
    assert "/_src/" not in str(caught.value)
    cast = helper.make_node("Cast", ["x"], ["t"], to=FLOAT, name="cast")
    turned = helper.make_node("Transpose", ["t"], ["y"], perm=[1, 0], name="turned")
    parsed(trt, make_graph("y.onnx", [cast, turned], {"x": (UINT8, [2, 4])}, {"y": (FLOAT, [4, 2])}))


@pytest.mark.parametrize(("kind", "message"), [(TensorProto.DOUBLE, "x is float64"), (TensorProto.INT16, "cannot parse x")])
def test_types_that_tensorrt_has_not_are_refused(trt: Any, make_graph: MakeGraph, kind: int, message: str) -> None:
    """It takes float64 for float32 without a word."""
    cast = helper.make_node("Cast", ["x"], ["y"], to=FLOAT, name="cast")
    with pytest.raises(EngineError, match=message):
        parsed(trt, make_graph("x.onnx", [cast], {"x": (kind, [4])}, {"y": (FLOAT, [4])}))


def test_an_unsupported_operator_is_named(trt: Any, make_graph: MakeGraph) -> None:
    node = helper.make_node("Unique", ["x"], ["y"], name="uniq")
    with pytest.raises(EngineError, match=r"cannot parse x\.onnx: node 'uniq' \(Unique\) is not supported"):
        parsed(trt, make_graph("x.onnx", [node], {"x": (FLOAT, [4])}, {"y": (FLOAT, ["n"])}))


def test_an_unknown_operator_is_named(trt: Any, make_graph: MakeGraph) -> None:
    node = helper.make_node("Foo", ["x"], ["y"], name="foo", domain="my")
    with pytest.raises(EngineError, match=r"node 'foo' \(Foo\): .*Plugin not found"):
        parsed(trt, make_graph("x.onnx", [node], {"x": (FLOAT, [4])}, {"y": (FLOAT, [4])}))


def test_types_that_do_not_fit_are_refused(trt: Any, make_graph: MakeGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checker sees it first; a strongly typed network would not take it either."""
    nodes = [helper.make_node("Cast", ["x"], ["h"], to=HALF, name="down"), helper.make_node("Add", ["x", "h"], ["y"], name="plus")]
    path = make_graph("x.onnx", nodes, {"x": (FLOAT, [4])}, {"y": (FLOAT, [4])})
    with pytest.raises(EngineError, match="not valid ONNX"):
        parsed(trt, path)
    monkeypatch.setattr(trt_network, "_checked_onnx", Path.read_bytes)
    with pytest.raises(EngineError, match=r"node 'plus' \(Add\).*must have same input types"):
        parsed(trt, path)


def test_a_profile_is_cut_to_the_dimensions_of_the_graph(trt: Any, product_graph: MakeGraph) -> None:
    found = parsed(trt, product_graph())
    wanted = (Profile.of(batch=(1, 1, 8), chunks=(1, 4, 8)), Profile.of(batch=(1, 1, 8), chunks=(8, 16, 32)))
    assert restricted_profiles(found, wanted) == (Profile.of(batch=(1, 1, 8)),)
    config = found.builder.create_builder_config()
    add_profiles(found, config, restricted_profiles(found, wanted))
    assert config.num_optimization_profiles == 1


def test_a_profile_must_name_every_dimension(trt: Any, product_graph: MakeGraph) -> None:
    found = parsed(trt, product_graph())
    with pytest.raises(EngineError, match=r"\(chunks 1\.\.8, best at 4\) gives no sizes for the dimension batch"):
        restricted_profiles(found, (Profile.of(chunks=(1, 4, 8)),))
    with pytest.raises(EngineError, match="batch, and no optimisation profile"):
        restricted_profiles(found, ())


def test_a_graph_of_fixed_shapes_needs_no_profile(trt: Any, make_graph: MakeGraph) -> None:
    node = helper.make_node("Relu", ["x"], ["y"], name="relu")
    found = parsed(trt, make_graph("x.onnx", [node], {"x": (FLOAT, [4])}, {"y": (FLOAT, [4])}))
    assert restricted_profiles(found, ()) == ()


def test_a_dimension_without_a_name_is_an_error(trt: Any, make_graph: MakeGraph) -> None:
    node = helper.make_node("Relu", ["x"], ["y"], name="relu")
    found = parsed(trt, make_graph("x.onnx", [node], {"x": (FLOAT, [None, 4])}, {"y": (FLOAT, [None, 4])}))
    with pytest.raises(EngineError, match=r"input x: .* has no name"):
        restricted_profiles(found, (Profile.of(batch=(1, 1, 8)),))


@pytest.mark.parametrize("sizes", [(4, 2, 8), (1, 9, 8), (8, 4, 1)])
def test_a_profile_that_is_only_counted_as_minus_one_is_an_error(trt: Any, product_graph: MakeGraph, sizes: tuple[int, int, int]) -> None:
    found = parsed(trt, product_graph())
    config = found.builder.create_builder_config()
    with found.log.collecting(), pytest.raises(EngineError, match=r"refuses .*MIN<=OPT<=MAX") as caught:
        add_profiles(found, config, (Profile.of(batch=sizes),))
    assert "cudaError" not in str(caught.value)


def test_nothing_the_network_points_into_is_dropped(trt: Any, product_graph: MakeGraph) -> None:
    """The parser does not keep the network alive, nor the network the builder: without ours to hold them the process would crash."""
    script = (
        "import gc, sys, tensorrt_rtx as trt\nfrom pathlib import Path\n"
        "from shortcast.runtime.engines.tensorrt_log import build_log\nfrom shortcast.export.trt_network import *\n"
        "from shortcast.runtime.engine_record import Profile\n"
        "found = parse_network(trt, build_log(trt), Path(sys.argv[1]))\n"
        "gc.collect()\njunk = [bytearray(1000) for _ in range(1000)]\n"
        "config = found.builder.create_builder_config()\n"
        "add_profiles(found, config, (Profile.of(batch=(1, 1, 2)),))\n"
        "plan = found.builder.build_serialized_network(found.network, config)\n"
        "print(found.network.num_layers, found.parser.num_errors, plan.nbytes > 1000)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(product_graph())], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", "0", "True"]


def test_an_unknown_target_is_an_error() -> None:
    with pytest.raises(EngineError, match="it is one of tensorrt, tensorrt-rtx"):
        import_tensorrt("tensorflow")


@pytest.mark.parametrize("target", ["tensorrt", "tensorrt-rtx"])
def test_a_missing_package_is_an_error_that_names_the_extra(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, target.replace("-", "_"), None)
    with pytest.raises(EngineError, match=rf"install it: pip install 'shortcast\[{target}\]'"):
        import_tensorrt(target)


def test_a_package_that_does_not_load_is_another_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt.py").write_text("raise OSError('libnvinfer.so.10: cannot open shared object file')")
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EngineError, match=r"tensorrt does not load: libnvinfer\.so\.10"):
        import_tensorrt("tensorrt")


def test_a_builder_that_does_not_start_points_to_rtx(trt: Any, product_graph: MakeGraph) -> None:
    """What TensorRT's bindings do without a GPU: they find a null pointer where the builder should be."""

    def no_builder(logger: Any) -> Any:
        logger.log(trt.ILogger.ERROR, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    broken = ModuleType("tensorrt")
    vars(broken).update(ILogger=trt.ILogger, Builder=no_builder)
    with pytest.raises(EngineError, match=r"CUDA initialization failure.*--target tensorrt-rtx"):
        parsed(broken, product_graph())
