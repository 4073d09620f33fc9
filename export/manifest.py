"""Writing a bundle's manifest from what lies in its directory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from ..models.checkpoint import Checkpoint
from ..runtime.bundle import CONTRACT, GRAPHS, SCHEMA, GraphFile, Manifest, WhisperFile, describe_file, graph_file
from ..runtime.engines import open_engine
from ..runtime.signature import MANIFEST, SIGNATURE
from .onnx import OPSET
from .variants import Variant


def write_manifest(manifest: Manifest, root: Path) -> None:
    """Writes the manifest of a bundle, its list of files taken from what lies there now."""
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    files = tuple(describe_file(root, path, _role(path)) for path in paths if path not in (MANIFEST, SIGNATURE))
    (root / MANIFEST).write_text(replace(manifest, files=files).with_id().dumps(), encoding="utf-8")


def _role(path: str) -> str:
    roles = {"onnx": "graph", "engines": "engine", "golden": "golden", "whisper": "whisper", "reports": "report"}
    return "contract" if path == CONTRACT else roles[path.split("/")[0]]


def make_manifest(
    trained: Checkpoint,
    aside: Path,
    name: str,
    provenance: dict[str, Any],
    whisper_sha256: str,
    variants: Sequence[Variant],
) -> Manifest:
    contract = trained.contract.sound
    graphs: dict[str, dict[str, GraphFile]] = {graph: {} for graph in GRAPHS}
    for variant in variants:
        for graph, report in variant.reports.items():
            graphs[graph][variant.precision] = describe_graph(aside, graph, variant.precision, report)
    return Manifest(
        schema=SCHEMA,
        id="",
        name=name.removesuffix(".shortcast"),
        files=(),
        graphs=graphs,
        variants={variant.precision: variant.graphs for variant in variants},
        whisper=WhisperFile(contract.whisper, whisper_sha256, contract.compute_type, embedded=False),
        target=trained.target,
        quantile_levels=trained.fusion.config.quantile_levels,
        intervals=trained.intervals,
        window_chunks=trained.fusion.config.window,
        card=trained.card,
        provenance=provenance,
    )


def describe_graph(root: Path, name: str, precision: str, report: dict[str, Any]) -> GraphFile:
    """What the manifest says of one graph file, read back from it."""
    file = graph_file(name, precision)
    with open_engine(root / file) as engine:
        return GraphFile(file, OPSET, engine.inputs, engine.outputs, precision, _weight_bytes(root / file), report)


def _weight_bytes(graph: Path) -> dict[str, int]:
    """Bytes of weights by element type, read back from the file: what the graph is, not what was asked for."""
    total: dict[str, int] = {}
    for tensor in onnx.load(graph).graph.initializer:
        values = numpy_helper.to_array(tensor)
        total[values.dtype.name] = total.get(values.dtype.name, 0) + values.nbytes
    return total
