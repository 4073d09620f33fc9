"""`shortcast train` and `shortcast evaluate`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from .cli_options import ForceOption, WhisperOption
from .errors import DataError
from .terminal import console, say

train_app = typer.Typer()


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


@train_app.command(
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
    accumulate: Annotated[
        int, typer.Option(min=1, help="Micro-batches whose gradients make one update: less memory, more time.", show_default=True)
    ] = 1,
    backprop_chunks: Annotated[
        int, typer.Option(min=1, max=2, help="Consecutive chunks that gradients of the autoencoder flow through.")
    ] = 1,
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
    from .display import StageBars
    from .display_card import class_table, coverage_table, folds_table, training_table
    from .models.dual_transformer import FusionConfig
    from .training.compute import Compute
    from .training.fit_autoencoder import AutoencoderOptions
    from .training.fit_regressor import RegressorOptions
    from .training.memory import parse_size
    from .training.train import train as train_model
    from .training.train_options import TrainOptions
    from .training.video_comparison import plan_videos

    compute = Compute.choose(device.value, precision.value)
    options = TrainOptions(
        target=target,
        transform=transform.value,
        seed=seed,
        source=source or f"the clips of {manifest}",
        autoencoder=AutoencoderOptions(
            epochs=epochs_autoencoder,
            chunks_per_epoch=chunks_per_epoch,
            accumulate=accumulate,
            backprop_chunks=backprop_chunks,
            compute=compute,
        ),
        fusion=FusionConfig(classes=classes, class_head=class_head.value, strategy=length.value, window_chunks=window_chunks),
        regressor=RegressorOptions(epochs=epochs, score_loss=loss, accumulate=accumulate, compute=compute),
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


@train_app.command(
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
    from .display import StageBars
    from .display_card import evaluation_table
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
