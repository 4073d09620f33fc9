"""From a checkpoint and a manifest to an evaluation report: the features of training, every prefix predicted, intervals on every figure.

shortcast evaluate my-model clips/manifest.jsonl -o my-model.report
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import __version__
from ..errors import DataError
from ..models.autoencoder import ConvLSTMAutoencoder, decoded_frames
from ..models.checkpoint import Checkpoint, checkpoint_sha256, load_checkpoint
from ..runtime.cpu import available_cpus
from ..runtime.target import Target
from ..runtime.whisper import resolve_whisper
from .bootstrap import Bootstrap
from .clips import SPLITS, ClipRow, read_manifest
from .dataset import ClipFeatures, FailedClip, FeatureStore, ReadyClip, file_sha256, prepare_features
from .evaluation import (
    MODEL,
    Evaluation,
    LevelFigures,
    OutlierFigures,
    Predictions,
    PredictorFigures,
    PrefixFigures,
    calibration,
    evaluate_predictions,
    outlier_sensitivity,
    predict_all,
    predictor_figures,
    prefix_figures,
)
from .fit_autoencoder import embed_clip
from .fit_regressor import EmbeddedClip, LabelledClips
from .metrics import standardised_space
from .run import Progress, ProgressEvent, silent, torch_threads
from .splits import Split, split_clips
from .targets import target_values

PARTS = (*SPLITS, "all")
REPORT_FORMAT = 1
"""Version of the report's JSON."""
_PICTURES = 4
"""Of each example."""


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
    run_dir: Path | None = None
    """The training run, which knows the ids of its clips; None takes the checkpoint's name with `.run` added, if there."""
    features_dir: Path | None = None
    """Cache of decoded clips; None takes `features` in the run directory."""
    whisper: Path | None = None
    """A directory with the Whisper weights; None looks in the usual places."""
    jobs: int | None = None
    """Processes that decode clips; None takes one per CPU."""
    threads: int | None = None
    """Threads PyTorch computes with; None takes one per CPU."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Whether the evaluated clips had a part in training. Counts are None where nothing is known."""

    known_from: str
    """How the counts were found, or why they were not."""
    learned_from: int | None
    """Evaluated clips that the model was trained on."""
    chosen_by: int | None
    """Evaluated clips by whose loss the epoch was chosen: figures of these are a little too good as well."""


@dataclass(frozen=True, slots=True)
class ClipFigures:
    """One clip: what happened and what was predicted after the whole of it."""

    id: str
    duration_s: float
    truth: float
    """In target units, as are the next three."""
    predicted: float
    low: float
    """Lowest and highest predicted quantile."""
    high: float
    truth_z: float
    """In standardised units, as is the next one."""
    predicted_z: float
    quartile: int
    """Class 0..K-1 of the training split."""
    predicted_quartile: int


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """Some pictures of one chunk and what the autoencoder makes of them."""

    clip: str
    start_s: float
    end_s: float
    mse: float
    """Over the pictures shown, in [0, 1] pixel units."""
    original: NDArray[np.uint8]
    """uint8 (K, H, W, 3)."""
    redrawn: NDArray[np.uint8]
    """uint8 (K, H, W, 3)."""

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures."""
        return {"clip": self.clip, "start_s": self.start_s, "end_s": self.end_s, "mse": self.mse}


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """Everything that one evaluation found."""

    checkpoint: str
    checkpoint_sha256: str
    manifest: str
    manifest_sha256: str
    part: str
    """`train`, `val`, `test` or `all`."""
    split: str
    """How the clips were split, such as `grouped by author`; `not split` where all were taken."""
    target: str
    space: str
    """Name of the standardised space."""
    authors: int
    """Clusters that the bootstrap drew from: authors, and clips whose author is not known."""
    resamples: int
    level: float
    seed: int
    trained_on: str
    """The card's own sentence."""
    trained_split: str
    overlap: Overlap
    failed: tuple[FailedClip, ...]
    figures: Evaluation
    """The figures that training writes into the card, of these clips."""
    predictors: tuple[PredictorFigures, ...]
    by_seconds: tuple[PrefixFigures, ...]
    calibration: tuple[LevelFigures, ...]
    outliers: tuple[OutlierFigures, ...]
    clips: tuple[ClipFigures, ...]
    reconstructions: tuple[Reconstruction, ...]
    card: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Everything but pictures, as plain JSON with a version."""
        simple = ("checkpoint", "checkpoint_sha256", "manifest", "manifest_sha256", "part", "split", "target", "space", "authors")
        plain: dict[str, Any] = {"format": REPORT_FORMAT, "shortcast": __version__, **{name: getattr(self, name) for name in simple}}
        plain |= {"bootstrap": {"resamples": self.resamples, "level": self.level, "seed": self.seed}}
        plain |= {"trained_on": self.trained_on, "trained_split": self.trained_split, "overlap": asdict(self.overlap)}
        plain |= {"figures": self.figures.to_json(), "reconstructions": [one.to_json() for one in self.reconstructions]}
        for name in ("failed", "predictors", "by_seconds", "calibration", "outliers", "clips"):
            plain[name] = [asdict(one) for one in getattr(self, name)]
        return {**plain, "card": dict(self.card)}


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
        DataError: the manifest, a label or the split cannot be used, the part is unknown, or none of its clips can be read.
        WeightsError: the Whisper weights are not found, or are not those of the checkpoint.
    """
    if part not in PARTS:
        raise DataError(f"part {part!r} is unknown; expected {', '.join(PARTS)}")
    loaded = load_checkpoint(checkpoint)
    sources = _Sources.read(checkpoint, manifest, loaded.card, part, options)
    values = target_values(sources.rows, loaded.target.name)
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
    split: str
    overlap: Overlap
    features_dir: Path

    @classmethod
    def read(cls, checkpoint: Path, manifest: Path, card: Mapping[str, Any], part: str, options: EvaluateOptions) -> _Sources:
        rows = read_manifest(manifest)
        sha256 = file_sha256(manifest)
        run_dir = options.run_dir or checkpoint.with_name(f"{checkpoint.name}.run")
        same = sha256 == card.get("manifest_sha256")
        kind = _kind_of(card) if same else "auto"
        near = _near_of(card) if same else None
        split = split_clips(rows, seed=int(card.get("seed", 0)), kind=kind, near=near) if same or part != "all" else None
        chosen = [row for row in rows if part == "all" or (split is not None and row.id in getattr(split, part))]
        ids = {row.id for row in chosen}
        overlap = _within(ids, split) if same and split is not None else _beside(ids, _run_config(run_dir), card)
        name = "not split" if part == "all" or split is None else split.kind
        return cls(checkpoint, manifest, sha256, chosen, part, name, overlap, options.features_dir or run_dir / "features")


