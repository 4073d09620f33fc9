"""Attesting precision: what an engine computes in, read from the thing itself and not from what was asked for.

Without a GPU the strongly typed network is read before the build: TensorRT may not change its types. With one the built engine is read
back through the engine inspector, whose JSON TensorRT 10 and 11 lay out a little differently.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import EngineError, GateError
from ..runtime.engine_record import Attestation, ComputeLayer

_KINDS = {"CONVOLUTION": "convolution", "DECONVOLUTION": "deconvolution", "MATRIX_MULTIPLY": "matrix multiply", "EINSUM": "einsum"}
_TYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "FP8": "float8", "INT8": "int8"}
"""TensorRT's names of floating-point types, and of the one that stands in for them."""
_NODE = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_COMPUTE = re.compile(r"conv(?!ert)|gemm|matrixmultiply|matmul|fullyconnected|fprop", re.IGNORECASE)
_DATA_MOVEMENT = {"reformat", "constant", "noop", "shuffle", "cast", "signal", "wait"}
_HALF_KERNEL = re.compile(r"_f16f16|hgemm|\bh\d{3,}gemm|_h\d{3,}gemm|_fp16")
_FLOAT_KERNEL = re.compile(r"tf32|_f32f32|sgemm|scudnn")
_ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float8": 1, "int8": 1}


def compute_layers(network: Any, reasons: Mapping[str, str]) -> tuple[ComputeLayer, ...]:
    """The convolutions and matrix products of a strongly typed network, under the names of the ONNX nodes they came from.

    Args:
        network: the parsed network.
        reasons: by ONNX node, why it was left in float32.
    """
    layers = (network.get_layer(index) for index in range(network.num_layers))
    return tuple(_compute_layer(layer, reasons) for layer in layers if layer.type.name in _KINDS)


def attest_network(trt: Any, network: Any, layers: Sequence[ComputeLayer]) -> Attestation:
    """Reads the types of a strongly typed network before it is built.

    Args:
        trt: the TensorRT module.
        network: the parsed network.
        layers: its compute layers.
    """
    # The loop over frames is unrolled: many layers share one array, which is counted once.
    held = {address: weights for index in range(network.num_layers) for address, weights in _weights_held(trt, network.get_layer(index))}
    return _attestation("network", layers, [(dtype, size) for dtype, size in held.values() if dtype in _ITEM_BYTES])


def attest_engine(information: str, layers: Sequence[ComputeLayer]) -> Attestation | None:
    """Reads the types of a built engine from the engine inspector's JSON, made with detailed verbosity.

    A layer is judged by the type of its weights, else by its kernel's name, else by its inputs and outputs. A fused kernel that casts on
    its way in and out shows neither, and is left out of the count.

    Args:
        information: the JSON text of the whole engine, from TensorRT 10 or 11.
        layers: the compute layers of the network it was built from.

    Returns:
        The attestation; None where the JSON lets no compute layer be judged.

    Raises:
        EngineError: the text is not that JSON, or has layer names alone.
    """
    reasons = {known.name: known.reason for known in layers}
    inspected = list(_inspected(information))
    found = [
        ComputeLayer(one.name, one.kind, one.dtype(), next((reasons[node] for node in one.nodes if reasons.get(node)), ""))
        for one in inspected
        if one.computes() and one.dtype()
    ]
    return _attestation("engine", found, [held for one in inspected for held in one.weights]) if found else None


def require_precision(attestation: Attestation, declared: str, threshold: float) -> None:
    """Fails where an engine is not of the precision that was declared.

    Declared fp16, `threshold` of its compute layers have to be half; which stay float32 is the exporter's choice, and each is in the
    record. The share of weights is recorded and not judged: one head that stays float32 may hold most of them. Declared fp32, no compute
    layer may be half: what was proved of the graph in float32 would not hold.

    Args:
        attestation: what was found.
        declared: `fp32` or `fp16`.
        threshold: 0 to 1; for fp16 alone.

    Raises:
        GateError: says the share found, the share expected, and which layers.
        EngineError: `declared` is another precision.
    """
    if declared == "fp32":
        if attestation.half_layers:
            raise GateError(f"the engine is declared fp32: expected no half layer, got {attestation}; declare it fp16 or export fp32 again")
        return
    if declared != "fp16":
        raise EngineError(f"TensorRT engines are built from fp32 and fp16 graphs, got {declared!r}")
    if attestation.half_layer_share < threshold:
        names = [f"{other.name} ({other.reason or 'no reason given'})" for other in attestation.float32_layers[:3]]
        wanted = f"expected at least {threshold:.0%} of its compute layers half, got {attestation}"
        raise GateError(f"the engine is declared fp16: {wanted}; not half: {', '.join(names) or 'none'}; export fp16 again")


