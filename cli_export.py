"""Commands that make bundles and look into them: export, verify, inspect, sign, settle."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .cli_options import (
    Backend,
    DeviceOption,
    EngineOption,
    ForceOption,
    Precision,
    PrecisionOption,
    SignerOption,
    WhisperComputeOption,
    WhisperOption,
    chosen_engine,
)
from .errors import BundleError
from .terminal import console, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from .display import StageBars
    from .export.exporter import ExportOptions
    from .export.tensorrt import BuildOptions
    from .export.trt_build import BuildProgress
    from .runtime.proof import PrecisionProof

export_app = typer.Typer()


class Target(str, Enum):
    """What graphs are compiled for."""

    onnx = "onnx"
    tensorrt = "tensorrt"
    tensorrt_rtx = "tensorrt-rtx"


class Compute(str, Enum):
    """CTranslate2's types of computation."""

    float32 = "float32"
    float16 = "float16"
    int8 = "int8"


@export_app.command(
    epilog="Examples:\n\n  shortcast export my-model -o my-model.shortcast\n\n"
    "  shortcast export my-model -o my-model.shortcast --precision fp16 --clip clips/\n\n"
    "  shortcast export my-model -o my-model.shortcast --whisper whisper-tiny.en/ --whisper-compute int8 --embed-whisper\n\n"
    "  shortcast export my-model -o my-model.shortcast --target tensorrt-rtx --compute-capability 8.6 --compute-capability 8.9\n\n"
    "  shortcast export --engines-only my-model.shortcast --target tensorrt\n\n"
    "  shortcast export --whisper whisper-tiny.en/ -o whisper-int8 --whisper-compute int8"
)
def export(
    checkpoint: Annotated[Path | None, typer.Argument(help="A checkpoint directory.", show_default=False)] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The bundle (or Whisper) directory to make.", show_default=False)
    ] = None,
    precision: Annotated[
        list[Precision] | None,
        typer.Option(help="Precision to have beside fp32; may be repeated.", show_default="fp32 alone; fp16 for an engine target"),
    ] = None,
    target: Annotated[Target, typer.Option(help="Also compile engines: for this machine's GPU, or ahead of time.")] = Target.onnx,
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(help="GPU generation for tensorrt-rtx, such as 8.6; may be repeated.", show_default="8.0 8.6 8.9 12.0"),
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, help="Most clips in one engine call.")] = 8,
    workspace: Annotated[
        int | None, typer.Option(min=1, metavar="MIB", help="Most scratch memory of an engine.", show_default="the GPU's")
    ] = None,
    timing_cache: Annotated[Path | None, typer.Option(help="Kernel timings to read and write, for tensorrt.", show_default=False)] = None,
    engines_only: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="Build a bundle's engines again, and nothing else.", show_default=False)
    ] = None,
    golden: Annotated[Path | None, typer.Option(help="Clip whose first chunks become the golden data.", show_default="the sample")] = None,
    clip: Annotated[
        list[Path] | None,
        typer.Option(
            help="Clip, or folder of clips, to compare decisions on; may be repeated. The first 8 s of up to 24 travel in the bundle.",
            show_default="excerpts of the golden clip",
        ),
    ] = None,
    whisper: Annotated[
        Path | None,
        typer.Option(
            metavar="SOURCE",
            help="Whisper as a CTranslate2, Hugging Face or OpenAI directory; without a checkpoint it is converted and that is all.",
            show_default="looked for",
        ),
    ] = None,
    whisper_compute: Annotated[
        Compute | None, typer.Option(help="What Whisper computes in.", show_default="as in training; int8 without a checkpoint")
    ] = None,
    embed_whisper: Annotated[bool, typer.Option("--embed-whisper", help="Put Whisper's weights into the bundle.")] = False,
    force: ForceOption = False,
) -> None:
    """Export a checkpoint to a bundle and prove it equal to PyTorch; outside tolerance no bundle is left and the exit code is 3."""
    chosen = [one.value for one in precision or ()]
    engines = None if target is Target.onnx else EngineChoice(target.value, compute_capability, max_batch, workspace, timing_cache)
    if engines_only is not None:
        _rebuild_engines(engines_only, engines, chosen)
    elif output is None:
        raise typer.BadParameter("say what to make with -o, or give --engines-only BUNDLE", param_hint="--output")
    elif checkpoint is None:
        _convert_whisper(whisper, output, whisper_compute or Compute.int8, force=force)
    else:
        from .export.exporter import ExportOptions
        from .export.sound import SoundOptions

        if engines and not chosen:
            chosen = ["fp16"]
        options = ExportOptions(
            golden_clip=golden or Path(__file__).parent / "samples" / "sample.mp4",
            clips=tuple(clip or ()),
            reduced=tuple(dict.fromkeys(one for one in chosen if one != "fp32")),
            sound=SoundOptions(whisper, whisper_compute.value if whisper_compute else None, embed_whisper),
            engines=engines.build_options(chosen) if engines else None,
            force=force,
            command=shlex.join(["shortcast", *sys.argv[1:]]),
        )
        _export_bundle(checkpoint, output, options)


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """What was asked for of engines."""

    target: str
    compute_capabilities: list[str] | None
    max_batch: int
    workspace_mib: int | None
    timing_cache: Path | None

    def build_options(self, precisions: list[str]) -> BuildOptions:
        """As the builder wants it; engines are float16 where that is among the precisions asked for."""
        from .export.tensorrt import DEFAULT_PROFILES, BuildOptions
        from .runtime.engine_record import DimRange, Profile

        if precisions and not set(precisions) & {"fp32", "fp16"}:
            raise typer.BadParameter("int8 graphs are for ONNX Runtime; engines are fp16 or fp32", param_hint="--precision")
        (profile,) = DEFAULT_PROFILES
        dims = [DimRange("batch", 1, 1, self.max_batch), *(dim for dim in profile.dims if dim.dim != "batch")]
        return BuildOptions(
            target=self.target,
            precision="fp16" if "fp16" in precisions else "fp32",
            profiles=(Profile(tuple(dims)),),
            workspace_bytes=self.workspace_mib * 2**20 if self.workspace_mib else None,
            compute_capabilities=tuple(self.compute_capabilities) if self.compute_capabilities else None,
            timing_cache=self.timing_cache,
        )


