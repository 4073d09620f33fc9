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
from .cli_data import ForceOption, data_app
from .errors import DataError, MediaError, ShortcastError
from .terminal import console, say

if TYPE_CHECKING:
    from collections.abc import Callable

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
app.add_typer(data_app, name="data")


class Format(str, Enum):
    """What `score` prints."""

    table = "table"
    jsonl = "jsonl"


class Backend(str, Enum):
    """Engine backends."""

    auto = "auto"
    onnxruntime = "onnxruntime"


class Device(str, Enum):
    """Where engines run."""

    cpu = "cpu"
    cuda = "cuda"


class TrainDevice(str, Enum):
    """Where training computes."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Precision(str, Enum):
    """What training computes in."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Strategy(str, Enum):
    """What the model is shown of a clip."""

    pad = "pad"
    pool = "pool"
    sequential = "sequential"


class Part(str, Enum):
    """Which clips of a manifest are evaluated."""

    train = "train"
    val = "val"
    test = "test"
    all = "all"


class ClassHead(str, Enum):
    """How the classifier ends."""

    softmax = "softmax"
    ordinal = "ordinal"


class VideoNetwork(str, Enum):
    """Video networks that a model is compared with."""

    small3d = "small3d"
    r3d_18 = "r3d_18"
    swin3d_t = "swin3d_t"


class Transform(str, Enum):
    """Target transforms."""

    log1p = "log1p"
    yeo_johnson = "yeo-johnson"
    rank_gauss = "rank-gauss"
    none = "none"


BundleOption = Annotated[Path | None, typer.Option("--bundle", "-b", help="The bundle to score with.", show_default="the demo bundle")]
WhisperOption = Annotated[
    Path | None, typer.Option("--whisper", help="Directory with the Whisper weights in CTranslate2 form.", show_default="looked for")
]
EngineOption = Annotated[Backend, typer.Option("--engine", help="Engine backend; what is asked for is used, or it is an error.")]
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
    device: DeviceOption = Device.cpu,
    output: Annotated[Format | None, typer.Option("--format", help="How to print.", show_default="table on a terminal, else jsonl")] = None,
    every_chunk: Annotated[bool, typer.Option("--every-chunk", help="Print a score after each chunk, as soon as it is known.")] = False,
    transcript: Annotated[bool, typer.Option("--transcript", help="Add the words that are spoken.")] = False,
    pictures: Annotated[bool, typer.Option("--pictures/--no-pictures", help="Use the pictures.")] = True,
    sound: Annotated[bool, typer.Option("--sound/--no-sound", help="Use the sound; without it no Whisper weights are needed.")] = True,
    whisper: WhisperOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads for one engine call.", show_default="the CPU quota")] = None,
) -> None:
    """Score clips while they are read: after every chunk of 2 s there is a score, and the last one is the clip's."""
    from .runtime.media import ReadOptions

    options = ReadOptions(use_pictures=pictures, use_sound=sound)
    show = _printer(as_table=output is Format.table or (output is None and sys.stdout.isatty()), every_chunk=every_chunk)
    with _open_scorer(bundle, engine, device, whisper=whisper, threads=threads, transcribe=transcript) as scorer:
        failures = sum(not _score_one(scorer, source, options, show) for source in sources)
    raise typer.Exit(1 if failures else 0)


def _open_scorer(
    bundle: Path | None, engine: Backend, device: Device, *, whisper: Path | None, threads: int | None, transcribe: bool
) -> Scorer:
    from .runtime.bundle import Bundle, demo_bundle
    from .runtime.scorer import Scorer

    opened = Bundle.open(bundle or demo_bundle())
    if bundle is None:
        say(f"no --bundle given: this is the demo bundle, trained on {opened.manifest.card['source']}")
    return Scorer(opened, backend=_backend(engine), device=device.value, whisper=whisper, threads=threads, transcribe=transcribe)


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


