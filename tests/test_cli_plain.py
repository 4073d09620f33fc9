"""Plain arguments are read as typer reads them, and `shortcast score` loads nothing that it does not need."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperCommand

from shortcast.cli_plain import PlainCommand
from shortcast.cli_score import score_app

LINES = [
    "clip.mp4",
    "a.mp4 b.mp4 --every-chunk",
    "- --jobs 1 --threads 3",
    "-j2 clip.mp4 -o out.csv --force",
    "clip.mp4 --format jsonl --no-sound --no-ordered",
    "clip.mp4 --ordered --pictures --precision int8 --engine=onnxruntime --device cuda",
    "clip.mp4 --bundle some/where --whisper . --from list.txt",
    "--resume scores.parquet --retry-failed -- --clip.mp4",
    "",
]
REFUSED = ["--bogus", "clip.mp4 --jobs 0", "clip.mp4 --jobs x", "clip.mp4 --format xml", "clip.mp4 --jobs", "--help"]


@pytest.fixture
def command() -> Any:
    return typer.main.get_command(score_app)


@pytest.mark.parametrize("line", LINES)
def test_values_are_those_of_typer(command: Any, line: str) -> None:
    assert isinstance(command, PlainCommand)
    context = command.context_class(command, info_name="score")
    plain = command._read(context, line.split())
    with command.context_class(command, info_name="score").scope(cleanup=False) as context:
        TyperCommand.parse_args(command, context, line.split())
    assert plain == context.params
    assert {name: type(value) for name, value in plain.items()} == {name: type(value) for name, value in context.params.items()}


@pytest.mark.parametrize("line", REFUSED)
def test_what_is_wrong_or_special_is_left_to_typer(command: Any, line: str) -> None:
    context = command.context_class(command, info_name="score")
    with pytest.raises(Exception):  # noqa: B017, PT011 (typer's own, of several kinds)
        command._read(context, line.split())


def run(*arguments: str, cache: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SHORTCAST_CACHE": str(cache), "NO_COLOR": "1", "COLUMNS": "100"}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, timeout=300, check=False)


PROBE = """
import json, sys
from shortcast import cli
sys.argv = ["shortcast", *sys.argv[1:]]
try:
    cli.main()
except SystemExit as end:
    code = end.code
print(json.dumps(sorted(name for name in sys.modules if name.split(".")[0] not in ("numpy", "encodings"))), file=sys.stderr)
sys.exit(code)
"""


def modules_after(*arguments: str, cache: Path) -> set[str]:
    done = run("-c", PROBE, *arguments, cache=cache)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_a_version_loads_no_library_that_scores(tmp_path: Path) -> None:
    loaded = modules_after("--version", cache=tmp_path)
    assert not loaded & {"av", "ctranslate2", "onnxruntime", "torch", "rich", "faster_whisper"}


def test_a_score_loads_what_it_needs_and_no_more(tmp_path: Path, sample: Path) -> None:
    loaded = modules_after("score", str(sample), "--format", "jsonl", cache=tmp_path / "cache")
    assert {"av", "ctranslate2", "onnxruntime", "shortcast.runtime.scorer"} <= loaded
    unwanted = {"pydantic", "rich", "faster_whisper", "huggingface_hub", "tokenizers", "torch", "onnx", "urllib.request", "pyarrow"}
    others = {"shortcast.cli_train", "shortcast.cli_export", "shortcast.cli_data", "shortcast.display", "shortcast.runtime.proof"}
    assert not loaded & (unwanted | others)
    assert not any(name.startswith(("shortcast.training", "shortcast.models", "shortcast.export")) for name in loaded)


@pytest.mark.parametrize("line", ["score --help", "score", "score --bogus", "score clip.mp4 --jobs 0", "score clip.mp4 --format xml"])
def test_score_alone_says_what_it_says_among_all_commands(line: str, tmp_path: Path) -> None:
    alone = run("-m", "shortcast", *line.split(), cache=tmp_path)
    among = run("-c", "import sys; from shortcast.cli import app; app(prog_name='python -m shortcast')", *line.split(), cache=tmp_path)
    assert (alone.returncode, alone.stdout, alone.stderr) == (among.returncode, among.stdout, among.stderr)


def test_a_home_that_cannot_be_written_is_no_error(tmp_path: Path, sample: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file where the cache should be")
    done = run("-m", "shortcast", "score", str(sample), "--no-sound", "--format", "jsonl", cache=taken / "below")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["final"]
