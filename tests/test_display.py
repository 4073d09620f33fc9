import io

import pytest
from rich.console import Console

from shortcast.display import StageBars, bars, card_tables, human, parity_table
from shortcast.runtime.parity import ParityRow, Tolerance


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


def test_a_card_that_training_did_not_write_is_shown_as_it_is() -> None:
    assert "by hand" in render(*card_tables({"made": {"how": "by hand"}}))


def test_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with StageBars() as stages:
        stages.advance("clips", 3, 10, "so far")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "clips" in captured.err
