"""How many live streams one scorer keeps up with, and how soon after a chunk's last frame its score is known.

    python -m shortcast.benchmarks.live_streams -o live-streams.json
    python -m shortcast.benchmarks.live_streams --streams 1 --seconds 240 -o one-stream.json    # enough chunks for p99

A process of its own sends the sample clip (360x640, 30 fps, H.264 and AAC in MPEG-TS, over and over) through N pipes in real time, each
packet when it is due, and notes when the last packet of every chunk, picture or sound, has been written. Here N threads score them with
one scorer and its demo bundle, Whisper included. Latency is from that moment to the score; so it holds the wait for whatever else has to
come before a chunk is known to be complete, the decoder's delay, and the queue. A miss is a score that comes later than a chunk's length,
or a chunk that was dropped. The first chunk of a stream, in which FFmpeg looks for its streams, counts for misses and not for percentiles.

Streams begin together (`aligned`: the chunks of all are complete at once, the worst case) or one after the other within a chunk's
length (`spread`). Without `--streams`, N is doubled until there is a miss, and then the largest N without one is sought by halving.
"""

from __future__ import annotations

import argparse
import fcntl
import heapq
import json
import os
import platform
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from time import perf_counter, sleep

from ..runtime.bundle import Bundle, demo_bundle
from ..runtime.cpu import available_cpus
from ..runtime.media import ReadOptions
from ..runtime.scorer import Scorer
from .live_feed import Slice, slices

SAMPLE = Path(__file__).parents[1] / "samples" / "sample.mp4"
LEAD_S = 1.0
"""Between the sender's start and its first packet."""
PIPE_BYTES = 1 << 20
P99_SAMPLES = 100


@dataclass(frozen=True, slots=True)
class ChunkRun:
    """One chunk of one stream; times are seconds of one clock."""

    stream: int
    chunk: int
    sent_s: float
    scored_s: float
    answer_ms: float
    """Of which the scorer knows: from the chunk being decoded to its score."""

    @property
    def latency_ms(self) -> float:
        return 1e3 * (self.scored_s - self.sent_s)


@dataclass(frozen=True, slots=True)
class Trial:
    """N streams at once."""

    streams: int
    aligned: bool
    threads: int
    seconds: float
    expected: int
    """Chunks that were sent whole."""
    dropped: int
    cores: float
    """CPUs in use on average, of the scoring process."""
    runs: tuple[ChunkRun, ...]

    def misses(self, deadline_s: float) -> int:
        """Chunks without a score in time."""
        return self.expected - sum(run.latency_ms <= 1e3 * deadline_s for run in self.runs)

    def percentile_ms(self, share: float) -> float:
        """The smallest latency that `share` per cent do not exceed, first chunks left out."""
        ordered = sorted(run.latency_ms for run in self.runs if run.chunk)
        return ordered[ceil(share / 100 * len(ordered)) - 1] if ordered else float("nan")


