"""The replay behind the figures of early exit, on made clips whose right answers are known; and the script as a process."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shortcast.benchmarks.settled_rules import ClipRun, replay
from shortcast.benchmarks.until_settled import report
from shortcast.runtime.bundle import Bundle
from shortcast.runtime.early import Until
from shortcast.runtime.settling_fit import ClipPath


def a_run(number: int, classes: list[int], truth_z: float | None, sure: float = 0.7) -> ClipRun:
    """A clip whose score is its class less 1.5 after each chunk of 2 s."""
    rest = (1 - sure) / 3
    probabilities = np.array([[sure if named == each else rest for each in range(4)] for named in classes])
    z = np.array(classes) - 1.5
    path = ClipPath(z, np.stack([z - 1, z + 1], axis=1), probabilities, 2.0 * np.arange(1, len(classes) + 1))
    return ClipRun(f"{number}.mp4", f"author {number // 2}", truth_z, path, 1.0, 0.5, 4.0)


@pytest.fixture
def runs() -> list[ClipRun]:
    """Eight clips of five chunks, the truth being what the last chunk says; two of them turn after the third."""
    turning = [a_run(number, [0, 0, 0, 3, 3], 1.5) for number in range(2)]
    return [*turning, *(a_run(number, [number % 4] * 5, number % 4 - 1.5) for number in range(2, 8))]


def test_what_a_rule_saves_and_costs(runs: list[ClipRun], demo: Path) -> None:
    rules = {rule.rule: rule for rule in replay(runs, Bundle.open(demo), resamples=20)}
    two = rules["after 2 chunks"]
    assert (two.stopped, two.kept, two.flips) == (8, 6, 2)
    assert two.unread.estimate == pytest.approx(0.6)
    assert two.kept_share.estimate == pytest.approx(0.75)
    assert two.moved_z_median == 0.0
    assert two.cost is not None
    assert two.cost.mse == pytest.approx(2 * 9 / 8)
    assert two.cost.mse_whole == 0.0
    assert two.cost.mse_difference.estimate == pytest.approx(2 * 9 / 8)
    assert two.cost.coverage == pytest.approx(0.75)
    assert two.cost.coverage_whole == 1.0
    assert rules["probability 0.7 for 3 chunks"].unread.estimate == pytest.approx(0.4)
    assert rules["probability 0.8 for 1 chunks"].stopped == 0
    assert rules["after 12 chunks"].unread.estimate == 0.0
    assert any(name.startswith("class settled at") for name in rules)


def test_a_patience_starts_again_when_the_class_changes(demo: Path) -> None:
    run = a_run(0, [0, 1, 0, 0, 0], None)
    rules = {rule.rule: rule for rule in replay([run], Bundle.open(demo), resamples=20)}
    assert rules["probability 0.6 for 2 chunks"].unread.estimate == pytest.approx(0.2)
    assert rules["probability 0.6 for 2 chunks"].cost is None


def test_the_report_adds_up_what_was_measured(runs: list[ClipRun], demo: Path) -> None:
    found = json.loads(json.dumps(report(runs, Bundle.open(demo), Until(), threads=1, resamples=20), allow_nan=False))
    assert (found["clips"], found["authors"], found["media_s"]) == (8, 4, 80.0)
    assert found["measured"]["saved"]["estimate"] == pytest.approx(0.5)
    assert found["runs"][0]["z"] == [-1.5, -1.5, -1.5, 1.5, 1.5]


def test_the_script_goes_on_where_it_was(short: Path, tmp_path: Path, demo: Path) -> None:
    (tmp_path / "clips").mkdir()
    for number in range(2):
        (tmp_path / "clips" / f"{number}.mp4").write_bytes(short.read_bytes())
    (tmp_path / "clips" / "0-broken.mp4").write_text("no clip")
    command = [
        sys.executable,
        "-m",
        "shortcast.benchmarks.until_settled",
        "clips",
        "-o",
        "out.json",
        "--resume",
        "--resamples",
        "20",
        "--limit",
        "2",
    ]
    counts = []
    for _ in range(3):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        counts.append(json.loads((tmp_path / "out.json").read_text())["clips"])
    assert counts == [1, 2, 2]  # what cannot be scored is tried every time
