"""The bar of a run over many clips, as it would stand on a terminal."""

import io

import pytest
from rich.console import Console

from shortcast import display_score
from shortcast.display_score import ClipBar


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=120, color_system=None)
    monkeypatch.setattr(display_score, "Console", lambda **_: console)
    return written


def test_the_bar_counts_clips_and_failures_and_says_how_fast_they_go(screen: io.StringIO) -> None:
    with ClipBar(4) as bar:
        bar.advance(False)
        bar.advance(True)
    last = screen.getvalue().split("\r")[-1]
    assert "2/4" in last
    assert "clips/s" in last
    assert "ETA" in last
    assert "1 failed" in last
