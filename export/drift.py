"""Drift: how far a reduced precision engine strays from the reference over a long stream, and how much of that is its own doing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError, ParityError
from ..runtime.chunks import Chunk
from ..runtime.engines import Engine, Tensors
from .calibration import carried_state, initial_state, visual_feeds

NUDGE = 1e-6
"""Added to every number of the reference's initial state: about what float32 rounding leaves after one chunk."""


@dataclass(frozen=True, slots=True)
class Drift:
    """One output of the graph `visual` over a stream. Errors are absolute, each the largest over the output's elements."""

    output: str
    steps: int
    """Chunks in the stream."""
    scale: float
    """Largest magnitude in the reference."""
    forced_max: float
    """Both engines given the reference's state at every step: the error of one step alone, the largest of all."""
    free_max: float
    """Each engine carrying its own state: the largest error of all steps."""
    free_last: float
    """The same at the last step. Far below `free_max`, errors are forgotten; equal to it and above `forced_max`, they add up."""
    nudged_max: float
    """The reference against itself from a start that is off by `NUDGE`, the largest of all steps. Where this is not small the network
    amplifies whatever is put in, and a free run says nothing of precision."""
    nudged_last: float
    """The same at the last step."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def drift(reference: Engine, candidate: Engine, chunks: Sequence[Chunk], steps: int = 200) -> list[Drift]:
    """Lets two engines of the graph `visual` run over a stream, side by side.

    Args:
        reference: the engine that is right.
        candidate: the engine to judge.
        chunks: what the stream is made of, over and over from the start until it is long enough; the state is never reset.
        steps: chunks in the stream.

    Returns:
        One entry for every output of the reference.

    Raises:
        EngineError: there are no chunks or no steps, or the chunks do not fit the engines.
        ParityError: an engine gives NaN or infinity.
    """
    if not chunks or steps < 1:
        raise EngineError(f"drift: expected at least one chunk and one step, got {len(chunks)} and {steps}")
    walks: dict[str, list[_Errors]] = {spec.name: [] for spec in reference.outputs}
    for step, walk in enumerate(_walk(reference, candidate, islice(cycle(chunks), steps))):
        for name, errors in walks.items():
            errors.append(_errors(walk, name, step))
    return [_summary(name, errors) for name, errors in walks.items()]


@dataclass(frozen=True, slots=True)
class _Step:
    """What four runs over one chunk gave."""

    reference: Tensors
    forced: Tensors
    free: Tensors
    nudged: Tensors


@dataclass(frozen=True, slots=True)
class _Errors:
    scale: float
    forced: float
    free: float
    nudged: float


def _walk(reference: Engine, candidate: Engine, chunks: Iterator[Chunk]) -> Iterator[_Step]:
    right = free = initial_state(reference)
    nudged: Tensors = {name: np.asarray(values, dtype=np.float32) + np.float32(NUDGE) for name, values in right.items()}
    for chunk in chunks:
        step = _Step(
            reference=reference.run(visual_feeds(chunk, right)),
            forced=candidate.run(visual_feeds(chunk, right)),
            free=candidate.run(visual_feeds(chunk, free)),
            nudged=reference.run(visual_feeds(chunk, nudged)),
        )
        yield step
        right, free, nudged = (carried_state(outputs) for outputs in (step.reference, step.free, step.nudged))


def _errors(step: _Step, name: str, at: int) -> _Errors:
    right = np.asarray(step.reference[name], dtype=np.float64)
    found = _Errors(
        float(np.abs(right).max(initial=0.0)),
        *(_largest_error(right, outputs, name) for outputs in (step.forced, step.free, step.nudged)),
    )
    if not np.isfinite(list(asdict(found).values())).all():
        raise ParityError(f"{name} holds NaN or infinity after {at + 1} chunks: expected finite numbers")
    return found


def _largest_error(right: NDArray[np.float64], outputs: Mapping[str, NDArray[Any]], name: str) -> float:
    return float(np.abs(np.asarray(outputs[name], dtype=np.float64) - right).max(initial=0.0))


def _summary(name: str, errors: Sequence[_Errors]) -> Drift:
    return Drift(
        output=name,
        steps=len(errors),
        scale=max(step.scale for step in errors),
        forced_max=max(step.forced for step in errors),
        free_max=max(step.free for step in errors),
        free_last=errors[-1].free,
        nudged_max=max(step.nudged for step in errors),
        nudged_last=errors[-1].nudged,
    )
