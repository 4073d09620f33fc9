"""The page of a benchmark: whole, closed in itself, no figure that was not proved, and fit to be looked at in a browser."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from shortcast.benchmarks.report import write_report
from shortcast.benchmarks.report_html import page
from shortcast.benchmarks.report_limits import engine_floors
from shortcast.benchmarks.report_markdown import markdown
from shortcast.benchmarks.report_parts import digits
from shortcast.benchmarks.report_table import separated
from shortcast.benchmarks.results import Environment, Parity, Results, Row, Series, read_results
from shortcast.benchmarks.statistics import percentile
from shortcast.benchmarks.summary import headline, reference_of, shown_rows, withheld
from shortcast.errors import DataError

SECTIONS = (
    "tables",
    "refused",
    "distributions",
    "timelines",
    "memory",
    "cold",
    "scenarios",
    "limits",
    "accuracy",
    "machine",
    "method",
)


@pytest.fixture(scope="module")
def results(made: ModuleType) -> Results:
    """Two contenders and PyTorch."""
    found: Results = made.made_results(contenders=(*made.CONTENDERS[:2], *made.CONTENDERS[3:5]), count=25)
    return found


@pytest.fixture(scope="module")
def text(results: Results) -> str:
    return page(results)


class Reader(HTMLParser):
    """Collects what a page holds, and refuses tags that do not close in order."""

    VOID = ("meta", "link", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for seen, attributes in self.seen if seen == tag]


def test_the_page_is_well_formed_has_every_section_and_asks_for_nothing(text: str) -> None:
    found = Reader(text)
    assert found.open == []
    assert tuple(section["id"] for section in found.of("section")) == SECTIONS
    links = [attributes[name] or "" for _, attributes in found.seen for name in ("src", "href") if name in attributes]
    assert links
    assert all(link.startswith(("#", "data:,")) or link == "bench.json" for link in links)
    assert not {"script", "iframe", "img", "object"} & {tag for tag, _ in found.seen}
    for forbidden in ("http:", "https:", "url(", "@import", "javascript:"):
        assert forbidden not in text


def test_tables_have_headings_and_pictures_have_names(text: str) -> None:
    found = Reader(text)
    assert all(heading.get("scope") in ("col", "row") for heading in found.of("th"))
    assert len(found.of("caption")) == len(found.of("table")) > 8
    pictures = [svg for svg in found.of("svg") if "aria-hidden" not in svg]
    assert len(pictures) > 15
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in pictures)


def test_the_page_says_what_on_what_and_what_the_model_was_trained_on(text: str, results: Results) -> None:
    said = "".join(Reader(text).words)
    for words in ("AMD EPYC 9354, 2 CPUs", results.bundle["source"], "Other processes used 9 %", "2 of 24 cases have no figures", "1.32.0"):
        assert words in said
    assert "The model was trained on" in said


def test_figures_are_those_of_the_samples(text: str, results: Results) -> None:
    row = next(row for row in shown_rows(results) if row.case.backend == "onnxruntime" and row.case.scope == "file")
    samples = [value for run in row.runs for value in run.samples("clip")]
    found = percentile(samples, 90.0)
    assert found.guaranteed is not None
    assert found.plain is not None
    assert f"{digits(found.guaranteed)}<small>plain {digits(found.plain)}</small>" in text
    assert "insufficient<br>(needs 662)" in text
    assert f"\t{percentile(samples, 50.0).plain:.6g}\t" in separated(results)


def test_the_reference_is_pytorch_in_float32_of_the_same_question(results: Results) -> None:
    for row in shown_rows(results):
        against = reference_of(row, results)
        if (row.case.backend, row.case.precision) == ("torch-eager", "fp32"):
            assert against is None
        elif against is not None:
            assert (against.case.backend, against.case.precision) == ("torch-eager", "fp32")
            assert (against.case.scope, against.case.scenario) == (row.case.scope, row.case.scenario)
    fast = next(row for row in shown_rows(results) if row.case.backend == "onnxruntime")
    found = headline(fast, results)
    assert found is not None
    assert found.times_reference is not None
    assert 3 < found.times_reference.estimate < 8


def test_refused_rows_are_named_with_their_reason_and_no_figure(results: Results, text: str) -> None:
    rows = [row for row in results.rows if not row.runs]
    assert len(rows) == 2
    for row in rows:
        assert row.refusal.replace("'", "&#x27;") in text
    # The error of the one that failed parity is in its record, and must not be shown.
    for shown in ("".join(Reader(text).words), markdown(results)):
        assert "777.25" not in shown
        assert "7.8e+02" not in shown


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"parity": None}, "not compared with PyTorch"),
        ({"parity": Parity("b" * 64, 3, 0.5, 1e-4, 0, False)}, "further from PyTorch"),
        ({"parity": Parity("a" * 64, 3, 0.0, 1e-4, 0, True)}, "on another bundle"),
        ({"runs": ()}, "it has no runs"),
        ({"refusal": "out of time"}, "out of time"),
    ],
)
def test_no_parity_no_number(results: Results, change: dict[str, Any], why: str) -> None:
    row = next(row for row in results.rows if row.case.backend == "onnxruntime")
    changed = replace(row, **change)
    alone = replace(results, rows=(changed,))
    assert why in (withheld(changed, alone) or "")
    assert shown_rows(alone) == ()
    text = page(alone)
    assert Reader(text).open == []
    assert why in text
    assert changed.case.key not in markdown(alone).split("## Not shown")[0]


def test_everything_from_outside_is_escaped(results: Results, made: ModuleType) -> None:
    nasty = "<script>alert(1)</script>"
    row = made.a_row(made.np.random.default_rng(0), replace(made.CONTENDERS[3], whisper=f"x{nasty}"), count=12)
    marked = replace(row, runs=tuple(replace(run, series=(*run.series, Series(nasty, "ms", (1.0, 2.0)))) for run in row.runs))
    refused = replace(results.rows[-1], refusal=nasty)
    changed = replace(
        results,
        command=nasty,
        created_utc=nasty,
        bundle=results.bundle | {"name": nasty, "source": nasty},
        clips=(replace(results.clips[0], name=nasty, codecs=nasty),),
        environment=Environment({"CPU": nasty, nasty: nasty}, (nasty,)),
        rows=(marked, refused),
    )
    assert "<script" not in page(changed)
    assert "&lt;script&gt;" in page(changed)


@pytest.mark.parametrize("label", ["UNSTABLE", "THROTTLED", "SHARED", "QUICK"])
def test_labels_are_shown_and_explained(results: Results, made: ModuleType, label: str) -> None:
    rows = tuple(row for row in results.rows if row.case.scope == "engine")
    why = "NVIDIA <A> was throttled: thermal slowdown."
    text = page(made.with_labels(replace(results, rows=rows, quick=label == "QUICK"), **{label: why}))
    assert f'title="NVIDIA &lt;A&gt; was throttled: thermal slowdown.">{label}</abbr>' in text
    assert ("<td>NVIDIA &lt;A&gt; was throttled: thermal slowdown.</td>" in text) == (label != "QUICK")
    assert ("Measured with --quick" in text) == (label == "QUICK")
    said = markdown(made.with_labels(results, **{label: why}))
    assert f"**{label}**" in said
    assert (f"**{label}**. {why}" in said) == (label != "QUICK")


def test_without_a_reference_nothing_is_said_of_gain(results: Results) -> None:
    rows = tuple(row for row in results.rows if not row.case.backend.startswith("torch"))
    text = page(replace(results, rows=rows))
    assert "PyTorch was not measured" in text
    assert "as fast as PyTorch" not in text


def test_a_benchmark_of_nothing_still_makes_a_page(results: Results) -> None:
    empty = replace(results, rows=(), limits=None, clips=())
    assert Reader(page(empty)).open == []
    assert "Nothing was measured" in page(empty)
    assert markdown(empty)


def test_one_run_has_no_interval(results: Results) -> None:
    alone = replace(results, rows=tuple(replace(row, runs=row.runs[:1]) for row in results.rows))
    assert "one run: no interval" in page(alone)


def test_ledgers_add_up_on_the_page(results: Results, text: str) -> None:
    assert "the peak RSS" in text
    row = shown_rows(results)[0]
    trace = row.runs[0].memory
    short = replace(trace, ledger=trace.ledger[:-1])
    broken = replace(row, runs=(replace(row.runs[0], memory=short), *row.runs[1:]))
    assert f"peak RSS: {digits(trace.peak_rss_bytes / (1 << 20))}" in page(replace(results, rows=(broken,)))


def test_engines_are_held_against_floors_of_their_own_precision(results: Results) -> None:
    floors = engine_floors(results)
    assert {floor.cost.graph for floor in floors} == {"visual", "fusion", "sound"}
    int8 = next(floor for floor in floors if floor.row.case.precision == "int8")
    assert int8.cost.precision == "int8"
    assert int8.floor.compute_ms == pytest.approx(1e3 * int8.cost.flops / 3.1e11)
    fp32 = next(floor for floor in floors if floor.cost.precision == "fp32")
    assert fp32.floor.compute_ms == pytest.approx(1e3 * fp32.cost.flops / 1.36e11)
    assert f"{digits(fp32.floor.times(fp32.median_ms))}×" in page(results)  # noqa: RUF001


def test_vram_has_a_column_where_it_is_known(results: Results) -> None:
    row = shown_rows(results)[0]
    runs = tuple(
        replace(run, memory=replace(run.memory, peak_vram_bytes=500 << 20, vram_method="NVML, this process, 1 MiB")) for run in row.runs
    )
    text = page(replace(results, rows=(replace(row, runs=runs),)))
    assert "VRAM, MiB" in text
    assert "NVML, this process, 1 MiB" in text
    assert "VRAM MiB" in markdown(replace(results, rows=(replace(row, runs=runs),)))
    assert "VRAM, MiB" not in page(replace(results, rows=(row,)))


def test_markdown_has_the_conditions_in_one_line_and_a_table(results: Results) -> None:
    lines = markdown(results).splitlines()
    conditions = lines[2]
    for words in ("AMD EPYC", "onnxruntime 1.32.0", "3 runs of each case", results.bundle["source"]):
        assert words in conditions
    table = [line for line in lines if line.startswith("|")]
    cells = [len(re.findall(r"(?<!\\)\|", line)) for line in table[:6]]
    assert len(set(cells)) == 1
    assert any("insufficient (needs 662)" in line for line in table)


def test_the_folder_is_written_whole_and_only_a_benchmark_is_replaced(results: Results, tmp_path: Path) -> None:
    small = replace(results, rows=results.rows[:1])
    written = write_report(small, tmp_path / "new" / "report")
    assert sorted(path.name for path in written.parent.iterdir()) == ["bench.json", "bench.md", "report.html"]
    assert read_results(written.parent) == small
    assert written.read_text(encoding="utf-8") == page(small)
    with pytest.raises(DataError, match="--force"):
        write_report(small, written.parent)
    written.write_text("old")
    write_report(small, written.parent, force=True)
    assert written.read_text() != "old"
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match="holds no benchmark"):
        write_report(small, tmp_path / "photos", force=True)
    assert [path.name for path in written.parent.parent.iterdir()] == ["report"]


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (0.01234, "0.0123"), (4.5678, "4.57"), (78.94, "78.9"), (99.96, "100"), (1234.4, "1,234")]
)
def test_numbers_have_three_digits(value: float, shown: str) -> None:
    assert digits(value) == shown


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_without_complaint_network_or_overflow(
    browser: Any, results: Results, tmp_path: Path, width: int, dark: bool
) -> None:
    written = write_report(results, tmp_path / "report")
    browser.open(written, width=width, dark=dark)
    browser.value("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert browser.requests == [written.resolve().as_uri()]
    assert browser.complaints == []
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("[...document.querySelectorAll('section')].every(one => one.getBoundingClientRect().height > 40)")
    assert browser.value("[...document.querySelectorAll('.charts svg')].every(one => one.getBoundingClientRect().width > 10)")
    paper = browser.value("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(22, 25, 28)" if dark else "rgb(255, 255, 255)")


def test_the_browser_does_see_what_it_looks_for(browser: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text("<script>console.error('no')</script><img src='absent.png'><div style='width:900px;height:9px'></div>")
    browser.open(bad, width=390)
    assert any("absent.png" in request for request in browser.requests)
    assert browser.complaints
    assert browser.value("document.documentElement.scrollWidth") > 390


def test_unknown_scopes_of_a_row_do_not_hide_it(results: Results) -> None:
    row: Row = replace(results.rows[0], case=replace(results.rows[0].case, scope="stage", scenario="offline"))
    assert "stage, offline" in page(replace(results, rows=(row,)))
