"""What a bundle proves itself with and what came of it: proof clips with the reference's answers, and one proof for each precision.

A proof clip is a short MP4 of a few chunks at twice the model's picture size. Decoding H.264 is exact by its standard, so a proof clip
takes the whole way of a user's clip on any device, decoder and scaler included, and its right answer is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError
from .decision import DecisionParity
from .parity import ParityRow

_PER_CHUNK = ("visual", "visual_mask", "audio", "audio_mask", "z", "class_logits")


@dataclass(frozen=True, slots=True)
class ProofClip:
    """One clip of N chunks and what the PyTorch reference made of it."""

    file: str
    """Relative to the bundle."""
    visual: NDArray[np.float32]
    """float32 (N, Dv); zeros where a chunk has no pictures."""
    visual_mask: NDArray[np.float32]
    """float32 (N,)."""
    audio: NDArray[np.float32]
    """float32 (N, Da), by CTranslate2 on the exporting machine; zeros where a chunk has no sound."""
    audio_mask: NDArray[np.float32]
    """float32 (N,)."""
    z: NDArray[np.float32]
    """float32 (N,): the standardised score after each chunk."""
    class_logits: NDArray[np.float32]
    """float32 (N, K), after each chunk."""


def save_proof_clips(clips: Sequence[ProofClip], path: Path) -> None:
    """Writes one compressed `.npz`; no object arrays, so reading it unpickles nothing."""
    arrays: dict[str, NDArray[Any]] = {name: np.concatenate([getattr(clip, name) for clip in clips]) for name in _PER_CHUNK}
    arrays["names"] = np.array([clip.file for clip in clips])
    arrays["chunks"] = np.array([len(clip.z) for clip in clips])
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def load_proof_clips(path: Path) -> tuple[ProofClip, ...]:
    """Reads what `save_proof_clips` wrote.

    Raises:
        BundleError: the file is missing, damaged, or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in (*_PER_CHUNK, "names", "chunks")}
        cuts = np.cumsum(arrays["chunks"])[:-1]
        parts = {name: np.split(arrays[name], cuts) for name in _PER_CHUNK}
        return tuple(ProofClip(str(name), **{part: parts[part][k] for part in _PER_CHUNK}) for k, name in enumerate(arrays["names"]))
    except (OSError, EOFError, ValueError, KeyError, IndexError, BadZipFile) as error:
        raise BundleError(f"{path} does not hold proof clips this version reads: {error}") from error


@dataclass(frozen=True, slots=True)
class StageError:
    """What one stage alone does to the score: it is taken from the candidate, the others from the reference."""

    stage: str
    """`visual`, `sound`, `fusion`, or `all`."""
    worst: float
    """Largest absolute difference of a whole clip's standardised score."""
    mean: float


@dataclass(frozen=True, slots=True)
class PrecisionProof:
    """One precision on one backend against PyTorch in float32."""

    precision: str
    backend: str
    device: str
    rows: tuple[ParityRow, ...]
    """Every check, gated ones all."""
    decision: DecisionParity | None
    """None where the sound could not be checked."""
    stages: tuple[StageError, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` is the exact inverse."""
        return {
            "precision": self.precision,
            "backend": self.backend,
            "device": self.device,
            "rows": [row.to_json() for row in self.rows],
            "decision": None if self.decision is None else self.decision.to_json(),
            "stages": [asdict(stage) for stage in self.stages],
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> PrecisionProof:
        """Reads what `to_json` wrote.

        Raises:
            BundleError: a key is unknown or missing.
        """
        try:
            parts = {
                "rows": tuple(ParityRow.from_json(row) for row in plain["rows"]),
                "decision": None if plain["decision"] is None else DecisionParity.from_json(plain["decision"]),
                "stages": tuple(StageError(**stage) for stage in plain["stages"]),
            }
            return cls(**{**plain, **parts})
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"the parity report is not one this version reads: {error}") from error
