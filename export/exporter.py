"""The exporter: checkpoint -> ONNX -> parity -> golden data -> bundle. Here the parts of export meet."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
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
from .manifest import describe_graph, write_manifest
from .onnx import export_fusion, export_visual
from .parity import SAME_MACHINE, fusion_parity, visual_parity
from .proof_clips import ClipChoice, choose_clips
from .recording import calibrate, record
from .sound import SoundOptions, choose_sound
from .torch_engine import fusion_engine, visual_engine
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
        GateError, ParityError: a graph is not what was asked for, or an output is outside its tolerance; no bundle is left.
    """
    if out.exists() and not options.force:
        raise BundleError(f"{out} exists; give --force to replace it")
    trained = load_checkpoint(checkpoint)
    clips = choose_clips(options.clips) if options.clips else ClipChoice((), ())
    with _written_aside(out) as aside:
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
        Bundle.open(aside)
    return proofs


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
        if old.exists() and not out.exists():
            old.rename(out)  # cut off between the two renames: what was there comes back
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


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
