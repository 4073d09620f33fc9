"""What an engine's precision is found to be: from real strongly typed networks, and from the inspector's JSON as documented."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from shortcast.errors import EngineError, GateError
from shortcast.export.attestation import attest_engine, attest_network, compute_layers, require_precision
from shortcast.export.trt_network import parse_network
from shortcast.runtime.engine_record import Attestation, ComputeLayer
from shortcast.runtime.engines.tensorrt_log import build_log

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
MakeGraph = Callable[..., Path]


def attested(trt: Any, graph: Path, reasons: dict[str, str] | None = None) -> Attestation:
    log = build_log(trt)
    with log.collecting():
        parsed = parse_network(trt, log, graph)
        return attest_network(trt, parsed.network, compute_layers(parsed.network, reasons or {}))


def test_a_half_graph_is_half(trt: Any, product_graph: MakeGraph) -> None:
    assert attested(trt, product_graph(half=True)) == Attestation("network", 1, 1, 24, 24, ())


def test_a_float32_graph_is_not(trt: Any, product_graph: MakeGraph) -> None:
    layer = ComputeLayer("product", "matrix multiply", "float32", "a head")
    assert attested(trt, product_graph(), {"product": "a head", "other": "?"}) == Attestation("network", 0, 1, 0, 48, (layer,))


def test_half_weights_that_are_computed_in_float32_do_not_count_as_half_layers(trt: Any, make_graph: MakeGraph) -> None:
    """A file may store half and compute in float32: smaller, and not one bit faster."""
    nodes = [helper.make_node("Cast", ["w"], ["w32"], to=FLOAT, name="up"), helper.make_node("MatMul", ["x", "w32"], ["y"], name="product")]
    graph = make_graph("x.onnx", nodes, {"x": (FLOAT, [2, 4])}, {"y": (FLOAT, [2, 3])}, {"w": np.ones((4, 3), np.float16)})
    found = attested(trt, graph)
    assert (found.half_layers, found.compute_layers) == (0, 1)
    assert found.half_weight_bytes == 24
    with pytest.raises(GateError):
        require_precision(found, "fp16", 0.1)


def test_a_convolution_counts_its_kernel_and_bias_and_shared_weights_once(trt: Any, make_graph: MakeGraph) -> None:
    convolutions = [
        helper.make_node("Conv", ["x", "k", "b"], ["c"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c", "k", "b"], ["y"], name="second", pads=[1, 1, 1, 1]),
    ]
    weights = {"k": np.ones((2, 2, 3, 3), np.float32), "b": np.ones(2, np.float32)}
    found = attested(trt, make_graph("x.onnx", convolutions, {"x": (FLOAT, [1, 2, 4, 4])}, {"y": (FLOAT, [1, 2, 4, 4])}, weights))
    assert [layer.name for layer in found.float32_layers] == ["first", "second"]
    assert {layer.kind for layer in found.float32_layers} == {"convolution"}
    assert found.weight_bytes == 4 * (2 * 2 * 3 * 3 + 2)


def test_integer_constants_are_no_weights(trt: Any, make_graph: MakeGraph) -> None:
    node = helper.make_node("Reshape", ["x", "shape"], ["y"], name="reshape")
    graph = make_graph("x.onnx", [node], {"x": (FLOAT, [2, 4])}, {"y": (FLOAT, [4, 2])}, {"shape": np.array([4, 2])})
    assert attested(trt, graph) == Attestation("network", 0, 0, 0, 0, ())


MOSTLY = Attestation("network", 9, 10, 1, 100, (ComputeLayer("head", "matrix multiply", "float32", "the last"),))
NONE = Attestation("network", 0, 2, 0, 100, (ComputeLayer("a", "convolution", "float32"), ComputeLayer("b", "convolution", "float32")))


def test_a_graph_declared_half_that_is_float32_fails() -> None:
    with pytest.raises(GateError, match=r"declared fp16: expected at least 80% .* got 0 of 2 .*a \(no reason given\)") as caught:
        require_precision(NONE, "fp16", 0.8)
    assert caught.value.exit_code == 3


def test_a_graph_declared_float32_that_is_partly_half_fails() -> None:
    with pytest.raises(GateError, match="declared fp32: expected no half layer, got 9 of 10"):
        require_precision(MOSTLY, "fp32", 0.8)


def test_the_threshold_is_the_share_of_layers() -> None:
    require_precision(MOSTLY, "fp16", 0.9)
    with pytest.raises(GateError, match=r"head \(the last\)"):
        require_precision(MOSTLY, "fp16", 0.91)
    require_precision(NONE, "fp32", 0.8)


def test_a_graph_with_nothing_to_compute_is_not_half() -> None:
    with pytest.raises(GateError):
        require_precision(Attestation("network", 0, 0, 0, 0, ()), "fp16", 0.1)


def test_other_precisions_are_refused() -> None:
    with pytest.raises(EngineError, match="fp32 and fp16 graphs, got 'int8'"):
        require_precision(NONE, "int8", 0.8)


# What follows is the shape of the inspector's JSON as NVIDIA documents it; no engine wrote it.
TEN = {
    "Layers": [
        {
            "Name": "Reformatting CopyNode for Input Tensor 0 to conv",
            "LayerType": "Reformat",
            "Inputs": [{"Name": "x", "Location": "Device", "Dimensions": [1, 8, 4, 4], "Format/Datatype": "Row major linear FP32"}],
            "Outputs": [
                {"Name": "x16", "Location": "Device", "Dimensions": [1, 8, 4, 4], "Format/Datatype": "Row major linear FP16 format"}
            ],
            "ParameterType": "Reformat",
            "Origin": "REFORMAT",
            "TacticValue": "0x00000000000003e8",
            "StreamId": 0,
            "Metadata": "",
        },
        {
            "Name": "conv + relu",
            "LayerType": "CaskConvolution",
            "Inputs": [{"Name": "x16", "Dimensions": [1, 8, 4, 4], "Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}],
            "Outputs": [{"Name": "c", "Dimensions": [1, 16, 4, 4], "Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}],
            "ParameterType": "Convolution",
            "Kernel": [3, 3],
            "Weights": {"Type": "Half", "Count": 1152},
            "Bias": {"Type": "Float", "Count": 16},
            "TacticName": "sm80_xmma_fprop_implicit_gemm_f16f16_f16f16_f16_nhwckrsc_nhwc_tilesize128x64x32",
            "StreamId": 0,
            "Metadata": "[ONNX Layer: conv]\x1e[ONNX Layer: relu]",
        },
        {
            "Name": "product_myl0_1",
            "LayerType": "gemm",
            "Inputs": [{"Name": "a", "Dimensions": [1, 4], "Format/Datatype": "Half"}],
            "Outputs": [{"Name": "b", "Dimensions": [1, 4], "Format/Datatype": "Float"}],
            "TacticName": "sm80_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize32x32x64_stage6",
            "StreamId": 0,
            "Metadata": "[ONNX Layer: product]",
        },
        {
            "Name": "head_myl0_2",
            "LayerType": "gemm",
            "Inputs": [{"Name": "b", "Dimensions": [1, 4], "Format/Datatype": "Float"}],
            "Outputs": [{"Name": "y", "Dimensions": [1, 1], "Format/Datatype": "Float"}],
            "TacticName": "unheard of",
            "StreamId": 0,
            "Metadata": "[ONNX Layer: head]",
        },
        {
            "Name": "__myl_CastGemmCast_myl0_3",
            "LayerType": "kgen",
            "Inputs": [{"Name": "b", "Dimensions": [1, 4], "Format/Datatype": "Float"}],
            "Outputs": [{"Name": "z", "Dimensions": [1, 1], "Format/Datatype": "Float"}],
            "TacticName": "__myl_CastGemmCast_0xf2543c36",
            "StreamId": 0,
            "Metadata": "[ONNX Layer: fused]",
        },
        {
            "Name": "__myl_MeanSubMul_myl0_4",
            "LayerType": "kgen",
            "Inputs": [{"Name": "b", "Dimensions": [1, 4], "Format/Datatype": "Float"}],
            "Outputs": [{"Name": "n", "Dimensions": [1, 4], "Format/Datatype": "Float"}],
            "TacticName": "__myl_MeanSubMul_0xf2543c36",
            "StreamId": 0,
            "Metadata": "[ONNX Layer: norm]",
        },
    ],
    "Bindings": ["x", "y"],
}
KNOWN = (
    ComputeLayer("conv", "convolution", "float16"),
    ComputeLayer("product", "matrix multiply", "float16"),
    ComputeLayer("head", "matrix multiply", "float32", "a head"),
)


def eleven() -> dict[str, Any]:
    """The same engine as TensorRT 11 tells it: type and format apart, inputs and outputs as objects."""
    layers = []
    for layer in TEN["Layers"]:
        assert isinstance(layer, dict)
        sides = {side: [split(tensor) for tensor in layer[side]] for side in ("Inputs", "Outputs")}
        layers.append({**layer, **sides})
    io = [{"Name": "x", "IOMode": "Input", "DataType": "Float", "Dimensions": [1, 8, 4, 4], "Location": "Device"}]
    return {"Layers": layers, "I/O Tensors": io}


def split(tensor: dict[str, Any]) -> dict[str, Any]:
    text = tensor["Format/Datatype"]
    rest = {name: value for name, value in tensor.items() if name != "Format/Datatype"}
    return {**rest, "DataType": "Half" if "16" in text or text == "Half" else "Float", "Format": "Row major linear format (kLINEAR)"}


@pytest.mark.parametrize("information", [TEN, eleven()], ids=["TensorRT 10", "TensorRT 11"])
def test_an_engine_is_read_layer_by_layer(information: dict[str, Any]) -> None:
    """A reformat and a normalisation are no compute; a kernel that casts on both sides can't be judged."""
    found = attest_engine(json.dumps(information), KNOWN)
    assert found == Attestation(
        source="engine",
        half_layers=2,
        compute_layers=3,
        half_weight_bytes=2 * 1152,
        weight_bytes=2 * 1152 + 4 * 16,
        float32_layers=(ComputeLayer("head_myl0_2", "gemm", "float32", "a head"),),
    )


