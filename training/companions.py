"""What a training run left beside its model: predictors to compare it with, or the reason why they are not there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .baseline_file import BASELINES_FILE, load_baselines
from .baselines import UnlabelledClips
from .run import CONFIG_FILE, read_run_config, run_identity
from .studies import TRAIN_MEAN, Predictor

FITTED = "fitted on the training split"
"""Kind of the predictors in `baselines.json`."""


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
