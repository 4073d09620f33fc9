"""Figures of a row that tables and charts show, made from its raw samples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median, median_low

import numpy as np

from .ratio import Ratio, Samples, percentile_of, ratio_of
from .results import Case, Results, Row, Run
from .statistics import Percentile, between_runs, percentile, pooled, throughput

LATENCIES = ("clip", "answer")
"""Series that say how long a user waits, the most telling first; the others are parts of that."""
_NO_LATENCY = ("tried", "audit", "media", "finished")
"""Series that serve a curve or a check begin with one of these."""
REFERENCE = ("torch-eager", "fp32")
"""Backend and precision that everything is held against."""


@dataclass(frozen=True, slots=True)
class Latency:
    """One series of all runs of a row."""

    series: str
    measured_from: str
    samples: tuple[float, ...]
    """Milliseconds."""
    p50: Percentile
    p90: Percentile
    p99: Percentile
    spread: float | None
    """Largest over smallest median of the runs, less 1."""
    times_reference: Ratio | None
    """The reference's median over this one: 2 is twice as fast. None where there is no reference, or this is it."""


def withheld(row: Row, results: Results) -> str | None:
    """Why a row's figures are not shown: one sentence; None where they are. No parity, no number."""
    if row.refusal or not row.runs:
        return row.refusal or "it has no runs"
    if row.parity is None:
        return "its scores were not compared with PyTorch's"
    if not row.parity.passed:
        return "its scores are further from PyTorch's than tolerated"
    if row.parity.bundle != results.bundle["id"]:
        return "its scores were compared with PyTorch's on another bundle"
    return None


def shown_rows(results: Results) -> tuple[Row, ...]:
    """Rows that may be shown with figures."""
    return tuple(row for row in results.rows if withheld(row, results) is None)


def latencies(row: Row, results: Results) -> tuple[Latency, ...]:
    """Of every series of a row that is a time, the most telling first."""
    against = reference_of(row, results)
    return tuple(_latency(row, name, against) for name in latency_names(row))


def headline(row: Row, results: Results) -> Latency | None:
    """The most telling latency of a row."""
    name = next(iter(latency_names(row)), None)
    return None if name is None else _latency(row, name, reference_of(row, results))


def middle_of(row: Row, outcome: str) -> float | None:
    """Of what a scenario found in each run, the middle one, the lower where there are two: a rate or a number that was reached."""
    found = [run.outcome[outcome] for run in row.runs if outcome in run.outcome]
    return median_low(found) if found else None


def proved(row: Row) -> bool:
    """Whether every run could show with confidence what it found; where nothing of the kind was asked, yes."""
    return all(run.outcome.get("proved", 1.0) for run in row.runs)


def latency_names(row: Row) -> tuple[str, ...]:
    """Names of the series in milliseconds that are no helpers of a curve, the most telling first."""
    names = dict.fromkeys(series.name for run in row.runs for series in run.series if series.unit == "ms")
    timed = [name for name in names if not name.startswith(_NO_LATENCY)]
    return tuple(sorted(timed, key=lambda name: LATENCIES.index(name) if name in LATENCIES else len(LATENCIES)))


def reference_of(row: Row, results: Results) -> Row | None:
    """PyTorch's row for the same scope, scenario and device, with the same sound encoder if there is one; None for that row itself."""
    fitting = [one for one in shown_rows(results) if _is_reference(one.case) and _asked_alike(one.case, row.case)]
    fitting.sort(key=lambda one: (one.case.whisper != row.case.whisper, one.case.whisper.startswith("ctranslate2")))
    return None if not fitting or _is_reference(row.case) else fitting[0]


def runs_of(row: Row, name: str) -> list[Samples]:
    """Samples of one series, float64 (samples,) for each run that has any."""
    return [np.array(samples) for run in row.runs if (samples := run.samples(name))]


def real_time_factor(row: Row) -> float | None:
    """Seconds of work for a second of clip; None where no clip was played."""
    media_s = sum(run.media_s for run in row.runs)
    return sum(run.wall_s for run in row.runs) / media_s if media_s > 0 else None


def per_second(row: Row) -> tuple[float, str]:
    """Median over the runs of clips, or of chunks where no whole clip was scored, in a second by the wall; and which."""
    return median(throughput(run) for run in row.runs), "clips" if any(run.clips for run in row.runs) else "chunks"


def peak_rss_bytes(row: Row) -> int:
    """Of the worst run."""
    return max(run.memory.peak_rss_bytes for run in row.runs)


def peak_vram_bytes(row: Row) -> int | None:
    """Of the worst run; None where it cannot be told."""
    known = [run.memory.peak_vram_bytes for run in row.runs if run.memory.peak_vram_bytes is not None]
    return max(known) if known else None


def cold_ms(run: Run) -> float:
    """From nothing to the first result."""
    return run.cold.import_ms + run.cold.load_ms + run.cold.first_ms


def groups(rows: Sequence[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """Rows by scope and scenario: what a user waits for first, single engines last; in each the fastest first."""
    order = [(scope, scenario) for scope in ("file", "stage", "engine") for scenario in ("single-stream", "offline", "server", "live")]
    for scope, scenario in order:
        found = [row for row in rows if (row.case.scope, row.case.scenario) == (scope, scenario)]
        if found:
            yield scope, scenario, sorted(found, key=_middle)


def _middle(row: Row) -> float:
    names = latency_names(row)
    return median(pooled(row.runs, names[0])) if names else math.inf


def _is_reference(case: Case) -> bool:
    return (case.backend, case.precision) == REFERENCE


def _asked_alike(one: Case, other: Case) -> bool:
    return (one.scope, one.scenario, one.device) == (other.scope, other.scenario, other.device)


def _latency(row: Row, name: str, against: Row | None) -> Latency:
    samples = pooled(row.runs, name)
    p50, p90, p99 = (percentile(samples, percent) for percent in (50.0, 90.0, 99.0))
    measured_from = next(series.measured_from for run in row.runs for series in run.series if series.name == name)
    times = ratio_of(percentile_of(50.0), runs_of(row, name), runs_of(against, name)) if against else None
    return Latency(name, measured_from, samples, p50, p90, p99, between_runs(row.runs, name), times)
