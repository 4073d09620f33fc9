"""The benchmark's report as one HTML page that needs no network and no script."""

from __future__ import annotations

from html import escape

from .. import __version__
from .charts import styles_of
from .findings import findings, warnings
from .report_latency import distributions, overview, timelines
from .report_limits import limits
from .report_machine import about, audits, clips, cold_start, environment, method
from .report_memory import memory
from .report_parts import Cell, case_name, counted, machine_of, paragraphs
from .report_scenarios import accuracy, scenarios
from .report_style import STYLE
from .report_table import refusals, tables
from .results import Results
from .summary import shown_rows


def page(results: Results) -> str:
    """The whole report: style and charts are inside, raw samples in `bench.json` beside it."""
    styles = styles_of(case_name(row.case, results) for row in shown_rows(results))
    sections = (
        ("tables", "Figures", tables(results)),
        ("refused", "Not shown", refusals(results)),
        ("distributions", "How long it takes: distributions", distributions(results, styles)),
        ("timelines", "Does it drift", timelines(results, styles)),
        ("memory", "Memory", memory(results)),
        ("cold", "Cold start", cold_start(results)),
        ("scenarios", "Under load", scenarios(results, styles)),
        ("limits", "Against the machine's limits", limits(results, styles)),
        ("accuracy", "Cost against accuracy", accuracy(results, styles)),
        ("machine", "Machine and settings", environment(results) + clips(results)),
        ("method", "How it was measured", method(results) + audits(results)),
    )
    contents = "".join(f'<a href="#{name}">{escape(title)}</a>' for name, title, _ in sections)
    body = "".join(f'<section id="{name}"><h2>{escape(title)}</h2>{content}</section>' for name, title, content in sections)
    title = f"shortcast bench: {results.bundle['name']}"
    head = (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'<link rel="icon" href="data:,"><style>{STYLE}</style></head><body>'
    )
    hero = f'<div class="charts hero">{overview(results, styles)}<div>{about(results)}</div></div>'
    top = f"{_headline(results)}{_warnings(results)}{_findings(results)}{hero}"
    foot = f"<footer>Made by shortcast {escape(__version__)}. Every raw sample is in <a href='bench.json'>bench.json</a>.</footer>"
    return f'{head}<header>{top}<nav aria-label="Sections">{contents}</nav></header><main>{body}</main>{foot}</body></html>\n'


def _headline(results: Results) -> str:
    machine = machine_of(results)
    media = sum(clip.seconds for clip in results.clips)
    what = f"{counted(len(results.rows), 'case')}, {counted(len(results.clips), 'clip')} of {media:.0f} s in all"
    trained = Cell(f"The model was trained on: <strong>{escape(results.bundle['source'])}</strong>.")
    lead = Cell(f'<span class="lead">{escape(what)}, measured {escape(results.created_utc[:10])} on {escape(machine)}.</span>')
    return f'<p class="kicker">shortcast bench</p><h1>{escape(results.bundle["name"])} on {escape(machine)}</h1>{paragraphs(lead, trained)}'


def _warnings(results: Results) -> str:
    lines = "".join(f"<li>{escape(line)}</li>" for line in warnings(results))
    return f'<ul class="warnings" aria-label="Warnings">{lines}</ul>' if lines else ""


def _findings(results: Results) -> str:
    tiles = "".join(f"<li><strong>{escape(one.figure)}</strong><span>{escape(one.said)}</span></li>" for one in findings(results))
    return f'<ul class="findings" aria-label="In short">{tiles}</ul>' if tiles else ""