@dataclass(frozen=True, slots=True)
class _Measured:
    """What the model said of the clips that could be read."""

    ready: list[ReadyClip]
    failed: list[FailedClip]
    labelled: LabelledClips
    predictions: Predictions
    reconstructions: tuple[Reconstruction, ...]


def _measure(loaded: Checkpoint, sources: _Sources, values: Mapping[str, float], options: EvaluateOptions, progress: Progress) -> _Measured:
    ready, failed = _read_clips(sources, loaded, options, progress)
    store = FeatureStore(sources.features_dir, loaded.contract)
    labelled = _label(loaded, store, ready, np.array([values[clip.id] for clip in ready]), progress)
    redrawn = (_reconstruct(loaded.autoencoder, clip, store.load(clip.sha256)) for clip in _spread(ready, options.examples))
    reconstructions = tuple(one for one in redrawn if one is not None)
    return _Measured(ready, failed, labelled, predict_all(loaded.fusion, labelled.clips), reconstructions)


def _kind_of(card: Mapping[str, Any]) -> str:
    """How training split its manifest, as `split_clips` takes it."""
    name = str(card.get("split", {}).get("kind", ""))
    known = {"given by the manifest": "manifest", "by time": "time", "random": "random"}
    return "+".join(name.removeprefix("grouped by ").split(" and ")) if name.startswith("grouped by ") else known.get(name, "auto")


def _near_of(card: Mapping[str, Any]) -> dict[str, str] | None:
    """The near-duplicates that training found; None where it did not look at pictures."""
    found = card.get("near_duplicates")
    return None if found is None else {clip: cluster["clips"][0] for cluster in found for clip in cluster["clips"]}


