"""The report's main tables: one for each scope and scenario, one line for each case and each series of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from statistics import median

from .report_parts import (
    NONE,
    Cell,
    counted,
    data_table,
    details,
    digits,
    error,
    group_name,
    guaranteed,
    mib,
    named,
    runs_each,
    series_name,
    with_interval,
    with_note,
)
from .results import Results, Row
from .summary import (
    Latency,
    groups,
    latencies,
    middle_of,
    peak_rss_bytes,
    peak_vram_bytes,
    per_second,
    proved,
    real_time_factor,
    shown_rows,
    withheld,
)


def tables(results: Results) -> str:
    """Every case that may be shown, by scope and scenario."""
    rows = shown_rows(results)
    if not rows:
        return "<p>Nothing was measured that may be shown: see below why.</p>"
    shown = "".join(_group(group_name(scope, scenario), found, results) for scope, scenario, found in groups(rows))
    same = details("The same as tab-separated text", f'<pre class="copy">{escape(separated(results))}</pre>')
    return f"{_HOW_TO_READ}{shown}{_reasons(results)}{same}"


def _reasons(results: Results) -> str:
    """Why rows are labelled."""
    lines = [
        (f"{row.case.contender}, {row.case.scope}, {row.case.scenario}", label, why)
        for row in shown_rows(results)
        for label, why in row.labels.items()
        if label != "QUICK"
    ]
    return details("Why rows are labelled", data_table(("case", "label", "why"), lines, "Labels", kind="words")) if lines else ""


def refusals(results: Results) -> str:
    """Cases without figures, each with the reason."""
    refused = [(row, why) for row in results.rows if (why := withheld(row, results)) is not None]
    if not refused:
        return "<p>Every case that was asked for has figures.</p>"
    lines = [(row.case.key, why) for row, why in refused]
    return data_table(("case", "why it has no figures"), lines, "No parity, no number", kind="words")


def separated(results: Results) -> str:
    """The tables as tab-separated text for a spreadsheet, unrounded."""
    heads = ("case", "series", "samples", "runs", "median_ms", "p90_ms", "p99_ms", "per_second", "real_time_factor")
    lines = ["\t".join((*heads, "peak_rss_bytes", "times_reference", "max_parity_error", "labels"))]
    for row in shown_rows(results):
        lines += ["\t".join(_plain_line(row, found)) for found in latencies(row, results)]
    return "\n".join(lines)


def _plain_line(row: Row, found: Latency) -> Iterator[str]:
    yield from (row.case.key, found.series, str(len(found.samples)), str(len(row.runs)))
    yield "" if found.p50.plain is None else f"{found.p50.plain:.6g}"
    yield from ("" if one.guaranteed is None else f"{one.guaranteed:.6g}" for one in (found.p90, found.p99))
    factor = real_time_factor(row)
    yield from (f"{per_second(row)[0]:.6g}", "" if factor is None else f"{factor:.6g}", str(peak_rss_bytes(row)))
    yield "" if found.times_reference is None else f"{found.times_reference.estimate:.6g}"
    yield "" if row.parity is None else f"{row.parity.max_error:.3g}"
    yield " ".join(row.labels)


_HOW_TO_READ = (
    "<p>Times are in milliseconds. The median is of all samples, with the medians of the fastest and slowest run below it. p90 and p99 are "
    "early-stopping estimates: with 99 % confidence the true percentile is no larger; the plain percentile stands below. With too few "
    "samples there is no number. Faster: the PyTorch reference's median over this one, with a 95 % interval over the runs; above 1 is "
    "faster.</p>"
)


def _group(title: str, rows: Sequence[Row], results: Results) -> str:
    with_vram = any(peak_vram_bytes(row) is not None for row in rows)
    with_factor = any(real_time_factor(row) is not None for row in rows)
    scenario, unit = rows[0].case.scenario, " or ".join(sorted({per_second(row)[1] for row in rows}))
    pace = {"server": (f"{unit}/s under the bound",), "live": ("streams", "missed")}.get(scenario, (f"{unit}/s",))
    heads = ["case", "what is timed", "median", "p90", "p99", *pace]
    heads += ["real-time factor"] if with_factor else []
    heads += ["peak RSS, MiB", *(["VRAM, MiB"] if with_vram else []), "faster", "max error", "samples"]
    lines = [
        _line(row, found, place, results, with_vram=with_vram, with_factor=with_factor)
        for row in rows
        for place, found in enumerate(latencies(row, results))
    ]
    return (
        f"<h3>{escape(title)}</h3>{data_table(heads, lines, _caption(rows, with_vram=with_vram, clips=len(results.clips)), kind='cases')}"
    )


def _caption(rows: Sequence[Row], *, with_vram: bool, clips: int) -> str:
    methods = " or ".join(sorted({run.memory.rss_method.partition(";")[0] for row in rows for run in row.runs}))
    told = f"{runs_each(rows)} of each case, each in a process of its own; {counted(clips, 'clip')}; peak RSS: {methods}"
    return told if with_vram else f"{told}; VRAM: {rows[0].runs[0].memory.vram_method}"


def _line(row: Row, found: Latency, place: int, results: Results, *, with_vram: bool, with_factor: bool) -> list[str]:
    """Figures of the whole case stand on its first line only."""
    name: str = named(row, results) if place == 0 else Cell(f'<span class="again">{escape(row.case.contender)}</span>')
    measured = "from when it was due" if found.measured_from == "schedule" else ""
    timed = with_note(series_name(found.series, found.measured_from), measured)
    line = [name, timed, _median(row, found), guaranteed(found.p90), guaranteed(found.p99)]
    whole = [*_pace(row), *([_factor(row)] if with_factor else []), mib(peak_rss_bytes(row))]
    whole += [_vram(row)] if with_vram else []
    line += whole if place == 0 else [""] * len(whole)
    ratio = found.times_reference
    return [*line, with_interval(ratio) if ratio else NONE, _parity(row) if place == 0 else "", f"{len(found.samples):,}"]


def _median(row: Row, found: Latency) -> str:
    if found.p50.plain is None:
        return NONE
    medians = [median(samples) for run in row.runs if (samples := run.samples(found.series))]
    return with_note(digits(found.p50.plain), f"{digits(min(medians))} to {digits(max(medians))}" if len(medians) > 1 else "one run")


def _pace(row: Row) -> list[str]:
    outcomes = [run.outcome for run in row.runs]
    if row.case.scenario == "server":
        rate = middle_of(row, "rate_per_s")
        bound = next((outcome["bound_ms"] for outcome in outcomes if "bound_ms" in outcome), None)
        doubt = "" if proved(row) else ", not proved"
        return [NONE if rate is None else with_note(digits(rate), "" if bound is None else f"p99 ≤ {digits(bound)} ms{doubt}")]
    if row.case.scenario == "live":
        streams = middle_of(row, "streams")
        missed, skipped = (sum(outcome.get(name, 0.0) for outcome in outcomes) for name in ("deadline_misses", "skipped_chunks"))
        period = next((outcome["period_s"] for outcome in outcomes if "period_s" in outcome), None)
        every = "" if period is None else f"every {digits(period)} s"
        return [NONE if streams is None else with_note(f"{streams:g}", every), with_note(f"{missed:g}", f"{skipped:g} skipped")]
    return [digits(per_second(row)[0])]


def _factor(row: Row) -> str:
    factor = real_time_factor(row)
    return NONE if factor is None else digits(factor)


def _vram(row: Row) -> str:
    peak = peak_vram_bytes(row)
    return with_note(NONE if peak is None else mib(peak), row.runs[0].memory.vram_method)


def _parity(row: Row) -> str:
    if row.parity is None:
        return NONE
    changed = f"{row.parity.class_changes} of {row.parity.clips} classes" if row.parity.class_changes else ""
    return Cell(f"{with_note(error(row.parity.max_error), f'≤ {row.parity.tolerance:g}')}{f'<small>{changed}</small>' if changed else ''}")
