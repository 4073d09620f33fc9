"""What kinds and numbers of decoder threads cost: the choice that `runtime.streams` makes, measured.

    python -m shortcast.benchmarks.decode_threads CLIP... -o decode-threads.json

Each sample is a process of its own that decodes every picture of a clip and nothing else, variants in an order shuffled in every round,
after one round that is thrown away. Threads that each take a frame (FRAME) hold back as many pictures as there are threads, threads that
share a frame (SLICE) none, but they only help where the encoder cut pictures into slices. Core-seconds are user and system time of the
process, wall seconds those of the decoding alone.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from ..runtime.cpu import available_cpus
from .counted import run_counted

_DECODE = """
import sys, time, av
with av.open(sys.argv[1]) as container:
    stream = container.streams.best("video")
    stream.codec_context.thread_type, stream.codec_context.thread_count = sys.argv[2], int(sys.argv[3])
    begun = time.perf_counter()
    pictures = sum(1 for _ in container.decode(stream))
    print(pictures, time.perf_counter() - begun)
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """One process."""

    clip: str
    kind: str
    """FFmpeg's thread type."""
    threads: int
    round: int
    pictures: int
    wall_s: float
    core_s: float


@dataclass(frozen=True, slots=True)
class DecodeThreads:
    """All samples, in the order they were taken."""

    cpus: int
    machine: str
    python: str
    samples: tuple[Sample, ...]


def measure(clips: list[Path], *, rounds: int) -> DecodeThreads:
    """Takes all samples, after one round that is thrown away."""
    cpus = available_cpus()
    variants = [("SLICE", 1), ("SLICE", cpus), ("FRAME", cpus), ("AUTO", cpus), ("FRAME", 2 * cpus)]
    samples = []
    for turn in range(-1, rounds):
        turns = [(clip, *variant) for clip in clips for variant in variants]
        random.Random(turn).shuffle(turns)
        samples += [_run(clip, kind, threads, turn) for clip, kind, threads in turns]
    return DecodeThreads(cpus, platform.platform(), platform.python_version(), tuple(sample for sample in samples if sample.round >= 0))


def _run(clip: Path, kind: str, threads: int, turn: int) -> Sample:
    command = [sys.executable, "-c", _DECODE, str(clip), kind, str(threads)]
    done = run_counted(command)
    pictures, wall_s = done.said.split()
    return Sample(clip.name, kind, threads, turn, int(pictures), float(wall_s), done.core_s)


def main() -> None:
    """Measures, prints medians and writes the raw samples."""
    parser = argparse.ArgumentParser(description="Kinds and numbers of decoder threads.")
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, help="where the raw samples go, as JSON")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    result = measure(arguments.clips, rounds=arguments.rounds)
    print(f"{arguments.rounds} rounds on {result.cpus} CPUs, Python {result.python}")
    for clip, kind, threads in sorted({(sample.clip, sample.kind, sample.threads) for sample in result.samples}):
        rows = [sample for sample in result.samples if (sample.clip, sample.kind, sample.threads) == (clip, kind, threads)]
        wall_s, core_s = (median(getattr(row, name) for row in rows) for name in ("wall_s", "core_s"))
        print(f"{clip:<32}{kind:<6} x {threads}  {wall_s:6.2f} s wall {core_s:6.2f} core-seconds  {rows[0].pictures} pictures")
    if arguments.output:
        arguments.output.write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