def run_trial(streams: int, *, seconds: float, aligned: bool, threads: int | None) -> Trial:
    """Scores so many streams at once.

    Args:
        streams: how many.
        seconds: media seconds of each.
        aligned: whether they begin together.
        threads: CPUs for one stream; None shares them among all.
    """
    share = threads or max(1, available_cpus() // streams)
    pipes = [os.pipe() for _ in range(streams)]
    with Scorer(Bundle.open(demo_bundle()), threads=share) as scorer:
        scorer.score(SAMPLE)  # what is loaded or made on first use is not what is measured
        found: list[list[tuple[int, float, float, int]]] = [[] for _ in pipes]
        threads_running = [
            threading.Thread(target=_follow, args=(scorer, pipe[0], scores)) for pipe, scores in zip(pipes, found, strict=True)
        ]
        used = _cpu_s()
        started = perf_counter()
        for thread in threads_running:
            thread.start()
        sent = _send([pipe[1] for pipe in pipes], seconds, aligned)
        for thread in threads_running:
            thread.join()
        cores = (_cpu_s() - used) / (perf_counter() - started)
    runs = tuple(
        ChunkRun(stream, chunk, sent[stream][chunk], scored_s, answer_ms)
        for stream, scores in enumerate(found)
        for chunk, scored_s, answer_ms, _ in scores
        if chunk < len(sent[stream])
    )
    dropped = sum(scores[-1][3] if scores else 0 for scores in found)
    return Trial(streams, aligned, share, seconds, sum(map(len, sent)), dropped, cores, runs)


def _follow(scorer: Scorer, pipe: int, scores: list[tuple[int, float, float, int]]) -> None:
    with os.fdopen(pipe, "rb", buffering=0) as source:
        for score in scorer.stream(source, options=ReadOptions(when_full="drop-oldest")):
            if not scores or scores[-1][0] != score.index:  # the last chunk may come again, as the last
                scores.append((score.index, perf_counter(), score.latency.answer_ms, score.dropped_chunks))


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _send(pipes: list[int], seconds: float, aligned: bool) -> list[list[float]]:
    """Has another process write to the pipes; of each stream, when each chunk had been sent whole."""
    command = [sys.executable, "-m", "shortcast.benchmarks.live_streams", "--send", *map(str, pipes), "--seconds", str(seconds)]
    with subprocess.Popen(command + ["--aligned"] * aligned, pass_fds=pipes, stdout=subprocess.PIPE) as sender:
        for pipe in pipes:
            os.close(pipe)
        output, _ = sender.communicate()
    if sender.returncode:
        raise SystemExit("the sending process failed")
    sent: list[list[float]] = json.loads(output)
    return sent


def send(pipes: list[int], seconds: float, *, aligned: bool) -> list[list[float]]:
    """Writes the stream to every pipe in real time.

    Returns:
        For each pipe, when the last packet of each whole chunk had been written, by `perf_counter`.
    """
    pieces = list(slices(SAMPLE, seconds))
    chunk_s = Bundle.open(demo_bundle()).contract.chunk_s
    last = _last_pieces(pieces, chunk_s)
    phases = [0.0 if aligned else chunk_s * number / len(pipes) for number in range(len(pipes))]
    for pipe in pipes:
        with suppress(OSError):  # a writer that is held up by one stream would be late for the others
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    started = perf_counter() + LEAD_S
    written: list[dict[int, float]] = [{} for _ in pipes]
    for due_s, number, index in heapq.merge(*(_schedule(pieces, phase, number) for number, phase in enumerate(phases))):
        sleep(max(0.0, started + due_s - perf_counter()))
        with suppress(BrokenPipeError):
            os.write(pipes[number], pieces[index].data)
        if index in last:
            written[number][index] = perf_counter()
    for pipe in pipes:
        os.close(pipe)
    return [[times[index] for index in sorted(times)] for times in written]


def _schedule(pieces: list[Slice], phase_s: float, number: int) -> Iterator[tuple[float, int, int]]:
    for index, piece in enumerate(pieces):
        yield piece.due_s + phase_s, number, index


def _last_pieces(pieces: list[Slice], chunk_s: float) -> set[int]:
    """Of every chunk that is sent whole, which slice is its last."""
    origin_s = min(piece.start_s for piece in pieces)
    last: dict[int, int] = {}
    for index, piece in enumerate(pieces):
        last[int((piece.start_s - origin_s) / chunk_s)] = index
    return {last[chunk] for chunk in sorted(last)[:-1]}


def search(*, seconds: float, aligned: bool, threads: int | None, budget_s: float, most: int = 256) -> list[Trial]:
    """Trials that find the largest number of streams without a miss: doubled until there is one, then halved between."""
    deadline_s = Bundle.open(demo_bundle()).contract.chunk_s
    until_s = perf_counter() + budget_s
    trials: list[Trial] = []
    good, bad, streams = 0, most + 1, 1
    while good < streams < bad and perf_counter() + seconds < until_s:
        trial = run_trial(streams, seconds=seconds, aligned=aligned, threads=threads)
        trials.append(trial)
        _show(trial, deadline_s)
        good, bad = (good, streams) if trial.misses(deadline_s) else (streams, bad)
        streams = min(2 * good, most) if bad > most else (good + bad) // 2
    return trials


def _show(trial: Trial, deadline_s: float) -> None:
    scored = sum(run.chunk > 0 for run in trial.runs)
    p99 = f"{trial.percentile_ms(99):.0f} ms" if scored >= P99_SAMPLES else f"needs {P99_SAMPLES} chunks, has {scored}"
    print(
        f"{trial.streams} streams, {'aligned' if trial.aligned else 'spread'}, {trial.threads} threads each: "
        f"{trial.misses(deadline_s)} of {trial.expected} late or missing, {trial.dropped} dropped; last frame to score p50 "
        f"{trial.percentile_ms(50):.0f} ms, p95 {trial.percentile_ms(95):.0f} ms, p99 {p99}, most {trial.percentile_ms(100):.0f} ms; "
        f"{trial.cores:.2f} cores",
        flush=True,
    )


def main() -> None:
    """Measures, prints a line for every trial and writes the raw samples."""
    parser = argparse.ArgumentParser(description="Live streams that one scorer keeps up with, and the latency of their scores.")
    parser.add_argument("-o", "--output", type=Path, help="where the raw samples go, as JSON")
    parser.add_argument("--streams", type=int, nargs="+", help="numbers of streams to try, instead of a search")
    parser.add_argument("--seconds", type=float, default=30.0, help="media seconds of each stream in a trial")
    parser.add_argument("--budget", type=float, default=300.0, help="wall seconds for each search")
    parser.add_argument("--threads", type=int, help="CPUs for one stream; all of them are shared otherwise")
    parser.add_argument("--phases", nargs="+", choices=["spread", "aligned"], default=["spread", "aligned"])
    parser.add_argument("--send", type=int, nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--aligned", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.send:
        print(json.dumps(send(arguments.send, arguments.seconds, aligned=arguments.aligned)))
        return
    trials: list[Trial] = []
    for phase in arguments.phases:
        how = {"seconds": arguments.seconds, "aligned": phase == "aligned", "threads": arguments.threads}
        if arguments.streams:
            for streams in arguments.streams:
                trials.append(run_trial(streams, **how))
                _show(trials[-1], Bundle.open(demo_bundle()).contract.chunk_s)
        else:
            trials += search(**how, budget_s=arguments.budget)
    if arguments.output:
        record = {"cpus": available_cpus(), "machine": platform.platform(), "python": platform.python_version()}
        arguments.output.write_text(json.dumps(record | {"trials": [asdict(trial) for trial in trials]}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
