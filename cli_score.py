"""`shortcast score`: clips in, scores on stdout or in a file that a later run can go on with."""

from __future__ import annotations

import sys
from enum import Enum
from functools import partial
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
from .cli_plain import PlainCommand
from .errors import DataError
from .terminal import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from .runtime.bundle import Bundle
    from .runtime.clip_list import Clip
    from .runtime.engine_choice import EngineChoice
    from .runtime.score import Score
    from .runtime.scorer import Scorer
    from .score_into import Target
    from .score_run import Plan
    from .score_until import EarlyExit

score_app = typer.Typer()


class Settled(str, Enum):
    """What is to be settled before a clip is left."""

    class_ = "class"
    interval = "interval"


class Policy(str, Enum):
    """What happens to chunks of a source that is faster than the scorer."""

    wait = "wait"
    drop_oldest = "drop-oldest"


_LIVE = "Live sources"


class Accelerator(str, Enum):
    """Hardware that decodes."""

    cuda = "cuda"


class Format(str, Enum):
    """How scores are written."""

    table = "table"
    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"


class Decode(str, Enum):
    """How pictures are decoded."""

    exact = "exact"
    fast = "fast"


@score_app.command(
    cls=PlainCommand,
    epilog="Examples:\n\n  shortcast score clip.mp4 --every-chunk\n\n  shortcast score *.mp4 --format jsonl > scores.jsonl\n\n"
    "  cat clip.webm | shortcast score - --bundle my.shortcast\n\n  shortcast score clip.mp4 --transcript\n\n"
    "  shortcast score rtsp://camera/stream --every-chunk\n\n  shortcast score v4l2:/dev/video0 --max-seconds 60\n\n"
    "  ffmpeg -i ... -f mpegts - | shortcast score - --policy drop-oldest --read-timeout 10\n\n"
    "  shortcast score clips --jobs 4 --resume scores.parquet\n\n"
    "  shortcast score clips --until-settled --settled-confidence 0.8 -o scores.jsonl\n\n"
    "  find . -name '*.mp4' -print0 | shortcast score --from - -o scores.csv",
)
def score(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="SOURCE...", help="Files, URLs, devices, or folders of videos; `-` is standard input.", show_default=False),
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="FILE", help="Also take clips from a list, one a line; `-` is standard input.")
    ] = None,
    bundle: Annotated[Path | None, typer.Option("--bundle", "-b", help="The bundle to score with.", show_default="the demo bundle")] = None,
    engine: EngineOption = Backend.auto,
    precision: PrecisionOption = Precision.fp32,
    device: DeviceOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to a file: .jsonl, .csv or .parquet.", show_default="stdout")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option("--resume", metavar="OUT", help="Go on with a file of scores, or begin it; what is in it is not scored again."),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="With --resume: try clips again that failed.")] = False,
    output_format: Annotated[
        Format | None, typer.Option("--format", help="How to write.", show_default="the file's suffix; table on a terminal, else jsonl")
    ] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Clips scored at once.", show_default="the CPU quota")] = None,
    ordered: Annotated[
        bool | None,
        typer.Option("--ordered/--no-ordered", help="Keep the order of the clips.", show_default="for tables and --every-chunk on stdout"),
    ] = None,
    every_chunk: Annotated[bool, typer.Option("--every-chunk", help="Print a score after each chunk, as soon as it is known.")] = False,
    until_settled: Annotated[
        bool, typer.Option("--until-settled", help="Stop reading a clip once its score is settled, and say what that saved.")
    ] = False,
    settled: Annotated[
        Settled | None, typer.Option("--settled", help="What must be settled: the class (quartile) or the interval.", show_default="class")
    ] = None,
    settled_confidence: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", help="Share of the clips that stop early which is to end as it stood when it stopped.", show_default="0.9"
        ),
    ] = None,
    watts_per_core: Annotated[
        float | None,
        typer.Option(metavar="WATTS", min=0.0, help="What a busy core takes; turns core-seconds into joules.", show_default=False),
    ] = None,
    transcript: Annotated[bool, typer.Option("--transcript", help="Add the words that are spoken.")] = False,
    pictures: Annotated[bool, typer.Option("--pictures/--no-pictures", help="Use the pictures.")] = True,
    sound: Annotated[bool, typer.Option("--sound/--no-sound", help="Use the sound; without it no Whisper weights are needed.")] = True,
    decode: Annotated[
        Decode, typer.Option("--decode", help="`fast` skips the loop filter and some pictures: cheaper, and scores move a little.")
    ] = Decode.exact,
    decode_budget: Annotated[
        float,
        typer.Option(min=0.01, help="Stop reading a clip whose decoding takes more seconds for each of its own, after a free minute."),
    ] = 30.0,
    whisper: WhisperOption = None,
    whisper_compute: WhisperComputeOption = None,
    hwaccel: Annotated[
        Accelerator | None, typer.Option("--hwaccel", help="Decode pictures on this hardware, or fail.", show_default="software")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads for one engine call.", show_default="the CPU quota / jobs")] = None,
    policy: Annotated[
        Policy | None,
        typer.Option(
            help="What chunks do that come faster than they are scored.",
            show_default="drop-oldest for devices, RTSP, RTMP and live HLS; else wait",
            rich_help_panel=_LIVE,
        ),
    ] = None,
    reconnect: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Open a URL or device that breaks off again, up to N times in a row.",
            show_default="8 for a live URL, else 0",
            rich_help_panel=_LIVE,
        ),
    ] = None,
    read_timeout: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            metavar="SECONDS",
            help="How long a source may send nothing.",
            show_default="10 for URLs, 30 for HLS, no limit for pipes",
            rich_help_panel=_LIVE,
        ),
    ] = None,
    max_seconds: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            metavar="SECONDS",
            help="Stop after so much media.",
            show_default="3 hours of a file, no limit for a live source",
            rich_help_panel=_LIVE,
        ),
    ] = None,
    deadline_ms: Annotated[
        float | None,
        typer.Option(
            min=1,
            metavar="MS",
            help="A score is late so long after its chunk is ready.",
            show_default="a chunk's length",
            rich_help_panel=_LIVE,
        ),
    ] = None,
    require_signed_by: SignerOption = None,
    force: ForceOption = False,
) -> None:
    """Score clips while they are read: after every chunk of 2 s there is a score, and the last one is the clip's."""
    from .runtime.read_options import ReadOptions
    from .score_run import Plan, print_scores

    until = _until(until_settled, settled, settled_confidence, watts_per_core, transcript=transcript)
    target = _target(output, resume, output_format, retry_failed=retry_failed, force=force)
    clips = _clips(sources or [], from_, once=target is not None)
    as_table = target is None and (output_format is Format.table or (output_format is None and sys.stdout.isatty()))
    opened = _open_bundle(bundle, require_signed_by)
    opened = opened.hearing_in(whisper_compute.value if whisper_compute else None)
    if until:
        until.check(opened, both=pictures and sound)
    chosen = chosen_engine(opened, engine, precision, device)
    open_scorer = partial(_open_scorer, opened, chosen, precision=precision.value, whisper=whisper, transcribe=transcript, hears=sound)
    in_turn = as_table or (every_chunk and target is None) if ordered is None else ordered
    options = ReadOptions(
        use_pictures=pictures,
        use_sound=sound,
        decode=decode.value,
        decode_budget=decode_budget,
        hwaccel=hwaccel.value if hwaccel else None,
        when_full="drop-oldest" if policy is Policy.drop_oldest else "wait" if policy else None,
        reconnect=reconnect,
        read_timeout_s=read_timeout,
        max_seconds=max_seconds,
        deadline_s=None if deadline_ms is None else deadline_ms / 1e3,
        tell=say,
    )
    plan = Plan(open_scorer, options, jobs, threads, every_chunk, in_turn, until)
    left_out = {"no pictures": not pictures, "no sound": not sound, "transcript": transcript, "every chunk": every_chunk}
    left_out["decoded fast"] = decode is Decode.fast
    left_out[f"first {max_seconds} s"] = max_seconds is not None
    left_out[f"whisper in {whisper_compute.value if whisper_compute else None}"] = whisper_compute is not None
    settings = [precision.value, *(name for name, applies in left_out.items() if applies), *([str(until)] if until else [])]
    scored_with = f"{opened.manifest.id[:16]}, {', '.join(settings)}"
    if target:
        failures = _score_into(target, opened, scored_with, clips, plan)
    else:
        failures = print_scores(clips, plan, _printer(opened, scored_with, as_table=as_table, as_csv=output_format is Format.csv))
    raise typer.Exit(1 if failures else 0)


