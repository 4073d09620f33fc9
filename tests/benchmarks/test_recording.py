"""A closed loop on a made-up clock: it has its time and its samples, or its cap, and keeps every sample."""

from itertools import repeat
from types import ModuleType

import pytest

from shortcast.benchmarks.recording import Record, RunRule, closed_loop


@pytest.mark.parametrize(
    ("call_s", "rule", "calls"),
    [
        (0.1, RunRule(least_s=2.0, least_samples=5, most_s=9.0), 20),
        (0.1, RunRule(least_s=2.0, least_samples=40, most_s=9.0), 40),
        (0.1, RunRule(least_s=2.0, least_samples=80, most_s=9.0), 80),
        (0.1, RunRule(least_s=2.0, least_samples=400, most_s=9.0), 40),  # they would not come: twice its time
        (0.1, RunRule(least_s=2.0, least_samples=400, most_s=3.0), 30),
        (30.0, RunRule(least_s=2.0, least_samples=400, most_s=9.0), 1),
    ],
)
def test_it_ends_by_time_and_count(fake: ModuleType, call_s: float, rule: RunRule, calls: int) -> None:
    clock, record, script = fake.FakeClock(), Record(), repeat(call_s)

    def once(to: Record) -> float:
        to.add("clip", clock.take(script))
        return 1.0

    wall_s = closed_loop(once, record, rule, counted="clip", now=clock.now)
    assert record.count("clip") == pytest.approx(calls, abs=1)  # tenths of a second do not add up exactly
    assert wall_s == pytest.approx(record.count("clip") * call_s)
    (series,) = record.series()
    assert (series.name, series.unit, series.measured_from) == ("clip", "ms", "call")
    assert series.values == pytest.approx([1e3 * call_s] * record.count("clip"))
