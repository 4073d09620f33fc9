"""The export commands as a shell runs them: precisions, engines, and what each refusal says."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Trained


DEMO = Path(__file__).parents[1] / "samples" / "demo.shortcast"


def shortcast(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "shortcast", *map(str, arguments)], capture_output=True)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["model"], "say what to make with -o"),
        (["-o", "out"], "give a checkpoint directory"),
        (["--engines-only", "bundle"], "say which"),
        (["--engines-only", DEMO, "--target", "tensorrt-rtx", "--precision", "int8"], "int8 graphs are for"),
        (["model", "-o", "out", "--target", "tensorrt-rtx", "--precision", "int8"], "int8 graphs are for"),
        (["model", "-o", "out", "--target", "coreml"], "tensorrt-rtx"),
        (["model", "-o", "out", "--max-batch", 0], "max-batch"),
    ],
)
def test_usage_errors_exit_with_2(arguments: list[object], sentence: str) -> None:
    done = shortcast("export", *arguments)
    assert done.returncode == 2, done.stderr
    assert sentence in " ".join(done.stderr.decode().replace("│", " ").split())


def test_float16_and_its_engines_travel_from_export_to_a_score(trt: Any, trained: "Trained", sample: Path, tmp_path: Path) -> None:
    bundle, clips = tmp_path / "model.shortcast", sorted(trained.manifest.parent.rglob("*.mp4"))
    options = ["--golden", clips[0], "--clip", clips[1], "--clip", clips[2], "--precision", "fp16"]
    engines = ["--target", "tensorrt-rtx", "--compute-capability", "8.9"]
    done = shortcast("export", trained.checkpoint, "-o", bundle, *options, *engines)
    assert done.returncode == 0, done.stderr.decode()
    assert "fp16 on onnxruntime" in done.stdout.decode()
    assert b"built the fp16 visual engine: 35 of 36 compute layers half" in done.stderr
    manifest = json.loads(shortcast("inspect", bundle, "--json").stdout)
    assert manifest["variants"]["fp16"] == {"visual": "fp16", "fusion": "fp16"}
    assert manifest["provenance"]["proof_clips"] == "given by --clip"
    shown = shortcast("inspect", bundle).stdout.decode()
    assert "reduced precision" in shown
    assert "precision found" in shown
    verified = shortcast("verify", bundle, "--precision", "fp16")
    assert verified.returncode == 0, verified.stderr
    scores = [json.loads(shortcast("score", sample, "-b", bundle, "--precision", one).stdout) for one in ("fp32", "fp16")]
    assert scores[0]["z"] == pytest.approx(scores[1]["z"], abs=0.01)
    again = shortcast("export", "--engines-only", bundle, "--target", "tensorrt-rtx", "--compute-capability", "8.6")
    assert again.returncode == 0, again.stderr.decode()
    assert b"built for 8.9, wanted 8.6" in again.stderr


def test_every_precision_of_the_demo_bundle_is_verified_again(demo: Path) -> None:
    for precision in ("fp16", "int8"):
        done = shortcast("verify", demo, "--precision", precision)
        assert done.returncode == 0, done.stdout.decode()
        assert f"{precision} on onnxruntime" in done.stdout.decode()


def test_a_precision_the_bundle_does_not_hold(trained: "Trained") -> None:
    done = shortcast("verify", trained.bundle, "--precision", "int8")
    assert done.returncode == 1
    assert b"holds no int8 visual graph" in done.stderr


def test_tensorrt_without_a_gpu_names_the_other_target(trained: "Trained", tmp_path: Path) -> None:
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "shortcast", "export", str(trained.checkpoint), "-o", str(tmp_path / "b"), "--target", "tensorrt"]
    done = subprocess.run(command, capture_output=True, env=hidden)
    assert done.returncode == 1
    assert b"--target tensorrt-rtx" in done.stderr
    assert b"exporting graphs" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_engine_build_that_is_refused_leaves_the_bundle(trt: Any, demo: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(demo, tmp_path / "copy.shortcast"))
    done = shortcast("export", "--engines-only", bundle, "--target", "tensorrt-rtx", "--compute-capability", "banana")
    assert done.returncode == 1
    assert b"it knows 7.5" in done.stderr
    assert not (bundle / "engines").exists()
    assert [path.name for path in tmp_path.iterdir()] == [bundle.name]
