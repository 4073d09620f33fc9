"""The exporter: checkpoint -> ONNX -> parity -> golden data -> bundle. Here the parts of export meet."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from .. import __version__
from ..errors import BundleError
from ..models.checkpoint import Checkpoint, checkpoint_sha256, load_checkpoint
from ..runtime.bundle import (
    CONTRACT,
    GOLDEN,
    GOLDEN_CLIP,
    GRAPHS,
    PARITY_REPORT,
    PROOF_CLIPS,
    SCHEMA,
    Bundle,
    GraphFile,
    Manifest,
    WhisperFile,
    describe_file,
)
from ..runtime.chunks import Chunk, read_chunks
from ..runtime.contract import Contract
from ..runtime.engines import open_engine
from ..runtime.golden import save_golden
from ..runtime.parity import ParityRow, require_parity
from ..runtime.proof import PrecisionProof, save_proof_clips
from ..runtime.signature import MANIFEST, SIGNATURE
from ..runtime.verify import VerifyOptions, verify
from ..runtime.whisper import SoundEncoder, resolve_whisper
from .golden import make_golden, make_proof_clip
from .onnx import OPSET, export_fusion, export_visual
from .parity import SAME_MACHINE, fusion_parity, visual_parity
from .proof_clips import find_clips, write_proof_clips
from .torch_engine import fusion_engine, visual_engine

_VERSIONS = ("torch", "onnx", "onnxscript", "onnxruntime", "ctranslate2", "numpy", "av")


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How to export."""

    golden_clip: Path
    """A media file whose first chunks become the golden data."""
    clips: tuple[Path, ...] = ()
    """Media files, or folders of them, on which decisions are compared; none takes excerpts of the golden clip."""
    whisper: Path | None = None
    """A directory with the Whisper weights; None looks in the usual places."""
    force: bool = False
    """Replace a bundle that is there."""
    command: str = ""
    """The command line, for the record."""


def export_bundle(
    checkpoint: Path,
    out: Path,
    options: ExportOptions,
    *,
    say: Callable[[str], None] = lambda _: None,
    show: Callable[[PrecisionProof], None] = lambda _: None,
) -> list[PrecisionProof]:
    """Exports a checkpoint to a bundle that has proved itself equal to PyTorch.

    Args:
        checkpoint: a checkpoint directory.
        out: the bundle directory to make; it is written aside and renamed whole.
        options: see `ExportOptions`.
        say: called with the name of each step as it begins.
        show: called with what each precision's proof came to, also where that fails.

    Returns:
        A proof for each precision, all of them passed.

    Raises:
        BundleError: `out` exists and `force` is not given, or cannot be written.
        CheckpointError: the checkpoint cannot be read.
        MediaError, WeightsError: a clip or the Whisper weights cannot be used.
        ParityError: an output is outside its tolerance; no bundle is left.
    """
    if out.exists() and not options.force:
        raise BundleError(f"{out} exists; give --force to replace it")
    trained = load_checkpoint(checkpoint)
    weights = resolve_whisper(trained.contract.sound.whisper, explicit=options.whisper)
    sound = SoundEncoder(weights, trained.contract.sound)
    clips = find_clips(options.clips) if options.clips else []
    with _written_aside(out) as aside:
        say("exporting graphs to ONNX")
        _export_graphs(trained, aside)
        say("comparing every output with PyTorch")
        rows = _compare(trained, aside)
        require_parity(rows)
        say("recording golden data and proof clips")
        _record(trained, sound, options.golden_clip, clips, aside)
        _write_json(aside / CONTRACT, trained.contract.to_json())
        manifest = _manifest(trained, aside, out.name, _provenance(checkpoint, options), weights.sha256())
        write_manifest(manifest, aside)
        say("verifying the bundle as another machine would")
        proof = _prove(Bundle.open(aside), rows, VerifyOptions(whisper=options.whisper))
        show(proof)
        require_parity(proof.rows)
        _write_json(aside / PARITY_REPORT, {"reference": "PyTorch float32", "proofs": [proof.to_json()]})
        write_manifest(manifest, aside)
        Bundle.open(aside)
    return [proof]


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


def graph_file(name: str, precision: str = "fp32") -> str:
    """Where a graph lies in a bundle."""
    return f"onnx/{name}.{precision}.onnx"


def _export_graphs(trained: Checkpoint, aside: Path) -> None:
    (aside / "onnx").mkdir()
    export_visual(trained.autoencoder.encoder, aside / graph_file("visual"))
    export_fusion(trained.fusion, aside / graph_file("fusion"))


