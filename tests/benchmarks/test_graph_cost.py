"""Costs counted from ONNX: against graphs counted by hand, and against PyTorch's own counter on the real models."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from shortcast.benchmarks.graph_cost import bundle_costs, by_operator, count_graph
from shortcast.benchmarks.whisper_cost import EncoderDims
from shortcast.errors import EngineError
from shortcast.runtime.bundle import Bundle

FLOAT, BYTE, SIGNED, WHOLE = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT8, TensorProto.INT32


def one_node(
    path: Path, node: onnx.NodeProto, ins: dict[str, Any], out: Sequence[int | str], out_type: int = FLOAT, **weights: Any
) -> Path:
    inputs = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in ins.items()]
    outputs = [helper.make_tensor_value_info(node.output[0], out_type, out)]
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    model = helper.make_model(
        helper.make_graph([node], "g", inputs, outputs, tensors), opset_imports=[helper.make_opsetid("", 18)], ir_version=8
    )
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def f32(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


def u8(*shape: int) -> Any:
    return np.zeros(shape, np.uint8)


ONE, ZERO = np.float32(1), np.uint8(0)
QUANTISED = {"a": ONE, "z": ZERO, "w": u8(3, 2, 1, 1), "c": ONE, "y": ZERO, "d": ONE, "e": ZERO}
CASES = [
    # op, attributes, inputs, weights in order, output, its type, FLOPs
    ("Conv", {"pads": [1, 1, 1, 1]}, {"x": (FLOAT, [1, 3, 8, 6])}, {"w": f32(5, 3, 3, 3), "b": f32(5)}, [1, 5, 8, 6], FLOAT, 240 * 55),
    ("Conv", {"group": 4}, {"x": (FLOAT, [1, 4, 5, 5])}, {"w": f32(4, 1, 3, 3)}, [1, 4, 3, 3], FLOAT, 36 * 18),
    ("ConvTranspose", {"strides": [2, 2]}, {"x": (FLOAT, [1, 2, 3, 3])}, {"w": f32(2, 4, 2, 2)}, [1, 4, 6, 6], FLOAT, 2 * 18 * 16),
    ("ConvInteger", {}, {"x": (BYTE, [1, 2, 4, 4])}, {"w": u8(3, 2, 1, 1)}, [1, 3, 4, 4], WHOLE, 48 * 4),
    (
        "QLinearConv",
        {},
        {"x": (BYTE, [1, 2, 4, 4])},
        QUANTISED,
        [1, 3, 4, 4],
        BYTE,
        48 * 4,
    ),
    ("Gemm", {"transB": 1}, {"x": (FLOAT, [4, 7])}, {"w": f32(5, 7), "b": f32(5)}, [4, 5], FLOAT, 20 * 15),
    ("Gemm", {"transA": 1}, {"x": (FLOAT, [7, 4])}, {"w": f32(7, 5)}, [4, 5], FLOAT, 20 * 14),
    ("MatMul", {}, {"x": (FLOAT, [2, 3, 4])}, {"w": f32(4, 6)}, [2, 3, 6], FLOAT, 2 * 36 * 4),
    ("MatMulInteger", {}, {"x": (BYTE, [3, 4])}, {"w": u8(4, 6)}, [3, 6], WHOLE, 2 * 18 * 4),
    ("Tanh", {}, {"x": (FLOAT, [3, 4])}, {}, [3, 4], FLOAT, 12),
    ("Add", {}, {"x": (FLOAT, [3, 1]), "y": (FLOAT, [1, 4])}, {}, [3, 4], FLOAT, 12),
    ("Softmax", {}, {"x": (FLOAT, [3, 4])}, {}, [3, 4], FLOAT, 60),
    ("LayerNormalization", {}, {"x": (FLOAT, [3, 4])}, {"w": f32(4)}, [3, 4], FLOAT, 96),
    ("ReduceMax", {"keepdims": 0}, {"x": (FLOAT, [3, 4])}, {"w": np.array([1])}, [3], FLOAT, 12),
    ("AveragePool", {"kernel_shape": [2, 2]}, {"x": (FLOAT, [1, 1, 4, 4])}, {}, [1, 1, 3, 3], FLOAT, 36),
    ("DequantizeLinear", {}, {"x": (SIGNED, [3, 4])}, {"w": np.float32(1)}, [3, 4], FLOAT, 24),
    ("Transpose", {"perm": [1, 0]}, {"x": (FLOAT, [3, 4])}, {}, [4, 3], FLOAT, 0),
]


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_operators_counted_by_hand(tmp_path: Path, case: tuple[Any, ...]) -> None:
    op, attributes, ins, weights, out, kind, flops = case
    node = helper.make_node(op, [*ins, *weights], ["out"], **attributes)
    cost = count_graph(one_node(tmp_path / "g.onnx", node, ins, out, kind, **weights), graph="g", precision="fp32")
    size = {FLOAT: 4, BYTE: 1, SIGNED: 1, WHOLE: 4}
    io_bytes = sum(size[kind] * int(np.prod(shape)) for kind, shape in ins.values()) + size[kind] * int(np.prod(out))
    assert cost.flops == flops
    assert cost.weight_bytes == sum(np.asarray(array).nbytes for array in weights.values())
    assert cost.io_bytes == io_bytes
    assert cost.activation_bytes == io_bytes + cost.weight_bytes


def test_named_dimensions_take_the_sizes_given(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["out"])
    path = one_node(tmp_path / "g.onnx", node, {"x": (FLOAT, ["batch", "chunks", 3])}, ["batch", "chunks", 3])
    assert count_graph(path, graph="g", precision="fp32", batch=2, chunks=5).flops == 30


@pytest.mark.parametrize(
    ("op", "dim", "said"),
    [("Det", 2, "what the operator Det costs is not known"), ("Relu", "width", "the size of the dimension 'width' is not known")],
)
def test_what_cannot_be_counted_is_an_error(tmp_path: Path, op: str, dim: int | str, said: str) -> None:
    shape = [2, dim]
    path = one_node(tmp_path / "g.onnx", helper.make_node(op, ["x"], ["out"]), {"x": (FLOAT, shape)}, [] if op == "Det" else shape)
    with pytest.raises(EngineError, match=said):
        count_graph(path, graph="g", precision="fp32")


@pytest.mark.parametrize(("graph", "chunks"), [("visual", 1), ("fusion", 6)])
def test_products_of_the_real_graphs_agree_with_pytorchs_counter(graph: str, chunks: int, demo: Path) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from shortcast.export.from_bundle import modules_of

    bundle = Bundle.open(demo)
    path, (encoder, fusion) = bundle.graph(graph), modules_of(bundle)
    frames = encoder.config.frames_per_chunk
    if graph == "visual":
        feeds: tuple[Any, ...] = (torch.zeros(1, frames, 160, 96, 3, dtype=torch.uint8), torch.ones(1, frames), encoder.initial_state(1))
        module: Any = encoder
    else:
        module = fusion
        widths = [value.type.tensor_type.shape.dim[2].dim_value for value in onnx.load(path).graph.input[:2]]
        feeds = (*(torch.zeros(1, chunks, width) for width in widths), *(torch.ones(1, chunks) for _ in range(3)))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*feeds)
    products = [one for one in by_operator(path, chunks=chunks) if one.product]
    biases = count_biases(path, chunks)
    assert sum(one.flops for one in products) - biases == pytest.approx(counter.get_total_flops(), rel=0.02)
    if graph == "visual":
        assert (sum(one.flops for one in products) - biases) / frames == pytest.approx(98.4e6, rel=0.005)


def count_biases(path: Path, chunks: int) -> int:
    """Additions of biases inside products, which PyTorch's counter leaves out."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    values = (*model.graph.value_info, *model.graph.output)
    sizes = {"batch": 1, "chunks": chunks}
    shapes = {v.name: [d.dim_value or sizes.get(d.dim_param, 1) for d in v.type.tensor_type.shape.dim] for v in values}
    nodes = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm") and len(node.input) > 2]
    return sum(int(np.prod(shapes[node.output[0]])) for node in nodes)


