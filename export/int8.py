"""float32 graph -> int8 for the CPU: ONNX Runtime's own static quantizer, on convolutions and matrix products alone.

The graph stays ordinary ONNX: each quantised tensor passes a QuantizeLinear and a DequantizeLinear, which a backend with int8 kernels
folds into them. Heads, normalisation, softmax, gates, state, inputs and outputs stay as they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from ..errors import EngineError, GateError
from ..runtime.engines import Tensors
from .nodes import KeptNode, compute_nodes, head_reason, heads, load_graph, node_name, weight_bytes

ACTIVATIONS, WEIGHTS = "uint8", "int8"
"""The pair that x86 multiplies with one instruction; with uint8 weights the graph `visual` took 1.8 times as long."""
PER_CHANNEL = True
"""One scale for each output channel: the error of embeddings is less than half, in the same time."""
REDUCED_RANGE = True
"""Weights in 7 bits. AVX2 adds pairs of uint8 * int8 products in 16 bits, which full weights overflow without a word; a CPU with VNNI does
not, but a bundle does not know which CPU it will meet. It costs no time, and an eighth more error."""

FEW_CHANNELS = 4
"""A convolution that reads no more channels than this stays float32: the stem, which reads colours. Its kernel is no faster in int8, and
alone it brings as much error as all others together."""

_OPS = ["Conv", "Gemm", "MatMul"]


@dataclass(frozen=True, slots=True)
class Int8Report:
    """What became of a graph, read back from it."""

    quantised: tuple[str, ...]
    """Compute nodes all of whose operands are quantised, in the graph's order."""
    kept: tuple[KeptNode, ...]
    """Compute nodes in float32."""
    activations: str
    weights: str
    per_channel: bool
    reduced_range: bool
    calibration_runs: int
    weight_bytes: Mapping[str, int]
    """Bytes of constants by element type, of the new graph."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "quantised": list(self.quantised), "kept": [asdict(node) for node in self.kept]}


def to_int8(graph: Path, out: Path, feeds: Sequence[Tensors]) -> Int8Report:
    """Makes the int8 variant of a float32 graph.

    Args:
        graph: the float32 ONNX file.
        out: the file to write.
        feeds: the graph's inputs on calibration clips; the range of every quantised tensor is the range that it has there.

    Raises:
        EngineError: there are no feeds, or the graph cannot be read, run, quantised or written.
        GateError: no node could be quantised.
    """
    if not feeds:
        raise EngineError("int8 needs calibration data, and there is none; give a calibration clip that decodes")
    model = _named(load_graph(graph))
    reasons = {**_stems(model), **{name: head_reason(output) for name, output in heads(model).items()}}
    made = _quantised(model, sorted(reasons), feeds)
    report = _report(made, model, reasons, len(feeds))
    if not report.quantised:
        raise GateError(
            f"no node of {graph.name} could be quantised: expected a Conv, Gemm or MatMul that is no head or stem; use --precision fp32"
        )
    try:
        out.write_bytes(made.SerializeToString(deterministic=True))
    except OSError as error:
        raise EngineError(f"{out} cannot be written: {error}") from error
    return report


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Feeds, one after the other, as the quantizer wants them."""

    def __init__(self, feeds: Sequence[Tensors]) -> None:
        self._feeds: Iterator[Tensors] = iter(feeds)

    def get_next(self) -> Tensors | None:
        return next(self._feeds, None)


def _named(model: onnx.ModelProto) -> onnx.ModelProto:
    """The quantizer leaves out nodes by name, so each needs one."""
    for node in model.graph.node:
        node.name = node_name(node)
    return model


def _stems(model: onnx.ModelProto) -> dict[str, str]:
    """By node, why it stays float32: the convolutions over few channels."""
    shapes = {constant.name: tuple(constant.dims) for constant in model.graph.initializer}
    channels = {
        node_name(node): shapes[node.input[1]][1] for node in compute_nodes(model) if node.op_type == "Conv" and node.input[1] in shapes
    }
    return {name: f"it reads {count} channels, where int8 saves no time" for name, count in channels.items() if count <= FEW_CHANNELS}


def _quantised(model: onnx.ModelProto, exclude: Sequence[str], feeds: Sequence[Tensors]) -> onnx.ModelProto:
    prepared = onnx.shape_inference.infer_shapes(model)
    add_pre_process_metadata(prepared)  # or the quantizer tells the root logger that it misses its own preparation
    with TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        try:
            quantize_static(
                prepared,
                path,
                _Reader(feeds),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=_OPS,
                per_channel=PER_CHANNEL,
                reduce_range=REDUCED_RANGE,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=list(exclude),
            )
        except Exception as error:  # the quantizer raises ValueError, AssertionError, and whatever onnxruntime raises
            raise EngineError(f"onnxruntime cannot quantise the graph: {error}") from error
        made = load_graph(path)
    for field in (made.metadata_props, made.graph.value_info):
        del field[:]
    return made


def _report(made: onnx.ModelProto, source: onnx.ModelProto, reasons: Mapping[str, str], runs: int) -> Int8Report:
    scaled = {output for node in made.graph.node if node.op_type == "DequantizeLinear" for output in node.output}
    quantised = {node_name(node) for node in compute_nodes(made) if set(node.input[:2]) <= scaled}
    nodes = compute_nodes(source)
    return Int8Report(
        quantised=tuple(node_name(node) for node in nodes if node_name(node) in quantised),
        kept=tuple(KeptNode(node_name(node), node.op_type, _reason(node, reasons)) for node in nodes if node_name(node) not in quantised),
        activations=ACTIVATIONS,
        weights=WEIGHTS,
        per_channel=PER_CHANNEL,
        reduced_range=REDUCED_RANGE,
        calibration_runs=runs,
        weight_bytes=weight_bytes(made),
    )


def _reason(node: onnx.NodeProto, reasons: Mapping[str, str]) -> str:
    return reasons.get(node_name(node), f"the quantizer left the {node.op_type} as it was")
