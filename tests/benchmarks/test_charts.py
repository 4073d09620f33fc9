"""Charts: places on axes, what cannot be drawn, and looks that differ in more than colour."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from shortcast.benchmarks.charts import Bar, Drawn, Mark, Part, Plot, Style, bars, figure, log_ticks, styles_of, svg

LOOK = Style("one", 0)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1.0, 100.0, [1, 3, 10, 30, 100]),
        (9.0, 60.0, [10, 20, 50]),
        (1e-8, 1e4, [1e-8, 1e-5, 1e-2, 10, 1e4]),
        (500.0, 640.0, [500, 550, 600]),
        (1.0, 1e5, [1, 10, 100, 1e3, 1e4, 1e5]),
    ],
)
def test_ticks_of_a_logarithmic_axis_are_round(low: float, high: float, expected: list[float]) -> None:
    assert log_ticks(low, high, most=6) == pytest.approx(expected)


def test_what_a_logarithmic_axis_cannot_show_is_left_out() -> None:
    drawn = Drawn(LOOK, [1.0, 0.0, 10.0, 100.0], [1.0, 5.0, -2.0, 100.0])
    points = re.search(r'<polyline[^>]* points="([^"]*)"', svg(Plot("t", "x", "y", (drawn,), x_log=True, y_log=True)))
    assert points is not None
    assert len(points[1].split()) == 2


@pytest.mark.parametrize("numbers", [[], [float("nan")]])
def test_a_plot_of_nothing_says_so(numbers: list[float]) -> None:
    assert "no figures" in svg(Plot("t", "x", "y", (Drawn(LOOK, numbers, numbers),)))


def test_a_single_point_is_drawn() -> None:
    assert svg(Plot("t", "x", "y", (Drawn(LOOK, [5.0], [7.0], "points"),), x_log=True, y_log=True)).count('class="point') == 1


def test_looks_differ_in_dash_or_shape_as_well() -> None:
    looks = styles_of(f"case {place}" for place in range(20)).values()
    assert all(style.colour != 4 for style in looks)
    assert len({(style.colour, style.variant) for style in looks}) == 20


def test_marks_and_labels_are_escaped() -> None:
    drawn = Drawn(Style("<b>", 1), [1.0, 2.0], [1.0, 2.0])
    text = figure(Plot("<i>", "<u>", "<s>", (drawn,), marks=(Mark(1.5, "<em>"), Mark(1.2, "<p>", "y"))), note="<q>")
    assert not re.search(r"<(b|i|u|s|em|q)>", text)
    assert "&lt;em&gt;" in text


def test_bars_are_as_long_as_their_parts_and_the_longest_fits() -> None:
    rows = [Bar("a", (Part("x", 30.0), Part("y", 10.0)), "40"), Bar("b", (Part("y", 20.0),), "20", (15.0, 50.0))]
    text = bars("t", "ms", rows, {"x": 0, "y": 1})
    widths = [float(width) for width in re.findall(r'<rect[^>]* width="([\d.]+)"', text)]
    assert widths[0] == pytest.approx(3 * widths[1], rel=0.02)
    assert widths[2] == pytest.approx(2 * widths[1], rel=0.02)
    assert sum(widths[:2]) < 440
    assert text.count("swatch") == 2


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("shortcast.benchmarks.report", ["matplotlib", "pandas", "scipy", "sklearn", "torch"]),
        ("shortcast.benchmarks.rules, shortcast.display_compare", ["matplotlib", "onnx", "pandas", "scipy", "sklearn", "torch"]),
    ],
)
def test_reports_need_only_the_extra_bench_and_comparing_less(modules: str, absent: list[str]) -> None:
    code = f"import sys, {modules}\nprint(*sorted(set({absent}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
