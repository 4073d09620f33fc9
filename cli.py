"""The command line: parse, call, print. stdout is data, stderr is progress and messages.

Exit codes: 0 ok; 1 an input or a run failed; 2 usage; 3 parity or a check outside its tolerance; 130 interrupted.
"""

from __future__ import annotations

import json
import shlex
import signal
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import __version__
from .cli_data import data_app
from .cli_options import ForceOption, SignerOption, WhisperOption
from .cli_train import train_app
from .errors import MediaError, ShortcastError
from .terminal import console, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from .runtime.bundle import Bundle
    from .runtime.media import ReadOptions
    from .runtime.proof import PrecisionProof
    from .runtime.score import Score
    from .runtime.scorer import Scorer

_INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""

app = typer.Typer(
    name="shortcast",
    help="Predict how well a short video will do, from its pictures and sound, while it streams.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    rich_markup_mode="rich",
    epilog="Exit codes: 0 ok · 1 an input or a run failed · 2 usage · 3 parity outside tolerance · 130 interrupted",
)
app.add_typer(train_app)
app.add_typer(data_app, name="data")


class Format(str, Enum):
    """What `score` prints."""

    table = "table"
    jsonl = "jsonl"


class Backend(str, Enum):
    """Engine backends."""

    auto = "auto"
    onnxruntime = "onnxruntime"


class Precision(str, Enum):
    """What the graphs compute in."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


class Device(str, Enum):
    """Where engines run."""

    cpu = "cpu"
    cuda = "cuda"


BundleOption = Annotated[Path | None, typer.Option("--bundle", "-b", help="The bundle to score with.", show_default="the demo bundle")]
EngineOption = Annotated[Backend, typer.Option("--engine", help="Engine backend; what is asked for is used, or it is an error.")]
PrecisionOption = Annotated[Precision, typer.Option("--precision", help="Which of the bundle's variants to run.")]
DeviceOption = Annotated[Device, typer.Option("--device", help="Where the engines run; never falls back.")]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False) -> None:
    if version:
        typer.echo(f"shortcast {__version__}")
        raise typer.Exit


@app.command(
    epilog="Examples:\n\n  shortcast score clip.mp4 --every-chunk\n\n  shortcast score *.mp4 --format jsonl > scores.jsonl\n\n"
    "  cat clip.webm | shortcast score - --bundle my.shortcast\n\n  shortcast score clip.mp4 --transcript"
)
def score(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Files or URLs; `-` is standard input.", show_default=False)],
    bundle: BundleOption = None,
    engine: EngineOption = Backend.auto,
    precision: PrecisionOption = Precision.fp32,
    device: DeviceOption = Device.cpu,
    output: Annotated[Format | None, typer.Option("--format", help="How to print.", show_default="table on a terminal, else jsonl")] = None,
    every_chunk: Annotated[bool, typer.Option("--every-chunk", help="Print a score after each chunk, as soon as it is known.")] = False,
    transcript: Annotated[bool, typer.Option("--transcript", help="Add the words that are spoken.")] = False,
    pictures: Annotated[bool, typer.Option("--pictures/--no-pictures", help="Use the pictures.")] = True,
    sound: Annotated[bool, typer.Option("--sound/--no-sound", help="Use the sound; without it no Whisper weights are needed.")] = True,
    whisper: WhisperOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads for one engine call.", show_default="the CPU quota")] = None,
    require_signed_by: SignerOption = None,
) -> None:
    """Score clips while they are read: after every chunk of 2 s there is a score, and the last one is the clip's."""
    from .runtime.media import ReadOptions
    from .runtime.scorer import Scorer

    options = ReadOptions(use_pictures=pictures, use_sound=sound)
    show = _printer(as_table=output is Format.table or (output is None and sys.stdout.isatty()), every_chunk=every_chunk)
    opened = _open_bundle(bundle, require_signed_by)
    with Scorer(
        opened,
        backend=_backend(engine),
        precision=precision.value,
        device=device.value,
        whisper=whisper,
        threads=threads,
        transcribe=transcript,
    ) as scorer:
        failures = sum(not _score_one(scorer, source, options, show) for source in sources)
    raise typer.Exit(1 if failures else 0)


