"""Which Whisper a bundle hears with: the one its model was trained with, or another form of it, which then has to prove itself."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from ..errors import WeightsError
from ..runtime.bundle import WHISPER, WhisperFile
from ..runtime.contract import Contract, SoundContract
from ..runtime.parity import ParityRow
from ..runtime.whisper import MODEL_FILE, SoundEncoder, WhisperWeights, resolve_whisper


@dataclass(frozen=True, slots=True)
class SoundOptions:
    """Which Whisper to hear with, and where it is kept."""

    source: Path | None = None
    """A CTranslate2, Hugging Face or OpenAI directory; None: the weights the model was trained with, from the usual places."""
    compute_type: str | None = None
    """CTranslate2's type of computation: `float32`, `float16` or `int8`; None: as in training."""
    embed: bool = False
    """Put the weights into the bundle. A checkpoint that had to be converted always is."""


@dataclass(frozen=True, slots=True)
class ChosenSound:
    """A Whisper to hear with, and the one that is right."""

    reference: SoundEncoder
    """The weights and the type of computation of training."""
    file: WhisperFile
    explicit: Path | None
    """Where a scorer has to be told to look; None where the bundle or the usual places have it."""
    rows: tuple[ParityRow, ...]
    """The encoder against PyTorch on speech, music, silence and noise; empty where nothing differs from training."""


def choose_sound(contract: Contract, options: SoundOptions, golden_clip: Path, root: Path) -> ChosenSound:
    """Finds or makes the weights, embeds them where that is asked for, and compares the encoder with PyTorch where it is another.

    Args:
        contract: the checkpoint's.
        options: see `SoundOptions`.
        golden_clip: a clip to compare on, beside sounds that are made.
        root: the bundle's directory.

    Raises:
        WeightsError: the weights are not found, cannot be converted, or CTranslate2 cannot compute in the type asked for.
    """
    sound = contract.sound
    given = _as_trained(options.source, sound)
    trained = resolve_whisper(sound.whisper, explicit=given)
    compute_type = options.compute_type or sound.compute_type
    heard = trained if options.source in (None, given) else _another(options.source, compute_type, root)
    embedded = heard.path == root / WHISPER
    if options.embed and not embedded:
        heard, embedded = _embed(heard, root), True
    sha256 = heard.sha256()
    differs = (sha256, compute_type) != (trained.sha256(), sound.compute_type)
    return ChosenSound(
        reference=SoundEncoder(trained, sound),
        file=WhisperFile(sound.whisper, sha256, compute_type, embedded),
        explicit=None if embedded else options.source,
        rows=_parity(trained.path, heard.path, compute_type, golden_clip, contract) if differs else (),
    )


def _as_trained(source: Path | None, sound: SoundContract) -> Path | None:
    """The directory that was given, where it holds the very weights of training."""
    if source is None or not (source / MODEL_FILE).is_file():
        return None
    same = not sound.whisper_sha256 or WhisperWeights(source, "given by the user").sha256() == sound.whisper_sha256
    return source if same else None


def _another(source: Path | None, compute_type: str, root: Path) -> WhisperWeights:
    """Other weights than those of training: as they are where CTranslate2 reads them, else converted into the bundle."""
    if source is None or (source / MODEL_FILE).is_file():
        return resolve_whisper("", explicit=source)
    from .whisper import Compute, convert_whisper

    convert_whisper(source, root / WHISPER, compute=cast(Compute, compute_type))
    return WhisperWeights(root / WHISPER, "the bundle")


def _embed(weights: WhisperWeights, root: Path) -> WhisperWeights:
    try:
        shutil.copytree(weights.path, root / WHISPER, ignore=shutil.ignore_patterns(".*", "*.md"))
    except (OSError, shutil.Error) as error:
        raise WeightsError(f"{weights.path} cannot be copied into the bundle: {error}") from error
    return WhisperWeights(root / WHISPER, "the bundle")


def _parity(trained: Path, heard: Path, compute_type: str, golden_clip: Path, contract: Contract) -> tuple[ParityRow, ...]:
    from .whisper_parity import made_sounds, read_sounds, whisper_parity
    from .whisper_reference import WhisperReference

    clips = (*made_sounds(chunk_s=contract.chunk_s), *read_sounds(golden_clip, contract))
    rows = whisper_parity(WhisperReference.load(trained), heard, compute_type, clips=clips, contract=contract.sound)
    return tuple(replace(row, check=f"sound encoder, {row.check}") for row in rows)
