"""Calibrates when a bundle's scores are settled: scores clips whole with it, and puts the table into its manifest. Nothing else changes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from .. import __version__
from ..errors import BundleError, DataError
from .bundle import Bundle
from .clip_list import Clip
from .early import BundleScorer
from .many import score_many
from .score import Score
from .settling import Settling
from .settling_fit import LEAST_CLIPS, ClipPath, fit_settling, lengths_of
from .signature import MANIFEST, SIGNATURE
from .target import Target


@dataclass(frozen=True, slots=True)
class Scored:
    """What came of the clips a table is to be made from."""

    paths: tuple[ClipPath, ...]
    contents: tuple[str, ...]
    """SHA-256 of each clip's file."""
    failed: tuple[str, ...]
    """A sentence for each clip that could not be scored."""


def score_paths(
    scorer: BundleScorer, clips: Sequence[Clip], *, jobs: int = 1, progress: Callable[[int, int], None] = lambda done, all_: None
) -> Scored:
    """Scores clips whole, every chunk of them.

    Args:
        scorer: with the bundle that is calibrated.
        clips: what to score.
        jobs: clips that are scored at once.
        progress: called with (done, all) after every clip.

    Raises:
        DataError: a clip is no file.
    """
    strays = [clip.name for clip in clips if clip.file is None]
    if strays:
        raise DataError(f"{strays[0]} is not a file; a settling table is made from files, which can be named by their content")
    scores: dict[int, list[Score]] = {}
    failed = []
    progress(0, len(clips))
    done = 0
    for event in score_many(scorer, [clip.source for clip in clips], jobs=jobs, each_chunk=True):
        scores.setdefault(event.index, []).extend([event.score] if event.score else [])
        if event.error:
            failed.append(str(event.error))
            del scores[event.index]
        done += event.done
        progress(done, len(clips))
    target = scorer.bundle.manifest.target
    whole = sorted(scores)
    return Scored(
        tuple(path_of(scores[index], target) for index in whole),
        tuple(_sha256(Path(clips[index].source)) for index in whole),
        tuple(failed),
    )


def path_of(scores: Sequence[Score], target: Target) -> ClipPath:
    """What was said of a clip, from its scores after each chunk."""
    with np.errstate(all="ignore"):
        interval_z = target.standardise([score.interval for score in scores])
    return ClipPath(
        np.array([score.z for score in scores]),
        interval_z,
        np.array([score.class_probabilities for score in scores]),
        np.array([score.end_s for score in scores]),
    )


def table_of(scored: Scored, *, source: str, precision: str, command: str) -> Settling:
    """The settling table of clips, with what is to be known of them.

    Args:
        scored: the clips.
        source: a sentence on what they are.
        precision: of the graphs they were scored with.
        command: the command line, for the record.

    Raises:
        DataError: there are too few of them to promise anything.
    """
    if len(scored.paths) < LEAST_CLIPS:
        raise DataError(
            f"a settling table needs at least {LEAST_CLIPS} clips, and {len(scored.paths)} could be scored; some hundreds are better"
        )
    provenance = {
        "source": source,
        **lengths_of(scored.paths),
        "clips_sha256": hashlib.sha256("\n".join(sorted(scored.contents)).encode()).hexdigest(),
        "failed": len(scored.failed),
        "precision": precision,
        "command": command,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "shortcast": __version__,
    }
    return fit_settling(scored.paths, provenance)


def put_into(bundle: Bundle, settling: Settling) -> bool:
    """Writes a bundle's manifest anew with a settling table, whole or not at all. The bundle gets another id.

    Returns:
        Whether a signature went, as it was for the manifest before.

    Raises:
        BundleError: it cannot be written.
    """
    text = replace(bundle.manifest, settling=settling).with_id().dumps()
    signature, manifest = bundle.path / SIGNATURE, bundle.path / MANIFEST
    aside = bundle.path.with_name(f".{bundle.path.name}.{MANIFEST}.writing-{os.getpid()}")
    try:
        signed = signature.exists()
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, manifest)
        signature.unlink(missing_ok=True)  # it no longer fits, so nobody takes it for one meanwhile
    except OSError as error:
        raise BundleError(f"{manifest} cannot be written: {error}") from error
    finally:
        aside.unlink(missing_ok=True)
    return signed


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
