"""Looks through the pictures of a manifest's clips for near-duplicates, for somebody who wants to see them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..runtime.contract import Contract
from ..runtime.cpu import available_cpus
from ..runtime.whisper import WhisperWeights, resolve_whisper
from .clips import ClipRow, read_manifest
from .dataset import FailedClip, FeatureStore, ReadyClip, file_sha256, prepare_features
from .near_duplicates import Cluster, cluster_names, near_duplicates

Progress = Callable[[str, int, int], None]
"""Is called with (stage, done, total)."""


@dataclass(frozen=True, slots=True)
class DuplicateReport:
    """What was found."""

    manifest: str
    clips: int
    """Clips that could be read."""
    failed: tuple[FailedClip, ...]
    clusters: tuple[Cluster, ...]
    """The largest first."""

    @property
    def surplus(self) -> int:
        """Clips that would go if one of every cluster stayed."""
        return sum(len(cluster.clips) - 1 for cluster in self.clusters)

    def summary(self) -> str:
        """One sentence."""
        if not self.clusters:
            return f"no near-duplicates among {self.clips:,} clips"
        found = f"{len(self.clusters):,} clusters of near-duplicates among {self.clips:,} clips"
        return f"{found}; {self.surplus:,} clips would go if one of each stayed"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "surplus": self.surplus}


def report_duplicates(
    manifest: Path, *, features_dir: Path, whisper: Path | None = None, jobs: int | None = None, progress: Progress = lambda *_: None
) -> DuplicateReport:
    """Reads the clips that are not in the cache yet, and compares all of them.

    Args:
        manifest: JSONL of clips, see `training.clips`; labels are not looked at.
        features_dir: cache of decoded clips, which training can use as well.
        whisper: a directory with the Whisper weights; None looks in the usual places.
        jobs: processes that decode clips; None takes one per CPU.
        progress: called as clips are read (`features`) and compared (`compare`).

    Raises:
        DataError: the manifest or the cache cannot be used.
        WeightsError: the Whisper weights are not found.
    """
    rows = read_manifest(manifest)
    contract, weights = _usual_contract(whisper)
    progress("features", 0, len(rows))
    ready, failed = prepare_features(
        {row.id: row.path for row in rows},
        features_dir,
        contract=contract,
        whisper=weights,
        jobs=jobs or available_cpus(),
        on_clip=lambda done, total: progress("features", done, total),
    )
    clusters = near_duplicates(
        ready,
        FeatureStore(features_dir, contract),
        fps=contract.picture.fps,
        on_clip=lambda done, total: progress("compare", done, total),
    )
    return DuplicateReport(manifest.name, len(ready), tuple(failed), tuple(sorted(clusters, key=lambda found: -len(found.clips))))


def stored_duplicates(rows: Sequence[ClipRow], features_dir: Path, *, whisper: Path | None = None) -> Mapping[str, str]:
    """The name of its cluster by clip id, among the clips whose features are there already; nothing is decoded.

    Raises:
        DataError: an entry of the cache cannot be read.
        WeightsError: the Whisper weights are not found; the cache is kept by their hash.
    """
    contract, _ = _usual_contract(whisper)
    store = FeatureStore(features_dir, contract)
    hashes = {row.id: file_sha256(row.path) for row in rows if row.path.is_file()}
    there = [ReadyClip(clip, sha256, 0, 0.0) for clip, sha256 in hashes.items() if sha256 in store]
    return cluster_names(near_duplicates(there, store, fps=contract.picture.fps))


def _usual_contract(whisper: Path | None) -> tuple[Contract, WhisperWeights]:
    contract = Contract()
    weights = resolve_whisper(contract.sound.whisper, explicit=whisper)
    return replace(contract, sound=replace(contract.sound, whisper_sha256=weights.sha256())), weights
