"""What scoring several clips at once is worth, and what joining their chunks into micro-batches would be.

    python -m shortcast.benchmarks.many_clips FOLDER -o many-clips.json

Two measurements, every raw sample kept. (A) `shortcast score FOLDER -o FILE --jobs J` as a process, from its start to its exit, for every
J in turn, after one round that is thrown away: wall seconds, and core-seconds (user and system) as the system counts them. Clips that
cannot be scored are part of it. (B) One call of the bundle's visual graph for 1, 2 and 4 chunks at once, with 1 thread and with all
CPUs, sizes in turn after three warm-up calls each: milliseconds per chunk. Not in B: what gathering the chunks would cost.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

from ..runtime.bundle import Bundle, demo_bundle
from ..runtime.cpu import available_cpus
from ..runtime.engines import Engine, Tensors, open_engine
from .counted import run_counted

_BATCHES = (1, 2, 4)


@dataclass(frozen=True, slots=True)
class JobsRun:
    """One process."""

    jobs: int
    wall_s: float
    core_s: float
    peak_rss_mib: float


@dataclass(frozen=True, slots=True)
class BatchRun:
    """One call of the visual graph."""

    threads: int
    batch: int
    ms_per_chunk: float


@dataclass(frozen=True, slots=True)
class ManyClips:
    """All raw samples, in the order they were taken."""

    clips: int
    cpus: int
    machine: str
    python: str
    jobs_runs: tuple[JobsRun, ...]
    batch_runs: tuple[BatchRun, ...]


def measure(folder: Path, *, jobs: tuple[int, ...], rounds: int, calls: int) -> ManyClips:
    """Takes all samples.

    Args:
        folder: clips.
        jobs: what `--jobs` is given, in turn.
        rounds: rounds of processes that are kept.
        calls: calls of the visual graph for each number of threads and chunks.
    """
    clips = min(_run(folder, count)[0] for count in jobs)
    runs = tuple(_run(folder, count)[1] for _ in range(rounds) for count in jobs)
    batches = tuple(run for threads in sorted({1, available_cpus()}) for run in _batches(threads, calls))
    return ManyClips(clips, available_cpus(), platform.platform(), platform.python_version(), runs, batches)


def _run(folder: Path, jobs: int) -> tuple[int, JobsRun]:
    """One process; also how many rows it wrote."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "scores.jsonl"
        command = [sys.executable, "-m", "shortcast", "score", str(folder), "-o", str(out), "--jobs", str(jobs)]
        done = run_counted(command, accepted=(0, 1))
        return len(out.read_text().splitlines()), JobsRun(jobs, done.wall_s, done.core_s, done.peak_rss_mib)


def _batches(threads: int, calls: int) -> list[BatchRun]:
    with open_engine(Bundle.open(demo_bundle()).graph("visual", precision="fp32"), threads=threads) as engine:
        feeds = {batch: _feeds(engine, batch) for batch in _BATCHES}
        for batch in [*_BATCHES] * 3:
            engine.run(feeds[batch])
        return [BatchRun(threads, batch, _call_ms(engine, feeds[batch]) / batch) for _ in range(calls) for batch in _BATCHES]


def _feeds(engine: Engine, batch: int) -> Tensors:
    """Noise for pictures, all of them real, and states of zero."""
    random = np.random.default_rng(0)
    feeds: Tensors = {}
    for spec in engine.inputs:
        shape = [batch if isinstance(dim, str) else dim for dim in spec.shape]
        feeds[spec.name] = np.zeros(shape, spec.dtype)
    feeds["frames"] = random.integers(0, 256, feeds["frames"].shape).astype(feeds["frames"].dtype)
    feeds["frame_mask"] = np.ones_like(feeds["frame_mask"])
    return feeds


def _call_ms(engine: Engine, feeds: Tensors) -> float:
    started = perf_counter()
    engine.run(feeds)
    return 1e3 * (perf_counter() - started)


def main() -> None:
    """Measures, prints a summary and writes the raw samples."""
    parser = argparse.ArgumentParser(description="Scoring several clips at once, and micro-batches of their chunks.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="where the raw samples go, as JSON")
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=15)
    arguments = parser.parse_args()
    result = measure(arguments.folder, jobs=tuple(arguments.jobs), rounds=arguments.rounds, calls=arguments.calls)
    print(f"{result.clips} clips on {result.cpus} CPUs, Python {result.python}")
    for jobs in arguments.jobs:
        runs = [run for run in result.jobs_runs if run.jobs == jobs]
        wall_s, core_s, rss = (median(getattr(run, name) for run in runs) for name in ("wall_s", "core_s", "peak_rss_mib"))
        print(
            f"--jobs {jobs}: median {wall_s:.2f} s wall, {core_s:.2f} core-seconds, {rss:.0f} MiB peak, {result.clips / wall_s:.2f} clips/s"
        )
    for threads, batch in sorted({(run.threads, run.batch) for run in result.batch_runs}):
        spent = median(run.ms_per_chunk for run in result.batch_runs if (run.threads, run.batch) == (threads, batch))
        print(f"visual graph, {threads} threads, {batch} chunks a call: median {spent:.2f} ms per chunk")
    if arguments.output:
        arguments.output.write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
