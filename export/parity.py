"""Parity: one engine against the reference, over every shape and mask a stream can produce.

Each visual check starts from the reference's own state (teacher forcing), so that an error cannot hide behind an earlier one, nor a
recurrence that amplifies rounding fail an engine that is right. One more check lets both engines run freely.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.engines import Engine, TensorSpec
from ..runtime.parity import ParityRow, Tolerance, compare_tensors
from ..runtime.tolerances import FLOAT32, Tolerances

Arrays = dict[str, NDArray[Any]]

BATCHES_VISUAL = (1, 2, 5)
BATCHES_FUSION = (1, 3)
CHUNKS = (1, 8, 90)
"""Chunks in a clip: the first score, a typical clip (16 s), the longest one (180 s)."""
FREE_CHUNKS = 8

_NUDGE = 1e-6
_SEED = 20_240_603


SAME_MACHINE = replace(
    FLOAT32,
    embedding=Tolerance(1e-5, 1e-5, "float32 sums of about 1,400 terms in another order: measured below 1e-6 on embeddings of order 1"),
    hidden=Tolerance(1e-4, 0.0, "16 recurrent steps of float32 convolutions; |h| < 1, measured below 1e-6"),
    cell=Tolerance(1e-4, 1e-5, "an unbounded accumulator over the same 16 steps"),
    score=Tolerance(1e-5, 1e-5, "a hundred-thousandth of the target's standard deviation: far below anything the model resolves"),
    weights=Tolerance(1e-5, 1e-5, "softmax and logits of order 1 in float32"),
)
"""A float32 engine against PyTorch on the machine that exports: closer than on any machine."""

_SIGNATURE = Tolerance(0.0, 0.0, "names, types and static sizes are a contract")


def visual_parity(reference: Engine, candidate: Engine, *, tolerances: Tolerances = SAME_MACHINE) -> list[ParityRow]:
    """Compares two engines of the graph `visual`.

    Args:
        reference: the engine that is right.
        candidate: the engine to judge.
        tolerances: how far each output may be off.

    Returns:
        One row for every check and output: signatures, single steps at three batch sizes over random and smooth pictures with partly and
        fully masked rows, and a free run over several chunks. Where the signatures differ, those rows alone.
    """
    rows = list(_signature_rows("visual", reference, candidate))
    if all(row.passed for row in rows):
        rows += _forced_rows(reference, candidate, tolerances)
        rows += _free_rows(reference, candidate, tolerances)
    return rows


def fusion_parity(reference: Engine, candidate: Engine, *, tolerances: Tolerances = SAME_MACHINE) -> list[ParityRow]:
    """Compares two engines of the graph `fusion`.

    Args:
        reference: the engine that is right.
        candidate: the engine to judge.
        tolerances: how far each output may be off.

    Returns:
        One row for every check and output: signatures, clips of 1, 8 and 90 chunks in batches of 1 and 3, with padding, a clip that is
        nothing but padding, and clips with no pictures or no sound. Where the signatures differ, those rows alone.
    """
    rows = list(_signature_rows("fusion", reference, candidate))
    if not all(row.passed for row in rows):
        return rows
    allowed = tolerances.of(spec.name for spec in reference.outputs)
    for name, feeds in _fusion_cases(reference.inputs):
        rows += compare_tensors(f"fusion, {name}", reference.run(feeds), candidate.run(feeds), allowed)
    return rows


def _signature_rows(graph: str, reference: Engine, candidate: Engine) -> Iterator[ParityRow]:
    for side, expected, found in (("inputs", reference.inputs, candidate.inputs), ("outputs", reference.outputs, candidate.outputs)):
        same = {_signature(spec) for spec in expected} == {_signature(spec) for spec in found}
        detail = "" if same else f"expected {'; '.join(map(str, expected))}, got {'; '.join(map(str, found))}"
        yield ParityRow(f"{graph}, signature", side, (len(expected),), 0.0 if same else None, _SIGNATURE, passed=same, detail=detail)


def _signature(spec: TensorSpec) -> tuple[str, str, tuple[int | None, ...]]:
    """What a dynamic dimension is called is the backend's own affair."""
    return spec.name, spec.dtype, tuple(dim if isinstance(dim, int) else None for dim in spec.shape)


def _forced_rows(reference: Engine, candidate: Engine, tolerances: Tolerances) -> Iterator[ParityRow]:
    rng = np.random.default_rng(_SEED)
    allowed = tolerances.of(spec.name for spec in reference.outputs)
    for batch in BATCHES_VISUAL:
        for kind in ("random", "smooth"):
            state = _initial_state(reference, batch)
            for step, mask in enumerate(_frame_masks(reference.inputs, batch)):
                feeds: Arrays = {"frames": _pictures(reference.inputs, batch, kind, rng), "frame_mask": mask, **state}
                expected = reference.run(feeds)
                yield from compare_tensors(f"visual, batch {batch}, {kind}, step {step}", expected, candidate.run(feeds), allowed)
                state = _carried(expected)


