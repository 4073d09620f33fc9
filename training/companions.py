"""What a training run left beside its model: predictors to compare it with, or the reason why they are not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..models.video_baselines import VIDEO_NETWORKS
from .baseline_file import BASELINES_FILE, load_baselines
from .baselines import UnlabelledClips
from .dataset import FeatureStore, ReadyClip
from .run import CONFIG_FILE, read_run_config, run_identity
from .studies import TRAIN_MEAN, Predictor
from .video_comparison import load_video, video_identity

FITTED = "fitted on the training split"
"""Kind of the predictors in `baselines.json`."""
VIDEO = "a video network trained on the pictures of the training split"
"""Kind of the networks of `video_comparison`."""


@dataclass(frozen=True, slots=True)
class Absent:
    """A predictor, or several, that the model cannot be compared with."""

    predictor: str
    why: str


@dataclass(frozen=True, slots=True)
class Companions:
    """Predictors for the same clips."""

    predictors: tuple[Predictor, ...] = ()
    absent: tuple[Absent, ...] = ()

    def __add__(self, other: Companions) -> Companions:
        return Companions(self.predictors + other.predictors, self.absent + other.absent)


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
        why = _why_not(network, video_identity(run.path, network), card.get("video_networks", {}).get(network))
        if why:
            found += Companions(absent=(Absent(network, why),))
        else:
            found += Companions(predictors=(Predictor(network, VIDEO, load_video(run.path, network).predict(store, clips)),))
    return found


def _why_not(network: str, there: str | None, named: str | None) -> str:
    """Why a network cannot be compared with; empty where it can."""
    if there is None:
        return f"not trained; `shortcast train ... --video-baseline {network}` does"
    return "" if there == named else "its folder in the run directory is not the one that the model's card names"
