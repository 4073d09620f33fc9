"""The exporter: checkpoint -> ONNX -> parity -> golden data -> bundle. Here the parts of export meet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import BundleError
from ..models.checkpoint import Checkpoint, checkpoint_sha256, load_checkpoint
from ..runtime.bundle import (
    CONTRACT,
    GRAPHS,
    PARITY_REPORT,
    SCHEMA,
    Bundle,
    GraphFile,
    Manifest,
    WhisperFile,
    graph_file,
)
from ..runtime.engines import open_engine
from ..runtime.parity import ParityRow, require_parity
from ..runtime.proof import PrecisionProof
from ..runtime.tolerances import TOLERANCES
from ..runtime.verify import VerifyOptions, verify
from .aside import written_aside
from .engines import build_engines, require_target
from .manifest import describe_graph, write_manifest
from .onnx import export_fusion, export_visual
from .parity import SAME_MACHINE, fusion_parity, visual_parity
from .proof_clips import ClipChoice, choose_clips
from .recording import calibrate, record
from .sound import SoundOptions, choose_sound
from .tensorrt import BuildOptions
from .torch_engine import fusion_engine, visual_engine
from .trt_build import BuildProgress
from .variants import Variant, make_variant, measurable, measurable_bundle

FULL_PRECISION = Variant("fp32", dict.fromkeys(GRAPHS, "fp32"), {graph: {} for graph in GRAPHS})
_VERSIONS = ("torch", "onnx", "onnxscript", "onnxruntime", "ctranslate2", "numpy", "av")


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How to export."""

    golden_clip: Path
    """A media file whose first chunks become the golden data."""
    clips: tuple[Path, ...] = ()
    """Media files, or folders of them, on which decisions are compared and ranges measured; none takes excerpts of the golden clip."""
    reduced: tuple[str, ...] = ()
    """Precisions to make beside float32: `fp16`, `int8`."""
    sound: SoundOptions = field(default_factory=SoundOptions)
    """Which Whisper the bundle hears with."""
    engines: BuildOptions | None = None
    """Engines to build; None builds none."""
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
    progress: Callable[[str, BuildProgress], None] = lambda _, __: None,
) -> list[PrecisionProof]:
    """Exports a checkpoint to a bundle that has proved itself equal to PyTorch.

    Args:
        checkpoint: a checkpoint directory.
        out: the bundle directory to make; it is written aside and renamed whole.
        options: see `ExportOptions`.
        say: called with the name of each step as it begins.
        show: called with what each precision's proof came to, also where that fails.
        progress: called as each engine's build goes on, with the graph's name.

    Returns:
        A proof for each precision, all of them passed.

    Raises:
        BundleError: `out` exists and `force` is not given, or cannot be written.
        CheckpointError: the checkpoint cannot be read.
        MediaError, WeightsError: a clip or the Whisper weights cannot be used.
        EngineError: engines cannot be built here.
        GateError, ParityError: a graph or engine is not what was asked for, or an output is outside its tolerance; no bundle is left.
    """
    if out.exists() and not options.force:
        raise BundleError(f"{out} exists; give --force to replace it")
    if options.engines:
        require_target(options.engines.target)
    trained = load_checkpoint(checkpoint)
    clips = choose_clips(options.clips) if options.clips else ClipChoice((), ())
    with written_aside(out) as aside:
        sound = choose_sound(trained.contract, options.sound, options.golden_clip, aside)
        say("exporting graphs to ONNX")
        _export_graphs(trained, aside)
        say("recording golden data and proof clips")
        recorded = record(trained, sound.reference, options.golden_clip, clips.proof, aside)
        variants = [FULL_PRECISION]
        if options.reduced:
            calibration = calibrate(trained, sound.reference, clips.calibration, recorded, aside)
            for precision in options.reduced:
                say(f"making the {precision} graphs")
                chunks = [chunk for clip in recorded for chunk in clip.chunks]
                variants.append(make_variant(aside, precision, calibration, chunks, say=say))
        say("comparing every output with PyTorch")
        rows = {variant.precision: (*_compare(trained, aside, variant, show), *sound.rows) for variant in variants}
        _write_json(aside / CONTRACT, trained.contract.to_json())
        manifest = _manifest(trained, aside, out.name, _provenance(checkpoint, options), sound.file, variants)
        write_manifest(manifest, aside)
        say("verifying the bundle as another machine would")
        proofs = [_prove(aside, precision, rows[precision], sound.explicit, show) for precision in rows]
        _write_json(aside / PARITY_REPORT, {"reference": "PyTorch float32", "proofs": [proof.to_json() for proof in proofs]})
        write_manifest(manifest, aside)
        if options.engines:
            for engine in build_engines(aside, manifest, options.engines, progress=progress):
                say(f"built the {engine.key.precision} {engine.key.graph} engine: {engine.attestation}")
            write_manifest(manifest, aside)
        Bundle.open(aside)
    return proofs


def _export_graphs(trained: Checkpoint, aside: Path) -> None:
    (aside / "onnx").mkdir()
    export_visual(trained.autoencoder.encoder, aside / graph_file("visual"))
    export_fusion(trained.fusion, aside / graph_file("fusion"))


def _compare(trained: Checkpoint, aside: Path, variant: Variant, show: Callable[[PrecisionProof], None]) -> tuple[ParityRow, ...]:
    """Both graphs against PyTorch over every shape and mask. Eight bits are only meant for pictures like those they were fitted to, so
    int8 is compared on real clips alone, by `verify`.
    """
    if variant.precision == "int8":
        return ()
    tolerances = SAME_MACHINE if variant.precision == "fp32" else TOLERANCES[variant.precision]
    with ExitStack() as open_files:
        files = {
            graph: open_files.enter_context(measurable(aside / graph_file(graph, precision))) for graph, precision in variant.graphs.items()
        }
        visual, fusion = (open_files.enter_context(open_engine(files[graph])) for graph in GRAPHS)
        rows = (
            *visual_parity(visual_engine(trained.autoencoder.encoder), visual, tolerances=tolerances),
            *fusion_parity(fusion_engine(trained.fusion), fusion, tolerances=tolerances),
        )
    if not all(row.passed for row in rows):
        show(PrecisionProof(variant.precision, "onnxruntime", "cpu", rows, None, ()))
    require_parity(rows)
    return rows


def _prove(
    root: Path, precision: str, rows: tuple[ParityRow, ...], whisper: Path | None, show: Callable[[PrecisionProof], None]
) -> PrecisionProof:
    """The rows measured against PyTorch itself, then those any machine can measure again; shown, and then held to their limits."""
    with measurable_bundle(root, precision) as measured:
        found = verify(Bundle.open(measured), VerifyOptions(precision=precision, whisper=whisper))
    proof = replace(found, rows=(*rows, *found.rows))
    show(proof)
    require_parity(proof.rows)
    return proof


def _manifest(
    trained: Checkpoint,
    aside: Path,
    name: str,
    provenance: dict[str, Any],
    whisper: WhisperFile,
    variants: Sequence[Variant],
) -> Manifest:
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
        whisper=whisper,
        target=trained.target,
        quantile_levels=trained.fusion.config.quantile_levels,
        intervals=trained.intervals,
        window_chunks=trained.fusion.config.window,
        card=trained.card,
        provenance=provenance,
        settling=trained.settling,
    )


def _provenance(checkpoint: Path, options: ExportOptions) -> dict[str, Any]:
    clips = "given by --clip" if options.clips else "excerpts of the golden clip, as they are and mirrored"
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
