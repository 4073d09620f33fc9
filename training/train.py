"""From a manifest of clips to a checkpoint: features, autoencoder, embeddings, regressor, held-out figures. The parts meet here."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .. import __version__
from ..errors import CheckpointError, DataError
from ..models.autoencoder import ConvLSTMAutoencoder
from ..models.checkpoint import Checkpoint, save_checkpoint
from ..models.dual_transformer import DualTransformer
from ..runtime.cpu import available_cpus
from ..runtime.intervals import ConformalIntervals
from ..runtime.settling import Settling
from ..runtime.target import Target
from ..runtime.whisper import WhisperWeights, resolve_whisper
from .ablations import TrainedVariant, TrainingClips, train_variant, variant_identity, variants
from .baseline_file import FittedBaselines, save_baselines
from .baselines import Baseline, BaselineFigures, UnlabelledClips, fit_baselines
from .clips import read_manifest
from .conformal import fit_intervals
from .cross_validate import CrossValidation, FoldOptions, FoldResult, cross_validate, fold_kind, fold_splits
from .dataset import FailedClip, FeatureStore, ReadyClip, StoredClips, file_sha256, prepare_features
from .embed import embed_clip
from .evaluation import Evaluation, evaluate, final_scores, predict, predict_all
from .fit_autoencoder import STAGE as AUTOENCODER
from .fit_autoencoder import AutoencoderReport, fit_autoencoder, plan_autoencoder
from .fit_regressor import STAGE as REGRESSOR
from .fit_regressor import RegressorReport, fit_regressor, plan_regressor
from .labelled import EmbeddedClip, LabelledClips
from .metrics import both_spaces
from .near_duplicates import Cluster, cluster_names, near_duplicates
from .overlap import TRAINED_CLIPS_FILE, TrainedClips
from .run import Progress, ProgressEvent, RunDirectory, State, run_identity, silent, torch_threads
from .settled import settling_of
from .splits import Split, crossings_of, leakage_of_split, split_clips
from .studies import FITTED, VIDEO, Predictor
from .targets import fit_target, target_values
from .tensorboard import mirrored, require_tensorboard
from .train_options import TrainOptions
from .train_report import TargetClasses, TrainReport
from .video_comparison import TrainedVideo, VideoClips, train_video, video_identity


def train(
    manifest: Path,
    out: Path,
    *,
    options: TrainOptions | None = None,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda _: None,
) -> TrainReport:
    """Trains a model and writes its checkpoint.

    It can be killed at any point: run again with the same options, it goes on after the last whole epoch (no decoded clip is decoded
    again) and ends with the numbers of a run that was never stopped.

    Args:
        manifest: JSONL of clips, see `training.clips`.
        out: the checkpoint directory to make.
        options: see `TrainOptions`; None takes its defaults.
        progress: called as every stage goes on.
        say: is given a sentence on the split, on everything that is on two sides of it, and on the cache, before training starts.

    Raises:
        DataError: the manifest, a label or the split cannot be used; no clip of a part of the split can be read; or the run directory
            holds another run.
        EngineError: the device or precision that the stages' options name is not there.
        CheckpointError: `out` exists and `force` is not given.
        WeightsError: the Whisper weights are not found.
    """
    options = options or TrainOptions()
    if out.exists() and not options.force:
        raise CheckpointError(f"{out} exists; give --force to replace it")
    if options.tensorboard:
        require_tensorboard()
    work = _Work(manifest, out, options, progress, say)
    with torch_threads(options.threads or available_cpus()):
        work.read_clips()
        for sentence in work.about_the_clips():
            say(sentence)
        folds = work.cross_validate()
        with work.logged():
            autoencoder = work.fit_autoencoder()
            work.embed_clips()
            regressor = work.fit_regressor()
        work.fit_baselines()
        work.train_variants()
        work.train_videos()
        work.fit_intervals()
        held_out = work.evaluate()
    report = work.report(autoencoder, regressor, held_out, folds)
    save_checkpoint(work.checkpoint(report), out, force=options.force, beside={TRAINED_CLIPS_FILE: work.trained_clips().dumps()})
    return report


class _Work:
    """What a run has in hand as it goes from stage to stage."""

    run: RunDirectory
    target: Target
    clips: dict[str, list[ReadyClip]]
    failed: list[FailedClip]
    embedded: dict[str, EmbeddedClip]
    baselines: tuple[Baseline, ...]
    variants: tuple[TrainedVariant, ...]
    videos: tuple[TrainedVideo, ...]
    intervals: ConformalIntervals
    settling: Settling | None

    def __init__(self, manifest: Path, out: Path, options: TrainOptions, progress: Progress, say: Callable[[str], None]) -> None:
        """Reads what is cheap to read, so that a wrong label is found before any clip is decoded."""
        self.manifest = manifest
        self.manifest_sha256 = _manifest_sha256(manifest)
        self.rows = {row.id: row for row in read_manifest(manifest)}
        self.out = out
        self.options = _with_whisper_hash(options)
        self.progress = progress
        self.say = say
        self.run_dir = options.run_dir or out.with_name(f"{out.name}.run")
        self.features_dir = options.features_dir or self.run_dir / "features"
        self.near_duplicates: tuple[Cluster, ...] = ()
        self.split = self._split()
        self.values = target_values(self.rows.values(), options.target)
        self._fit_target(self.split.train)
        if options.folds is not None:
            fold_splits(list(self.rows.values()), self._fold_options(), near={})  # refuses what cannot be dealt
        self.seconds: dict[str, float] = {}

    def read_clips(self) -> None:
        """Features of every clip, and the split that they decide; then the run directory, whose configuration names the clips that
        could be read.
        """
        with self._timed("features"):
            self.progress(ProgressEvent("features", 0, len(self.rows)))
            ready, self.failed = prepare_features(
                {row.id: row.path for row in self.rows.values()},
                self.features_dir,
                contract=self.options.contract,
                whisper=self._whisper(),
                jobs=self.options.jobs or available_cpus(),
                on_clip=lambda done, total: self.progress(ProgressEvent("features", done, total)),
            )
        self.store = FeatureStore(self.features_dir, self.options.contract)
        with self._timed("near-duplicates"):
            self.near_duplicates = self._find_near_duplicates(ready)
        self.split = self._split()
        self.clips = _by_part(self.split, ready, self.failed)
        self._fit_target([clip.id for clip in self.clips["train"]])
        self.run = RunDirectory.open(self.run_dir, self._config(), resume=self.options.resume)
        self.seconds = {stage: self.run.add_seconds(stage, spent) for stage, spent in self.seconds.items()}
        self.run.rewrite_log(AUTOENCODER, REGRESSOR)

    def about_the_clips(self) -> Iterator[str]:
        """What whoever trains should know of the clips beforehand, in sentences."""
        counts = ", ".join(f"{len(clips)} {part}" for part, clips in self.clips.items())
        yield f"split {self.split.kind}: {counts} clips"
        yield from leakage_of_split(list(self.rows.values()), self.split, cluster_names(self.near_duplicates))
        if not self.near_duplicates:
            yield "no clip shows the pictures of another"
        size = self.store.size_bytes({clip.sha256 for part in self.clips.values() for clip in part})
        yield f"features of these clips take {size / 1e6:,.0f} MB in {self.features_dir}"

    def logged(self) -> AbstractContextManager[None]:
        """While it lasts, the log is mirrored where that was asked for."""
        return mirrored(self.run) if self.options.tensorboard else nullcontext()

    def fit_autoencoder(self) -> AutoencoderReport:
        """Trains the autoencoder, or takes up the one that was being trained."""
        with self._timed("autoencoder"), _seeded(self.options.seed):
            self.autoencoder = ConvLSTMAutoencoder.from_configs(self.options.encoder, self.options.decoder)
            self._plan_autoencoder()
            return fit_autoencoder(
                self.autoencoder,
                StoredClips(self.store, self.clips["train"]),
                StoredClips(self.store, self.clips["val"]),
                options=self.options.autoencoder,
                seed=self.options.seed,
                run=self.run,
                progress=self.progress,
            )

    def embed_clips(self) -> None:
        """Embeds every clip with the trained encoder, once."""
        clips = [clip for part in self.clips.values() for clip in part]
        with self._timed("embed"):
            saved = self.run.load_state("embeddings")
            visual = saved.tensors["visual"].numpy() if saved else self._embed(clips)
            if saved is None:
                self.run.save_state("embeddings", State({"visual": torch.from_numpy(visual)}, {}))
            starts = np.cumsum([0, *(clip.chunks for clip in clips)])
            self.embedded = {
                clip.id: self._embedded(clip, visual[start : start + clip.chunks]) for clip, start in zip(clips, starts[:-1], strict=True)
            }

    def fit_regressor(self) -> RegressorReport:
        """Trains the dual Transformer, or takes up the one that was being trained."""
        options = self.options
        fusion = replace(
            options.fusion,
            visual_dim=options.encoder.embedding_dim,
            audio_dim=options.contract.sound.embedding_dim,
            classes=self.target.classes,
        )
        with self._timed("regressor"), _seeded(options.seed):
            self.fusion = DualTransformer(fusion)
            self._plan_regressor()
            return fit_regressor(
                self.fusion,
                self._labelled("train"),
                self._labelled("val"),
                options=self.options.regressor,
                seed=options.seed,
                run=self.run,
                progress=self.progress,
            )

    def fit_baselines(self) -> None:
        """Fits what needs no training loop, and keeps it in the run directory for later evaluations."""
        authors = [self.rows[clip.id].author for clip in self.clips["train"]]
        with self._timed("baselines"):
            self.baselines = fit_baselines(self._labelled("train"), authors)
            save_baselines(self.run_dir, FittedBaselines(run_identity(self._config()), len(authors), self.baselines))

    def train_variants(self) -> None:
        """Trains the variants of the dual Transformer that were asked for, or takes up what is there of them."""
        options, clips = self.options, TrainingClips(self._labelled("train"), self._labelled("val"))
        with self._timed("ablations"):
            self.variants = tuple(
                train_variant(
                    self.run_dir,
                    variant,
                    clips,
                    options=options.regressor,
                    seed=options.seed,
                    resume=options.resume,
                    progress=self.progress,
                )
                for variant in (variants(self.fusion.config) if options.ablations else ())
            )

    def train_videos(self) -> None:
        """Trains the video networks that were asked for, or takes up what is there of them."""
        train, val = (VideoClips(self.store, self.clips[part], self._labelled(part).z) for part in ("train", "val"))
        options = self.options
        with self._timed("video networks"):
            self.videos = tuple(
                train_video(self.run_dir, plan, train, val, seed=options.seed, resume=options.resume, progress=self.progress)
                for plan in options.videos
            )

    def fit_intervals(self) -> None:
        """Calibrates the predicted intervals on the validation clips, and when they are settled."""
        with self._timed("intervals"):
            validation = self._labelled("val")
            predictions = predict(self.fusion, validation.clips)
            self.intervals = fit_intervals(predictions, validation.z, self.fusion.config.quantile_levels)
            self.settling = settling_of(predictions, self.intervals)

    def evaluate(self) -> Evaluation:
        """Looks at the test split, for the first and only time."""
        with self._timed("evaluate"):
            return evaluate(self.fusion, self._labelled("test"), self.target, self.intervals)

    def cross_validate(self) -> CrossValidation | None:
        """Trains on every other part of the clips first, if that was asked for, each part in a run directory of its own."""
        if self.options.folds is None:
            return None
        there = {clip.id for part in self.clips.values() for clip in part}
        rows = [row for row in self.rows.values() if row.id in there]
        with self._timed("folds"):
            return cross_validate(
                rows,
                options=self._fold_options(),
                values=self.values,
                target=self.target,
                fit=self._fit_fold,
                report=self.run_dir / "folds" / "report.json",
                near=cluster_names(self.near_duplicates),
            )

    def _fold_options(self) -> FoldOptions:
        return FoldOptions(self.options.folds or 0, fold_kind(self.options.split, list(self.rows.values())), self.options.seed)

    def _fit_fold(self, number: int, split: Split) -> FoldResult:
        fold = copy(self)
        fold.split, fold.seconds = split, {}
        fold.progress = lambda event: self.progress(replace(event, stage=f"fold {number}/{self.options.folds} {event.stage}"))
        fold.clips = _by_part(split, [clip for part in self.clips.values() for clip in part], self.failed)
        fold._fit_target([clip.id for clip in fold.clips["train"]])
        fold.run = RunDirectory.open(self.run_dir / "folds" / str(number), fold._config(), resume=self.options.resume)
        fold.run.rewrite_log(AUTOENCODER, REGRESSOR)
        with fold.logged():
            fold.fit_autoencoder()
            fold.embed_clips()
            fold.fit_regressor()
        predictions = predict_all(fold.fusion, fold._labelled("test").clips)
        return FoldResult(fold.target, fold.fusion.config.quantile_levels, predictions)

    def report(
        self, autoencoder: AutoencoderReport, regressor: RegressorReport, held_out: Evaluation, folds: CrossValidation | None
    ) -> TrainReport:
        seconds_of_media = sum(clip.duration_s for part in self.clips.values() for clip in part)
        return TrainReport(
            checkpoint=self.out,
            run_dir=self.run_dir,
            classes=TargetClasses(self.options.fusion.classes, self.target.class_sizes(self._values("train"))),
            split=self.split.kind,
            crossings=crossings_of(list(self.rows.values()), self.split, cluster_names(self.near_duplicates)),
            near_duplicates=self.near_duplicates,
            clips={part: len(clips) for part, clips in self.clips.items()},
            hours=seconds_of_media / 3600,
            failed=tuple(self.failed),
            autoencoder=autoencoder,
            regressor=regressor,
            held_out=held_out,
            baselines=self._held_out_baselines(),
            cross_validation=folds,
            seconds=self.seconds,
        )

    def checkpoint(self, report: TrainReport) -> Checkpoint:
        """The model, and a card that says what it was trained on and what it is worth."""
        told = report.to_json()
        card = {
            "source": self.options.source,
            "manifest": self.manifest.name,
            "manifest_sha256": self.manifest_sha256,
            "target": self.options.target,
            "seed": self.options.seed,
            **{key: told[key] for key in ("classes", "split", "crossings", "near_duplicates", "hours")},
            **{key: told[key] for key in ("autoencoder", "regressor", "held_out", "baselines", "cross_validation", "seconds")},
            "run_sha256": run_identity(self._config()),
            "ablations": {one.variant.name: variant_identity(self.run_dir, one.variant.name) for one in self.variants},
            "video_networks": {video.name: video_identity(self.run_dir, video.name) for video in self.videos},
            "clips_left_out": len(self.failed),
            "options": {name: asdict(getattr(self.options, name)) for name in ("autoencoder", "regressor")},
            "versions": _versions(),
        }
        return Checkpoint(self.autoencoder, self.fusion, self.options.contract, self.target, card, self.intervals, self.settling)

    def trained_clips(self) -> TrainedClips:
        """The content of the clips that the model was made with."""
        return TrainedClips.of(self.clips["train"], self.clips["val"])

    def _held_out_baselines(self) -> tuple[BaselineFigures, ...]:
        labelled = self._labelled("test")
        clips = UnlabelledClips(labelled.clips, [self.rows[clip.id].author for clip in self.clips["test"]])
        found = [
            *(Predictor(one.name, FITTED, one.predict(clips)) for one in self.baselines),
            *(Predictor(one.variant.predictor, one.variant.kind, final_scores(one.predict(labelled.clips))) for one in self.variants),
            *(Predictor(video.name, VIDEO, video.predict(self.store, self.clips["test"])) for video in self.videos),
        ]
        return tuple(BaselineFigures(one.name, one.kind, both_spaces(self.target, labelled.z, one.scores)) for one in found)

    def _split(self) -> Split:
        """By near-duplicates as far as they are known: at first nobody has looked at a picture."""
        near = cluster_names(self.near_duplicates)
        return split_clips(list(self.rows.values()), seed=self.options.seed, kind=self.options.split, near=near)

    def _find_near_duplicates(self, ready: Sequence[ReadyClip]) -> tuple[Cluster, ...]:
        self.progress(ProgressEvent("compare", 0, len(ready)))
        return near_duplicates(
            ready,
            self.store,
            fps=self.options.contract.picture.fps,
            on_clip=lambda done, total: self.progress(ProgressEvent("compare", done, total)),
        )

    def _fit_target(self, ids: Sequence[str]) -> None:
        options, values = self.options, [self.values[clip] for clip in ids]
        self.target = fit_target(values, name=options.target, transform=options.transform, classes=options.fusion.classes)

    def _whisper(self) -> WhisperWeights:
        return resolve_whisper(self.options.contract.sound.whisper, explicit=self.options.whisper)

    def _config(self) -> dict[str, Any]:
        clips = hashlib.sha256("".join(f"{clip.id}\t{clip.sha256}\n" for part in self.clips.values() for clip in part).encode())
        return {
            "manifest": {"name": self.manifest.name, "sha256": self.manifest_sha256},
            "clips_sha256": clips.hexdigest(),
            "clips_left_out": [asdict(clip) for clip in self.failed],
            "split": {"kind": self.split.kind, **{part: [clip.id for clip in clips] for part, clips in self.clips.items()}},
            "options": self.options.decisive(),
            "versions": _versions(),
        }

    def _plan_autoencoder(self) -> None:
        if self.options.memory_budget is not None:
            plan = plan_autoencoder(self.autoencoder, self.options.autoencoder, self.options.memory_budget)
            self.say(f"{AUTOENCODER}: {plan}")
            kept = replace(self.options.autoencoder, accumulate=plan.accumulate, checkpoint_steps=plan.checkpoint_steps)
            self.options = replace(self.options, autoencoder=kept)

    def _plan_regressor(self) -> None:
        if self.options.memory_budget is not None:
            longest = max(clip.chunks for part in self.clips.values() for clip in part)
            plan = plan_regressor(self.fusion, self.options.regressor, self.options.memory_budget, chunks=longest)
            self.say(f"{REGRESSOR}: {plan}")
            self.options = replace(self.options, regressor=replace(self.options.regressor, accumulate=plan.accumulate))

    def _embed(self, clips: Sequence[ReadyClip]) -> NDArray[np.float32]:
        self.progress(ProgressEvent("embed", 0, len(clips)))
        self.autoencoder.eval()
        rows = []
        with self.options.autoencoder.compute.hosting(self.autoencoder.encoder):
            for done, clip in enumerate(clips, start=1):
                rows.append(embed_clip(self.autoencoder.encoder, self.store.load(clip.sha256)))
                self.progress(ProgressEvent("embed", done, len(clips)))
        return np.concatenate(rows)

    def _embedded(self, clip: ReadyClip, visual: NDArray[np.float32]) -> EmbeddedClip:
        features = self.store.load(clip.sha256)
        return EmbeddedClip(visual, features.picture_mask, features.sound, features.sound_mask, features.end_s)

    def _labelled(self, part: str) -> LabelledClips:
        values = self._values(part)
        clips = [self.embedded[clip.id] for clip in self.clips[part]]
        return LabelledClips(clips, self.target.standardise(values), self.target.class_of(values))

    def _values(self, part: str) -> NDArray[np.float64]:
        return np.array([self.values[clip.id] for clip in self.clips[part]])

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        """Counts the time of a stage, also where it is interrupted, together with what earlier processes spent on it."""
        started = perf_counter()
        try:
            yield
        finally:
            spent = perf_counter() - started
            self.seconds[stage] = self.run.add_seconds(stage, spent) if hasattr(self, "run") else spent


def _with_whisper_hash(options: TrainOptions) -> TrainOptions:
    weights = resolve_whisper(options.contract.sound.whisper, explicit=options.whisper)
    sound = replace(options.contract.sound, whisper_sha256=weights.sha256())
    return replace(options, contract=replace(options.contract, sound=sound))


def _manifest_sha256(manifest: Path) -> str:
    try:
        return file_sha256(manifest)
    except OSError as error:
        raise DataError(f"manifest {manifest} cannot be read: {error}") from error


def _by_part(split: Split, ready: Sequence[ReadyClip], failed: Sequence[FailedClip]) -> dict[str, list[ReadyClip]]:
    found = {clip.id: clip for clip in ready}
    parts = {
        name: [found[clip] for clip in ids if clip in found]
        for name, ids in (("train", split.train), ("val", split.val), ("test", split.test))
    }
    for name, clips in parts.items():
        if not clips:
            reason = f"; the first that failed, {failed[0].id!r}: {failed[0].reason}" if failed else ""
            raise DataError(f"no clip of the {name} split can be read{reason}")
    return parts


def _versions() -> dict[str, str]:
    return {"shortcast": __version__, "torch": str(torch.__version__), "numpy": np.__version__, "python": platform.python_version()}


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds PyTorch's generator for a stage, and gives the caller's back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
