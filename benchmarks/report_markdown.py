"""The report as Markdown: a table fit for a README, with its conditions in one line above it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .environment import ABSENT
from .findings import warnings
from .report_parts import NONE, case_name, counted, digits, error, group_name, machine_of, mib, runs_each, series_name
from .results import Results, Row
from .statistics import Percentile
from .summary import (
    Latency,
    groups,
    headline,
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

_VERSIONS = ("onnxruntime", "ctranslate2", "torch", "openvino")


def markdown(results: Results) -> str:
    """The whole of `bench.md`."""
    parts = [f"# shortcast bench: {results.bundle['name']}", conditions(results)]
    parts += [f"> {line}" for line in warnings(results)]
    for scope, scenario, rows in groups(shown_rows(results)):
        parts += [f"## {group_name(scope, scenario)}", table(rows, results)]
    labelled = [
        f"- {row.case.key}: **{label}**. {why}" for row in shown_rows(results) for label, why in row.labels.items() if label != "QUICK"
    ]
    parts += ["## Why rows are labelled", "\n".join(labelled)] if labelled else []
    refused = [f"- {row.case.key}: {why}" for row in results.rows if (why := withheld(row, results)) is not None]
    parts += ["## Not shown", "\n".join(refused)] if refused else []
    return "\n\n".join((*parts, _LEGEND)) + "\n"


def conditions(results: Results) -> str:
    """One line: machine, versions, clips, repeats, bundle and what it was trained on."""
    machine = machine_of(results)
    told = {name: results.environment.facts.get(f"version of {name}", ABSENT) for name in _VERSIONS}
    versions = ", ".join(f"{name} {version}" for name, version in told.items() if version != ABSENT)
    clips = f"{counted(len(results.clips), 'clip')} of {sum(clip.seconds for clip in results.clips):.0f} s in all"
    quick = " `--quick`, not for claims." if results.quick else ""
    with_versions, each = f" with {versions}" if versions else "", runs_each(shown_rows(results))
    return (
        f"Measured {results.created_utc[:10]} on {machine}{with_versions}: {clips}, {each} of each case, each in a "
        f"process of its own. Bundle {results.bundle['name']} ({results.bundle['id'][:12]}), trained on "
        f"{results.bundle['source']}.{quick}"
    )


def table(rows: Sequence[Row], results: Results) -> str:
    """Rows of one scope and scenario as a Markdown table."""
    with_vram = any(peak_vram_bytes(row) is not None for row in rows)
    single = (rows[0].case.scope, rows[0].case.scenario) == ("file", "single-stream")
    unit = " or ".join(sorted({per_second(row)[1] for row in rows}))
    pace = {"server": f"{unit}/s under the bound", "live": "streams"}.get(rows[0].case.scenario, f"{unit}/s")
    heads = ["case", *([] if single else ["timed"]), "median ms", "p90 ms", "p99 ms", pace, "real-time factor", "peak RSS MiB"]
    heads += [*(["VRAM MiB"] if with_vram else []), "times PyTorch", "max error"]
    lines = [_cells(heads), _cells(["---"] * (1 if single else 2) + ["---:"] * (len(heads) - (1 if single else 2)))]
    for row in rows:
        found = [one] if single and (one := headline(row, results)) else latencies(row, results)
        lines += [_cells(_line(row, one, results, named=not single, with_vram=with_vram)) for one in found]
    return "\n".join(lines)


def _line(row: Row, found: Latency, results: Results, *, named: bool, with_vram: bool) -> Iterator[str]:
    labels = "".join(f" **{label}**" for label in row.labels)
    yield f"{_escaped(case_name(row.case, results))}{labels}"
    if named:
        yield series_name(found.series, found.measured_from)
    yield NONE if found.p50.plain is None else digits(found.p50.plain)
    yield from (_guaranteed(one) for one in (found.p90, found.p99))
    yield _pace(row)
    factor = real_time_factor(row)
    yield NONE if factor is None else digits(factor)
    yield mib(peak_rss_bytes(row))
    if with_vram:
        peak = peak_vram_bytes(row)
        yield NONE if peak is None else mib(peak)
    yield _ratio(found)
    yield NONE if row.parity is None else error(row.parity.max_error)


def _pace(row: Row) -> str:
    outcome = {"server": "rate_per_s", "live": "streams"}.get(row.case.scenario)
    if outcome is None:
        return digits(per_second(row)[0])
    found = middle_of(row, outcome)
    return NONE if found is None else f"{digits(found)}{'' if proved(row) else ' (not proved)'}"


def _ratio(found: Latency) -> str:
    if found.times_reference is None:
        return NONE
    ends = found.times_reference.interval()
    return f"{digits(found.times_reference.estimate)}{f' ({digits(ends[0])} to {digits(ends[1])})' if ends else ''}"


def _guaranteed(found: Percentile) -> str:
    if found.guaranteed is None or found.plain is None:
        return f"insufficient (needs {found.needed:,})"
    return f"{digits(found.guaranteed)} ({digits(found.plain)})"


def _cells(cells: Sequence[str] | Iterator[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


_LEGEND = (
    "p90 and p99 are early-stopping estimates (with 99 % confidence the true percentile is no larger), the plain percentile in brackets. "
    "Times PyTorch: the reference's median over this one, with a 95 % interval over the runs. Real-time factor: seconds of work for a "
    "second of clip. Max error: of a standardised score against PyTorch in float32. Raw samples: `bench.json`."
)
