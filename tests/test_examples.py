"""Every example runs as it says it is to be run, and stays short."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


def run(name: str, *arguments: object, stdin: Path | None = None) -> str:
    (example,) = (path for path in EXAMPLES if path.stem == name)
    with (stdin or Path("/dev/null")).open("rb") as file:
        command = [sys.executable, "-W", "error", str(example), *map(str, arguments)]
        done = subprocess.run(command, stdin=file, capture_output=True, text=True, check=False, timeout=120)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_short_and_run_here(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 40
    assert f'run("{path.stem}"' in Path(__file__).read_text()


def test_a_clip(sample: Path, tmp_path: Path) -> None:
    assert "views, 90% between" in run("score_a_clip", sample)
    assert "does not exist" in run("score_a_clip", tmp_path / "none.mp4")


def test_a_stream(sample: Path) -> None:
    lines = run("stream_a_clip", stdin=sample).splitlines()
    assert lines[0].startswith("after   2.0 s:")
    assert len(lines) > 2


def test_asyncio(sample: Path, tmp_path: Path) -> None:
    said = run("score_with_asyncio", sample, tmp_path / "none.mp4")
    assert said.count(str(sample)) == 7
    assert "does not exist" in said


def test_many_clips(sample: Path, tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(sample, tmp_path / name)
    (tmp_path / "c.mp4").write_text("no clip")
    said = run("score_many_clips", tmp_path)
    assert said.count("views") == 2
    assert "c.mp4 is not" in said
