"""Where a start's time and memory go: every step of `shortcast score` up to its first score, one after the other in one thread.

    python -m shortcast.benchmarks.cold_steps samples/sample.mp4 -o cold-steps.json

A process for each sample: with the cache between starts (`kept`) and without it (`off`) in turn, after one of each that is thrown away.
Unlike the command, nothing happens side by side here, so steps add up to more than `benchmarks.cold_start` measures. After the first
score the process sorts its resident memory by what it holds, from `/proc/self/smaps`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..runtime.start_cache import StartCache

_LIBRARIES = ("ctranslate2", "onnxruntime", "av", "numpy")


@dataclass(frozen=True, slots=True)
class Step:
    """One step of one process."""

    name: str
    wall_ms: float
    core_ms: float
    rss_mib: float
    """Resident memory after it."""


@dataclass(frozen=True, slots=True)
class Start:
    """One process."""

    cache: str
    """`kept` or `off`."""
    steps: tuple[Step, ...]
    memory_mib: dict[str, float]
    """Resident memory after the first score, by what it holds."""


def measure(clip: Path, *, rounds: int) -> list[Start]:
    """Takes samples in turn."""
    with tempfile.TemporaryDirectory() as scratch:
        places = {"kept": str(Path(scratch) / "cache"), "off": "off"}
        starts = [_start(clip, mode, place) for _ in range(rounds + 1) for mode, place in places.items()]
    return starts[len(places) :]


def _start(clip: Path, mode: str, place: str) -> Start:
    command = [sys.executable, "-m", "shortcast.benchmarks.cold_steps", str(clip), "--once"]
    environment = {**os.environ, "SHORTCAST_CACHE": place}
    plain = json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    return Start(mode, tuple(Step(**step) for step in plain["steps"]), plain["memory_mib"])


def _once(clip: Path) -> dict[str, Any]:
    """The steps, in this process."""
    steps: list[Step] = []

    def step(name: str, do: Callable[[], Any]) -> Any:
        started, cores = perf_counter(), process_time()
        done = do()
        steps.append(Step(name, 1e3 * (perf_counter() - started), 1e3 * (process_time() - cores), _rss_mib()))
        return done

    for name in ("numpy", "onnxruntime", "ctranslate2", "av"):
        step(f"import {name}", partial(import_module, name))
    step("import typer and the command", _import_command)
    step("import the runtime", _import_runtime)
    from ..runtime.bundle import Bundle, demo_bundle
    from ..runtime.chunks import read_chunks
    from ..runtime.scorer import Scorer
    from ..runtime.start_cache import user_cache
    from ..runtime.whisper import SoundEncoder, resolve_whisper

    cache = user_cache()
    bundle = step("check the bundle", lambda: Bundle.open(demo_bundle()))
    for graph in ("visual", "fusion"):
        step(f"open the {graph} engine", partial(_open_once, bundle.graph(graph), cache))
    weights = step("find Whisper", lambda: resolve_whisper(bundle.contract.sound.whisper))
    encoder = step("check and load Whisper", lambda: SoundEncoder(weights, bundle.sound_contract, cache=cache))
    step("first call of Whisper", encoder.warm_up)
    del encoder
    scorer = Scorer(bundle, threads=1, cache=cache)
    scorer.preload_sound()
    scorer._load_sound()
    with read_chunks(clip, bundle.contract) as source:
        chunk = step("open the clip, decode a chunk", lambda: next(iter(source)))
        score = step("score it", lambda: scorer.step(scorer.new_stream(clip.name), chunk))
        step("as JSON", lambda: json.dumps(score.to_json()))
    return {"steps": [asdict(one) for one in steps], "memory_mib": _memory_mib()}


def _open_once(path: Path, cache: StartCache | None) -> None:
    from ..runtime.engines import open_engine

    open_engine(path, threads=1, cache=cache).close()


# By name, because the command is measured here and not used: benchmarks build on the runtime alone.
def _import_command() -> None:
    import typer

    typer.main.get_command(import_module("shortcast.cli_score").score_app)


def _import_runtime() -> None:
    for name in ("score_run", "runtime.scorer", "runtime.whisper", "runtime.engines.onnxruntime"):
        import_module(f"shortcast.{name}")


def _rss_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _memory_mib() -> dict[str, float]:
    """Resident memory by mapping: libraries by package, the heap and other memory without a file, the rest."""
    total: dict[str, float] = {}
    kind = ""
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *rest = line.split()
        if "-" in first and not first.endswith(":"):
            kind = _kind(rest[4] if len(rest) > 4 else "")
        elif first == "Rss:":
            total[kind] = total.get(kind, 0.0) + int(rest[0]) / 1024
    return total


def _kind(path: str) -> str:
    if not path or path.startswith("["):
        return "memory without a file"
    return next((f"library {name}" for name in _LIBRARIES if f"/{name}" in path), "interpreter and other files")


def main() -> None:
    """Measures, prints a summary and writes the raw samples."""
    parser = argparse.ArgumentParser(description="Steps of a cold start, one by one.")
    parser.add_argument("clip", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="where the raw samples go, as JSON")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(_once(arguments.clip)))
        return
    starts = measure(arguments.clip, rounds=arguments.rounds)
    for mode in ("kept", "off"):
        chosen = [start for start in starts if start.cache == mode]
        print(f"cache {mode}: median of {len(chosen)}        wall ms  core ms  resident MiB")
        for steps in zip(*(start.steps for start in chosen), strict=True):
            wall, core, rss = (median(getattr(one, name) for one in steps) for name in ("wall_ms", "core_ms", "rss_mib"))
            print(f"  {steps[0].name:<32}{wall:8.1f}{core:9.1f}{rss:9.0f}")
        for kind in chosen[0].memory_mib:
            print(f"  resident: {kind:<40}{median(start.memory_mib.get(kind, 0.0) for start in chosen):6.1f} MiB")
    if arguments.output:
        plain = {
            "clip": arguments.clip.name,
            "machine": platform.platform(),
            "python": platform.python_version(),
            "starts": [asdict(start) for start in starts],
        }
        arguments.output.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
