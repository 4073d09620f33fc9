"""Writing a bundle's manifest from what lies in its directory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from ..runtime.bundle import CONTRACT, GraphFile, Manifest, describe_file, graph_file
from ..runtime.engines import open_engine
from ..runtime.signature import MANIFEST, SIGNATURE


def write_manifest(manifest: Manifest, root: Path) -> None:
    """Writes the manifest of a bundle, its list of files taken from what lies there now."""
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    files = tuple(describe_file(root, path, _role(path)) for path in paths if path not in (MANIFEST, SIGNATURE))
    (root / MANIFEST).write_text(replace(manifest, files=files).with_id().dumps(), encoding="utf-8")


def _role(path: str) -> str:
    roles = {"onnx": "graph", "engines": "engine", "golden": "golden", "whisper": "whisper", "reports": "report"}
    return "contract" if path == CONTRACT else roles[path.split("/")[0]]


def describe_graph(root: Path, name: str, precision: str, report: dict[str, Any]) -> GraphFile:
    """What the manifest says of one graph file, read back from it."""
    file = graph_file(name, precision)
    model = onnx.load(root / file)
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    with open_engine(root / file) as engine:
        return GraphFile(file, opset, engine.inputs, engine.outputs, precision, _weight_bytes(model), report)


def _weight_bytes(model: onnx.ModelProto) -> dict[str, int]:
    """Bytes of weights by element type, read back from the file: what the graph is, not what was asked for."""
    total: dict[str, int] = {}
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        total[values.dtype.name] = total.get(values.dtype.name, 0) + values.nbytes
    return total
