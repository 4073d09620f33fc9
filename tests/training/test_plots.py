"""Charts are well-formed SVG that puts numbers where they belong."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from shortcast.training.plots import HEIGHT, WIDTH, Chart, Series, figure, svg, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-2.3, 2.3, [-2.0, -1.0, 0.0, 1.0, 2.0]),
        (0.0, 19.8, [0.0, 5.0, 10.0, 15.0]),
        (3.0, 3.0, [3.0]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == expected


def chart(*series: Series, square: bool = False) -> Chart:
    return Chart("a <title>", "seconds", "MSE & more", series, square=square)


def test_higher_values_are_drawn_higher_and_later_ones_to_the_right() -> None:
    drawn = ElementTree.fromstring(svg(chart(Series("one", [0.0, 1.0], [5.0, 9.0]))))
    line = next(element for element in drawn.iter() if element.tag.endswith("polyline"))
    (x0, y0), (x1, y1) = ([float(number) for number in point.split(",")] for point in line.attrib["points"].split())
    assert x0 < x1 <= WIDTH
    assert HEIGHT >= y0 > y1 >= 0


def test_bands_whiskers_and_gaps() -> None:
    line = Series("line", [0.0, 1.0, 2.0], [1.0, None, 3.0], low=[0.0, None, 2.0], high=[2.0, None, 4.0])
    points = Series("points", [0.0, 1.0], [1.0, float("nan")], "points", low=[0.5, 0.5], high=[1.5, 1.5])
    drawn = ElementTree.fromstring(svg(chart(line, points)))
    count = {name: sum(element.tag == name for element in drawn.iter()) for name in ("polyline", "polygon", "circle")}
    assert count == {"polyline": 1, "polygon": 1, "circle": 1}
    assert len(drawn.find("polyline").attrib["points"].split()) == 2  # type: ignore[union-attr]


def test_equal_values_lie_on_the_diagonal_of_a_square_chart() -> None:
    drawn = ElementTree.fromstring(svg(chart(Series("same", [0.0, 4.0], [0.0, 4.0]), Series("off", [1.0], [9.0], "points"), square=True)))
    labels = [element.text for element in drawn.iter("text")]
    assert labels.count("8") == 2


def test_text_is_escaped_and_nothing_to_draw_is_said() -> None:
    text = figure(chart(Series("a<b", [], [])))
    assert "a &lt;title&gt;" in text
    assert "a&lt;b" in text
    assert "no figures" in text
    ElementTree.fromstring(text)


def test_one_point_has_a_range() -> None:
    ElementTree.fromstring(svg(chart(Series("one", [2.0], [0.0], "points"))))
