"""PyTorch -> ONNX: one float32 graph per model, opset 18, state as explicit inputs and outputs, checked before it is kept.

Frames, height, width and every feature size are static; only `batch` and `chunks` vary. The loop over frames is unrolled: kernels
can then fuse across steps, and no backend has to run control flow. The same weights give the same bytes.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import helper
from torch import nn

from ..errors import EngineError
from ..models.convlstm import ConvLSTMEncoder
from ..models.dual_transformer import DualTransformer
from ..runtime.engines import TensorSpec
from .lint import lint_graph
from .torch_engine import fusion_specs, visual_specs

OPSET = 18
"""From opset 23 on attention becomes an operator that not every backend runs; 18 to 22 are safe, and 18 is read by most."""

_EXAMPLE_BATCH, _EXAMPLE_CHUNKS = 2, 5


@dataclass(frozen=True, slots=True)
class ExportedGraph:
    """One written file."""

    path: Path
    nodes: int
    size_bytes: int
    seconds: float
    """Wall time of export and checks."""


def export_visual(encoder: ConvLSTMEncoder, path: Path) -> ExportedGraph:
    """Writes the graph `visual`: one chunk's pictures and the state -> embedding and the next state.

    Args:
        encoder: the trained encoder, on the CPU; it is put in evaluation mode for the export.
        path: the file to write.

    Raises:
        EngineError: the model does not export, or the graph is not the one expected.
    """
    config = encoder.config
    frames = torch.zeros(_EXAMPLE_BATCH, config.frames_per_chunk, config.height, config.width, 3, dtype=torch.uint8)
    example = (frames, torch.ones(frames.shape[:2]), encoder.initial_state(_EXAMPLE_BATCH))
    batch = {0: torch.export.Dim("batch")}
    return _export(encoder, example, (batch, batch, (batch,) * len(example[2])), visual_specs(config), path)


def export_fusion(fusion: DualTransformer, path: Path) -> ExportedGraph:
    """Writes the graph `fusion`: the embeddings of all chunks so far -> a score after every chunk.

    Args:
        fusion: the trained dual Transformer, on the CPU; it is put in evaluation mode for the export.
        path: the file to write.

    Raises:
        EngineError: the model does not export, or the graph is not the one expected.
    """
    specs = fusion_specs(fusion.config)
    sizes = {"batch": _EXAMPLE_BATCH, "chunks": _EXAMPLE_CHUNKS}
    example = tuple(torch.ones([sizes[dim] if isinstance(dim, str) else dim for dim in spec.shape]) for spec in specs[0])
    dims = {0: torch.export.Dim("batch"), 1: torch.export.Dim("chunks")}
    return _export(fusion, example, (dims,) * len(example), specs, path)


def check_graph(model: onnx.ModelProto, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """Checks a graph in full: sound for every backend (see `lint`), and with the inputs and outputs that were promised.

    Raises:
        EngineError: says what was expected and what the graph has.
    """
    faults = lint_graph(model)
    if faults:
        raise EngineError(f"the exported graph: {'; '.join(faults)}")
    _check_values("inputs", model.graph.input, inputs)
    _check_values("outputs", model.graph.output, outputs)


def _export(
    module: nn.Module,
    example: tuple[Any, ...],
    shapes: tuple[Any, ...],
    specs: tuple[Sequence[TensorSpec], Sequence[TensorSpec]],
    path: Path,
) -> ExportedGraph:
    begun = time.perf_counter()
    model = _traced(module, example, shapes, specs)
    _strip(model)
    check_graph(model, *specs)
    content = model.SerializeToString(deterministic=True)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise EngineError(f"{path} cannot be written: {error}") from error
    return ExportedGraph(path, len(model.graph.node), len(content), time.perf_counter() - begun)


def _traced(
    module: nn.Module, example: tuple[Any, ...], shapes: tuple[Any, ...], specs: tuple[Sequence[TensorSpec], Sequence[TensorSpec]]
) -> onnx.ModelProto:
    training = module.training
    names = [[spec.name for spec in side] for side in specs]
    try:
        with warnings.catch_warnings():
            # The exporter warns that inputs share the dimensions they are meant to share.
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module.eval(),
                example,
                dynamo=True,
                opset_version=OPSET,
                external_data=False,
                input_names=names[0],
                output_names=names[1],
                dynamic_shapes=shapes,
                verbose=False,
            )
    except Exception as error:  # the exporter raises its own classes and those of every layer below it
        raise EngineError(f"PyTorch cannot export {type(module).__name__}: {error}") from error
    finally:
        module.train(training)
    if program is None:
        raise EngineError(f"PyTorch exported nothing for {type(module).__name__}")
    return program.model_proto


def _strip(model: onnx.ModelProto) -> None:
    """Removes what says how the graph came about: stack traces would carry this machine's paths, and they double the file."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _check_values(side: str, values: Iterable[onnx.ValueInfoProto], expected: Sequence[TensorSpec]) -> None:
    found = tuple(_spec(value) for value in values)
    if found != tuple(expected):
        raise EngineError(f"the exported graph: expected {side} {'; '.join(map(str, expected))}, got {'; '.join(map(str, found))}")


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(dim.dim_param if dim.HasField("dim_param") else dim.dim_value for dim in tensor.shape.dim)
    return TensorSpec(value.name, helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, shape)
