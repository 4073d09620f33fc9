"""Sections of the report that say on what, with what and how it was measured; and what comes before a steady state."""

from __future__ import annotations

from html import escape
from statistics import median

from .charts import Bar, Part, bars
from .report_parts import Cell, case_name, data_table, definitions, digits, series_name, times_as, with_note
from .results import Results, Row, Run
from .statistics import pooled
from .summary import cold_ms, groups, latency_names, shown_rows

_PARTS = {"import": 0, "load": 1, "first result": 2}


def cold_start(results: Results) -> str:
    """Import, load and first result of each case, apart from everything else."""
    rows = [
        row for scope, scenario, found in groups(shown_rows(results)) if scope == "file" and scenario == "single-stream" for row in found
    ]
    rows = rows or list(shown_rows(results))
    if not rows:
        return "<p>Nothing was measured.</p>"
    told = "<p>Every run is a process of its own, so each has one cold start: medians over the runs, and the range of the sums.</p>"
    lines = [(case_name(row.case, results), *(digits(value) for value in _medians(row)), _sum(row)) for row in rows]
    stacks = [
        Bar(
            case_name(row.case, results),
            tuple(Part(name, value) for name, value in zip(_PARTS, _medians(row), strict=True)),
            digits(median(cold_ms(run) for run in row.runs)),
        )
        for row in rows
    ]
    heads = ("case", "import, ms", "load, ms", "first result, ms", "sum, ms")
    return f'{told}<div class="charts">{bars("Cold start", "ms", stacks, _PARTS)}</div>{data_table(heads, lines, "Cold start")}'


def _medians(row: Row) -> tuple[float, float, float]:
    colds = [run.cold for run in row.runs]
    return (
        median(cold.import_ms for cold in colds),
        median(cold.load_ms for cold in colds),
        median(cold.first_ms for cold in colds),
    )


def _sum(row: Row) -> Cell:
    sums = [cold_ms(run) for run in row.runs]
    return with_note(digits(median(sums)), f"{digits(min(sums))} to {digits(max(sums))}")


def environment(results: Results) -> str:
    """The machine, versions and settings; and how busy it was about each run."""
    facts = data_table(("what", "value"), list(results.environment.facts.items()), "Environment", kind="words")
    return facts + _states(results)


def _states(results: Results) -> str:
    with_gpu = any(run.after.gpu.get("gpus") for row in shown_rows(results) for run in row.runs)
    lines = [
        (
            f"{run.order + 1}. {row.case.contender}, {row.case.scope}, {row.case.scenario}",
            str(run.repeat + 1),
            f"{_known(run.before.load_1m)} → {_known(run.after.load_1m)}",
            "unknown" if run.after.busy_share is None else f"{run.after.busy_share:.0%}",
            f"{_known(run.before.cpu_mhz)} → {_known(run.after.cpu_mhz)}",
            _throttled(run.before.cpu_throttled, run.after.cpu_throttled),
            *([_gpus(run)] if with_gpu else []),
        )
        for row in shown_rows(results)
        for run in row.runs
    ]
    heads = ("run", "repeat", "load", "used by others", "MHz", "throttled periods", *(["GPU"] if with_gpu else []))
    table = data_table(heads, lines, "The machine before and after each run")
    return f"<details><summary>The machine before and after each run</summary>{table}</details>"


def _known(value: float | None) -> str:
    return "unknown" if value is None else digits(value)


def _gpus(run: Run) -> str:
    """Clocks, heat and what held them back, of each device after the run."""
    return "; ".join(
        f"{gpu['name']}: {_known(gpu.get('sm_clock_mhz'))} MHz, {_known(gpu.get('temperature_c'))} °C, {_known(gpu.get('power_w'))} W, "
        + (
            ", ".join(gpu.get("throttling") or ())
            or ("not held back" if gpu.get("throttling") is not None else "unknown whether held back")
        )
        for gpu in run.after.gpu.get("gpus", ())
    )


def _throttled(before: int | None, after: int | None) -> str:
    return "unknown" if before is None or after is None else f"{after - before}"


def clips(results: Results) -> str:
    """The workload."""
    lines = [(clip.name, digits(clip.seconds), f"{clip.width} x {clip.height}", clip.codecs, clip.sha256[:16]) for clip in results.clips]
    return data_table(("clip", "seconds", "pixels", "codecs", "SHA-256 begins"), lines, "Clips", kind="words")


def audits(results: Results) -> str:
    """Inputs that all differ beside one and the same input: a cache between calls would show as a ratio above 1."""
    found = [
        (case_name(row.case, results), name, median(unique), median(pooled(row.runs, f"audit same {name}")))
        for row in shown_rows(results)
        for name in latency_names(row)
        if (unique := pooled(row.runs, f"audit unique {name}")) and pooled(row.runs, f"audit same {name}")
    ]
    lines = [(case, series_name(name), digits(unique), digits(same), times_as(unique / same)) for case, name, unique, same in found if same]
    heads = ("case", "engine", "inputs that differ, ms", "the same input, ms", "ratio of medians")
    return data_table(heads, lines, "Is anything cached between calls? Calls in turn, medians") if lines else ""


def about(results: Results) -> str:
    """What was measured, at a glance."""
    rows = {
        "Bundle": f"{results.bundle['name']}, id {results.bundle['id'][:16]}",
        "Trained on": results.bundle["source"],
        "Measured": results.created_utc,
        "Command": Cell(f"<code>{escape(results.command)}</code>"),
        "Seed": str(results.seed),
        "Raw samples": Cell('<a href="bench.json">bench.json</a>, beside this page'),
    }
    return definitions(rows)


def method(results: Results) -> str:
    """What is timed and what is not."""
    told = (
        "Each case runs in a spawned process of its own, repeated, in an order shuffled with the seed above. Nothing is cached between "
        "clips.",
        "File to score: from opening the file to its last score, so decoding, scaling, log-mel, the sound encoder, both graphs and the "
        "inverse transform are in it. Not in it: starting Python, imports, loading and warm-up; those are the cold start.",
        "A stage or an engine alone is timed around its call, with inputs that are already in memory.",
        "Warm-up ends by rule, when times have settled, and is thrown away; a run that did not settle is labelled. No other sample is left "
        "out, however late.",
        "Percentiles by early stopping (MLPerf LoadGen): with 99 % confidence the true percentile is no larger. p50 needs 11 samples, p90 "
        "64, p95 130, p99 662; with fewer there is no number. Samples of all runs are taken together.",
        "Throughput is counted by the wall: clips (or chunks) over seconds from the first to the last, never one over a mean time.",
        "Real-time factor: seconds of work for a second of clip; below 1 keeps up with a live source.",
        "In server and live, a time counts from when the clip or chunk was due, not from when it was begun.",
        "Ratios: Student's t interval at 95 % on the logarithm, whose standard error is a bootstrap over whole runs. It says what other "
        "runs on this machine would give, not what another machine would.",
        "Parity: the same bundle's proof clips through the same code, against PyTorch in float32. A case that fails it, or has "
        "none, has no figures.",
    )
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in told)}</ul>"
