"""What a bundle proves itself with: clips encoded, decoded again, heard, and PyTorch's answers written down."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from ..models.checkpoint import Checkpoint
from ..runtime.bundle import GOLDEN, GOLDEN_CLIP, PROOF_CLIPS, graph_file
from ..runtime.chunks import Chunk, read_chunks
from ..runtime.contract import Contract
from ..runtime.engines import open_engine
from ..runtime.golden import save_golden
from ..runtime.proof import save_proof_clips
from ..runtime.whisper import SoundEncoder
from .calibration import Calibration, EmbeddedChunks, calibration_from
from .golden import embed_sound, make_golden, make_proof_clip
from .proof_clips import write_proof_clips

CALIBRATION_CHUNKS = 8
"""Of each calibration clip."""


def record(trained: Checkpoint, sound: SoundEncoder, golden_clip: Path, clips: Sequence[Path], aside: Path) -> list[EmbeddedChunks]:
    """Encodes the proof clips, writes down what PyTorch makes of them, and gives them back decoded and heard."""
    folder = (aside / GOLDEN_CLIP).parent
    folder.mkdir(parents=True)
    paths = write_proof_clips(golden_clip, clips, trained.contract, folder)
    decoded = [_decoded(path, trained.contract) for path in paths]
    save_golden(make_golden(trained, decoded[0], sound), aside / GOLDEN)
    names = [path.relative_to(aside).as_posix() for path in paths]
    answers = [make_proof_clip(trained, name, chunks, sound) for name, chunks in zip(names, decoded, strict=True)]
    save_proof_clips(answers, aside / PROOF_CLIPS)
    return [EmbeddedChunks(chunks, answer.audio, answer.audio_mask) for chunks, answer in zip(decoded, answers, strict=True)]


def _decoded(path: Path, contract: Contract, *, most: int | None = None) -> tuple[Chunk, ...]:
    with read_chunks(path, contract) as stream:
        return tuple(islice(stream, most))


def calibrate(
    trained: Checkpoint, sound: SoundEncoder, clips: Sequence[Path], recorded: Sequence[EmbeddedChunks], aside: Path
) -> Calibration:
    """What both graphs are fed by clips of their own, or by the proof clips where there are no others."""
    heard = [_heard(_decoded(clip, trained.contract, most=CALIBRATION_CHUNKS), sound, trained.contract) for clip in clips]
    with open_engine(aside / graph_file("visual")) as visual:
        return calibration_from(heard or recorded, visual, trained.fusion.config.window)


def _heard(chunks: tuple[Chunk, ...], sound: SoundEncoder, contract: Contract) -> EmbeddedChunks:
    return EmbeddedChunks(chunks, *embed_sound(chunks, sound, contract.sound.embedding_dim))
