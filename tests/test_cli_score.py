"""`shortcast score` over many clips, as a process: files, order, lists, a kill, an interrupt, and going on."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

SCORE = [sys.executable, "-m", "shortcast", "score", "--no-sound"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Path:
    """A folder of six clips of 13 s, of which the third and the last are none."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(6):
        shutil.copy(sample, folder / f"{number}.mp4")
    (folder / "2.mp4").write_text("no clip")
    (folder / "5.mp4").write_bytes(b"")
    return folder


def score(*arguments: object, stdin: bytes | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run([*SCORE, *map(str, arguments)], input=stdin, capture_output=True, cwd=cwd, check=False, timeout=120)
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done


def rows(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content.splitlines()]


def names(content: bytes) -> list[str]:
    return [Path(row["clip"]).name for row in rows(content)]


def test_a_folder_in_order_on_stdout(clips: Path) -> None:
    done = score(clips, "--jobs", 3, "--ordered")
    assert done.returncode == 1
    assert names(done.stdout) == ["0.mp4", "1.mp4", "3.mp4", "4.mp4"]
    assert len({row["z"] for row in rows(done.stdout)}) == 1
    assert [word in done.stderr.decode() for word in ("2.mp4 is not", "5.mp4 is empty")] == [True, True]


def test_jobs_change_no_score(clips: Path) -> None:
    one, three = (rows(score(clips / "0.mp4", clips / "1.mp4", "--jobs", jobs, "--threads", 1).stdout) for jobs in (1, 3))
    assert [row["z"] for row in one] == [row["z"] for row in three]


def test_every_chunk_of_several_clips_stays_together(clips: Path) -> None:
    done = score(clips / "0.mp4", clips / "2.mp4", clips / "1.mp4", "--jobs", 2, "--every-chunk")
    assert [(Path(row["clip"]).name, row["chunk"]) for row in rows(done.stdout)] == [
        (name, chunk) for name in ("0.mp4", "1.mp4") for chunk in range(7)
    ]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_files_of_each_kind_and_going_on(clips: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"out.{suffix}"
    first = score(*(clips / f"{number}.mp4" for number in (0, 2)), "-o", out)
    assert first.returncode == 1
    assert first.stdout == b""
    assert score(clips, "-o", out).returncode == 1
    assert b"--force" in score(clips, "-o", out).stderr
    second = score(clips, clips / "4.mp4", "--resume", out, "--jobs", 2)
    assert second.returncode == 1
    assert b"has 2 of 6 clips, 1 of them failed; --retry-failed" in second.stderr
    assert b"has 6 of 6 clips, 2 of them failed" in second.stderr
    found = read(out)
    assert sorted(Path(row["clip"]).name for row in found) == [f"{number}.mp4" for number in range(6)]
    assert sorted(Path(row["clip"]).name for row in found if row["error"]) == ["2.mp4", "5.mp4"]
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        found: list[dict[str, Any]] = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed").read_table(path).to_pylist()
        return found
    return list(csv.DictReader(path.read_text().splitlines())) if path.suffix == ".csv" else rows(path.read_bytes())


def test_failed_clips_are_tried_again_on_request(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert score(clips / "2.mp4", clips / "0.mp4", "--resume", out).returncode == 1
    left = score(clips / "2.mp4", clips / "0.mp4", "--resume", out)
    assert left.returncode == 1
    assert b"2.mp4 is not" not in left.stderr
    again = score(clips / "2.mp4", clips / "0.mp4", "--resume", out, "--retry-failed")
    assert again.returncode == 1
    assert b"2.mp4 is not" in again.stderr
    assert names(out.read_bytes()) == ["0.mp4", "2.mp4"]
    assert score(clips / "0.mp4", "--resume", out).returncode == 0


def test_csv_on_stdout(clips: Path) -> None:
    done = score(clips / "0.mp4", "--format", "csv")
    (row,) = csv.DictReader(done.stdout.decode().splitlines())
    assert row["final"] == "True"
    assert float(row["score"]) > 0


@pytest.mark.parametrize("ending", [b"\n", b"\0"])
def test_a_list_on_standard_input(clips: Path, ending: bytes) -> None:
    listed = ending.join(name.encode() for name in ("1.mp4", "./1.mp4", "0.mp4")) + ending
    done = score("--from", "-", "--ordered", stdin=listed, cwd=clips)
    assert done.returncode == 0, done.stderr
    assert names(done.stdout) == ["1.mp4", "0.mp4"]


def test_a_list_in_a_file_beside_arguments(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{clips / '1.mp4'}\n{clips / '0.mp4'}\n")
    done = score(clips / "0.mp4", "--from", tmp_path / "list.txt", "--ordered")
    assert names(done.stdout) == ["0.mp4", "1.mp4"]
    (tmp_path / "list.txt").write_text("\n")
    assert score("--from", tmp_path / "list.txt").returncode == 1
    assert score("--from", tmp_path / "none.txt").returncode == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["-", "--from", "-"],
        ["a.mp4", "-o", "out.txt"],
        ["a.mp4", "-o", "out.csv", "--format", "table"],
        ["a.mp4", "--format", "parquet"],
        ["a.mp4", "-o", "a.csv", "--resume", "b.csv"],
        ["a.mp4", "--resume", "a.csv", "--force"],
        ["a.mp4", "--retry-failed"],
        ["a.mp4", "--force"],
        ["a.mp4", "--jobs", "0"],
    ],
)
def test_usage_errors(arguments: list[str], tmp_path: Path) -> None:
    done = score(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == b""
    assert not list(tmp_path.iterdir())


def wait_for_rows(process: "subprocess.Popen[bytes]", log: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if log.exists() and log.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.01)
    raise AssertionError(f"{log} never had {count} rows")


@pytest.mark.parametrize(("suffix", "jobs"), [("jsonl", 2), ("csv", 1), ("parquet", 2)])
def test_a_kill_loses_and_doubles_nothing(sample: Path, tmp_path: Path, suffix: str, jobs: int) -> None:
    (tmp_path / "clips").mkdir()
    for number in range(12):
        shutil.copy(sample, tmp_path / "clips" / f"{number:02}.mp4")
    out = tmp_path / f"out.{suffix}"
    log = tmp_path / "out.parquet.partial.jsonl" if suffix == "parquet" else out
    command = [*SCORE, "clips", "--resume", str(out), "--jobs", str(jobs), "--threads", "1", "--every-chunk"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    wait_for_rows(process, log, 21)
    process.kill()
    process.wait()
    with log.open("ab") as file:
        file.write(log.read_bytes()[-300:-100].split(b"\n")[-1])
    before = log.read_bytes()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert b"of 12 clips" in done.stderr
    assert suffix == "parquet" or out.read_bytes()[:2000] == before[:2000]
    scored = [(row["clip"], int(row["chunk"])) for row in read(out)]
    assert sorted(scored) == [(f"clips/{number:02}.mp4", chunk) for number in range(12) for chunk in range(7)]
    assert {path.name for path in tmp_path.iterdir()} == {"clips", out.name}


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(sample: Path, tmp_path: Path, jobs: int) -> None:
    clips = [shutil.copy(sample, tmp_path / f"{number:02}.mp4") for number in range(30)]
    command = [*SCORE, *map(str, clips), "-o", "out.jsonl", "--jobs", str(jobs), "--threads", "1"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE)
    wait_for_rows(process, tmp_path / "out.jsonl", 2)
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - started < 10
    assert process.returncode == 130
    assert b"Traceback" not in errors
    done = len(rows((tmp_path / "out.jsonl").read_bytes()))
    assert 2 <= done < 30
    assert f"out.jsonl has {done} of 30 clips; to go on, give the same command with --resume out.jsonl" in errors.decode()


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_while_standard_input_sends_nothing(sample: Path, jobs: int) -> None:
    command = [*SCORE, "-", "--every-chunk", "--jobs", str(jobs)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(sample.read_bytes()[:900_000])
    process.stdin.flush()
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 0  # which is how a live source is ended
    _, errors = process.communicate()
    assert "shortcast: interrupted" in errors.decode().splitlines()


def test_a_terminal_sees_a_bar_and_a_pipe_does_not(clips: Path, tmp_path: Path) -> None:
    pty = pytest.importorskip("pty", reason="pseudo-terminals are POSIX's")
    outer, inner = pty.openpty()
    command = [*SCORE, str(clips / "0.mp4"), str(clips / "2.mp4"), "-o", str(tmp_path / "out.csv")]
    process = subprocess.Popen(command, stderr=inner)
    os.close(inner)
    shown = b""
    with os.fdopen(outer, "rb", buffering=0) as terminal, suppress(OSError):  # which is how Linux says that a terminal ends
        while data := terminal.read(65_536):
            shown += data
    assert process.wait(timeout=60) == 1
    assert b"clips/s" in shown
    assert b"clips/s" not in score(clips / "0.mp4", clips / "2.mp4", "-o", tmp_path / "other.csv").stderr
