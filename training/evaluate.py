"""From a checkpoint and a manifest to an evaluation report: the features of training, every prefix predicted, intervals on every figure.

shortcast evaluate my-model clips/manifest.jsonl -o my-model.report
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import DataError
from ..models.checkpoint import Checkpoint, checkpoint_sha256, load_checkpoint
from ..runtime.cpu import available_cpus
from ..runtime.whisper import resolve_whisper
from .ablations import variants
from .baselines import UnlabelledClips
from .bootstrap import Bootstrap
from .clips import SPLITS, ClipRow, read_manifest
from .companions import Companions, TrainingRun, fitted_baselines, model_variants, video_networks
from .dataset import FailedClip, FeatureStore, ReadyClip, file_sha256, prepare_features
from .embed import embed_clip
from .evaluation import Prediction, Predictions, evaluate_predictions, final_scores, predict_all, with_margins
from .evaluation_report import ClipFigures, EvaluationReport
from .labelled import EmbeddedClip, LabelledClips
from .metrics import standardised_space
from .networks import length_figures, network_figures
from .outlier_errors import outlier_errors, outlier_sensitivity
from .overlap import Overlap, TrainedClips, find_overlap
from .reconstruction import Reconstruction, reconstruct
from .run import Progress, ProgressEvent, silent, torch_threads
from .splits import Split, split_clips
from .studies import (
    FITTED,
    MASKED,
    MODEL,
    TRAIN_MEAN,
    WHOLE,
    CoverageFigures,
    Predictor,
    calibration,
    coverage_figures,
    predictor_figures,
    prefix_figures,
)
from .subsets import require_columns, subset_figures, subsets
from .targets import target_values

PARTS = (*SPLITS, "all")


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """How an evaluation is made."""

    resamples: int = 1000
    """Draws of the bootstrap."""
    level: float = 0.95
    """Confidence level of every interval."""
    seed: int = 0
    """Decides the draws."""
    examples: int = 3
    """Clips shown with what the autoencoder makes of them."""
    by: tuple[str, ...] = ()
    """Columns of the manifest whose values are evaluated apart as well."""
    outliers: tuple[float, ...] = ()
    """Percentages of clips farthest out, without which every loss of every predictor is given; none: no such study."""
    run_dir: Path | None = None
    """The training run, with its baselines and the ids of its clips; None takes the checkpoint's name with `.run` added, if there."""
    features_dir: Path | None = None
    """Cache of decoded clips; None takes `features` in the run directory."""
    whisper: Path | None = None
    """A directory with the Whisper weights; None looks in the usual places."""
    jobs: int | None = None
    """Processes that decode clips; None takes one per CPU."""
    threads: int | None = None
    """Threads PyTorch computes with; None takes one per CPU."""

    def __post_init__(self) -> None:
        for percent in self.outliers:
            if not 0 < percent < 100:
                raise DataError(f"outliers: expected percentages between 0 and 100, got {percent:g}")


def evaluate_checkpoint(
    checkpoint: Path,
    manifest: Path,
    *,
    part: str = "test",
    options: EvaluateOptions = EvaluateOptions(),
    progress: Progress = silent,
) -> EvaluationReport:
    """Measures a checkpoint on the clips of a manifest.

    The manifest that the model was trained on is split as it was then; any other by its own `split`, or else by author.

    Args:
        checkpoint: the checkpoint directory.
        manifest: JSONL of clips, see `training.clips`; it needs the checkpoint's target.
        part: `train`, `val`, `test` or `all`.
        options: see `EvaluateOptions`.
        progress: called as clips are read and embedded.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        DataError: the manifest, a label, the split or a column cannot be used, the part is unknown, none of its clips can be read, or
            what the training run left is damaged.
        WeightsError: the Whisper weights are not found, or are not those of the checkpoint.
    """
    if part not in PARTS:
        raise DataError(f"part {part!r} is unknown; expected {', '.join(PARTS)}")
    loaded = load_checkpoint(checkpoint)
    sources = _Sources.read(checkpoint, manifest, loaded.card, part, options)
    values = target_values(sources.rows, loaded.target.name)
    require_columns(sources.rows, options.by)
    with torch_threads(options.threads or available_cpus()), torch.inference_mode():
        measured = _measure(loaded, sources, values, options, progress)
    return _report(loaded, sources, options, measured)


