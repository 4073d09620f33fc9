"""What came of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .baselines import BaselineFigures
from .cross_validate import CrossValidation
from .dataset import FailedClip
from .evaluation import Evaluation
from .fit_autoencoder import AutoencoderReport
from .fit_regressor import RegressorReport
from .near_duplicates import Cluster
from .splits import Crossing


@dataclass(frozen=True, slots=True)
class TargetClasses:
    """The classes that the training split was cut into."""

    asked_for: int
    sizes: tuple[int, ...]
    """Training clips in each, lowest first; fewer classes than were asked for where ties allow no more."""


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What came of a run."""

    checkpoint: Path
    run_dir: Path
    classes: TargetClasses
    split: str
    """How the clips were split, such as `given by the manifest`, `grouped by author` or `random`."""
    crossings: tuple[Crossing, ...]
    """Authors, songs and near-duplicates that are on both sides of the split all the same."""
    near_duplicates: tuple[Cluster, ...]
    """Clips of the manifest that show the same pictures."""
    clips: Mapping[str, int]
    """Clips used in `train`, `val` and `test`."""
    hours: float
    """Media of all clips used."""
    failed: tuple[FailedClip, ...]
    """Clips left out because they could not be read."""
    autoencoder: AutoencoderReport
    regressor: RegressorReport
    held_out: Evaluation
    """Figures of the test split, which nothing before has looked at."""
    baselines: tuple[BaselineFigures, ...]
    """Of the same test split: baselines, and networks trained for comparison."""
    cross_validation: CrossValidation | None
    """Figures over all clips, each predicted out of fold; None where no folds were asked for."""
    seconds: Mapping[str, float]
    """Wall time of each stage, over all processes that worked on this run."""

    def to_json(self) -> dict[str, Any]:
        return {
            "checkpoint": str(self.checkpoint),
            "run_dir": str(self.run_dir),
            "classes": asdict(self.classes),
            "split": {"kind": self.split, **self.clips},
            "crossings": [crossing.to_json() for crossing in self.crossings],
            "near_duplicates": [cluster.to_json() for cluster in self.near_duplicates],
            "hours": self.hours,
            "failed": [asdict(clip) for clip in self.failed],
            "autoencoder": self.autoencoder.to_json(),
            "regressor": self.regressor.to_json(),
            "held_out": self.held_out.to_json(),
            "baselines": [asdict(figures) for figures in self.baselines],
            "cross_validation": self.cross_validation.to_card() if self.cross_validation else None,
            "seconds": dict(self.seconds),
        }
