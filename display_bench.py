"""How a benchmark is shown: a bar on stderr while it goes on, then one table for each scope and scenario, and what has no number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .benchmarks.results import Results, Row, Run
from .benchmarks.statistics import between_runs, percentile, pooled, throughput
from .benchmarks.summary import middle_of
from .display import StageBars

_HEADLINES = {
    ("engine", "single-stream"): ("visual", "fusion", "sound"),
    ("stage", "single-stream"): ("decode", "features", "audio", "visual", "fusion"),
    ("file", "single-stream"): ("clip", "answer"),
    ("file", "offline"): ("answer",),
    ("file", "server"): ("answer",),
    ("file", "live"): ("answer", "age"),
}
"""The series that are shown of each kind of row."""
_SAID = {
    "clip": "a clip, from its file to its score",
    "answer": "a chunk, from being due or decoded to its score",
    "age": "how old the latest score's chunk is when the next comes",
}


class BenchBar(StageBars):
    """One bar over all runs, with what's being measured and what is left."""


def print_results(console: Console, results: Results) -> None:
    """Everything there is, the bundle and its caveat first."""
    bundle = results.bundle
    clips = ", ".join(f"{clip.name} ({clip.seconds:.1f} s)" for clip in results.clips[:4])
    more = f" and {len(results.clips) - 4} more" if len(results.clips) > 4 else ""
    console.print(f"[bold]{escape(bundle['name'])}[/bold] ({bundle['id'][:12]}), trained on {escape(bundle['source'])}", highlight=False)
    console.print(f"clips: {escape(clips)}{more}; seed {results.seed}", style="dim", highlight=False)
    for table in tables(results):
        console.print()
        console.print(table)
    _listed(console, "labelled, because", _reasons(results))
    _listed(console, "no number, because", _refusals(results))
    for warning in results.environment.warnings:
        console.print(f"warning: {escape(warning)}", style="yellow", highlight=False, soft_wrap=True)


def _listed(console: Console, title: str, sentences: Iterator[str]) -> None:
    for place, sentence in enumerate(dict.fromkeys(sentences)):
        if place == 0:
            console.print(f"\n[bold]{title}[/bold]", highlight=False)
        console.print(f"  {escape(sentence)}", highlight=False, soft_wrap=True)


def _reasons(results: Results) -> Iterator[str]:
    for row in results.rows:
        for label, why in row.labels.items():
            if label != "QUICK":
                yield f"{row.case.contender}, {row.case.scope}, {row.case.scenario}: {label}. {why}"


def tables(results: Results) -> Iterator[Table]:
    """One for each scope and scenario that has numbers."""
    for (scope, scenario), names in _HEADLINES.items():
        rows = [row for row in results.rows if row.runs and (row.case.scope, row.case.scenario) == (scope, scenario)]
        if rows:
            yield _table(f"{scope}, {scenario}", rows, names)


def _table(title: str, rows: Sequence[Row], names: Sequence[str]) -> Table:
    table = Table(title=title, caption="; ".join(f"{name}: {_SAID[name]}" for name in names if name in _SAID) or None)
    for column in (
        "contender",
        "timed",
        "median",
        "p90",
        "p99",
        "p99 at 99 % confidence",
        "between runs",
        "per second",
        "RAM",
        "off by",
        "",
    ):
        words = column in ("contender", "timed", "")
        table.add_column(column, justify="left" if words else "right", overflow="fold", no_wrap=column.endswith("confidence"))
    for row in rows:
        for place, name in enumerate(name for name in names if pooled(row.runs, name)):
            table.add_row(*_cells(row, name, first=place == 0))
    return table


def _cells(row: Row, name: str, *, first: bool) -> list[str]:
    samples, spread = pooled(row.runs, name), between_runs(row.runs, name)
    p50, p90, p99 = (percentile(samples, percent) for percent in (50.0, 90.0, 99.0))
    latency = [f"{one.plain:.1f} ms" if one.plain is not None else "-" for one in (p50, p90, p99)]
    between = "1 run" if len(row.runs) == 1 else f"{spread:.0%} of {len(row.runs)}" if spread is not None else "-"
    head = [escape(row.case.contender), name] if first else ["", name]
    tail = [_rate(row), _ram(row.runs), _parity(row), " ".join(row.labels)] if first else [""] * 4
    return [*head, *latency, _guaranteed(samples), between, *tail]


def _guaranteed(samples: Sequence[float]) -> str:
    """The early-stopping estimate of the 99th percentile, or what is short of it beside the highest there are samples for."""
    p99 = percentile(samples, 99.0)
    if p99.guaranteed is not None:
        return f"p99 {p99.guaranteed:.1f} ms"
    lower = (percentile(samples, percent) for percent in (95.0, 90.0, 50.0))
    best = next((f"\np{one.percent:g} {one.guaranteed:.1f} ms" for one in lower if one.guaranteed is not None), "")
    return f"{p99.said}{best}"


def _rate(row: Row) -> str:
    """What the scenario is about: clips or chunks a second, the largest rate, or the most streams."""
    outcomes = [run.outcome for run in row.runs]
    if row.case.scenario == "server":
        rate = middle_of(row, "rate_per_s")
        proved = all(outcome.get("proved") for outcome in outcomes)
        said = f"{rate:.1f} chunks under p99 {outcomes[0]['bound_ms']:.0f} ms" if rate else "none found in the time there was"
        return said if proved or not rate else f"{said}, not proved"
    if row.case.scenario == "live":
        return f"{middle_of(row, 'streams'):g} streams, a chunk each {outcomes[0]['period_s']:g} s"
    if row.case.scope == "engine":
        return "-"
    rates = [throughput(run) for run in row.runs]
    faster = median(run.media_s / run.wall_s for run in row.runs)
    return f"{median(rates):.2f} clips, {faster:.1f} x real time"


def _ram(runs: Sequence[Run]) -> str:
    return f"{median(run.memory.peak_rss_bytes for run in runs) / 2**20:.0f} MiB"


def _parity(row: Row) -> str:
    parity = row.parity
    return "-" if parity is None else f"{parity.max_error:.1e} of {parity.tolerance:g}"


def _refusals(results: Results) -> Iterator[str]:
    """Of each row without a number; where a contender has none at all for one reason, that is said once."""
    for row in results.rows:
        if not row.runs:
            others = {other.refusal if not other.runs else "" for other in results.rows if other.case.contender == row.case.contender}
            where = "" if others == {row.refusal} else f", {row.case.scope}, {row.case.scenario}"
            yield f"{row.case.contender}{where}: {row.refusal}"
