"""What one evaluation found, as values and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .. import __version__
from .companions import Absent
from .dataset import FailedClip
from .evaluation import Evaluation
from .networks import LengthFigures, NetworkFigures
from .outlier_errors import OutlierErrors, OutlierFigures
from .overlap import Overlap
from .reconstruction import Reconstruction
from .studies import CoverageFigures, LevelFigures, PredictorFigures, PrefixFigures
from .subsets import SubsetFigures

REPORT_FORMAT = 2
"""Version of the report's JSON."""


@dataclass(frozen=True, slots=True)
class ClipFigures:
    """One clip: what happened and what was predicted after the whole of it."""

    id: str
    duration_s: float
    truth: float
    """In target units, as are the next three."""
    predicted: float
    low: float
    """Ends of the interval that comes with the score, any conformal margin included."""
    high: float
    truth_z: float
    """In standardised units, as is the next one."""
    predicted_z: float
    true_class: int
    """0..K-1 of the training split, lowest first."""
    predicted_class: int


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
    """The model first, in standardised units and then in the target's."""
    absent: tuple[Absent, ...]
    """What the model could not be compared with."""
    networks: tuple[NetworkFigures, ...]
    """The model first, then those trained beside it."""
    lengths: tuple[LengthFigures, ...]
    """The model first, then its variants with other length strategies; empty where there are none."""
    subsets: tuple[SubsetFigures, ...]
    by_seconds: tuple[PrefixFigures, ...]
    calibration: tuple[LevelFigures, ...]
    coverage: tuple[CoverageFigures, ...]
    outliers: tuple[OutlierFigures, ...]
    outlier_errors: OutlierErrors | None
    """None where it was not asked for."""
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
        plain |= {"outlier_errors": asdict(self.outlier_errors) if self.outlier_errors else None}
        lists = ("failed", "predictors", "absent", "networks", "lengths", "subsets", "by_seconds", "calibration", "coverage", "outliers")
        for name in (*lists, "clips"):
            plain[name] = [asdict(one) for one in getattr(self, name)]
        return {**plain, "card": dict(self.card)}