def _run_config(run_dir: Path) -> Mapping[str, Any] | None:
    """What the training run says of its clips; None where it is not there any more."""
    try:
        found = json.loads((run_dir / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _within(ids: set[str], split: Split) -> Overlap:
    return Overlap(
        "the manifest is the one the model was trained on, split as it was then", len(ids & {*split.train}), len(ids & {*split.val})
    )


def _beside(ids: set[str], run: Mapping[str, Any] | None, card: Mapping[str, Any]) -> Overlap:
    """Another manifest: only ids can be compared, and only with a run that is this checkpoint's."""
    if run is None or run.get("manifest", {}).get("sha256") != card.get("manifest_sha256"):
        return Overlap("unknown: the manifest is not the one in the model's card, and the training run is not there to compare", None, None)
    train, val = ({*run["split"][name]} for name in ("train", "val"))
    return Overlap("clip ids, compared with those in the training run; the manifest is another one", len(ids & train), len(ids & val))


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
    target, card, labelled, predictions = loaded.target, loaded.card, measured.labelled, measured.predictions
    levels = loaded.fusion.config.quantile_levels
    authors = {row.id: row.author for row in sources.rows}
    clusters = [authors[clip.id] for clip in measured.ready]
    bootstrap = Bootstrap(clusters, resamples=options.resamples, level=options.level, seed=options.seed)
    finals = predictions.finals()
    return EvaluationReport(
        checkpoint=sources.checkpoint.name,
        checkpoint_sha256=checkpoint_sha256(sources.checkpoint),
        manifest=sources.manifest.name,
        manifest_sha256=sources.manifest_sha256,
        part=sources.part,
        split=sources.split,
        target=target.name,
        space=standardised_space(target),
        authors=len(bootstrap.groups),
        resamples=options.resamples,
        level=options.level,
        seed=options.seed,
        trained_on=str(card.get("source") or "unknown: the model's card does not say"),
        trained_split=str(card.get("split", {}).get("kind", "unknown")),
        overlap=sources.overlap,
        failed=tuple(measured.failed),
        figures=evaluate_predictions(predictions, labelled, target, levels),
        predictors=tuple(predictor_figures(finals, labelled.z, target, bootstrap)),
        by_seconds=tuple(prefix_figures(predictions.whole, labelled.z, bootstrap, chunk_s=loaded.contract.chunk_s)),
        calibration=tuple(calibration(predictions.whole, labelled.z, levels, bootstrap)),
        outliers=tuple(outlier_sensitivity(finals[MODEL], labelled.z, target)),
        clips=tuple(_clip_figures(measured, target)),
        reconstructions=measured.reconstructions,
        card=card,
    )


def _clip_figures(measured: _Measured, target: Target) -> Iterator[ClipFigures]:
    for clip, z, quartile, said in zip(
        measured.ready, measured.labelled.z, measured.labelled.classes, measured.predictions.whole, strict=True
    ):
        truth, predicted, low, high = target.restore([z, said.score[-1], said.quantiles[-1, 0], said.quantiles[-1, -1]]).tolist()
        yield ClipFigures(
            id=clip.id,
            duration_s=clip.duration_s,
            truth=truth,
            predicted=predicted,
            low=low,
            high=high,
            truth_z=float(z),
            predicted_z=float(said.score[-1]),
            quartile=int(quartile),
            predicted_quartile=int(said.predicted_class[-1]),
        )


def _spread(ready: Sequence[ReadyClip], count: int) -> list[ReadyClip]:
    """So many clips, evenly over all of them."""
    return [ready[place] for place in np.linspace(0, len(ready) - 1, min(count, len(ready))).round().astype(int)]


def _reconstruct(model: ConvLSTMAutoencoder, clip: ReadyClip, features: ClipFeatures) -> Reconstruction | None:
    """The first chunk of a clip that has pictures where the decoder draws; None where there is none."""
    stride = model.decoder.config.frame_stride
    seen = np.flatnonzero(features.frame_mask[:, stride - 1 :: stride].any(axis=1))
    if not len(seen):
        return None
    index = int(seen[0])
    frames = torch.from_numpy(np.array(features.frames[index]))[None]
    mask = torch.from_numpy(features.frame_mask[index].astype(np.float32))[None]
    drawn = model(frames, mask, model.encoder.initial_state()).decoded.reconstruct[0]
    pictures, real = (tensor[0] for tensor in decoded_frames(frames, mask, stride))
    shown = torch.nonzero(real)[:, 0]
    shown = shown[torch.linspace(0, len(shown) - 1, min(_PICTURES, len(shown))).round().long()]
    return Reconstruction(
        clip=clip.id,
        start_s=float(features.end_s[index - 1]) if index else 0.0,
        end_s=float(features.end_s[index]),
        mse=float((drawn[shown] - pictures[shown]).square().mean()),
        original=_as_bytes(pictures[shown]),
        redrawn=_as_bytes(drawn[shown]),
    )


def _as_bytes(pictures: Tensor) -> NDArray[np.uint8]:
    """float32 (K, 3, H, W) in [0, 1] -> uint8 (K, H, W, 3)."""
    return (pictures.clamp(0, 1) * 255).round().permute(0, 2, 3, 1).to(torch.uint8).numpy()