@app.command(
    epilog="Examples:\n\n  shortcast train clips/manifest.jsonl -o my-model\n\n"
    "  shortcast train clips/manifest.jsonl -o my-model --target likes --epochs 60"
)
def train(
    manifest: Annotated[Path, typer.Argument(help="JSON lines: one clip a line, with its path and its counts.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The checkpoint directory to make.", show_default=False)],
    target: Annotated[str, typer.Option(help="What to predict: a column, or a rate such as likes/views or views/day.")] = "views",
    transform: Annotated[Transform, typer.Option(help="What is done to the target before it is standardised.")] = Transform.log1p,
    split: Annotated[
        str,
        typer.Option(help="auto, manifest, random, time, or what is kept together: author, music, duplicate, or author+music and so on."),
    ] = "auto",
    folds: Annotated[
        int | None, typer.Option(min=2, help="Cross-validate with so many folds first; the final model is the same.", show_default=False)
    ] = None,
    loss: Annotated[
        str,
        typer.Option(
            help="Loss of the score: huber, mse, mae, log-cosh, tukey, student-t or pinball; a parameter follows a colon, as huber:2."
        ),
    ] = "huber",
    length: Annotated[
        Strategy,
        typer.Option(
            help="What is shown of a clip: every chunk so far, their mean, or a window of chunks with the mean of those before it."
        ),
    ] = Strategy.sequential,
    window_chunks: Annotated[int, typer.Option(min=2, help="Chunks in the window of `--length sequential`.")] = 32,
    classes: Annotated[int, typer.Option(min=2, max=100, help="Classes of equal share; ties in the target may allow fewer.")] = 4,
    class_head: Annotated[ClassHead, typer.Option(help="A logit for each class, or one latent number and rising cut points.")] = (
        ClassHead.softmax
    ),
    epochs_autoencoder: Annotated[int, typer.Option(min=1, help="Epochs of the ConvLSTM autoencoder.")] = 6,
    chunks_per_epoch: Annotated[int, typer.Option(min=2, help="Chunks of 2 s in one epoch of the autoencoder.")] = 320,
    epochs: Annotated[int, typer.Option(min=1, help="At most this many epochs of the dual Transformer.")] = 80,
    video_baseline: Annotated[
        list[VideoNetwork] | None,
        typer.Option(help="Also train this video network on the same split, for comparison; may be given again."),
    ] = None,
    video_size: Annotated[
        list[str] | None,
        typer.Option(
            help="Frames, height and width that video networks are shown; for one alone: r3d_18=8x112x64.", show_default="16x112x64"
        ),
    ] = None,
    video_epochs: Annotated[
        list[str] | None,
        typer.Option(
            help="At most so many epochs of video networks; for one alone: r3d_18=5.", show_default="small3d=20, r3d_18=3, swin3d_t=4"
        ),
    ] = None,
    ablations: Annotated[
        bool, typer.Option("--ablations", help="Also train the model on one modality alone, and with the other length strategies.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 0,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes that read clips.", show_default="the CPU quota")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads PyTorch computes with.", show_default="the CPU quota")] = None,
    run_dir: Annotated[Path | None, typer.Option(help="Where the log and resumable state are kept.", show_default="OUTPUT.run")] = None,
    features_dir: Annotated[Path | None, typer.Option(help="Cache of decoded clips.", show_default="RUN_DIR/features")] = None,
    device: Annotated[TrainDevice, typer.Option(help="Where to compute; auto is CUDA where there is a device.")] = TrainDevice.auto,
    precision: Annotated[Precision, typer.Option(help="What to compute in; states and losses stay float32.")] = Precision.fp32,
    memory_budget: Annotated[
        str | None,
        typer.Option(help="What an update may hold, such as 2GiB or 800MB: picks micro-batches; gradients stay those of the whole batch."),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also log to RUN_DIR/tensorboard; needs the tensorboard extra.")
    ] = False,
    source: Annotated[str | None, typer.Option(help="One sentence on what the clips are, for the model's card.")] = None,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="Go on where an interrupted run stopped.")] = True,
    whisper: WhisperOption = None,
    force: ForceOption = False,
) -> None:
    """Train the autoencoder on the pictures, then the dual Transformer on the target.

    An interrupted run goes on where it stopped when the same command is given again.
    """
    from .display import StageBars, class_table, coverage_table, folds_table, training_table
    from .models.dual_transformer import FusionConfig
    from .training.compute import Compute
    from .training.fit_autoencoder import AutoencoderOptions
    from .training.fit_regressor import RegressorOptions
    from .training.memory import parse_size
    from .training.train import TrainOptions
    from .training.train import train as train_model
    from .training.video_comparison import plan_videos

    compute = Compute.choose(device.value, precision.value)
    options = TrainOptions(
        target=target,
        transform=transform.value,
        seed=seed,
        source=source or f"the clips of {manifest}",
        autoencoder=AutoencoderOptions(epochs=epochs_autoencoder, chunks_per_epoch=chunks_per_epoch, compute=compute),
        fusion=FusionConfig(classes=classes, class_head=class_head.value, strategy=length.value, window_chunks=window_chunks),
        regressor=RegressorOptions(epochs=epochs, score_loss=loss, compute=compute),
        split=split,
        videos=plan_videos(
            [network.value for network in video_baseline or ()], sizes=video_size or (), epochs=video_epochs or (), compute=compute
        ),
        ablations=ablations,
        folds=folds,
        run_dir=run_dir,
        features_dir=features_dir,
        whisper=whisper,
        jobs=jobs,
        threads=threads,
        resume=resume,
        force=force,
        tensorboard=tensorboard,
        memory_budget=None if memory_budget is None else parse_size(memory_budget),
    )
    with StageBars() as bars:
        report = train_model(manifest, output, options=options, progress=bars.show, say=say)
    for failed in report.failed:
        say(f"left out {failed.id}: {failed.reason}")
    if report.cross_validation is not None:
        console().print(folds_table(report.cross_validation.to_card()))
        say(f"wrote {report.run_dir / 'folds' / 'report.json'}")
    told = report.to_json()
    held_out = told["held_out"]
    console().print(training_table(held_out, told["baselines"]), class_table(told["classes"], held_out), coverage_table(held_out))
    if tensorboard:
        say(f"to see the curves: tensorboard --logdir {report.run_dir}")
    say(f"wrote {output}; next: shortcast export {output} -o {output}.shortcast")


