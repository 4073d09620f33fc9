"""Charts of times: how they are distributed, and whether they drift while they are taken."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import numpy as np

from .charts import Bar, Drawn, Mark, Part, Plot, Style, Styles, bars, figure
from .ratio import Samples
from .report_parts import case_name, details, digits, group_name, series_name
from .results import Results, Row, Run
from .statistics import pooled
from .summary import groups, headline, latency_names, runs_of, shown_rows

_MOST_POINTS = 240
"""Drawn of one distribution; all samples are in the JSON."""
_WINDOWS = 60
"""Of one run in a timeline."""


def overview(results: Results, styles: Styles) -> str:
    """The first group's medians as bars: what a user waits for."""
    first = next(groups(shown_rows(results)), None)
    if first is None:
        return ""
    scope, scenario, rows = first
    found = [(row, headline(row, results)) for row in rows]
    shown = sorted(((row, one.series, one.p50.plain) for row, one in found if one and one.p50.plain), key=lambda entry: entry[2])
    colours = {row.case.contender: styles[case_name(row.case, results)].colour for row, _, _ in shown}
    drawn = [_overview_bar(row, name, middle, results) for row, name, middle in shown]
    what = series_name(shown[0][1]) if shown else ""
    return bars(group_name(scope, scenario), f"median {what}, ms; whisker: fastest and slowest run", drawn, colours)


def _overview_bar(row: Row, name: str, middle: float, results: Results) -> Bar:
    medians = [float(np.median(samples)) for samples in runs_of(row, name)]
    labels = f" {' '.join(row.labels)}" if row.labels else ""
    label = f"{case_name(row.case, results)}{labels}"
    return Bar(label, (Part(row.case.contender, middle),), digits(middle), (min(medians), max(medians)) if len(medians) > 1 else None)


def distributions(results: Results, styles: Styles) -> str:
    """For each group and series, the share of samples at or below each time."""
    found = list(groups(shown_rows(results)))
    told = "<p>A line further left is faster; one that leans right at the top has a long tail.</p>"
    files = "".join(_distributions(*group, results, styles) for group in found if group[0] == "file")
    parts = (details(group_name(*group[:2]), _row(_distributions(*group, results, styles))) for group in found if group[0] != "file")
    return f"{told}{_row(files)}{''.join(parts)}"


def _row(charts: str) -> str:
    return f'<div class="charts">{charts}</div>'


def _distributions(scope: str, scenario: str, rows: Sequence[Row], results: Results, styles: Styles) -> str:
    marks = (Mark(0.5, "median", "y"), Mark(0.9, "p90", "y"), Mark(0.99, "p99", "y"))
    charts = []
    for name in _names(rows):
        drawn = tuple(_steps(row, name, styles[case_name(row.case, results)]) for row in rows if pooled(row.runs, name))
        title = f"{group_name(scope, scenario)}: {series_name(name, _origin(rows, name))}"
        charts.append(figure(Plot(title, "ms", "share of samples", drawn, x_log=True, y_from_zero=True, marks=marks)))
    return "".join(charts)


def _origin(rows: Sequence[Row], name: str) -> str:
    return next(series.measured_from for row in rows for run in row.runs for series in run.series if series.name == name)


def _names(rows: Sequence[Row]) -> list[str]:
    """Series that are drawn: the most telling of whole files, each of stages and engines."""
    names = list(dict.fromkeys(name for row in rows for name in latency_names(row)))
    return names[:1] if rows[0].case.scope == "file" else names


def _steps(row: Row, name: str, style: Style) -> Drawn:
    ordered = np.sort(pooled(row.runs, name))
    shares = np.arange(1, len(ordered) + 1) / len(ordered)
    kept = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), _MOST_POINTS)).astype(int))
    return Drawn(style, ordered[kept].tolist(), shares[kept].tolist(), "step")


def timelines(results: Results, styles: Styles) -> str:
    """For each case, its samples in the order they were taken, one line a run."""
    found = list(groups(shown_rows(results)))
    told = (
        "<p>Each run in turn, in windows of equal counts: the line is a window's median, the band from its smallest to its largest sample. "
        "A slope is drift; a run that lies apart is why cases are repeated.</p>"
    )
    blocks = [(group_name(scope, scenario), "".join(_timeline(row, results, styles) for row in rows)) for scope, scenario, rows in found]
    first = "".join(_row(charts) for _, charts in blocks[:1])
    rest = "".join(details(title, _row(charts)) for title, charts in blocks[1:])
    return told + first + rest


def _timeline(row: Row, results: Results, styles: Styles) -> str:
    drawn = []
    names = latency_names(row)
    for place, run in enumerate(row.runs if names else ()):
        windows = [window for window in np.array_split(_in_order(run, names[0]), _WINDOWS) if len(window)]
        middle, low, high = ([float(of(window)) for window in windows] for of in (np.median, np.min, np.max))
        at = np.cumsum([len(window) for window in windows]).tolist()
        style = Style(f"run {run.repeat + 1}", (0, 1, 2, 3, 5, 6, 7)[place % 7], place)
        drawn.append(Drawn(style, at, middle, "line", low, high))
    title = f"{case_name(row.case, results)}: {series_name(names[0], _origin([row], names[0])) if names else 'nothing timed'}"
    settled = sum(run.warm_up.settled for run in row.runs)
    calls = median(run.warm_up.calls for run in row.runs)
    note = f"{calls:g} warm-up calls thrown away (median); settled in {settled} of {len(row.runs)} runs."
    unit = "ms for a second of clip" if names and _has_lengths(row.runs[0], names[0]) else "ms"
    return figure(Plot(title, "samples, in order", unit, tuple(drawn), y_log=True), note)


def _in_order(run: Run, name: str) -> Samples:
    """Samples of a run; of whole clips, whose lengths differ, for a second of each: else lengths would look like noise."""
    samples = np.array(run.samples(name))
    return samples / np.array(run.samples("media")) if _has_lengths(run, name) else samples


def _has_lengths(run: Run, name: str) -> bool:
    lengths = run.samples("media")
    return name == "clip" and len(lengths) == len(run.samples(name)) and min(lengths, default=0.0) > 0
