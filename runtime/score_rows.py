"""What a file of scores holds: the keys of a JSON line with the clip's file, its error and how it was scored; and CSV's flat columns."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from .clip_list import Clip
from .pace import Pace
from .score import Latency, Score
from .target import QUARTILES

ORIGIN_KEYS = ("error", "file_bytes", "file_modified_s", "scored_with")
"""What every row of a file has beside the keys of a score; a row of a clip that could not be scored has `clip` and these alone."""

_PLAIN = ("clip", "chunk", "start_s", "end_s", "final", "settled", "unread_s", "target", "score", "z")
STAGES = (*(field.name.removesuffix("_ms") for field in fields(Latency)), "total")
"""What `latency_ms` has."""
PACE_TYPES = {field.name: str(field.type) for field in fields(Pace)}
"""What `pace` has, and of which type each is."""


def rows_of(clip: Clip, scores: Sequence[Score], error: str | None, scored_with: str) -> Iterator[dict[str, Any]]:
    """The rows of one clip: one for each score, and one for its error.

    Args:
        clip: the clip as it was asked for.
        scores: what is known of it, in order.
        error: one sentence if it could not be scored.
        scored_with: the model and the settings, as a run that goes on must have them.
    """
    facts = clip.file
    origin = {
        "file_bytes": facts.size_bytes if facts else None,
        "file_modified_s": facts.modified_s if facts else None,
        "scored_with": scored_with,
    }
    for score in scores:
        yield score.to_json() | {"clip": clip.name, "error": None} | origin
    if error is not None:
        yield {"clip": clip.name, "error": error} | origin


def ends_clip(row: Mapping[str, Any]) -> bool:
    """Whether a row is the last of its clip."""
    return bool(row.get("error")) or row.get("final") in (True, "True")


def class_key(classes: int) -> str:
    """What a score calls its classes: `quartile`, or `class` where there are not four."""
    return "quartile" if classes == QUARTILES else "class"


def csv_columns(classes: int) -> tuple[str, ...]:
    """The columns of a CSV file of a model with so many classes."""
    kind = class_key(classes)
    probabilities = (f"{kind}_{number}_probability" for number in range(1, classes + 1))
    stages = (f"{stage}_ms" for stage in STAGES)
    intervals = ("interval_low", "interval_high", "interval_coverage")
    rest = ("pictures", "sound", "epoch", "lost_packets", "dropped_chunks", *PACE_TYPES, "notes", "transcript", "chunk_weights")
    return (*_PLAIN, *intervals, kind, *probabilities, *rest, *stages, *ORIGIN_KEYS)


def flat_row(row: Mapping[str, Any], classes: int) -> dict[str, Any]:
    """A row as CSV has it: `notes` and the words of `transcript` as text, `chunk_weights` as JSON."""
    known = {key: value for key, value in row.items() if key in _PLAIN or key in ORIGIN_KEYS}
    if "score" not in row:
        return known
    kind = class_key(classes)
    low, high = row["interval"]
    words = None if row["transcript"] is None else " ".join(segment["text"] for segment in row["transcript"])
    return {
        **known,
        **{key: row[key] for key in ("interval_coverage", kind, "epoch", "lost_packets", "dropped_chunks")},
        **{f"{kind}_{number}_probability": value for number, value in enumerate(row[f"{kind}_probabilities"], start=1)},
        **row["modalities"],
        **row["pace"],
        **{f"{stage}_ms": row["latency_ms"][stage] for stage in STAGES},
        "interval_low": low,
        "interval_high": high,
        "notes": "; ".join(row["notes"]),
        "chunk_weights": json.dumps(row["chunk_weights"]),
        "transcript": words,
    }
