import json
from collections.abc import Callable, Iterator
from itertools import accumulate, chain
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from shortcast.errors import EngineError, GateError
from shortcast.export.speed import SpeedComparison, measure_speed, require_worthwhile

FEEDS = [{"x": np.ones((1, 2), np.float32)}, {"x": np.zeros((3, 2), np.float32)}]


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in "xy"]
    made = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "small", value[:1], value[1:])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), tmp_path / "graph.onnx")
    return tmp_path / "graph.onnx"


def clock_of(durations: list[float]) -> Callable[[], float]:
    """A clock that is read twice for each duration, in seconds, and stands still in between."""
    ends = list(accumulate(durations))
    readings: Iterator[float] = iter(chain.from_iterable(zip([0.0, *ends], ends, strict=False)))
    return lambda: next(readings)


def compared(ratios: list[float], *, threads: int = 2) -> SpeedComparison:
    reference = tuple(10.0 + index for index in range(len(ratios)))
    return SpeedComparison(reference, tuple(ratio * ms for ratio, ms in zip(ratios, reference, strict=True)), threads)


def test_rounds_alternate_and_a_sample_is_the_time_of_one_run(graph: Path) -> None:
    """Reference 2 s and candidate 1 s for two feeds, in the orders A B, B A, A B, ..."""
    durations = [2.0, 1.0, 1.0, 2.0] * 3
    speed = measure_speed(graph, graph, FEEDS, rounds=6, threads=1, clock=clock_of(durations))
    assert speed.reference_ms == pytest.approx([1000.0] * 6)
    assert speed.candidate_ms == pytest.approx([500.0] * 6)
    assert (speed.threads, speed.ratio) == (1, pytest.approx(0.5))


def test_real_time_is_measured_where_no_clock_is_given(graph: Path) -> None:
    speed = measure_speed(graph, graph, FEEDS, rounds=6)
    assert len(speed.reference_ms) == len(speed.candidate_ms) == 6
    assert min(speed.reference_ms + speed.candidate_ms) > 0
    assert speed.threads >= 1


def test_the_ratio_is_paired_so_that_a_slow_spell_bears_on_both() -> None:
    reference = (1.0, 1.0, 9.0, 9.0, 9.0, 1.0, 1.0)
    speed = SpeedComparison(reference, tuple(0.8 * ms for ms in reference), 1)
    assert speed.ratio == pytest.approx(0.8)
    assert speed.interval == pytest.approx((0.8, 0.8))


@pytest.mark.parametrize(("rounds", "outside"), [(6, 0), (8, 0), (9, 1), (20, 5), (40, 13)])
def test_the_interval_is_that_of_the_sign_test(rounds: int, outside: int) -> None:
    """Ranks from the tables of the binomial distribution (Conover, Practical Nonparametric Statistics, A3)."""
    speed = compared([1.0 + rank for rank in range(rounds)])
    assert speed.interval == pytest.approx((1.0 + outside, float(rounds - outside)))


def test_what_is_faster_beyond_chance_is_worthwhile() -> None:
    require_worthwhile(compared([0.9] * 9 + [1.5]))


@pytest.mark.parametrize(
    ("ratios", "message"),
    [
        ([1.2] * 10, r"int8 is not faster than fp32 here: it takes 1\.20 .*1\.20 to 1\.20, 10 rounds, threads: 2.*--precision fp32"),
        ([0.9] * 6 + [1.1] * 4, r"it takes 0\.90 of its time \(95 % interval 0\.90 to 1\.10"),
    ],
)
def test_what_is_slower_or_only_perhaps_faster_is_not(ratios: list[float], message: str) -> None:
    with pytest.raises(GateError, match=message) as caught:
        require_worthwhile(compared(ratios))
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(("feeds", "rounds"), [([], 10), (FEEDS, 5)])
def test_too_little_to_say_anything_is_refused(graph: Path, feeds: list[dict[str, np.ndarray]], rounds: int) -> None:
    with pytest.raises(EngineError, match="at least 6 rounds"):
        measure_speed(graph, graph, feeds, rounds=rounds)


def test_the_record_keeps_every_sample() -> None:
    plain = compared([0.5, 0.6, 0.7, 0.8, 0.9, 1.0]).to_json()
    assert json.loads(json.dumps(plain)) == plain
    assert len(plain["reference_ms"]) == len(plain["candidate_ms"]) == 6
    assert (plain["ratio"], plain["interval"]) == (pytest.approx(0.75), pytest.approx([0.5, 1.0]))
