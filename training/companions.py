"""What a training run left beside its model: predictors to compare it with, or the reason why they are not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..models.video_baselines import VIDEO_NETWORKS
from .ablations import TrainedVariant, Variant, load_variant, variant_identity
from .baseline_file import BASELINES_FILE, load_baselines
from .baselines import UnlabelledClips
from .dataset import FeatureStore, ReadyClip
from .evaluation import Prediction, final_scores
from .labelled import EmbeddedClip
from .run import CONFIG_FILE, read_run_config, run_identity
from .studies import FITTED, TRAIN_MEAN, VIDEO, Predictor
from .video_comparison import TrainedVideo, load_video, video_identity


@dataclass(frozen=True, slots=True)
class Absent:
    """A predictor, or several, that the model cannot be compared with."""

    predictor: str
    why: str


@dataclass(frozen=True, slots=True)
class VariantPredictions:
    """A variant of the model, and what it says of the clips after every chunk."""

    trained: TrainedVariant
    predictions: Sequence[Prediction]


@dataclass(frozen=True, slots=True)
class Companions:
    """Predictors for the same clips."""

    predictors: tuple[Predictor, ...] = ()
    absent: tuple[Absent, ...] = ()
    variants: tuple[VariantPredictions, ...] = ()
    """Those of the predictors that are variants of the model."""
    videos: tuple[TrainedVideo, ...] = ()
    """Those of the predictors that are video networks."""

    def __add__(self, other: Companions) -> Companions:
        return Companions(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """The run directory beside a checkpoint."""

    path: Path
    config: Mapping[str, Any] | None
    """None where the directory is not that of the checkpoint's own run."""
    why: str
    """Why it is None."""

    @classmethod
    def beside(cls, card: Mapping[str, Any], path: Path) -> TrainingRun:
        """Finds out whether a directory holds the run that made the model of this card."""
        config = read_run_config(path)
        if config is None:
            return cls(path, None, f"there is no training run at {path}")
        if "run_sha256" not in card:
            return cls(path, None, "the model's card does not name its training run")
        if card["run_sha256"] != run_identity(config):
            return cls(path, None, f"{path / CONFIG_FILE} is that of another run")
        return cls(path, config, "")


def fitted_baselines(run: TrainingRun, clips: UnlabelledClips) -> Companions:
    """The baselines that `shortcast train` fitted, but for the training mean, which every evaluation has anyway.

    Args:
        run: the model's run.
        clips: the evaluated clips.

    Raises:
        DataError: the file of baselines is damaged.
    """
    named = "author, duration and pooled embeddings (ridge)"
    if run.config is None:
        return Companions(absent=(Absent(named, run.why),))
    fitted = load_baselines(run.path)
    if fitted is None:
        return Companions(
            absent=(Absent(named, f"{run.path} has no {BASELINES_FILE}: run the same `shortcast train` again, with --force"),)
        )
    if fitted.run_sha256 != run_identity(run.config):
        return Companions(absent=(Absent(named, f"{run.path / BASELINES_FILE} is that of another run"),))
    shown = [baseline for baseline in fitted.baselines if baseline.name != TRAIN_MEAN]
    return Companions(tuple(Predictor(baseline.name, FITTED, baseline.predict(clips)) for baseline in shown))


def model_variants(run: TrainingRun, card: Mapping[str, Any], wanted: Sequence[Variant], clips: Sequence[EmbeddedClip]) -> Companions:
    """The variants of the model that `shortcast train --ablations` trained.

    Args:
        run: the model's run.
        card: the model's; it names the variants that were trained with it.
        wanted: those that there might be.
        clips: the evaluated clips, whole.

    Raises:
        DataError: what a variant left is damaged.
    """
    if run.config is None:
        return Companions(absent=(Absent("separately trained variants", run.why),))
    found = Companions()
    for variant in wanted:
        named = card.get("ablations", {}).get(variant.name)
        why = _why_not(variant_identity(run.path, variant.name), named, "--ablations")
        if why:
            found += Companions(absent=(Absent(variant.predictor, why),))
            continue
        trained = load_variant(run.path, variant.name)
        said = trained.predict(clips)
        own = Predictor(variant.predictor, variant.kind, final_scores(said))
        found += Companions(predictors=(own,), variants=(VariantPredictions(trained, said),))
    return found


def video_networks(run: TrainingRun, card: Mapping[str, Any], store: FeatureStore, clips: Sequence[ReadyClip]) -> Companions:
    """The video networks that `shortcast train --video-baseline` trained.

    Args:
        run: the model's run.
        card: the model's; it names the networks that were trained with it.
        store: has the features of the clips.
        clips: the evaluated clips.

    Raises:
        DataError: what a network left is damaged.
    """
    if run.config is None:
        return Companions(absent=(Absent("video networks", run.why),))
    found = Companions()
    for network in VIDEO_NETWORKS:
        named = card.get("video_networks", {}).get(network)
        why = _why_not(video_identity(run.path, network), named, f"--video-baseline {network}")
        if why:
            found += Companions(absent=(Absent(network, why),))
        else:
            trained = load_video(run.path, network)
            found += Companions(predictors=(Predictor(network, VIDEO, trained.predict(store, clips)),), videos=(trained,))
    return found


def _why_not(there: str | None, named: str | None, option: str) -> str:
    """Why a network cannot be compared with; empty where it can."""
    if there is None:
        return f"not trained; `shortcast train ... {option}` does"
    return "" if there == named else "its folder in the run directory is not the one that the model's card names"
