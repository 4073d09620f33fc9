"""`shortcast score` over live sources, as a process: Ctrl-C, SIGTERM, limits, drops, a server that dies, devices."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

SCORE = [sys.executable, "-m", "shortcast", "score", "--no-sound", "--format", "jsonl"]
FEED = [sys.executable, "-m", "shortcast.benchmarks.live_feed"]


def rows(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content.splitlines()]


def said(errors: bytes) -> list[str]:
    """What stderr says, but for the demo bundle's introduction."""
    return [line.removeprefix("shortcast: ") for line in errors.decode().splitlines() if "demo bundle" not in line]


def score(*arguments: object, stdin: bytes | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run([*SCORE, *map(str, arguments)], input=stdin, capture_output=True, cwd=cwd, check=False, timeout=120)
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done


def has_begun(run: "subprocess.Popen[bytes]") -> None:
    """Waits until the bundle is open and introduced, which is just before sources are."""
    assert run.stderr is not None
    assert b"demo bundle" in run.stderr.readline()


@contextmanager
def fed(
    sample: Path, *arguments: object, real_time: bool = False, seconds: int = 3600
) -> Iterator[tuple["subprocess.Popen[bytes]", "subprocess.Popen[bytes]"]]:
    """A run on standard input that is sent an endless stream; also who sends it."""
    pace = ["--real-time"] if real_time else []
    feeder = subprocess.Popen([*FEED, str(sample), "--seconds", str(seconds), *pace], stdout=subprocess.PIPE)
    run = subprocess.Popen([*SCORE, "-", *map(str, arguments)], stdin=feeder.stdout, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert feeder.stdout is not None
    feeder.stdout.close()
    try:
        yield run, feeder
    finally:
        for process in (run, feeder):
            process.kill()
            process.wait()
        for stream in (run.stdout, run.stderr):
            assert stream is not None
            stream.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_live_source_is_ended_by_a_signal_and_its_last_score_is_printed(sample: Path, number: signal.Signals) -> None:
    with fed(sample) as (run, _):
        has_begun(run)
        time.sleep(6)
        run.send_signal(number)
        started = time.monotonic()
        output, errors = run.communicate(timeout=30)
    assert time.monotonic() - started < 10
    assert run.returncode == 0, errors
    (row,) = rows(output)
    assert (row["final"], row["notes"][-1]) == (False, "interrupted")
    assert row["pace"]["live"]
    assert said(errors)[0] == "interrupted"
    assert re.match(rf"standard input: {row['chunk'] + 1} chunks? scored, 0 dropped, ", said(errors)[1])


def test_with_every_chunk_nothing_is_printed_twice(sample: Path) -> None:
    with fed(sample, "--every-chunk", real_time=True) as (run, _):
        assert run.stdout is not None
        first = json.loads(run.stdout.readline())
        run.send_signal(signal.SIGINT)
        output, errors = run.communicate(timeout=30)
    assert run.returncode == 0, errors
    assert [row["chunk"] for row in [first, *rows(output)]] == list(range(1 + len(rows(output))))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_file_that_is_interrupted_is_no_success(tmp_path: Path, number: signal.Signals, sample: Path) -> None:
    path = tmp_path / "long.ts"
    with path.open("wb") as file:
        subprocess.run([*FEED, str(sample), "--seconds", "1200"], stdout=file, check=True)
    run = subprocess.Popen([*SCORE, str(path), "--threads", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    has_begun(run)
    time.sleep(3)
    run.send_signal(number)
    output, errors = run.communicate(timeout=30)
    assert run.returncode == 128 + number, errors
    assert [row["notes"][-1] for row in rows(output)] in ([], ["interrupted"])


def test_interrupted_before_anything_came(tmp_path: Path) -> None:
    """A named pipe that nobody writes to, a server that accepts and says nothing: the interrupt is heard at once."""
    os.mkfifo(tmp_path / "fifo")
    with socket.create_server(("127.0.0.1", 0)) as server:
        for source in (tmp_path / "fifo", f"http://127.0.0.1:{server.getsockname()[1]}/x"):
            run = subprocess.Popen([*SCORE, str(source)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            has_begun(run)
            time.sleep(1)
            run.send_signal(signal.SIGINT)
            started = time.monotonic()
            output, errors = run.communicate(timeout=30)
            assert time.monotonic() - started < 5
            assert (run.returncode, output, said(errors)) == (130, b"", ["interrupted"])


def test_a_writer_that_stalls_is_not_waited_for_longer_than_asked(sample: Path) -> None:
    run = subprocess.Popen([*SCORE, "-", "--read-timeout", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert run.stdin is not None
    assert run.stdout is not None
    run.stdin.write(sample.read_bytes()[:500_000])
    run.stdin.flush()
    (row,) = rows(run.stdout.read())
    assert row["final"]
    assert "the source broke off: it sent nothing for 1 s" in row["notes"]
    run.stdin.close()
    assert run.wait(timeout=30) == 0
    assert run.stderr is not None
    run.stderr.close()
    run.stdout.close()


def test_a_writer_that_never_writes() -> None:
    run = subprocess.Popen([*SCORE, "-", "--read-timeout", "0.5"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert run.wait(timeout=60) == 1
    output, errors = run.communicate()
    assert (output, said(errors)) == (b"", ["standard input cannot be read: it sent nothing for 0.5 s"])


def test_a_limit_ends_a_live_source(sample: Path, tmp_path: Path) -> None:
    with fed(sample, "--max-seconds", 5, "--every-chunk") as (run, _):
        output, errors = run.communicate(timeout=60)
    assert run.returncode == 0, errors
    assert [(row["end_s"], row["final"]) for row in rows(output)] == [(2.0, False), (4.0, False), (5.0, True)]
    assert rows(output)[-1]["notes"] == ["sound left out on request", "stopped after 5.0 s, as asked"]
    assert len(said(errors)) == 1


def test_drops_are_counted_in_every_score_and_at_the_end(sample: Path) -> None:
    """Four minutes come at once, nobody takes the scores until all were sent, and the deadline is one that nothing meets."""
    with fed(sample, "--policy", "drop-oldest", "--every-chunk", "--deadline-ms", "1", seconds=240) as (run, feeder):
        assert feeder.wait(timeout=100) == 0
        time.sleep(2)
        output, errors = run.communicate(timeout=60)
    found = rows(output)
    last = found[-1]
    scored = len({row["chunk"] for row in found})
    assert last["final"]
    assert last["dropped_chunks"] + scored == last["chunk"] + 1
    assert last["dropped_chunks"] > 10
    assert last["pace"]["gap_s"] == 2.0 * last["dropped_chunks"]
    assert last["pace"]["late_chunks"] == len(found)
    drops = f"standard input: {scored} chunks scored, {last['dropped_chunks']} dropped, {len(found)} late (deadline 1 ms)"
    assert said(errors)[-1].startswith(drops)


def test_a_live_source_into_a_file_has_its_rows_as_they_come(sample: Path, tmp_path: Path) -> None:
    with fed(sample, "-o", tmp_path / "out.jsonl", "--every-chunk") as (run, _):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (
            (tmp_path / "out.jsonl").exists() and (tmp_path / "out.jsonl").read_bytes().count(b"\n") > 2
        ):
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=30)
    assert run.returncode == 0, errors
    found = rows((tmp_path / "out.jsonl").read_bytes())
    assert [row["chunk"] for row in found] == list(range(len(found)))
    assert len(found) >= 3


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("v4l2:/dev/no-such-camera", "v4l2:/dev/no-such-camera cannot be opened as a device: No such file or directory"),
        ("v4l2:", "v4l2: which one? for example v4l2:/dev/video0"),
        ("v4l2:/dev/video0?speed=1", "v4l2: speed is no option of a device; there are "),
        ("x11grab::4711", "x11grab::4711 cannot be opened as a device: Input/output error"),
        ("dshow:video=Camera", "dshow: the FFmpeg of this PyAV has no such device; it has "),
        ("lavfi:movie=/etc/passwd", "lavfi: 'movie' is none of the filters a test picture is made of: "),
        ("lavfi:testsrc2[a];[a]movie=x", "lavfi: 'movie' is none of the filters a test picture is made of: "),
    ],
)
def test_devices_that_are_not_there(source: str, sentence: str) -> None:
    if sys.platform != "linux":
        pytest.skip("which devices there are depends on the system")
    done = score(source)
    assert (done.returncode, done.stdout) == (1, b"")
    assert len(said(done.stderr)) == 1
    assert said(done.stderr)[0].startswith(sentence)


def test_a_list_names_no_device(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("clip.mp4\nx11grab::0\n")
    done = score("--from", tmp_path / "list")
    assert done.returncode == 1
    assert "names the device x11grab::0; devices are given as arguments, never by a list" in done.stderr.decode()


def test_the_virtual_device_is_scored_in_real_time() -> None:
    started = time.monotonic()
    done = score("lavfi:testsrc2=size=180x320:rate=25,realtime", "--max-seconds", 4.5, "--every-chunk")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started > 4
    found = rows(done.stdout)
    assert [row["chunk"] for row in found] == [0, 1, 2]
    assert all(row["pace"]["live"] and row["modalities"]["pictures"] for row in found)


@pytest.fixture
def screen() -> Iterator[str]:
    """A virtual X display; a machine without Xvfb skips, visibly."""
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is not here (Debian: xvfb)")
    outer, inner = os.pipe()
    server = subprocess.Popen(["Xvfb", "-displayfd", str(inner), "-screen", "0", "320x240x24"], pass_fds=[inner], stderr=subprocess.DEVNULL)
    os.close(inner)
    with os.fdopen(outer) as number:
        display = number.readline().strip()
    yield f":{display}"
    server.terminate()
    server.wait()


def test_a_screen_is_scored(screen: str) -> None:
    done = score(f"x11grab:{screen}?video_size=160x240&framerate=10", "--max-seconds", 3)
    assert done.returncode == 0, done.stderr
    (row,) = rows(done.stdout)
    assert row["clip"] == f"x11grab:{screen}"
    assert row["final"]
    assert 2.5 < row["end_s"] < 3.5


@contextmanager
def rtmp_server(clip: Path, port: int) -> Iterator[None]:
    """One viewer is served in real time until the block is left."""
    command = ["ffmpeg", "-loglevel", "error", "-re", "-stream_loop", "-1", "-i", str(clip), "-c", "copy", "-f", "flv"]
    command += ["-flvflags", "no_duration_filesize", "-listen", "1", f"rtmp://127.0.0.1:{port}/live/x"]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            server.kill()
        server.wait()


def test_an_rtmp_server_dies_and_comes_back(sample: Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("the ffmpeg command, which serves RTMP, is not here")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [*SCORE, f"rtmp://user:secret@127.0.0.1:{port}/live/x", "--every-chunk", "--reconnect", "12"]
    with rtmp_server(sample, port):
        time.sleep(2)
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert run.stdout is not None
        found = [json.loads(run.stdout.readline()) for _ in range(2)]
    with rtmp_server(sample, port):
        found += [json.loads(run.stdout.readline()) for _ in range(2)]
        run.send_signal(signal.SIGINT)
        output, errors = run.communicate(timeout=30)
    assert run.returncode == 0, errors
    found += rows(output)
    assert [row["chunk"] for row in found] == list(range(len(found)))
    assert found[-1]["pace"]["reconnects"] == 1
    assert found[-1]["epoch"] == 1
    assert b"secret" not in errors
    lines = said(errors)
    assert "broke off" in lines[0]
    assert any("is back after" in line for line in lines)
    assert lines[-1].startswith(f"rtmp://127.0.0.1:{port}/live/x: {len(found)} chunks scored")
    assert "1 reconnect" in lines[-1]
