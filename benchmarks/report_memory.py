"""Charts and tables of memory: over time with the phases marked, and as a ledger that adds up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .charts import Bar, Drawn, Mark, Part, Plot, Style, bars, figure
from .report_parts import case_name, data_table, digits, mib, with_note
from .results import MemoryTrace, Results, Row
from .summary import groups, shown_rows

_MOST_POINTS = 200
_MIB = 1 << 20
_REST, _GREY = "rest", 4


def memory(results: Results) -> str:
    """The first group's cases: resident memory while they run, and who answers for it."""
    first = next(groups(shown_rows(results)), None)
    if first is None:
        return "<p>Nothing was measured.</p>"
    rows = first[2]
    traced = [row for row in rows if row.runs[0].memory.samples]
    charts = "".join(_timeline(row, results) for row in traced)
    resolution = max((row.runs[0].memory.resolution_s for row in traced), default=0.0)
    told = (
        f"<p>The first run of each case, looked at every {digits(resolution * 1e3)} ms; the peak is the system's own high-water mark where "
        "it has one, and can lie above every look.</p>"
    )
    return f'{told}<div class="charts">{charts}</div>{_ledgers(rows, results)}'


def _timeline(row: Row, results: Results) -> str:
    trace = row.runs[0].memory
    drawn = [_line(trace, Style("resident", 0), [sample.rss_bytes for sample in trace.samples])]
    if any(sample.vram_bytes is not None for sample in trace.samples):
        drawn.append(_line(trace, Style("VRAM", 1, 1), [sample.vram_bytes for sample in trace.samples]))
    marks = (*(Mark(at, name) for name, at in trace.marks), Mark(trace.peak_rss_bytes / _MIB, f"peak {mib(trace.peak_rss_bytes)}", "y"))
    note = f"RSS: {trace.rss_method}. VRAM: {trace.vram_method}."
    return figure(Plot(case_name(row.case, results), "s", "MiB", tuple(drawn), y_from_zero=True, marks=marks), note)


def _line(trace: MemoryTrace, style: Style, sizes: Sequence[int | None]) -> Drawn:
    """Of more looks than can be drawn, the largest of each stretch."""
    known = [(sample.at_s, size / _MIB) for sample, size in zip(trace.samples, sizes, strict=True) if size is not None]
    stretches = [stretch for stretch in np.array_split(np.array(known), _MOST_POINTS) if len(stretch)]
    tops = [stretch[np.argmax(stretch[:, 1])] for stretch in stretches]
    return Drawn(style, [float(top[0]) for top in tops], [float(top[1]) for top in tops])


def _ledgers(rows: Sequence[Row], results: Results) -> str:
    kept = [row for row in rows if row.runs[0].memory.ledger]
    if not kept:
        return "<p>No ledger was kept.</p>"
    names = dict.fromkeys(entry.what for row in kept for entry in row.runs[0].memory.ledger)
    ordered = [name for name in names if name != _REST] + [name for name in names if name == _REST]
    usable = [colour for colour in range(8) if colour != _GREY]
    colours = {name: _GREY if name == _REST else usable[place % len(usable)] for place, name in enumerate(ordered)}
    stacks = [_stack(row, results) for row in kept]
    lines = [_ledger_line(row, ordered, results) for row in kept]
    table = data_table(("case", *ordered, "sum"), lines, "Ledger of the first run, MiB; below each figure who says so")
    return f'<div class="charts">{bars("Who answers for the memory", "MiB", stacks, colours)}</div>{table}'


def _stack(row: Row, results: Results) -> Bar:
    ledger = row.runs[0].memory.ledger
    parts = tuple(Part(entry.what, entry.bytes / _MIB) for entry in ledger)
    return Bar(case_name(row.case, results), parts, mib(sum(entry.bytes for entry in ledger)))


def _ledger_line(row: Row, names: Sequence[str], results: Results) -> list[str]:
    trace = row.runs[0].memory
    entries = {entry.what: entry for entry in trace.ledger}
    total = sum(entry.bytes for entry in trace.ledger)
    peaks = {"RSS": trace.peak_rss_bytes, "VRAM": trace.peak_vram_bytes}
    equal = [which for which, peak in peaks.items() if peak == total]
    said = f"the peak {equal[0]}" if equal else f"peak RSS: {mib(trace.peak_rss_bytes)}"
    parts = [with_note(mib(entries[name].bytes), entries[name].source) if name in entries else "" for name in names]
    return [case_name(row.case, results), *parts, with_note(mib(total), said)]