def _free_rows(reference: Engine, candidate: Engine, tolerances: Tolerances) -> list[ParityRow]:
    """Both engines carry their own state; what the reference makes of a nudged start bounds what can be asked of any engine."""
    rng = np.random.default_rng(_SEED + 1)
    start = _initial_state(reference, 1)
    nudged: Arrays = {name: values + np.float32(_NUDGE) for name, values in start.items()}
    chunks = [_pictures(reference.inputs, 1, "smooth", rng) for _ in range(FREE_CHUNKS)]
    expected, found, wandered = (
        _last(engine, chunks, state) for engine, state in ((reference, start), (candidate, start), (reference, nudged))
    )
    allowed = {
        name: _loosened(tolerance, float(np.abs(expected[name].astype(np.float64) - wandered[name]).max()))
        for name, tolerance in tolerances.of(spec.name for spec in reference.outputs).items()
    }
    return compare_tensors(f"visual, free run of {FREE_CHUNKS} chunks", expected, found, allowed)


def _loosened(tolerance: Tolerance, wandered: float) -> Tolerance:
    reason = f"{tolerance.reason}; a start off by {_NUDGE:g} moves the reference itself by {wandered:.1e}"
    return Tolerance(max(tolerance.atol, 10 * wandered), tolerance.rtol, reason)


def _last(engine: Engine, chunks: Sequence[NDArray[np.uint8]], state: Arrays) -> Arrays:
    outputs: Arrays = {}
    for frames in chunks:
        outputs = engine.run({"frames": frames, "frame_mask": np.ones(frames.shape[:2], np.float32), **state})
        state = _carried(outputs)
    return outputs


def _carried(outputs: Arrays) -> Arrays:
    return {name.removesuffix("_out"): values for name, values in outputs.items() if name.endswith("_out")}


def _initial_state(engine: Engine, batch: int) -> Arrays:
    state = (spec for spec in engine.inputs if spec.name not in ("frames", "frame_mask"))
    return {spec.name: np.zeros((batch, *_static(spec)), np.float32) for spec in state}


def _static(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(dim for dim in spec.shape if isinstance(dim, int))


def _frame_masks(inputs: Sequence[TensorSpec], batch: int) -> list[NDArray[np.float32]]:
    """Three steps: all real; a tail that shortens from row to row; nothing real in the last row."""
    frames = _static(_named(inputs)["frame_mask"])[0]
    whole = np.ones((batch, frames), np.float32)
    tail = (np.arange(frames)[None] < (frames - 1 - np.arange(batch)[:, None] * frames // (batch + 1))).astype(np.float32)
    empty = whole.copy()
    empty[-1] = 0
    return [whole, tail, empty]


def _pictures(inputs: Sequence[TensorSpec], batch: int, kind: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """uint8 (batch, T, H, W, 3): noise, or a slow colour wave like a pan over a gradient."""
    frames, height, width, _ = _static(_named(inputs)["frames"])
    shape = (batch, frames, height, width, 3)
    if kind == "random":
        return rng.integers(0, 256, shape, dtype=np.uint8)
    t, y, x = np.ogrid[0 : 1 : frames * 1j, 0 : 1 : height * 1j, 0 : 1 : width * 1j]
    phase, pace = rng.uniform(0, 2 * np.pi, (2, batch, 1, 1, 1, 3))
    wave = np.sin(phase + pace * (t + y + 0.5 * x)[None, ..., None])
    return np.asarray(np.rint(127.5 + 127.5 * wave), dtype=np.uint8)


def _fusion_cases(inputs: Sequence[TensorSpec]) -> Iterator[tuple[str, Arrays]]:
    rng = np.random.default_rng(_SEED + 2)
    for batch in BATCHES_FUSION:
        for chunks in CHUNKS:
            feeds = _clip(inputs, batch, chunks, rng)
            yield f"batch {batch}, {chunks} chunks", feeds
            for missing in ("visual", "audio"):
                without = {**feeds, f"{missing}_mask": np.zeros((batch, chunks), np.float32)}
                yield f"batch {batch}, {chunks} chunks, no {missing}", without


def _clip(inputs: Sequence[TensorSpec], batch: int, chunks: int, rng: np.random.Generator) -> Arrays:
    """Random embeddings and presence. In a batch the second row is half padding, filled with 1e3, and the last is nothing else."""
    specs = _named(inputs)
    feeds: dict[str, NDArray[np.float32]] = {
        name: rng.standard_normal((batch, chunks, *_static(specs[name]))).astype(np.float32) for name in ("visual", "audio")
    }
    feeds |= {f"{name}_mask": (rng.random((batch, chunks)) < 0.8).astype(np.float32) for name in ("visual", "audio")}
    feeds["chunk_mask"] = np.ones((batch, chunks), np.float32)
    if batch > 1:
        feeds["chunk_mask"][1, (chunks + 1) // 2 :] = 0
        feeds["chunk_mask"][-1] = 0
        feeds["visual"][feeds["chunk_mask"] == 0] = 1e3
    return dict(feeds)


def _named(specs: Sequence[TensorSpec]) -> Mapping[str, TensorSpec]:
    return {spec.name: spec for spec in specs}
