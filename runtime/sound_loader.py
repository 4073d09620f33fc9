"""What a scorer hears with, loaded in a thread of its own beside everything else a start does."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from .bundle import WHISPER, Bundle

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .start_cache import StartCache
    from .whisper import WhisperWeights


class Hearing(Protocol):
    """What turns the sound of a chunk into one vector, as `SoundEncoder` does."""

    def embed(self, samples: NDArray[np.float32], sample_mask: NDArray[np.bool_]) -> NDArray[np.float32] | None: ...


class SoundLoader:
    """Loads what hears, once: when a clip first has sound, or before. A clip without sound never waits for it. Thread-safe."""

    def __init__(self, load: Callable[[int], Hearing]) -> None:
        """Loads nothing yet.

        Args:
            load: takes the threads of one call. What it raises, `result` raises.
        """
        self._load = load
        self._lock = Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shortcast-load-sound")
        self._loading: Future[Hearing] | None = None

    def begin(self, threads: int) -> Future[Hearing]:
        """Begins to load, unless that has begun already."""
        with self._lock:
            if self._loading is None:
                self._loading = self._thread.submit(self._load, threads)
            return self._loading

    def close(self) -> None:
        """Waits for what has begun; nothing begins any more."""
        self._thread.shutdown(cancel_futures=True)


def whisper_loader(bundle: Bundle, *, device: str = "cpu", whisper: Path | None = None, cache: StartCache | None = None) -> SoundLoader:
    """Loads the Whisper encoder that a bundle is to hear with, and makes its first call, which takes three times as long as the others.

    Args:
        bundle: the opened bundle.
        device: `cpu` or `cuda`.
        whisper: a directory with the weights; None looks in the usual places, see `resolve_whisper`.
        cache: see `SoundEncoder`.
    """

    def load(threads: int) -> Hearing:
        from .whisper import SoundEncoder

        encoder = SoundEncoder(weights_for(bundle, whisper), bundle.sound_contract, device=device, threads=threads, cache=cache)
        encoder.warm_up()
        return encoder

    return SoundLoader(load)


def weights_for(bundle: Bundle, whisper: Path | None) -> WhisperWeights:
    """The Whisper weights of a bundle; see `resolve_whisper`."""
    from .whisper import resolve_whisper

    return resolve_whisper(bundle.contract.sound.whisper, explicit=whisper, bundled=bundle.path / WHISPER)
