"""A contender with a known answer: scripted latencies on a made-up clock, engines that are slow, wrong, hungry, or keep answers.

Its functions are also backends of their own for the command line: `--backend fake_contender:wrong` with this folder on the path.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shortcast.benchmarks.results import ColdStart, MachineState, MemoryTrace, Run, Series, WarmUp
from shortcast.benchmarks.station import Ticket
from shortcast.runtime.bundle import Bundle
from shortcast.runtime.engines import Engine, Tensors, open_engine


class FakeClock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def now(self) -> float:
        return self.at_s

    def take(self, seconds: Iterator[float]) -> float:
        """A call that takes the next of these; milliseconds of it."""
        spent = next(seconds)
        self.at_s += spent
        return 1e3 * spent


class FakeStation:
    """Workers behind one queue, in made-up time: the n-th query to be begun takes the n-th of the scripted seconds."""

    def __init__(self, service_s: Iterable[float], *, workers: int = 1) -> None:
        self._service_s = iter(service_s)
        self._free_s = [0.0] * workers
        self._pending: list[tuple[Ticket, float]] = []
        self._at_s = 0.0

    def now(self) -> float:
        return self._at_s

    def wait_until(self, at_s: float) -> None:
        self._at_s = max(self._at_s, at_s)
        for ticket, ended_s in self._pending:
            if ended_s <= self._at_s:
                ticket.ended_s = ended_s
        self._pending = [(ticket, ended_s) for ticket, ended_s in self._pending if ended_s > self._at_s]

    def submit(self, ticket: Ticket) -> None:
        worker = min(range(len(self._free_s)), key=self._free_s.__getitem__)
        self._free_s[worker] = max(self._at_s, self._free_s[worker]) + next(self._service_s)
        self._pending.append((ticket, self._free_s[worker]))


def some_run(*series: Series, outcome: Mapping[str, float] | None = None) -> Run:
    state = MachineState(None, None, None, None)
    memory = MemoryTrace(100 << 20, "VmHWM", None, "no GPU", 0.01, ())
    return Run(0, 0, ColdStart(1, 2, 3), WarmUp(10, 1.0, True), 1.0, 1.0, 1, 7, 13.4, series, memory, state, state, dict(outcome or {}))


class Around:
    """A real engine with something done before each call or to each answer."""

    def __init__(self, inner: Engine, before: Callable[[Mapping[str, Any]], None], after: Callable[[Tensors], Tensors]) -> None:
        self._inner, self._before, self._after = inner, before, after
        self.inputs, self.outputs = inner.inputs, inner.outputs

    def run(self, feeds: Mapping[str, NDArray[np.generic]]) -> Tensors:
        self._before(feeds)
        return self._after(self._inner.run(feeds))

    def close(self) -> None:
        self._inner.close()

    def __enter__(self) -> Around:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _engines(bundle: Bundle, threads: int) -> tuple[Engine, Engine]:
    visual, fusion = (open_engine(bundle.graph(name), threads=threads) for name in ("visual", "fusion"))
    return visual, fusion


def right(bundle: Bundle, *, precision: str, device: str, threads: int) -> tuple[Engine, Engine]:
    return _engines(bundle, threads)


def wrong(bundle: Bundle, *, precision: str, device: str, threads: int) -> tuple[Engine, Engine]:
    """Fast, and off by a tenth of a standard deviation."""
    visual, fusion = _engines(bundle, threads)
    return visual, Around(fusion, lambda _: None, lambda answer: {**answer, "score": answer["score"] + np.float32(0.1)})


def not_a_number(bundle: Bundle, *, precision: str, device: str, threads: int) -> tuple[Engine, Engine]:
    visual, fusion = _engines(bundle, threads)
    return visual, Around(fusion, lambda _: None, lambda answer: {**answer, "score": answer["score"] * np.float32("nan")})


def slow(bundle: Bundle, *, precision: str, device: str, threads: int) -> tuple[Engine, Engine]:
    """40 ms for each visual call at least, and 64 MiB that are really there."""
    visual, fusion = _engines(bundle, threads)
    held = np.ones(64 << 20, np.uint8)
    return Around(visual, lambda _: time.sleep(0.04 + 0.0 * held[0]), lambda answer: answer), fusion


def keeps_answers(bundle: Bundle, *, precision: str, device: str, threads: int) -> tuple[Engine, Engine]:
    """Is slow with pictures it has not seen."""
    visual, fusion = _engines(bundle, threads)
    seen: set[bytes] = set()

    def look(feeds: Mapping[str, Any]) -> None:
        pictures = feeds["frames"].tobytes()
        time.sleep(0.0 if pictures in seen else 0.2)
        seen.add(pictures)

    return Around(visual, look, lambda answer: answer), fusion


def crashes(bundle: Bundle, *, precision: str, device: str, threads: int) -> tuple[Engine, Engine]:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def hangs(bundle: Bundle, *, precision: str, device: str, threads: int) -> tuple[Engine, Engine]:
    time.sleep(600)
    raise AssertionError


def brings_torch(bundle: Bundle, *, precision: str, device: str, threads: int) -> tuple[Engine, Engine]:
    import torch  # noqa: F401

    return _engines(bundle, threads)
