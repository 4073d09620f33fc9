"""Warm-up that ends by rule, not by hope: times have settled, or patience has run out and the row says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter

from .results import WarmUp


@dataclass(frozen=True, slots=True)
class WarmUpRule:
    """At least so many calls and so much time, and three windows within 5 % of one another; `most_s` is the cap."""

    least_calls: int = 10
    least_s: float = 0.2
    window: int = 5
    """Calls in a window; a window is judged by its median, which one stall does not move."""
    windows: int = 3
    within: float = 1.05
    """Largest over smallest of the windows."""
    most_s: float = 10.0

    def settled(self, times: Sequence[float], spent_s: float) -> bool:
        """Whether these calls were enough."""
        wanted = self.window * self.windows
        if len(times) < max(self.least_calls, wanted) or spent_s < self.least_s:
            return False
        last = times[-wanted:]
        medians = [median(last[k * self.window : (k + 1) * self.window]) for k in range(self.windows)]
        return min(medians) > 0 and max(medians) / min(medians) <= self.within


def warm_up(call: Callable[[], float], rule: WarmUpRule = WarmUpRule(), *, now: Callable[[], float] = perf_counter) -> WarmUp:
    """Calls until times have settled or the cap is reached; all of it is thrown away.

    Args:
        call: does the work once and says how long it took, in any unit that compares from call to call.
        rule: see `WarmUpRule`.
        now: the clock, in seconds.
    """
    begun, times, spent_s = now(), [], 0.0
    settled = False
    while not settled and spent_s < rule.most_s:
        times.append(call())
        spent_s = now() - begun
        settled = rule.settled(times, spent_s)
    return WarmUp(len(times), spent_s, settled)
