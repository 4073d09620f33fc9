"""Proof clips through the whole runtime, as a user's clips go: what was said of them, and which stage brings an error in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .bundle import Bundle
from .chunks import read_chunks
from .decision import Decisions
from .engines import Engine, open_engine
from .history import fold, fusion_feeds
from .parity import ParityRow, Tolerance, compare_tensors
from .proof import ProofClip, StageError
from .scorer import Scorer
from .tolerances import decision_gate, wider_compute_type


@dataclass(frozen=True, slots=True)
class _Said:
    """What this machine said of one clip of N chunks."""

    z: list[float]
    class_probabilities: tuple[float, ...]
    visual: NDArray[np.float32]
    audio: NDArray[np.float32]


class ProofRun:
    """Every proof clip scored the way a user's clip is, chunk by chunk, its embeddings kept."""

    def __init__(self, bundle: Bundle, *, precision: str, backend: str, device: str, whisper: Path | None) -> None:
        """Scores the clips; see `Scorer` for the arguments and what it raises."""
        self._bundle = bundle
        proved, heard = bundle.manifest.whisper.compute_type, bundle.sound_contract.compute_type
        self.compute_type = wider_compute_type(proved, heard)
        """What Whisper computes in here or did in the reference, whichever may be further off."""
        self.gate = decision_gate(precision, self.compute_type)
        self._clips = bundle.proof_clips()
        with Scorer(bundle, precision=precision, backend=backend, device=device, whisper=whisper) as scorer:
            self._said = [_score_clip(scorer, bundle.path / clip.file, clip) for clip in self._clips]
        self.reference = Decisions(
            np.array([clip.z[-1] for clip in self._clips], np.float64),
            np.stack([_softmax(clip.class_logits[-1]) for clip in self._clips]),
        )
        self.decisions = Decisions(
            np.array([said.z[-1] for said in self._said]), np.stack([np.array(said.class_probabilities) for said in self._said])
        )

    @property
    def golden_audio(self) -> NDArray[np.float32]:
        """Sound embeddings of the golden clip, which is the first proof clip."""
        return self._said[0].audio

    def rows(self) -> Iterator[ParityRow]:
        """Stream equals batch: every score of every clip, against the reference over the whole clip at once."""
        tolerance = {"score": Tolerance(self.gate.score, 0.0, self.gate.reason)}
        for clip, said in zip(self._clips, self._said, strict=True):
            expected = {"score": clip.z.astype(np.float64)}
            yield from compare_tensors(f"stream equals batch, {clip.file}", expected, {"score": np.array(said.z)}, tolerance)

    def stages(self, fusion: Engine) -> tuple[StageError, ...]:
        """Each stage of the candidate alone among the reference's, and all together."""
        with open_engine(self._bundle.graph("fusion")) as reference:
            found = {
                "visual": [self._fused(reference, said.visual, clip.audio, clip) for clip, said in self._pairs()],
                "sound": [self._fused(reference, clip.visual, said.audio, clip) for clip, said in self._pairs()],
                "fusion": [self._fused(fusion, clip.visual, clip.audio, clip) for clip in self._clips],
                "all": [said.z[-1] for said in self._said],
            }
        errors = {stage: np.abs(np.array(z) - self.reference.z) for stage, z in found.items()}
        return tuple(StageError(stage, float(error.max()), float(error.mean())) for stage, error in errors.items())

    def _pairs(self) -> Iterator[tuple[ProofClip, _Said]]:
        return zip(self._clips, self._said, strict=True)

    def _fused(self, engine: Engine, visual: NDArray[np.float32], audio: NDArray[np.float32], clip: ProofClip) -> float:
        window = self._bundle.manifest.window_chunks
        feeds = fusion_feeds(fold(visual, clip.visual_mask > 0, window), fold(audio, clip.audio_mask > 0, window))
        return float(engine.run(feeds)["score"][0, -1])


def _score_clip(scorer: Scorer, path: Path, clip: ProofClip) -> _Said:
    z, visual, audio = [], np.zeros_like(clip.visual), np.zeros_like(clip.audio)
    probabilities: tuple[float, ...] = ()
    with closing(scorer.new_stream(clip.file)) as stream, read_chunks(path, scorer.bundle.contract) as chunks:
        for k, chunk in enumerate(chunks):
            score = scorer.step(stream, chunk)
            z.append(score.z)
            probabilities = score.class_probabilities
            if k < len(clip.z):
                visual[k] = 0 if stream.last_visual is None else stream.last_visual
                audio[k] = 0 if stream.last_audio is None else stream.last_audio
    return _Said(z, probabilities, visual, audio)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64) - logits.max())
    return np.asarray(powers / powers.sum())
