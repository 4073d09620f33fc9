"""What a run writes down while it goes on, and how long it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

from .results import Series


@dataclass(slots=True)
class Record:
    """Raw samples by name, and what was worked through."""

    clips: int = 0
    chunks: int = 0
    media_s: float = 0.0
    outcome: dict[str, float] = field(default_factory=dict)
    _values: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float, *, unit: str = "ms", measured_from: str = "call") -> None:
        """One more sample of a series."""
        self._values.setdefault((name, unit, measured_from), []).append(value)

    def count(self, name: str) -> int:
        """Samples of a series so far."""
        return sum(len(values) for (known, _, _), values in self._values.items() if known == name)

    def series(self) -> tuple[Series, ...]:
        """Everything, in the order the series began."""
        return tuple(Series(name, unit, tuple(values), came) for (name, unit, came), values in self._values.items())


@dataclass(frozen=True, slots=True)
class RunRule:
    """A run ends when it has had both its time and its samples, or at its cap; after twice its time where they will not come by then."""

    least_s: float
    least_samples: int
    most_s: float

    def enough(self, spent_s: float, samples: int) -> bool:
        """Whether to stop here."""
        if spent_s >= self.least_s and samples >= self.least_samples:
            return True
        will_come = samples * self.most_s >= self.least_samples * spent_s
        return spent_s >= self.most_s or (spent_s >= 2 * self.least_s and not will_come)


def closed_loop(
    once: Callable[[Record], float], record: Record, rule: RunRule, *, counted: str, now: Callable[[], float] = perf_counter
) -> float:
    """The next call begins when the last one ends. Returns wall seconds.

    Args:
        once: does the work once, and records it.
        record: where it goes.
        rule: how long.
        counted: the series whose samples count.
        now: the clock, in seconds.
    """
    begun = now()
    once(record)
    while not rule.enough(now() - begun, record.count(counted)):
        once(record)
    return now() - begun