@pytest.mark.parametrize("frames", [25, 100])
def test_the_whisper_encoder_agrees_with_transformers(frames: int) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    dims = EncoderDims.of("tiny.en", mel_bins=80, state=384)
    config = WhisperConfig(
        d_model=384,
        encoder_layers=4,
        encoder_attention_heads=6,
        encoder_ffn_dim=1536,
        num_mel_bins=80,
        max_source_positions=frames,
        attn_implementation="eager",
    )
    encoder = WhisperEncoder(config).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(torch.zeros(1, 80, 2 * frames))
    assert dims.product_flops(frames) == counter.get_total_flops()
    assert dims.product_flops(frames) < dims.flops(frames) < 1.1 * dims.product_flops(frames)
    parameters = sum(p.numel() for p in encoder.parameters())
    assert EncoderDims(4, 384, 80, positions=frames).parameters == parameters


@pytest.mark.parametrize(
    ("model", "width", "layers"), [("tiny", 384, 4), ("small.en", 768, 12), ("large-v3", 1280, 32), ("large-v3-turbo", 1280, 32)]
)
def test_sizes_of_whisper_are_known_by_name(model: str, width: int, layers: int) -> None:
    assert EncoderDims.of(model, mel_bins=80, state=width).layers == layers


def test_another_width_than_the_name_says_is_refused() -> None:
    with pytest.raises(EngineError, match=r"Whisper encoder tiny\.en with width 512 are not known"):
        EncoderDims.of("tiny.en", mel_bins=80, state=512)


def test_every_graph_of_the_demo_bundle_is_counted(demo: Path) -> None:
    bundle = Bundle.open(demo)
    costs = {(cost.graph, cost.precision): cost for cost in bundle_costs(bundle, [*bundle.manifest.variants, "bf16"])}
    held = {(graph, precision) for precision in bundle.manifest.variants for graph in ("visual", "fusion")}
    assert set(costs) == held | {("sound", "fp32"), ("sound", "int8")}
    assert min(cost.flops for cost in costs.values()) > 0
    assert costs["visual", "fp32"].flops / 16 == pytest.approx(98.4e6, rel=0.01)
    assert costs["visual", "int8"].weight_bytes < costs["visual", "fp32"].weight_bytes
    assert costs["sound", "int8"].weight_bytes < costs["sound", "fp32"].weight_bytes
