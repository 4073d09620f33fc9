from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
import pytest
from numpy.typing import NDArray

from shortcast.errors import EngineError, ParityError
from shortcast.export.drift import NUDGE, Drift, drift
from shortcast.runtime.chunks import Chunk
from shortcast.runtime.engines import Tensors, TensorSpec, open_engine
from shortcast.runtime.golden import load_golden

Step = Callable[[float, float], float]
"""Picture and state -> the next state."""


class Recurrence:
    """An engine of one number of state: `embedding` is twice the new state."""

    inputs = (
        TensorSpec("frames", "uint8", ("batch", 1, 1, 1, 3)),
        TensorSpec("frame_mask", "float32", ("batch", 1)),
        TensorSpec("h0", "float32", ("batch", 1)),
    )
    outputs = (TensorSpec("embedding", "float32", ("batch", 1)), TensorSpec("h0_out", "float32", ("batch", 1)))

    def __init__(self, step: Step) -> None:
        self.step = step
        self.seen: list[int] = []

    def run(self, feeds: Mapping[str, NDArray[np.generic]]) -> Tensors:
        picture = int(feeds["frames"][0, 0, 0, 0, 0])
        self.seen.append(picture)
        state = np.array([[self.step(float(picture), float(feeds["h0"][0, 0]))]], np.float64)
        return {"embedding": 2 * state, "h0_out": state}

    def close(self) -> None: ...

    def __enter__(self) -> "Recurrence":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


def chunk(value: int) -> Chunk:
    return Chunk(
        index=0,
        start_s=0.0,
        end_s=2.0,
        frames=np.full((1, 1, 1, 3), value, np.uint8),
        frame_mask=np.array([True]),
        samples=np.zeros(8, np.float32),
        sample_mask=np.zeros(8, np.bool_),
        epoch=0,
        final=False,
        decode_s=0.0,
        lost_packets=0,
    )


CHUNKS = [chunk(1), chunk(2), chunk(3)]


def found(reference: Step, candidate: Step, steps: int) -> dict[str, Drift]:
    return {row.output: row for row in drift(Recurrence(reference), Recurrence(candidate), CHUNKS, steps)}


def test_an_engine_that_is_the_same_has_no_error() -> None:
    rows = found(lambda x, h: 0.5 * h + x, lambda x, h: 0.5 * h + x, 7)
    assert [(row.steps, row.forced_max, row.free_max, row.free_last) for row in rows.values()] == [(7, 0, 0, 0)] * 2
    assert rows["embedding"].scale == 2 * rows["h0_out"].scale == 2 * 4.78125


def test_errors_that_are_forgotten_stay_at_their_sum() -> None:
    """Each step adds 0.01 and half of what was there is kept: never more than 0.02."""
    row = found(lambda x, h: 0.5 * h + x, lambda x, h: 0.5 * h + x + 0.01, 30)["h0_out"]
    assert row.forced_max == pytest.approx(0.01)
    assert row.free_max == pytest.approx(row.free_last) == pytest.approx(0.02)
    assert row.nudged_max == pytest.approx(NUDGE / 2)
    assert row.nudged_last == pytest.approx(NUDGE / 2**30, abs=1e-12)


def test_errors_that_add_up_show_in_the_free_run_alone() -> None:
    row = found(lambda x, h: h + x, lambda x, h: h + x + 0.01, 30)["h0_out"]
    assert row.forced_max == pytest.approx(0.01)
    assert row.free_last == pytest.approx(0.3)
    assert row.nudged_last == pytest.approx(NUDGE)


def test_one_bad_step_shows_in_the_maximum_and_not_at_the_end() -> None:
    row = found(lambda x, h: x, lambda x, h: x + (0.5 if x == 2 else 0.0), 3)["h0_out"]
    assert (row.free_max, row.free_last) == (0.5, 0.0)


def test_a_chaotic_reference_gives_itself_away() -> None:
    row = found(lambda x, h: 3 * h + x, lambda x, h: 3 * h + x, 12)["h0_out"]
    assert row.free_max == 0
    assert row.nudged_last == pytest.approx(NUDGE * 3**12)


def test_chunks_come_again_until_the_stream_is_long_enough() -> None:
    candidate = Recurrence(lambda x, h: x)
    drift(Recurrence(lambda x, h: x), candidate, CHUNKS, 4)
    assert candidate.seen == [1, 1, 2, 2, 3, 3, 1, 1]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_engine_that_gives_no_number_is_refused(bad: float) -> None:
    with pytest.raises(ParityError, match="embedding holds NaN or infinity after 2 chunks"):
        found(lambda x, h: x, lambda x, h: bad if x == 2 else x, 3)


@pytest.mark.parametrize(("chunks", "steps"), [([], 5), (CHUNKS, 0)])
def test_no_chunks_and_no_steps_are_refused(chunks: list[Chunk], steps: int) -> None:
    engine = Recurrence(lambda x, h: x)
    with pytest.raises(EngineError, match=f"got {len(chunks)} and {steps}"):
        drift(engine, engine, chunks, steps)


def test_the_demo_model_forgets_a_nudge(demo: Path) -> None:
    """Trained weights are not chaotic, so that a free run of them measures precision."""
    chunks = load_golden(demo / "golden" / "golden.npz").chunks
    with open_engine(demo / "onnx" / "visual.fp32.onnx", threads=1) as engine:
        rows = drift(engine, engine, chunks, 5)
    assert {row.output for row in rows} == {"embedding", "h0_out", "c0_out", "h1_out", "c1_out"}
    assert all(row.free_max == 0 and row.nudged_max < 10 * NUDGE * max(1, row.scale) for row in rows)
    assert rows[0].to_json()["steps"] == 5
