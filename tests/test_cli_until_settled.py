"""`shortcast score --until-settled` and `shortcast settle`, as processes."""

import csv
import json
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shortcast.runtime.bundle import Bundle
from shortcast.runtime.settle import put_into
from shortcast.runtime.settling import Settling, SettlingRow, SettlingRule

RULES = (
    SettlingRule("class", 2, (SettlingRow(1e-6, 200, 190, 0.31, 0.4),)),
    SettlingRule("interval", 2, (SettlingRow(-1e6, 200, 190, 0.31, 0.4),)),
)
"""So loose that any clip is settled once two chunks agree."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, demo: Path) -> Path:
    """The demo bundle with that table."""
    path = Path(shutil.copytree(demo, tmp_path_factory.mktemp("settled") / "loose.shortcast"))
    put_into(Bundle.open(path), Settling(250, 0.95, RULES, {"source": "250 clips made for a test"}))
    return path


@pytest.fixture(scope="module")
def unsettled(tmp_path_factory: pytest.TempPathFactory, demo: Path) -> Path:
    """The demo bundle without a table."""
    path = Path(shutil.copytree(demo, tmp_path_factory.mktemp("unsettled") / "plain.shortcast"))
    manifest = replace(Bundle.open(path).manifest, settling=None).with_id()
    (path / "manifest.json").write_text(manifest.dumps(), encoding="utf-8")
    return path


def run(*arguments: object, stdin: bytes | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "shortcast", *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, cwd=cwd, check=False, timeout=120)
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done


def until(bundle: Path, *arguments: object, **how: Any) -> subprocess.CompletedProcess[bytes]:
    return run("score", "--no-sound", "--until-settled", "--bundle", bundle, *arguments, **how)


def rows(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content.splitlines()]


def test_a_clip_is_left_early_and_what_that_saved_is_said(bundle: Path, sample: Path) -> None:
    whole = rows(run("score", "--no-sound", "--bundle", bundle, sample, "--every-chunk").stdout)
    done = until(bundle, sample, "--every-chunk", "--watts-per-core", 10)
    assert done.returncode == 0
    early = rows(done.stdout)
    assert 2 <= len(early) < len(whole)
    assert [row["z"] for row in early] == pytest.approx([row["z"] for row in whole[: len(early)]], abs=1e-5)
    assert [(row["final"], row["settled"]) for row in early] == [*[(False, False)] * (len(early) - 1), (True, True)]
    last = early[-1]
    assert last["unread_s"] == pytest.approx(whole[-1]["end_s"] - last["end_s"], abs=0.5)
    assert last["notes"][-1].startswith(f"settled after {last['end_s']:.1f} s of ")
    said = done.stderr.decode()
    assert "at least 91.7 % keep their quartile: 190 of 200 did when the bundle was calibrated, and 9 in 10 of them moved by" in said
    assert "250 clips made for a test" in said
    assert "with one of them left out it is not known to hold" in said
    assert f"settled early: 1 of 1 clips; {last['unread_s']:.1f} s of " in said
    assert "core-seconds, at the " in said
    assert " J, at " in said


def test_energy_is_never_guessed(bundle: Path, sample: Path) -> None:
    said = until(bundle, sample).stderr.decode()
    counted = "the processor counted" in said
    assert (" J" in said) == counted


def test_many_clips_in_files_that_do_not_mix_with_whole_ones(bundle: Path, sample: Path, tmp_path: Path) -> None:
    for number in range(3):
        shutil.copy(sample, tmp_path / f"{number}.mp4")
    (tmp_path / "3.mp4").write_text("no clip")
    first = until(bundle, "0.mp4", "3.mp4", "-o", "out.jsonl", "--jobs", 2, cwd=tmp_path)
    assert first.returncode == 1
    again = until(bundle, *(f"{number}.mp4" for number in range(4)), "--resume", "out.jsonl", cwd=tmp_path)
    assert again.returncode == 1
    assert b"settled early: 2 of 2 clips" in again.stderr
    found = rows((tmp_path / "out.jsonl").read_bytes())
    assert sorted(row["clip"] for row in found) == ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]
    assert all(row["settled"] for row in found if not row["error"])
    assert {row["scored_with"].split(", ", 1)[1] for row in found} == {"fp32, no sound, until the class is settled at 0.9"}
    before = (tmp_path / "out.jsonl").read_bytes()
    others = [
        run("score", "--no-sound", "--bundle", bundle, "0.mp4", "--resume", "out.jsonl", cwd=tmp_path),
        until(bundle, "0.mp4", "--resume", "out.jsonl", "--settled-confidence", 0.8, cwd=tmp_path),
        until(bundle, "0.mp4", "--resume", "out.jsonl", "--settled", "interval", cwd=tmp_path),
    ]
    assert [(done.returncode, b"rows of both must not mix" in done.stderr) for done in others] == [(1, True)] * 3
    assert (tmp_path / "out.jsonl").read_bytes() == before


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_flat_files_say_what_was_settled(bundle: Path, sample: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"out.{suffix}"
    assert until(bundle, sample, "-o", out, "--settled", "interval").returncode == 0
    if suffix == "parquet":
        (row,) = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed").read_table(out).to_pylist()
    else:
        (row,) = csv.DictReader(out.read_text().splitlines())
    assert (str(row["settled"]), str(row["final"])) == ("True", "True")
    assert float(row["unread_s"]) > 5


def test_standard_input_is_left_while_it_still_sends(bundle: Path, sample: Path) -> None:
    """A sender that neither ends nor closes is not waited for."""
    command = [sys.executable, "-m", "shortcast", "score", "-", "--no-sound", "--until-settled", "--bundle", str(bundle)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.write(sample.read_bytes()[:900_000])
            process.stdin.flush()
        assert process.wait(timeout=60) == 0
        (row,) = rows(process.stdout.read())
        with suppress(BrokenPipeError):
            process.stdin.close()
    assert row["settled"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--settled", "class"], "--settled needs"),
        (["--settled-confidence", "0.9"], "--settled-confidence needs"),
        (["--watts-per-core", "5"], "--watts-per-core needs"),
        (["--until-settled", "--settled-confidence", "90"], "between 0 and 1"),
        (["--until-settled", "--settled-confidence", "0"], "between 0 and 1"),
        (["--until-settled", "--settled-confidence", "nan"], "between 0 and 1"),
        (["--until-settled", "--transcript"], "of the whole clip"),
        (["--until-settled", "--watts-per-core", "-1"], "watts"),
    ],
)
def test_usage_errors(arguments: list[str], words: str, tmp_path: Path) -> None:
    done = run("score", "a.mp4", *arguments, "-o", "out.jsonl", cwd=tmp_path)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.decode().split())
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_promised_is_refused_before_anything_is_written(bundle: Path, unsettled: Path, sample: Path, tmp_path: Path) -> None:
    much = until(bundle, sample, "--settled-confidence", 0.99, "-o", tmp_path / "out.jsonl")
    none = until(unsettled, sample, "-o", tmp_path / "out.jsonl")
    assert (much.returncode, none.returncode) == (1, 1)
    assert b"can be promised with 99%" in much.stderr
    assert f"shortcast settle {unsettled} CLIPS" in none.stderr.decode()
    assert not list(tmp_path.iterdir())


def test_a_table_needs_clips_and_is_not_replaced_unasked(bundle: Path, unsettled: Path, sample: Path) -> None:
    before = (unsettled / "manifest.json").read_bytes()
    kept, few, none = run("settle", bundle, sample), run("settle", unsettled, sample), run("settle", unsettled, "absent.mp4")
    assert [done.returncode for done in (kept, few, none)] == [1, 1, 1]
    assert b"has a settling table; give --force to replace it" in kept.stderr
    assert b"at least 30 clips" in few.stderr
    assert b"absent.mp4" in none.stderr
    assert (unsettled / "manifest.json").read_bytes() == before


def test_the_table_is_shown(bundle: Path) -> None:
    shown = run("inspect", bundle).stdout.decode()
    assert "settled scores, measured on 250 clips: 250 clips made for a test" in " ".join(shown.split())
    assert "class, 2 chunks" in shown
