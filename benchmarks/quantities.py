"""What is compared between two rows: each quantity with its samples, its figure, and which way is better."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .ratio import Samples, Statistic, figure_of, geometric_mean, percentile_of
from .results import Row, Run
from .statistics import needed_samples, throughput
from .summary import cold_ms, latency_names, runs_of

PERCENTS = {"median": 50.0, "p90": 90.0, "p99": 99.0}
NAMES = (*PERCENTS, "throughput", "rate", "streams", "rss", "vram", "cold")
"""Names of all quantities, as `--fail-if` takes them."""
_SIZES = ("rss", "vram")
_MORE_IS_BETTER = ("throughput", "rate")


@dataclass(frozen=True, slots=True)
class Quantity:
    """One figure of a row, from the samples of each of its runs."""

    name: str
    series: str
    """What is timed, for percentiles; else empty."""
    unit: str
    runs: tuple[Samples, ...]
    """float64 (samples,) for each run; figures of a whole run are one sample."""
    statistic: Statistic
    needed: int
    """Samples of all runs together, below which there is no figure."""

    @property
    def key(self) -> tuple[str, str]:
        """Finds the same quantity of another row."""
        return self.name, self.series

    @property
    def count(self) -> int:
        """Samples of all runs."""
        return sum(map(len, self.runs))

    @property
    def figure(self) -> float | None:
        """None where there are too few samples."""
        return figure_of(self.statistic, self.runs) if self.count >= max(1, self.needed) else None


def words_of(name: str) -> tuple[str, str]:
    """What less and more of a quantity are called."""
    if name in _SIZES:
        return "smaller", "larger"
    if name == "streams":
        return "fewer", "more"
    return ("slower", "faster") if name in _MORE_IS_BETTER else ("faster", "slower")


def quantities(row: Row) -> Iterator[Quantity]:
    """Everything of a row that can be compared."""
    for series in latency_names(row):
        runs = tuple(runs_of(row, series))
        for name, percent in PERCENTS.items():
            yield Quantity(name, series, "ms", runs, percentile_of(percent), needed_samples(percent))
    yield from (_of_runs(row, name, unit, of) for name, unit, of in (_pace(row), *_PER_RUN) if _has(row.runs, of))


def _of_runs(row: Row, name: str, unit: str, of: Callable[[Run], float | None]) -> Quantity:
    values = tuple(np.array([value]) for run in row.runs if (value := of(run)) is not None)
    return Quantity(name, "", unit, values, geometric_mean, 1)


def _has(runs: Sequence[Run], of: Callable[[Run], float | None]) -> bool:
    """Whether every run tells a positive figure: some that do not would make the others look like all."""
    found = [of(run) for run in runs]
    return bool(found) and all(value is not None and value > 0 for value in found)


def _pace(row: Row) -> tuple[str, str, Callable[[Run], float | None]]:
    """What a scenario finds: where the pace is set from outside, throughput says nothing of the machine."""
    if row.case.scenario == "server":
        return "rate", "1/s", lambda run: run.outcome.get("rate_per_s")
    if row.case.scenario == "live":
        return "streams", "streams", lambda run: run.outcome.get("streams")
    return "throughput", "1/s", throughput


def _vram(run: Run) -> float | None:
    return None if run.memory.peak_vram_bytes is None else float(run.memory.peak_vram_bytes)


_PER_RUN: tuple[tuple[str, str, Callable[[Run], float | None]], ...] = (
    ("rss", "B", lambda run: float(run.memory.peak_rss_bytes)),
    ("vram", "B", _vram),
    ("cold", "ms", cold_ms),
)
