"""Memory over three simulated hours of a live stream, which is sent through a pipe as fast as it is scored.

    python -m shortcast.benchmarks.long_stream -o long-stream.json

A process of its own sends a small clip (96x160, 25 fps, H.264 and AAC) over and over with timestamps that grow; the demo bundle scores
it with Whisper, as `shortcast score -` does. Every five simulated minutes: resident memory as the system counts it, threads, and objects
that Python's collector knows. Exit code 3 where memory at the end is more than 5 MB above that after five minutes.

Small pictures make three hours last minutes; what is kept of a chunk has the same size whatever the size of the pictures was.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import BinaryIO, cast

from ..runtime.bundle import Bundle, demo_bundle
from ..runtime.cpu import available_cpus
from ..runtime.media import ReadOptions
from ..runtime.scorer import Scorer
from .live_feed import small_clip

EVERY_S = 300.0
MOST_GROWTH_MB = 5.0


@dataclass(frozen=True, slots=True)
class MemorySample:
    """What a process holds at one moment."""

    media_s: float
    wall_s: float
    rss_mb: float
    """Resident memory, in 10^6 bytes."""
    threads: int
    objects: int
    dropped_chunks: int


@dataclass(frozen=True, slots=True)
class LongStream:
    """All samples, in order."""

    cpus: int
    machine: str
    python: str
    seconds: float
    transcript: bool
    samples: tuple[MemorySample, ...]

    @property
    def growth_mb(self) -> float:
        """Memory at the end over that after five minutes."""
        return self.samples[-1].rss_mb - self.samples[0].rss_mb


def measure(seconds: float, *, every_s: float = EVERY_S, sound: bool = True, transcript: bool = False) -> LongStream:
    """Scores one stream.

    Args:
        seconds: media seconds.
        every_s: media seconds between two samples.
        sound: whether sound is used.
        transcript: whether speech is turned into text.
    """
    with tempfile.TemporaryDirectory() as scratch:
        clip = Path(scratch) / "clip.mp4"
        small_clip(clip)
        feed = [sys.executable, "-m", "shortcast.benchmarks.live_feed", str(clip), "--seconds", str(seconds)]
        with subprocess.Popen(feed, stdout=subprocess.PIPE, bufsize=0) as feeder:
            samples = _samples(cast(BinaryIO, feeder.stdout), every_s, sound, transcript)
    return LongStream(available_cpus(), platform.platform(), platform.python_version(), seconds, transcript, tuple(samples))


def _samples(pipe: BinaryIO, every_s: float, sound: bool, transcript: bool) -> list[MemorySample]:
    samples: list[MemorySample] = []
    started = perf_counter()
    with Scorer(Bundle.open(demo_bundle()), transcribe=transcript) as scorer:
        for score in scorer.stream(pipe, options=ReadOptions(use_sound=sound)):
            if score.end_s >= every_s * (len(samples) + 1) or score.final:
                samples.append(_sample(score.end_s, perf_counter() - started, score.dropped_chunks))
                _show(samples[-1])
    return samples


def _show(sample: MemorySample) -> None:
    print(
        f"{sample.media_s / 60:6.1f} min of media after {sample.wall_s:6.1f} s: {sample.rss_mb:7.1f} MB, "
        f"{sample.threads} threads, {sample.objects} objects",
        flush=True,
    )


def _sample(media_s: float, wall_s: float, dropped: int) -> MemorySample:
    gc.collect()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return MemorySample(
        media_s, wall_s, int(status["VmRSS"].split()[0]) * 1024 / 1e6, int(status["Threads"]), len(gc.get_objects()), dropped
    )


def main() -> None:
    """Measures, prints every sample as it is taken, and writes all of them."""
    parser = argparse.ArgumentParser(description="Memory over three simulated hours of a live stream.")
    parser.add_argument("-o", "--output", type=Path, help="where the raw samples go, as JSON")
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--no-sound", action="store_true")
    parser.add_argument("--transcript", action="store_true")
    arguments = parser.parse_args()
    if not os.path.exists("/proc/self/status"):
        raise SystemExit("this reads memory from /proc, which only Linux has")
    result = measure(3600 * arguments.hours, sound=not arguments.no_sound, transcript=arguments.transcript)
    if arguments.output:
        arguments.output.write_text(json.dumps(asdict(result) | {"growth_mb": result.growth_mb}, indent=1) + "\n", encoding="utf-8")
    print(f"from the first sample to the last: {result.growth_mb:+.1f} MB")
    raise SystemExit(3 if result.growth_mb > MOST_GROWTH_MB else 0)


if __name__ == "__main__":
    main()