@app.command(
    epilog="Examples:\n\n  shortcast evaluate my-model clips/manifest.jsonl -o my-model.report\n\n"
    "  shortcast evaluate my-model clips/manifest.jsonl -o my-model.report --by language --outliers"
)
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint directory.", show_default=False)],
    manifest: Annotated[Path, typer.Argument(help="JSON lines: one clip a line, with its path and its counts.", show_default=False)],
    part: Annotated[Part, typer.Option(help="Which clips; the model's own manifest is split as it was at training.")] = Part.test,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the page and the JSON.", show_default=False)] = None,
    by: Annotated[
        list[str] | None, typer.Option(help="Also evaluate each value of this column of the manifest; may be given again.")
    ] = None,
    outliers: Annotated[bool, typer.Option("--outliers", help="Add every loss of every predictor with and without the top clips.")] = False,
    outliers_top: Annotated[str, typer.Option(help="Percentages of the clips farthest out that are left out.")] = "1,5,10",
    resamples: Annotated[int, typer.Option(min=1, help="Draws of the bootstrap, by author.")] = 1000,
    seed: Annotated[int, typer.Option(help="Decides the draws.")] = 0,
    run_dir: Annotated[
        Path | None, typer.Option(help="The model's training run, for its baselines.", show_default="CHECKPOINT.run")
    ] = None,
    features_dir: Annotated[Path | None, typer.Option(help="Cache of decoded clips.", show_default="RUN_DIR/features")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes that read clips.", show_default="the CPU quota")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads PyTorch computes with.", show_default="the CPU quota")] = None,
    whisper: WhisperOption = None,
    force: ForceOption = False,
) -> None:
    """Measure a checkpoint on clips, with confidence intervals, and write a report that any browser opens."""
    from .display import StageBars, evaluation_table
    from .training.evaluate import EvaluateOptions, evaluate_checkpoint
    from .training.report import write_report

    if output is not None and output.exists() and not force:
        raise DataError(f"{output} exists; give --force to replace it")
    options = EvaluateOptions(
        resamples=resamples,
        seed=seed,
        by=tuple(by or ()),
        outliers=_percentages(outliers_top) if outliers else (),
        run_dir=run_dir,
        features_dir=features_dir,
        whisper=whisper,
        jobs=jobs,
        threads=threads,
    )
    with StageBars() as bars:
        report = evaluate_checkpoint(checkpoint, manifest, part=part.value, options=options, progress=bars.show)
    for failed in report.failed:
        say(f"left out {failed.id}: {failed.reason}")
    for absent in report.absent:
        say(f"not compared with {absent.predictor}: {absent.why}")
    if report.overlap.warning:
        say(f"warning: {report.overlap.warning}")
    console().print(evaluation_table(report))
    if output is not None:
        say(f"wrote {write_report(report, output, force=force)}")


