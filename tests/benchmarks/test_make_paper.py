"""The script behind `make paper`: its commands are ones that shortcast takes, and what is done is not done again."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from shortcast.cli import app

SCRIPT = Path(__file__).parents[2] / "samples" / "make_paper.sh"
STAND_IN = """#!/usr/bin/env python3
import json, os, pathlib, sys
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
made = {"data": "clips/manifest.jsonl", "train": "model/config.json", "evaluate": "report/report.json"}.get(sys.argv[1])
if made:
    path = pathlib.Path(os.environ["SHORTCAST_PAPER"], made)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
"""


def calls_of(work: Path, stand_ins: Path) -> list[list[str]]:
    """Runs the script with stand-ins for `shortcast` and `python`, and gives what they were called with."""
    for name in ("shortcast", "python"):
        (stand_ins / name).write_text(STAND_IN)
        (stand_ins / name).chmod(0o755)
    calls = stand_ins / "calls"
    calls.write_text("")
    environment = {**os.environ, "PATH": f"{stand_ins}:{os.environ['PATH']}", "CALLS": str(calls), "SHORTCAST_PAPER": str(work)}
    subprocess.run([str(SCRIPT)], check=True, env=environment)
    return [json.loads(line) for line in calls.read_text().splitlines()]


@pytest.fixture
def stand_ins(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


def test_every_command_is_one_that_shortcast_takes(tmp_path: Path, stand_ins: Path) -> None:
    called = calls_of(tmp_path / "work", stand_ins)
    assert [arguments[0] for arguments in called] == ["data", "train", "evaluate", "-m"]
    for arguments in called[:-1]:
        command = get_command(app)
        names = arguments[:2] if arguments[0] == "data" else arguments[:1]
        for name in names:
            command = command.commands[name]  # type: ignore[attr-defined]
        command.make_context(names[-1], arguments[len(names) :])


def test_what_is_done_is_not_done_again(tmp_path: Path, stand_ins: Path) -> None:
    work = tmp_path / "work"
    calls_of(work, stand_ins)
    assert [arguments[0] for arguments in calls_of(work, stand_ins)] == ["-m"]
    (work / "report" / "report.json").unlink()
    assert [arguments[0] for arguments in calls_of(work, stand_ins)] == ["evaluate", "-m"]
    (work / "trained").unlink()
    assert [arguments[0] for arguments in calls_of(work, stand_ins)] == ["train", "evaluate", "-m"]
