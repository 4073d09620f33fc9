"""The command line: parse, call, print. stdout is data, stderr is progress and messages.

Exit codes: 0 ok; 1 an input or a run failed; 2 usage; 3 parity or a check outside its tolerance; 130 interrupted.
"""

from __future__ import annotations

import json
import signal
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import __version__
from .cli_data import data_app
from .cli_export import export_app
from .cli_options import Backend, Device, DeviceOption, EngineOption, Precision, PrecisionOption, SignerOption, WhisperOption
from .cli_train import train_app
from .errors import MediaError, ShortcastError
from .terminal import console, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from .runtime.bundle import Bundle
    from .runtime.media import ReadOptions
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
app.add_typer(export_app)
app.add_typer(data_app, name="data")


class Format(str, Enum):
    """What `score` prints."""

    table = "table"
    jsonl = "jsonl"


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
    bundle: Annotated[Path | None, typer.Option("--bundle", "-b", help="The bundle to score with.", show_default="the demo bundle")] = None,
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
        backend=engine.engine,
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