def _open_scorer(
    bundle: Bundle,
    chosen: EngineChoice,
    *,
    precision: str,
    whisper: Path | None,
    transcribe: bool,
    hears: bool,
    threads: int,
) -> Scorer:
    """The scorer. Whisper begins to load first, in a thread: what the others need is imported meanwhile, and takes as long."""
    from .runtime.sound_loader import whisper_loader
    from .runtime.start_cache import user_cache
    from .runtime.threads import ThreadPlan

    cache = user_cache()
    sound = whisper_loader(bundle, device=chosen.device, whisper=whisper, cache=cache)
    if hears:
        sound.begin(ThreadPlan.fit(threads).sound)
    from .runtime.scorer import Scorer

    return Scorer(
        bundle,
        backend=chosen.backend,
        precision=precision,
        device=chosen.device,
        threads=threads,
        whisper=whisper,
        transcribe=transcribe,
        cache=cache,
        sound=sound,
    )


def _score_into(target: Target, bundle: Bundle, scored_with: str, clips: list[Clip], plan: Plan) -> int:
    from .runtime.score_files import RowsKey
    from .score_into import score_into

    return score_into(target, RowsKey(scored_with, bundle.manifest.target.classes), clips, plan)


def _printer(bundle: Bundle, scored_with: str, *, as_table: bool, as_csv: bool) -> Callable[[Clip, Score], None]:
    from .score_run import csv_printer, json_printer, table_printer

    if as_csv:
        from .runtime.score_files import RowsKey

        return csv_printer(RowsKey(scored_with, bundle.manifest.target.classes))
    return table_printer() if as_table else json_printer()


