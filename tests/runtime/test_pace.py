"""Keeping pace: what is late, what was missed, and the line at the end."""

from collections.abc import Callable

import pytest

from shortcast.runtime.pace import KEPT_ANSWERS, P99_SAMPLES, Pace, PaceKeeper, PaceTally
from shortcast.runtime.score import Latency, Score


def test_lateness_queue_and_factor_of_scripted_chunks() -> None:
    keeper = PaceKeeper(live=True, deadline_s=0.5)
    first = keeper.scored(2.0, ready_s=10.0, taken_s=10.1, scored_s=10.3)
    keeper.miss(2.0)
    keeper.miss(1.5, reconnects=1)
    second = keeper.scored(2.0, ready_s=12.0, taken_s=12.4, scored_s=12.75)
    assert (first.live, first.deadline_ms, first.late_ms, first.late_chunks, first.gap_s, first.reconnects) == (True, 500, 0, 0, 0, 0)
    assert (first.queue_ms, first.real_time_factor) == (pytest.approx(100), pytest.approx(0.1))
    assert (second.queue_ms, second.late_ms) == (pytest.approx(400), pytest.approx(250))
    assert (second.late_chunks, second.gap_s, second.reconnects) == (1, 3.5, 1)
    assert second.real_time_factor == pytest.approx(0.55 / 4)


def tallied(made_score: Callable[..., Score], answers_ms: list[float]) -> PaceTally:
    tally = PaceTally()
    for index, answer_ms in enumerate(answers_ms):
        pace = Pace(True, 2000.0, late_chunks=1, real_time_factor=0.05, gap_s=4.0, reconnects=2)
        tally.add(made_score(index=index, dropped_chunks=1, latency=Latency(0, 0, 0, 0, answer_ms=answer_ms), pace=pace))
    return tally


def test_the_line_at_the_end(made_score: Callable[..., Score]) -> None:
    line = tallied(made_score, [float(number) for number in range(1, 101)]).summary()
    assert line == (
        "100 chunks scored, 1 dropped, 1 late (deadline 2000 ms), answer p50 50 ms, answer p99 99 ms, "
        "real-time factor 0.050, 2 reconnects, 4.0 s not scored"
    )


@pytest.mark.parametrize(("samples", "known"), [(1, []), (4, []), (5, ["p50"]), (P99_SAMPLES - 1, ["p50"]), (P99_SAMPLES, ["p50", "p99"])])
def test_percentiles_need_samples(made_score: Callable[..., Score], samples: int, known: list[str]) -> None:
    line = tallied(made_score, [1.0] * samples).summary()
    assert [name for name in ("p50", "p99") if name in line] == known


def test_a_tally_is_bounded_and_counts_a_repeated_chunk_once(made_score: Callable[..., Score]) -> None:
    tally = tallied(made_score, [1.0] * (KEPT_ANSWERS + 10))
    tally.add(made_score(index=KEPT_ANSWERS + 9, final=True))
    assert tally.chunks == KEPT_ANSWERS + 10
    assert len(tally.answers_ms) == KEPT_ANSWERS
    assert PaceTally().summary() == "no chunk scored"
