"""Two graphs against each other on this machine's CPU: interleaved, paired, every sample kept, and a verdict only beyond chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import comb
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from ..errors import EngineError, GateError
from ..runtime.cpu import available_cpus
from ..runtime.engines import Engine, Tensors, open_engine

CONFIDENCE = 0.95
MIN_ROUNDS = 6
"""With fewer, not even all rounds together say anything at 95 %."""


@dataclass(frozen=True, slots=True)
class SpeedComparison:
    """Wall time per run, round by round: the n-th entries of both were taken one right after the other."""

    reference_ms: tuple[float, ...]
    candidate_ms: tuple[float, ...]
    threads: int
    """Intra-op threads of each engine."""

    @property
    def ratio(self) -> float:
        """Median over rounds of candidate / reference: below 1 the candidate is faster."""
        return median(self._ratios())

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of that median, by the sign test: it assumes nothing of how times are distributed."""
        ratios = sorted(self._ratios())
        outside = _ranks_outside(len(ratios))
        return ratios[outside], ratios[-1 - outside]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, the raw samples among them."""
        return {
            "ratio": self.ratio,
            "interval": list(self.interval),
            "confidence": CONFIDENCE,
            "threads": self.threads,
            "reference_ms": list(self.reference_ms),
            "candidate_ms": list(self.candidate_ms),
        }

    def _ratios(self) -> list[float]:
        return [candidate / reference for reference, candidate in zip(self.reference_ms, self.candidate_ms, strict=True)]


def measure_speed(
    reference: Path,
    candidate: Path,
    feeds: Sequence[Tensors],
    *,
    rounds: int = 40,
    threads: int | None = None,
    clock: Callable[[], float] = perf_counter,
) -> SpeedComparison:
    """Times two graphs on the same inputs with ONNX Runtime on the CPU.

    A round runs all feeds through one graph and then through the other, and the next round begins with the other one; so whatever else
    the machine is doing bears on both. One round before the first is not counted.

    Args:
        reference: the ONNX file to compare with.
        candidate: the ONNX file to judge.
        feeds: inputs for both.
        rounds: how often, at least `MIN_ROUNDS`.
        threads: intra-op threads; None takes the CPU quota.
        clock: gives seconds.

    Raises:
        EngineError: there are no feeds or too few rounds, or a graph does not run.
    """
    if not feeds or rounds < MIN_ROUNDS:
        raise EngineError(f"speed: expected feeds and at least {MIN_ROUNDS} rounds, got {len(feeds)} feeds and {rounds} rounds")
    used = threads or available_cpus()
    with ExitStack() as stack:
        engines = [stack.enter_context(open_engine(path, threads=used)) for path in (reference, candidate)]
        for engine in engines:
            _run_ms(engine, feeds, perf_counter)
        samples: tuple[list[float], list[float]] = ([], [])
        for turn in range(rounds):
            for which in (0, 1) if turn % 2 == 0 else (1, 0):
                samples[which].append(_run_ms(engines[which], feeds, clock))
    return SpeedComparison(tuple(samples[0]), tuple(samples[1]), used)


def require_worthwhile(speed: SpeedComparison, *, what: str = "int8") -> None:
    """Does nothing where the candidate is faster beyond chance.

    Args:
        speed: float32 against it.
        what: the candidate, as the message calls it.

    Raises:
        GateError: it is not; says how the two compare.
    """
    low, high = speed.interval
    if high >= 1:
        raise GateError(
            f"{what} is not faster than fp32 here: it takes {speed.ratio:.2f} of its time (95 % interval {low:.2f} to {high:.2f}, "
            f"{len(speed.reference_ms)} rounds, threads: {speed.threads}), and less than 1 was expected; use --precision fp32"
        )


def _run_ms(engine: Engine, feeds: Sequence[Tensors], clock: Callable[[], float]) -> float:
    begun = clock()
    for feed in feeds:
        engine.run(feed)
    return 1e3 * (clock() - begun) / len(feeds)


def _ranks_outside(count: int) -> int:
    """How many of the smallest, and of the largest, of so many values lie outside the interval of their median."""
    outside, tail = 0, 1.0
    while tail + comb(count, outside + 1) <= (1 - CONFIDENCE) / 2 * 2**count:
        outside += 1
        tail += comb(count, outside)
    return outside
