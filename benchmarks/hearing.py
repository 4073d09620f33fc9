"""Whisper encoders side by side, each with its log-mel and its encoder apart, so that both can be timed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from ..runtime.bundle import WHISPER, Bundle
from ..runtime.contract import ENCODER_FRAME_SAMPLES, SAMPLE_RATE_HZ
from ..runtime.features import encoder_frame_mask, log_mel
from ..runtime.whisper import SoundEncoder, WhisperWeights, resolve_whisper


class Ears(Protocol):
    """A Whisper encoder whose two halves can be called apart; `embed` is both, and the mean over what is real."""

    def features(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 (S,) -> log-mel float32 (M, F)."""
        ...

    def encode(self, mel: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 (M, F) -> float32 (F / 2, D)."""
        ...

    def embed(self, samples: NDArray[np.float32], sample_mask: NDArray[np.bool_]) -> NDArray[np.float32] | None: ...


WHISPERS = (
    "ctranslate2 float32",
    "ctranslate2 int8",
    "transformers float32",
    "transformers float32 padded to 30 s",
    "whisper.cpp",
)
"""What `--whisper-backend` knows. Nearly everybody's Whisper pads its input to 30 s; the model here was trained on exact windows."""


def open_ears(name: str, bundle: Bundle, *, device: str, threads: int, whisper: Path | None = None) -> Ears:
    """Loads one of `WHISPERS`, or of CTranslate2's other types of computation.

    Args:
        name: library and type of computation.
        bundle: whose Whisper it is.
        device: `cpu` or `cuda`.
        threads: for one call.
        whisper: a directory with the weights; None looks in the usual places.

    Raises:
        EngineError: the library isn't installed, or cannot do what is needed here.
        WeightsError: the weights are not found or do not load.
    """
    library, _, rest = name.partition(" ")
    openers: dict[str, Callable[[], Ears]] = {
        "ctranslate2": lambda: _ctranslate2(rest, bundle, device=device, threads=threads, whisper=whisper),
        "transformers": lambda: _transformers("padded" in rest, bundle, device=device, threads=threads, whisper=whisper),
        "whisper.cpp": _whisper_cpp,
    }
    if library not in openers:
        raise EngineError(f"Whisper backend {name!r} is unknown; it is one of {'; '.join(WHISPERS)}")
    return openers[library]()


def whisper_weights(bundle: Bundle, whisper: Path | None) -> WhisperWeights:
    """Where the bundle's Whisper is."""
    return resolve_whisper(bundle.contract.sound.whisper, explicit=whisper, bundled=bundle.path / WHISPER)


def _ctranslate2(compute_type: str, bundle: Bundle, *, device: str, threads: int, whisper: Path | None) -> SoundEncoder:
    contract = replace(bundle.sound_contract, compute_type=compute_type)
    return SoundEncoder(whisper_weights(bundle, whisper), contract, device=device, threads=threads)


def _transformers(padded: bool, bundle: Bundle, *, device: str, threads: int, whisper: Path | None) -> Ears:
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if missing:
        raise EngineError(f"{missing[0]} is not installed: pip install 'shortcast[whisper-convert]'")
    import torch

    from ..export.whisper_reference import WhisperReference

    torch.set_num_threads(threads)
    reference = WhisperReference.load(whisper_weights(bundle, whisper).path, device=device)
    return _Reference(reference, padded=padded, tail_silence_s=bundle.contract.sound.tail_silence_s)


def _whisper_cpp() -> Ears:
    if find_spec("pywhispercpp") is None:
        raise EngineError("pywhispercpp is not installed: pip install pywhispercpp")
    raise EngineError(
        "whisper.cpp's Python binding gives text and not the encoder's output that a score is made of, so no score of it can be proved"
    )


class _Encoder(Protocol):
    """What a `WhisperReference` offers here."""

    mel_bins: int

    def encode(self, mel: NDArray[np.float32]) -> NDArray[np.float32]: ...


class _Reference:
    """transformers' Whisper in PyTorch."""

    def __init__(self, reference: _Encoder, *, padded: bool, tail_silence_s: float) -> None:
        self._reference, self._padded, self._tail_s = reference, padded, tail_silence_s

    def features(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        wanted = 30 * SAMPLE_RATE_HZ if self._padded else samples.size + round(self._tail_s * SAMPLE_RATE_HZ)
        return log_mel(np.pad(samples, (0, wanted - samples.size)), mel_bins=self._reference.mel_bins)

    def encode(self, mel: NDArray[np.float32]) -> NDArray[np.float32]:
        encoded: NDArray[np.float32] = self._reference.encode(mel[None])[0]
        return encoded

    def embed(self, samples: NDArray[np.float32], sample_mask: NDArray[np.bool_]) -> NDArray[np.float32] | None:
        valid = encoder_frame_mask(sample_mask)
        if not valid.any():
            return None
        frames = self.encode(self.features(samples))[: samples.size // ENCODER_FRAME_SAMPLES]
        return np.asarray(frames[valid].mean(axis=0), dtype=np.float32)
