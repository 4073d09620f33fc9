"""Which of the evaluated clips had a part in training: found by clip id and, whatever they are called, by the content of their files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from .dataset import ReadyClip
from .splits import Split

TRAINED_CLIPS_FILE = "trained_clips.json"
"""In a checkpoint directory, beside its configuration."""
_FORMAT = 1
_DIGITS = 16
"""Hexadecimal digits of each SHA-256 that are kept: 64 bits tell any two clips apart."""


@dataclass(frozen=True, slots=True)
class TrainedClips:
    """The content of the clips that a model was made with: the first digits of their SHA-256, sorted."""

    train: tuple[str, ...]
    val: tuple[str, ...]

    @classmethod
    def of(cls, train: Iterable[ReadyClip], val: Iterable[ReadyClip]) -> TrainedClips:
        return cls(*(tuple(sorted({clip.sha256[:_DIGITS] for clip in part})) for part in (train, val)))

    def dumps(self) -> bytes:
        """The file's content."""
        return (json.dumps({"format": _FORMAT, **asdict(self)}, indent=0) + "\n").encode()

    @classmethod
    def read(cls, checkpoint: Path) -> TrainedClips | None:
        """Reads the file of a checkpoint directory; None where an older version wrote none.

        Raises:
            CheckpointError: the file is not one that `dumps` wrote.
        """
        path = checkpoint / TRAINED_CLIPS_FILE
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
            if set(plain) != {"format", "train", "val"} or plain["format"] != _FORMAT:
                raise ValueError("expected format, train and val")
            return cls(_prefixes(plain["train"]), _prefixes(plain["val"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(f"{path} is damaged ({error}); train the model again, or delete this file to go without it") from error


@dataclass(frozen=True, slots=True)
class Overlap:
    """Whether the evaluated clips had a part in training. Counts are None where nothing is known."""

    known_from: str
    """How the counts were found, or why they were not."""
    learned_from: int | None
    """Evaluated clips that the model was trained on."""
    chosen_by: int | None
    """Evaluated clips by whose loss the epoch was chosen: figures of these are a little too good as well."""

    @property
    def warning(self) -> str:
        """One sentence where the figures are too good, or may be; else empty."""
        if self.learned_from is None:
            return f"whether the model was trained on these clips is {self.known_from}"
        if self.learned_from:
            return f"{self.learned_from} of these clips were trained on: the figures are too good"
        return f"{self.chosen_by} of these clips chose the epoch: the figures are a little too good" if self.chosen_by else ""


def find_overlap(
    clips: Sequence[ReadyClip], *, trained: TrainedClips | None, split: Split | None, run: Mapping[str, Any] | None
) -> Overlap:
    """Compares the evaluated clips with those of training in every way that is at hand.

    Args:
        clips: what is evaluated.
        trained: the content of the training clips.
        split: how training split this very manifest; None where it is another one.
        run: the configuration of this model's own training run; None where it is not there.
    """
    if trained is None and split is None and run is None:
        return Overlap(
            "unknown: the manifest is not the one in the model's card, the checkpoint does not list its clips, and the training run is "
            "not there to compare",
            None,
            None,
        )
    ids = {"train": split.train, "val": split.val} if split is not None else run["split"] if run is not None else {"train": (), "val": ()}
    counts = []
    for part in ("train", "val"):
        known_ids, known_content = {*ids[part]}, {*getattr(trained, part, ())}
        counts.append(sum(clip.id in known_ids or clip.sha256[:_DIGITS] in known_content for clip in clips))
    return Overlap(_ways(trained, split, run), *counts)


def _ways(trained: TrainedClips | None, split: Split | None, run: Mapping[str, Any] | None) -> str:
    ways = []
    if split is not None:
        ways.append("the manifest is the one the model was trained on, split as it was then")
    elif run is not None:
        ways.append("clip ids, compared with those in the training run; the manifest is another one")
    if trained is not None:
        ways.append("SHA-256 of every file, compared with the training clips', so renamed copies are found and re-encoded ones are not")
    return "; ".join(ways)


def _prefixes(found: object) -> tuple[str, ...]:
    if not isinstance(found, list) or not all(isinstance(one, str) and len(one) == _DIGITS for one in found):
        raise ValueError(f"expected lists of {_DIGITS} hexadecimal digits")
    return tuple(found)