def _export_bundle(checkpoint: Path, output: Path, options: ExportOptions) -> None:
    from .display import StageBars
    from .export.exporter import export_bundle

    with StageBars() as bars:
        export_bundle(checkpoint, output, options, say=say, show=_show_proof, progress=_engine_bars(bars))
    say(f"wrote {output}")


def _rebuild_engines(bundle: Path, engines: EngineChoice | None, precisions: list[str]) -> None:
    from .display import StageBars
    from .export.engines import rebuild_engines
    from .runtime.bundle import Bundle

    if engines is None:
        raise typer.BadParameter("--engines-only builds for tensorrt or tensorrt-rtx: say which", param_hint="--target")
    held = list(Bundle.open(bundle).manifest.variants)
    options = engines.build_options(precisions or [one for one in held if one != "int8"])
    with StageBars() as bars:
        rebuild_engines(bundle, options, say=say, progress=_engine_bars(bars))
    say(f"wrote {bundle}")


def _engine_bars(bars: StageBars) -> Callable[[str, BuildProgress], None]:
    def show(graph: str, now: BuildProgress) -> None:
        bars.advance(f"{graph} engine", round(100 * now.fraction), 100, now.step)

    return show


def _convert_whisper(source: Path | None, output: Path, compute: Compute, *, force: bool) -> None:
    if source is None:
        raise typer.BadParameter("give a checkpoint directory, or --whisper SOURCE to convert a Whisper alone", param_hint="CHECKPOINT")
    from .export.whisper import convert_whisper

    say(f"converting {source}")
    made = convert_whisper(source, output, compute=compute.value, force=force)
    say(f"wrote {output}: {made.compute}, {made.bytes:,} bytes, sha256 {made.sha256[:16]}…")


def _show_proof(proof: PrecisionProof) -> None:
    from .display_proof import proof_tables

    for table in proof_tables(proof):
        console().print(table)


@export_app.command(epilog="Examples:\n\n  shortcast verify my-model.shortcast\n\n  shortcast verify my-model.shortcast --no-sound")
def verify(
    bundle: Annotated[Path, typer.Argument(help="The bundle to prove.", show_default=False)],
    engine: EngineOption = Backend.auto,
    precision: PrecisionOption = Precision.fp32,
    device: DeviceOption = None,
    whisper: WhisperOption = None,
    whisper_compute: WhisperComputeOption = None,
    sound: Annotated[bool, typer.Option("--sound/--no-sound", help="Also prove the stages that need Whisper weights.")] = True,
    require_signed_by: SignerOption = None,
) -> None:
    """Check every byte of a bundle, then re-run its golden clip on this machine and compare with what PyTorch gave."""
    from .runtime.bundle import Bundle
    from .runtime.parity import require_parity
    from .runtime.verify import VerifyOptions
    from .runtime.verify import verify as verify_bundle

    opened = Bundle.open(bundle, signed_by=require_signed_by).hearing_in(whisper_compute.value if whisper_compute else None)
    chosen = chosen_engine(opened, engine, precision, device)
    options = VerifyOptions(precision.value, chosen.backend, chosen.device, whisper, sound, say=say)
    proof = verify_bundle(opened, options)
    _show_proof(proof)
    require_parity(proof.rows)
    checked = "every file and every stage agree" if sound else "every file and the stages without sound agree"
    say(f"{bundle}: {checked} with what the exporting machine measured")


