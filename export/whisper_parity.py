"""Parity of the sound encoder: a converted Whisper through CTranslate2 against PyTorch, over the kinds of sound that clips have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import ctranslate2
import numpy as np
from numpy.typing import NDArray

from ..errors import GateError, WeightsError
from ..runtime.chunks import read_chunks
from ..runtime.contract import ENCODER_FRAME_SAMPLES, SAMPLE_RATE_HZ, Contract, SoundContract
from ..runtime.features import encoder_frame_mask, log_mel
from ..runtime.media import ReadOptions
from ..runtime.parity import ParityRow, Tolerance, compare_tensors
from ..runtime.whisper import SoundEncoder, WhisperWeights
from .ctranslate2_file import read_ctranslate2
from .whisper_reference import WINDOW_S, WhisperReference
from .whisper_source import MODEL_BIN

_SEED = 20_240_603
_INTEGERS = "int8"


@dataclass(frozen=True, slots=True)
class SoundClip:
    """The sound of one chunk."""

    name: str
    samples: NDArray[np.float32]
    """float32 (S,), S a multiple of 320."""
    sample_mask: NDArray[np.bool_]
    """bool (S,), True where it is real."""


@dataclass(frozen=True, slots=True)
class SoundTolerances:
    """How far each output of a sound encoder may be off."""

    embedding: Tolerance
    """The mean over valid frames, as the runtime uses it."""
    frames: Tolerance
    """The encoder frames of one window together: the norm of their difference over the norm of what is right."""
    cosine: Tolerance
    """The mean over frames of 1 - cosine: what a rounding does to their directions, whatever a few very large features do."""


FLOAT32 = SoundTolerances(
    embedding=Tolerance(2e-4, 0.0, "float32 sums in another order; measured up to 2.2e-5 on embeddings that reach 10"),
    frames=Tolerance(1e-4, 0.0, "the same before the mean; measured up to 1.8e-5"),
    cosine=Tolerance(1e-8, 0.0, "measured up to 2.4e-10"),
)
"""float32 against PyTorch."""

FLOAT16 = SoundTolerances(
    embedding=Tolerance(5e-2, 0.0, "float16 resolves values near 10 to 0.008, and the errors of several layers add up"),
    frames=Tolerance(2e-2, 0.0, "the same before the mean"),
    cosine=Tolerance(1e-3, 0.0, "float16 matrix products"),
)
"""float16 against PyTorch; derived, not measured: CTranslate2 computes in float16 on a GPU alone."""

INT8 = SoundTolerances(
    embedding=Tolerance(0.5, 0.0, "weights and activations in 8 bits; measured up to 0.29 on embeddings that reach 10"),
    frames=Tolerance(0.2, 0.0, "8 bits; measured up to 0.08"),
    cosine=Tolerance(0.02, 0.0, "measured up to 7.2e-3"),
)
"""int8 weights, or matrices and activations, against PyTorch. A single frame may be far off: where speech sets in, one feature of two or
three frames is so large that it takes the whole range of 8 bits, and the worst frame's 1 - cosine was 0.64. The runtime uses their mean."""

TOLERANCES = {"float32": FLOAT32, "float16": FLOAT16, "int8": INT8}


def whisper_parity(
    reference: WhisperReference,
    candidate: Path,
    compute_type: str,
    *,
    clips: Iterable[SoundClip] | None = None,
    contract: SoundContract | None = None,
    device: str = "cpu",
) -> list[ParityRow]:
    """Compares a CTranslate2 Whisper with PyTorch on single chunks.

    Args:
        reference: the Whisper that is right.
        candidate: a CTranslate2 directory.
        compute_type: `float32`, `float16` or `int8`: how CTranslate2 is to compute, which need not be how the file is stored.
        clips: the chunks to compare on; None: `made_sounds()`.
        contract: the geometry; its sizes, hash and compute type are taken from the other arguments.
        device: `cpu` or `cuda`.

    Returns:
        For each clip the pooled embedding as the runtime computes it, the raw frames of its own short window and of the window padded to
        30 s, taken together, and how far their directions are off. A weight stored in int8 is judged as int8 however it is computed.

    Raises:
        WeightsError: the candidate does not load, or CTranslate2 cannot compute in this type on this device.
        GateError: CTranslate2 computes in another type than was asked for.
    """
    _require_support(compute_type, device)
    geometry = replace(
        contract or SoundContract(),
        whisper_sha256="",
        compute_type=compute_type,
        mel_bins=reference.mel_bins,
        embedding_dim=reference.embedding_dim,
    )
    integers = _INTEGERS in read_ctranslate2(candidate / MODEL_BIN).weight_bytes()
    tolerances = INT8 if integers else TOLERANCES[compute_type]
    heard = tuple(made_sounds() if clips is None else clips)
    rows = list(_pooled_rows(reference, candidate, heard, geometry, device, tolerances.embedding))
    return rows + list(_frame_rows(reference, _open(candidate, compute_type, device), heard, tolerances))


def made_sounds(*, chunk_s: float = 2.0) -> tuple[SoundClip, ...]:
    """Chunks made on the spot: a buzzing voice with three formants, a chord, silence, noise, and a clip's short tail."""
    samples = round(chunk_s * SAMPLE_RATE_HZ)
    rng = np.random.default_rng(_SEED)
    time_s = np.arange(samples) / SAMPLE_RATE_HZ
    whole = np.ones(samples, dtype=np.bool_)
    voice = _voice(time_s)
    tail = np.arange(samples) < 0.3 * samples
    sounds = {
        "voice": voice,
        "chord": sum((0.15 * np.sin(2 * np.pi * hz * time_s) for hz in (220.0, 277.18, 329.63, 440.0)), np.zeros(samples)),
        "silence": np.zeros(samples),
        "noise": rng.normal(0, 0.1, samples),
    }
    made = tuple(SoundClip(name, values.astype(np.float32), whole) for name, values in sounds.items())
    return (*made, SoundClip("voice, cut short", (voice * tail).astype(np.float32), tail))


