"""What a benchmark comes to, in a few figures with their evidence; and what to be wary of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .ratio import Ratio, geometric_mean, ratio_of
from .report_parts import LABEL_MEANINGS, case_name, counted, digits, error, group_name, mib, times_as
from .results import Results, Row
from .summary import Latency, groups, headline, peak_rss_bytes, reference_of, shown_rows, withheld


@dataclass(frozen=True, slots=True)
class Finding:
    """A figure and what it says."""

    figure: str
    said: str


def findings(results: Results) -> Iterator[Finding]:
    """Of what a user waits for: the fastest case, how much faster and smaller than PyTorch it is, and how far its scores are."""
    first = next(groups(shown_rows(results)), None)
    timed = [(row, found) for row in (first[2] if first else ()) if (found := headline(row, results)) and found.p50.plain is not None]
    if first is None or not timed:
        return
    row, found = min(timed, key=lambda entry: entry[1].p50.plain or 0.0)
    labels = f", {' and '.join(row.labels)}" if row.labels else ""
    said = f"median of the fastest, {case_name(row.case, results)}{labels}: {_lower(group_name(*first[:2]))}"
    yield Finding(f"{digits(found.p50.plain or 0.0)} ms", said)
    yield from _against_reference(row, found, results)
    if row.parity is not None:
        yield Finding(error(row.parity.max_error), f"its largest error of a standardised score; {row.parity.tolerance:g} is tolerated")


def warnings(results: Results) -> Iterator[str]:
    """What makes figures doubtful or incomplete, in sentences."""
    if results.quick:
        yield "Measured with --quick: for a first look, not for claims."
    yield from results.environment.warnings
    rows = shown_rows(results)
    for label, meaning in LABEL_MEANINGS.items():
        marked = sum(label in row.labels for row in rows)
        if marked and not (label == "QUICK" and results.quick):
            yield f"{label}: {marked} of {counted(len(rows), 'case')} ({meaning})."
    if rows and all(reference_of(row, results) is None for row in rows):
        yield "PyTorch was not measured beside the others, so nothing is said about what is gained over it."
    refused = sum(withheld(row, results) is not None for row in results.rows)
    if refused:
        yield f"{refused} of {counted(len(results.rows), 'case')} have no figures; the reasons are below."


def _against_reference(row: Row, found: Latency, results: Results) -> Iterator[Finding]:
    against, times = reference_of(row, results), found.times_reference
    if against is None or times is None:
        return
    name = case_name(against.case, results)
    yield Finding(times_as(times.estimate), f"as fast as PyTorch ({name}), {_sureness(times)}")
    sizes = [[np.array([float(run.memory.peak_rss_bytes)]) for run in one.runs] for one in (row, against)]
    smaller = ratio_of(geometric_mean, *sizes)
    if smaller is not None:
        said = f"less memory than it, {_sureness(smaller)}: a peak of {mib(peak_rss_bytes(row))} MiB"
        yield Finding(times_as(smaller.estimate), said)


def _sureness(ratio: Ratio) -> str:
    ends = ratio.interval()
    return "from one run, so without an interval" if ends is None else f"95 % interval {digits(ends[0])} to {digits(ends[1])}"


def _lower(words: str) -> str:
    return f"{words[:1].lower()}{words[1:]}"