@export_app.command(epilog="Example:\n\n  shortcast inspect my-model.shortcast")
def inspect(
    bundle: Annotated[Path | None, typer.Argument(help="The bundle to look into.", show_default="the demo bundle")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
    require_signed_by: SignerOption = None,
) -> None:
    """Print what is in a bundle, what it was trained on, how it did, and its parity report."""
    from .display_bundle import bundle_tables
    from .runtime.bundle import Bundle, demo_bundle

    opened = Bundle.open(bundle or demo_bundle(), signed_by=require_signed_by)
    if as_json:
        print(opened.manifest.dumps(), end="")
        return
    for table in bundle_tables(opened):
        console().print(table, "")


@export_app.command(
    epilog="Example:\n\n  openssl genpkey -algorithm ed25519 -out key.pem && openssl pkey -in key.pem -pubout -out key.pub\n\n"
    "  shortcast sign my-model.shortcast --key key.pem\n\n  shortcast score clip.mp4 -b my-model.shortcast --require-signed-by key.pub"
)
def sign(
    bundle: Annotated[Path, typer.Argument(help="The bundle to sign.", show_default=False)],
    key: Annotated[Path, typer.Option(help="An Ed25519 private key in PEM form.", show_default=False)],
) -> None:
    """Sign a bundle: after checking every byte of it, put a signature of its manifest beside it."""
    from .runtime.bundle import Bundle
    from .runtime.signature import sign_bundle

    Bundle.open(bundle)
    say(f"{bundle} is signed by {sign_bundle(bundle, key)}")


@export_app.command(
    epilog="Examples:\n\n  shortcast settle my-model.shortcast clips/\n\n"
    '  shortcast settle my-model.shortcast held-out/*.mp4 --source "400 posts of May 2026, none of them trained on"'
)
def settle(
    bundle: Annotated[Path, typer.Argument(help="The bundle to calibrate.", show_default=False)],
    clips: Annotated[
        list[str], typer.Argument(metavar="CLIPS...", help="Files, or folders of videos, that it was not trained on.", show_default=False)
    ],
    source: Annotated[str, typer.Option(help="What the clips are, in a sentence, for the record.", show_default=False)] = "",
    precision: PrecisionOption = Precision.fp32,
    device: DeviceOption = None,
    whisper: WhisperOption = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Clips scored at once.", show_default="the CPU quota")] = None,
    force: ForceOption = False,
) -> None:
    """Measure when a bundle's scores are settled, for `shortcast score --until-settled`, and put a table of it into the manifest.

    Clips are scored whole and each is compared with itself, so they need no counts. The bundle gets another id, and a signature goes.
    """
    from .display import StageBars
    from .display_bundle import settling_table
    from .runtime.bundle import Bundle
    from .runtime.clip_list import list_clips
    from .runtime.cpu import available_cpus
    from .runtime.scorer import Scorer
    from .runtime.settle import put_into, score_paths, table_of

    opened = Bundle.open(bundle)
    if opened.manifest.settling and not force:
        raise BundleError(f"{bundle} has a settling table; give --force to replace it")
    cpus = available_cpus()
    at_once = jobs or cpus
    listed = list_clips(clips, once=True)
    with (
        Scorer(
            opened,
            precision=precision.value,
            device=device.value if device else None,
            whisper=whisper,
            threads=max(1, cpus // at_once),
        ) as scorer,
        StageBars() as bars,
    ):
        scored = score_paths(scorer, listed, jobs=at_once, progress=lambda done, total: bars.advance("clips", done, total))
    for sentence in scored.failed:
        say(sentence)
    command = shlex.join(["shortcast", *sys.argv[1:]])
    settling = table_of(scored, source=source or "not said", precision=precision.value, command=command)
    if put_into(opened, settling):
        say(f"the signature of {bundle} was for another manifest and is gone; sign the bundle again with `shortcast sign`")
    console().print(settling_table(settling))
    say(
        f"{bundle} has a settling table of {len(scored.paths)} clips"
        + (f", {len(scored.failed)} could not be scored" if scored.failed else "")
    )
