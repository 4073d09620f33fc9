"""Building blocks of the report's page: tables with headings, figures with a smaller line below, labels; everything is escaped here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Literal, TypeAlias

from .ratio import Ratio
from .results import Case, Results, Row
from .statistics import Percentile

SERIES_NAMES = {
    "clip": "file to score",
    "answer": "decoded to scored",
    "age": "age of the newest score",
    "visual": "visual engine",
    "fusion": "fusion engine",
    "audio": "sound encoder",
    "features": "sound features",
}
"""What the samples of a series are, in words."""
GROUP_NAMES = {
    ("file", "single-stream"): "File to score, one clip after another",
    ("file", "offline"): "File to score, many clips at hand",
    ("file", "server"): "Server: requests arrive at random",
    ("file", "live"): "Live: a chunk falls due every period",
    ("stage", "single-stream"): "Stages of the pipeline",
    ("engine", "single-stream"): "Engines alone",
}
LABEL_MEANINGS = {
    "UNSTABLE": "its last windows of times differ by more than 10 %, or its warm-up did not settle",
    "THROTTLED": "the machine held its clocks or its quota back meanwhile",
    "SHARED": "other processes used the machine meanwhile",
    "QUICK": "too short a run for anything but a first look",
}


NONE = "-"
"""Where a figure does not exist."""


Kind: TypeAlias = Literal["numbers", "words", "cases"]
"""Of a table: figures on the right; words on the left; figures after two columns of words."""


class Cell(str):
    """HTML that is safe as it is."""


def with_note(shown: str, note: str) -> Cell:
    """A figure, and a smaller line below it."""
    return Cell(f"{escape(shown)}<small>{escape(note)}</small>" if note else escape(shown))


def data_table(heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "", *, kind: Kind = "numbers") -> str:
    """A table that scrolls sideways where the page is too narrow; the first cell of a row is its heading."""
    top = "".join(f'<th scope="col">{safe(head)}</th>' for head in heads)
    body = "".join(f'<tr><th scope="row">{safe(row[0])}</th>{"".join(f"<td>{safe(cell)}</td>" for cell in row[1:])}</tr>' for row in rows)
    named = f"<caption>{escape(caption)}</caption>" if caption else ""
    region = f' role="region" tabindex="0" aria-label="{escape(caption or heads[0])}"'
    return f'<div class="wide"{region}><table class="{kind}">{named}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def safe(text: str) -> str:
    """Text as HTML, and HTML as it is."""
    return text if isinstance(text, Cell) else escape(text)


def definitions(rows: Mapping[str, str]) -> str:
    """Names and what they mean."""
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{safe(value)}</dd>' for name, value in rows.items())}</dl>"


def details(title: str, content: str) -> str:
    """What is only shown when asked for."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def paragraphs(*texts: str) -> str:
    """One for each text."""
    return "".join(f"<p>{safe(text)}</p>" for text in texts)


def labels_of(row: Row) -> Cell:
    """A row's labels as badges, each with its reason."""
    return Cell("".join(f' <abbr class="label" title="{escape(why)}">{label}</abbr>' for label, why in row.labels.items()))


def named(row: Row, results: Results) -> Cell:
    """A row's name with its labels; device and threads below it."""
    case = row.case
    return Cell(f"{escape(case_name(case, results))}{labels_of(row)}<small>{escape(f'{case.device}, {case.threads} threads')}</small>")


def case_name(case: Case, results: Results) -> str:
    """What is compared; with the device and the threads where reports hold the same contender on several."""
    places = {(row.case.device, row.case.threads) for row in results.rows if row.case.contender == case.contender and row.runs}
    return case.contender if len(places) < 2 else f"{case.contender}, {case.device}, {case.threads} threads"


def counted(count: int, what: str) -> str:
    """`1 run`, `3 runs`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def runs_each(rows: Sequence[Row]) -> str:
    """`3 runs`, or `2 to 3 runs` where cases differ."""
    found = sorted({len(row.runs) for row in rows}) or [0]
    return counted(found[0], "run") if len(found) == 1 else f"{found[0]} to {found[-1]} runs"


def machine_of(results: Results) -> str:
    """The processor, as the environment names it."""
    facts = {name.lower(): value for name, value in results.environment.facts.items()}
    exact = [facts[name] for name in ("cpu", "cpu model", "processor") if name in facts]
    return next(iter(exact or [value for name, value in facts.items() if name.startswith("cpu")]), "an unnamed machine")


def group_name(scope: str, scenario: str) -> str:
    """A scope and a scenario in words."""
    return GROUP_NAMES.get((scope, scenario), f"{scope}, {scenario}")


def series_name(name: str, measured_from: str = "call") -> str:
    """What is timed, in words."""
    return "due to answered" if (name, measured_from) == ("answer", "schedule") else SERIES_NAMES.get(name, name)


def digits(value: float) -> str:
    """Three significant digits, whole numbers whole: 0.0123, 4.56, 78.9, 1,234."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) >= 99.95:
        return f"{value:,.0f}"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{places}f}" if places < 7 else f"{value:.2e}"


def error(value: float) -> str:
    """An error of scores: 0, or one digit and its power of ten."""
    return f"{value:.1e}" if value else "0"


def mib(size: float) -> str:
    """Bytes as MiB."""
    return digits(size / (1 << 20))


def guaranteed(found: Percentile) -> Cell:
    """The early-stopping estimate with the plain value below it, or that there are too few samples; then no number."""
    if found.guaranteed is None or found.plain is None:
        return Cell(f'<span class="lacking">insufficient<br>(needs {found.needed:,})</span>')
    return with_note(digits(found.guaranteed), f"plain {digits(found.plain)}")


def times_as(ratio: float) -> str:
    """`4.7×`, as many times as the other."""
    return f"{digits(ratio)}×"  # noqa: RUF001


def with_interval(ratio: Ratio) -> Cell:
    """A ratio, and its interval below it."""
    ends = ratio.interval()
    return with_note(times_as(ratio.estimate), f"{digits(ends[0])} to {digits(ends[1])}" if ends else "one run: no interval")