@dataclass(frozen=True, slots=True)
class _Sources:
    """The clips to look at, and what is known of them before any is opened."""

    checkpoint: Path
    manifest: Path
    manifest_sha256: str
    rows: list[ClipRow]
    part: str
    split: Split | None
    """None where all clips of another manifest are taken."""
    same: bool
    """The manifest is the one the model was trained on."""
    run: TrainingRun
    trained: TrainedClips | None
    features_dir: Path

    @classmethod
    def read(cls, checkpoint: Path, manifest: Path, card: Mapping[str, Any], part: str, options: EvaluateOptions) -> _Sources:
        rows = read_manifest(manifest)
        sha256 = file_sha256(manifest)
        run = TrainingRun.beside(card, options.run_dir or checkpoint.with_name(f"{checkpoint.name}.run"))
        same = sha256 == card.get("manifest_sha256")
        kind = _kind_of(card) if same else "auto"
        near = _near_of(card) if same else None
        split = split_clips(rows, seed=int(card.get("seed", 0)), kind=kind, near=near) if same or part != "all" else None
        chosen = [row for row in rows if part == "all" or (split is not None and row.id in getattr(split, part))]
        features_dir = options.features_dir or run.path / "features"
        return cls(checkpoint, manifest, sha256, chosen, part, split, same, run, TrainedClips.read(checkpoint), features_dir)

    @property
    def split_name(self) -> str:
        return "not split" if self.part == "all" or self.split is None else self.split.kind

    def overlap(self, clips: Sequence[ReadyClip]) -> Overlap:
        """How many of the clips had a part in training."""
        return find_overlap(clips, trained=self.trained, split=self.split if self.same else None, run=self.run.config)


@dataclass(frozen=True, slots=True)
class _Measured:
    """What was said of the clips that could be read."""

    ready: list[ReadyClip]
    rows: list[ClipRow]
    """Of the same clips."""
    failed: list[FailedClip]
    labelled: LabelledClips
    predictions: Predictions
    companions: Companions
    reconstructions: tuple[Reconstruction, ...]

    def predictors(self) -> tuple[Predictor, ...]:
        """The model, and everything it is compared with."""
        said = self.predictions
        return (
            Predictor(MODEL, WHOLE, final_scores(said.whole)),
            Predictor("pictures alone", MASKED, final_scores(said.pictures_alone)),
            Predictor("sound alone", MASKED, final_scores(said.sound_alone)),
            Predictor(TRAIN_MEAN, FITTED, np.zeros(len(self.ready))),
            *self.companions.predictors,
        )

    def bootstrap(self, options: EvaluateOptions, kept: NDArray[np.bool_] | None = None) -> Bootstrap:
        """Draws authors of all clips, or of those kept, bool (clips,)."""
        authors = [row.author for place, row in enumerate(self.rows) if kept is None or kept[place]]
        return Bootstrap(authors, resamples=options.resamples, level=options.level, seed=options.seed)


def _measure(loaded: Checkpoint, sources: _Sources, values: Mapping[str, float], options: EvaluateOptions, progress: Progress) -> _Measured:
    ready, failed = _read_clips(sources, loaded, options, progress)
    by_id = {row.id: row for row in sources.rows}
    rows = [by_id[clip.id] for clip in ready]
    store = FeatureStore(sources.features_dir, loaded.contract)
    labelled = _label(loaded, store, ready, np.array([values[clip.id] for clip in ready]), progress)
    companions = fitted_baselines(sources.run, UnlabelledClips(labelled.clips, [row.author for row in rows]))
    companions += model_variants(sources.run, loaded.card, variants(loaded.fusion.config), labelled.clips)
    companions += video_networks(sources.run, loaded.card, store, ready)
    redrawn = (reconstruct(loaded.autoencoder, clip.id, store.load(clip.sha256)) for clip in _spread(ready, options.examples))
    reconstructions = tuple(one for one in redrawn if one is not None)
    return _Measured(ready, rows, failed, labelled, predict_all(loaded.fusion, labelled.clips), companions, reconstructions)


def _kind_of(card: Mapping[str, Any]) -> str:
    """How training split its manifest, as `split_clips` takes it."""
    name = str(card.get("split", {}).get("kind", ""))
    known = {"given by the manifest": "manifest", "by time": "time", "random": "random"}
    return "+".join(name.removeprefix("grouped by ").split(" and ")) if name.startswith("grouped by ") else known.get(name, "auto")


def _near_of(card: Mapping[str, Any]) -> dict[str, str] | None:
    """The near-duplicates that training found; None where it did not look at pictures."""
    found = card.get("near_duplicates")
    return None if found is None else {clip: cluster["clips"][0] for cluster in found for clip in cluster["clips"]}


def _read_clips(
    sources: _Sources, loaded: Checkpoint, options: EvaluateOptions, progress: Progress
) -> tuple[list[ReadyClip], list[FailedClip]]:
    progress(ProgressEvent("features", 0, len(sources.rows)))
    ready, failed = prepare_features(
        {row.id: row.path for row in sources.rows},
        sources.features_dir,
        contract=loaded.contract,
        whisper=resolve_whisper(loaded.contract.sound.whisper, explicit=options.whisper),
        jobs=options.jobs or available_cpus(),
        on_clip=lambda done, total: progress(ProgressEvent("features", done, total)),
    )
    if not ready:
        reason = f"; the first that failed, {failed[0].id!r}: {failed[0].reason}" if failed else ""
        raise DataError(f"no clip of {sources.part} can be read{reason}")
    return ready, failed