def _compare(trained: Checkpoint, aside: Path) -> list[ParityRow]:
    with open_engine(aside / graph_file("visual")) as visual, open_engine(aside / graph_file("fusion")) as fusion:
        return [
            *visual_parity(visual_engine(trained.autoencoder.encoder), visual, tolerances=SAME_MACHINE),
            *fusion_parity(fusion_engine(trained.fusion), fusion, tolerances=SAME_MACHINE),
        ]


def _record(trained: Checkpoint, sound: SoundEncoder, golden_clip: Path, clips: Sequence[Path], aside: Path) -> None:
    """Encodes the proof clips and writes down what PyTorch makes of them."""
    folder = (aside / GOLDEN_CLIP).parent
    folder.mkdir(parents=True)
    paths = write_proof_clips(golden_clip, clips, trained.contract, folder)
    decoded = [_decoded(path, trained.contract) for path in paths]
    save_golden(make_golden(trained, decoded[0], sound), aside / GOLDEN)
    names = [path.relative_to(aside).as_posix() for path in paths]
    answers = [make_proof_clip(trained, name, chunks, sound) for name, chunks in zip(names, decoded, strict=True)]
    save_proof_clips(answers, aside / PROOF_CLIPS)


def _decoded(path: Path, contract: Contract) -> tuple[Chunk, ...]:
    with read_chunks(path, contract) as stream:
        return tuple(stream)


def _prove(bundle: Bundle, rows: Sequence[ParityRow], options: VerifyOptions) -> PrecisionProof:
    """The rows measured against PyTorch itself, then those any machine can measure again."""
    proof = verify(bundle, options)
    return replace(proof, rows=(*rows, *proof.rows))


def write_manifest(manifest: Manifest, root: Path) -> None:
    """Writes the manifest of a bundle, its list of files taken from what lies there now."""
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    files = tuple(describe_file(root, path, _role(path)) for path in paths if path not in (MANIFEST, SIGNATURE))
    (root / MANIFEST).write_text(replace(manifest, files=files).with_id().dumps(), encoding="utf-8")


def _role(path: str) -> str:
    roles = {"onnx": "graph", "engines": "engine", "golden": "golden", "whisper": "whisper", "reports": "report"}
    return "contract" if path == CONTRACT else roles[path.split("/")[0]]


def _manifest(trained: Checkpoint, aside: Path, name: str, provenance: dict[str, Any], whisper_sha256: str) -> Manifest:
    contract = trained.contract.sound
    return Manifest(
        schema=SCHEMA,
        id="",
        name=name.removesuffix(".shortcast"),
        files=(),
        graphs={graph: {"fp32": describe_graph(aside, graph, "fp32")} for graph in GRAPHS},
        variants={"fp32": dict.fromkeys(GRAPHS, "fp32")},
        whisper=WhisperFile(contract.whisper, whisper_sha256, contract.compute_type, embedded=False),
        target=trained.target,
        quantile_levels=trained.fusion.config.quantile_levels,
        intervals=trained.intervals,
        window_chunks=trained.fusion.config.window,
        card=trained.card,
        provenance=provenance,
    )


def describe_graph(root: Path, name: str, precision: str, report: dict[str, Any] | None = None) -> GraphFile:
    """What the manifest says of one graph file, read back from it."""
    file = graph_file(name, precision)
    with open_engine(root / file) as engine:
        return GraphFile(file, OPSET, engine.inputs, engine.outputs, precision, _weight_bytes(root / file), report or {})


def _weight_bytes(graph: Path) -> dict[str, int]:
    """Bytes of weights by element type, read back from the file: what the graph is, not what was asked for."""
    total: dict[str, int] = {}
    for tensor in onnx.load(graph).graph.initializer:
        values = numpy_helper.to_array(tensor)
        total[values.dtype.name] = total.get(values.dtype.name, 0) + values.nbytes
    return total


def _provenance(checkpoint: Path, options: ExportOptions) -> dict[str, Any]:
    clips = "excerpts of the golden clip, as they are and mirrored" if not options.clips else "given by --clip"
    return {
        "checkpoint_sha256": checkpoint_sha256(checkpoint),
        "golden_clip": {"name": options.golden_clip.name, "sha256": hashlib.sha256(options.golden_clip.read_bytes()).hexdigest()},
        "proof_clips": clips,
        "command": options.command,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {"shortcast": __version__, **{name: version(name) for name in _VERSIONS}},
    }


def _write_json(path: Path, plain: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(plain, indent=2, sort_keys=True) + "\n", encoding="utf-8")
