"""Commands that make bundles and look into them: export, verify, inspect, sign."""

from __future__ import annotations

import shlex
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .cli_options import (
    Backend,
    Device,
    DeviceOption,
    EngineOption,
    ForceOption,
    Precision,
    PrecisionOption,
    SignerOption,
    WhisperOption,
)
from .terminal import console, say

if TYPE_CHECKING:
    from .runtime.proof import PrecisionProof

export_app = typer.Typer()


class Compute(str, Enum):
    """CTranslate2's types of computation."""

    float32 = "float32"
    float16 = "float16"
    int8 = "int8"


@export_app.command(
    epilog="Examples:\n\n  shortcast export my-model -o my-model.shortcast\n\n"
    "  shortcast export my-model -o my-model.shortcast --precision fp16 --clip clips/\n\n"
    "  shortcast export my-model -o my-model.shortcast --whisper whisper-tiny.en/ --whisper-compute int8 --embed-whisper\n\n"
    "  shortcast export --whisper whisper-tiny.en/ -o whisper-int8 --whisper-compute int8"
)
def export(
    output: Annotated[Path, typer.Option("--output", "-o", help="The bundle (or Whisper) directory to make.", show_default=False)],
    checkpoint: Annotated[Path | None, typer.Argument(help="A checkpoint directory.", show_default=False)] = None,
    precision: Annotated[
        list[Precision] | None, typer.Option(help="Precision to have beside fp32; may be repeated.", show_default="fp32 alone")
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
    if checkpoint is None:
        _convert_whisper(whisper, output, whisper_compute or Compute.int8, force=force)
        return
    from .export.exporter import ExportOptions, export_bundle
    from .export.sound import SoundOptions

    options = ExportOptions(
        golden_clip=golden or Path(__file__).parent / "samples" / "sample.mp4",
        clips=tuple(clip or ()),
        reduced=tuple(dict.fromkeys(one.value for one in precision or () if one is not Precision.fp32)),
        sound=SoundOptions(whisper, whisper_compute.value if whisper_compute else None, embed_whisper),
        force=force,
        command=shlex.join(["shortcast", *sys.argv[1:]]),
    )
    export_bundle(checkpoint, output, options, say=say, show=_show_proof)
    say(f"wrote {output}")


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
    device: DeviceOption = Device.cpu,
    whisper: WhisperOption = None,
    sound: Annotated[bool, typer.Option("--sound/--no-sound", help="Also prove the stages that need Whisper weights.")] = True,
    require_signed_by: SignerOption = None,
) -> None:
    """Check every byte of a bundle, then re-run its golden clip on this machine and compare with what PyTorch gave."""
    from .runtime.bundle import Bundle
    from .runtime.parity import require_parity
    from .runtime.verify import VerifyOptions
    from .runtime.verify import verify as verify_bundle

    options = VerifyOptions(precision.value, engine.engine, device.value, whisper, sound)
    proof = verify_bundle(Bundle.open(bundle, signed_by=require_signed_by), options)
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
    from .display import bundle_tables
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