def _open_bundle(path: Path | None, signed_by: Path | None) -> Bundle:
    """The bundle asked for, or the demo bundle, which is said to be one."""
    from .runtime.bundle import Bundle, demo_bundle

    opened = Bundle.open(path or demo_bundle(), signed_by=signed_by)
    if path is None:
        say(f"no --bundle given: this is the demo bundle, trained on {opened.manifest.card['source']}")
    return opened


def _backend(engine: Backend) -> str:
    return "onnxruntime" if engine is Backend.auto else engine.value


def _printer(*, as_table: bool, every_chunk: bool) -> Callable[[Score], None]:
    if as_table:
        from .display import ScoreTable

        show = ScoreTable(console()).show
    else:

        def show(score: Score) -> None:
            print(json.dumps(score.to_json()), flush=True)

    return lambda score: show(score) if every_chunk or score.final else None


def _score_one(scorer: Scorer, source: str, options: ReadOptions, show: Callable[[Score], None]) -> bool:
    """Scores one source; what is wrong with it goes to stderr and the next one is still scored."""
    try:
        for current in scorer.stream(source, options=options):
            show(current)
    except MediaError as error:
        say(str(error))
        return False
    return True


@app.command(epilog="Example:\n\n  shortcast export my-model -o my-model.shortcast")
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint directory.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The bundle directory to make.", show_default=False)],
    golden: Annotated[Path | None, typer.Option(help="Clip whose first chunks become the golden data.", show_default="the sample")] = None,
    clip: Annotated[
        list[Path] | None,
        typer.Option(
            help="Clip, or folder of clips, to compare decisions on; may be repeated.", show_default="excerpts of the golden clip"
        ),
    ] = None,
    whisper: WhisperOption = None,
    force: ForceOption = False,
) -> None:
    """Export a checkpoint to a bundle and prove it equal to PyTorch; outside tolerance no bundle is left and the exit code is 3."""
    from .export.exporter import ExportOptions, export_bundle

    options = ExportOptions(
        golden_clip=golden or Path(__file__).parent / "samples" / "sample.mp4",
        clips=tuple(clip or ()),
        whisper=whisper,
        force=force,
        command=shlex.join(["shortcast", *sys.argv[1:]]),
    )
    export_bundle(checkpoint, output, options, say=say, show=_show_proof)
    say(f"wrote {output}")


def _show_proof(proof: PrecisionProof) -> None:
    from .display_proof import proof_tables

    for table in proof_tables(proof):
        console().print(table)


@app.command(epilog="Examples:\n\n  shortcast verify my-model.shortcast\n\n  shortcast verify my-model.shortcast --no-sound")
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

    options = VerifyOptions(precision.value, _backend(engine), device.value, whisper, sound)
    proof = verify_bundle(Bundle.open(bundle, signed_by=require_signed_by), options)
    _show_proof(proof)
    require_parity(proof.rows)
    checked = "every file and every stage agree" if sound else "every file and the stages without sound agree"
    say(f"{bundle}: {checked} with what the exporting machine measured")


@app.command(epilog="Example:\n\n  shortcast inspect my-model.shortcast")
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


@app.command(
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


@app.command()
def doctor() -> None:
    """Print versions, engines, devices and weights on this machine; exit code 1 where something stands in the way."""
    from .display import doctor_table
    from .runtime.doctor import examine

    findings = list(examine())
    console().print(doctor_table(findings))
    raise typer.Exit(1 if any(finding.problem for finding in findings) else 0)


def main() -> None:
    """Runs the command line; a shortcast error is one sentence and its exit code, never a traceback."""
    interrupts: list[int] = []

    def interrupt(number: int, _frame: object) -> None:
        interrupts.append(number)
        say("interrupted")
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        app()
    except ShortcastError as error:
        # A library may turn the interrupt into an error of its own: what the user did counts, not what came of it.
        if interrupts:
            sys.exit(_INTERRUPTED)
        say(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
