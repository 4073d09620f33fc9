"""What the runtime itself costs: a chunk's wall time less what its decoder and its engines take.

    python -m shortcast.benchmarks.overhead samples/sample.mp4 -o overhead.json

Everything happens in turn in one thread, so that times add up: the next chunk is read, `Scorer.step` scores it, the score becomes a JSON
line. Timed from outside: all of that. Taken off: what the chunk says decoding took, and what the score says sound, pictures and fusion
took. What is left is the rest: masks, queues, stacking, histories, the score's own values, JSON. Log-mel counts as sound, as it does in
every score; beside it, it is timed alone on the same samples, once more and outside the sum. The first clip is thrown away; every raw
sample is kept. Not part of it: handing chunks from the thread that decodes to the one that scores (`handover_ms`, timed apart).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter, process_time, sleep
from typing import Any

from ..runtime.ahead import Ahead
from ..runtime.bundle import Bundle, demo_bundle
from ..runtime.chunks import Chunk, read_chunks
from ..runtime.cpu import available_cpus
from ..runtime.features import log_mel
from ..runtime.media import ReadOptions
from ..runtime.scorer import Scorer


@dataclass(frozen=True, slots=True)
class ChunkCost:
    """One chunk, in milliseconds."""

    wall_ms: float
    """From asking for it to its JSON line."""
    core_ms: float
    """Processor time of the whole process meanwhile."""
    decode_ms: float
    sound_ms: float
    visual_ms: float
    fusion_ms: float
    mel_ms: float
    """Log-mel alone; it is part of `sound_ms`."""

    @property
    def rest_ms(self) -> float:
        """What is neither decoding nor an engine."""
        return self.wall_ms - self.decode_ms - self.sound_ms - self.visual_ms - self.fusion_ms


@dataclass(frozen=True, slots=True)
class Overhead:
    """All raw samples, in the order they were taken."""

    clips: tuple[str, ...]
    cpus: int
    threads: int
    machine: str
    python: str
    chunks: tuple[ChunkCost, ...]
    handover_ms: tuple[float, ...]

    @property
    def share(self) -> float:
        """The rest, over the wall time of all chunks."""
        return sum(chunk.rest_ms for chunk in self.chunks) / sum(chunk.wall_ms for chunk in self.chunks)


class _InTurn(Executor):
    """Runs a task where it is submitted: what the scorer does beside comes one after the other, and its times add up."""

    def submit(self, task: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(task(*args, **kwargs))
        return done


def measure(clips: tuple[Path, ...], *, rounds: int, threads: int) -> Overhead:
    """Scores every clip `rounds` times, after one that is thrown away."""
    with Scorer(Bundle.open(demo_bundle()), threads=threads) as scorer:
        scorer._beside = _InTurn()  # type: ignore[assignment]
        for _ in _costs(scorer, clips[0]):
            pass
        chunks = tuple(cost for _ in range(rounds) for clip in clips for cost in _costs(scorer, clip))
    handovers = tuple(_handovers(200))
    names = tuple(clip.name for clip in clips)
    return Overhead(names, available_cpus(), threads, platform.platform(), platform.python_version(), chunks, handovers)


def _costs(scorer: Scorer, clip: Path) -> Iterator[ChunkCost]:
    started, cores = perf_counter(), process_time()  # what the first chunk says of decoding includes opening the file
    with read_chunks(clip, scorer.bundle.contract, options=ReadOptions(decode_threads=scorer.plan.decode)) as source, _sink() as sink:
        stream = scorer.new_stream(clip.name)
        for chunk in source:
            score = scorer.step(stream, chunk)
            sink.write(json.dumps(score.to_json()) + "\n")
            wall_ms, core_ms = 1e3 * (perf_counter() - started), 1e3 * (process_time() - cores)
            spent = score.latency
            yield ChunkCost(wall_ms, core_ms, spent.decode_ms, spent.sound_ms, spent.visual_ms, spent.fusion_ms, _mel_ms(scorer, chunk))
            started, cores = perf_counter(), process_time()


def _sink() -> Any:
    return open(os.devnull, "w", encoding="utf-8")


def _mel_ms(scorer: Scorer, chunk: Chunk) -> float:
    if not chunk.has_sound:
        return 0.0
    started = perf_counter()
    log_mel(chunk.samples, mel_bins=scorer.bundle.contract.sound.mel_bins)
    return 1e3 * (perf_counter() - started)


def _handovers(items: int) -> Iterator[float]:
    """From the moment an item is ready in one thread until the one that waits for it has it."""
    with Ahead(_paced(items), 2) as ahead:
        for ready in ahead:
            yield 1e3 * (perf_counter() - ready.ready_s)


def _paced(items: int) -> Iterator[int]:
    for item in range(items):
        sleep(0.002)
        yield item


def main() -> None:
    """Measures, prints a summary and writes the raw samples."""
    parser = argparse.ArgumentParser(description="What the runtime costs beside decoding and its engines.")
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, help="where the raw samples go, as JSON")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1, help="of the decoder and of one engine call; 1 keeps times additive")
    arguments = parser.parse_args()
    result = measure(tuple(arguments.clips), rounds=arguments.rounds, threads=arguments.threads)
    print(f"{len(result.chunks)} chunks, {result.threads} threads on {result.cpus} CPUs, Python {result.python}")
    for part in ("wall", "core", "decode", "sound", "mel", "visual", "fusion", "rest"):
        print(f"{part:<8} median {median(getattr(chunk, part + '_ms') for chunk in result.chunks):7.3f} ms per chunk")
    print(f"overhead {100 * result.share:.2f} % of wall time; handing over between threads: median {median(result.handover_ms):.3f} ms")
    if arguments.output:
        arguments.output.write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
