"""Variants of the dual Transformer trained afresh on a run's own embeddings and split, each in `RUN/ablation-NAME/` (see `side_run`).

A model with one modality masked was trained to do without it now and then; a variant that never had it says what the other is worth to
a model made for it alone. It has the same network, in which the branch of the missing modality is fed nothing but its null token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from ..errors import CheckpointError
from ..models.dual_transformer import STRATEGIES, DualTransformer, FusionConfig
from .compute import decisive
from .evaluation import Prediction, predict
from .fit_regressor import STAGE, RegressorEpoch, RegressorOptions, RegressorReport, fit_regressor
from .labelled import EmbeddedClip, LabelledClips
from .run import Progress, ProgressEvent, silent
from .side_run import SideRun
from .studies import LENGTH, ONE_MODALITY

_SHORT_WINDOW = 4
"""Chunks: 8 s."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A dual Transformer other than the run's, or one that is shown less."""

    name: str
    """Of its folder, after `ablation-`."""
    predictor: str
    """What tables call it."""
    kind: str
    """What sort of predictor it is, in words; see `studies`."""
    pictures: bool
    """Whether it is shown pictures, in training and after."""
    sound: bool
    fusion: FusionConfig

    def shown(self, clips: Sequence[EmbeddedClip]) -> list[EmbeddedClip]:
        """The clips as this variant sees them: what it lacks is masked in every chunk."""
        return [replace(clip, visual_mask=clip.visual_mask & self.pictures, audio_mask=clip.audio_mask & self.sound) for clip in clips]

    def options(self, options: RegressorOptions) -> RegressorOptions:
        """The model's own options, but that nothing drops the only modality there is."""
        return options if self.pictures and self.sound else replace(options, modality_dropout=0.0)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Variant:
        """From what `dataclasses.asdict` made of it and JSON carried."""
        fusion: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in plain["fusion"].items()}
        return cls(**{**plain, "fusion": FusionConfig(**fusion)})


@dataclass(frozen=True, slots=True)
class TrainingClips:
    """The model's own clips, whole."""

    train: LabelledClips
    """Clips to learn from."""
    validation: LabelledClips
    """Clips by whose loss the epoch is chosen."""


@dataclass(frozen=True, slots=True)
class TrainedVariant:
    """A variant at its best epoch."""

    variant: Variant
    model: DualTransformer
    """In evaluation mode, on the CPU."""
    report: RegressorReport
    seconds: float
    """Wall time of training in the process that ended it."""

    @property
    def parameters(self) -> int:
        return sum(weights.numel() for weights in self.model.parameters())

    def predict(self, clips: Sequence[EmbeddedClip]) -> list[Prediction]:
        """Scores every prefix of every clip, in standardised units; `evaluation.final_scores` takes those of whole clips."""
        return predict(self.model, self.variant.shown(clips))


def variants(fusion: FusionConfig) -> tuple[Variant, ...]:
    """Everything that is set beside a model with this configuration, the model itself left out."""
    others = {f"length-{name}": replace(fusion, strategy=name) for name in STRATEGIES if name != fusion.strategy}
    # Short clips fit a long window whole; a short one shows what a pooled history costs.
    others["length-short-window"] = replace(fusion, strategy="sequential", window_chunks=_SHORT_WINDOW)
    lengths = [Variant(name, f"length strategy: {other.shown_of_a_clip}", LENGTH, True, True, other) for name, other in others.items()]
    return (
        Variant("pictures", "trained on pictures alone", ONE_MODALITY, True, False, fusion),
        Variant("sound", "trained on sound alone", ONE_MODALITY, False, True, fusion),
        *lengths,
    )


def train_variant(
    run_dir: Path,
    variant: Variant,
    clips: TrainingClips,
    *,
    options: RegressorOptions,
    seed: int,
    resume: bool = True,
    progress: Progress = silent,
) -> TrainedVariant:
    """Trains a variant in its folder of the run, or takes up where that stopped; one that is trained already is only loaded.

    Args:
        run_dir: the model's own run directory.
        variant: what is trained.
        clips: those of the model.
        options: the model's own.
        seed: decides the initial weights, the order of clips and every dropout.
        resume: False forgets what is there.
        progress: called after every epoch.

    Raises:
        DataError: the folder holds another training, or cannot be written.
    """
    side, own = _side_run(run_dir, variant.name), variant.options(options)
    told = {"variant": asdict(variant), "options": decisive(own)}
    run = side.open(
        {**told, "seed": seed, "train_sha256": _digest(clips.train), "validation_sha256": _digest(clips.validation)}, resume=resume
    )
    if side.finished:
        return load_variant(run_dir, variant.name)
    started = perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DualTransformer(variant.fusion)
        shown = (replace(part, clips=variant.shown(part.clips)) for part in (clips.train, clips.validation))
        report = fit_regressor(model, *shown, options=own, seed=seed, run=run, progress=_named(variant, progress))
    seconds = round(perf_counter() - started, 1)
    side.save(model, {**told, "report": report.to_json(), "seconds": seconds})
    return TrainedVariant(variant, model, report, seconds)


def variant_identity(run_dir: Path, name: str) -> str | None:
    """SHA-256 of the configuration of a variant whose training has ended; None where it has not, or never began."""
    return _side_run(run_dir, name).identity


def load_variant(run_dir: Path, name: str) -> TrainedVariant:
    """Reads what `train_variant` wrote.

    Raises:
        DataError: it is not there, or is damaged.
    """
    side = _side_run(run_dir, name)
    plain, weights = side.result(), side.weights()
    try:
        variant = Variant.from_json(plain["variant"])
        model = DualTransformer(variant.fusion)
        model.load_state_dict(weights)
        history = tuple(RegressorEpoch(**line) for line in plain["report"]["history"])
        report, seconds = RegressorReport(history, int(plain["report"]["best_epoch"])), float(plain["seconds"])
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError, CheckpointError) as error:
        raise side.damaged(error) from error
    model.eval()
    return TrainedVariant(variant, model, report, seconds)


def _side_run(run_dir: Path, name: str) -> SideRun:
    return SideRun(run_dir / f"ablation-{name}", "ablation", STAGE)


def _named(variant: Variant, progress: Progress) -> Progress:
    def show(event: ProgressEvent) -> None:
        progress(replace(event, stage=variant.name))

    return show


def _digest(labelled: LabelledClips) -> str:
    """SHA-256 over embeddings, masks, times and targets of the clips, in order."""
    digest = hashlib.sha256()
    for clip in labelled.clips:
        for array in (clip.visual, clip.visual_mask, clip.audio, clip.audio_mask, clip.end_s):
            digest.update(f"{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    for labels in (labelled.z, labelled.classes):
        digest.update(labels.tobytes())
    return digest.hexdigest()
