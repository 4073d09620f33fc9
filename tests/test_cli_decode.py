"""`shortcast score --decode` and `--decode-budget`, as a process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCORE = [sys.executable, "-m", "shortcast", "score", "--no-sound", "--format", "jsonl"]


def last_row(*arguments: object) -> dict[str, Any]:
    done = subprocess.run([*SCORE, *map(str, arguments)], capture_output=True, check=True, timeout=300, text=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def test_fast_decoding_says_so_and_moves_a_score_only_a_little(sample: Path) -> None:
    exact, fast = last_row(sample), last_row(sample, "--decode", "fast")
    assert not any("decoded fast" in note for note in exact["notes"])
    assert any("decoded fast" in note for note in fast["notes"])
    assert fast["z"] != exact["z"]
    assert abs(fast["z"] - exact["z"]) < 0.2
    assert fast["end_s"] == exact["end_s"]


def test_rows_of_fast_and_of_exact_decoding_do_not_mix(sample: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.jsonl"
    subprocess.run([*SCORE, str(sample), "-o", str(out)], check=True, timeout=300)
    done = subprocess.run(
        [*SCORE, str(sample), "--resume", str(out), "--decode", "fast"], capture_output=True, check=False, timeout=300, text=True
    )
    assert done.returncode == 1
    assert "decoded fast" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["--decode", "faster"], ["--decode-budget", "0"], ["--decode-budget", "much"]])
def test_what_makes_no_sense_is_a_usage_error(sample: Path, arguments: list[str]) -> None:
    done = subprocess.run([*SCORE, str(sample), *arguments], capture_output=True, check=False, timeout=300, text=True)
    assert done.returncode == 2
    assert arguments[0] in done.stderr
    assert "Traceback" not in done.stderr