def read_sounds(path: Path, contract: Contract, *, chunks: int = 4, name: str = "") -> tuple[SoundClip, ...]:
    """The first chunks of a media file that have sound, as the runtime reads them.

    Args:
        path: any file with a sound track.
        contract: how clips are read.
        chunks: how many at most.
        name: what to call them; the file's name if empty.

    Raises:
        MediaError: the file does not decode.
    """
    with read_chunks(path, contract, options=ReadOptions(use_pictures=False)) as stream:
        sounding = (chunk for chunk in stream if chunk.has_sound)
        return tuple(
            SoundClip(f"{name or path.name}, {chunk.start_s:g} s", chunk.samples, chunk.sample_mask) for chunk in islice(sounding, chunks)
        )


def _voice(time_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Harmonics of a gliding pitch near 120 Hz, loudest near 700, 1,200 and 2,600 Hz, in four syllables a second."""
    pitch = 2 * np.pi * np.cumsum(120 + 15 * np.sin(2 * np.pi * 0.7 * time_s)) / SAMPLE_RATE_HZ
    formants = ((700.0, 90.0, 1.0), (1200.0, 110.0, 0.6), (2600.0, 160.0, 0.3))
    sound = np.zeros_like(time_s)
    for harmonic in range(1, 30):
        loudness = sum(gain / (1 + ((120.0 * harmonic - hz) / width) ** 2) for hz, width, gain in formants)
        sound += loudness * np.sin(harmonic * pitch)
    return np.asarray(0.1 * sound * (0.55 + 0.45 * np.sin(2 * np.pi * 4 * time_s)))


def _pooled_rows(
    reference: WhisperReference, candidate: Path, clips: tuple[SoundClip, ...], contract: SoundContract, device: str, tolerance: Tolerance
) -> Iterator[ParityRow]:
    encoder = SoundEncoder(WhisperWeights(candidate, "the candidate"), contract, device=device)
    for clip in clips:
        expected = reference.embed(clip.samples, clip.sample_mask, tail_silence_s=contract.tail_silence_s)
        found = encoder.embed(clip.samples, clip.sample_mask)
        if expected is not None and found is not None:
            yield from compare_tensors(
                f"whisper {contract.compute_type}, {clip.name}", {"embedding": expected}, {"embedding": found}, {"embedding": tolerance}
            )


def _frame_rows(
    reference: WhisperReference, model: ctranslate2.models.Whisper, clips: tuple[SoundClip, ...], tolerances: SoundTolerances
) -> Iterator[ParityRow]:
    for clip in clips:
        valid = encoder_frame_mask(clip.sample_mask)
        for window, padded in (("own window", False), ("padded to 30 s", True)):
            expected = reference.frames(clip.samples, padded=padded)[valid]
            found = _frames(model, clip.samples, reference.mel_bins, padded=padded)[valid]
            error = np.float32(np.linalg.norm(found - expected) / np.linalg.norm(expected))
            distance = _cosine_distance(expected, found).mean()
            yield from compare_tensors(
                f"whisper {model.compute_type}, {clip.name}, {window}",
                {"frames, relative": np.zeros(1, np.float32), "frames, cosine distance": np.zeros(1, np.float32)},
                {"frames, relative": np.array([error]), "frames, cosine distance": np.array([distance])},
                {"frames, relative": tolerances.frames, "frames, cosine distance": tolerances.cosine},
            )


def _frames(model: ctranslate2.models.Whisper, samples: NDArray[np.float32], mel_bins: int, *, padded: bool) -> NDArray[np.float32]:
    """float32 (S / 320, D)."""
    window = np.pad(samples, (0, round(WINDOW_S * SAMPLE_RATE_HZ) - samples.size)) if padded else samples
    mel = ctranslate2.StorageView.from_array(log_mel(window, mel_bins=mel_bins)[None])
    encoded = np.asarray(model.encode(mel, to_cpu=True), dtype=np.float32)
    return np.asarray(encoded[0, : samples.size // ENCODER_FRAME_SAMPLES])


def _cosine_distance(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    one, other = left.astype(np.float64), right.astype(np.float64)
    cosine = (one * other).sum(axis=1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))
    return np.asarray(1 - cosine, dtype=np.float32)


def _require_support(compute_type: str, device: str) -> None:
    if compute_type not in TOLERANCES:
        raise WeightsError(f"compute_type is one of {', '.join(TOLERANCES)}, got {compute_type!r}")
    try:
        supported = ctranslate2.get_supported_compute_types(device)
    except (RuntimeError, ValueError) as error:
        raise WeightsError(f"CTranslate2 cannot use {device}: {error}") from error
    if compute_type not in supported:
        raise WeightsError(
            f"CTranslate2 does not compute in {compute_type} on this {device}, only in {', '.join(sorted(supported))}; "
            "weights stored in float16 are computed in float32 there: ask for float32"
        )


def _open(candidate: Path, compute_type: str, device: str) -> ctranslate2.models.Whisper:
    try:
        model = ctranslate2.models.Whisper(str(candidate), device=device, compute_type=compute_type, intra_threads=1)
    except (RuntimeError, ValueError) as error:
        raise WeightsError(f"CTranslate2 cannot load {candidate} on {device}: {error}") from error
    if not model.compute_type.startswith(compute_type):
        raise GateError(f"asked CTranslate2 to compute in {compute_type}, and it computes in {model.compute_type}")
    return model
