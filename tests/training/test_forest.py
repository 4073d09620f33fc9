"""Forest plots put a difference where it belongs and name who is better."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from shortcast.training.bootstrap import ConfidenceInterval
from shortcast.training.forest import ForestRow, dots, forest


def rows() -> list[ForestRow]:
    return [
        ForestRow("a <name>", ConfidenceInterval(-0.4, -0.6, -0.2, 9)),
        ForestRow("b", ConfidenceInterval(0.3, 0.1, 0.5, 9)),
        ForestRow("c", ConfidenceInterval(-0.1, -0.3, 0.1, 9)),
        ForestRow("d", ConfidenceInterval(None, None, None, 0)),
        ForestRow("e", ConfidenceInterval(-0.2, None, None, 0)),
    ]


@pytest.mark.parametrize(("less_is_better", "colours"), [(True, ["c2", "c1", "c4", "c4"]), (False, ["c1", "c2", "c4", "c4"])])
def test_whose_interval_excludes_zero_is_better_and_the_rest_is_open(less_is_better: bool, colours: list[str]) -> None:
    drawn = ElementTree.fromstring(forest("MSE", "difference", rows(), less_is_better=less_is_better))
    assert [circle.attrib["class"].split()[-1] for circle in drawn.iter("circle")] == colours


def test_points_bars_and_lines_are_in_order() -> None:
    drawn = ElementTree.fromstring(forest("MSE", "difference", rows(), less_is_better=True))
    places = [float(circle.attrib["cx"]) for circle in drawn.iter("circle")]
    heights = [float(circle.attrib["cy"]) for circle in drawn.iter("circle")]
    assert places[0] < places[3] < places[2] < places[1]
    assert heights == sorted(heights)
    assert len([path for path in drawn.iter("path") if path.attrib["class"].startswith("whisker")]) == 3
    texts = [text.text for text in drawn.iter("text")]
    assert "a <name>" in texts
    assert "does not exist" in texts


def test_figures_that_are_not_compared_have_one_colour_and_an_axis_from_zero() -> None:
    drawn = ElementTree.fromstring(dots("MSE", "MSE", [ForestRow("a", ConfidenceInterval(0.5, 0.4, 0.7, 9))]))
    assert [circle.attrib["class"].split()[-1] for circle in drawn.iter("circle")] == ["c0"]
    assert (
        min(float(text.text or "") for text in drawn.iter("text") if text.attrib.get("text-anchor") == "middle" and text.text != "MSE") == 0
    )


def test_nothing_to_compare_is_said() -> None:
    assert "no figures" in forest("MSE", "difference", [], less_is_better=True)
