"""Running TensorRT's builder: in a thread of its own, watched, and given up as soon as someone says so.

The native call holds whichever thread it runs in until it is done. In the main thread Ctrl-C would do nothing until then, so it runs in
another, and the main thread waits where a signal reaches it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

from ..errors import EngineError
from .trt_network import ParsedNetwork

_POLL_S = 0.05
_GRACE_S = 20.0
"""How long a build that was given up may take to notice: the longest that TensorRT-RTX was seen silent is 4 s."""


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """How far a build is."""

    phase: str
    """TensorRT's name of the outermost phase; a build has one or a few, one after the other."""
    step: str
    """The innermost phase under way."""
    fraction: float
    """Of the outermost phase, 0 to 1; it never falls. Steps count alike though they don't last alike."""


class BuildWatch:
    """What a build's threads report and what they are told: safe to use from any of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = threading.Event()
        self._phases: dict[str, _Phase] = {}
        self._latest: BuildProgress | None = None

    def cancel(self) -> None:
        """Makes the build stop at its next step."""
        self._cancelled.set()

    def latest(self) -> BuildProgress | None:
        """The newest progress; None before the first phase."""
        with self._lock:
            return self._latest

    def phase_start(self, name: str, parent: str | None, steps: int) -> None:
        with self._lock:
            self._phases[name] = _Phase(parent if parent in self._phases else None, max(steps, 1))
            self._note(name)

    def step_complete(self, name: str, step: int) -> bool:
        """Notes a finished step and says whether to go on."""
        with self._lock:
            if name in self._phases:
                self._phases[name].done = step + 1
                self._note(name)
        return not self._cancelled.is_set()

    def phase_finish(self, name: str) -> None:
        with self._lock:
            if name in self._phases:
                self._phases[name].done = self._phases[name].steps
                self._note(name)
                del self._phases[name]

    def _note(self, name: str) -> None:
        outermost, fraction = name, self._phases[name].fraction(0.0)
        while (parent := self._phases[outermost].parent) in self._phases and parent is not None:
            outermost, fraction = parent, self._phases[parent].fraction(fraction)
        if self._latest and self._latest.phase == outermost:
            fraction = max(fraction, self._latest.fraction)
        self._latest = BuildProgress(outermost, name, fraction)


@dataclass(slots=True)
class _Phase:
    parent: str | None
    steps: int
    done: int = 0

    def fraction(self, inside: float) -> float:
        """`inside`: how far the step under way is."""
        return min((self.done + inside) / self.steps, 1.0)


def run_build(
    trt: Any,
    parsed: ParsedNetwork,
    config: Any,
    *,
    progress: Callable[[BuildProgress], None] | None,
    cancelled: Callable[[], bool],
) -> bytes:
    """Builds the engine and returns its bytes.

    Args:
        trt: the TensorRT module.
        parsed: the network.
        config: the builder's configuration, complete.
        progress: called in the calling thread, as things happen.
        cancelled: asked in the calling thread, 20 times a second; True gives the build up.

    Raises:
        EngineError: the build failed, with what TensorRT said, or was given up.
        KeyboardInterrupt: Ctrl-C; the build was given up first.
    """
    watch = BuildWatch()
    monitor = _native_monitor(trt, watch)
    config.progress_monitor = monitor
    plan = watched(lambda: parsed.builder.build_serialized_network(parsed.network, config), watch, progress=progress, cancelled=cancelled)
    # A build that fails returns None, without an exception.
    if plan is None:
        raise EngineError(f"TensorRT cannot build {parsed.name}: {parsed.log.errors() or 'it gave no reason'}")
    return bytes(plan)


def watched(
    work: Callable[[], Any], watch: BuildWatch, *, progress: Callable[[BuildProgress], None] | None, cancelled: Callable[[], bool]
) -> Any:
    """Runs `work` in another thread while this one reports progress and listens for reasons to stop.

    Raises:
        EngineError: `cancelled` said so.
        KeyboardInterrupt: Ctrl-C.
        Exception: what `work`, `progress` or `cancelled` raised. In every case `watch` was told to stop, and the thread was waited for.
    """
    outcome: Future[Any] = Future()
    # A daemon: should native code never come back, it must not keep the process alive.
    thread = threading.Thread(target=_settle, args=(outcome, work), name="engine build", daemon=True)
    thread.start()
    try:
        said = None
        while not outcome.done():
            wait([outcome], timeout=_POLL_S)
            latest = watch.latest()
            if progress and latest and latest != said:
                progress(latest)
                said = latest
            if cancelled():
                raise EngineError("the engine build was cancelled; nothing was written")
        return outcome.result()
    except BaseException:
        watch.cancel()
        thread.join(_GRACE_S)
        raise


def _settle(outcome: Future[Any], work: Callable[[], Any]) -> None:
    try:
        outcome.set_result(work())
    except BaseException as error:  # handed to the waiting thread, which raises it
        outcome.set_exception(error)


def _native_monitor(trt: Any, watch: BuildWatch) -> Any:
    class Native(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            watch.phase_start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return watch.step_complete(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            watch.phase_finish(phase_name)

    return Native()
