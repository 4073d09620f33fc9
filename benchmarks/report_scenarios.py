"""Charts of what a scenario tries: rates a server is asked at, streams that are live at once; and what accuracy costs."""

from __future__ import annotations

from collections.abc import Sequence

from .charts import Drawn, Mark, Plot, Style, Styles, figure
from .report_parts import case_name
from .results import Results, Row
from .summary import groups, headline, peak_rss_bytes, shown_rows

_LEAST_ERROR = 1e-7
"""Drawn for a smaller error, or for none: a logarithmic axis has no zero."""


def scenarios(results: Results, styles: Styles) -> str:
    """Curves of the open-loop scenarios."""
    by_scenario = {scenario: rows for scope, scenario, rows in groups(shown_rows(results)) if scope == "file"}
    charts = _server(by_scenario.get("server", []), results, styles) + _live(by_scenario.get("live", []), results, styles)
    if not charts:
        return "<p>Neither <code>server</code> nor <code>live</code> was measured.</p>"
    told = (
        "<p>Each point is one trial of one run. Times count from the moment a clip or a chunk was due, so waiting in a queue is part of "
        "them.</p>"
    )
    return f'{told}<div class="charts">{charts}</div>'


def _server(rows: Sequence[Row], results: Results, styles: Styles) -> str:
    drawn = _curves(rows, "tried_rate", "tried_p99", results, styles)
    if not drawn:
        return ""
    bounds = {run.outcome["bound_ms"] for row in rows for run in row.runs if "bound_ms" in run.outcome}
    marks = tuple(Mark(bound, f"bound {bound:g} ms", "y") for bound in sorted(bounds)[:1]) if len(bounds) == 1 else ()
    return figure(Plot("Server: waiting against rate", "asked for in a second", "plain p99, ms", drawn, y_log=True, marks=marks))


def _live(rows: Sequence[Row], results: Results, styles: Styles) -> str:
    drawn = _curves(rows, "tried_streams", "tried_misses", results, styles)
    if not drawn:
        return ""
    return figure(Plot("Live: deadlines missed against streams", "streams at once", "share of chunks late", drawn, y_from_zero=True))


def _curves(rows: Sequence[Row], x: str, y: str, results: Results, styles: Styles) -> tuple[Drawn, ...]:
    """One for each case: all its runs' trials in the order of x."""
    curves = []
    for row in rows:
        pairs = [pair for run in row.runs for pair in zip(run.samples(x), run.samples(y), strict=False)]
        if pairs:
            xs, ys = zip(*sorted(pairs), strict=True)
            style = styles[case_name(row.case, results)]
            curves += [Drawn(Style("", style.colour, style.variant), xs, ys), Drawn(style, xs, ys, "points")]
    return tuple(curves)


def accuracy(results: Results, styles: Styles) -> str:
    """Time and memory of the first group against the error of the scores."""
    first = next(groups(shown_rows(results)), None)
    if first is None:
        return "<p>Nothing was measured.</p>"
    timed = [(row, found.p50.plain) for row in first[2] if (found := headline(row, results)) and found.p50.plain]
    sized = [(row, peak_rss_bytes(row) / (1 << 20)) for row in first[2]]
    note = f"An error below {_LEAST_ERROR:g}, and the reference itself, are drawn at {_LEAST_ERROR:g}. Down and to the left is better."
    y_label = "largest error of a score"
    charts = [
        figure(Plot(title, x_label, y_label, _points(pairs, results, styles), x_log=True, y_log=True), note)
        for title, x_label, pairs in (
            ("Accuracy against time", "median, ms", timed),
            ("Accuracy against memory", "peak RSS, MiB", sized),
        )
    ]
    return (
        "<p>Errors are of standardised scores against PyTorch in float32, over the proof clips of the bundle.</p>"
        f'<div class="charts">{"".join(charts)}</div>'
    )


def _points(pairs: Sequence[tuple[Row, float]], results: Results, styles: Styles) -> tuple[Drawn, ...]:
    return tuple(
        Drawn(styles[case_name(row.case, results)], [x], [max(_LEAST_ERROR, row.parity.max_error)], "points")
        for row, x in pairs
        if row.parity is not None
    )
