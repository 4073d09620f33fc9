"""The script that makes the demo bundle's settling table: its commands are ones that shortcast takes, and the table is theirs."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

from typer.main import get_command

from shortcast.cli import app
from shortcast.runtime.bundle import Bundle

SCRIPT = Path(__file__).parents[2] / "samples" / "settle_demo_bundle.sh"


def calls_of(stand_ins: Path, work: str) -> list[list[str]]:
    """Runs the script with a stand-in for `shortcast`, and gives what it was called with."""
    calls = stand_ins / "calls"
    (stand_ins / "shortcast").write_text(
        f"#!/usr/bin/env python3\nimport json, sys\nopen({str(calls)!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
    )
    (stand_ins / "shortcast").chmod(0o755)
    environment = {**os.environ, "PATH": f"{stand_ins}:{os.environ['PATH']}", "SHORTCAST_SETTLING": work}
    subprocess.run([str(SCRIPT)], check=True, env=environment)
    return [json.loads(line) for line in calls.read_text().splitlines()]


def test_every_command_is_one_that_shortcast_takes(tmp_path: Path) -> None:
    data, settle = calls_of(tmp_path, str(tmp_path / "work"))
    commands = get_command(app).commands  # type: ignore[attr-defined]
    commands["data"].commands["synth"].make_context("synth", data[2:])
    commands["settle"].make_context("settle", settle[1:])


def test_the_committed_table_is_the_scripts(tmp_path: Path, demo: Path) -> None:
    _, settle = calls_of(tmp_path, "build/settling")
    made = Bundle.open(demo).manifest.settling
    assert made is not None
    assert made.provenance["source"] == settle[settle.index("--source") + 1]
    assert set(shlex.split(made.provenance["command"])[1:]) <= {*settle}
    assert (made.clips, made.provenance["failed"]) == (300, 0)
    assert made.stop("class", 0.9).row.unread > 0.3
