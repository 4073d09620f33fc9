"""The preprocessing contract: everything about pictures, sound and chunks that training and scoring must share.

A contract travels inside every checkpoint and every bundle. Training reads clips with the same code and the same contract as
the runtime, so preprocessing parity holds by construction.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from fractions import Fraction
from typing import Any, TypeVar

from ..errors import BundleError

SAMPLE_RATE_HZ = 16_000
"""Whisper hears 16 kHz mono and nothing else."""

ENCODER_FRAME_SAMPLES = 320
"""Samples behind one Whisper encoder frame: a mel hop of 160, halved in time by the second convolution."""


@dataclass(frozen=True, slots=True)
class PictureContract:
    """How pictures are sampled and scaled."""

    fps: Fraction = Fraction(8)
    """Pictures per second of media time, picked on the PTS grid."""
    height: int = 160
    width: int = 96
    fit: str = "letterbox"
    """The whole picture, scaled to fit and centred on black; its display aspect ratio is kept."""
    scaler: str = "area+accurate_rnd+full_chroma"
    """swscale flags: 40.9 dB against a full-resolution area average, where the defaults reach 26 dB."""
    colour: str = "rgb24"


@dataclass(frozen=True, slots=True)
class SoundContract:
    """What the Whisper encoder is given for one chunk, and how its output becomes one vector."""

    whisper: str = "tiny.en"
    whisper_sha256: str = ""
    """SHA-256 of the `model.bin` the model was trained with; empty until training has seen it."""
    compute_type: str = "float32"
    mel_bins: int = 80
    embedding_dim: int = 384
    left_context_s: float = 0.0
    tail_silence_s: float = 0.0
    position: str = "zero"
    """Encoder positions start at zero in every chunk: CTranslate2 offers no other."""
    pooling: str = "mean over valid frames"


@dataclass(frozen=True, slots=True)
class Contract:
    """Pictures, sound and the fixed windows `[index * chunk_s, (index + 1) * chunk_s)` they are cut into."""

    chunk_s: float = 2.0
    fold_tail_s: float = 0.25
    """A last remainder shorter than this makes no chunk of its own (AAC padding alone would)."""
    picture: PictureContract = field(default_factory=PictureContract)
    sound: SoundContract = field(default_factory=SoundContract)

    def __post_init__(self) -> None:
        frames = self.chunk_s * self.picture.fps
        if frames != int(frames) or frames < 1:
            raise BundleError(f"contract: chunk_s {self.chunk_s} at {self.picture.fps} fps is not a whole number of frames")
        if self.sound.left_context_s != 0 or self.sound.position != "zero":
            raise BundleError("contract: only left_context_s 0 and position 'zero' are implemented for the sound encoder")
        if self.samples_per_chunk % ENCODER_FRAME_SAMPLES:
            raise BundleError(f"contract: chunk_s {self.chunk_s} is not a whole number of 20 ms encoder frames")

    @property
    def frames_per_chunk(self) -> int:
        """T, pictures in one chunk."""
        return int(self.chunk_s * self.picture.fps)

    @property
    def samples_per_chunk(self) -> int:
        """S, sound samples in one chunk."""
        return round(self.chunk_s * SAMPLE_RATE_HZ)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` is the exact inverse."""
        plain = asdict(self)
        plain["picture"]["fps"] = str(self.picture.fps)
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Contract:
        """Reads what `to_json` wrote.

        Raises:
            BundleError: a key is unknown or missing, or a value is not implemented.
        """
        picture = dict(plain.get("picture", {}))
        if "fps" in picture:
            picture["fps"] = Fraction(picture["fps"])
        parts = {"picture": _strict(PictureContract, picture), "sound": _strict(SoundContract, plain.get("sound", {}))}
        return _strict(cls, {**plain, **parts})

    def digest(self) -> str:
        """SHA-256 over the canonical JSON: two equal contracts give equal features."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()


T = TypeVar("T")


def _strict(kind: type[T], plain: Mapping[str, Any]) -> T:
    names = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    if set(plain) != names:
        odd = sorted(set(plain) ^ names)
        raise BundleError(f"contract: {kind.__name__} has unknown or missing keys {odd}")
    return kind(**plain)
