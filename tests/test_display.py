import io

import pytest
from rich.console import Console

from shortcast.display import ScoreTable, StageBars, bars, human
from shortcast.display_card import card_tables, class_table, coverage_table, folds_table
from shortcast.display_proof import parity_table
from shortcast.runtime.parity import ParityRow, Tolerance
from shortcast.runtime.score import Latency, Score


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (7.126, "7.13"),
        (999, "999"),
        (999.9, "1 k"),
        (1234, "1.23 k"),
        (56_789, "56.8 k"),
        (1e6, "1 M"),
        (2.5e9, "2.5 G"),
        (-4e3, "-4 k"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert human(value) == text


def test_bars_rise_with_the_probability() -> None:
    assert bars([0.0, 0.5, 1.0]) == "▁▅█"


def render(*tables: object) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(*tables)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_worst_row_of_a_kind_is_shown() -> None:
    loose = Tolerance(1e-3, 0.0, "test")
    rows = [ParityRow("visual, a", "h", (1,), 1e-6, loose, passed=True), ParityRow("visual, b", "h", (1,), 5e-3, loose, passed=False)]
    text = render(parity_table(rows))
    assert "5.00e-03" in text
    assert "FAILED" in text
    rows.append(ParityRow("visual, c", "h", (1,), None, loose, passed=False))
    assert "not comparable" in render(parity_table(rows))


def a_score(*probabilities: float) -> Score:
    return Score(
        clip="clip.mp4",
        index=0,
        start_s=0.0,
        end_s=2.0,
        final=True,
        target="likes",
        value=12.0,
        z=0.1,
        interval=(3.0, 40.0),
        interval_coverage=0.9,
        class_probabilities=probabilities,
        chunk_weights=(1.0,),
        has_pictures=True,
        has_sound=False,
        epoch=0,
        lost_packets=0,
        latency=Latency(1.0, 2.0, 3.0, 4.0),
    )


@pytest.mark.parametrize(
    ("probabilities", "kind", "name"),
    [((0.1, 0.2, 0.6, 0.1), "quartile", "Q3"), ((0.1, 0.7, 0.2), "class", "2/3"), ((0.4, 0.6), "class", "2/2")],
)
def test_four_classes_are_quartiles_and_others_are_numbered(probabilities: tuple[float, ...], kind: str, name: str) -> None:
    console = Console(file=io.StringIO(), width=200)
    ScoreTable(console).show(a_score(*probabilities))
    head, row = console.file.getvalue().splitlines()[-2:]  # type: ignore[attr-defined]
    assert f" {kind} " in head
    assert f" {name} {max(probabilities):.0%}" in row
    plain = a_score(*probabilities).to_json()
    assert {key: plain[key] for key in plain if "quartile" in key or "class" in key} == {
        kind: int(name.strip("Q").split("/")[0]),
        f"{kind}_probabilities": list(probabilities),
    }


def test_classes_that_ties_merged_are_said() -> None:
    found = {"class_sizes": [9, 1], "accuracy": 0.8, "macro_f1": 0.7, "quadratic_kappa": None, "confusion": [[8, 1], [1, 0]]}
    held_out = {"classes": found, "majority_class_accuracy": 0.9}
    text = render(class_table({"asked_for": 4, "sizes": [60, 40]}, held_out))
    assert "60, 40 clips; 4 were asked for, and ties allow 2" in text
    assert "true 1, predicted 1 to 2" in text
    assert "asked for" not in render(class_table({"asked_for": 2, "sizes": [60, 40]}, held_out))


def test_coverage_is_shown_by_prefix_or_alone() -> None:
    held_out = {"interval": {"coverage": 0.85, "nominal": 0.9, "clips": 40}}
    rows = [
        {"chunks": chunks, "margin_z": 0.2, "predicted": {"coverage": 0.83}, "conformal": {"coverage": share, "clips": 40}}
        for chunks, share in ((2, 0.91), (None, 0.94))
    ]
    lines = render(coverage_table({**held_out, "coverage": rows})).splitlines()
    assert [line.split() for line in lines if "%" in line][1:] == [
        ["2", "│", "40", "│", "+0.20", "│", "83%", "│", "91%"],
        ["all", "│", "40", "│", "+0.20", "│", "83%", "│", "94%"],
    ]
    assert "85%" in render(coverage_table({**held_out, "coverage": []}))


def test_a_card_that_training_did_not_write_is_shown_as_it_is() -> None:
    assert "by hand" in render(*card_tables({"made": {"how": "by hand"}}))


def test_folds_are_shown_with_intervals_and_spread() -> None:
    def figure(estimate: float | None, low: float | None = None, high: float | None = None) -> dict[str, float | None]:
        return {"estimate": estimate, "low": low, "high": high}

    metrics = {"mse": figure(0.84, 0.55, 1.19), "mae": figure(0.7), "nmse": figure(0.78, 0.6, 1), "spearman": figure(None)}
    found = {
        "clips": 80,
        "kind": "grouped by author and duplicate",
        "folds": [{}, {}, {}],
        "predictors": [{"predictor": "pictures and sound", "space": "views", "metrics": metrics}],
        "spread": [{"space": "views", "metric": "mse", "mean": 0.829, "std": 0.44}],
    }
    text = " ".join(render(folds_table(found)).split())
    assert "80 clips, each predicted by models that did not see it: 3 folds, grouped by author and duplicate" in text
    assert "│ pictures and sound │ views │ 0.84 [0.55, 1.19] │ 0.7 │ 0.78 [0.6, 1] │ - │" in text
    assert "│ each fold, mean ± deviation │ views │ 0.829 ± 0.44 │ - │ - │ - │" in text


def test_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with StageBars() as stages:
        stages.advance("clips", 3, 10, "so far")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "clips" in captured.err
