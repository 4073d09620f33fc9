"""Clips -> features on disk: read by the runtime's own decoder and sound encoder, once for each file and contract.

    FEATURES/<contract digest>/<sha256 of the clip>/
      frames.npy             uint8 (N, T, H, W, 3), memory-mapped when loaded (0.75 MB a chunk)
      features.safetensors   everything else, small

An entry is written aside and renamed, so it is whole or absent: extraction can be killed anywhere and run again, and nothing is
repeated or lost. The contract holds the hash of the Whisper weights, so other weights are another cache.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, fields
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ..errors import DataError, MediaError
from ..runtime.chunks import Chunk, read_chunks
from ..runtime.contract import Contract, SoundContract
from ..runtime.whisper import SoundEncoder, WhisperWeights

_READ_BYTES = 1 << 20
_STALE_S = 3600.0
"""A half-written entry this old belongs to a process that was killed."""

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class ClipFeatures:
    """What the model is given for one clip of N chunks."""

    frames: NDArray[np.uint8]
    """uint8 (N, T, H, W, 3)."""
    frame_mask: NDArray[np.bool_]
    """bool (N, T)."""
    epochs: NDArray[np.int64]
    """int64 (N,): recurrent state is reset where this changes."""
    sound: NDArray[np.float32]
    """float32 (N, Da): Whisper embeddings, zeros where there is no sound."""
    sound_mask: NDArray[np.bool_]
    """bool (N,)."""
    end_s: NDArray[np.float64]
    """float64 (N,): where the media of each chunk ends."""

    @property
    def picture_mask(self) -> NDArray[np.bool_]:
        """True where a chunk has any picture; bool (N,)."""
        return np.asarray(self.frame_mask.any(axis=1))


@dataclass(frozen=True, slots=True)
class ReadyClip:
    """A clip whose features are in the store."""

    id: str
    sha256: str
    chunks: int
    duration_s: float


@dataclass(frozen=True, slots=True)
class FailedClip:
    """A clip that gave no features, and why."""

    id: str
    reason: str


class FeatureStore:
    """Features by the SHA-256 of the clip, all under one contract."""

    def __init__(self, root: Path, contract: Contract) -> None:
        self.folder = root / contract.digest()[:16]

    def __contains__(self, sha256: str) -> bool:
        return (self.folder / sha256).is_dir()

    def load(self, sha256: str) -> ClipFeatures:
        """Opens one entry; frames stay on disk until they are looked at.

        Raises:
            DataError: there is no such entry, or it is not one that `save` wrote.
        """
        entry = self.folder / sha256
        try:
            frames = np.load(entry / "frames.npy", mmap_mode="r", allow_pickle=False)
            return ClipFeatures(frames=frames, **load_file(entry / "features.safetensors"))
        except (OSError, ValueError, TypeError, SafetensorError) as error:
            raise DataError(f"cached features {entry} cannot be read ({error}); delete that folder and run again") from error

    def save(self, sha256: str, features: ClipFeatures) -> None:
        """Writes one entry whole. If another process was first, its entry stays: the same file gives the same features.

        Raises:
            DataError: the disk refuses.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=".part-", dir=self.folder))
            np.save(aside / "frames.npy", features.frames)
            small = {field.name: getattr(features, field.name) for field in fields(features) if field.name != "frames"}
            save_file(small, aside / "features.safetensors")
            self._publish(aside, sha256)
        except (OSError, SafetensorError) as error:
            raise DataError(f"features cannot be written to {self.folder}: {error}") from error

    def size_bytes(self, entries: Iterable[str]) -> int:
        """Bytes on disk of these entries, as far as they are there."""
        return sum(file.stat().st_size for sha256 in entries for file in (self.folder / sha256).glob("*"))

    def sweep(self) -> None:
        """Removes what killed processes left half-written."""
        for aside in self.folder.glob(".part-*"):
            if time.time() - aside.stat().st_mtime > _STALE_S:
                shutil.rmtree(aside, ignore_errors=True)

    def _publish(self, aside: Path, sha256: str) -> None:
        try:
            os.replace(aside, self.folder / sha256)
        except OSError:
            if sha256 not in self:
                raise
            shutil.rmtree(aside)


