"""Warm-up ends by rule, on a made-up clock."""

from collections.abc import Iterable
from itertools import chain, count, repeat
from types import ModuleType

import pytest

from shortcast.benchmarks.results import WarmUp
from shortcast.benchmarks.warmup import WarmUpRule, warm_up


def warmed(fake: ModuleType, seconds: Iterable[float], rule: WarmUpRule) -> WarmUp:
    clock, script = fake.FakeClock(), iter(seconds)
    found: WarmUp = warm_up(lambda: clock.take(script), rule, now=clock.now)
    return found


@pytest.mark.parametrize(
    ("seconds", "calls"),
    [
        (repeat(0.02), 15),
        (repeat(0.01), 20),  # 15 calls are but 150 ms
        (chain([0.4, 0.3], repeat(0.02)), 15),  # a window of five is judged by its median: two slow calls do not move it
        (chain([0.4, 0.3, 0.2], repeat(0.02)), 16),
        (chain([0.4, 0.3, 0.2, 0.15, 0.1], repeat(0.02)), 18),
        (chain([0.1 * 0.9**k for k in range(20)], repeat(0.01)), 33),
        (repeat(0.8), 3),  # calls that long are windows by themselves
        (chain([3.0], repeat(0.8)), 4),
        (repeat(0.2), 9),  # windows of three: half a second
    ],
)
def test_it_ends_when_three_windows_agree(fake: ModuleType, seconds: Iterable[float], calls: int) -> None:
    found = warmed(fake, seconds, WarmUpRule())
    assert (found.calls, found.settled) == (calls, True)


def test_it_ends_at_its_cap_and_says_so(fake: ModuleType) -> None:
    growing = (0.01 * 1.05**k for k in count())
    found = warmed(fake, growing, WarmUpRule(most_s=2.0))
    assert not found.settled
    assert 2.0 <= found.seconds < 2.2


def test_calls_longer_than_the_cap_are_as_many_as_are_compared(fake: ModuleType) -> None:
    found = warmed(fake, repeat(6.0), WarmUpRule(most_s=2.0))
    assert (found.calls, found.settled) == (3, True)
    found = warmed(fake, (6.0 * 1.2**k for k in count()), WarmUpRule(most_s=2.0))
    assert (found.calls, found.settled) == (3, False)
