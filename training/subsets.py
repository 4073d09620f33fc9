"""How good a model is on parts of the evaluated clips: those without sound, the short ones, each value of a column.

A part with fewer than `FEWEST` clips is counted and not scored: its figures would be those of a few clips.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .bootstrap import Bootstrap, ConfidenceInterval
from .clips import ClipRow
from .labelled import EmbeddedClip
from .metrics import REGRESSION_METRICS
from .studies import COMPARED

FEWEST = 10
MOST_VALUES = 12
"""Values of one column, the commonest first; what is left is one more part."""
SPEECH_COLUMNS = ("speech", "has_speech", "factors.speech")
"""Where manifests say whether a clip has speech."""
UNKNOWN = "not known"

Rows = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Subset:
    """A part of the evaluated clips."""

    by: str
    """What tells the parts apart: `sound`, `length`, or a column of the manifest."""
    name: str
    rows: Rows
    """bool (clips,)."""


@dataclass(frozen=True, slots=True)
class SubsetFigures:
    """What the model is worth on a part of the clips, in standardised units."""

    by: str
    name: str
    clips: int
    authors: int
    """Clusters that the bootstrap drew from."""
    metrics: Mapping[str, ConfidenceInterval]
    """For `studies.COMPARED`; empty where there are fewer than `FEWEST` clips."""
    model_less_mean: ConfidenceInterval | None
    """The model's MSE less that of the training mean on the same clips, paired."""


def subsets(clips: Sequence[EmbeddedClip], rows: Sequence[ClipRow], columns: Sequence[str] = ()) -> tuple[Subset, ...]:
    """Every part that figures are given for; of what does not vary there is none, but for the columns asked for.

    Args:
        clips: the evaluated clips.
        rows: their rows of the manifest, in the same order.
        columns: of the manifest; `factors.speech` is the key `speech` of the object `factors`.

    Raises:
        DataError: no clip has one of the columns.
    """
    found = [
        *_halves("sound", [bool(clip.audio_mask.any()) for clip in clips]),
        *_halves("pictures", [bool(clip.visual_mask.any()) for clip in clips]),
    ]
    speech = next((column for column in SPEECH_COLUMNS if any(value_of(row, column) is not None for row in rows)), None)
    if speech is not None and speech not in columns:
        found += _parts("speech", [_speaks(value_of(row, speech)) for row in rows])
    found += _terciles("length", np.array([clip.end_s[-1] for clip in clips]), " s")
    for column in dict.fromkeys(columns):
        found += _by_column(column, rows)
    return tuple(found)


def subset_figures(
    parts: Sequence[Subset], scores: NDArray[np.float64], z: NDArray[np.float64], bootstrap_of: Callable[[Rows], Bootstrap]
) -> list[SubsetFigures]:
    """The model's figures on every part.

    Args:
        parts: as `subsets` gives them.
        scores: float64 (clips,), the model's scores in standardised units.
        z: float64 (clips,), the truth in standardised units.
        bootstrap_of: the bootstrap of a part of the clips.
    """
    return [_figures(part, scores, z, bootstrap_of(part.rows)) for part in parts]


def require_columns(rows: Sequence[ClipRow], columns: Sequence[str]) -> None:
    """Refuses a column that no clip has.

    Raises:
        DataError: no clip has one of the columns.
    """
    for column in columns:
        if all(value_of(row, column) is None for row in rows):
            there = ", ".join(sorted(rows[0].columns)) if rows else ""
            raise DataError(f"--by {column}: no evaluated clip has that column; the first has {there or 'none'}")


def value_of(row: ClipRow, column: str) -> Any:
    """What a row has in a column, `author` and `split` among them; a dot leads into an object. None where it has nothing."""
    if column in ("author", "split"):
        return getattr(row, column)
    if column in row.columns:
        return row.columns[column]
    found: Any = row.columns
    for key in column.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _figures(part: Subset, scores: NDArray[np.float64], z: NDArray[np.float64], bootstrap: Bootstrap) -> SubsetFigures:
    count, truth = int(part.rows.sum()), z[part.rows]
    if count < FEWEST:
        return SubsetFigures(part.by, part.name, count, len(bootstrap.groups), {}, None)
    own = bootstrap.replicates({name: REGRESSION_METRICS[name] for name in COMPARED}, truth, scores[part.rows])
    mean = bootstrap.replicates({"mse": REGRESSION_METRICS["mse"]}, truth, np.zeros(count))
    metrics = {name: bootstrap.summary(replicates) for name, replicates in own.items()}
    return SubsetFigures(part.by, part.name, count, len(bootstrap.groups), metrics, bootstrap.summary(own["mse"] - mean["mse"]))


def _halves(by: str, present: Sequence[bool]) -> Iterator[Subset]:
    """With and without; nothing where all clips are alike."""
    return _parts(by, [f"with {by}" if there else f"without {by}" for there in present])


def _speaks(value: Any) -> str | None:
    if not isinstance(value, (bool, int, float)):
        return None
    return "with speech" if value > 0 else "without speech"


def _parts(by: str, names: Sequence[str | None]) -> Iterator[Subset]:
    """One part for each name; none where there is only one."""
    labels = np.array([UNKNOWN if name is None else name for name in names])
    if len({*labels}) > 1:
        yield from (Subset(by, name, labels == name) for name in sorted({*labels}, key=lambda name: (name == UNKNOWN, name)))


def _terciles(by: str, values: NDArray[np.float64], unit: str = "") -> Iterator[Subset]:
    """Three parts of about equal size by number, NaN apart; fewer where values are tied, none where all are the same."""
    known = np.isfinite(values)
    low, high = np.quantile(values[known], [1 / 3, 2 / 3])
    names = ((f"up to {low:.4g}{unit}", values <= low), (f"over {low:.4g} to {high:.4g}{unit}", (values > low) & (values <= high)))
    for name, rows in (*names, (f"over {high:.4g}{unit}", values > high), (UNKNOWN, ~known)):
        if rows.any() and not rows.all():
            yield Subset(by, name, rows)


def _by_column(column: str, rows: Sequence[ClipRow]) -> list[Subset]:
    require_columns(rows, (column,))
    values = [value_of(row, column) for row in rows]
    known = [value for value in values if value is not None]
    numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known)
    if numeric and len({*known}) > MOST_VALUES:
        return list(_terciles(column, np.array([np.nan if value is None else float(value) for value in values])))
    labels = [None if value is None else str(value) for value in values]
    common = [name for name, _ in Counter(label for label in labels if label is not None).most_common(MOST_VALUES)]
    names = np.array([UNKNOWN if label is None else label if label in common else "all other values" for label in labels])
    return [Subset(column, name, names == name) for name in (*common, "all other values", UNKNOWN) if (names == name).any()]