def _attestation(source: str, layers: Sequence[ComputeLayer], weights: Sequence[tuple[str, int]]) -> Attestation:
    others = tuple(found for found in layers if found.dtype != "float16")
    half_bytes = sum(size for dtype, size in weights if dtype == "float16")
    return Attestation(source, len(layers) - len(others), len(layers), half_bytes, sum(size for _, size in weights), others)


def _compute_layer(layer: Any, reasons: Mapping[str, str]) -> ComputeLayer:
    name = next(iter(_NODE.findall(layer.metadata)), layer.name)
    return ComputeLayer(name, _KINDS[layer.type.name], _TYPES.get(layer.get_input(0).dtype.name, ""), reasons.get(name, ""))


def _weights_held(trt: Any, layer: Any) -> Iterator[tuple[int, tuple[str, int]]]:
    """Address, type and bytes of each array of weights that a layer holds."""
    # The bindings return the base class of every layer; the way down that NVIDIA documents is to set `__class__`.
    if layer.type == trt.LayerType.CONSTANT:
        layer.__class__ = trt.IConstantLayer
        arrays = [layer.weights]
    elif layer.type == trt.LayerType.CONVOLUTION:
        layer.__class__ = trt.IConvolutionLayer
        arrays = [layer.kernel, layer.bias]
    elif layer.type == trt.LayerType.DECONVOLUTION:
        layer.__class__ = trt.IDeconvolutionLayer
        arrays = [layer.kernel, layer.bias]
    else:
        return
    dtype = _TYPES.get(layer.get_output(0).dtype.name, "")
    for array in (array for array in arrays if array.nbytes):
        # Types that numpy does not know, such as bfloat16, come as an object without an address.
        yield array.ctypes.data if isinstance(array, np.ndarray) else id(array), (dtype, int(array.nbytes))


@dataclass(frozen=True, slots=True)
class _InspectedLayer:
    """One layer of the inspector's JSON."""

    name: str
    kind: str
    parameter: str
    kernel: str
    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    """Floating-point types alone."""
    outputs: tuple[str, ...]
    weights: tuple[tuple[str, int], ...]
    """Type and bytes of weights and bias."""

    def computes(self) -> bool:
        return self.kind.lower() not in _DATA_MOVEMENT and bool(_COMPUTE.search(" ".join((self.kind, self.parameter, self.kernel))))

    def dtype(self) -> str:
        """The type computed in; empty where nothing shows it."""
        if self.weights:
            return self.weights[0][0]
        if _HALF_KERNEL.search(self.kernel):
            return "float16"
        if _FLOAT_KERNEL.search(self.kernel):
            return "float32"
        seen = {*self.inputs, *self.outputs}
        casts = "cast" in f"{self.name} {self.kernel}".lower()
        return seen.pop() if len(seen) == 1 and not casts else ""


def _inspected(information: str) -> Iterator[_InspectedLayer]:
    try:
        layers = json.loads(information)["Layers"]
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"the engine inspector's answer is not the JSON expected: {error}") from error
    for plain in layers:
        if not isinstance(plain, dict):
            raise EngineError(f"the engine inspector names {plain!r} without its types; the engine was not built with detailed verbosity")
        yield _InspectedLayer(
            name=str(plain.get("Name", "")),
            kind=str(plain.get("LayerType", "")),
            parameter=str(plain.get("ParameterType", "")),
            kernel=str(plain.get("TacticName", "")),
            nodes=tuple(_NODE.findall(str(plain.get("Metadata", "")))),
            inputs=_tensor_types(plain.get("Inputs", ())),
            outputs=_tensor_types(plain.get("Outputs", ())),
            weights=tuple(_weights(plain)),
        )


def _tensor_types(described: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    # TensorRT 10 has one text for both, such as `Row major linear FP16 format` or `Half`; 11 has `DataType` apart from `Format`.
    texts = (str(one.get("DataType") or one.get("Format/Datatype") or one.get("Format") or "") for one in described)
    return tuple(dtype for dtype in map(_dtype_of, texts) if dtype in _ITEM_BYTES)


def _weights(plain: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for field in ("Weights", "Bias"):
        value = plain.get(field)
        if isinstance(value, Mapping) and value.get("Count"):
            dtype = _dtype_of(str(value.get("Type", "")))
            yield dtype, int(value["Count"]) * _ITEM_BYTES.get(dtype, 0)


def _dtype_of(text: str) -> str:
    for pattern, dtype in (
        ("bf16|bfloat", "bfloat16"),
        ("fp16|half", "float16"),
        ("fp8", "float8"),
        ("fp32|float", "float32"),
        ("int8", "int8"),
    ):
        if re.search(pattern, text, re.IGNORECASE):
            return dtype
    return text
