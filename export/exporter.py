"""The exporter: checkpoint -> ONNX -> parity -> golden data -> bundle. Here the parts of export meet."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from .. import __version__
from ..errors import BundleError
from ..models.checkpoint import Checkpoint, checkpoint_sha256, load_checkpoint
from ..runtime.bundle import CONTRACT, GOLDEN, GRAPHS, MANIFEST, PARITY_REPORT, SCHEMA, Bundle, Manifest, describe_file
from ..runtime.engines import Engine, open_engine
from ..runtime.golden import save_golden
from ..runtime.parity import ParityRow, require_parity
from ..runtime.verify import verify
from ..runtime.whisper import SoundEncoder, resolve_whisper
from .golden import make_golden, read_golden_chunks
from .onnx import OPSET, export_fusion, export_visual
from .parity import fusion_parity, visual_parity
from .torch_engine import TorchEngine, fusion_engine, visual_engine

_VERSIONS = ("torch", "onnx", "onnxscript", "onnxruntime", "ctranslate2", "numpy", "av")


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How to export."""

    golden_clip: Path
    """A media file whose first chunks become the golden data."""
    whisper: Path | None = None
    """A directory with the Whisper weights; None looks in the usual places."""
    force: bool = False
    """Replace a bundle that is there."""
    command: str = ""
    """The command line, for the record."""


def export_bundle(checkpoint: Path, out: Path, options: ExportOptions, *, say: Callable[[str], None] = lambda _: None) -> list[ParityRow]:
    """Exports a checkpoint to a bundle that has proved itself equal to PyTorch.

    Args:
        checkpoint: a checkpoint directory.
        out: the bundle directory to make; it is written aside and renamed whole.
        options: see `ExportOptions`.
        say: called with the name of each step as it begins.

    Returns:
        Every parity row, all of them passed.

    Raises:
        BundleError: `out` exists and `force` is not given, or cannot be written.
        CheckpointError: the checkpoint cannot be read.
        MediaError, WeightsError: the golden clip or the Whisper weights cannot be used.
        ParityError: an output is outside its tolerance; no bundle is left.
    """
    if out.exists() and not options.force:
        raise BundleError(f"{out} exists; give --force to replace it")
    trained = load_checkpoint(checkpoint)
    sound = SoundEncoder(resolve_whisper(trained.contract.sound.whisper, explicit=options.whisper), trained.contract.sound)
    chunks = read_golden_chunks(options.golden_clip, trained.contract)
    with _written_aside(out) as aside:
        say("exporting graphs to ONNX")
        engines = _export_graphs(trained, aside)
        say("comparing every output with PyTorch")
        rows = _compare(trained, engines)
        _write_json(aside / PARITY_REPORT, {"reference": "PyTorch float32", "rows": [row.to_json() for row in rows]})
        require_parity(rows)
        say("recording golden data")
        (aside / GOLDEN).parent.mkdir()
        save_golden(make_golden(trained, chunks, sound), aside / GOLDEN)
        _write_json(aside / CONTRACT, trained.contract.to_json())
        manifest = _manifest(trained, aside, out.name, _provenance(checkpoint, options), engines)
        (aside / MANIFEST).write_text(manifest.dumps(), encoding="utf-8")
        say("verifying the bundle as another machine would")
        rows += list(verify(Bundle.open(aside), whisper=options.whisper))
        require_parity(rows)
    return rows


@contextmanager
def _written_aside(out: Path) -> Iterator[Path]:
    """A scratch directory beside `out` that takes its place at the end, or vanishes."""
    aside = out.with_name(f".{out.name}.writing-{os.getpid()}")
    old = out.with_name(f".{out.name}.old-{os.getpid()}")
    try:
        aside.mkdir(parents=True)
        yield aside
        if out.exists():
            out.rename(old)
        aside.rename(out)
    except OSError as error:
        raise BundleError(f"{out} cannot be written: {error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _graph_file(name: str) -> str:
    return f"onnx/{name}.fp32.onnx"


def _export_graphs(trained: Checkpoint, aside: Path) -> dict[str, Engine]:
    (aside / "onnx").mkdir()
    export_visual(trained.autoencoder.encoder, aside / _graph_file("visual"))
    export_fusion(trained.fusion, aside / _graph_file("fusion"))
    return {name: open_engine(aside / _graph_file(name)) for name in GRAPHS}


def _compare(trained: Checkpoint, engines: dict[str, Engine]) -> list[ParityRow]:
    visual: TorchEngine = visual_engine(trained.autoencoder.encoder)
    fusion: TorchEngine = fusion_engine(trained.fusion)
    return [*visual_parity(visual, engines["visual"]), *fusion_parity(fusion, engines["fusion"])]


def _manifest(trained: Checkpoint, aside: Path, name: str, provenance: dict[str, Any], engines: dict[str, Engine]) -> Manifest:
    roles = {CONTRACT: "contract", GOLDEN: "golden", PARITY_REPORT: "report", **{_graph_file(graph): "graph" for graph in GRAPHS}}
    return Manifest(
        schema=SCHEMA,
        id="",
        name=name.removesuffix(".shortcast"),
        files=tuple(describe_file(aside, path, role) for path, role in sorted(roles.items())),
        graphs={graph: {"fp32": _describe_graph(aside, graph, engines[graph])} for graph in GRAPHS},
        target=trained.target,
        quantile_levels=trained.fusion.config.quantile_levels,
        intervals=trained.intervals,
        window_chunks=trained.fusion.config.window,
        card=trained.card,
        provenance=provenance,
    ).with_id()


def _describe_graph(aside: Path, name: str, engine: Engine) -> dict[str, Any]:
    file = _graph_file(name)
    return {
        "file": file,
        "opset": OPSET,
        "inputs": [{**asdict(spec), "shape": list(spec.shape)} for spec in engine.inputs],
        "outputs": [{**asdict(spec), "shape": list(spec.shape)} for spec in engine.outputs],
        "precision": {"declared": "fp32", "measured": _weight_bytes(aside / file)},
    }


def _weight_bytes(graph: Path) -> dict[str, int]:
    """Bytes of weights by element type, read back from the file: what the graph is, not what was asked for."""
    total: dict[str, int] = {}
    for tensor in onnx.load(graph).graph.initializer:
        values = numpy_helper.to_array(tensor)
        total[values.dtype.name] = total.get(values.dtype.name, 0) + values.nbytes
    return total


def _provenance(checkpoint: Path, options: ExportOptions) -> dict[str, Any]:
    return {
        "checkpoint_sha256": checkpoint_sha256(checkpoint),
        "golden_clip": {"name": options.golden_clip.name, "sha256": hashlib.sha256(options.golden_clip.read_bytes()).hexdigest()},
        "command": options.command,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {"shortcast": __version__, **{name: version(name) for name in _VERSIONS}},
    }


def _write_json(path: Path, plain: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(plain, indent=2, sort_keys=True) + "\n", encoding="utf-8")