def judged(**changes: Any) -> Attestation | None:
    """A product of unknown type, but for what is changed."""
    layer = {"Name": "p", "LayerType": "gemm", "Inputs": [], "Outputs": [], "TacticName": "", "Metadata": "", **changes}
    return attest_engine(json.dumps({"Layers": [layer]}), ())


@pytest.mark.parametrize(
    ("changes", "half"),
    [
        ({"Weights": {"Type": "Half", "Count": 4}, "TacticName": "x_f32f32_f32"}, True),
        ({"Weights": {"Type": "Float", "Count": 4}, "TacticName": "x_f16f16_f32"}, False),
        ({"TacticName": "ampere_h16816gemm_256x128_ldg8_nn_v1"}, True),
        ({"TacticName": "sm80_xmma_gemm_tf32f32_tf32f32_f32"}, False),
        ({"TacticName": "ampere_sgemm_128x64_tn"}, False),
        ({"LayerType": "CaskConvolution", "TacticName": "ampere_scudnn_128x64"}, False),
        ({"Inputs": [{"Format/Datatype": "Half"}], "Outputs": [{"Format/Datatype": "Half"}]}, True),
        ({"Inputs": [{"DataType": "Half"}, {"DataType": "Int32"}], "Outputs": [{"DataType": "Half"}]}, True),
        ({"Inputs": [{"Format/Datatype": "BFloat16"}], "Outputs": [{"Format/Datatype": "BF16"}]}, False),
    ],
)
def test_a_layer_is_judged_by_the_surest_sign(changes: dict[str, Any], half: bool) -> None:
    found = judged(**changes)
    assert found
    assert found.half_layers == int(half)
    assert found.compute_layers == 1


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"Inputs": [{"Format/Datatype": "Half"}], "Outputs": [{"Format/Datatype": "Float"}]},
        {"Name": "CastGemmCast", "Inputs": [{"Format/Datatype": "Float"}], "Outputs": [{"Format/Datatype": "Float"}]},
        {"LayerType": "Reformat", "TacticName": "convert", "Inputs": [{"Format/Datatype": "Half"}]},
        {"LayerType": "kgen", "TacticName": "__myl_ConvertAdd", "Inputs": [{"Format/Datatype": "Half"}]},
    ],
)
def test_an_engine_that_shows_nothing_is_not_attested(changes: dict[str, Any]) -> None:
    assert judged(**changes) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", "null"])
def test_what_is_not_the_inspectors_json_is_an_error(text: str) -> None:
    with pytest.raises(EngineError, match="not the JSON expected"):
        attest_engine(text, ())


def test_layer_names_alone_are_an_error() -> None:
    with pytest.raises(EngineError, match="detailed verbosity"):
        attest_engine('{"Layers": ["conv + relu"], "Bindings": []}', ())
