"""A process for every run: spawned, watched, timed out, and ended with the benchmark."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from time import monotonic
from typing import IO, Any

from ..errors import EngineError
from .memory import MemoryWatch, watch_memory
from .nvml import NoNvml, Nvml
from .results import MemoryTrace
from .task import Answer, Task

_STOP_S = 5.0


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that came to its end."""

    answer: Answer
    memory: MemoryTrace


def run_task(task: Task, *, timeout_s: float, nvml: Nvml | NoNvml | None = None, interval_s: float = 0.008) -> Finished:
    """Does a task in a new process, and ends that process whatever happens here.

    Args:
        task: what to do.
        timeout_s: how long it may take.
        nvml: where VRAM is read.
        interval_s: between looks at its memory.

    Raises:
        EngineError: one sentence: the child refused, crashed, or took too long.
    """
    with tempfile.TemporaryFile("w+b") as said, _child(said) as child, watch_memory(child.pid, interval_s=interval_s, nvml=nvml) as watch:
        assert child.stdin is not None
        assert child.stdout is not None
        with suppress(BrokenPipeError):  # it has died already, and what it said is read below
            child.stdin.write(json.dumps(replace(task, spawned_s=monotonic()).to_json()) + "\n")
            child.stdin.flush()
        stopper = threading.Timer(timeout_s, child.kill)
        stopper.start()
        try:
            last = _follow(child.stdout, watch)
            child.wait()
        finally:
            in_time = stopper.is_alive()
            stopper.cancel()
        if last is None:
            raise EngineError(_failure(child.returncode, said, timeout_s, in_time=in_time))
    if "refusal" in last:
        raise EngineError(last["refusal"])
    answer = Answer.from_json(last["answer"])
    if answer.peak_rss_bytes:
        watch.peak(answer.peak_rss_bytes)
    return Finished(answer, watch.trace(parts=answer.parts))


@contextmanager
def _child(said: IO[bytes]) -> Iterator[subprocess.Popen[str]]:
    """A session of its own: Ctrl-C reaches the benchmark alone, which then ends the child."""
    command = [sys.executable, "-m", "shortcast.benchmarks.child"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True, start_new_session=True) as child:
        try:
            yield child
        finally:
            if child.poll() is None:
                child.terminate()
                try:
                    child.wait(_STOP_S)
                except subprocess.TimeoutExpired:
                    child.kill()


def _follow(events: IO[str], watch: MemoryWatch) -> dict[str, Any] | None:
    """Hands marks on; the last event, where it is one that ends a run."""
    last: dict[str, Any] = {}
    for line in events:
        last = json.loads(line)
        if "mark" in last:
            watch.mark(last["mark"], at=last["at_s"])
    return last if last.keys() & {"answer", "refusal"} else None


def _failure(status: int | None, said: IO[bytes], timeout_s: float, *, in_time: bool) -> str:
    """Why a process gave no answer."""
    if not in_time:
        return f"its process was ended after {timeout_s:.0f} s without an answer"
    said.seek(0)
    lines = [line for line in said.read().decode("utf-8", "replace").splitlines() if line.strip()]
    last = f": {lines[-1].strip()}" if lines else ""
    if status is not None and status < 0:
        return f"its process was ended by {signal.Signals(-status).name}{last}"
    return f"its process ended with status {status}{last}"
