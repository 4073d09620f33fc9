"""Warm-up that ends by rule, not by hope: times have settled, or patience has run out and the row says so."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from time import perf_counter

from .results import WarmUp


@dataclass(frozen=True, slots=True)
class WarmUpRule:
    """At least so much time, and three windows within 10 % of one another, as a run's own windows must be; `most_s` is the cap."""

    least_s: float = 0.2
    window: int = 5
    """Calls in a window; a window is judged by its median, which one stall does not move."""
    window_s: float = 0.5
    """A window of fewer calls is enough where they last as long as this: a call that long is a mean of much work."""
    windows: int = 3
    within: float = 1.10
    """Largest over smallest of the windows."""
    most_s: float = 10.0
    """After it there is no other call, if there have been as many as there are windows: fewer cannot be judged."""

    def settled(self, times: Sequence[float], seconds: Sequence[float]) -> bool:
        """Whether these calls were enough.

        Args:
            times: what is compared, in any unit.
            seconds: how long each call lasted.
        """
        if len(times) < self.windows or sum(seconds) < self.least_s:
            return False
        lasting_s = median(seconds[-self.windows :])
        window = max(1, min(self.window, math.ceil(self.window_s / lasting_s) if lasting_s > 0 else self.window))
        last = times[-window * self.windows :]
        if len(last) < window * self.windows:
            return False
        medians = [median(last[k * window : (k + 1) * window]) for k in range(self.windows)]
        return min(medians) > 0 and max(medians) / min(medians) <= self.within


def warm_up(call: Callable[[], float], rule: WarmUpRule = WarmUpRule(), *, now: Callable[[], float] = perf_counter) -> WarmUp:
    """Calls until times have settled or the cap is reached; all of it is thrown away.

    Args:
        call: does the work once and says how long it took, in any unit that compares from call to call.
        rule: see `WarmUpRule`.
        now: the clock, in seconds.
    """
    begun, ends = now(), [0.0]
    times: list[float] = []
    settled = False
    while not settled and (ends[-1] < rule.most_s or len(times) < rule.windows):
        times.append(call())
        ends.append(now() - begun)
        settled = rule.settled(times, [after - before for before, after in pairwise(ends)])
    return WarmUp(len(times), ends[-1], settled)
