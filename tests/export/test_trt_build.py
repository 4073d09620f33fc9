"""Running the builder: progress that only rises, a build that ends when it is told to, and Ctrl-C on a real one."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shortcast.errors import EngineError
from shortcast.export.trt_build import BuildProgress, BuildWatch, run_build, watched
from shortcast.export.trt_network import add_profiles, parse_network, restricted_profiles
from shortcast.runtime.engine_record import Profile
from shortcast.runtime.engines.tensorrt_log import build_log


def test_progress_is_of_the_outermost_phase() -> None:
    watch = BuildWatch()
    assert watch.latest() is None
    watch.phase_start("build", None, 4)
    assert watch.latest() == BuildProgress("build", "build", 0.0)
    watch.step_complete("build", 0)
    watch.phase_start("tactics", "build", 2)
    watch.step_complete("tactics", 0)
    assert watch.latest() == BuildProgress("build", "tactics", (1 + 1 / 2) / 4)
    watch.phase_finish("tactics")
    watch.phase_finish("build")
    assert watch.latest() == BuildProgress("build", "build", 1.0)


def test_progress_never_falls_within_a_phase_and_starts_again_in_the_next() -> None:
    watch = BuildWatch()
    watch.phase_start("build", None, 2)
    watch.phase_start("a", "build", 1)
    watch.phase_finish("a")
    watch.phase_start("b", "build", 1)
    assert watch.latest() == BuildProgress("build", "b", 0.5)
    watch.phase_finish("b")
    watch.phase_finish("build")
    watch.phase_start("serialise", None, 1)
    assert watch.latest() == BuildProgress("serialise", "serialise", 0.0)


def test_steps_of_unknown_phases_are_passed_over() -> None:
    watch = BuildWatch()
    assert watch.step_complete("never started", 3)
    watch.phase_finish("never started")
    watch.phase_start("orphan", "unknown parent", 0)
    watch.step_complete("orphan", 5)
    assert watch.latest() == BuildProgress("orphan", "orphan", 1.0)


def test_many_threads_may_report_at_once() -> None:
    watch = BuildWatch()
    watch.phase_start("build", None, 1)

    def report(name: str) -> None:
        for _ in range(200):
            watch.phase_start(name, "build", 3)
            watch.step_complete(name, 0)
            watch.phase_finish(name)

    threads = [threading.Thread(target=report, args=(f"tactic {index}",)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    watch.phase_finish("build")
    assert watch.latest() == BuildProgress("build", "build", 1.0)


def until_told(watch: BuildWatch) -> str:
    watch.phase_start("build", None, 10**9)
    step = 0
    while watch.step_complete("build", step):
        step += 1
        time.sleep(0.001)
    return "stopped"


def test_a_cancelled_build_is_stopped_and_waited_for() -> None:
    watch = BuildWatch()
    ended = threading.Event()
    begun = time.monotonic()

    def work() -> None:
        until_told(watch)
        ended.set()

    with pytest.raises(EngineError, match="cancelled; nothing was written"):
        watched(work, watch, progress=None, cancelled=lambda: time.monotonic() - begun > 0.1)
    assert ended.is_set()


def test_progress_and_cancellation_come_in_the_calling_thread() -> None:
    seen: set[threading.Thread] = set()
    watch = BuildWatch()

    def cancelled() -> bool:
        seen.add(threading.current_thread())
        return False

    def work() -> int:
        watch.phase_start("build", None, 2)
        time.sleep(0.15)
        watch.step_complete("build", 0)
        return 42

    said: list[BuildProgress] = []
    assert watched(work, watch, progress=lambda now: (said.append(now), seen.add(threading.current_thread()))[0], cancelled=cancelled) == 42
    assert seen == {threading.current_thread()}
    assert [now.fraction for now in said] == [0.0, 0.5]


def test_a_progress_callback_that_fails_ends_the_build() -> None:
    watch = BuildWatch()

    def fail(now: BuildProgress) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        watched(lambda: until_told(watch), watch, progress=fail, cancelled=lambda: False)


def test_what_the_build_raises_is_raised() -> None:
    def work() -> None:
        raise MemoryError("no")

    with pytest.raises(MemoryError, match="no"):
        watched(work, BuildWatch(), progress=None, cancelled=lambda: False)


def built(trt: Any, graph: Path, profiles: tuple[Profile, ...], **how: Any) -> bytes:
    log = build_log(trt)
    with log.collecting():
        parsed = parse_network(trt, log, graph)
        config = parsed.builder.create_builder_config()
        add_profiles(parsed, config, restricted_profiles(parsed, profiles) if profiles else ())
        return run_build(trt, parsed, config, **{"progress": None, "cancelled": lambda: False, **how})


def test_a_build_reports_until_it_is_done(trt: Any, product_graph: Callable[..., Path]) -> None:
    said: list[BuildProgress] = []
    plan = built(trt, product_graph(), (Profile.of(batch=(1, 1, 8)),), progress=said.append)
    assert len(plan) > 1000
    assert [now.fraction for now in said] == sorted(now.fraction for now in said)
    assert said[0].phase


def test_a_failed_build_says_what_tensorrt_said(trt: Any, product_graph: Callable[..., Path]) -> None:
    """The builder returns None; the reason is only in its log."""
    with pytest.raises(EngineError, match=r"cannot build product: .*no optimization profile has been defined") as caught:
        built(trt, product_graph(), ())
    assert "cudaError" not in str(caught.value)


def test_a_real_build_can_be_cancelled(trt: Any, demo: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(EngineError, match="cancelled"):
        built(trt, demo / "onnx" / "visual.fp32.onnx", (Profile.of(batch=(1, 1, 8)),), cancelled=lambda: time.monotonic() - begun > 0.2)
    assert not [thread for thread in threading.enumerate() if thread.name == "engine build"]


INTERRUPTED = """
import sys, threading
from pathlib import Path
from shortcast.export.tensorrt import BuildOptions, build_engine
try:
    build_engine(Path(sys.argv[1]), Path(sys.argv[2]), BuildOptions(), progress=lambda now: print(now.step, flush=True))
except KeyboardInterrupt:
    print("interrupted, builds alive:", [t.name for t in threading.enumerate()].count("engine build"), flush=True)
"""


def interrupted(graph: Path, out: Path) -> tuple[str, str, int]:
    """What a build says that is sent SIGINT at its first sign of life: stdout, stderr, exit code."""
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(graph), str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout
    assert process.stdout.readline().strip()  # the build is under way
    process.send_signal(signal.SIGINT)
    return *process.communicate(timeout=60), process.returncode


def test_ctrl_c_ends_a_real_build_and_nothing_is_written(trt: Any, demo: Path, tmp_path: Path) -> None:
    """On a busy machine a build may be over before the signal reaches it; one of several is not."""
    for attempt in range(8):
        out = tmp_path / f"engines{attempt}"
        said, err, code = interrupted(demo / "onnx" / "fusion.fp32.onnx", out)
        assert code == 0, err
        if "interrupted" in said:
            break
    assert said.splitlines()[-1] == "interrupted, builds alive: 0", err
    assert not out.exists()