def _until(wanted: bool, kind: Settled | None, confidence: float | None, watts: float | None, *, transcript: bool) -> EarlyExit | None:
    """When to stop reading a clip, or None to read it whole; what makes no sense together is a usage error."""
    given = {"--settled": kind, "--settled-confidence": confidence, "--watts-per-core": watts}
    refusals = [
        *((not wanted and value is not None, f"{name} needs --until-settled") for name, value in given.items()),
        (confidence is not None and not 0 < confidence < 1, f"--settled-confidence is between 0 and 1, got {confidence}"),
        (wanted and transcript, "a transcript is of the whole clip; leave out --until-settled or --transcript"),
    ]
    for applies, sentence in refusals:
        if applies:
            raise typer.BadParameter(sentence)
    if not wanted:
        return None
    from .runtime.early import Until
    from .score_until import EarlyExit

    return EarlyExit(Until("interval" if kind is Settled.interval else "class", confidence or 0.9), watts)


def _target(output: Path | None, resume: Path | None, form: Format | None, *, retry_failed: bool, force: bool) -> Target | None:
    """The file asked for, or None for stdout; what makes no sense together is a usage error."""
    path = resume or output
    refusals = [
        (bool(resume and output and resume != output), "--resume OUT already says where scores go; leave out --output"),
        (bool(resume and force), "--resume goes on with a file and --force replaces it; give one of them"),
        (retry_failed and not resume, "--retry-failed needs --resume OUT"),
        (force and not output, "--force needs --output"),
        (path is None and form is Format.parquet, "Parquet needs --output FILE"),
        (path is not None and form is Format.table, "a table is for stdout; files are jsonl, csv or parquet"),
    ]
    for applies, sentence in refusals:
        if applies:
            raise typer.BadParameter(sentence)
    if path is None:
        return None
    from .runtime.score_files import FileFormat, format_of
    from .score_into import Target

    chosen = FileFormat(form.value) if form else format_of(path)
    if chosen is None:
        raise typer.BadParameter(f"{path}: expected .jsonl, .csv or .parquet, or --format")
    return Target(path, chosen, resume is not None, retry_failed, force)


def _clips(sources: list[str], list_file: str | None, *, once: bool) -> list[Clip]:
    """Everything asked for. Clips named twice are scored once where they come from folders or lists, or go to a file."""
    from .runtime.clip_list import list_clips, parse_list
    from .runtime.devices import names_device

    if not sources and list_file is None:
        raise typer.BadParameter("give files, URLs, folders, or --from FILE with a list of them")
    if "-" in sources and list_file == "-":
        raise typer.BadParameter("standard input is either a clip or the list of clips")
    listed = parse_list(_read_list(list_file)) if list_file is not None else []
    if devices := [line for line in listed if names_device(line)]:
        raise DataError(f"{list_file} names the device {devices[0]}; devices are given as arguments, never by a list")
    everything = [*sources, *listed]
    clips = list_clips(everything, once=once or list_file is not None or any(Path(source).is_dir() for source in sources))
    if not clips:
        raise DataError(f"{list_file} names no clip: expected one path or URL a line")
    return clips


def _read_list(path: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _open_bundle(path: Path | None, signed_by: Path | None) -> Bundle:
    """The bundle asked for, or the demo bundle, which is said to be one."""
    from .runtime.bundle import Bundle, demo_bundle

    opened = Bundle.open(path or demo_bundle(), signed_by=signed_by)
    if path is None:
        say(f"no --bundle given: this is the demo bundle, trained on {opened.manifest.card['source']}")
    return opened
