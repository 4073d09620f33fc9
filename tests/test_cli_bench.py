"""`shortcast bench` as a user meets it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

HERE = Path(__file__).parent


def bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(HERE / "benchmarks")}
    command = [sys.executable, "-m", "shortcast", "bench", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=500)
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["nowhere.mp4"], 1, "nowhere.mp4 does not exist"),
        (["nowhere.shortcast"], 1, "is not a bundle"),
        (["--backend", "onnx"], 1, "backend 'onnx' is unknown; it is one of onnxruntime"),
        (["--precision", "fp8"], 2, "--precision is one of fp32"),
        (["--scenario", "batch"], 2, "--scenario"),
        (["--scope", "engine", "--scenario", "live"], 2, "only the scope 'file' has"),
        (["--vram-budget", "much"], 2, "is no amount of memory"),
        (["--vram-budget", "1GiB", "--backend", "onnxruntime"], 1, "--vram-budget is for contenders on a GPU"),
        (["--vram-budget", "1MiB", "--backend", "tensorrt"], 1, "nothing fits into 1.0 MiB of GPU memory"),
        (["--force"], 2, "--force needs --output"),
        (["--backend", "onnxruntime", "-o", HERE], 1, "give --force to replace it"),
    ],
)
def test_what_cannot_be_measured_is_refused_first(arguments: list[object], status: int, says: str) -> None:
    done = bench(*arguments)
    assert done.returncode == status
    assert says in " ".join(done.stderr.replace("│", " ").split())
    assert done.stdout == ""


def test_help_is_that_of_measuring_and_names_compare() -> None:
    done = bench("--help")
    assert done.returncode == 0
    assert "bench compare before after" in done.stdout
    assert "--whisper-backend" in done.stdout


def test_right_and_wrong_side_by_side(tmp_path: Path) -> None:
    report = tmp_path / "report"
    contenders = ["--backend", "fake_contender:right", "--backend", "fake_contender:wrong", "--backend", "fake_contender:crashes"]
    done = bench(*contenders, "--quick", "--budget", 5, "--scope", "engine", "--scenario", "single-stream", "-o", report)
    assert done.returncode == 0
    assert "fake_contender:wrong fp32 + ctranslate2 float32: its scores are not the reference's: off by 0.1" in done.stdout
    assert "fake_contender:crashes" in done.stdout
    assert "QUICK" in done.stdout
    results = json.loads((report / "bench.json").read_text())
    rows = {row["case"]["backend"]: row for row in results["rows"]}
    assert len(rows["fake_contender:right"]["runs"]) == 1
    assert rows["fake_contender:wrong"]["runs"] == []
    assert "SIGSEGV" in rows["fake_contender:crashes"]["refusal"]


def test_nothing_to_show_is_a_failure() -> None:
    done = bench("--backend", "fake_contender:not_a_number", "--quick", "--budget", 5, "--scope", "engine")
    assert done.returncode == 1
    assert "not comparable" in done.stdout


def test_ctrl_c_ends_the_child_too(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(HERE / "benchmarks")}
    command = [
        sys.executable,
        "-m",
        "shortcast",
        "bench",
        "--backend",
        "fake_contender:hangs",
        "--scope",
        "engine",
        "-o",
        str(tmp_path / "out"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        child = _wait_for(lambda: _child_that_hangs(process.pid))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        _wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def _child_that_hangs(pid: int) -> psutil.Process | None:
    """The measuring process, once it's past its imports."""
    found = [child for child in psutil.Process(pid).children() if "shortcast.benchmarks.child" in child.cmdline()]
    return found[0] if found and found[0].memory_info().rss > 60 << 20 else None


def _wait_for(found: Callable[[], Any]) -> Any:
    for _ in range(600):
        if answer := found():
            return answer
        time.sleep(0.1)
    raise AssertionError("it did not come")