def _percentages(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(one) for one in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"expected percentages such as 1,5,10, got {text!r}", param_hint="--outliers-top") from error


@app.command(epilog="Example:\n\n  shortcast export my-model -o my-model.shortcast")
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint directory.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The bundle directory to make.", show_default=False)],
    golden: Annotated[Path | None, typer.Option(help="Clip whose first chunks become the golden data.", show_default="the sample")] = None,
    whisper: WhisperOption = None,
    force: ForceOption = False,
) -> None:
    """Export a checkpoint to a bundle and prove it equal to PyTorch; outside tolerance no bundle is left and the exit code is 3."""
    from .display import parity_table
    from .export.exporter import ExportOptions, export_bundle

    clip = golden or Path(__file__).parent / "samples" / "sample.mp4"
    options = ExportOptions(golden_clip=clip, whisper=whisper, force=force, command=shlex.join(["shortcast", *sys.argv[1:]]))
    rows = export_bundle(checkpoint, output, options, say=say)
    console().print(parity_table(rows))
    say(f"wrote {output}")


@app.command(epilog="Examples:\n\n  shortcast verify my-model.shortcast\n\n  shortcast verify my-model.shortcast --no-sound")
def verify(
    bundle: Annotated[Path, typer.Argument(help="The bundle to prove.", show_default=False)],
    engine: EngineOption = Backend.auto,
    device: DeviceOption = Device.cpu,
    whisper: WhisperOption = None,
    sound: Annotated[bool, typer.Option("--sound/--no-sound", help="Also prove the stages that need Whisper weights.")] = True,
) -> None:
    """Check every byte of a bundle, then re-run its golden clip on this machine and compare with what PyTorch gave."""
    from .display import parity_table
    from .runtime.bundle import Bundle
    from .runtime.parity import require_parity
    from .runtime.verify import verify as verify_bundle

    opened = Bundle.open(bundle)
    rows = list(verify_bundle(opened, backend=_backend(engine), device=device.value, whisper=whisper, sound=sound))
    console().print(parity_table(rows))
    require_parity(rows)
    checked = "every file and every stage agree" if sound else "every file and the stages without sound agree"
    say(f"{bundle}: {checked} with what the exporting machine measured")


@app.command(epilog="Example:\n\n  shortcast inspect my-model.shortcast")
def inspect(
    bundle: Annotated[Path | None, typer.Argument(help="The bundle to look into.", show_default="the demo bundle")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Print what is in a bundle, what it was trained on, how it did, and its parity report."""
    from .display import bundle_tables
    from .runtime.bundle import Bundle, demo_bundle

    opened = Bundle.open(bundle or demo_bundle())
    if as_json:
        print(opened.manifest.dumps(), end="")
        return
    for table in bundle_tables(opened):
        console().print(table, "")


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