def _label(
    loaded: Checkpoint, store: FeatureStore, ready: Sequence[ReadyClip], values: NDArray[np.float64], progress: Progress
) -> LabelledClips:
    progress(ProgressEvent("embed", 0, len(ready)))
    clips = []
    for done, clip in enumerate(ready, start=1):
        features = store.load(clip.sha256)
        visual = embed_clip(loaded.autoencoder.encoder, features)
        clips.append(EmbeddedClip(visual, features.picture_mask, features.sound, features.sound_mask, features.end_s))
        progress(ProgressEvent("embed", done, len(ready)))
    return LabelledClips(clips, loaded.target.standardise(values), loaded.target.class_of(values))


def _report(loaded: Checkpoint, sources: _Sources, options: EvaluateOptions, measured: _Measured) -> EvaluationReport:
    target, card, labelled, whole = loaded.target, loaded.card, measured.labelled, measured.predictions.whole
    levels = loaded.fusion.config.quantile_levels
    bootstrap = measured.bootstrap(options)
    predictors = measured.predictors()
    parts = subsets(labelled.clips, measured.rows, options.by)
    scores = predictors[0].scores
    return EvaluationReport(
        checkpoint=sources.checkpoint.name,
        checkpoint_sha256=checkpoint_sha256(sources.checkpoint),
        manifest=sources.manifest.name,
        manifest_sha256=sources.manifest_sha256,
        part=sources.part,
        split=sources.split_name,
        target=target.name,
        space=standardised_space(target),
        authors=len(bootstrap.groups),
        resamples=options.resamples,
        level=options.level,
        seed=options.seed,
        trained_on=str(card.get("source") or "unknown: the model's card does not say"),
        trained_split=str(card.get("split", {}).get("kind", "unknown")),
        overlap=sources.overlap(measured.ready),
        failed=tuple(measured.failed),
        figures=evaluate_predictions(measured.predictions, labelled, target, levels, loaded.intervals),
        predictors=tuple(predictor_figures(predictors, labelled.z, target, bootstrap)),
        absent=measured.companions.absent,
        networks=network_figures(loaded, measured.companions),
        lengths=length_figures(loaded, whole, measured.companions, labelled.z, bootstrap),
        subsets=tuple(subset_figures(parts, scores, labelled.z, lambda kept: measured.bootstrap(options, kept))),
        by_seconds=tuple(prefix_figures(whole, labelled.z, bootstrap, chunk_s=loaded.contract.chunk_s)),
        calibration=tuple(calibration(whole, labelled.z, levels, bootstrap)),
        coverage=tuple(_coverage(loaded, whole, labelled.z, bootstrap)),
        outliers=tuple(outlier_sensitivity(scores, labelled.z, target)),
        outlier_errors=outlier_errors(predictors, labelled.z, target, percents=options.outliers) if options.outliers else None,
        clips=tuple(_clip_figures(measured, loaded)),
        reconstructions=measured.reconstructions,
        card=card,
    )


def _coverage(loaded: Checkpoint, whole: Sequence[Prediction], z: NDArray[np.float64], bootstrap: Bootstrap) -> Iterator[CoverageFigures]:
    """Of the predicted quantiles alone and, where there are any, with the conformal margins that scores come with."""
    kinds = {"as predicted": whole}
    if loaded.intervals.margins:
        kinds["with the conformal margin"] = with_margins(whole, loaded.intervals)
    for name, said in kinds.items():
        yield from coverage_figures(said, z, bootstrap, intervals=name, nominal=loaded.intervals.coverage, chunk_s=loaded.contract.chunk_s)


def _clip_figures(measured: _Measured, loaded: Checkpoint) -> Iterator[ClipFigures]:
    whole = with_margins(measured.predictions.whole, loaded.intervals)
    for clip, z, true_class, said in zip(measured.ready, measured.labelled.z, measured.labelled.classes, whole, strict=True):
        truth, predicted, low, high = loaded.target.restore([z, said.score[-1], said.quantiles[-1, 0], said.quantiles[-1, -1]]).tolist()
        yield ClipFigures(
            id=clip.id,
            duration_s=clip.duration_s,
            truth=truth,
            predicted=predicted,
            low=low,
            high=high,
            truth_z=float(z),
            predicted_z=float(said.score[-1]),
            true_class=int(true_class),
            predicted_class=int(said.predicted_class[-1]),
        )


def _spread(ready: Sequence[ReadyClip], count: int) -> list[ReadyClip]:
    """So many clips, evenly over all of them."""
    return [ready[place] for place in np.linspace(0, len(ready) - 1, min(count, len(ready))).round().astype(int)]