class Clips(Protocol):
    """Features of many clips, opened one at a time: a list in memory, or `StoredClips`."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> ClipFeatures: ...


@dataclass(frozen=True, slots=True)
class StoredClips:
    """`Clips` that lie in a store."""

    store: FeatureStore
    clips: Sequence[ReadyClip]

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int, /) -> ClipFeatures:
        return self.store.load(self.clips[index].sha256)


def extract_clip(path: Path, contract: Contract, sound: SoundEncoder) -> ClipFeatures:
    """Reads one clip chunk by chunk, as scoring does.

    Raises:
        MediaError: the clip cannot be opened, or nothing in it decodes.
    """
    with read_chunks(path, contract) as stream:
        rows = [(chunk, sound.embed(chunk.samples, chunk.sample_mask)) for chunk in stream]
    return features_of([chunk for chunk, _ in rows], [embedding for _, embedding in rows], contract)


def features_of(chunks: Sequence[Chunk], sound: Sequence[NDArray[np.float32] | None], contract: Contract) -> ClipFeatures:
    """Stacks the chunks of a clip and their sound embeddings (None where a chunk has no sound)."""
    nothing = np.zeros(contract.sound.embedding_dim, dtype=np.float32)
    return ClipFeatures(
        frames=np.stack([chunk.frames for chunk in chunks]),
        frame_mask=np.stack([chunk.frame_mask for chunk in chunks]),
        epochs=np.array([chunk.epoch for chunk in chunks], dtype=np.int64),
        sound=np.stack([nothing if embedding is None else embedding for embedding in sound]),
        sound_mask=np.array([embedding is not None for embedding in sound]),
        end_s=np.array([chunk.end_s for chunk in chunks], dtype=np.float64),
    )


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def prepare_features(
    clips: Mapping[str, Path],
    store_root: Path,
    *,
    contract: Contract,
    whisper: WhisperWeights,
    jobs: int = 1,
    on_clip: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[list[ReadyClip], list[FailedClip]]:
    """Makes sure every clip's features are in the store; only what is missing is computed.

    Args:
        clips: file by clip id.
        store_root: the folder of the `FeatureStore`.
        contract: how clips are read; its Whisper hash must be that of `whisper`.
        whisper: the weights of the sound encoder.
        jobs: worker processes. They are spawned, so a decoder that crashes takes one clip with it and not the run.
        on_clip: called after every clip with (done, total).

    Returns:
        Clips that are ready and clips that failed, each in the order of `clips`.

    Raises:
        DataError: the store cannot be written.
        WeightsError: the Whisper weights do not load, or are not those of the contract.
    """
    FeatureStore(store_root, contract).sweep()
    tasks = [_ClipTask(clip, path, store_root, contract, whisper) for clip, path in clips.items()]
    ready: dict[str, ReadyClip] = {}
    failed: dict[str, FailedClip] = {}
    with closing(in_processes(_prepare, tasks, jobs=jobs)) as outcomes:  # an interrupt drops what is queued at once
        for done, (task, outcome) in enumerate(outcomes, start=1):
            if isinstance(outcome, ReadyClip):
                ready[task.id] = outcome
            else:
                failed[task.id] = outcome or FailedClip(task.id, "the process that read this clip died")
            on_clip(done, len(tasks))
    return [ready[clip] for clip in clips if clip in ready], [failed[clip] for clip in clips if clip in failed]


def in_processes(
    work: Callable[[_Task], _Result], tasks: Sequence[_Task], *, jobs: int
) -> Generator[tuple[_Task, _Result | None], None, None]:
    """Runs `work` on every task in spawned processes, and gives each task with its result as it is done.

    A task whose process dies gives None. Which one it was cannot be told from a pool of several, so after a death the tasks that are
    left run one at a time.
    """
    left: list[_Task] = []
    with _Pool(jobs) as pool:
        futures = {pool.submit(work, task): task for task in tasks}
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except BrokenProcessPool:
                left.append(futures[future])
    while left:
        with _Pool(1) as pool:
            alive = True
            while left and alive:
                task = left.pop()
                try:
                    result: _Result | None = pool.submit(work, task).result()
                except BrokenProcessPool:
                    result, alive = None, False
                yield task, result


class _Pool(ProcessPoolExecutor):
    """A pool of spawned processes (FFmpeg's threads and fork do not mix) that drops what is queued when its block is left early."""

    def __init__(self, jobs: int) -> None:
        super().__init__(jobs, mp_context=get_context("spawn"), initializer=_leave_interrupts_to_the_parent)

    def __exit__(self, *_: object) -> None:
        self.shutdown(wait=True, cancel_futures=True)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@dataclass(frozen=True, slots=True)
class _ClipTask:
    id: str
    path: Path
    store_root: Path
    contract: Contract
    whisper: WhisperWeights


def _prepare(task: _ClipTask) -> ReadyClip | FailedClip:
    store = FeatureStore(task.store_root, task.contract)
    try:
        sha256 = file_sha256(task.path)
        if sha256 not in store:
            store.save(sha256, extract_clip(task.path, task.contract, _sound_encoder(task.whisper, task.contract.sound)))
    except (MediaError, OSError) as error:
        return FailedClip(task.id, str(error))
    end_s = store.load(sha256).end_s
    return ReadyClip(task.id, sha256, len(end_s), float(end_s[-1]))


@lru_cache(maxsize=1)
def _sound_encoder(whisper: WhisperWeights, contract: SoundContract) -> SoundEncoder:
    """One encoder for all the clips of a worker."""
    return SoundEncoder(whisper, contract)
