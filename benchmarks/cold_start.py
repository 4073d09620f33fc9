"""How long a cold `shortcast score` takes to its first score, beside the import floor of its native libraries.

    python -m shortcast.benchmarks.cold_start samples/sample.mp4 -o cold-start.json

Timed from outside, process start included: (A) `python -c "import onnxruntime, ctranslate2, av"` to its exit, (B) `shortcast score
CLIP --every-chunk` to the first line on its stdout, once with what an earlier start left in its cache and once with the cache off. They
take turns, one warm-up round is thrown away, and every raw sample is kept. Not timed: the rest of B. Peak memory is B's own resident-set
high-water mark, core-seconds are user and system time of the whole of B; stage times are those B prints.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

from ..runtime.cpu import available_cpus

_FLOOR = [sys.executable, "-c", "import onnxruntime, ctranslate2, av"]


@dataclass(frozen=True, slots=True)
class ColdRun:
    """One cold run of `shortcast score`."""

    first_score_s: float
    exit_s: float
    core_s: float
    peak_rss_mib: float
    stages_ms: tuple[dict[str, float], ...]
    """Latencies of each chunk, as printed."""


@dataclass(frozen=True, slots=True)
class ColdStart:
    """All raw samples, in the order they were taken."""

    clip: str
    cpus: int
    machine: str
    python: str
    floor_s: tuple[float, ...]
    runs: tuple[ColdRun, ...]
    """With the cache."""
    runs_without_cache: tuple[ColdRun, ...]

    def ratio(self, runs: tuple[ColdRun, ...]) -> float:
        """Median over the rounds of first score / import floor."""
        return median(run.first_score_s / floor for run, floor in zip(runs, self.floor_s, strict=True))


def measure(clip: Path, *, pairs: int) -> ColdStart:
    """Takes `pairs` rounds of samples after one that is thrown away."""
    with tempfile.TemporaryDirectory() as scratch:
        kept = str(Path(scratch) / "cache")
        samples = [(_time_floor(), _time_score(clip, kept), _time_score(clip, "off")) for _ in range(pairs + 1)][1:]
    floors, runs, without = zip(*samples, strict=True)
    return ColdStart(clip.name, available_cpus(), platform.platform(), platform.python_version(), floors, runs, without)


def _time_floor() -> float:
    started = perf_counter()
    subprocess.run(_FLOOR, check=True)
    return perf_counter() - started


def _time_score(clip: Path, cache: str) -> ColdRun:
    command = [sys.executable, "-m", "shortcast", "score", str(clip), "--every-chunk", "--format", "jsonl"]
    environment = {**os.environ, "SHORTCAST_CACHE": cache}
    started = perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    assert process.stdout is not None
    lines = [process.stdout.readline()]
    first_score_s = perf_counter() - started
    lines += process.stdout.readlines()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    exit_s = perf_counter() - started
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with exit code {process.returncode}")
    stages = tuple(json.loads(line)["latency_ms"] for line in lines)
    return ColdRun(first_score_s, exit_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, stages)


def main() -> None:
    """Measures, prints a summary and writes the raw samples."""
    parser = argparse.ArgumentParser(description="Cold start of `shortcast score` beside the import floor of its native libraries.")
    parser.add_argument("clip", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="where the raw samples go, as JSON")
    parser.add_argument("--pairs", type=int, default=7)
    arguments = parser.parse_args()
    result = measure(arguments.clip, pairs=arguments.pairs)
    print(f"{len(result.runs)} pairs on {result.cpus} CPUs, Python {result.python}, {result.clip}")
    print(f"import floor     median {median(result.floor_s):.3f} s")
    for name, runs in (("with its cache", result.runs), ("cache off", result.runs_without_cache)):
        first_s, exit_s, core_s, rss = (
            median(getattr(run, part) for run in runs) for part in ("first_score_s", "exit_s", "core_s", "peak_rss_mib")
        )
        print(f"{name}: first score median {first_s:.3f} s, {result.ratio(runs):.2f} x the floor")
        print(f"  whole clip {exit_s:.3f} s, {core_s:.2f} core-seconds, peak RSS {rss:.0f} MiB")
        for stage in ("decode", "sound", "visual", "fusion"):
            first = median(run.stages_ms[0][stage] for run in runs)
            later = median(chunk[stage] for run in runs for chunk in run.stages_ms[1:])
            print(f"  {stage:<8} per chunk first {first:.1f} ms, later median {later:.1f} ms")
    if arguments.output:
        arguments.output.write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
